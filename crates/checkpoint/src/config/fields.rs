//! Reads the keys of a JSON object and collects everything that is wrong with them.

use serde_json::{Map, Value};
use spec::TokenId;

use crate::fault::{Fault, What};
use crate::json;

/// Parses a text that must be an object.
pub(crate) fn object(
    file: &str,
    text: &[u8],
    faults: &mut Vec<Fault>,
) -> Option<Map<String, Value>> {
    let what = match json::parse(text) {
        Ok(Value::Object(map)) => return Some(map),
        Ok(other) => What::Json {
            why: format!("expected an object, found {}", json::excerpt(&other)),
        },
        Err(error) => What::Json {
            why: error.to_string(),
        },
    };
    faults.push(Fault::file(file, what));
    None
}

/// One object of a file, and the faults found in it so far.
pub(crate) struct Fields<'a> {
    file: &'static str,
    /// What stands before a key in a message, with its dot.
    prefix: String,
    map: &'a Map<String, Value>,
    faults: Vec<Fault>,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(file: &'static str, prefix: &str, map: &'a Map<String, Value>) -> Self {
        Self {
            file,
            prefix: prefix.to_owned(),
            map,
            faults: Vec::new(),
        }
    }

    /// Hands the faults over.
    pub(crate) fn finish(self, faults: &mut Vec<Fault>) {
        faults.extend(self.faults);
    }

    /// Takes over the faults of an object inside this one.
    pub(crate) fn join(&mut self, child: Self) {
        self.faults.extend(child.faults);
    }

    /// Reports a fault of the file.
    pub(crate) fn report(&mut self, what: What) {
        self.faults.push(Fault::file(self.file, what));
    }

    /// Reports that a value is not what it should be.
    pub(crate) fn refuse(&mut self, key: &str, expected: String, found: &Value) {
        let what = What::Key {
            key: format!("{}{key}", self.prefix),
            expected,
            found: json::excerpt(found),
        };
        self.report(what);
    }

    /// Reports that a key is not there.
    pub(crate) fn missing(&mut self, key: &str) {
        let key = format!("{}{key}", self.prefix);
        self.report(What::KeyMissing { key });
    }

    /// Returns a value that is there and not null.
    pub(crate) fn value(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// Returns an object inside this one.
    pub(crate) fn child(&mut self, key: &str, needed: bool) -> Option<Fields<'a>> {
        match self.value(key) {
            Some(Value::Object(map)) => {
                let prefix = format!("{}{key}.", self.prefix);
                Some(Fields::new(self.file, &prefix, map))
            }
            Some(other) => {
                self.refuse(key, "an object".to_owned(), other);
                None
            }
            None => {
                if needed {
                    self.missing(key);
                }
                None
            }
        }
    }

    /// Refuses any value but one; an absent key is refused only if it is `needed`.
    pub(crate) fn demand(&mut self, key: &str, needed: bool, expected: &Value) {
        match self.value(key) {
            Some(found) if found == expected => {}
            Some(found) => self.refuse(key, expected.to_string(), found),
            None if needed => self.missing(key),
            None => {}
        }
    }

    fn read<T>(
        &mut self,
        key: &str,
        expected: &str,
        take: impl Fn(&Value) -> Option<T>,
    ) -> Option<T> {
        let found = self.value(key)?;
        let taken = take(found);
        if taken.is_none() {
            self.refuse(key, expected.to_owned(), found);
        }
        taken
    }

    /// Reads a whole number that fits 32 bits.
    pub(crate) fn size(&mut self, key: &str) -> Option<usize> {
        let take = |value: &Value| Some(u32::try_from(value.as_u64()?).ok()? as usize);
        self.read(key, "a whole number below 2^32", take)
    }

    /// Reads a number.
    pub(crate) fn real(&mut self, key: &str) -> Option<f64> {
        self.read(key, "a number", Value::as_f64)
    }

    /// Reads true or false.
    pub(crate) fn flag(&mut self, key: &str) -> Option<bool> {
        self.read(key, "true or false", Value::as_bool)
    }

    /// Reads a token id.
    pub(crate) fn id(&mut self, key: &str) -> Option<TokenId> {
        self.read(key, "a token id", token_id)
    }

    /// Reads one token id or a list of them, without repetitions.
    pub(crate) fn ids(&mut self, key: &str) -> Option<Vec<TokenId>> {
        let take = |value: &Value| match value {
            Value::Array(list) => list.iter().map(token_id).collect(),
            one => token_id(one).map(|id| vec![id]),
        };
        let mut ids = self.read(key, "a token id or a list of them", take)?;
        let mut seen = std::collections::HashSet::new();
        ids.retain(|id| seen.insert(*id));
        Some(ids)
    }

    /// Reads a whole number that must be there.
    pub(crate) fn need_size(&mut self, key: &str) -> Option<usize> {
        if self.value(key).is_none() {
            self.missing(key);
        }
        self.size(key)
    }

    /// Reads a number that must be there.
    pub(crate) fn need_real(&mut self, key: &str) -> Option<f64> {
        if self.value(key).is_none() {
            self.missing(key);
        }
        self.real(key)
    }

    /// Reads a whole number that goes by two names; where both are used they must agree.
    pub(crate) fn need_size_either(&mut self, key: &str, alias: &str) -> Option<usize> {
        let Some(other) = self.size(alias) else {
            return self.need_size(key);
        };
        let value = self.size(key).unwrap_or(other);
        if value != other {
            self.refuse(alias, format!("{value}, as {key} says"), &other.into());
        }
        Some(value)
    }

    /// Refuses ids that are not rows of the vocabulary.
    pub(crate) fn check_ids(&mut self, ids: &[TokenId], vocab_size: usize) {
        for id in ids.iter().filter(|id| id.index() >= vocab_size) {
            let expected = format!("ids below vocab_size, {vocab_size}");
            self.refuse("token ids", expected, &id.0.into());
        }
    }
}

fn token_id(value: &Value) -> Option<TokenId> {
    u32::try_from(value.as_u64()?).ok().map(TokenId)
}
