//! The fields of a JSON body, each read by itself so that an error can name it.
//!
//! Values are kept as text until they are asked for, and lists are read no further than their limits
//! ([`super::list`]): so a body costs a few times its own bytes at most.

use std::borrow::Cow;

use axum::extract::Request;
use axum::http::StatusCode;
use bytes::Bytes;
use serde::Deserializer as _;
use serde::de::{DeserializeOwned, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::error::HttpError;
use crate::front::Shared;
use crate::front::error::Error;
use crate::front::intake::{Place, Unread};
use crate::front::limits;

/// Reads the body of a request, whole.
///
/// # Errors
///
/// [`HttpError::Body`] if it is too long, takes too long, or breaks off, and [`HttpError::Refused`]
/// where there is no room for it.
pub(super) async fn read(request: Request, shared: &Shared) -> Result<(Bytes, Place), HttpError> {
    let time = shared.config.body_time;
    let body = request.into_body();
    let read = shared.intake.read(body, limits::MAX_REQUEST, time).await;
    read.map_err(|unread| {
        let status = match unread {
            Unread::TooLong { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Unread::TooSlow { .. } => StatusCode::REQUEST_TIMEOUT,
            Unread::Broken { .. } => StatusCode::BAD_REQUEST,
            Unread::Crowded => return Error::from(unread).into(),
        };
        let why = unread.to_string();
        HttpError::Body { status, why }
    })
}

/// The fields of a body that have a meaning; others are skipped, as OpenAI's API does.
#[derive(Debug)]
pub(super) struct Body<'a> {
    fields: Vec<(&'static str, &'a RawValue)>,
}

impl<'a> Body<'a> {
    /// Splits a body into its fields; `known` gives the names of those that have a meaning.
    ///
    /// # Errors
    ///
    /// [`HttpError::NotJson`].
    pub(super) fn parse(
        bytes: &'a [u8],
        known: impl Fn(&str) -> Option<&'static str>,
    ) -> Result<Self, HttpError> {
        let mut json = serde_json::Deserializer::from_slice(bytes);
        let fields = json.deserialize_map(Fields { known });
        let fields = fields.and_then(|fields| json.end().map(|()| fields));
        let fields = fields.map_err(|error| HttpError::NotJson {
            why: clipped(&error.to_string()).to_owned(),
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

    /// Refuses a field unless it asks for nothing: is absent, null, or one of these values, which are
    /// written without blanks.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`].
    pub(super) fn refuse(
        &self,
        name: &'static str,
        nothing: &[&str],
        why: &'static str,
    ) -> Result<(), Error> {
        let is_nothing = |json: &str| {
            let bytes = || json.bytes().filter(|byte| !byte.is_ascii_whitespace());
            nothing.iter().any(|nothing| nothing.bytes().eq(bytes()))
        };
        match self.raw(name) {
            Some(json) if !is_nothing(json) => Err(Error::unsupported(name, why)),
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
    serde_json::from_str(json).map_err(|error| Error::field(name, why(&error)))
}

/// Returns what is wrong with a value.
pub(super) fn why(error: &serde_json::Error) -> String {
    let why = error.to_string();
    // The place counts from the value's beginning, which a client does not see.
    let why = why.rsplit_once(" at line ").map_or(&*why, |(why, _)| why);
    clipped(why).to_owned()
}

/// Returns the beginning of a message that may repeat a client's text of any length.
pub(super) fn clipped(message: &str) -> &str {
    &message[..message.floor_char_boundary(limits::MAX_ECHO_BYTES)]
}

struct Fields<Known> {
    known: Known,
}

impl<'de, Known: Fn(&str) -> Option<&'static str>> Visitor<'de> for Fields<Known> {
    type Value = Vec<(&'static str, &'de RawValue)>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields: Self::Value = Vec::new();
        while let Some(Key(key)) = map.next_key()? {
            let Some(name) = (self.known)(&key) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if fields.iter().any(|(field, _)| *field == name) {
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

    fn parse(body: &[u8]) -> Result<Body<'_>, super::HttpError> {
        Body::parse(body, |key| ["a", "b"].into_iter().find(|name| *name == key))
    }

    #[test]
    fn reads_known_fields_and_skips_others() {
        let body = parse(br#"{"x": [1, {}], "a": 3, "b": null}"#).unwrap();
        assert_eq!(body.read::<u32>("a").unwrap(), Some(3));
        assert_eq!(body.read::<u32>("b").unwrap(), None);
    }

    #[test]
    fn an_error_names_the_field() {
        let body = parse(br#"{"a": "3"}"#).unwrap();
        let error = body.read::<u32>("a").unwrap_err();
        assert_eq!(
            error.to_string(),
            "a: invalid type: string \"3\", expected u32"
        );
    }

    #[test]
    fn an_error_repeats_little_of_the_body() {
        let long = "x".repeat(1 << 20);
        let json = format!(r#"{{"a": "{long}"}}"#);
        let body = parse(json.as_bytes()).unwrap();
        assert!(body.read::<u32>("a").unwrap_err().to_string().len() < 1000);
        let json = format!(r#""{long}""#);
        assert!(parse(json.as_bytes()).unwrap_err().to_string().len() < 1000);
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
            assert!(parse(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn a_deep_body_is_an_error_and_no_overflow() {
        let body = format!("{{\"a\": {}", "[".repeat(1 << 20));
        assert!(parse(body.as_bytes()).is_err());
        let body = format!("{{\"x\": {}", "[".repeat(1 << 20));
        assert!(parse(body.as_bytes()).is_err());
    }
}
