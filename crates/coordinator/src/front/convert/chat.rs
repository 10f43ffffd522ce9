//! A chat request's conversation: checked, and laid out as Harmony's messages.

mod message;

use std::collections::{HashMap, HashSet};

use proto::v1;
use spec::TokenId;
use tokenizer::harmony::{
    DeveloperContent, Effort, Function, Harmony, Message, Namespace, PastReasoning, Role, Schema,
    SystemContent,
};

use self::message::Given;
use super::{Common, known};
use crate::front::error::Error;
use crate::front::limits;

/// A conversation that can be rendered.
#[derive(Debug)]
pub(in crate::front) struct Conversation {
    messages: Vec<Message>,
    /// Length of all its text.
    pub(in crate::front) bytes: usize,
}

impl Conversation {
    /// Renders the prompt.
    ///
    /// # Errors
    ///
    /// None that the checks before have left.
    pub(in crate::front) fn render(&self, harmony: &Harmony) -> Result<Vec<TokenId>, Error> {
        let prompt = harmony.render_prompt(&self.messages, PastReasoning::Drop);
        prompt.map_err(|error| Error::field("messages", error.to_string()))
    }
}

/// Returns the parameters that Chat has in common with Generate.
pub(in crate::front) fn common(request: v1::ChatRequest) -> Common {
    Common {
        model: request.model,
        request_id: request.request_id,
        sampling: request.sampling,
        stop: request.stop,
        constraint: request.constraint,
        logprobs: request.logprobs,
        stream: request.stream,
        scheduling: request.scheduling,
        labels: request.labels,
    }
}

/// Takes the conversation out of a request.
///
/// The system message is always ours. Instructions, the system and developer messages at the
/// beginning, and the functions become one developer message, as the model was trained with.
///
/// # Errors
///
/// The first field at fault.
pub(in crate::front) fn conversation(request: &mut v1::ChatRequest) -> Result<Conversation, Error> {
    let given = std::mem::take(&mut request.messages);
    if given.is_empty() || given.len() > limits::MAX_MESSAGES {
        let why = format!(
            "{} are given, not 1 to {}",
            given.len(),
            limits::MAX_MESSAGES
        );
        return Err(Error::field("messages", why));
    }
    let tools = std::mem::take(&mut request.tools);
    let tools_bytes = tools
        .iter()
        .map(|tool| tool.description.len() + tool.parameters_json.len());
    let bytes = tools_bytes
        .chain(given.iter().map(|message| message.text.len()))
        .sum::<usize>()
        + request.instructions.len();
    let mut functions = functions(tools)?;
    if !may_call(request.tool_choice.as_ref())? {
        functions.clear();
    }
    let system = system(request.reasoning_effort, &request.conversation_date)?;
    let mut instructions = vec![std::mem::take(&mut request.instructions)];
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
    Ok(Conversation { messages, bytes })
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

fn functions(tools: Vec<v1::FunctionTool>) -> Result<Vec<Function>, Error> {
    if tools.len() > limits::MAX_TOOLS {
        return Err(Error::field(
            "tools",
            format!("at most {} are taken", limits::MAX_TOOLS),
        ));
    }
    let mut names = HashSet::new();
    let check = |(index, tool): (usize, v1::FunctionTool)| {
        let field = |name: &str| format!("tools[{index}].{name}");
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if !(1..=64).contains(&tool.name.len()) || !tool.name.bytes().all(is_name) {
            let why = "must be 1 to 64 letters, digits, '_' or '-'";
            return Err(Error::field(field("name"), why));
        }
        if !names.insert(tool.name.clone()) {
            return Err(Error::field(
                field("name"),
                format!("{} is given twice", tool.name),
            ));
        }
        if tool.strict {
            let why = "arguments cannot be constrained yet";
            return Err(Error::unsupported(field("strict"), why));
        }
        let parameters = match tool.parameters_json.as_str() {
            "" => None,
            json => Some(Schema::parse(json).map_err(|error| {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                let why = cause.map_or(error.to_string(), |cause| format!("{error}: {cause}"));
                Error::field(field("parameters_json"), why)
            })?),
        };
        Ok(Function {
            name: tool.name,
            description: tool.description,
            parameters,
        })
    };
    tools.into_iter().enumerate().map(check).collect()
}
