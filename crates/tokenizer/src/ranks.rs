//! The byte-pair vocabulary: which bytes each id stands for, in the order they were learnt.

use std::collections::HashMap;

/// The ordinary tokens, `0..len`; a token's id is its rank, lower ranks merge first.
///
/// All bytes lie in one buffer: 200,000 small allocations would cost more than the bytes.
#[derive(Clone, Default)]
pub(crate) struct Ranks {
    bytes: Vec<u8>,
    /// Where each token ends in `bytes`; it begins where its predecessor ends.
    ends: Vec<usize>,
}

/// Finds the rank of a byte string.
pub(crate) type RankIndex<'a> = HashMap<&'a [u8], u32>;

impl Ranks {
    /// Appends the token of the next rank.
    pub(crate) fn push(&mut self, token: &[u8]) {
        self.bytes.extend_from_slice(token);
        self.ends.push(self.bytes.len());
    }

    /// Returns the first `len` tokens.
    pub(crate) fn first(&self, len: usize) -> Self {
        let ends = self.ends[..len].to_vec();
        let num_bytes = ends.last().copied().unwrap_or(0);
        Self {
            bytes: self.bytes[..num_bytes].to_vec(),
            ends,
        }
    }

    /// Returns the number of tokens.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns the bytes of a token, or nothing for an id that is none of these.
    pub(crate) fn get(&self, rank: usize) -> Option<&[u8]> {
        let end = *self.ends.get(rank)?;
        let start = if rank == 0 { 0 } else { self.ends[rank - 1] };
        Some(&self.bytes[start..end])
    }

    /// Goes through all tokens with their ranks.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &[u8])> {
        (0_u32..).zip((0..self.len()).filter_map(|rank| self.get(rank)))
    }

    /// Returns the length in bytes of the longest token.
    pub(crate) fn longest(&self) -> usize {
        self.iter().map(|(_, token)| token.len()).max().unwrap_or(0)
    }

    /// Makes the reverse table.
    pub(crate) fn index(&self) -> RankIndex<'_> {
        self.iter().map(|(rank, token)| (token, rank)).collect()
    }
}

/// Returns where `token` can be cut into two tokens, ordered by the ranks of the parts.
///
/// These are the merges that can make `token`, in the order in which tokenizer.json lists them.
pub(crate) fn cuts<'a>(token: &'a [u8], index: &RankIndex<'_>) -> Vec<(&'a [u8], &'a [u8])> {
    let mut found: Vec<_> = (1..token.len())
        .filter_map(|at| {
            let (left, right) = token.split_at(at);
            Some((*index.get(left)?, *index.get(right)?, left, right))
        })
        .collect();
    found.sort_unstable();
    found
        .into_iter()
        .map(|(_, _, left, right)| (left, right))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Ranks, cuts};

    #[test]
    fn lists_every_cut_by_the_ranks_of_its_parts() {
        let mut ranks = Ranks::default();
        for token in ["a", "b", "ab", "ba", "aba"] {
            ranks.push(token.as_bytes());
        }
        let index = ranks.index();
        let expected: [(&[u8], &[u8]); 2] = [(b"a", b"ba"), (b"ab", b"a")];
        assert_eq!(cuts(b"aba", &index), expected);
        assert_eq!(ranks.get(4), Some(&b"aba"[..]));
        assert_eq!(ranks.get(5), None);
    }
}
