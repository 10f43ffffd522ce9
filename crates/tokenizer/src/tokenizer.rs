//! The tokenizer of a checkpoint: text to ids and back.

use std::collections::HashSet;
use std::fmt::{self, Write as _};
use std::fs;
use std::path::Path;

use sha2::{Digest as _, Sha256};
use spec::TokenId;
use tiktoken_rs::CoreBPE;

use crate::error::Error;
use crate::file::{self, Contents};
use crate::ranks::Ranks;
use crate::specials::Specials;

/// Turns text into token ids and ids into bytes, as a checkpoint's tokenizer.json says.
///
/// A model's embedding may have more rows than the file has tokens (gpt-oss: 201,088 rows,
/// 200,019 tokens). The ids of the other rows are legal everywhere here; they stand for no bytes.
pub struct Tokenizer {
    core: CoreBPE,
    ranks: Ranks,
    specials: Specials,
    pattern: String,
    fingerprint: String,
    longest_token: usize,
}

impl Tokenizer {
    /// Loads a tokenizer.json. Takes about half a second for the published 28 MB file.
    ///
    /// # Errors
    ///
    /// [`Error::Unreadable`] if there is no such file; [`Error::Unusable`] names the file of which
    /// [`Tokenizer::from_bytes`] complains.
    pub fn from_file(path: &Path) -> Result<Self, Error> {
        let bytes = fs::read(path).map_err(|source| Error::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        Self::from_bytes(&bytes).map_err(|source| Error::Unusable {
            path: path.to_owned(),
            source: Box::new(source),
        })
    }

    /// Reads the bytes of a tokenizer.json.
    ///
    /// The file must describe byte-level byte-pair encoding without normalization, in which a
    /// split pattern cuts the text, a piece that is a token becomes that token, and other pieces
    /// are merged by rank; the list of merges is checked against the ranks, entry by entry. The
    /// vocabulary may have any size, but each single byte must be a token.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`], [`Error::Unexpected`] or [`Error::Pattern`], each naming the key and
    /// what is expected there.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let Contents {
            ranks,
            specials,
            pattern,
        } = file::read(bytes)?;
        let encoder = ranks
            .iter()
            .map(|(rank, token)| (token.to_vec(), rank))
            .collect();
        let names = specials
            .iter()
            .map(|(id, name)| (name.to_owned(), id.0))
            .collect();
        let core = CoreBPE::new(encoder, names, &pattern).map_err(|e| Error::Pattern {
            pattern: pattern.clone(),
            reason: e.to_string(),
        })?;
        let fingerprint = fingerprint(&ranks, &specials, &pattern);
        let longest_token = ranks.longest();
        Ok(Self {
            core,
            ranks,
            specials,
            pattern,
            fingerprint,
            longest_token,
        })
    }

    /// Encodes a text. The names of special tokens in it are ordinary text.
    ///
    /// About linear in the text, also for one endless word. The split engine gives up on a run of
    /// more than a million blanks; such a text is encoded in halves, so that the ids still decode
    /// to it, though another implementation might cut the run elsewhere.
    #[must_use]
    pub fn encode(&self, text: &str) -> Vec<TokenId> {
        let mut ids = Vec::with_capacity(text.len() / 3);
        self.encode_into(text, &mut ids);
        ids
    }

    /// Encodes a text in which the names of special tokens become those tokens.
    ///
    /// Not for text of a client: it could forge messages.
    #[must_use]
    pub fn encode_with_special(&self, text: &str) -> Vec<TokenId> {
        let mut ids = Vec::with_capacity(text.len() / 3);
        let mut start = 0;
        while let Some(found) = self.specials.find(text, start) {
            self.encode_into(&text[start..found.start], &mut ids);
            ids.push(found.id);
            start = found.end;
        }
        self.encode_into(&text[start..], &mut ids);
        ids
    }

    /// Appends the ids of an ordinary text.
    pub(crate) fn encode_into(&self, text: &str, ids: &mut Vec<TokenId>) {
        if text.is_empty() {
            return;
        }
        match self.core.encode(text, &HashSet::new()) {
            Ok((found, _)) => ids.extend(found.into_iter().map(TokenId)),
            Err(_) if text.len() < SMALLEST_HALF => {
                let bytes = text.bytes().filter_map(|byte| self.byte_token(byte));
                ids.extend(bytes);
            }
            Err(_) => {
                let (left, right) = text.split_at(text.floor_char_boundary(text.len() / 2));
                self.encode_into(left, ids);
                self.encode_into(right, ids);
            }
        }
    }

    /// Returns the token of a single byte.
    fn byte_token(&self, byte: u8) -> Option<TokenId> {
        let is_byte = |(rank, token): (u32, &[u8])| (token == [byte]).then_some(TokenId(rank));
        self.ranks.iter().find_map(is_byte)
    }

    /// Returns the bytes of a token, which need not be whole characters; a special token's are
    /// its name. `None` for an id without a string.
    #[must_use]
    pub fn token_bytes(&self, id: TokenId) -> Option<&[u8]> {
        self.ranks
            .get(id.index())
            .or_else(|| self.specials.name(id).map(str::as_bytes))
    }

    /// Joins the bytes of all tokens; an id without a string adds nothing.
    #[must_use]
    pub fn decode(&self, ids: &[TokenId]) -> Vec<u8> {
        ids.iter()
            .filter_map(|&id| self.token_bytes(id))
            .flatten()
            .copied()
            .collect()
    }

    /// Returns one more than the highest id that has a string.
    #[must_use]
    pub fn vocab_len(&self) -> usize {
        self.specials
            .iter()
            .map(|(id, _)| id.index() + 1)
            .fold(self.ranks.len(), usize::max)
    }

    /// Returns the length in bytes of the longest token that a text can contain: a text of `n` bytes
    /// has at least `n` divided by this many tokens.
    #[must_use]
    pub fn longest_token(&self) -> usize {
        self.longest_token
    }

    /// Returns the special token of this name, as `<|start|>`.
    #[must_use]
    pub fn special(&self, name: &str) -> Option<TokenId> {
        self.specials.id(name)
    }

    /// Says whether an id is a special token.
    #[must_use]
    pub fn is_special(&self, id: TokenId) -> bool {
        self.specials.name(id).is_some()
    }

    /// Goes through the special tokens and their names, in the order of the ids.
    pub fn specials(&self) -> impl Iterator<Item = (TokenId, &str)> {
        self.specials.iter()
    }

    /// Returns the SHA-256, in hexadecimal, of ranks, special tokens and split pattern.
    ///
    /// Equal for two files exactly if they encode and decode alike; layout and key order of the
    /// file do not matter.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

/// Below this many bytes a text that the split engine refuses is encoded byte by byte. Not
/// reached by any pattern seen: it only ends the halving.
const SMALLEST_HALF: usize = 16;

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer")
            .field("ranks", &self.ranks.len())
            .field("specials", &self.specials.iter().count())
            .field("pattern", &self.pattern)
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

/// Hashes a length-prefixed list of everything that decides ids: no two vocabularies look alike.
fn fingerprint(ranks: &Ranks, specials: &Specials, pattern: &str) -> String {
    let mut hash = Sha256::new();
    let mut add = |id: u32, bytes: &[u8]| {
        hash.update(id.to_le_bytes());
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    ranks.iter().for_each(|(rank, token)| add(rank, token));
    specials
        .iter()
        .for_each(|(id, name)| add(id.0, name.as_bytes()));
    add(u32::MAX, pattern.as_bytes());
    hash.finalize().iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("writing to a string cannot fail");
        hex
    })
}
