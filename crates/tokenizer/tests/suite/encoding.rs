//! Text to ids, against tokenizers, tiktoken and openai-harmony.

use sha2::{Digest as _, Sha256};
use spec::TokenId;
use tokenizer::{Error, Tokenizer, synthetic};

use crate::fixtures::{FILES, PUBLISHED, cases, ids, text};

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[test]
fn writes_the_published_files_byte_for_byte() {
    // SHA-256 of the files of openai/gpt-oss-20b and -120b on the Hugging Face Hub.
    let published = [
        (
            &FILES.tokenizer_json,
            "0614fe83cadab421296e664e1f48f4261fa8fef6e03e63bb75c20f38e37d07d3",
        ),
        (
            &FILES.tokenizer_config,
            "9279e942392b742d633c7adbb89ebe002c98399db8926a7af5125c726f404070",
        ),
        (
            &FILES.special_tokens_map,
            "dd5e191d20c12d2fee1da5bae14ca1db0f5f4215300af691f23cdee97120a293",
        ),
    ];
    for (file, sum) in published {
        assert_eq!(sha256(file), sum);
    }
    assert_eq!(FILES.num_tokens, 200_019);
    let ids = [FILES.bos, FILES.pad, FILES.eos, FILES.call].map(|id| id.0);
    assert_eq!(ids, [199_998, 199_999, 200_002, 200_012]);
}

#[test]
fn gives_the_ids_of_the_reference_encoders() {
    let cases = cases(include_str!("../data/encode.json"));
    assert!(cases.len() >= 250);
    for case in &cases {
        let text = text(case, "text");
        let encoded = if case["special"] == true {
            PUBLISHED.encode_with_special(text)
        } else {
            PUBLISHED.encode(text)
        };
        assert_eq!(encoded, ids(&case["ids"]), "{text:?}");
        assert_eq!(PUBLISHED.decode(&encoded), text.as_bytes(), "{text:?}");
    }
}

#[test]
fn cut_down_vocabularies_give_the_ids_of_hugging_faces_tokenizers() {
    let cases = cases(include_str!("../data/cut_vocabulary.json"));
    for case in &cases {
        let size = usize::try_from(case["size"].as_u64().expect("a size")).expect("small");
        let files = synthetic::tokenizer_json(size).expect("large enough");
        assert_eq!(
            sha256(&files.tokenizer_json),
            text(case, "sha256"),
            "vocabulary of {size}"
        );
        let tokenizer = Tokenizer::from_bytes(&files.tokenizer_json).expect("loads");
        assert_eq!((tokenizer.vocab_len(), files.num_tokens), (size, size));
        let (texts, expected) = (case["texts"].as_array(), case["ids"].as_array());
        let pairs: Vec<_> = texts
            .into_iter()
            .flatten()
            .zip(expected.into_iter().flatten())
            .collect();
        assert!(pairs.len() > 30);
        for (text, expected) in pairs {
            let text = text.as_str().expect("a text");
            assert_eq!(
                tokenizer.encode(text),
                ids(expected),
                "{text:?}, vocabulary of {size}"
            );
            assert_eq!(tokenizer.decode(&ids(expected)), text.as_bytes());
        }
        for (id, name) in tokenizer.specials() {
            assert_eq!(tokenizer.encode_with_special(name), [id]);
            assert!(tokenizer.encode(name).len() > 1, "{name} stays text");
        }
        let named =
            [files.bos, files.pad, files.eos, files.call].map(|id| tokenizer.token_bytes(id));
        let names = ["<|startoftext|>", "<|endoftext|>", "<|return|>", "<|call|>"];
        assert_eq!(named, names.map(|name| Some(name.as_bytes())));
    }
}

#[test]
fn refuses_a_vocabulary_without_room_for_bytes_and_specials() {
    let error = synthetic::tokenizer_json(265).expect_err("too small");
    assert!(matches!(
        error,
        Error::VocabularyTooSmall {
            found: 265,
            minimum: 266
        }
    ));
}

#[test]
fn the_fingerprint_follows_the_vocabulary_and_nothing_else() {
    let of = |size| {
        let files = synthetic::tokenizer_json(size).expect("large enough");
        let compact: serde_json::Value =
            serde_json::from_slice(&files.tokenizer_json).expect("is JSON");
        let pretty = Tokenizer::from_bytes(&files.tokenizer_json).expect("loads");
        let compact = Tokenizer::from_bytes(compact.to_string().as_bytes()).expect("loads");
        assert_eq!(pretty.fingerprint(), compact.fingerprint());
        pretty.fingerprint().to_owned()
    };
    assert_eq!(of(300).len(), 64);
    assert_ne!(of(300), of(301));
    // As published; a change here makes every older worker "another tokenizer".
    assert_eq!(
        PUBLISHED.fingerprint(),
        "062ab868b71e33a3cc7c44b494bb3b31a9a81c9cc4d972feb145f86b4a9abe82"
    );
}

#[test]
fn ids_without_a_string_are_nothing() {
    assert_eq!(PUBLISHED.vocab_len(), 200_019);
    for id in [200_019, 201_087, u32::MAX].map(TokenId) {
        assert_eq!(PUBLISHED.token_bytes(id), None);
        assert!(!PUBLISHED.is_special(id));
        assert_eq!(
            PUBLISHED.decode(&[TokenId(24_912), id, TokenId(2_375)]),
            b"hello world"
        );
    }
}

#[test]
fn endless_runs_are_encoded_and_come_back() {
    // The second one is beyond what the split engine can hold: it is encoded in halves.
    for text in [
        "a".repeat(100_000),
        format!("x{}y", " ".repeat(1_100_000)),
        "!é".repeat(50_000),
    ] {
        let ids = PUBLISHED.encode(&text);
        assert!(
            PUBLISHED.decode(&ids) == text.as_bytes(),
            "{:?}…",
            &text[..20]
        );
    }
    assert_eq!(PUBLISHED.encode(&"a".repeat(100_000)).len(), 12_500);
}

#[test]
fn a_pattern_that_explodes_still_encodes_all_bytes() {
    let files = synthetic::tokenizer_json(266).expect("large enough");
    let mut file: serde_json::Value = serde_json::from_slice(&files.tokenizer_json).expect("JSON");
    file["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] =
        serde_json::json!("(?:(a+)+)+(?=b)|.");
    let tokenizer = Tokenizer::from_bytes(file.to_string().as_bytes()).expect("loads");
    let text = "a".repeat(40) + "é";
    assert_eq!(tokenizer.decode(&tokenizer.encode(&text)), text.as_bytes());
}

#[test]
fn no_token_is_longer_than_the_longest() {
    let longest = PUBLISHED.longest_token();
    let lengths = (0..199_998).filter_map(|id| PUBLISHED.token_bytes(TokenId(id)).map(<[u8]>::len));
    assert_eq!(lengths.max(), Some(longest));
    assert_eq!(PUBLISHED.encode(&" ".repeat(longest)).len(), 1);
}
