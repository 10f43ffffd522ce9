//! A client as the API means it: one that names its request, repeats the call when its stream breaks,
//! at whichever coordinator answers, and counts what it is sent.

use std::time::Duration;

use proto::v1::generate_request::Prompt;
use proto::v1::generate_response::Event;
use proto::v1::generation_service_client::GenerationServiceClient;
use proto::v1::{DisconnectPolicy, GenerateRequest, SamplingParams, StopParams, StreamParams};
use sockets::Dialer;
use tokio::time::Instant;
use tonic::transport::Endpoint;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// How long a client tries for one token more.
const PATIENCE: Duration = Duration::from_secs(100);

/// How long it waits for any message: longer than two heartbeats.
const SILENCE: Duration = Duration::from_secs(25);

/// What a client was sent of a generation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Its tokens, each once.
    pub tokens: Vec<u32>,
    /// Their text.
    pub text: Vec<u8>,
    /// Calls that it took.
    pub calls: usize,
}

/// Generates from a prompt under a name. `fronts` are tried in turn, from the one numbered `first`;
/// `progress` is told of each token.
///
/// # Errors
///
/// In words: what a client cannot go on after, or tokens that are missing or sent twice.
pub async fn generate(
    fronts: &[String],
    first: usize,
    (name, prompt, max_tokens): (&str, &str, u32),
    progress: impl Fn(),
) -> Result<Received, String> {
    let dialer = Dialer::default();
    generate_by(&dialer, fronts, first, (name, prompt, max_tokens), progress).await
}

/// As [`generate`], connecting by `dialer`.
///
/// # Errors
///
/// As [`generate`].
pub async fn generate_by(
    dialer: &Dialer,
    fronts: &[String],
    first: usize,
    (name, prompt, max_tokens): (&str, &str, u32),
    progress: impl Fn(),
) -> Result<Received, String> {
    let mut received = Received::default();
    let (mut sequence, mut news) = (0, Instant::now());
    loop {
        let front = &fronts[(first + received.calls) % fronts.len()];
        received.calls += 1;
        let request = request(name, prompt, max_tokens, sequence);
        let before = received.tokens.len();
        let read = read(
            (dialer, front),
            request,
            &mut received,
            &mut sequence,
            &progress,
        )
        .await;
        if received.tokens.len() > before {
            news = Instant::now();
        }
        match read {
            Ok(Some(())) => return Ok(received),
            Ok(None) => {}
            Err(Broken::Wrong(why)) => return Err(format!("{name}: {why}")),
            Err(Broken::Status(status)) if is_our_mistake(&status) => {
                return Err(format!("{name}: {status} at {front}"));
            }
            Err(Broken::Status(status)) => {
                let passing = [
                    Code::Unavailable,
                    Code::Unknown,
                    Code::Cancelled,
                    Code::Internal,
                ];
                if !passing.contains(&status.code()) || news.elapsed() > PATIENCE {
                    let calls = received.calls;
                    return Err(format!("{name}: {status} at {front}, after {calls} calls"));
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Says whether a coordinator has called it its own mistake; the transport's words come without details.
fn is_our_mistake(status: &Status) -> bool {
    status.code() == Code::Internal && status.get_details_error_info().is_some()
}

fn request(name: &str, prompt: &str, max_tokens: u32, after: u64) -> GenerateRequest {
    GenerateRequest {
        request_id: name.to_owned(),
        prompt: Some(Prompt::Text(prompt.to_owned())),
        sampling: Some(SamplingParams {
            temperature: Some(1.0),
            seed: Some(7),
            ..Default::default()
        }),
        stop: Some(StopParams {
            max_output_tokens: Some(max_tokens),
            ignore_eos: true,
            ..Default::default()
        }),
        stream: Some(StreamParams {
            resume_after: Some(after),
            on_disconnect: DisconnectPolicy::Keep.into(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

enum Broken {
    Status(Box<Status>),
    Wrong(String),
}

impl From<Status> for Broken {
    fn from(status: Status) -> Self {
        Self::Status(Box::new(status))
    }
}

/// Reads one call's stream; `None` if it ended too early.
async fn read(
    (dialer, front): (&Dialer, &str),
    request: GenerateRequest,
    received: &mut Received,
    sequence: &mut u64,
    progress: &impl Fn(),
) -> Result<Option<()>, Broken> {
    let silent = |_| Status::unavailable("silence");
    let endpoint = Endpoint::from_shared(front.to_owned());
    let endpoint = endpoint.map_err(|error| Broken::Wrong(error.to_string()))?;
    let endpoint = endpoint.connect_timeout(Duration::from_secs(2));
    let channel = dialer.connect(&endpoint).await;
    let channel = channel.map_err(|error| Status::unavailable(error.to_string()))?;
    let mut client = GenerationServiceClient::new(channel);
    let stream = tokio::time::timeout(SILENCE, client.generate(request)).await;
    let mut stream = stream.map_err(silent)??.into_inner();
    loop {
        let message = tokio::time::timeout(SILENCE, stream.message()).await;
        let Some(message) = message.map_err(silent)?? else {
            return Ok(None);
        };
        if let Some(Event::Tokens(chunk)) = &message.event {
            // `started` is number 1, and each token counts one.
            let first = message.sequence - 1 - chunk.token_ids.len() as u64;
            let known = received.tokens.len();
            if first != known as u64 {
                let why = format!("token {first} came after {known} tokens");
                return Err(Broken::Wrong(why));
            }
            received.tokens.extend(&chunk.token_ids);
            received.text.extend(&chunk.text);
            chunk.token_ids.iter().for_each(|_| progress());
        }
        *sequence = message.sequence;
        if matches!(message.event, Some(Event::Finished(_))) {
            let events = received.tokens.len() as u64 + 2;
            if message.sequence != events {
                let why = format!(
                    "the last of {events} events has number {}",
                    message.sequence
                );
                return Err(Broken::Wrong(why));
            }
            return Ok(Some(()));
        }
    }
}
