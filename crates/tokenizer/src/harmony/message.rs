//! Conversations as plain values.

use std::fmt;

use serde_json::Value;

/// Who wrote a message. A header word that is no role is the name of a tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Identity, date, reasoning effort, built-in tools.
    System,
    /// Instructions and functions; what other APIs call the system prompt.
    Developer,
    /// The user.
    User,
    /// The model.
    Assistant,
    /// A tool's answer; [`Message::name`] is the tool.
    Tool,
}

impl Role {
    /// All roles, in the order of their authority.
    pub const ALL: [Self; 5] = [
        Self::System,
        Self::Developer,
        Self::User,
        Self::Assistant,
        Self::Tool,
    ];

    /// Returns the role's word in a header.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Developer => "developer",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }

    /// Returns the role of a header word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == word)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a message is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Channel {
    /// Reasoning, and calls of built-in tools.
    Analysis,
    /// Calls of functions, and preambles meant for the user.
    Commentary,
    /// The answer.
    Final,
    /// A word that the format does not know, kept as it came.
    Other(String),
}

impl Channel {
    /// Returns the channel's word in a header.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Analysis => "analysis",
            Self::Commentary => "commentary",
            Self::Final => "final",
            Self::Other(word) => word,
        }
    }
}

impl From<&str> for Channel {
    fn from(word: &str) -> Self {
        match word {
            "analysis" => Self::Analysis,
            "commentary" => Self::Commentary,
            "final" => Self::Final,
            _ => Self::Other(word.to_owned()),
        }
    }
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Who wrote it.
    pub role: Role,
    /// The tool's name, as `functions.f`, for [`Role::Tool`]; a person's name otherwise.
    pub name: Option<String>,
    /// What it is for; only the model's and tools' messages have one.
    pub channel: Option<Channel>,
    /// To whom: a tool, as `functions.f`, for a call; `assistant` for a tool's answer.
    pub recipient: Option<String>,
    /// The form of the content, as `<|constrain|>json` or `code`.
    pub content_type: Option<String>,
    /// The content, in parts that are encoded one by one.
    pub content: Vec<Content>,
}

impl Message {
    /// Makes a message of a single text, without channel or recipient.
    #[must_use]
    pub fn text(role: Role, text: impl Into<String>) -> Self {
        Self::new(role, Content::Text(text.into()))
    }

    /// Makes the system message.
    #[must_use]
    pub fn system(content: SystemContent) -> Self {
        Self::new(Role::System, Content::System(content))
    }

    /// Makes a developer message.
    #[must_use]
    pub fn developer(content: DeveloperContent) -> Self {
        Self::new(Role::Developer, Content::Developer(content))
    }

    fn new(role: Role, content: Content) -> Self {
        Self {
            role,
            name: None,
            channel: None,
            recipient: None,
            content_type: None,
            content: vec![content],
        }
    }

    /// Puts the message on a channel.
    #[must_use]
    pub fn on(self, channel: Channel) -> Self {
        Self {
            channel: Some(channel),
            ..self
        }
    }

    /// Addresses the message.
    #[must_use]
    pub fn to(self, recipient: impl Into<String>) -> Self {
        Self {
            recipient: Some(recipient.into()),
            ..self
        }
    }

    /// Names the author.
    #[must_use]
    pub fn by(self, name: impl Into<String>) -> Self {
        Self {
            name: Some(name.into()),
            ..self
        }
    }

    /// States the form of the content.
    #[must_use]
    pub fn of_type(self, content_type: impl Into<String>) -> Self {
        Self {
            content_type: Some(content_type.into()),
            ..self
        }
    }
}

/// A part of a message's content.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Text; names of special tokens in it stay text.
    Text(String),
    /// The sections of a system message; only in a message of [`Role::System`].
    System(SystemContent),
    /// The sections of a developer message; only in a message of [`Role::Developer`].
    Developer(DeveloperContent),
}

/// How long the model should reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effort {
    /// Briefly.
    Low,
    /// The default.
    Medium,
    /// At length.
    High,
}

impl Effort {
    /// Returns the word in the system message.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// The sections of a system message; what is absent leaves no trace in it.
#[derive(Clone, Debug, PartialEq)]
pub struct SystemContent {
    /// The first line.
    pub identity: Option<String>,
    /// Where the training data ends, as `2024-06`.
    pub knowledge_cutoff: Option<String>,
    /// Today, as `2025-06-28`.
    pub date: Option<String>,
    /// How long to reason.
    pub effort: Option<Effort>,
    /// The built-in tools.
    pub tools: Vec<Namespace>,
    /// The channels the model may write on; none leaves the section out.
    pub channels: Vec<Channel>,
    /// Whether the model is told to name a channel in every message.
    pub channel_required: bool,
}

impl Default for SystemContent {
    /// The system message gpt-oss was trained with, without a date.
    fn default() -> Self {
        Self {
            identity: Some("You are ChatGPT, a large language model trained by OpenAI.".to_owned()),
            knowledge_cutoff: Some("2024-06".to_owned()),
            date: None,
            effort: Some(Effort::Medium),
            tools: Vec::new(),
            channels: vec![Channel::Analysis, Channel::Commentary, Channel::Final],
            channel_required: true,
        }
    }
}

/// The sections of a developer message.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeveloperContent {
    /// What the model is told to do; an empty text still prints its heading.
    pub instructions: Option<String>,
    /// The tools: usually one namespace, `functions`.
    pub tools: Vec<Namespace>,
}

/// A group of functions.
#[derive(Clone, Debug, PartialEq)]
pub struct Namespace {
    /// Its name; a function is called as `namespace.function`.
    pub name: String,
    /// What the group is for.
    pub description: Option<String>,
    /// Its functions, in the order given; none for a tool that takes text, as `python`.
    pub functions: Vec<Function>,
}

impl Namespace {
    /// Makes the namespace of a client's functions.
    #[must_use]
    pub fn functions(functions: Vec<Function>) -> Self {
        Self {
            name: Self::FUNCTIONS.to_owned(),
            description: None,
            functions,
        }
    }

    /// The name of the namespace of a client's functions.
    pub const FUNCTIONS: &'static str = "functions";
}

/// A function that the model may call.
#[derive(Clone, Debug, PartialEq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: String,
    /// What it takes; `None` for a function without arguments.
    pub parameters: Option<Schema>,
}

/// A JSON Schema, with its properties in the order of the text it was read from.
#[derive(Clone, Debug, PartialEq)]
pub struct Schema(Value);

impl Schema {
    /// Reads a schema.
    ///
    /// # Errors
    ///
    /// [`SchemaError`] if the text is not a JSON object, or is nested more than 127 deep.
    pub fn parse(text: &str) -> Result<Self, SchemaError> {
        match serde_json::from_str(text).map_err(SchemaError::NotJson)? {
            value @ Value::Object(_) => Ok(Self(value)),
            _ => Err(SchemaError::NotAnObject),
        }
    }

    /// Returns the JSON.
    #[must_use]
    pub fn as_json(&self) -> &Value {
        &self.0
    }
}

/// Why a text is no schema.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// Not JSON, or nested too deep.
    #[error("the schema is not JSON")]
    NotJson(#[source] serde_json::Error),
    /// JSON, but not an object.
    #[error("the schema is not a JSON object")]
    NotAnObject,
}
