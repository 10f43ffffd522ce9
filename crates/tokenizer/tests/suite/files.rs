//! Tokenizer files that are not what they should be: each complaint names the key.

use std::error::Error as _;
use std::sync::{Arc, LazyLock};

use serde_json::{Value, json};
use tokenizer::harmony::Harmony;
use tokenizer::{Error, Tokenizer, synthetic};

/// A small valid file.
static SMALL: LazyLock<Value> = LazyLock::new(|| {
    let files = synthetic::tokenizer_json(300).expect("large enough");
    serde_json::from_slice(&files.tokenizer_json).expect("is JSON")
});

/// Returns the whole complaint, causes included, about the small file after a change.
fn complaint(change: impl FnOnce(&mut Value)) -> String {
    let mut file = SMALL.clone();
    change(&mut file);
    let error = Tokenizer::from_bytes(file.to_string().as_bytes()).expect_err("is refused");
    error
        .source()
        .map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

#[track_caller]
fn check(pointer: &str, value: Value, expected: &str) {
    let found = complaint(|file| match file.pointer_mut(pointer) {
        Some(place) => *place = value,
        None => {
            let (parent, key) = pointer.rsplit_once('/').expect("begins with /");
            file.pointer_mut(parent).expect("the parent is there")[key] = value;
        }
    });
    assert!(found.contains(expected), "{pointer}: {found}");
}

#[test]
fn refuses_other_kinds_of_tokenizers() {
    check(
        "/version",
        json!("2.0"),
        "version: expected \"1.0\", found \"2.0\"",
    );
    check(
        "/normalizer",
        json!({"type": "NFC"}),
        "normalizer: expected null",
    );
    check(
        "/truncation",
        json!({"max_length": 5}),
        "truncation: expected null",
    );
    check(
        "/model/type",
        json!("Unigram"),
        "model.type: expected \"BPE\", found \"Unigram\"",
    );
    check(
        "/model/ignore_merges",
        json!(false),
        "model.ignore_merges: expected true, found false",
    );
    check(
        "/model/byte_fallback",
        json!(true),
        "model.byte_fallback: expected false",
    );
    check(
        "/model/unk_token",
        json!("<unk>"),
        "model.unk_token: expected null",
    );
    check("/model/dropout", json!(0.1), "model.dropout: expected null");
    check("/model/new", json!(1), "model.new: expected no such key");
    check("/new", json!([1]), "new: expected no such key, found [1]");
    check(
        "/decoder/type",
        json!("Metaspace"),
        "decoder.type: expected \"ByteLevel\"",
    );
    check(
        "/decoder",
        Value::Null,
        "decoder: expected an object, found null",
    );
    check(
        "/post_processor/type",
        json!("TemplateProcessing"),
        "post_processor.type",
    );
}

#[test]
fn refuses_unknown_pre_tokenizers() {
    check(
        "/pre_tokenizer/type",
        json!("Whitespace"),
        "pre_tokenizer.type: expected \"Sequence\"",
    );
    check(
        "/pre_tokenizer/pretokenizers",
        json!([]),
        "pretokenizers: expected a Split and a ByteLevel",
    );
    let first = "/pre_tokenizer/pretokenizers/0";
    let named = "pre_tokenizer.pretokenizers[0]";
    check(
        &format!("{first}/type"),
        json!("Digits"),
        &format!("{named}.type: expected \"Split\""),
    );
    check(
        &format!("{first}/behavior"),
        json!("Removed"),
        &format!("{named}.behavior: expected"),
    );
    check(
        &format!("{first}/invert"),
        json!(true),
        &format!("{named}.invert: expected false"),
    );
    check(
        &format!("{first}/pattern"),
        json!({"String": " "}),
        &format!("{named}.pattern.Regex: expected a text"),
    );
    check(
        &format!("{first}/pattern/Regex"),
        json!("(a"),
        "(a is not a usable split pattern",
    );
    check(
        "/pre_tokenizer/pretokenizers/1/use_regex",
        json!(true),
        "pretokenizers[1].use_regex",
    );
    check(
        "/pre_tokenizer/pretokenizers/1/add_prefix_space",
        json!(true),
        "[1].add_prefix_space",
    );
}

#[test]
fn refuses_a_vocabulary_with_gaps_doubles_or_foreign_characters() {
    check(
        "/model/vocab/a",
        json!(9_999),
        "model.vocab: expected the ids 0 to 278, each once, found \"a\" with id 9999",
    );
    check(
        "/model/vocab/a",
        json!(1),
        "model.vocab: expected the ids 0 to 278, each once",
    );
    check("/model/vocab/a", json!(-1), "model.vocab is malformed");
    check(
        "/model/vocab/",
        json!(279),
        "each once, found \"\" with id 279",
    );
    check(
        "/model/vocab/\u{2603}",
        json!(279),
        "'☃' stands for no byte",
    );
    let found = complaint(|file| {
        let vocab = file["model"]["vocab"].as_object_mut().expect("an object");
        vocab.remove("a");
        vocab.insert("aaa".to_owned(), json!(64));
    });
    assert!(
        found.contains("a token for each of the 256 bytes, found none for byte 0x61"),
        "{found}"
    );
    let twice = serde_json::to_string(&*SMALL)
        .expect("JSON")
        .replace("\"!\":0", "\"!\":0,\"!\":279");
    let error = Tokenizer::from_bytes(twice.as_bytes())
        .expect_err("is refused")
        .to_string();
    assert!(error.contains("every token once"), "{error}");
    check("/model/vocab", json!([]), "model.vocab is malformed");
    let found = complaint(|file| drop(file["model"].as_object_mut().expect("one").remove("vocab")));
    assert!(
        found.contains("model.vocab: expected an object, found nothing"),
        "{found}"
    );
}

#[test]
fn refuses_merges_that_disagree_with_the_ranks() {
    let last = SMALL["model"]["merges"].as_array().expect("a list").len() - 1;
    let found = complaint(|file| {
        file["model"]["merges"]
            .as_array_mut()
            .expect("a list")
            .swap(3, 4)
    });
    assert!(found.contains("model.merges[3]: expected \""), "{found}");
    let found = complaint(|file| {
        drop(
            file["model"]["merges"]
                .as_array_mut()
                .expect("a list")
                .pop(),
        )
    });
    assert!(
        found.contains(&format!("model.merges[{last}]")) && found.contains("the end of the list"),
        "{found}"
    );
    let found = complaint(|file| {
        file["model"]["merges"]
            .as_array_mut()
            .expect("a list")
            .push(json!(["a", "b"]));
    });
    assert!(
        found.contains(&format!("model.merges[{}]: expected the end", last + 1)),
        "{found}"
    );
    check("/model/merges/0", json!(7), "model.merges is malformed");
    check("/model/merges/0", json!(["a"]), "model.merges[0]");
    check(
        "/model/merges/0",
        json!(["a", "b", "c"]),
        "model.merges is malformed",
    );
}

#[test]
fn takes_merges_in_the_older_form() {
    let mut file = SMALL.clone();
    for merge in file["model"]["merges"].as_array_mut().expect("a list") {
        *merge = json!(format!(
            "{} {}",
            merge[0].as_str().expect("a text"),
            merge[1].as_str().expect("a text")
        ));
    }
    Tokenizer::from_bytes(file.to_string().as_bytes()).expect("loads");
}

#[test]
fn refuses_added_tokens_it_would_treat_otherwise() {
    check(
        "/added_tokens",
        json!([]),
        "added_tokens: expected at least one special token",
    );
    check(
        "/added_tokens/0/id",
        json!(5),
        "added_tokens[0].id: expected an id of 279 or more, found 5",
    );
    check(
        "/added_tokens/0/id",
        json!(280),
        "added_tokens[1].id: expected an id that no other",
    );
    check(
        "/added_tokens/0/id",
        json!(4_000_000_000_u32),
        "added_tokens[0].id",
    );
    check(
        "/added_tokens/0/special",
        json!(false),
        "added_tokens[0].special: expected true",
    );
    check(
        "/added_tokens/2/lstrip",
        json!(true),
        "added_tokens[2].lstrip: expected false",
    );
    check(
        "/added_tokens/0/content",
        json!("<|endoftext|>"),
        "added_tokens[1].content: expected a name",
    );
    check(
        "/added_tokens/0/content",
        json!("é"),
        "added_tokens[0].content: expected a name that begins",
    );
    check(
        "/added_tokens/0/content",
        json!(""),
        "added_tokens[0].content",
    );
}

#[test]
fn names_the_file_and_the_key_of_what_cannot_be_read() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("tokenizer.json");
    let error = Tokenizer::from_file(&path).expect_err("there is none");
    assert!(
        matches!(&error, Error::Unreadable { path: named, .. } if *named == path),
        "{error}"
    );
    std::fs::write(&path, SMALL.to_string()).expect("writes");
    assert_eq!(Tokenizer::from_file(&path).expect("loads").vocab_len(), 300);
    std::fs::write(&path, "{}").expect("writes");
    let error = Tokenizer::from_file(&path).expect_err("holds nothing");
    assert!(
        error.to_string().contains(&*path.to_string_lossy()),
        "{error}"
    );
    let why = error.source().expect("there is a reason").to_string();
    assert!(why.contains("version: expected"), "{why}");
    for broken in ["", "[]", "{", "{\"version\": 1", "\u{0}"] {
        assert!(
            Tokenizer::from_bytes(broken.as_bytes()).is_err(),
            "{broken:?}"
        );
    }
    let found = complaint(|file| drop(file.as_object_mut().expect("one").remove("model")));
    assert!(
        found.contains("model: expected an object, found nothing"),
        "{found}"
    );
}

#[test]
fn a_vocabulary_without_a_control_token_is_no_harmony_vocabulary() {
    let mut file = SMALL.clone();
    for token in file["added_tokens"].as_array_mut().expect("a list") {
        if token["content"] == "<|channel|>" {
            token["content"] = json!("<|canal|>");
        }
    }
    let tokenizer = Tokenizer::from_bytes(file.to_string().as_bytes()).expect("loads");
    let error = Harmony::new(Arc::new(tokenizer)).expect_err("is refused");
    assert!(
        matches!(
            error,
            Error::MissingSpecial {
                name: "<|channel|>"
            }
        ),
        "{error}"
    );
}
