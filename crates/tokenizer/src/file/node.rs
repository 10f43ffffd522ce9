//! A JSON value that knows its own path, so that every complaint names the key.

use serde_json::Value;

use super::Members;
use crate::error::Error;

/// A value of the file and the path that leads to it.
pub(super) struct Node {
    /// Path from the top of the file, as `pre_tokenizer.pretokenizers[0].type`.
    pub(super) key: String,
    value: Value,
}

/// Takes a member of an object and parses it; an absent one counts as null.
pub(super) fn take(members: &mut Members<'_>, key: &'static str) -> Result<Node, Error> {
    let value = match members.remove(key) {
        Some(raw) => {
            serde_json::from_str(raw.get()).map_err(|source| Error::Malformed { key, source })?
        }
        None => Value::Null,
    };
    Ok(Node {
        key: key.to_owned(),
        value,
    })
}

/// Reports a member that must be there.
pub(super) fn missing(key: &str, expected: &str) -> Error {
    Error::Unexpected {
        key: key.to_owned(),
        expected: expected.to_owned(),
        found: "nothing".into(),
    }
}

/// Refuses members that nobody took: a key this crate does not know may change the encoding.
pub(super) fn refuse_the_rest(prefix: &str, members: &Members<'_>) -> Result<(), Error> {
    match members.iter().next() {
        None => Ok(()),
        Some((key, raw)) => Err(Error::Unexpected {
            key: format!("{prefix}{key}"),
            expected: "no such key".to_owned(),
            found: shortened(raw.get()),
        }),
    }
}

impl Node {
    /// Reports that this value is not what it should be.
    pub(super) fn unexpected(&self, expected: &str) -> Error {
        Error::Unexpected {
            key: self.key.clone(),
            expected: expected.to_owned(),
            found: shortened(&self.value.to_string()),
        }
    }

    /// Checks that the value is this one.
    pub(super) fn is(&self, expected: &Value) -> Result<(), Error> {
        if self.value == *expected {
            Ok(())
        } else {
            Err(self.unexpected(&expected.to_string()))
        }
    }

    /// Says whether there is no value.
    pub(super) fn is_null(&self) -> bool {
        self.value.is_null()
    }

    /// Returns a member of this object; an absent one counts as null.
    pub(super) fn field(&self, name: &str) -> Result<Self, Error> {
        let object = self
            .value
            .as_object()
            .ok_or_else(|| self.unexpected("an object"))?;
        let value = object.get(name).cloned().unwrap_or_default();
        Ok(Self {
            key: format!("{}.{name}", self.key),
            value,
        })
    }

    /// Returns the members of this list.
    pub(super) fn items(&self) -> Result<Vec<Self>, Error> {
        let list = self
            .value
            .as_array()
            .ok_or_else(|| self.unexpected("a list"))?;
        let node = |(i, value): (usize, &Value)| Self {
            key: format!("{}[{i}]", self.key),
            value: value.clone(),
        };
        Ok(list.iter().enumerate().map(node).collect())
    }

    /// Returns this text.
    pub(super) fn text(&self) -> Result<&str, Error> {
        self.value.as_str().ok_or_else(|| self.unexpected("a text"))
    }

    /// Returns this whole number, if it is one of 32 bits.
    pub(super) fn number(&self) -> Option<u32> {
        self.value
            .as_u64()
            .and_then(|number| u32::try_from(number).ok())
    }
}

/// Cuts a value to what fits into a message.
fn shortened(text: &str) -> String {
    const LIMIT: usize = 60;
    match text.char_indices().nth(LIMIT) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}…", &text[..at]),
    }
}
