//! Bytes that arrive in arbitrary pieces, to text that never splits a character.

/// Collects bytes and hands out whole characters as soon as they are complete.
///
/// What comes out, joined, equals [`String::from_utf8_lossy`] of all bytes joined: each maximal
/// invalid sequence becomes one U+FFFD, as soon as it is known to be invalid.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Utf8Stream {
    /// The beginning of a character: at most three bytes.
    pending: Vec<u8>,
}

impl Utf8Stream {
    /// Appends to `out` all text that is certain after `bytes`.
    pub fn push(&mut self, bytes: &[u8], out: &mut String) {
        self.pending.extend_from_slice(bytes);
        let mut taken = 0;
        for chunk in self.pending.utf8_chunks() {
            out.push_str(chunk.valid());
            taken += chunk.valid().len();
            let invalid = chunk.invalid();
            if invalid.is_empty() || is_unfinished(invalid, &self.pending[taken..]) {
                break;
            }
            out.push(char::REPLACEMENT_CHARACTER);
            taken += invalid.len();
        }
        self.pending.drain(..taken);
    }

    /// Ends the stream: an unfinished character becomes one U+FFFD.
    pub fn finish(&mut self, out: &mut String) {
        if !self.pending.is_empty() {
            self.pending.clear();
            out.push(char::REPLACEMENT_CHARACTER);
        }
    }
}

/// Says whether more bytes could make a character of the invalid sequence that begins `rest`.
fn is_unfinished(invalid: &[u8], rest: &[u8]) -> bool {
    invalid.len() == rest.len()
        && std::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, any, proptest};

    use super::Utf8Stream;

    fn pieces(pieces: &[&[u8]]) -> Vec<String> {
        let mut stream = Utf8Stream::default();
        let mut texts: Vec<String> = Vec::new();
        for piece in pieces {
            let mut text = String::new();
            stream.push(piece, &mut text);
            texts.push(text);
        }
        let mut rest = String::new();
        stream.finish(&mut rest);
        texts.push(rest);
        texts
    }

    #[test]
    fn holds_a_character_until_its_last_byte() {
        assert_eq!(
            pieces(&[b"a\xf0\x9f", b"\x92", b"\x96b"]),
            ["a", "", "💖b", ""]
        );
    }

    #[test]
    fn replaces_what_cannot_become_a_character_at_once() {
        assert_eq!(
            pieces(&[b"\xff", b"\xf0\x9f", b"x"]),
            ["\u{fffd}", "", "\u{fffd}x", ""]
        );
        assert_eq!(pieces(&[b"\xc0\x80"]), ["\u{fffd}\u{fffd}", ""]);
        // A surrogate is invalid from its second byte on.
        assert_eq!(pieces(&[b"\xed", b"\xa0"]), ["", "\u{fffd}\u{fffd}", ""]);
    }

    #[test]
    fn replaces_an_unfinished_character_at_the_end() {
        assert_eq!(pieces(&[b"ok \xe2\x82"]), ["ok ", "\u{fffd}"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn equals_the_lossy_decoding_of_the_whole(
            bytes in proptest::collection::vec(
                proptest::prop_oneof![any::<u8>(), 0x80..=0xc2_u8, 0xe0..=0xf5_u8, 0x20..0x7f_u8],
                0..40,
            ),
            size in 1..5_usize,
        ) {
            let chunks: Vec<&[u8]> = bytes.chunks(size).collect();
            assert_eq!(pieces(&chunks).concat(), String::from_utf8_lossy(&bytes));
        }
    }
}
