//! Ranges of keys, as requests name them.

use std::collections::BTreeMap;
use std::collections::btree_map::Range;
use std::ops::Bound;

/// A key, or all keys from one up to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    start: Vec<u8>,
    end: End,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    /// The start alone.
    Single,
    /// No end.
    Open,
    Before(Vec<u8>),
}

impl Span {
    /// Reads `key` and `range_end` of a request: no end means the one key, a zero byte no end at all.
    pub(crate) fn new(key: Vec<u8>, range_end: Vec<u8>) -> Self {
        let end = match range_end.as_slice() {
            [] => End::Single,
            [0] => End::Open,
            _ => End::Before(range_end),
        };
        Self { start: key, end }
    }

    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            End::Single => key == self.start,
            End::Open => key >= self.start.as_slice(),
            End::Before(end) => key >= self.start.as_slice() && key < end.as_slice(),
        }
    }

    /// Returns what lies in it.
    pub(crate) fn within<'a, V>(&self, map: &'a BTreeMap<Vec<u8>, V>) -> Range<'a, Vec<u8>, V> {
        let start: &[u8] = &self.start;
        let end: Bound<&[u8]> = match &self.end {
            End::Single => Bound::Included(start),
            End::Open => Bound::Unbounded,
            // A map panics on a range that ends before it starts; such a one is empty.
            End::Before(end) if end.as_slice() <= start => {
                return map.range::<[u8], _>((Bound::Included(start), Bound::Excluded(start)));
            }
            End::Before(end) => Bound::Excluded(end),
        };
        map.range::<[u8], _>((Bound::Included(start), end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_hold_what_etcd_says() {
        let keys = ["a", "b", "ba", "c"].map(|key| key.as_bytes().to_vec());
        let map: BTreeMap<Vec<u8>, ()> = keys.iter().map(|key| (key.clone(), ())).collect();
        for (start, end, holds) in [
            ("b", "", &["b"][..]),
            ("x", "", &[]),
            ("b", "c", &["b", "ba"]),
            ("b", "\0", &["b", "ba", "c"]),
            ("\0", "\0", &["a", "b", "ba", "c"]),
            ("c", "a", &[]),
            ("b", "b", &[]),
        ] {
            let span = Span::new(start.into(), end.into());
            let found: Vec<&[u8]> = span.within(&map).map(|(key, ())| key.as_slice()).collect();
            let holds: Vec<&[u8]> = holds.iter().map(|key| key.as_bytes()).collect();
            assert_eq!(found, holds, "{start:?} to {end:?}");
            for key in &keys {
                assert_eq!(span.contains(key), holds.contains(&key.as_slice()));
            }
        }
    }
}
