//! A completion as it streams, with something happening meanwhile.

use e2e::{Cluster, post_stream};
use serde_json::{Value, json};

/// The parallel lists of a completion's `logprobs`.
const LISTS: [&str; 4] = ["tokens", "text_offset", "token_logprobs", "top_logprobs"];

/// All pieces of a stream, put together.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Streamed {
    pub(crate) text: String,
    /// See [`LISTS`]; empty if they were not asked for.
    pub(crate) logprobs: [Vec<Value>; 4],
}

impl Streamed {
    fn add(&mut self, choice: &Value) {
        self.text
            .push_str(choice["text"].as_str().unwrap_or_default());
        for (all, list) in self.logprobs.iter_mut().zip(LISTS) {
            let piece = choice["logprobs"][list].as_array();
            all.extend(piece.into_iter().flatten().cloned());
        }
    }
}

/// A long greedy completion.
pub(crate) fn greedy() -> Value {
    json!({"prompt": "a story", "max_tokens": 200, "temperature": 0, "ignore_eos": true})
}

/// Streams an answer and calls `meanwhile` once, after the event numbered `at` from 1.
pub(crate) fn stream(
    cluster: &Cluster,
    body: &Value,
    at: usize,
    meanwhile: impl FnOnce(),
) -> Streamed {
    let mut body = body.clone();
    body["stream"] = true.into();
    let (mut streamed, mut events, mut meanwhile) = (Streamed::default(), 0, Some(meanwhile));
    let mut is_done = false;
    post_stream(&cluster.url("/v1/completions"), &body, |event| {
        if event == "[DONE]" {
            is_done = true;
            return;
        }
        let event: Value = serde_json::from_str(event).unwrap();
        assert!(event.get("error").is_none(), "{event}");
        streamed.add(&event["choices"][0]);
        events += 1;
        if events == at
            && let Some(meanwhile) = meanwhile.take()
        {
            meanwhile();
        }
    });
    assert!(is_done, "the stream ends with [DONE]");
    assert!(meanwhile.is_none(), "the stream had but {events} events");
    streamed
}
