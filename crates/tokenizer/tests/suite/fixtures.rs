//! The vocabulary and the fixture files, loaded once for all tests.

use std::sync::{Arc, LazyLock};

use serde_json::Value;
use spec::TokenId;
use tokenizer::Tokenizer;
use tokenizer::harmony::{Channel, Content, Harmony, Message, Role};
use tokenizer::synthetic::{self, SyntheticTokenizer};

/// The published files of gpt-oss.
pub(crate) static FILES: LazyLock<SyntheticTokenizer> =
    LazyLock::new(|| synthetic::tokenizer_json(201_088).expect("large enough"));

/// The published vocabulary.
pub(crate) static PUBLISHED: LazyLock<Arc<Tokenizer>> = LazyLock::new(|| {
    Arc::new(Tokenizer::from_bytes(&FILES.tokenizer_json).expect("the published file loads"))
});

/// Harmony over the published vocabulary.
pub(crate) static HARMONY: LazyLock<Harmony> =
    LazyLock::new(|| Harmony::new(Arc::clone(&PUBLISHED)).expect("all control tokens are there"));

/// Returns the cases of a fixture file.
pub(crate) fn cases(json: &str) -> Vec<Value> {
    let fixture: Value = serde_json::from_str(json).expect("fixtures are JSON");
    fixture["cases"]
        .as_array()
        .expect("a list of cases")
        .clone()
}

/// Returns a list of token ids.
pub(crate) fn ids(value: &Value) -> Vec<TokenId> {
    let id = |id: &Value| TokenId(u32::try_from(id.as_u64().expect("an id")).expect("32 bits"));
    value
        .as_array()
        .expect("a list of ids")
        .iter()
        .map(id)
        .collect()
}

/// Returns the text behind a key.
pub(crate) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key]
        .as_str()
        .unwrap_or_else(|| panic!("{key} is no text in {value}"))
}

/// Returns a message in openai-harmony's JSON form, its content read by `content`.
pub(crate) fn message(value: &Value, content: impl FnOnce(&Value) -> Vec<Content>) -> Message {
    let field = |key: &str| value[key].as_str().map(str::to_owned);
    Message {
        role: Role::from_word(text(value, "role")).expect("a role"),
        name: field("name"),
        channel: value["channel"].as_str().map(Channel::from),
        recipient: field("recipient"),
        content_type: field("content_type"),
        content: content(&value["content"]),
    }
}
