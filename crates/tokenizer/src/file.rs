//! Reads tokenizer.json, and refuses whatever would not encode as this crate does.
//!
//! The vocabulary must be byte-level byte-pair encoding whose merges are exactly the cuts of
//! every token into two tokens, in the order of the ranks. Only then does merging by rank, which
//! is what [`crate::Tokenizer`] does, give the ids that the file describes.

mod merges;
mod node;
mod vocab;

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use serde_json::{Value, json};
use spec::TokenId;

use crate::error::Error;
use crate::ranks::Ranks;
use crate::specials::Specials;
use node::Node;

/// What a tokenizer file says, once checked.
pub(crate) struct Contents {
    /// The ordinary tokens.
    pub(crate) ranks: Ranks,
    /// The special tokens, with ids above the ordinary ones.
    pub(crate) specials: Specials,
    /// The regular expression that cuts a text into pieces.
    pub(crate) pattern: String,
}

/// The members of a JSON object, not yet parsed.
type Members<'a> = BTreeMap<String, &'a RawValue>;

/// Ids are below this, so that a table by id stays small.
const MAX_TOKENS: u32 = 1 << 24;

/// Reads a whole tokenizer.json.
pub(crate) fn read(bytes: &[u8]) -> Result<Contents, Error> {
    let malformed = |key| move |source| Error::Malformed { key, source };
    let mut top: Members<'_> = serde_json::from_slice(bytes).map_err(malformed("the file"))?;
    node::take(&mut top, "version")?.is(&json!("1.0"))?;
    for key in ["truncation", "padding", "normalizer"] {
        node::take(&mut top, key)?.is(&Value::Null)?;
    }
    node::take(&mut top, "decoder")?
        .field("type")?
        .is(&json!("ByteLevel"))?;
    let post = node::take(&mut top, "post_processor")?;
    if !post.is_null() {
        post.field("type")?.is(&json!("ByteLevel"))?;
    }
    let pattern = split_pattern(&node::take(&mut top, "pre_tokenizer")?)?;
    let added = node::take(&mut top, "added_tokens")?;
    let raw = top
        .remove("model")
        .ok_or_else(|| node::missing("model", "an object"))?;
    node::refuse_the_rest("", &top)?;

    let mut model: Members<'_> = serde_json::from_str(raw.get()).map_err(malformed("model"))?;
    check_model(&mut model)?;
    let mut part = |key, what| {
        model
            .remove(key)
            .ok_or_else(|| node::missing(&format!("model.{key}"), what))
    };
    let (vocab, merges) = (
        part("vocab", "an object")?,
        part("merges", "a list of pairs")?,
    );
    node::refuse_the_rest("model.", &model)?;
    let ranks = vocab::read(vocab)?;
    merges::check(merges, &ranks)?;
    let specials = read_added_tokens(&added, ranks.len())?;
    Ok(Contents {
        ranks,
        specials,
        pattern,
    })
}

/// Checks the settings of the model that change how a text is encoded.
fn check_model(model: &mut Members<'_>) -> Result<(), Error> {
    let expected = [
        ("type", json!("BPE")),
        ("dropout", Value::Null),
        ("unk_token", Value::Null),
        ("continuing_subword_prefix", Value::Null),
        ("end_of_word_suffix", Value::Null),
        ("fuse_unk", json!(false)),
        ("byte_fallback", json!(false)),
        // A piece that is a token becomes that token, whatever merging would make of it.
        ("ignore_merges", json!(true)),
    ];
    for (key, value) in expected {
        let mut node = node::take(model, key)?;
        node.key.insert_str(0, "model.");
        node.is(&value)?;
    }
    Ok(())
}

/// Returns the split pattern, if splitting and then byte-level is all that is done.
fn split_pattern(node: &Node) -> Result<String, Error> {
    node.field("type")?.is(&json!("Sequence"))?;
    let stages = node.field("pretokenizers")?.items()?;
    let [split, bytes] = &stages[..] else {
        return Err(node
            .field("pretokenizers")?
            .unexpected("a Split and a ByteLevel"));
    };
    split.field("type")?.is(&json!("Split"))?;
    split.field("behavior")?.is(&json!("Isolated"))?;
    split.field("invert")?.is(&json!(false))?;
    bytes.field("type")?.is(&json!("ByteLevel"))?;
    bytes.field("add_prefix_space")?.is(&json!(false))?;
    bytes.field("use_regex")?.is(&json!(false))?;
    split
        .field("pattern")?
        .field("Regex")?
        .text()
        .map(str::to_owned)
}

/// Reads the special tokens, whose ids follow those of the `num_ranks` ordinary ones.
fn read_added_tokens(node: &Node, num_ranks: usize) -> Result<Specials, Error> {
    let mut tokens = BTreeMap::new();
    let mut names = BTreeMap::new();
    for item in node.items()? {
        item.field("special")?.is(&json!(true))?;
        for key in ["single_word", "lstrip", "rstrip", "normalized"] {
            item.field(key)?.is(&json!(false))?;
        }
        let (id, content) = (item.field("id")?, item.field("content")?);
        let number = id
            .number()
            .filter(|&number| number as usize >= num_ranks && number < MAX_TOKENS)
            .ok_or_else(|| id.unexpected(&format!("an id of {num_ranks} or more")))?;
        let name = content.text()?;
        if !name.starts_with(|first: char| first.is_ascii()) {
            return Err(content.unexpected("a name that begins with an ASCII character"));
        }
        if tokens.insert(TokenId(number), name.into()).is_some() {
            return Err(id.unexpected("an id that no other added token has"));
        }
        if names.insert(name.to_owned(), number).is_some() {
            return Err(content.unexpected("a name that no other added token has"));
        }
    }
    if tokens.is_empty() {
        return Err(node.unexpected("at least one special token"));
    }
    Ok(Specials::new(tokens))
}
