//! Conversations to token ids.

use spec::TokenId;

use super::message::{Channel, Content, Message, Namespace, Role};
use super::tokens::CONSTRAIN;
use super::{Harmony, sections};

/// What becomes of the reasoning of earlier turns.
///
/// A turn is finished by the assistant's message on [`Channel::Final`]; until then it is open,
/// however many tools it calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PastReasoning {
    /// Messages on [`Channel::Analysis`], of any role, are left out up to the last final message
    /// of the assistant: the reasoning of finished turns goes, that of the open turn stays.
    ///
    /// This is what OpenAI's format.md asks for. The openai-harmony library drops only what comes
    /// before the *first* final message, and nothing while a tool call is open, so in longer
    /// chats it keeps old reasoning, or brings it back. Here, what was dropped stays dropped, and
    /// so a chat's prompts remain prefixes of one another for the cache.
    Drop,
    /// Everything is rendered.
    Keep,
}

/// Why a conversation cannot be rendered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// A tool's message is headed by the tool's name.
    #[error("message {index}: a tool's message needs the name of the tool")]
    UnnamedTool {
        /// Place of the message in the conversation.
        index: usize,
    },
    /// System and developer contents belong into messages of that role.
    #[error("message {index}: a message of the role {role} cannot hold {content} content")]
    MisplacedContent {
        /// Place of the message in the conversation.
        index: usize,
        /// The message's role.
        role: Role,
        /// The role that the content is for.
        content: Role,
    },
}

/// Renders all messages.
pub(super) fn conversation(
    harmony: &Harmony,
    messages: &[Message],
    past: PastReasoning,
) -> Result<Vec<TokenId>, RenderError> {
    let is_final = |m: &Message| m.role == Role::Assistant && m.channel == Some(Channel::Final);
    let finished = match past {
        PastReasoning::Drop => messages.iter().rposition(is_final).unwrap_or(0),
        PastReasoning::Keep => 0,
    };
    let with_functions = messages
        .iter()
        .flat_map(|m| &m.content)
        .any(offers_functions);
    let mut ids = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        if index >= finished || message.channel != Some(Channel::Analysis) {
            push_header(harmony, message, &mut ids).ok_or(RenderError::UnnamedTool { index })?;
            push_content(harmony, message, with_functions, &mut ids).map_err(|content| {
                RenderError::MisplacedContent {
                    index,
                    role: message.role,
                    content,
                }
            })?;
        }
    }
    Ok(ids)
}

fn offers_functions(content: &Content) -> bool {
    matches!(content, Content::Developer(developer) if developer.tools.iter().any(|namespace| {
        namespace.name == Namespace::FUNCTIONS && !namespace.functions.is_empty()
    }))
}

/// Appends `<|start|>` and the header. Returns nothing if a tool's name is missing.
///
/// Each piece is encoded by itself, as the model saw it: ids depend on where pieces end.
fn push_header(harmony: &Harmony, message: &Message, ids: &mut Vec<TokenId>) -> Option<()> {
    let Harmony { tokenizer, tokens } = harmony;
    ids.push(tokens.start);
    match (message.role, &message.name) {
        (Role::Tool, name) => tokenizer.encode_into(name.as_ref()?, ids),
        (role, name) => {
            tokenizer.encode_into(role.as_str(), ids);
            if let Some(name) = name {
                tokenizer.encode_into(&format!(":{name}"), ids);
            }
        }
    }
    if let Some(recipient) = message.recipient.as_ref().filter(|name| *name != "all") {
        tokenizer.encode_into(&format!(" to={recipient}"), ids);
    }
    if let Some(channel) = &message.channel {
        ids.push(tokens.channel);
        tokenizer.encode_into(channel.as_str(), ids);
    }
    if let Some(content_type) = &message.content_type {
        match content_type.strip_prefix(CONSTRAIN) {
            Some(form) => {
                tokenizer.encode_into(" ", ids);
                ids.push(tokens.constrain);
                tokenizer.encode_into(form, ids);
            }
            None => tokenizer.encode_into(&format!(" {content_type}"), ids),
        }
    }
    ids.push(tokens.message);
    Some(())
}

/// Appends the content and the token that ends the message, or returns the role that a part of
/// the content is meant for.
fn push_content(
    harmony: &Harmony,
    message: &Message,
    with_functions: bool,
    ids: &mut Vec<TokenId>,
) -> Result<(), Role> {
    let Harmony { tokenizer, tokens } = harmony;
    for content in &message.content {
        match (content, message.role) {
            (Content::Text(text), _) => tokenizer.encode_into(text, ids),
            (Content::System(content), Role::System) => {
                tokenizer.encode_into(&sections::system(content, with_functions), ids);
            }
            (Content::Developer(content), Role::Developer) => {
                tokenizer.encode_into(&sections::developer(content), ids);
            }
            (Content::System(_), _) => return Err(Role::System),
            (Content::Developer(_), _) => return Err(Role::Developer),
        }
    }
    let is_call = message.role == Role::Assistant && message.recipient.is_some();
    ids.push(if is_call { tokens.call } else { tokens.end });
    Ok(())
}
