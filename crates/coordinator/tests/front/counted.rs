//! What a front counts of its requests, however they end.

use std::time::{Duration, Instant};

use proto::internal::{self, follow_response::Event};
use proto::v1;
use tonic::Code;

use crate::generate::{request, run};
use crate::http;
use crate::stage::{Cue, Stage, accept, always, finished, ids, play, refusal, running, tokens};

/// Adds up the series of a metric that have all these labels.
fn sum(stage: &Stage, name: &str, labels: &[&str]) -> f64 {
    let text = stage.telemetry.render();
    let series = text.lines().filter(|line| {
        let of = line.split(['{', ' ']).next();
        of == Some(name) && labels.iter().all(|label| line.contains(label))
    });
    let values = series.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap());
    values.sum()
}

/// Waits until a sum is this; what ends a stream is counted after the client has it.
async fn becomes(stage: &Stage, name: &str, labels: &[&str], expected: f64) {
    let began = Instant::now();
    loop {
        let is = sum(stage, name, labels);
        if (is - expected).abs() < f64::EPSILON {
            return;
        }
        let late = began.elapsed() > Duration::from_secs(20);
        assert!(!late, "{name} {labels:?} is {is}, not {expected}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_generation_is_counted_from_its_arrival_to_its_end() {
    let output = ids("one two three");
    let stage = Stage::new(always(output.clone())).await;
    let asked = v1::GenerateRequest {
        stop: Some(v1::StopParams {
            max_output_tokens: Some(2),
            ..Default::default()
        }),
        ..request("some prompt")
    };
    run(&stage, asked).await;
    let ended = [
        "api=\"generate\"",
        "outcome=\"ok\"",
        "finish_reason=\"length\"",
    ];
    becomes(&stage, "conclave_requests_total", &ended, 1.0).await;
    becomes(&stage, "conclave_requests_in_flight", &[], 0.0).await;
    let call = ["method=\"GenerationService/Generate\"", "code=\"OK\""];
    becomes(&stage, "conclave_grpc_requests_total", &call, 1.0).await;

    let generate = &["api=\"generate\""];
    assert_eq!(
        sum(
            &stage,
            "conclave_time_to_first_token_seconds_count",
            generate
        ),
        1.0
    );
    let streamed = &["api=\"generate\"", "stream=\"true\""];
    assert_eq!(
        sum(&stage, "conclave_request_duration_seconds_count", streamed),
        1.0
    );
    let prompt = ids("some prompt").len() as f64;
    for (name, expected) in [
        ("conclave_requests_total", 1.0),
        ("conclave_generated_tokens_total", 2.0),
        ("conclave_inter_token_latency_seconds_count", 1.0),
        ("conclave_time_per_output_token_seconds_count", 1.0),
        ("conclave_queue_wait_seconds_count", 1.0),
        ("conclave_prefill_seconds_count", 1.0),
        ("conclave_decode_seconds_count", 1.0),
        ("conclave_prompt_tokens_total", prompt),
        ("conclave_cached_prompt_tokens_total", 1.0),
        ("conclave_reasoning_tokens_total", 0.0),
        ("conclave_request_prompt_tokens_sum", prompt),
        ("conclave_request_generated_tokens_sum", 2.0),
        ("conclave_request_rejections_total", 0.0),
        ("conclave_client_disconnects_total", 0.0),
    ] {
        assert_eq!(sum(&stage, name, &[]), expected, "{name}");
    }
    assert_eq!(
        sum(
            &stage,
            "conclave_tokenizer_seconds_count",
            &["op=\"encode\""]
        ),
        1.0
    );
}

#[tokio::test]
async fn refusals_are_told_from_mistakes() {
    let full = |_: &internal::SequenceRecord| {
        Err(refusal(Code::ResourceExhausted, "QUEUE_FULL", "64 wait"))
    };
    let stage = Stage::new(full).await;
    let mistaken = v1::GenerateRequest {
        model: "gpt-7".into(),
        ..request("x")
    };
    stage.client().generate(mistaken).await.unwrap_err();
    let wrong = ["api=\"generate\"", "outcome=\"client_error\""];
    becomes(&stage, "conclave_requests_total", &wrong, 1.0).await;
    assert_eq!(sum(&stage, "conclave_request_rejections_total", &[]), 0.0);

    let mut stream = stage
        .client()
        .generate(request("x"))
        .await
        .unwrap()
        .into_inner();
    stream.message().await.unwrap_err();
    let rejected = ["api=\"generate\"", "outcome=\"rejected\""];
    becomes(&stage, "conclave_requests_total", &rejected, 1.0).await;
    assert_eq!(
        sum(
            &stage,
            "conclave_request_rejections_total",
            &["reason=\"queue_full\""]
        ),
        1.0
    );
    for code in ["code=\"NOT_FOUND\"", "code=\"RESOURCE_EXHAUSTED\""] {
        becomes(&stage, "conclave_grpc_requests_total", &[code], 1.0).await;
    }
    assert_eq!(
        sum(&stage, "conclave_request_duration_seconds_count", &[]),
        0.0
    );
}

#[tokio::test]
async fn a_client_that_leaves_is_counted_as_such() {
    let stuck = |record: &internal::SequenceRecord| {
        let said = tokens(record.tokens.len(), &ids("ab"));
        Ok(vec![accept(), running(), said, Cue::Hang])
    };
    let mut stage = Stage::new(stuck).await;
    let mut stream = stage
        .client()
        .generate(request("x"))
        .await
        .unwrap()
        .into_inner();
    stream.message().await.unwrap();
    assert_eq!(sum(&stage, "conclave_requests_in_flight", &[]), 1.0);
    drop(stream);
    stage.hung_up().await;
    becomes(&stage, "conclave_client_disconnects_total", &[], 1.0).await;
    becomes(
        &stage,
        "conclave_requests_total",
        &["outcome=\"cancelled\""],
        1.0,
    )
    .await;
    becomes(&stage, "conclave_requests_in_flight", &[], 0.0).await;
    becomes(
        &stage,
        "conclave_grpc_requests_total",
        &["code=\"CANCELLED\""],
        1.0,
    )
    .await;
}

#[tokio::test]
async fn each_choice_of_a_completion_is_a_generation() {
    let stage = Stage::new(always(ids("one two three four"))).await;
    let body = r#"{"prompt": ["a", "b"], "n": 2, "max_tokens": 3, "temperature": 1}"#;
    let answer = http::call(stage.http, "POST", "/v1/completions", "", body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let ended = ["api=\"completions\"", "outcome=\"ok\""];
    becomes(&stage, "conclave_requests_total", &ended, 4.0).await;
    assert_eq!(sum(&stage, "conclave_generated_tokens_total", &[]), 12.0);
    let whole = ["api=\"completions\"", "stream=\"false\""];
    assert_eq!(
        sum(&stage, "conclave_request_duration_seconds_count", &whole),
        4.0
    );

    for (method, path, body) in [
        ("POST", "/v1/completions", "{"),
        ("GET", "/v1/models/gpt-7", ""),
        ("GET", "/favicon.ico", ""),
        ("DELETE", "/v1/models", ""),
        ("GET", "/livez", ""),
    ] {
        http::call(stage.http, method, path, "", body).await;
    }
    let wrong = ["api=\"completions\"", "outcome=\"client_error\""];
    becomes(&stage, "conclave_requests_total", &wrong, 1.0).await;
    for labels in [
        "route=\"/v1/completions\",method=\"POST\",code=\"200\"",
        "route=\"/v1/completions\",method=\"POST\",code=\"400\"",
        "route=\"/v1/models/{name}\",method=\"GET\",code=\"404\"",
        "route=\"other\",method=\"GET\",code=\"404\"",
        "route=\"/v1/models\",method=\"other\",code=\"405\"",
        "route=\"/livez\",method=\"GET\",code=\"200\"",
    ] {
        assert_eq!(
            sum(&stage, "conclave_http_requests_total", &[labels]),
            1.0,
            "{labels}"
        );
    }
    assert_eq!(sum(&stage, "conclave_http_requests_total", &[]), 6.0);
}

#[tokio::test]
async fn what_another_call_began_is_not_counted_twice() {
    let old = |record: &internal::SequenceRecord| {
        let mut cues = play(record, &ids("one two"));
        cues[0] = Cue::Say(Event::Accepted(internal::Accepted {
            age_us: 5_000_000,
            ..Default::default()
        }));
        Ok(cues)
    };
    let stage = Stage::new(old).await;
    let asked = v1::GenerateRequest {
        stop: Some(v1::StopParams {
            max_output_tokens: Some(2),
            ..Default::default()
        }),
        ..request("x")
    };
    run(&stage, asked).await;
    becomes(&stage, "conclave_requests_total", &["outcome=\"ok\""], 1.0).await;
    for name in [
        "conclave_generated_tokens_total",
        "conclave_time_to_first_token_seconds_count",
        "conclave_request_duration_seconds_count",
        "conclave_prompt_tokens_total",
    ] {
        assert_eq!(sum(&stage, name, &[]), 0.0, "{name}");
    }
}

#[tokio::test]
async fn a_stream_that_is_resumed_is_counted_from_where_its_client_was() {
    let output = ids("one two three four five");
    let (total, said) = (output.len() as f64, output.clone());
    let old = move |record: &internal::SequenceRecord| {
        let accepted = internal::Accepted {
            age_us: 5_000_000,
            ..Default::default()
        };
        // What its client has had comes in one message with what it has not.
        let (first, last) = said.split_at(said.len() - 1);
        let prompt = record.tokens.len();
        Ok(vec![
            Cue::Say(Event::Accepted(accepted)),
            running(),
            tokens(prompt, first),
            tokens(prompt + first.len(), last),
            finished(internal::SequenceEnd::Length),
        ])
    };
    let stage = Stage::new(old).await;
    let asked = |resume_after| v1::GenerateRequest {
        request_id: "r".into(),
        stream: Some(v1::StreamParams {
            resume_after,
            ..Default::default()
        }),
        ..request("x")
    };
    let prompt = ids("x").len() as f64;
    // Each case: what the call says that its client has, and all that was counted when it has ended. The first
    // call of all counts for one that has nothing; after 3 it has two tokens, and after 1 the opening alone.
    let cases = [
        (None, [0.0, 0.0, 0.0, 0.0, 0.0]),
        (Some(3), [total - 2.0, 0.0, 1.0, 1.0, prompt]),
        (Some(1), [2.0 * total - 2.0, 1.0, 2.0, 2.0, 2.0 * prompt]),
    ];
    for (calls, (resume_after, counted)) in (1_u32..).zip(cases) {
        run(&stage, asked(resume_after)).await;
        let ok = ["outcome=\"ok\""];
        becomes(&stage, "conclave_requests_total", &ok, f64::from(calls)).await;
        let names = [
            "conclave_generated_tokens_total",
            "conclave_time_to_first_token_seconds_count",
            "conclave_inter_token_latency_seconds_count",
            "conclave_request_duration_seconds_count",
            "conclave_prompt_tokens_total",
        ];
        for (name, expected) in names.into_iter().zip(counted) {
            assert_eq!(sum(&stage, name, &[]), expected, "{name}, {resume_after:?}");
        }
    }
}

#[tokio::test]
async fn readiness_is_that_of_the_probes() {
    let stage = Stage::new(always(Vec::new())).await;
    let vitals = || stage.telemetry.vitals();
    let began = Instant::now();
    while vitals().readiness().is_err() {
        assert!(began.elapsed() < Duration::from_secs(20));
        tokio::task::yield_now().await;
    }
    let left = internal::WatchResponse {
        status: "worker 'b' left".into(),
        ..Default::default()
    };
    stage.state.send_replace(left);
    while vitals().readiness().is_ok() {
        assert!(began.elapsed() < Duration::from_secs(20));
        tokio::task::yield_now().await;
    }
    let why = vitals().readiness().unwrap_err();
    assert!(why.contains("worker 'b' left"), "{why}");
}
