//! Reads `model.vocab`: a JSON object from byte-level spelling to id.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::byte_chars::ByteChars;
use crate::error::Error;
use crate::ranks::Ranks;

/// Reads the ordinary tokens and checks that their ids are `0..len`, each given once.
pub(super) fn read(raw: &RawValue) -> Result<Ranks, Error> {
    let chars = ByteChars::new();
    let mut entries = Entries {
        chars: &chars,
        bytes: Vec::new(),
        spans: Vec::new(),
    };
    serde_json::Deserializer::from_str(raw.get())
        .deserialize_map(&mut entries)
        .map_err(|source| Error::Malformed {
            key: "model.vocab",
            source,
        })?;
    let ranks = entries.into_ranks()?;
    let index = ranks.index();
    if index.len() < ranks.len() {
        return Err(unexpected(
            "every token once",
            "a token with two ids".to_owned(),
        ));
    }
    if let Some(byte) = (0..=u8::MAX).find(|&byte| !index.contains_key(&[byte][..])) {
        let found = format!("none for byte 0x{byte:02x}");
        return Err(unexpected("a token for each of the 256 bytes", found));
    }
    Ok(ranks)
}

fn unexpected(expected: &str, found: String) -> Error {
    Error::Unexpected {
        key: "model.vocab".to_owned(),
        expected: expected.to_owned(),
        found,
    }
}

/// The members of the object in the order of the file.
struct Entries<'a> {
    chars: &'a ByteChars,
    bytes: Vec<u8>,
    /// Where each token ends in `bytes`, and its id.
    spans: Vec<(usize, u32)>,
}

impl Entries<'_> {
    fn into_ranks(self) -> Result<Ranks, Error> {
        let mut by_id: Vec<Option<&[u8]>> = vec![None; self.spans.len()];
        let mut start = 0;
        for &(end, id) in &self.spans {
            let token = &self.bytes[start..end];
            start = end;
            match by_id.get_mut(id as usize) {
                Some(slot @ None) if !token.is_empty() => *slot = Some(token),
                _ => {
                    let expected = format!("the ids 0 to {}, each once", self.spans.len() - 1);
                    let token = self.chars.encode(token);
                    return Err(unexpected(&expected, format!("{token:?} with id {id}")));
                }
            }
        }
        let mut ranks = Ranks::default();
        // As many ids as slots, no slot twice: every slot is taken.
        by_id
            .into_iter()
            .flatten()
            .for_each(|token| ranks.push(token));
        Ok(ranks)
    }
}

impl<'de> Visitor<'de> for &mut Entries<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object from tokens to ids")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_key_seed(Spelling(self))?.is_some() {
            let id = map.next_value()?;
            self.spans.push((self.bytes.len(), id));
        }
        Ok(())
    }
}

/// Appends a token's bytes without making a `String` of its spelling.
struct Spelling<'a, 'b>(&'a mut Entries<'b>);

impl<'de> DeserializeSeed<'de> for Spelling<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Spelling<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a token in byte-level spelling")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        let Entries { chars, bytes, .. } = self.0;
        chars
            .decode_into(text, bytes)
            .map_err(|c| E::custom(format_args!("{text:?}: {c:?} stands for no byte")))
    }
}
