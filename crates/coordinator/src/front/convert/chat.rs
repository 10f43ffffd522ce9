//! A chat request's conversation: checked, and laid out as Harmony's messages.

mod functions;
mod message;

use std::collections::HashMap;
use std::mem;

use prost::Message as _;
use proto::v1;
use spec::TokenId;
use tokenizer::harmony::{
    DeveloperContent, Effort, Function, Harmony, Message, Namespace, PastReasoning, Role,
    SystemContent,
};

use self::functions::functions;
use self::message::Given;
use super::{Common, known};
use crate::front::error::Error;
use crate::front::limits;

/// The conversation of a request, as it came: what Chat does not have in common with Generate.
#[derive(Debug)]
pub(in crate::front) struct Conversation {
    request: v1::ChatRequest,
}

/// Splits a request into its conversation and the parameters that Chat has in common with Generate.
pub(in crate::front) fn split(mut request: v1::ChatRequest) -> (Conversation, Common) {
    let common = Common {
        is_named: !request.request_id.is_empty(),
        model: mem::take(&mut request.model),
        request_id: mem::take(&mut request.request_id),
        sampling: request.sampling.take(),
        stop: request.stop.take(),
        constraint: request.constraint.take(),
        logprobs: request.logprobs.take(),
        stream: request.stream.take(),
        scheduling: request.scheduling.take(),
        labels: mem::take(&mut request.labels),
        is_chat: true,
        least_output: 1,
    };
    (Conversation { request }, common)
}

impl Conversation {
    /// Returns how much there is to check and to render, as [`limits::INLINE_BYTES`] counts it.
    pub(in crate::front) fn bytes(&self) -> usize {
        let items = self.request.messages.len() + self.request.tools.len();
        self.request.encoded_len() + limits::ITEM_BYTES * items
    }

    /// Returns how many bytes of text become part of the prompt at least: all but the reasoning of
    /// finished turns, as [`PastReasoning::Drop`] has it.
    pub(in crate::front) fn text_bytes(&self) -> usize {
        let messages = &self.request.messages;
        let finished = messages.iter().rposition(message::is_final).unwrap_or(0);
        let is_kept = |index, message: &v1::Message| {
            index >= finished || message.channel() != v1::Channel::Analysis
        };
        let kept = messages.iter().enumerate();
        let kept = kept.filter(|(index, message)| is_kept(*index, message));
        let texts = kept.map(|(_, message)| message.text.len());
        self.request.instructions.len() + texts.sum::<usize>()
    }

    /// Checks the conversation and renders the prompt.
    ///
    /// # Errors
    ///
    /// The first field at fault.
    pub(in crate::front) fn render(self, harmony: &Harmony) -> Result<Vec<TokenId>, Error> {
        let messages = messages(self.request)?;
        let prompt = harmony.render_prompt(&messages, PastReasoning::Drop);
        prompt.map_err(|error| Error::field("messages", error.to_string()))
    }
}

/// Lays a conversation out as Harmony's messages.
///
/// The system message is always ours. Instructions, the system and developer messages at the
/// beginning, and the functions become one developer message, as the model was trained with.
///
/// # Errors
///
/// The first field at fault.
fn messages(request: v1::ChatRequest) -> Result<Vec<Message>, Error> {
    let given = request.messages;
    if given.is_empty() || given.len() > limits::MAX_MESSAGES {
        let why = format!(
            "{} are given, not 1 to {}",
            given.len(),
            limits::MAX_MESSAGES
        );
        return Err(Error::field("messages", why));
    }
    let mut functions = functions(request.tools)?;
    if !may_call(request.tool_choice.as_ref())? {
        functions.clear();
    }
    let system = system(request.reasoning_effort, &request.conversation_date)?;
    let mut instructions = vec![request.instructions];
    let mut calls = HashMap::new();
    let mut rest = Vec::new();
    for (index, message) in given.into_iter().enumerate() {
        let message = Given { index, message }.check(&mut calls)?;
        if rest.is_empty() && matches!(message.role, Role::System | Role::Developer) {
            instructions.push(plain_text(message));
        } else {
            rest.push(message);
        }
    }
    if rest.is_empty() {
        return Err(Error::field(
            "messages",
            "hold instructions only; nobody asks anything",
        ));
    }
    let mut messages = vec![Message::system(system)];
    messages.extend(developer(instructions, functions));
    messages.extend(rest.into_iter().map(as_developer));
    Ok(messages)
}

fn plain_text(message: Message) -> String {
    let texts = message.content.into_iter().map(|content| match content {
        tokenizer::harmony::Content::Text(text) => text,
        _ => String::new(),
    });
    texts.collect()
}

/// Makes a developer message of a system message in the middle of a conversation.
fn as_developer(message: Message) -> Message {
    match message.role {
        Role::System | Role::Developer => Message::developer(DeveloperContent {
            instructions: Some(plain_text(message)),
            tools: Vec::new(),
        }),
        _ => message,
    }
}

fn developer(instructions: Vec<String>, functions: Vec<Function>) -> Option<Message> {
    let texts: Vec<String> = instructions
        .into_iter()
        .filter(|text| !text.is_empty())
        .collect();
    if texts.is_empty() && functions.is_empty() {
        return None;
    }
    let tools = match functions.is_empty() {
        true => Vec::new(),
        false => vec![Namespace::functions(functions)],
    };
    let instructions = (!texts.is_empty()).then(|| texts.join("\n\n"));
    Some(Message::developer(DeveloperContent {
        instructions,
        tools,
    }))
}

fn system(effort: i32, date: &str) -> Result<SystemContent, Error> {
    let effort = match known::<v1::ReasoningEffort>(effort, "reasoning_effort")? {
        v1::ReasoningEffort::Low => Effort::Low,
        v1::ReasoningEffort::Medium | v1::ReasoningEffort::Unspecified => Effort::Medium,
        v1::ReasoningEffort::High => Effort::High,
    };
    let is_date = date.len() == 10
        && date.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    if !date.is_empty() && !is_date {
        return Err(Error::field(
            "conversation_date",
            "is not of the form YYYY-MM-DD",
        ));
    }
    let date = (!date.is_empty()).then(|| date.to_owned());
    Ok(SystemContent {
        date,
        effort: Some(effort),
        ..SystemContent::default()
    })
}

/// Says whether the model may call functions.
fn may_call(choice: Option<&v1::ToolChoice>) -> Result<bool, Error> {
    let Some(choice) = choice else {
        return Ok(true);
    };
    let mode = known::<v1::ToolChoiceMode>(choice.mode, "tool_choice.mode")?;
    let why = "the model cannot be forced to call a function yet";
    match mode {
        v1::ToolChoiceMode::Required | v1::ToolChoiceMode::Named => {
            Err(Error::unsupported("tool_choice.mode", why))
        }
        _ if !choice.name.is_empty() => Err(Error::field(
            "tool_choice.name",
            "is for TOOL_CHOICE_MODE_NAMED only",
        )),
        mode => Ok(mode != v1::ToolChoiceMode::None),
    }
}

#[cfg(test)]
mod tests {
    use proto::v1;

    use super::split;
    use crate::front::limits;

    fn bytes(message: v1::Message, count: usize) -> usize {
        let request = v1::ChatRequest {
            messages: vec![message; count],
            ..Default::default()
        };
        split(request).0.bytes()
    }

    #[test]
    fn a_conversation_is_long_by_its_headers_too() {
        let short = v1::Message {
            text: "Hi".into(),
            ..Default::default()
        };
        assert!(bytes(short.clone(), 2) <= limits::INLINE_BYTES);
        assert!(bytes(short, 100) > limits::INLINE_BYTES);
        let word = || "x".repeat(limits::MAX_NAME_BYTES);
        let headed = v1::Message {
            name: word(),
            recipient: word(),
            content_type: word(),
            ..Default::default()
        };
        assert!(bytes(headed, 6) > limits::INLINE_BYTES);
    }
}
