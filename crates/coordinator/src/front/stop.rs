//! Stop sequences over a stream of bytes that arrives in arbitrary pieces.
//!
//! Matching is on bytes: a stop sequence is valid UTF-8, so it can only match at the boundaries of
//! characters, and tokens may split it and its characters anywhere. Knows nothing of tokens.

/// Finds the first of several stop sequences in a stream of bytes.
///
/// The sequence that is completed first counts; of several completed by the same byte the longest.
/// So the result does not depend on how the bytes are cut into pieces.
#[derive(Clone, Debug)]
pub(super) struct StopMatcher {
    needles: Vec<Needle>,
}

/// One stop sequence and how much of it the stream ends with (Knuth, Morris, Pratt 1977).
#[derive(Clone, Debug)]
struct Needle {
    text: String,
    /// `borders[i]` is the length of the longest proper border of the first `i + 1` bytes.
    borders: Vec<usize>,
    matched: usize,
}

impl StopMatcher {
    /// Makes a matcher of sequences that are not empty.
    pub(super) fn new(sequences: &[String]) -> Self {
        // The longest first, so that it is found first among those that end together.
        let mut sequences: Vec<&String> = sequences.iter().collect();
        sequences.sort_by_key(|text| std::cmp::Reverse(text.len()));
        let needles = sequences
            .into_iter()
            .map(|text| Needle::new(text.clone()))
            .collect();
        Self { needles }
    }

    /// Takes one more byte; returns the sequence that it completes.
    pub(super) fn push(&mut self, byte: u8) -> Option<&str> {
        let mut found = None;
        for (index, needle) in self.needles.iter_mut().enumerate() {
            if needle.push(byte) && found.is_none() {
                found = Some(index);
            }
        }
        found.map(|index| &*self.needles[index].text)
    }

    /// Returns how many bytes at the end of the stream may turn out to be part of a sequence.
    pub(super) fn undecided(&self) -> usize {
        self.needles
            .iter()
            .map(|needle| needle.matched)
            .max()
            .unwrap_or(0)
    }
}

impl Needle {
    fn new(text: String) -> Self {
        let bytes = text.as_bytes();
        let mut borders = vec![0; bytes.len()];
        for i in 1..bytes.len() {
            let mut length = borders[i - 1];
            while length > 0 && bytes[length] != bytes[i] {
                length = borders[length - 1];
            }
            borders[i] = length + usize::from(bytes[length] == bytes[i]);
        }
        Self {
            text,
            borders,
            matched: 0,
        }
    }

    /// Takes one more byte and says whether the stream now ends with the whole sequence.
    fn push(&mut self, byte: u8) -> bool {
        let bytes = self.text.as_bytes();
        if self.matched == bytes.len() {
            self.matched = self.borders[self.matched - 1];
        }
        while self.matched > 0 && bytes[self.matched] != byte {
            self.matched = self.borders[self.matched - 1];
        }
        self.matched += usize::from(bytes[self.matched] == byte);
        self.matched == bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, proptest};

    use super::StopMatcher;

    /// Returns the text before the first stop sequence, and the sequence.
    fn cut(text: &str, stops: &[&str]) -> (String, Option<String>) {
        let stops: Vec<String> = stops.iter().map(|stop| (*stop).to_owned()).collect();
        let mut matcher = StopMatcher::new(&stops);
        for (at, byte) in text.bytes().enumerate() {
            if let Some(stop) = matcher.push(byte).map(str::to_owned) {
                return (text[..at + 1 - stop.len()].to_owned(), Some(stop));
            }
        }
        (text.to_owned(), None)
    }

    /// The rule, said plainly: the smallest end, then the longest.
    fn cut_slowly(text: &str, stops: &[&str]) -> (String, Option<String>) {
        let ends = |stop: &&str| text.find(*stop).map(|at| at + stop.len());
        let first = stops.iter().filter_map(|stop| Some((ends(stop)?, *stop)));
        match first.min_by_key(|(end, stop)| (*end, std::cmp::Reverse(stop.len()))) {
            Some((end, stop)) => (text[..end - stop.len()].to_owned(), Some(stop.to_owned())),
            None => (text.to_owned(), None),
        }
    }

    #[test]
    fn the_sequence_completed_first_counts() {
        assert_eq!(
            cut("xabcd", &["abcd", "bc"]),
            ("xa".into(), Some("bc".into()))
        );
    }

    #[test]
    fn of_sequences_completed_together_the_longest_counts() {
        assert_eq!(
            cut("xabc", &["c", "abc", "bc"]),
            ("x".into(), Some("abc".into()))
        );
    }

    #[test]
    fn a_false_start_is_not_lost() {
        assert_eq!(cut("aaab", &["aab"]), ("a".into(), Some("aab".into())));
        assert_eq!(cut("ababac", &["abac"]), ("ab".into(), Some("abac".into())));
    }

    #[test]
    fn holds_exactly_what_may_become_a_sequence() {
        let mut matcher = StopMatcher::new(&["\n\nHuman".into(), "né".into()]);
        let held: Vec<usize> = "a\n\nHn\u{e9}"
            .bytes()
            .map(|byte| {
                matcher.push(byte);
                matcher.undecided()
            })
            .collect();
        assert_eq!(held, [0, 1, 2, 3, 1, 2, 3]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn agrees_with_a_plain_search(
            text in "[ab\u{e9}]{0,24}",
            one in "[ab\u{e9}]{1,5}",
            two in "[ab\u{e9}]{1,4}",
            three in "[ab]{1,3}",
        ) {
            let stops = [&*one, &*two, &*three];
            assert_eq!(cut(&text, &stops), cut_slowly(&text, &stops));
        }
    }
}
