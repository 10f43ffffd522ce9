//! The fields of a JSON body, each read by itself so that an error can name it.
//!
//! Values are kept as text until they are asked for: a body costs no more memory than it has bytes.

use std::borrow::Cow;

use serde::Deserializer as _;
use serde::de::{DeserializeOwned, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::error::HttpError;
use crate::front::error::Error;

/// The fields of a body that have a meaning; others are skipped, as OpenAI's API does.
#[derive(Debug)]
pub(super) struct Body<'a> {
    fields: Vec<(&'static str, &'a RawValue)>,
}

impl<'a> Body<'a> {
    /// Splits a body into the fields of these names.
    ///
    /// # Errors
    ///
    /// [`HttpError::NotJson`].
    pub(super) fn parse(
        bytes: &'a [u8],
        names: &'static [&'static str],
    ) -> Result<Self, HttpError> {
        let mut json = serde_json::Deserializer::from_slice(bytes);
        let fields = json.deserialize_map(Fields { names });
        let fields = fields.and_then(|fields| json.end().map(|()| fields));
        let fields = fields.map_err(|error| HttpError::NotJson {
            why: error.to_string(),
        })?;
        Ok(Self { fields })
    }

    /// Returns a field's JSON; `None` if it is absent or null.
    pub(super) fn raw(&self, name: &str) -> Option<&'a str> {
        let found = self.fields.iter().find(|(field, _)| *field == name);
        found
            .map(|(_, value)| value.get())
            .filter(|json| *json != "null")
    }

    /// Reads a field; `None` if it is absent or null.
    ///
    /// # Errors
    ///
    /// [`Error::Field`] if it is of another type.
    pub(super) fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Error> {
        self.raw(name).map(|json| value(name, json)).transpose()
    }

    /// Refuses a field unless it asks for nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`].
    pub(super) fn refuse(&self, name: &'static str, why: &'static str) -> Result<(), Error> {
        let nothing = ["false", "0", "\"\"", "[]", "{}"];
        match self.raw(name) {
            Some(json) if !nothing.contains(&json) => Err(Error::unsupported(name, why)),
            _ => Ok(()),
        }
    }
}

/// Reads one value.
///
/// # Errors
///
/// [`Error::Field`] with this name.
pub(super) fn value<T: DeserializeOwned>(name: &str, json: &str) -> Result<T, Error> {
    serde_json::from_str(json).map_err(|error| {
        let why = error.to_string();
        // The place counts from the value's beginning, which a client does not see.
        let why = why.split(" at line ").next().unwrap_or_default();
        Error::field(name, why)
    })
}

struct Fields {
    names: &'static [&'static str],
}

impl<'de> Visitor<'de> for Fields {
    type Value = Vec<(&'static str, &'de RawValue)>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields: Self::Value = Vec::new();
        while let Some(Key(key)) = map.next_key()? {
            let Some(name) = self.names.iter().find(|name| **name == key) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if fields.iter().any(|(field, _)| field == name) {
                return Err(A::Error::custom(format_args!("{name} is given twice")));
            }
            fields.push((name, map.next_value()?));
        }
        Ok(fields)
    }
}

/// A key, borrowed where it holds no escapes.
#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::Body;

    const NAMES: &[&str] = &["a", "b"];

    #[test]
    fn reads_known_fields_and_skips_others() {
        let body = Body::parse(br#"{"x": [1, {}], "a": 3, "b": null}"#, NAMES).unwrap();
        assert_eq!(body.read::<u32>("a").unwrap(), Some(3));
        assert_eq!(body.read::<u32>("b").unwrap(), None);
    }

    #[test]
    fn an_error_names_the_field() {
        let body = Body::parse(br#"{"a": "3"}"#, NAMES).unwrap();
        let error = body.read::<u32>("a").unwrap_err();
        assert_eq!(
            error.to_string(),
            "a: invalid type: string \"3\", expected u32"
        );
    }

    #[test]
    fn refuses_what_is_no_object() {
        for body in [
            "",
            "[]",
            "3",
            "{",
            "{\"a\": }",
            "{} {}",
            r#"{"a": 1, "a": 2}"#,
            "{\"a\": NaN}",
        ] {
            assert!(Body::parse(body.as_bytes(), NAMES).is_err(), "{body}");
        }
    }

    #[test]
    fn a_deep_body_is_an_error_and_no_overflow() {
        let body = format!("{{\"a\": {}", "[".repeat(1 << 20));
        assert!(Body::parse(body.as_bytes(), NAMES).is_err());
        let body = format!("{{\"x\": {}", "[".repeat(1 << 20));
        assert!(Body::parse(body.as_bytes(), NAMES).is_err());
    }
}
