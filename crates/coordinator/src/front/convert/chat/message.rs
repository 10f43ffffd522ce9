//! One message of a request's conversation, checked.

use std::collections::HashMap;

use proto::v1;
use tokenizer::harmony::{Channel, Message, Role};

use crate::front::convert::{known, short_text};
use crate::front::error::Error;

/// Recipients of the calls made so far, by the id of the call.
pub(super) type Calls = HashMap<String, String>;

/// A message as it came, and its place in the conversation.
pub(super) struct Given {
    pub(super) index: usize,
    pub(super) message: v1::Message,
}

impl Given {
    /// Checks the message against itself and the calls before it; enters its own call.
    ///
    /// # Errors
    ///
    /// The first field at fault, as `messages[3].role`.
    pub(super) fn check(self, calls: &mut Calls) -> Result<Message, Error> {
        self.check_words()?;
        let role = self.role()?;
        let channel = self.channel()?;
        self.check_fit(role, channel.is_some())?;
        let name = match role {
            Role::Tool => Some(self.tool_name(calls)?),
            _ => some(&self.message.name),
        };
        if role == Role::Assistant && !self.message.tool_call_id.is_empty() {
            let call = (self.message.tool_call_id, self.message.recipient.clone());
            calls.extend([call]);
        }
        let mut message = Message::text(role, self.message.text);
        message.name = name;
        message.channel = channel;
        message.recipient = some(&self.message.recipient);
        message.content_type = some(&self.message.content_type);
        if role == Role::Assistant && message.recipient.is_none() {
            // The model never saw a message of its own without a channel.
            message.channel.get_or_insert(Channel::Final);
        }
        if role == Role::Tool {
            // The form the model was trained with: to the assistant, on commentary.
            let assistant = || Role::Assistant.as_str().to_owned();
            message.recipient.get_or_insert_with(assistant);
            message.channel.get_or_insert(Channel::Commentary);
        }
        Ok(message)
    }

    fn field(&self, name: &str) -> String {
        format!("messages[{}].{name}", self.index)
    }

    /// Checks what becomes a part of a header: a blank, a line end or a control token in it would
    /// make another header of it.
    fn check_words(&self) -> Result<(), Error> {
        let constrained = self.message.content_type.strip_prefix("<|constrain|>");
        let content_type = constrained.unwrap_or(&self.message.content_type);
        let words = [
            ("name", self.message.name.as_str()),
            ("recipient", &self.message.recipient),
            ("content_type", content_type),
            ("tool_call_id", &self.message.tool_call_id),
        ];
        for (part, word) in words {
            short_text(word, &self.field(part))?;
            if word.contains(|c: char| c.is_ascii_whitespace() || c == '<') {
                let why = "must hold neither blanks nor '<'";
                return Err(Error::field(self.field(part), why));
            }
        }
        Ok(())
    }

    fn role(&self) -> Result<Role, Error> {
        match known::<v1::Role>(self.message.role, &self.field("role"))? {
            v1::Role::Unspecified => Err(Error::field(self.field("role"), "must be given")),
            v1::Role::System => Ok(Role::System),
            v1::Role::Developer => Ok(Role::Developer),
            v1::Role::User => Ok(Role::User),
            v1::Role::Assistant => Ok(Role::Assistant),
            v1::Role::Tool => Ok(Role::Tool),
        }
    }

    fn channel(&self) -> Result<Option<Channel>, Error> {
        let channel = known::<v1::Channel>(self.message.channel, &self.field("channel"))?;
        Ok(match channel {
            v1::Channel::Unspecified => None,
            v1::Channel::Analysis => Some(Channel::Analysis),
            v1::Channel::Commentary => Some(Channel::Commentary),
            v1::Channel::Final => Some(Channel::Final),
        })
    }

    /// Refuses parts that have no meaning in a message of this role.
    fn check_fit(&self, role: Role, has_channel: bool) -> Result<(), Error> {
        let message = &self.message;
        let parts = [
            ("channel", has_channel),
            ("recipient", !message.recipient.is_empty()),
            ("content_type", !message.content_type.is_empty()),
            ("tool_call_id", !message.tool_call_id.is_empty()),
        ];
        let is_spoken = matches!(role, Role::Assistant | Role::Tool);
        if let Some((part, _)) = parts.iter().find(|(_, is_set)| *is_set && !is_spoken) {
            let why = "is for assistant and tool messages only";
            return Err(Error::field(self.field(part), why));
        }
        if !message.name.is_empty() && matches!(role, Role::System | Role::Developer) {
            let why = "is for user, assistant and tool messages only";
            return Err(Error::field(self.field("name"), why));
        }
        let is_call = role == Role::Assistant && !message.tool_call_id.is_empty();
        if is_call && message.recipient.is_empty() {
            return Err(Error::field(
                self.field("tool_call_id"),
                "needs a recipient",
            ));
        }
        Ok(())
    }

    /// Returns the name of the tool that answers: its own, or that of the call.
    fn tool_name(&self, calls: &Calls) -> Result<String, Error> {
        let v1::Message {
            name, tool_call_id, ..
        } = &self.message;
        match (name.as_str(), calls.get(tool_call_id)) {
            ("", Some(called)) if begins_with_role(called) => {
                let why = format!("names a call of {called}, and so begins with a role");
                Err(Error::field(self.field("tool_call_id"), why))
            }
            (name, _) if begins_with_role(name) => {
                let why = "begins with a role, which a tool cannot have";
                Err(Error::field(self.field("name"), why))
            }
            ("", Some(called)) => Ok(called.clone()),
            ("", None) => {
                let why = "a tool's message needs its name or the id of its call";
                Err(Error::field(self.field("name"), why))
            }
            (_, None) if !tool_call_id.is_empty() => Err(Error::field(
                self.field("tool_call_id"),
                "names no earlier call",
            )),
            (name, _) => Ok(name.to_owned()),
        }
    }
}

/// Says whether a header that begins with this name would be read as another role's.
fn begins_with_role(name: &str) -> bool {
    let word = name.split(':').next().unwrap_or_default();
    Role::from_word(word).is_some()
}

/// Says whether a message finishes its turn.
pub(super) fn is_final(message: &v1::Message) -> bool {
    let is_final = match message.channel() {
        v1::Channel::Final => true,
        v1::Channel::Unspecified => message.recipient.is_empty(),
        v1::Channel::Analysis | v1::Channel::Commentary => false,
    };
    is_final && message.role() == v1::Role::Assistant
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}
