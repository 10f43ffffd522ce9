//! JSON lists and maps that are read no further than their limits, so that a body of many small
//! values never becomes many large ones in memory.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer as _, MapAccess, SeqAccess, Visitor};

use super::body::why;
use crate::front::error::Error;

/// Reads a list of at most this many values.
///
/// # Errors
///
/// [`Error::Field`], under this name, or with the place where a value is of another type.
pub(super) fn list<'a, T: Deserialize<'a>>(
    name: &str,
    json: &'a str,
    limit: usize,
) -> Result<Vec<T>, Error> {
    let mut at = None;
    let values = List {
        limit,
        at: &mut at,
        value: PhantomData,
    };
    let read = serde_json::Deserializer::from_str(json).deserialize_seq(values);
    read.map_err(|error| match at {
        Some(at) => Error::field(format!("{name}[{at}]"), why(&error)),
        None => Error::field(name, why(&error)),
    })
}

/// Reads an object of at most this many fields.
///
/// # Errors
///
/// [`Error::Field`], under this name.
pub(super) fn map<'a, T: Deserialize<'a>>(
    name: &str,
    json: &'a str,
    limit: usize,
) -> Result<Vec<(String, T)>, Error> {
    let fields = Map {
        limit,
        value: PhantomData,
    };
    let read = serde_json::Deserializer::from_str(json).deserialize_map(fields);
    read.map_err(|error| Error::field(name, why(&error)))
}

struct List<'s, T> {
    limit: usize,
    /// Place of the value that is being read.
    at: &'s mut Option<usize>,
    value: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for List<'_, T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
        let mut values = Vec::new();
        *self.at = Some(0);
        while let Some(value) = seq.next_element()? {
            if values.len() == self.limit {
                *self.at = None;
                return Err(too_many(self.limit));
            }
            values.push(value);
            *self.at = Some(values.len());
        }
        *self.at = None;
        Ok(values)
    }
}

struct Map<T> {
    limit: usize,
    value: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Map<T> {
    type Value = Vec<(String, T)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            if fields.len() == self.limit {
                return Err(too_many(self.limit));
            }
            fields.push(field);
        }
        Ok(fields)
    }
}

fn too_many<E: serde::de::Error>(limit: usize) -> E {
    E::custom(format_args!("at most {limit} are taken"))
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Deserializer};

    use super::{list, map};

    #[test]
    fn an_error_names_the_place() {
        let error = list::<u32>("a", "[1, -1]", 9).unwrap_err();
        assert_eq!(error.at_field(), Some("a[1]"));
        let error = list::<u32>("a", "3", 9).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a: invalid type: integer `3`, expected a list"
        );
        assert!(map::<u32>("a", "[]", 9).is_err());
        assert!(map::<u32>("a", r#"{"x": -1}"#, 9).is_err());
    }

    /// Fails the test when more of them are read than a limit of 2 needs to be known.
    struct Counted;

    impl<'de> Deserialize<'de> for Counted {
        fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
            let value = u32::deserialize(json)?;
            assert!(value <= 3, "{value} was read");
            Ok(Self)
        }
    }

    #[test]
    fn nothing_is_read_beyond_the_limit() {
        assert_eq!(list::<Counted>("a", "[1, 2]", 2).unwrap().len(), 2);
        let error = list::<Counted>("a", "[1, 2, 3, 4]", 2).err().unwrap();
        assert_eq!(error.to_string(), "a: at most 2 are taken");
        let fields = r#"{"x": 1, "y": 2, "z": 3, "u": 4}"#;
        let error = map::<Counted>("a", fields, 2).err().unwrap();
        assert_eq!(error.to_string(), "a: at most 2 are taken");
    }
}
