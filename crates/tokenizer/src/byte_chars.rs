//! The byte-level alphabet of tokenizer.json: every byte is written as one printable character.
//!
//! The table is GPT-2's (`bytes_to_unicode` in openai/gpt-2, src/encoder.py): the printable
//! Latin-1 bytes stand for themselves, the other 68 are U+0100 and up, in byte order.

/// Translates between bytes and the characters that stand for them.
pub(crate) struct ByteChars {
    chars: [char; 256],
    bytes: [Option<u8>; NUM_CHARS],
}

/// One more than the highest character in use: 256 + the 68 bytes that are not printable.
const NUM_CHARS: usize = 256 + 68;

impl ByteChars {
    /// Makes both tables.
    pub(crate) fn new() -> Self {
        let mut table = Self {
            chars: ['\0'; 256],
            bytes: [None; NUM_CHARS],
        };
        let mut next = 256_u32;
        for byte in 0..=u8::MAX {
            let code = if matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF) {
                u32::from(byte)
            } else {
                next += 1;
                next - 1
            };
            table.chars[usize::from(byte)] =
                char::from_u32(code).expect("codes below U+0144 are characters");
            table.bytes[code as usize] = Some(byte);
        }
        table
    }

    /// Appends the bytes that `text` stands for, or returns the first character that is none.
    pub(crate) fn decode_into(&self, text: &str, out: &mut Vec<u8>) -> Result<(), char> {
        for c in text.chars() {
            out.push(self.bytes.get(c as usize).copied().flatten().ok_or(c)?);
        }
        Ok(())
    }

    /// Says whether `text` stands for exactly these bytes.
    pub(crate) fn spells(&self, text: &str, bytes: &[u8]) -> bool {
        text.chars()
            .map(|c| self.bytes.get(c as usize).copied().flatten())
            .eq(bytes.iter().map(|&byte| Some(byte)))
    }

    /// Returns the characters that stand for `bytes`.
    pub(crate) fn encode(&self, bytes: &[u8]) -> String {
        bytes
            .iter()
            .map(|&byte| self.chars[usize::from(byte)])
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::ByteChars;

    #[test]
    fn every_byte_comes_back() {
        let table = ByteChars::new();
        let all: Vec<u8> = (0..=255).collect();
        let text = table.encode(&all);
        assert_eq!(text.chars().count(), 256);
        let mut back = Vec::new();
        table
            .decode_into(&text, &mut back)
            .expect("all are in the table");
        assert_eq!(back, all);
        assert!(table.spells(&text, &all) && !table.spells(&text, &all[1..]));
        assert_eq!(table.encode(b" \n"), "\u{120}\u{10a}");
    }

    #[test]
    fn refuses_a_character_that_stands_for_no_byte() {
        assert_eq!(
            ByteChars::new().decode_into("a\u{144}", &mut Vec::new()),
            Err('\u{144}')
        );
        assert_eq!(
            ByteChars::new().decode_into("a b", &mut Vec::new()),
            Err(' ')
        );
    }
}
