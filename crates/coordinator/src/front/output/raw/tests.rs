//! Tests of [`RawOutput`].

use std::sync::Arc;

use proptest::prelude::{ProptestConfig, proptest};
use spec::{SampledToken, TokenId};
use tokenizer::Tokenizer;

use super::{Chunk, Output as _, RawOutput, ends_inside_a_character};
use crate::front::request::Ends;
use crate::front::testing::tiny_tokenizer;

fn ends(sequences: &[&str], tokens: &[TokenId]) -> Ends {
    Ends {
        eos: Vec::new(),
        tokens: tokens.to_vec(),
        sequences: sequences.iter().map(|text| (*text).to_owned()).collect(),
        max_reasoning: None,
    }
}

/// Returns the tokens of the single bytes of a text.
fn bytes_of(tokenizer: &Tokenizer, bytes: &[u8]) -> Vec<TokenId> {
    let single = |byte: u8| {
        (0..300)
            .map(TokenId)
            .find(|&t| tokenizer.token_bytes(t) == Some(&[byte]))
    };
    bytes.iter().map(|&byte| single(byte).unwrap()).collect()
}

fn sampled(token: TokenId) -> SampledToken {
    SampledToken {
        token,
        logprob: None,
    }
}

/// Pushes tokens one by one; returns what came out after each, and at the end.
fn run(tokenizer: &Arc<Tokenizer>, ends: Ends, final_only: bool, tokens: &[TokenId]) -> Vec<Chunk> {
    let mut output = RawOutput::new(Arc::clone(tokenizer), ends, final_only);
    let mut chunks = Vec::new();
    for &token in tokens {
        let stopped = output.push(sampled(token));
        chunks.extend(std::iter::from_fn(|| Some(output.take(u64::MAX)?.1)));
        if stopped {
            return chunks;
        }
    }
    output.finish();
    chunks.extend(std::iter::from_fn(|| Some(output.take(u64::MAX)?.1)));
    chunks
}

fn texts(chunks: &[Chunk]) -> Vec<&[u8]> {
    chunks.iter().map(|chunk| &*chunk.text).collect()
}

#[test]
fn holds_a_token_until_its_character_is_whole() {
    let tokenizer = tiny_tokenizer();
    let tokens = bytes_of(&tokenizer, "a\u{1f496}b".as_bytes());
    let chunks = run(&tokenizer, ends(&[], &[]), false, &tokens);
    assert_eq!(
        texts(&chunks),
        ["a".as_bytes(), "\u{1f496}".as_bytes(), b"b"]
    );
    assert_eq!(chunks[1].tokens.len(), 4);
}

#[test]
fn an_unfinished_character_comes_out_raw_at_the_end() {
    let tokenizer = tiny_tokenizer();
    let tokens = bytes_of(&tokenizer, b"a\xf0\x9f");
    let chunks = run(&tokenizer, ends(&[], &[]), false, &tokens);
    assert_eq!(texts(&chunks), [b"a".as_slice(), b"\xf0\x9f"]);
}

#[test]
fn cuts_the_text_at_a_stop_sequence_and_delivers_its_tokens() {
    let tokenizer = tiny_tokenizer();
    let tokens = bytes_of(&tokenizer, b"ab\n\nHc");
    let chunks = run(&tokenizer, ends(&["\n\nH"], &[]), false, &tokens);
    assert_eq!(texts(&chunks), [b"a".as_slice(), b"b", b""]);
    assert_eq!(chunks[2].tokens.len(), 3);
}

#[test]
fn a_stop_sequence_inside_a_token_cuts_that_token() {
    let tokenizer = tiny_tokenizer();
    let tokens = tokenizer.encode(" the");
    assert_eq!(tokens.len(), 1, "the vocabulary has this word");
    let chunks = run(&tokenizer, ends(&["h"], &[]), false, &tokens);
    assert_eq!(texts(&chunks), [b" t".as_slice()]);
    assert_eq!(chunks[0].tokens.len(), 1);
}

#[test]
fn a_false_start_of_a_stop_sequence_comes_out() {
    let tokenizer = tiny_tokenizer();
    let tokens = bytes_of(&tokenizer, b"\n\nx\n");
    let chunks = run(&tokenizer, ends(&["\n\nH"], &[]), false, &tokens);
    assert_eq!(texts(&chunks), [b"\n\nx".as_slice(), b"\n"]);
}

#[test]
fn a_stop_token_is_delivered_without_text() {
    let tokenizer = tiny_tokenizer();
    let tokens = bytes_of(&tokenizer, b"ab");
    let chunks = run(&tokenizer, ends(&[], &tokens[1..]), false, &tokens);
    assert_eq!(texts(&chunks), [b"a".as_slice(), b""]);
    assert_eq!(chunks[1].tokens[0].token, tokens[1]);
}

#[test]
fn delivers_all_at_the_end_in_bounded_chunks() {
    let tokenizer = tiny_tokenizer();
    let tokens = bytes_of(&tokenizer, "\u{e9}".repeat(300).as_bytes());
    let chunks = run(&tokenizer, ends(&[], &[]), true, &tokens);
    assert_eq!(
        chunks.iter().map(|c| c.tokens.len()).collect::<Vec<_>>(),
        [512, 88]
    );
    assert!(
        chunks
            .iter()
            .all(|chunk| std::str::from_utf8(&chunk.text).is_ok())
    );
}

#[test]
fn bytes_that_are_never_text_are_not_held_for_ever() {
    let tokenizer = tiny_tokenizer();
    let tokens = bytes_of(&tokenizer, &[0xf0; 1000]);
    let mut output = RawOutput::new(Arc::clone(&tokenizer), ends(&[], &[]), false);
    tokens.iter().for_each(|&token| {
        output.push(sampled(token));
    });
    assert_eq!(output.take(u64::MAX).unwrap().1.tokens.len(), 512);
}

#[test]
fn knows_where_a_character_is_unfinished() {
    for (bytes, inside) in [
        (b"a".as_slice(), false),
        (b"", false),
        (b"\xc3", true),
        (b"\xc3\xa9", false),
        (b"a\xf0\x9f\x92", true),
        (b"\x80\x80\x80", false),
        (b"\xff", false),
        (b"\xed\xa0", false),
    ] {
        assert_eq!(ends_inside_a_character(bytes), inside, "{bytes:x?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn every_token_is_delivered_once_and_the_text_is_that_before_the_stop(
        text in "[ab\u{e9}\u{1f496}]{0,30}",
        one in "[ab\u{e9}]{1,4}",
        two in "[ab\u{1f496}]{1,3}",
        final_only in proptest::bool::ANY,
        whole_words in proptest::bool::ANY,
    ) {
        let tokenizer = tiny_tokenizer();
        let tokens =
            if whole_words { tokenizer.encode(&text) } else { bytes_of(&tokenizer, text.as_bytes()) };
        let chunks = run(&tokenizer, ends(&[&one, &two], &[]), final_only, &tokens);
        let delivered: Vec<TokenId> =
            chunks.iter().flat_map(|chunk| &chunk.tokens).map(|sampled| sampled.token).collect();
        assert!(tokens.starts_with(&delivered));
        let shown = texts(&chunks).concat();
        let end = |stop: &String| text.find(stop.as_str()).map(|at| (at + stop.len(), stop.len()));
        let first = [&one, &two].into_iter().filter_map(end).min_by_key(|(end, len)| (*end, usize::MAX - len));
        match first {
            Some((end, length)) => assert_eq!(shown, &text.as_bytes()[..end - length]),
            None => {
                assert_eq!(shown, text.as_bytes());
                assert_eq!(delivered, tokens);
            }
        }
        for chunk in &chunks {
            assert!(std::str::from_utf8(&chunk.text).is_ok());
        }
    }
}
