//! Tokenizer files for checkpoints with random weights: the published ones, or cut down.
//!
//! The first N tokens of o200k are closed under merging for every N (each token is the join of
//! two earlier ones), so a cut-down file is a smaller tokenizer of the same kind.

use std::sync::LazyLock;

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use spec::TokenId;

use crate::byte_chars::ByteChars;
use crate::error::Error;
use crate::ranks::{Ranks, cuts};

/// The tokenizer files of a synthetic checkpoint, and the ids its configuration names.
#[derive(Clone, Debug)]
pub struct SyntheticTokenizer {
    /// `tokenizer.json`.
    pub tokenizer_json: Vec<u8>,
    /// `tokenizer_config.json`.
    pub tokenizer_config: Vec<u8>,
    /// `special_tokens_map.json`.
    pub special_tokens_map: Vec<u8>,
    /// Number of tokens: at most the vocabulary size asked for.
    pub num_tokens: usize,
    /// `<|startoftext|>`, the beginning of a text.
    pub bos: TokenId,
    /// `<|endoftext|>`, the padding and an end of generation.
    pub pad: TokenId,
    /// `<|return|>`, the end of generation.
    pub eos: TokenId,
    /// `<|call|>`, the end of generation at a tool call.
    pub call: TokenId,
}

/// Number of byte-pair tokens of o200k.
const NUM_RANKS: usize = 199_998;

/// The special tokens in the order of their ids; an empty name is a reserved one.
const SPECIALS: [&str; 21] = [
    "startoftext",
    "endoftext",
    "",
    "",
    "return",
    "constrain",
    "",
    "channel",
    "start",
    "end",
    "message",
    "",
    "",
    "",
    "call",
    "",
    "",
    "",
    "",
    "",
    "endofprompt",
];

/// Number of special tokens with a meaning.
const NUM_NAMED: usize = 10;

/// The split pattern of o200k: words with their case and contractions (two forms), numbers of up
/// to three digits, other symbols, line ends, blanks.
const PATTERN: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|",
    r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);

/// Writes the tokenizer files for a model with `vocab_size` rows; the same bytes every time.
///
/// From 200,019 rows on these are gpt-oss's published files, byte for byte. Below, the vocabulary
/// is the first tokens of o200k and then the special ones; those with a reserved name are left
/// out where they would not fit.
///
/// # Errors
///
/// [`Error::VocabularyTooSmall`] below 266 rows: 256 bytes and ten special tokens.
///
/// # Panics
///
/// Never: the ranks inside tiktoken-rs are complete.
pub fn tokenizer_json(vocab_size: usize) -> Result<SyntheticTokenizer, Error> {
    let minimum = 256 + NUM_NAMED;
    if vocab_size < minimum {
        return Err(Error::VocabularyTooSmall {
            found: vocab_size,
            minimum,
        });
    }
    let with_reserved = vocab_size >= 256 + SPECIALS.len();
    let num_specials = if with_reserved {
        SPECIALS.len()
    } else {
        NUM_NAMED
    };
    let ranks = O200K.first(NUM_RANKS.min(vocab_size - num_specials));
    let kept = SPECIALS
        .iter()
        .filter(|name| with_reserved || !name.is_empty());
    let specials: Vec<(usize, String)> = (ranks.len()..)
        .zip(kept)
        .map(|(id, name)| match *name {
            "" => (id, format!("<|reserved_{id}|>")),
            name => (id, format!("<|{name}|>")),
        })
        .collect();
    let id = |name: &str| {
        let found = specials.iter().find(|(_, special)| special == name);
        let id = found.expect("the named special tokens are always there").0;
        TokenId(u32::try_from(id).expect("ids are below 200,019"))
    };
    Ok(SyntheticTokenizer {
        tokenizer_json: pretty(&tokenizer_file(&ranks, &specials), ""),
        tokenizer_config: pretty(&config_file(&specials), "\n"),
        special_tokens_map: pretty(
            &json!({ "bos_token": BOS, "eos_token": EOS, "pad_token": PAD }),
            "\n",
        ),
        num_tokens: ranks.len() + specials.len(),
        bos: id(BOS),
        pad: id(PAD),
        eos: id(EOS),
        call: id("<|call|>"),
    })
}

const BOS: &str = "<|startoftext|>";
const PAD: &str = "<|endoftext|>";
const EOS: &str = "<|return|>";

/// The tokens of o200k, as tiktoken-rs carries them. Read once: that takes a third of a second.
static O200K: LazyLock<Ranks> = LazyLock::new(|| {
    let core = tiktoken_rs::o200k_base().expect("the embedded ranks are complete");
    let mut ranks = Ranks::default();
    for rank in (0_u32..).take(NUM_RANKS) {
        ranks.push(&core.decode_bytes(&[rank]).expect("every rank has a token"));
    }
    ranks
});

/// Writes JSON as the published files have it: two blanks a level, everything printable as is.
fn pretty(value: &impl Serialize, end: &str) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(value).expect("all keys are texts");
    bytes.extend_from_slice(end.as_bytes());
    bytes
}

/// `tokenizer.json`, keys in the published order.
#[derive(Serialize)]
struct TokenizerFile<'a> {
    version: &'static str,
    truncation: (),
    padding: (),
    added_tokens: Vec<AddedToken<'a>>,
    normalizer: (),
    pre_tokenizer: Value,
    post_processor: Value,
    decoder: Value,
    model: Model<'a>,
}

#[derive(Serialize)]
struct AddedToken<'a> {
    id: usize,
    content: &'a str,
    single_word: bool,
    lstrip: bool,
    rstrip: bool,
    normalized: bool,
    special: bool,
}

#[derive(Serialize)]
struct Model<'a> {
    r#type: &'static str,
    dropout: (),
    unk_token: (),
    continuing_subword_prefix: (),
    end_of_word_suffix: (),
    fuse_unk: bool,
    byte_fallback: bool,
    ignore_merges: bool,
    vocab: Vocab<'a>,
    merges: Merges<'a>,
}

fn tokenizer_file<'a>(ranks: &'a Ranks, specials: &'a [(usize, String)]) -> TokenizerFile<'a> {
    let added = |(id, content): &'a (usize, String)| AddedToken {
        id: *id,
        content,
        single_word: false,
        lstrip: false,
        rstrip: false,
        normalized: false,
        special: true,
    };
    let byte_level = |add_prefix_space: bool, trim_offsets: bool, use_regex: bool| {
        json!({ "type": "ByteLevel", "add_prefix_space": add_prefix_space,
                "trim_offsets": trim_offsets, "use_regex": use_regex })
    };
    let split = json!({ "type": "Split", "pattern": { "Regex": PATTERN },
                        "behavior": "Isolated", "invert": false });
    TokenizerFile {
        version: "1.0",
        truncation: (),
        padding: (),
        added_tokens: specials.iter().map(added).collect(),
        normalizer: (),
        pre_tokenizer: json!({ "type": "Sequence",
                               "pretokenizers": [split, byte_level(false, true, false)] }),
        post_processor: byte_level(true, false, true),
        decoder: byte_level(true, true, true),
        model: Model {
            r#type: "BPE",
            dropout: (),
            unk_token: (),
            continuing_subword_prefix: (),
            end_of_word_suffix: (),
            fuse_unk: false,
            byte_fallback: false,
            ignore_merges: true,
            vocab: Vocab(ranks),
            merges: Merges(ranks),
        },
    }
}

/// The object from spelling to id, in the order of the ids.
struct Vocab<'a>(&'a Ranks);

impl Serialize for Vocab<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let chars = ByteChars::new();
        serializer.collect_map(
            self.0
                .iter()
                .map(|(rank, token)| (chars.encode(token), rank)),
        )
    }
}

/// The list of all cuts of all tokens.
struct Merges<'a>(&'a Ranks);

impl Serialize for Merges<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let chars = ByteChars::new();
        let index = self.0.index();
        let pairs = self.0.iter().flat_map(|(_, token)| cuts(token, &index));
        serializer.collect_seq(pairs.map(|(a, b)| [chars.encode(a), chars.encode(b)]))
    }
}

/// `tokenizer_config.json`, keys in the published order.
#[derive(Serialize)]
struct ConfigFile {
    added_tokens_decoder: Value,
    bos_token: &'static str,
    clean_up_tokenization_spaces: bool,
    eos_token: &'static str,
    extra_special_tokens: Value,
    model_input_names: [&'static str; 2],
    model_max_length: Box<RawValue>,
    pad_token: &'static str,
    tokenizer_class: &'static str,
}

fn config_file(specials: &[(usize, String)]) -> ConfigFile {
    let token = |(id, content): &(usize, String)| {
        let flags = json!({ "content": content, "lstrip": false, "normalized": false,
                            "rstrip": false, "single_word": false, "special": true });
        (id.to_string(), flags)
    };
    // 1e30 as a whole number: "no limit", in the Transformers library.
    let no_limit = "1000000000000000019884624838656".to_owned();
    ConfigFile {
        added_tokens_decoder: specials.iter().map(token).collect(),
        bos_token: BOS,
        clean_up_tokenization_spaces: false,
        eos_token: EOS,
        extra_special_tokens: json!({}),
        model_input_names: ["input_ids", "attention_mask"],
        model_max_length: RawValue::from_string(no_limit).expect("a number is JSON"),
        pad_token: PAD,
        tokenizer_class: "PreTrainedTokenizerFast",
    }
}
