//! An HTTP client that does not turn refusals into errors.

use std::io::{BufRead, BufReader};
use std::time::Duration;

use serde_json::Value;

/// Longest a test waits for an answer, on a machine that may be busy.
const PATIENCE: Duration = Duration::from_secs(120);

/// Status and body.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body, if it is JSON.
    pub json: Value,
    /// The body.
    pub text: String,
}

fn agent(patience: Duration) -> ureq::Agent {
    let config = ureq::Agent::config_builder();
    config
        .http_status_as_error(false)
        .timeout_global(Some(patience))
        .build()
        .into()
}

fn answer(response: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Answer {
    let mut response = response.expect("the server answers");
    let status = response.status().as_u16();
    let text = response
        .body_mut()
        .read_to_string()
        .expect("the answer is text");
    let json = serde_json::from_str(&text).unwrap_or(Value::Null);
    Answer { status, json, text }
}

/// Asks for a page.
///
/// # Panics
///
/// If nothing answers.
#[must_use]
pub fn get(url: &str) -> Answer {
    answer(agent(PATIENCE).get(url).call())
}

/// Posts JSON.
///
/// # Panics
///
/// If nothing answers.
#[must_use]
pub fn post(url: &str, body: &Value) -> Answer {
    post_within(url, body, PATIENCE)
}

/// Posts JSON and waits for the answer so long and no longer.
///
/// # Panics
///
/// If nothing answers in time.
#[must_use]
pub fn post_within(url: &str, body: &Value, limit: Duration) -> Answer {
    answer(agent(limit).post(url).send_json(body))
}

/// Posts JSON and hands the data of each server-sent event to `each`, until the stream ends.
///
/// # Panics
///
/// If nothing answers, the answer is a refusal, or the stream breaks.
pub fn post_stream(url: &str, body: &Value, mut each: impl FnMut(&str)) {
    let mut response = agent(PATIENCE)
        .post(url)
        .send_json(body)
        .expect("the server answers");
    assert_eq!(
        response.status().as_u16(),
        200,
        "{}",
        response.body_mut().read_to_string().unwrap_or_default()
    );
    for line in BufReader::new(response.body_mut().as_reader()).lines() {
        let line = line.expect("the stream goes on to its end");
        if let Some(event) = line.strip_prefix("data: ") {
            each(event);
        }
    }
}
