//! The special tokens: control ids with a name, found in text only on request.

use std::collections::{BTreeMap, HashMap};

use spec::TokenId;

/// The special tokens of a vocabulary, by id and by name.
#[derive(Clone, Debug)]
pub(crate) struct Specials {
    names: BTreeMap<TokenId, Box<str>>,
    ids: HashMap<Box<str>, TokenId>,
    /// The different lengths of the names in bytes, longest first.
    lengths: Vec<usize>,
    /// Which bytes a name can begin with.
    begins: [bool; 256],
}

/// A special token's name found in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Where the name begins, in bytes.
    pub(crate) start: usize,
    /// Where it ends.
    pub(crate) end: usize,
    /// The token it names.
    pub(crate) id: TokenId,
}

impl Specials {
    /// Collects the tokens; names and ids are each given once.
    pub(crate) fn new(tokens: impl IntoIterator<Item = (TokenId, Box<str>)>) -> Self {
        let names: BTreeMap<_, _> = tokens.into_iter().collect();
        let ids = names.iter().map(|(&id, name)| (name.clone(), id)).collect();
        let mut lengths: Vec<_> = names.values().map(|name| name.len()).collect();
        lengths.sort_unstable_by(|a, b| b.cmp(a));
        lengths.dedup();
        let mut begins = [false; 256];
        for first in names.values().filter_map(|name| name.as_bytes().first()) {
            begins[usize::from(*first)] = true;
        }
        Self {
            names,
            ids,
            lengths,
            begins,
        }
    }

    /// Returns the token of this name.
    pub(crate) fn id(&self, name: &str) -> Option<TokenId> {
        self.ids.get(name).copied()
    }

    /// Returns the name of this token.
    pub(crate) fn name(&self, id: TokenId) -> Option<&str> {
        self.names.get(&id).map(|name| &**name)
    }

    /// Goes through all tokens in the order of their ids.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (TokenId, &str)> {
        self.names.iter().map(|(&id, name)| (id, &**name))
    }

    /// Returns the first name at or after `from`; of several that begin there, the longest.
    pub(crate) fn find(&self, text: &str, from: usize) -> Option<Found> {
        let bytes = text.as_bytes();
        (from..bytes.len())
            .filter(|&at| self.begins[usize::from(bytes[at])])
            .find_map(|start| {
                self.lengths.iter().find_map(|length| {
                    let end = start + length;
                    let id = self.id(text.get(start..end)?)?;
                    Some(Found { start, end, id })
                })
            })
    }
}

#[cfg(test)]
mod tests {
    use spec::TokenId;

    use super::{Found, Specials};

    #[test]
    fn finds_the_leftmost_and_longest_name() {
        let names = [(7, "<|a|>"), (8, "<|a|>b"), (9, "é!")];
        let specials = Specials::new(names.map(|(id, name)| (TokenId(id), name.into())));
        let found = |text, from| {
            specials
                .find(text, from)
                .map(|f: Found| (f.start, f.end, f.id.0))
        };
        assert_eq!(found("x<|a|>bc", 0), Some((1, 7, 8)));
        assert_eq!(found("<|a|<|a|>", 0), Some((4, 9, 7)));
        assert_eq!(found("ééé!", 0), Some((4, 7, 9)));
        assert_eq!(found("<|a|>é", 1), None);
    }
}
