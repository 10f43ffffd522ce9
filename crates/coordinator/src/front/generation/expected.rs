//! What a lead has to say next; one that says anything else has lost or repeated something.

use std::sync::Arc;

use spec::{TokenId, TokenLogprob};

use crate::front::error::Error;

/// The positions that come next.
#[derive(Debug)]
pub(super) struct Expected {
    pub(super) prompt: Arc<[TokenId]>,
    /// The next position whose logprob comes; the prompt's length if none does.
    pub(super) prompt_position: usize,
    /// Position of the next token.
    pub(super) token_position: usize,
}

impl Expected {
    /// Takes logprobs of the prompt from this position on.
    ///
    /// # Errors
    ///
    /// [`Error::LeadProtocol`].
    pub(super) fn take_prompt(
        &mut self,
        first: u32,
        logprobs: &[TokenLogprob],
    ) -> Result<(), Error> {
        let start = self.prompt_position;
        let due = self.prompt.get(start..).unwrap_or_default();
        if first as usize != start || logprobs.len() > due.len() {
            return Err(Error::LeadProtocol {
                why: "logprobs of the wrong prompt positions",
            });
        }
        if logprobs
            .iter()
            .zip(due)
            .any(|(logprob, token)| logprob.token != *token)
        {
            return Err(Error::LeadProtocol {
                why: "logprobs of another prompt",
            });
        }
        self.prompt_position += logprobs.len();
        Ok(())
    }

    /// Takes so many tokens from this position on.
    ///
    /// # Errors
    ///
    /// [`Error::LeadProtocol`].
    pub(super) fn take_tokens(&mut self, first: u32, count: usize) -> Result<(), Error> {
        if first as usize != self.token_position || count == 0 {
            return Err(Error::LeadProtocol {
                why: "tokens of the wrong positions",
            });
        }
        if self.prompt_position < self.prompt.len() {
            return Err(Error::LeadProtocol {
                why: "tokens before all logprobs of the prompt",
            });
        }
        self.token_position += count;
        Ok(())
    }
}
