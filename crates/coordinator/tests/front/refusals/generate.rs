//! Fields of a generation's sampling, stops and the rest.

use proto::v1::{self, generate_request::Prompt};
use tonic::Code;

use super::{Case, check, scheduling, stage, stop, stream};
use crate::generate::request;
use crate::stage::{CONTEXT, VOCAB};

fn sampling(params: v1::SamplingParams) -> v1::GenerateRequest {
    v1::GenerateRequest {
        sampling: Some(params),
        ..request("x")
    }
}

fn prompt(ids: Vec<u32>) -> v1::GenerateRequest {
    let prompt = Some(Prompt::TokenIds(v1::TokenIds { ids }));
    v1::GenerateRequest {
        prompt,
        ..Default::default()
    }
}

fn sampling_cases() -> Vec<Case<v1::GenerateRequest>> {
    let none = v1::SamplingParams::default;
    vec![
        (
            "a temperature that is no number",
            sampling(v1::SamplingParams {
                temperature: Some(f32::NAN),
                ..none()
            }),
            "sampling.temperature",
        ),
        (
            "an infinite temperature",
            sampling(v1::SamplingParams {
                temperature: Some(f32::INFINITY),
                ..none()
            }),
            "sampling.temperature",
        ),
        (
            "top_p of zero",
            sampling(v1::SamplingParams {
                top_p: Some(0.0),
                ..none()
            }),
            "sampling.top_p",
        ),
        (
            "min_p above one",
            sampling(v1::SamplingParams {
                min_p: Some(1.5),
                ..none()
            }),
            "sampling.min_p",
        ),
        (
            "a large presence penalty",
            sampling(v1::SamplingParams {
                presence_penalty: Some(-3.0),
                ..none()
            }),
            "sampling.presence_penalty",
        ),
        (
            "a frequency penalty that is no number",
            sampling(v1::SamplingParams {
                frequency_penalty: Some(f32::NAN),
                ..none()
            }),
            "sampling.frequency_penalty",
        ),
        (
            "a repetition penalty of zero",
            sampling(v1::SamplingParams {
                repetition_penalty: Some(0.0),
                ..none()
            }),
            "sampling.repetition_penalty",
        ),
        (
            "a bias of a token outside the vocabulary",
            sampling(v1::SamplingParams {
                logit_bias: [(VOCAB, 1.0)].into(),
                ..none()
            }),
            "sampling.logit_bias",
        ),
        (
            "too many biases",
            sampling(v1::SamplingParams {
                logit_bias: (0..1025).map(|token| (token, 1.0)).collect(),
                ..none()
            }),
            "sampling.logit_bias",
        ),
    ]
}

fn stop_cases() -> Vec<Case<v1::GenerateRequest>> {
    let none = v1::StopParams::default;
    let sequences = |stop_sequences| {
        stop(v1::StopParams {
            stop_sequences,
            ..none()
        })
    };
    vec![
        (
            "an empty stop sequence",
            sequences(vec!["a".into(), "".into()]),
            "stop.stop_sequences[1]",
        ),
        (
            "a long stop sequence",
            sequences(vec!["a".repeat(1025)]),
            "stop.stop_sequences[0]",
        ),
        (
            "many stop sequences",
            sequences(vec!["a".into(); 17]),
            "stop.stop_sequences",
        ),
        (
            "a stop token outside the vocabulary",
            stop(v1::StopParams {
                stop_token_ids: vec![1, VOCAB],
                ..none()
            }),
            "stop.stop_token_ids[1]",
        ),
        (
            "many stop tokens",
            stop(v1::StopParams {
                stop_token_ids: vec![1; 129],
                ..none()
            }),
            "stop.stop_token_ids",
        ),
        (
            "more output than the context has room for",
            stop(v1::StopParams {
                max_output_tokens: Some(CONTEXT),
                ..none()
            }),
            "stop.max_output_tokens",
        ),
    ]
}

fn other_cases() -> Vec<Case<v1::GenerateRequest>> {
    let top = |top, output| {
        let logprobs = Some(v1::LogprobParams {
            top,
            output,
            prompt: false,
        });
        v1::GenerateRequest {
            logprobs,
            ..request("x")
        }
    };
    let id = |id: &str| v1::GenerateRequest {
        request_id: id.into(),
        ..request("x")
    };
    let labels = (0..17)
        .map(|label| (label.to_string(), String::new()))
        .collect();
    vec![
        ("no prompt", v1::GenerateRequest::default(), "prompt"),
        ("an empty text", request(""), "prompt"),
        ("an empty list", prompt(Vec::new()), "prompt"),
        (
            "a token outside the vocabulary",
            prompt(vec![1, 2, VOCAB]),
            "token_ids.ids[2]",
        ),
        (
            "a prompt as long as the context",
            prompt(vec![1; CONTEXT as usize]),
            "prompt",
        ),
        (
            "a text longer than the context",
            request(&"word ".repeat(5000)),
            "prompt",
        ),
        ("21 alternatives", top(21, true), "logprobs.top"),
        ("alternatives to nothing", top(2, false), "logprobs.top"),
        ("an id with a line end", id("a\nb"), "request_id"),
        ("a long id", id(&"a".repeat(129)), "request_id"),
        (
            "many labels",
            v1::GenerateRequest {
                labels,
                ..request("x")
            },
            "labels",
        ),
        (
            "a delivery of the future",
            stream(v1::StreamParams {
                delivery: 77,
                ..Default::default()
            }),
            "stream.delivery",
        ),
        (
            "a long salt",
            scheduling(v1::SchedulingParams {
                cache_salt: "a".repeat(257),
                ..Default::default()
            }),
            "scheduling.cache_salt",
        ),
    ]
}

#[tokio::test]
async fn bad_generate_requests_are_refused_by_field() {
    let stage = stage().await;
    for (name, request, field) in [sampling_cases(), stop_cases(), other_cases()]
        .into_iter()
        .flatten()
    {
        let status = stage.client().generate(request).await.expect_err(name);
        check(name, &status, Code::InvalidArgument, field);
    }
}

#[tokio::test]
async fn features_that_do_not_exist_are_refused_by_field() {
    let stage = stage().await;
    let constraint = v1::output_constraint::Constraint::Regex("a".into());
    let constraint = Some(v1::OutputConstraint {
        constraint: Some(constraint),
    });
    let request = v1::GenerateRequest {
        constraint,
        ..request("x")
    };
    let status = stage.client().generate(request).await.unwrap_err();
    check("a constraint", &status, Code::Unimplemented, "constraint");
}
