//! The JSON of a text completion.
//!
//! Source: OpenAI's API reference, "Completions (legacy)", and what lm-evaluation-harness reads:
//! `token_logprobs` and `top_logprobs` by position, the first of an echoed prompt null.

use serde::{Serialize, Serializer};

use super::super::unix_time;
use crate::front::convert;
use crate::front::model::Model;

/// About as many bytes has a token's name with its logprob.
const LOGPROB_BYTES: usize = 30;

/// A completion, or a piece of one in a stream.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Completion {
    pub(super) id: String,
    object: &'static str,
    created: u64,
    model: String,
    system_fingerprint: String,
    choices: Vec<Choice>,
    /// Null in the earlier pieces of a stream whose last one has it; else absent from pieces.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<Usage>>,
}

impl Completion {
    /// Makes an envelope without contents, under a name of its own.
    pub(super) fn new(model: &Model, usage_follows: bool) -> Self {
        Self {
            id: format!("cmpl-{}", convert::fresh_id()),
            object: "text_completion",
            created: unix_time(),
            model: model.name.clone(),
            system_fingerprint: model.system_fingerprint(),
            choices: Vec::new(),
            usage: usage_follows.then_some(None),
        }
    }

    /// Puts contents into a copy of the envelope.
    pub(super) fn with(&self, choices: Vec<Choice>, usage: Option<Usage>) -> Self {
        Self {
            choices,
            usage: usage.map(Some).or(self.usage),
            ..self.clone()
        }
    }

    /// Returns about how many bytes of JSON this is.
    pub(super) fn bytes(&self) -> usize {
        self.choices.iter().map(Choice::bytes).sum()
    }
}

/// One sequence, or a piece of it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Choice {
    pub(super) text: String,
    pub(super) index: usize,
    pub(super) logprobs: Option<Logprobs>,
    pub(super) finish_reason: Option<&'static str>,
}

impl Choice {
    /// Makes a piece without contents.
    pub(super) fn empty(index: usize) -> Self {
        Self {
            text: String::new(),
            index,
            logprobs: None,
            finish_reason: None,
        }
    }

    fn bytes(&self) -> usize {
        let tops = self.logprobs.iter().flat_map(|found| &found.top_logprobs);
        let alternatives = tops.map(|top| 1 + top.as_ref().map_or(0, |Top(top)| top.len()));
        self.text.len() + LOGPROB_BYTES * alternatives.sum::<usize>()
    }

    /// Appends the next piece.
    pub(super) fn append(&mut self, piece: Self) {
        self.text.push_str(&piece.text);
        if let Some(more) = piece.logprobs {
            self.logprobs.get_or_insert_default().append(more);
        }
        self.finish_reason = piece.finish_reason.or(self.finish_reason);
    }
}

/// Logprobs, position by position; all lists are equally long.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Logprobs {
    /// Characters of the text before each token.
    pub(super) text_offset: Vec<usize>,
    pub(super) token_logprobs: Vec<Option<f32>>,
    pub(super) tokens: Vec<String>,
    pub(super) top_logprobs: Vec<Option<Top>>,
}

impl Logprobs {
    fn append(&mut self, more: Self) {
        self.text_offset.extend(more.text_offset);
        self.token_logprobs.extend(more.token_logprobs);
        self.tokens.extend(more.tokens);
        self.top_logprobs.extend(more.top_logprobs);
    }
}

/// Alternatives by their text, best first.
#[derive(Clone, Debug)]
pub(super) struct Top(pub(super) Vec<(String, f32)>);

impl Serialize for Top {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(token, logprob)| (token, logprob)))
    }
}

/// Tokens of all sequences together.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: PromptDetails,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
struct PromptDetails {
    cached_tokens: u64,
}

impl Usage {
    /// Counts a prompt, which all its choices share.
    pub(super) fn add_prompt(&mut self, usage: &proto::v1::Usage) {
        self.prompt_tokens += u64::from(usage.prompt_tokens);
        self.total_tokens += u64::from(usage.prompt_tokens);
        self.prompt_tokens_details.cached_tokens += u64::from(usage.cached_prompt_tokens);
    }

    /// Counts what a sequence generated.
    pub(super) fn add_output(&mut self, usage: &proto::v1::Usage) {
        self.completion_tokens += u64::from(usage.output_tokens);
        self.total_tokens += u64::from(usage.output_tokens);
    }
}
