//! A request whose every field has been checked, and its form towards the lead.

use std::sync::Arc;

use proto::internal;
use spec::{Sampling, TokenId};

use crate::wire;

/// One generation, fit to be followed at the lead.
#[derive(Clone, Debug)]
pub(super) struct Request {
    /// Names the generation, towards the client and the lead.
    pub(super) id: String,
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
    /// Whether the client wants all at the end.
    pub(super) final_only: bool,
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

    /// Returns the record that the lead takes.
    pub(super) fn to_lead(&self, principal: &str) -> internal::FollowRequest {
        let stop_tokens = self.ends.eos.iter().chain(&self.ends.tokens);
        internal::FollowRequest {
            request_id: self.id.clone(),
            principal: principal.to_owned(),
            tokens: self.prompt.iter().map(|token| token.0).collect(),
            sampling: Some(wire::sampling_to_wire(&self.sampling)),
            stop: Some(internal::Stop {
                // The lead generates at least one; where none is wanted it is not delivered.
                max_tokens: self.max_tokens.max(1),
                stop_tokens: stop_tokens.map(|token| token.0).collect(),
            }),
            cache_salt: self.cache_salt.clone(),
        }
    }
}
