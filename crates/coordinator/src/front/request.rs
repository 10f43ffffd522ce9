//! A request whose every field has been checked, and its form towards the lead.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use proto::internal;
use spec::{Sampling, TokenId};

use super::fingerprint::fingerprint;
use super::limits;
use crate::wire;

/// One generation, fit to be followed at the lead.
#[derive(Clone, Debug)]
pub(super) struct Request {
    /// Names the generation, towards the client and the lead.
    pub(super) id: String,
    /// Whether the client has named it.
    pub(super) is_named: bool,
    /// Whether its output is read as harmony messages.
    pub(super) is_chat: bool,
    /// At least one token, all in the vocabulary, shorter than the context.
    pub(super) prompt: Arc<[TokenId]>,
    /// Passes [`Sampling::check`].
    pub(super) sampling: Sampling,
    /// Most tokens to generate; 0 computes the prompt only.
    pub(super) max_tokens: u32,
    /// What ends it before.
    pub(super) ends: Ends,
    /// Separates prefix caches.
    pub(super) cache_salt: String,
    /// Place among those that wait.
    pub(super) priority: i32,
    /// Longest wait in the queue.
    pub(super) queue_timeout: Option<Duration>,
    /// How it is delivered.
    pub(super) delivery: Delivery,
    /// What it was asked for in other words, for the fingerprint.
    pub(super) asked: Asked,
}

/// What ends a generation before its limit.
#[derive(Clone, Debug)]
pub(super) struct Ends {
    /// The model's own end tokens, unless they are ignored.
    pub(super) eos: Vec<TokenId>,
    /// The request's stop tokens.
    pub(super) tokens: Vec<TokenId>,
    /// The request's stop sequences, none empty.
    pub(super) sequences: Vec<String>,
    /// Most tokens of reasoning, before the answer is made to begin.
    pub(super) max_reasoning: Option<u32>,
}

/// How one call wants its events; another call for the same request may want them otherwise.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Delivery {
    /// Whether the client wants all at the end.
    pub(super) final_only: bool,
    /// Whether deltas of a chat name their tokens.
    pub(super) token_ids: bool,
    /// How long text may be held to be sent together.
    pub(super) coalesce: Duration,
    /// How long the generation goes on without this client; `None` ends it.
    pub(super) keep: Option<Duration>,
    /// Only events with a higher number are sent.
    pub(super) resume_after: u64,
}

/// What was asked for where the checked request says what it comes to.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    /// The fingerprint of the model's weights: its name may be another elsewhere.
    pub(super) model: String,
    /// The limit that was given: what an unset one becomes depends on the server.
    pub(super) max_tokens: Option<u32>,
    /// Whether the model's own end tokens are ordinary ones.
    pub(super) ignore_eos: bool,
    /// See the API.
    pub(super) session_id: String,
    /// The client's labels.
    pub(super) labels: BTreeMap<String, String>,
}

impl Ends {
    /// Says whether this token ends the generation and so is no text.
    pub(super) fn at(&self, token: TokenId) -> bool {
        self.eos.contains(&token) || self.tokens.contains(&token)
    }
}

impl Request {
    /// Says whether logprobs of the prompt are wanted.
    pub(super) fn wants_prompt_logprobs(&self) -> bool {
        self.sampling.prompt_logprobs.is_some()
    }

    /// Says whether logprobs of any tokens are wanted.
    pub(super) fn wants_logprobs(&self) -> bool {
        self.sampling.logprobs.is_some() || self.wants_prompt_logprobs()
    }

    /// Returns the client's labels as the log has them: on one line, and no longer than a limit.
    pub(super) fn labels(&self) -> String {
        in_words(&self.asked.labels)
    }

    /// Returns the record that the lead takes.
    pub(super) fn to_record(&self, principal: &str) -> internal::SequenceRecord {
        let stop_tokens = self.ends.eos.iter().chain(&self.ends.tokens);
        let front = FrontRecord {
            is_chat: self.is_chat,
            ends: self.ends.clone(),
            prompt_logprobs: self.wants_prompt_logprobs(),
        };
        internal::SequenceRecord {
            request_id: self.id.clone(),
            principal: principal.to_owned(),
            tokens: self.prompt.iter().map(|token| token.0).collect(),
            sampling: Some(wire::sampling_to_wire(&self.sampling)),
            stop: Some(internal::Stop {
                max_tokens: self.max_tokens,
                stop_tokens: stop_tokens.map(|token| token.0).collect(),
            }),
            cache_salt: self.cache_salt.clone(),
            fingerprint: fingerprint(self).to_vec(),
            front: front.to_bytes(),
            priority: self.priority,
        }
    }
}

/// What a front needs to tell tokens as events; the lead keeps it for whichever front asks.
#[derive(Clone, Debug)]
pub(super) struct FrontRecord {
    pub(super) is_chat: bool,
    pub(super) ends: Ends,
    pub(super) prompt_logprobs: bool,
}

impl FrontRecord {
    fn to_bytes(&self) -> Vec<u8> {
        let ids = |tokens: &[TokenId]| tokens.iter().map(|token| token.0).collect();
        let record = internal::FrontRecord {
            chat: self.is_chat,
            eos: ids(&self.ends.eos),
            stop_tokens: ids(&self.ends.tokens),
            stop_sequences: self.ends.sequences.clone(),
            prompt_logprobs: self.prompt_logprobs,
            max_reasoning_tokens: self.ends.max_reasoning,
        };
        record.encode_to_vec()
    }

    /// Reads what a front has written, of this version or another; `None` if it is none.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let record = internal::FrontRecord::decode(bytes).ok()?;
        let tokens = |ids: Vec<u32>| ids.into_iter().map(TokenId).collect();
        Some(Self {
            is_chat: record.chat,
            ends: Ends {
                eos: tokens(record.eos),
                tokens: tokens(record.stop_tokens),
                sequences: record.stop_sequences,
                max_reasoning: record.max_reasoning_tokens,
            },
            prompt_logprobs: record.prompt_logprobs,
        })
    }
}

fn in_words(labels: &BTreeMap<String, String>) -> String {
    let mut said = format!("{labels:?}");
    said.truncate(said.floor_char_boundary(limits::MAX_LOGGED_LABELS));
    said
}

#[cfg(test)]
mod tests {
    use super::{in_words, limits};

    #[test]
    fn labels_take_one_line_of_the_log_and_not_much_of_it() {
        let labels = |value: String| [("team".to_owned(), value)].into();
        let said = in_words(&labels("a\nb".into()));
        assert_eq!(said, r#"{"team": "a\nb"}"#);
        let long = in_words(&labels("\u{e9}".repeat(limits::MAX_NAME_BYTES)));
        assert!(long.len() <= limits::MAX_LOGGED_LABELS, "{}", long.len());
    }
}
