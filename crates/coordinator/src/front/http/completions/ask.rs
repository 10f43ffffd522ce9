//! The body of `POST /v1/completions`, read and turned into the requests that Generate would make.

use std::mem;
use std::sync::Arc;

use proto::v1::{self, generate_request::Prompt};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::body::{Body, clipped, value};
use super::super::error::HttpError;
use super::super::list::{list, map};
use super::size;
use crate::front::error::Error;
use crate::front::request::Request;
use crate::front::{Shared, generate, limits};

/// OpenAI's default of `max_tokens`.
const DEFAULT_MAX_TOKENS: u32 = 16;

/// Fields that would change the answer and cannot be served, each with the values that ask for
/// nothing.
const UNSUPPORTED: [(&str, &[&str], &str); 17] = [
    ("suffix", &["\"\""], "the model only continues a text"),
    (
        "messages",
        &["[]"],
        "a conversation belongs to another endpoint",
    ),
    (
        "tools",
        &["[]"],
        "a conversation belongs to another endpoint",
    ),
    (
        "response_format",
        &["{}", r#"{"type":"text"}"#],
        "output cannot be constrained yet",
    ),
    (
        "structured_outputs",
        &["{}"],
        "output cannot be constrained yet",
    ),
    ("guided_json", &["\"\""], "output cannot be constrained yet"),
    (
        "guided_regex",
        &["\"\""],
        "output cannot be constrained yet",
    ),
    ("guided_choice", &["[]"], "output cannot be constrained yet"),
    (
        "guided_grammar",
        &["\"\""],
        "output cannot be constrained yet",
    ),
    ("allowed_token_ids", &[], "use logit_bias"),
    ("bad_words", &["[]"], "use logit_bias"),
    ("use_beam_search", &["false"], "there is no beam search"),
    ("min_tokens", &["0"], "use ignore_eos or stop_token_ids"),
    (
        "prompt_embeds",
        &["\"\"", "[]"],
        "give the prompt as text or token ids",
    ),
    ("prompt_logprobs", &["false"], "use echo with logprobs"),
    ("truncate_prompt_tokens", &[], "prompts are never cut"),
    (
        "include_stop_str_in_output",
        &["false"],
        "a stop sequence is never part of the text",
    ),
];

/// Fields that can be served.
const NAMES: &[&str] = &[
    "model",
    "prompt",
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "seed",
    "logprobs",
    "echo",
    "stop",
    "stop_token_ids",
    "ignore_eos",
    "stream",
    "stream_options",
    "n",
    "best_of",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "logit_bias",
    "cache_salt",
    "priority",
];

/// Finds a field that has a meaning here, were it that it is refused.
fn known(name: &str) -> Option<&'static str> {
    let unsupported = UNSUPPORTED.iter().map(|(name, ..)| name);
    NAMES
        .iter()
        .chain(unsupported)
        .find(|known| **known == name)
        .copied()
}

/// What a body asks for.
#[derive(Debug)]
pub(super) struct Ask {
    prompts: Vec<Prompt>,
    /// Whether the body has a list of prompts, so that an error can say which.
    is_list: bool,
    choices: u32,
    /// Everything but the prompt and the id.
    template: v1::GenerateRequest,
    has_max_tokens: bool,
    pub(super) echo: bool,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
}

#[derive(Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

impl Ask {
    /// Reads a body, for a model with this context.
    ///
    /// # Errors
    ///
    /// The first field at fault, by name.
    pub(super) fn read(bytes: &[u8], max_context: usize) -> Result<Self, HttpError> {
        let body = Body::parse(bytes, known)?;
        for (name, nothing, why) in UNSUPPORTED {
            body.refuse(name, nothing, why)?;
        }
        let (prompts, is_list) = prompts(body.raw("prompt"), max_context)?;
        let choices = choices(&body, prompts.len())?;
        let stream = body.read("stream")?.unwrap_or(false);
        let options: Option<StreamOptions> = body.read("stream_options")?;
        if options.is_some() && !stream {
            return Err(Error::field("stream_options", "is for stream: true only").into());
        }
        let echo = body.read("echo")?.unwrap_or(false);
        let max_tokens: Option<u32> = body.read("max_tokens")?;
        if max_tokens == Some(0) && !echo {
            let why =
                "0 leaves nothing to generate; 1 is the least, but for a prompt that is echoed";
            return Err(Error::field("max_tokens", why).into());
        }
        let template = v1::GenerateRequest {
            model: body.read("model")?.unwrap_or_default(),
            sampling: Some(sampling(&body)?),
            stop: Some(stop(&body, max_tokens)?),
            logprobs: Some(logprobs(&body, echo)?),
            // The server names these requests, so that no client can come back for one.
            stream: Some(v1::StreamParams {
                on_disconnect: v1::DisconnectPolicy::Cancel.into(),
                ..v1::StreamParams::default()
            }),
            scheduling: Some(v1::SchedulingParams {
                priority: body.read("priority")?.unwrap_or(0),
                cache_salt: body.read("cache_salt")?.unwrap_or_default(),
                ..v1::SchedulingParams::default()
            }),
            ..v1::GenerateRequest::default()
        };
        Ok(Self {
            prompts,
            is_list,
            choices,
            template,
            has_max_tokens: max_tokens.is_some(),
            echo,
            stream,
            include_usage: options
                .and_then(|options| options.include_usage)
                .unwrap_or(false),
        })
    }

    /// Returns how many choices each prompt has.
    pub(super) fn choices(&self) -> usize {
        self.choices as usize
    }

    /// Takes the prompts and checks all sequences, choice by choice within prompt by prompt.
    ///
    /// # Errors
    ///
    /// As Generate's check, with the body's own field names.
    pub(super) async fn requests(
        &mut self,
        shared: &Arc<Shared>,
        id: &str,
    ) -> Result<Vec<Request>, Error> {
        let mut requests = Vec::new();
        let prompts = mem::take(&mut self.prompts);
        let num_prompts = prompts.len();
        for (index, prompt) in prompts.into_iter().enumerate() {
            let request_id = match num_prompts {
                1 => id.to_owned(),
                _ => format!("{id}-{index}"),
            };
            let request = v1::GenerateRequest {
                request_id,
                prompt: Some(prompt),
                ..self.template.clone()
            };
            let checked = generate::check(shared, request, generate::Origin::Http).await;
            let mut checked = checked.map_err(|error| {
                error.rename(|name| own_name(name, self.is_list.then_some(index)))
            })?;
            if !self.has_max_tokens {
                checked.max_tokens = checked.max_tokens.min(DEFAULT_MAX_TOKENS);
            }
            requests.extend((0..self.choices).map(|choice| {
                let mut request = checked.clone();
                request.sampling.choice = choice;
                if self.choices > 1 {
                    request.id = format!("{}-c{choice}", request.id);
                }
                request
            }));
        }
        size::check(&requests, self.stream)?;
        Ok(requests)
    }
}

/// Returns a body's name for a field of Generate.
fn own_name(field: &str, prompt: Option<usize>) -> String {
    let of_prompt = prompt.map_or(String::new(), |index| format!("[{index}]"));
    if let Some(place) = field.strip_prefix("token_ids.ids") {
        return format!("prompt{of_prompt}{place}");
    }
    match field {
        "prompt" => format!("prompt{of_prompt}"),
        "stop.max_output_tokens" => "max_tokens".to_owned(),
        "logprobs.top" => "logprobs".to_owned(),
        _ => match field.strip_prefix("stop.stop_sequences") {
            Some(place) => format!("stop{place}"),
            None => field
                .split_once('.')
                .map_or(field, |(_, name)| name)
                .to_owned(),
        },
    }
}

/// Reads the prompt: a text, a list of ids, or a list of either. A list of ids has no more than the
/// context.
fn prompts(json: Option<&str>, max_context: usize) -> Result<(Vec<Prompt>, bool), Error> {
    let name = "prompt";
    let json = json.ok_or_else(|| Error::field(name, "must be given"))?;
    let ids = |name: &str, json| {
        let ids = list(name, json, max_context)?;
        Ok(Prompt::TokenIds(v1::TokenIds { ids }))
    };
    let inside = json.strip_prefix('[').map(str::trim_ascii_start);
    let prompts: Vec<Prompt> = match inside.and_then(|inside| inside.bytes().next()) {
        Some(b'"') => list(name, json, limits::MAX_CHOICES)?
            .into_iter()
            .map(Prompt::Text)
            .collect(),
        Some(b'[') => list::<&RawValue>(name, json, limits::MAX_CHOICES)?
            .into_iter()
            .enumerate()
            .map(|(index, json)| ids(&format!("{name}[{index}]"), json.get()))
            .collect::<Result<_, Error>>()?,
        Some(_) => return Ok((vec![ids(name, json)?], false)),
        None => return Ok((vec![Prompt::Text(value(name, json)?)], false)),
    };
    Ok((prompts, true))
}

/// Reads how many choices each prompt has.
fn choices(body: &Body<'_>, num_prompts: usize) -> Result<u32, Error> {
    let choices: u32 = body.read("n")?.unwrap_or(1);
    let best_of = body.read::<u32>("best_of")?;
    if best_of.is_some_and(|best_of| best_of != choices) {
        return Err(Error::unsupported(
            "best_of",
            "all choices are returned; give n alone",
        ));
    }
    if choices == 0 {
        return Err(Error::field("n", "must be at least 1"));
    }
    if choices as usize > limits::MAX_CHOICES
        || num_prompts * choices as usize > limits::MAX_CHOICES
    {
        let why = format!(
            "{num_prompts} prompts with {choices} choices each are more than the {} sequences a \
             request may have",
            limits::MAX_CHOICES
        );
        return Err(Error::field(if choices > 1 { "n" } else { "prompt" }, why));
    }
    Ok(choices)
}

fn sampling(body: &Body<'_>) -> Result<v1::SamplingParams, Error> {
    let bias = body.raw("logit_bias");
    let bias = bias.map(|json| map("logit_bias", json, limits::MAX_LOGIT_BIAS));
    let token = |(token, bias): (String, f32)| match token.parse() {
        Ok(token) => Ok((token, bias)),
        Err(_) => {
            let why = format!("{:?} is not a token id", clipped(&token));
            Err(Error::field("logit_bias", why))
        }
    };
    // Below zero means what zero means: all of them.
    let top_k = body
        .read::<i64>("top_k")?
        .map(|top_k| u32::try_from(top_k.max(0)));
    Ok(v1::SamplingParams {
        temperature: body.read("temperature")?,
        top_p: body.read("top_p")?,
        top_k: top_k
            .transpose()
            .map_err(|_| Error::field("top_k", "is above 2^32 - 1"))?,
        min_p: body.read("min_p")?,
        presence_penalty: body.read("presence_penalty")?,
        frequency_penalty: body.read("frequency_penalty")?,
        repetition_penalty: body.read("repetition_penalty")?,
        seed: seed(body)?,
        logit_bias: bias
            .transpose()?
            .unwrap_or_default()
            .into_iter()
            .map(token)
            .collect::<Result<_, _>>()?,
    })
}

/// Reads the seed: any integer of 64 bits, with or without a sign.
fn seed(body: &Body<'_>) -> Result<Option<u64>, Error> {
    match body.raw("seed") {
        Some(json) if json.starts_with('-') => {
            Ok(body.read::<i64>("seed")?.map(i64::cast_unsigned))
        }
        _ => body.read("seed"),
    }
}

fn stop(body: &Body<'_>, max_tokens: Option<u32>) -> Result<v1::StopParams, Error> {
    let stop_sequences = match body.raw("stop") {
        None => Vec::new(),
        Some(json) if json.starts_with('"') => vec![value("stop", json)?],
        Some(json) => list("stop", json, limits::MAX_STOP_SEQUENCES)?,
    };
    let stop_tokens = body.raw("stop_token_ids");
    let stop_tokens = stop_tokens.map(|json| list("stop_token_ids", json, limits::MAX_STOP_TOKENS));
    Ok(v1::StopParams {
        max_output_tokens: max_tokens,
        max_reasoning_tokens: None,
        stop_sequences,
        stop_token_ids: stop_tokens.transpose()?.unwrap_or_default(),
        ignore_eos: body.read("ignore_eos")?.unwrap_or(false),
    })
}

/// Reads `logprobs`: with `echo` it speaks of the prompt, too.
fn logprobs(body: &Body<'_>, echo: bool) -> Result<v1::LogprobParams, Error> {
    let top: Option<u32> = body.read("logprobs")?;
    Ok(v1::LogprobParams {
        output: top.is_some(),
        top: top.unwrap_or(0),
        prompt: top.is_some() && echo,
    })
}
