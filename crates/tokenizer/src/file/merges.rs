//! Checks `model.merges` against the vocabulary, without keeping it.
//!
//! The list must hold every cut of every token into two tokens, by the rank of the token and
//! then of its parts: then "the earliest merge of the list" and "the pair whose join has the
//! lowest rank" choose the same pair. 446,189 entries in the published file.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::byte_chars::ByteChars;
use crate::error::Error;
use crate::ranks::{Ranks, cuts};

/// Checks the whole list.
pub(super) fn check(raw: &RawValue, ranks: &Ranks) -> Result<(), Error> {
    let chars = ByteChars::new();
    let difference = serde_json::Deserializer::from_str(raw.get())
        .deserialize_seq(List {
            ranks,
            chars: &chars,
        })
        .map_err(|source| Error::Malformed {
            key: "model.merges",
            source,
        })?;
    difference.map_or(Ok(()), Err)
}

/// Compares the list with the cuts, and returns the first difference.
struct List<'a> {
    ranks: &'a Ranks,
    chars: &'a ByteChars,
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = Option<Error>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of pairs of tokens")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let index = self.ranks.index();
        let mut at = 0;
        for (rank, token) in self.ranks.iter() {
            for (left, right) in cuts(token, &index) {
                let pair = Pair {
                    chars: self.chars,
                    left,
                    right,
                };
                let found = match list.next_element_seed(pair)? {
                    Some(true) => {
                        at += 1;
                        continue;
                    }
                    Some(false) => "another pair",
                    None => "the end of the list",
                };
                let (left, right) = (self.chars.encode(left), self.chars.encode(right));
                let expected = format!("{left:?} and {right:?}, which make token {rank}");
                return finish(list, at, expected, found);
            }
        }
        match list.next_element::<IgnoredAny>()? {
            None => Ok(None),
            Some(_) => finish(list, at, "the end of the list".to_owned(), "a pair"),
        }
    }
}

/// Reads what is left, as the parser demands, and reports the difference at entry `at`.
fn finish<'de, A: SeqAccess<'de>>(
    mut list: A,
    at: usize,
    expected: String,
    found: &str,
) -> Result<Option<Error>, A::Error> {
    while list.next_element::<IgnoredAny>()?.is_some() {}
    let key = format!("model.merges[{at}]");
    Ok(Some(Error::Unexpected {
        key,
        expected,
        found: found.to_owned(),
    }))
}

/// Says whether an entry, `["a", "b"]` or `"a b"`, is this pair.
struct Pair<'a> {
    chars: &'a ByteChars,
    left: &'a [u8],
    right: &'a [u8],
}

impl<'de> DeserializeSeed<'de> for Pair<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Pair<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a pair of tokens")
    }

    fn visit_str<E>(self, text: &str) -> Result<bool, E> {
        // A blank stands for no byte, so the first one is the separator.
        Ok(text.split_once(' ').is_some_and(|(left, right)| {
            self.chars.spells(left, self.left) && self.chars.spells(right, self.right)
        }))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut pair: A) -> Result<bool, A::Error> {
        let mut same = true;
        for bytes in [self.left, self.right] {
            same &= pair
                .next_element_seed(Token {
                    chars: self.chars,
                    bytes,
                })?
                .unwrap_or(false);
        }
        Ok(same)
    }
}

/// Says whether a text spells these bytes.
struct Token<'a> {
    chars: &'a ByteChars,
    bytes: &'a [u8],
}

impl<'de> DeserializeSeed<'de> for Token<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Token<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a token in byte-level spelling")
    }

    fn visit_str<E>(self, text: &str) -> Result<bool, E> {
        Ok(self.chars.spells(text, self.bytes))
    }
}
