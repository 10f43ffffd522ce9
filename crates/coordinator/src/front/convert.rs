//! The public wire types to checked types, once, at the edge.
//!
//! Every field of a request is either used or refused by name: a client that asks for something
//! that does not exist here learns it before anything runs.

pub(super) mod chat;
mod delivery;
mod identity;
pub(super) mod reply;
mod scheduling;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use proto::v1;
use spec::{Sampling, TokenId};
use tonic::Code;

use super::error::Error;
use super::generate::Origin;
use super::limits;
use super::model::Model;
use super::request::{Asked, Ends, Request};
use crate::status::{reason, status};

pub(super) use identity::{fresh_id, hash64};

/// The parameters that Generate and Chat have in common, as they came.
pub(super) struct Common {
    pub(super) model: String,
    pub(super) request_id: String,
    /// Whether the client has named it, so that it may call again.
    pub(super) is_named: bool,
    pub(super) sampling: Option<v1::SamplingParams>,
    pub(super) stop: Option<v1::StopParams>,
    pub(super) constraint: Option<v1::OutputConstraint>,
    pub(super) logprobs: Option<v1::LogprobParams>,
    pub(super) stream: Option<v1::StreamParams>,
    pub(super) scheduling: Option<v1::SchedulingParams>,
    pub(super) labels: HashMap<String, String>,
    pub(super) is_chat: bool,
    /// The least that may be asked for as `max_output_tokens`.
    pub(super) least_output: u32,
}

impl Common {
    /// Checks everything that can be checked before the prompt is known.
    pub(super) fn check(self, model: &Model) -> Result<Parameters, Error> {
        model.check_name(&self.model, "model")?;
        if self
            .constraint
            .is_some_and(|constraint| constraint.constraint.is_some())
        {
            return Err(Error::unsupported(
                "constraint",
                "output cannot be constrained yet",
            ));
        }
        let delivery = delivery::delivery(self.stream.unwrap_or_default(), self.is_named)?;
        let id = identity::request_id(self.request_id)?;
        let labels = labels(self.labels)?;
        let mut sampling = sampling(self.sampling.unwrap_or_default(), &id, model)?;
        logprobs(self.logprobs.unwrap_or_default(), &mut sampling)?;
        let given = self.stop.unwrap_or_default();
        let (max_tokens, ignore_eos) = (given.max_output_tokens, given.ignore_eos);
        if max_tokens.is_some_and(|max| max < self.least_output) {
            let why = "0 leaves nothing to generate; 1 is the least";
            return Err(Error::field("stop.max_output_tokens", why));
        }
        if given.max_reasoning_tokens.is_some() && !self.is_chat {
            let why = "is for Chat: a raw generation has no channels";
            return Err(Error::field("stop.max_reasoning_tokens", why));
        }
        let ends = ends(given, model)?;
        let queueing = scheduling::queueing(self.scheduling.unwrap_or_default())?;
        let asked = Asked {
            model: model.weights_fingerprint.clone(),
            max_tokens,
            ignore_eos,
            session_id: queueing.session_id,
            labels,
        };
        Ok(Parameters {
            request: Request {
                id,
                is_named: self.is_named,
                is_chat: self.is_chat,
                prompt: Arc::from([]),
                sampling,
                max_tokens: 0,
                ends,
                cache_salt: queueing.cache_salt,
                priority: queueing.priority,
                queue_timeout: queueing.timeout,
                delivery,
                asked,
            },
        })
    }
}

/// The checked parameters of a request whose prompt is yet to come.
pub(super) struct Parameters {
    request: Request,
}

impl Parameters {
    /// Joins the parameters with a prompt in token ids.
    pub(super) fn with_prompt(self, prompt: Vec<TokenId>, model: &Model) -> Result<Request, Error> {
        let room = prompt_room(prompt.len(), model)?;
        let (asked, most) = (self.request.asked.max_tokens, model.max_output);
        if let Some(max) = asked.filter(|max| *max > room) {
            let why = format!("{max} is more than the {room} tokens the context leaves");
            return Err(Error::field("stop.max_output_tokens", why));
        }
        if let Some(max) = asked.filter(|max| *max > most) {
            let why = format!("{max} is more than this server's limit of {most}");
            return Err(Error::field("stop.max_output_tokens", why));
        }
        Ok(Request {
            prompt: Arc::from(prompt),
            max_tokens: asked.unwrap_or(room.min(most)),
            ..self.request
        })
    }
}

/// Checks the name of a generation that is asked about.
pub(super) fn generation_id(id: &str) -> Result<(), Error> {
    short_text(id, "generation_id")?;
    match id.is_empty() {
        true => Err(Error::field("generation_id", "must be given")),
        false => Ok(()),
    }
}

/// Says that no lead knows a generation.
pub(super) fn unknown_generation(id: &str) -> Error {
    let why = format!("generation {id:?} is not live and did not end lately");
    Error::Lead(Box::new(status(
        Code::NotFound,
        reason::GENERATION_UNKNOWN,
        why,
        None,
    )))
}

/// Splits a raw request into what has to be tokenized and the rest.
pub(super) fn generate(
    request: v1::GenerateRequest,
    origin: Origin,
) -> Result<(v1::generate_request::Prompt, Common), Error> {
    let missing = || Error::field("prompt", "token_ids or text must be given");
    let prompt = request.prompt.ok_or_else(missing)?;
    let common = Common {
        model: request.model,
        is_named: origin == Origin::Grpc && !request.request_id.is_empty(),
        request_id: request.request_id,
        sampling: request.sampling,
        stop: request.stop,
        constraint: request.constraint,
        logprobs: request.logprobs,
        stream: request.stream,
        scheduling: request.scheduling,
        labels: request.labels,
        is_chat: false,
        least_output: match origin {
            Origin::Grpc => 1,
            Origin::Http => 0,
        },
    };
    Ok((prompt, common))
}

/// Checks a list of token ids against the vocabulary.
pub(super) fn token_ids(ids: &[u32], field: &str, model: &Model) -> Result<Vec<TokenId>, Error> {
    if let Some(at) = ids.iter().position(|&id| id >= model.vocab_size) {
        let why = format!(
            "{} is outside the vocabulary of {}",
            ids[at], model.vocab_size
        );
        return Err(Error::field(format!("{field}[{at}]"), why));
    }
    Ok(ids.iter().copied().map(TokenId).collect())
}

/// Returns how many tokens the context leaves after a prompt of at least this many.
pub(super) fn prompt_room(length: usize, model: &Model) -> Result<u32, Error> {
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    if length == 0 {
        return Err(Error::field(
            "prompt",
            "is empty; at least one token is needed",
        ));
    }
    if length >= model.max_context {
        let why = format!(
            "{length} tokens leave no room in the context of {} tokens",
            model.max_context
        );
        return Err(Error::field("prompt", why));
    }
    Ok(model.max_context - length)
}

fn sampling(given: v1::SamplingParams, id: &str, model: &Model) -> Result<Sampling, Error> {
    let default = &model.default_sampling;
    if given.logit_bias.len() > limits::MAX_LOGIT_BIAS {
        let why = format!("at most {} entries are taken", limits::MAX_LOGIT_BIAS);
        return Err(Error::field("sampling.logit_bias", why));
    }
    let mut logit_bias: Vec<_> = given
        .logit_bias
        .into_iter()
        .map(|(token, bias)| (TokenId(token), bias))
        .collect();
    logit_bias.sort_unstable_by_key(|(token, _)| *token);
    let sampling = Sampling {
        temperature: given.temperature.unwrap_or(default.temperature),
        top_p: given.top_p.unwrap_or(default.top_p),
        top_k: given.top_k.unwrap_or(default.top_k),
        min_p: given.min_p.unwrap_or(default.min_p),
        presence_penalty: given.presence_penalty.unwrap_or(default.presence_penalty),
        frequency_penalty: given.frequency_penalty.unwrap_or(default.frequency_penalty),
        repetition_penalty: given
            .repetition_penalty
            .unwrap_or(default.repetition_penalty),
        logit_bias,
        seed: given.seed.unwrap_or_else(|| hash64(id)),
        choice: 0,
        logprobs: None,
        prompt_logprobs: None,
    };
    sampling
        .check(model.vocab_size as usize)
        .map_err(|error| Error::field(format!("sampling.{}", error.field), error.why))?;
    Ok(sampling)
}

fn logprobs(given: v1::LogprobParams, sampling: &mut Sampling) -> Result<(), Error> {
    if given.top > spec::MAX_TOP_LOGPROBS {
        let why = format!("{} is above {}", given.top, spec::MAX_TOP_LOGPROBS);
        return Err(Error::field("logprobs.top", why));
    }
    if given.top > 0 && !given.output && !given.prompt {
        return Err(Error::field(
            "logprobs.top",
            "needs logprobs.output or logprobs.prompt",
        ));
    }
    sampling.logprobs = given.output.then_some(given.top);
    sampling.prompt_logprobs = given.prompt.then_some(given.top);
    Ok(())
}

/// Checks what ends a generation before its limit.
fn ends(given: v1::StopParams, model: &Model) -> Result<Ends, Error> {
    if given.stop_sequences.len() > limits::MAX_STOP_SEQUENCES {
        let why = format!("at most {} are taken", limits::MAX_STOP_SEQUENCES);
        return Err(Error::field("stop.stop_sequences", why));
    }
    for (index, sequence) in given.stop_sequences.iter().enumerate() {
        if sequence.is_empty() || sequence.len() > limits::MAX_STOP_BYTES {
            let why = format!(
                "has {} bytes, not 1 to {}",
                sequence.len(),
                limits::MAX_STOP_BYTES
            );
            return Err(Error::field(format!("stop.stop_sequences[{index}]"), why));
        }
    }
    if given.stop_token_ids.len() > limits::MAX_STOP_TOKENS {
        let why = format!("at most {} are taken", limits::MAX_STOP_TOKENS);
        return Err(Error::field("stop.stop_token_ids", why));
    }
    Ok(Ends {
        eos: if given.ignore_eos {
            Vec::new()
        } else {
            model.eos_tokens.clone()
        },
        tokens: token_ids(&given.stop_token_ids, "stop.stop_token_ids", model)?,
        sequences: given.stop_sequences,
        max_reasoning: given.max_reasoning_tokens,
    })
}

/// Checks the client's labels.
fn labels(given: HashMap<String, String>) -> Result<BTreeMap<String, String>, Error> {
    if given.len() > limits::MAX_LABELS {
        return Err(Error::field(
            "labels",
            format!("at most {} are taken", limits::MAX_LABELS),
        ));
    }
    for (key, value) in &given {
        if key.len() > limits::MAX_LABEL_KEY_BYTES || value.len() > limits::MAX_NAME_BYTES {
            let why = format!(
                "keys have at most {} bytes and values at most {}",
                limits::MAX_LABEL_KEY_BYTES,
                limits::MAX_NAME_BYTES
            );
            return Err(Error::field("labels", why));
        }
    }
    Ok(BTreeMap::from_iter(given))
}

/// Checks the length of a name or another short text.
pub(super) fn short_text(text: &str, field: &str) -> Result<(), Error> {
    if text.len() <= limits::MAX_NAME_BYTES {
        return Ok(());
    }
    let why = format!(
        "has {} bytes, at most {} are taken",
        text.len(),
        limits::MAX_NAME_BYTES
    );
    Err(Error::field(field, why))
}

/// Reads an enum's number.
pub(super) fn known<E: TryFrom<i32>>(number: i32, field: &str) -> Result<E, Error> {
    E::try_from(number).map_err(|_| Error::field(field, format!("{number} has no meaning here")))
}

/// Reads a time.
///
/// # Errors
///
/// [`Error::Field`] if it is below zero, or above `most`.
fn duration(given: prost_types::Duration, field: &str, most: Duration) -> Result<Duration, Error> {
    // Its conversion and its text take the number below zero from zero, which the least has no room for.
    if given.seconds < 0 || given.nanos < 0 {
        return Err(Error::field(
            field,
            "is below zero, which is no time to wait",
        ));
    }
    let time = Duration::try_from(given);
    let time = time.map_err(|_| Error::field(field, format!("{given} is no time to wait")))?;
    if time > most {
        return Err(Error::field(
            field,
            format!("{time:?} is more than {most:?}"),
        ));
    }
    Ok(time)
}
