//! The fingerprint of a request: what makes a repeated request id the same request.
//!
//! It must come out the same on every coordinator and in every build, so the bytes are written here
//! field by field, in this order, and never depend on a library's encoding. Each is preceded by its
//! length as 8 bytes; all numbers are little-endian. Requests that come to the same are the same: a
//! text and its token ids, a parameter that is left out and its default. But `max_output_tokens` left out
//! stays that, as its default follows from a coordinator's settings. Not part of it are how the events
//! are delivered (`stream`), when they must have come (the deadline, `queue_timeout`), and the request id
//! itself, under which it is filed.

use sha2::{Digest as _, Sha256};
use spec::TokenId;

use super::request::Request;

/// Names what is hashed; another list of fields needs another name.
const DOMAIN: &str = "conclave.v1.request/1";

/// Returns the SHA-256 of a request's fields.
pub(super) fn fingerprint(request: &Request) -> [u8; 32] {
    let (sampling, asked) = (&request.sampling, &request.asked);
    let mut fields = Fields(Sha256::new());
    fields.text(DOMAIN);
    fields.text(if request.is_chat { "chat" } else { "generate" });
    fields.text(&asked.model);
    fields.tokens(request.prompt.iter().copied());
    for value in [
        sampling.temperature,
        sampling.top_p,
        sampling.min_p,
        sampling.presence_penalty,
        sampling.frequency_penalty,
        sampling.repetition_penalty,
    ] {
        fields.float(value);
    }
    fields.number(Some(sampling.top_k.into()));
    fields.number(Some(sampling.seed));
    fields.number(Some(sampling.choice.into()));
    fields.number(sampling.logprobs.map(u64::from));
    fields.number(sampling.prompt_logprobs.map(u64::from));
    fields.tokens(sampling.logit_bias.iter().map(|(token, _)| *token));
    for (_, bias) in &sampling.logit_bias {
        fields.float(*bias);
    }
    fields.number(asked.max_tokens.map(u64::from));
    fields.number(request.ends.max_reasoning.map(u64::from));
    fields.number(Some(asked.ignore_eos.into()));
    let mut stop_tokens = request.ends.tokens.clone();
    stop_tokens.sort_unstable();
    stop_tokens.dedup();
    fields.tokens(stop_tokens.into_iter());
    let mut sequences: Vec<&String> = request.ends.sequences.iter().collect();
    sequences.sort_unstable();
    sequences.dedup();
    fields.number(Some(sequences.len() as u64));
    sequences.into_iter().for_each(|text| fields.text(text));
    fields.text(&request.cache_salt);
    fields.text(&asked.session_id);
    fields.number(Some(i64::from(request.priority).cast_unsigned()));
    fields.number(Some(asked.labels.len() as u64));
    for (key, value) in &asked.labels {
        fields.text(key);
        fields.text(value);
    }
    fields.0.finalize().into()
}

struct Fields(Sha256);

impl Fields {
    fn bytes(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// A number; one that is not given has no bytes.
    fn number(&mut self, number: Option<u64>) {
        match number {
            Some(number) => self.bytes(&number.to_le_bytes()),
            None => self.bytes(&[]),
        }
    }

    /// The two zeros are one.
    fn float(&mut self, number: f32) {
        self.bytes(&(number + 0.0).to_bits().to_le_bytes());
    }

    fn tokens(&mut self, tokens: impl ExactSizeIterator<Item = TokenId>) {
        self.0.update((4 * tokens.len() as u64).to_le_bytes());
        for token in tokens {
            self.0.update(token.0.to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use spec::{Sampling, TokenId};

    use super::fingerprint;
    use crate::front::request::{Asked, Delivery, Ends, Request};

    fn request() -> Request {
        Request {
            id: "r".into(),
            is_named: true,
            is_chat: false,
            prompt: Arc::from([TokenId(1), TokenId(70_000)]),
            sampling: Sampling {
                seed: 7,
                logit_bias: vec![(TokenId(3), -1.5)],
                logprobs: Some(2),
                ..Sampling::default()
            },
            max_tokens: 10,
            ends: Ends {
                eos: vec![TokenId(5)],
                tokens: vec![TokenId(9), TokenId(8)],
                sequences: vec!["b".into(), "a".into()],
                max_reasoning: None,
            },
            cache_salt: "salt".into(),
            priority: -3,
            queue_timeout: None,
            delivery: Delivery::default(),
            asked: Asked {
                model: "gpt-oss-20b".into(),
                max_tokens: Some(10),
                ignore_eos: false,
                session_id: "s".into(),
                labels: [("k".into(), "v".into())].into(),
            },
        }
    }

    fn hex(request: &Request) -> String {
        let digits = fingerprint(request).map(|byte| format!("{byte:02x}"));
        digits.concat()
    }

    #[test]
    fn never_changes() {
        // Another value means that coordinators of two versions refuse each other's repetitions.
        let pinned = "7e6d05a2d7498065753ebf4d60e4cc46ff2fa1a266fe9c635159bc418f82dfd9";
        assert_eq!(hex(&request()), pinned);
    }

    #[test]
    fn is_that_of_what_was_asked_for_and_not_of_how_it_is_delivered() {
        let one = request();
        let mut same = request();
        same.id = "other".into();
        same.delivery.final_only = true;
        same.delivery.resume_after = 9;
        same.queue_timeout = Some(std::time::Duration::from_secs(1));
        same.ends.tokens.reverse();
        same.ends.sequences.reverse();
        // What the context leaves is another number elsewhere.
        same.max_tokens = 11;
        same.sampling.min_p = -0.0;
        assert_eq!(hex(&one), hex(&same));
    }

    #[test]
    fn differs_in_every_field() {
        type Change = fn(&mut Request);
        let changes: [Change; 16] = [
            |r| r.is_chat = true,
            |r| r.prompt = Arc::from([TokenId(1)]),
            |r| r.sampling.temperature = 0.5,
            |r| r.sampling.top_k = 1,
            |r| r.sampling.seed = 8,
            |r| r.sampling.choice = 1,
            |r| r.sampling.logprobs = None,
            |r| r.sampling.prompt_logprobs = Some(0),
            |r| r.sampling.logit_bias[0].1 = 1.0,
            |r| r.asked.max_tokens = None,
            |r| r.ends.max_reasoning = Some(0),
            |r| r.asked.ignore_eos = true,
            |r| r.ends.sequences = vec!["ab".into()],
            |r| r.cache_salt = "salts".into(),
            |r| r.priority = 3,
            |r| r.asked.labels = [("kv".into(), String::new())].into(),
        ];
        let mut seen = std::collections::BTreeSet::from([hex(&request())]);
        for change in changes {
            let mut changed = request();
            change(&mut changed);
            assert!(seen.insert(hex(&changed)), "{changed:?}");
        }
    }
}
