//! How streams end other than well: deadlines, cancels, clients that leave, leads that break.

use std::future::poll_fn;
use std::time::Duration;

use coordinator::front::FrontConfig;
use proto::v1::generate_response::Event;
use proto::v1::{self, FinishReason, GenerationState};
use tokio::io::AsyncReadExt as _;
use tokio_stream::StreamExt as _;
use tonic::codegen::Service as _;
use tonic::{Code, Request, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::generate::{end, request};
use crate::http;
use crate::stage::{Cue, Stage, accept, byte_ids, ids, patient, play, soon, tokens};

/// Accepts, says two tokens, and then nothing more.
fn stuck(request: &proto::internal::SequenceRecord) -> Result<Vec<Cue>, Status> {
    Ok(vec![
        accept(),
        tokens(request.tokens.len(), &ids("ab cd")),
        Cue::Hang,
    ])
}

fn named(id: &str) -> v1::GenerateRequest {
    v1::GenerateRequest {
        request_id: id.into(),
        ..request("x")
    }
}

/// Runs a request that ends with an error.
async fn refusal(stage: &Stage, request: impl tonic::IntoRequest<v1::GenerateRequest>) -> Status {
    match stage.client().generate(request).await {
        Ok(stream) => failure(stream.into_inner()).await,
        Err(status) => status,
    }
}

/// Reads a stream until its error.
async fn failure(mut stream: tonic::Streaming<v1::GenerateResponse>) -> Status {
    soon(async {
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the stream ended well"),
                Err(status) => return status,
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_deadline_ends_the_stream_and_the_sequence() {
    let mut stage = Stage::new(stuck).await;
    let mut call = Request::new(named("d"));
    // Set by hand: the client would otherwise give up by itself first.
    call.metadata_mut()
        .insert("grpc-timeout", "300m".parse().unwrap());
    let stream = stage.client().generate(call).await.unwrap().into_inner();
    let status = failure(stream).await;
    assert_eq!(status.code(), Code::DeadlineExceeded);
    let reason = status.get_details_error_info().unwrap();
    assert_eq!(reason.reason, "DEADLINE_PASSED");
    assert_eq!(reason.metadata["generation_id"], "d");
    assert_eq!(
        reason.metadata["last_sequence"],
        (1 + ids("ab cd").len()).to_string()
    );
    assert_eq!(stage.hung_up().await, "d");
}

#[tokio::test]
async fn a_deadline_holds_while_the_lead_does_not_accept() {
    let mut stage = Stage::new(|_| Ok(vec![Cue::Hang])).await;
    let mut call = Request::new(named("d"));
    call.metadata_mut()
        .insert("grpc-timeout", "200m".parse().unwrap());
    let status = refusal(&stage, call).await;
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(stage.hung_up().await, "d");
}

#[tokio::test]
async fn a_call_whose_request_does_not_come_is_not_waited_for() {
    let config = FrontConfig {
        heartbeat: Duration::from_secs(10),
        client_stall: Duration::from_secs(60),
        body_time: Duration::from_millis(50),
        hold: Duration::from_secs(10),
        ask_hold: Duration::from_secs(10),
        dialer: sockets::Dialer::default(),
    };
    let mut stage = Stage::with_config(config, stuck).await;
    let never = tokio_stream::pending::<Result<Vec<u8>, std::io::Error>>();
    let call = axum::http::Request::post("/conclave.v1.GenerationService/Generate")
        .header("content-type", "application/grpc")
        .body(tonic::body::Body::new(axum::body::Body::from_stream(never)))
        .unwrap();
    poll_fn(|context| stage.grpc.poll_ready(context))
        .await
        .unwrap();
    let answer = soon(stage.grpc.call(call)).await.unwrap();
    let status = Status::from_header_map(answer.headers()).unwrap();
    assert_eq!(status.code(), Code::Cancelled, "{status}");
    let reason = status.get_details_error_info().unwrap().reason;
    assert_eq!(reason, "REQUEST_TOO_SLOW");
}

#[tokio::test]
async fn dropping_the_stream_cancels_the_sequence() {
    let mut stage = Stage::new(stuck).await;
    let mut stream = stage
        .client()
        .generate(named("gone"))
        .await
        .unwrap()
        .into_inner();
    soon(stream.next()).await.unwrap().unwrap();
    drop(stream);
    assert_eq!(stage.hung_up().await, "gone");
}

#[tokio::test]
async fn closing_an_http_connection_cancels_the_sequence() {
    for stream in [true, false] {
        let mut stage = Stage::new(stuck).await;
        let body = serde_json::json!({"prompt": "x", "stream": stream}).to_string();
        let connection = http::open(stage.http, "POST", "/v1/completions", "", &body).await;
        let asked = stage.asked().await;
        assert_eq!(asked.keep_us, None, "it would go on");
        let id = asked.record.unwrap().request_id;
        drop(connection);
        assert_eq!(stage.hung_up().await, id);
    }
}

#[tokio::test]
async fn a_cancelled_generation_ends_well_and_is_remembered() {
    let stage = Stage::new(stuck).await;
    let mut client = stage.client();
    let mut stream = client.generate(named("c")).await.unwrap().into_inner();
    let mut responses = vec![soon(stream.next()).await.unwrap().unwrap()];
    while !matches!(responses.last().unwrap().event, Some(Event::Tokens(_))) {
        responses.push(soon(stream.next()).await.unwrap().unwrap());
    }
    let get = v1::GetGenerationRequest {
        generation_id: "c".into(),
    };
    let standing = client
        .get_generation(get.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(standing.state(), GenerationState::Decoding);
    let cancel = v1::CancelGenerationRequest {
        generation_id: "c".into(),
        reason: "test".into(),
    };
    for _ in 0..2 {
        let answer = client
            .cancel_generation(cancel.clone())
            .await
            .unwrap()
            .into_inner();
        assert_eq!(answer.state(), GenerationState::Cancelled);
    }
    let rest: Vec<_> = soon(stream.map(Result::unwrap).collect()).await;
    assert_eq!(end(&rest).reason(), FinishReason::Cancelled);
    let standing = client.get_generation(get).await.unwrap().into_inner();
    assert_eq!(standing.state(), GenerationState::Cancelled);
    assert_eq!(
        standing.usage.unwrap().output_tokens as usize,
        ids("ab cd").len()
    );
    assert_eq!(standing.last_sequence, rest.last().unwrap().sequence);
}

#[tokio::test]
async fn an_unknown_generation_is_not_found() {
    let stage = Stage::new(stuck).await;
    let generation_id = String::from("nobody");
    let get = v1::GetGenerationRequest {
        generation_id: generation_id.clone(),
    };
    assert_eq!(
        stage.client().get_generation(get).await.unwrap_err().code(),
        Code::NotFound
    );
    let cancel = v1::CancelGenerationRequest {
        generation_id,
        reason: String::new(),
    };
    assert_eq!(
        stage
            .client()
            .cancel_generation(cancel)
            .await
            .unwrap_err()
            .code(),
        Code::NotFound
    );
}

#[tokio::test]
async fn a_full_queue_is_passed_on_with_its_delay() {
    let stage = Stage::new(|_| {
        let mut details = ErrorDetails::with_error_info("QUEUE_FULL", "conclave", []);
        details.set_retry_info(Some(Duration::from_millis(1500)));
        Err(Status::with_error_details(
            Code::ResourceExhausted,
            "the queue is full",
            details,
        ))
    })
    .await;
    let status = refusal(&stage, request("x")).await;
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(status.message(), "the queue is full");
    let delay = status.get_details_retry_info().unwrap().retry_delay;
    assert_eq!(delay, Some(Duration::from_millis(1500)));
    let answer = http::complete(stage.http, serde_json::json!({"prompt": "x"})).await;
    assert_eq!(answer.status, 429);
    assert_eq!(answer.header("retry-after"), Some("2"));
    assert_eq!(answer.error().2, "queue_full");
}

#[tokio::test]
async fn a_group_that_stays_incomplete_ends_the_stream_as_unavailable() {
    let stage = Stage::new(|request| {
        let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(1)));
        let incomplete =
            Status::with_error_details(Code::Unavailable, "1 of 2 ranks are present", details);
        let said = tokens(request.tokens.len(), &ids("ab"));
        Ok(vec![accept(), said, Cue::Fail(incomplete)])
    })
    .await;
    let stream = stage
        .client()
        .generate(request("x"))
        .await
        .unwrap()
        .into_inner();
    let status = failure(stream).await;
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.get_details_retry_info().is_some());
    let body = serde_json::json!({"prompt": "x", "stream": true});
    let answer = http::complete(stage.http, body).await;
    // The answer had begun: the error is its last event, and [DONE] does not follow.
    assert_eq!(answer.status, 200);
    assert!(
        answer
            .events()
            .last()
            .unwrap()
            .contains("1 of 2 ranks are present")
    );
    let answer = http::complete(stage.http, serde_json::json!({"prompt": "x"})).await;
    assert_eq!(answer.status, 503);
    assert!(answer.header("retry-after").is_some());
}

#[tokio::test]
async fn a_lead_that_repeats_or_loses_tokens_is_not_believed() {
    for shift in [-1_isize, 1] {
        let stage = Stage::new(move |request| {
            let first = request.tokens.len();
            let next = (first + 1).checked_add_signed(shift).unwrap();
            Ok(vec![
                accept(),
                tokens(first, &ids("a")),
                tokens(next, &ids("b")),
                Cue::Hang,
            ])
        })
        .await;
        let stream = stage
            .client()
            .generate(request("x"))
            .await
            .unwrap()
            .into_inner();
        assert_eq!(failure(stream).await.code(), Code::Internal);
    }
}

#[tokio::test]
async fn a_lead_that_just_ends_is_unavailable() {
    let stage =
        Stage::new(|request| Ok(vec![accept(), tokens(request.tokens.len(), &ids("a"))])).await;
    let stream = stage
        .client()
        .generate(request("x"))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(failure(stream).await.code(), Code::Unavailable);
}

#[tokio::test]
async fn draining_refuses_new_requests_and_waits_for_running_ones() {
    let mut stage = Stage::new(stuck).await;
    let mut stream = stage
        .client()
        .generate(named("last"))
        .await
        .unwrap()
        .into_inner();
    soon(stream.next()).await.unwrap().unwrap();
    let refused = async {
        // As soon as the drain has begun.
        loop {
            let mut late = match stage.client().generate(named("late")).await {
                Ok(late) => late.into_inner(),
                Err(status) => return status,
            };
            if let Err(status) = late.message().await {
                return status;
            }
        }
    };
    let drain = stage.front.drain(Duration::from_millis(300));
    let ((), status) = soon(async { tokio::join!(drain, refused) }).await;
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.get_details_retry_info().is_some());
    assert_eq!(failure(stream).await.code(), Code::Unavailable);
    stage.hung_up().await;
}

#[tokio::test]
async fn a_client_that_stops_reading_is_let_go() {
    let config = FrontConfig {
        client_stall: Duration::from_millis(100),
        ..patient()
    };
    let mut stage = Stage::with_config(config, flood()).await;
    let stream = unread(&stage, named("slow")).await;
    assert_eq!(stage.hung_up().await, "slow");
    assert_eq!(failure(stream).await.code(), Code::Cancelled);
}

/// A script that says more than the queues and a gRPC connection's windows hold.
fn flood() -> impl Fn(&proto::internal::SequenceRecord) -> Result<Vec<Cue>, Status> {
    let text = ids(&"word ".repeat(60_000));
    move |request| {
        let first = request.tokens.len();
        let parts = text.chunks(100).enumerate();
        let mut cues = vec![accept()];
        cues.extend(parts.map(|(part, ids)| tokens(first + 100 * part, ids)));
        cues.push(Cue::Hang);
        Ok(cues)
    }
}

/// Starts a generation and waits until its client's not reading is felt; returns the stream.
async fn unread(
    stage: &Stage,
    request: impl tonic::IntoRequest<v1::GenerateRequest>,
) -> tonic::Streaming<v1::GenerateResponse> {
    let request = request.into_request();
    let get = v1::GetGenerationRequest {
        generation_id: request.get_ref().request_id.clone(),
    };
    let stream = stage.client().generate(request).await.unwrap().into_inner();
    let mut client = stage.client();
    soon(async {
        // Nothing more is sent although the lead has more to say.
        let (mut last, mut same) = (0, 0);
        while same < 20 {
            let standing = client.get_generation(get.clone()).await;
            let now = standing.map_or(0, |standing| standing.into_inner().last_sequence);
            same = if now == last && now > 1 { same + 1 } else { 0 };
            last = now;
        }
    })
    .await;
    stream
}

#[tokio::test]
async fn a_cancel_is_obeyed_while_the_client_reads_nothing() {
    let stage = Stage::new(flood()).await;
    let stream = unread(&stage, named("c")).await;
    cancel(&stage, "c").await;
    let responses: Vec<_> = soon(stream.map(Result::unwrap).collect()).await;
    assert_eq!(end(&responses).reason(), FinishReason::Cancelled);
}

#[tokio::test]
async fn a_deadline_is_kept_while_the_client_reads_nothing() {
    let mut stage = Stage::new(flood()).await;
    let mut call = Request::new(named("d"));
    call.metadata_mut()
        .insert("grpc-timeout", "2S".parse().unwrap());
    let mut stream = unread(&stage, call).await;
    assert_eq!(stage.hung_up().await, "d");
    let mut last = 0;
    let status = soon(async {
        loop {
            match stream.message().await {
                Ok(response) => last = response.unwrap().sequence,
                Err(status) => return status,
            }
        }
    })
    .await;
    assert_eq!(status.code(), Code::DeadlineExceeded);
    // What the client was sent before, and no more.
    let metadata = status.get_details_error_info().unwrap().metadata;
    assert_eq!(metadata["last_sequence"], last.to_string());
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_a_client_that_reads_nothing() {
    let mut stage = Stage::new(flood()).await;
    let stream = unread(&stage, named("s")).await;
    soon(stage.front.drain(Duration::ZERO)).await;
    assert_eq!(stage.hung_up().await, "s");
    assert_eq!(failure(stream).await.code(), Code::Unavailable);
}

#[tokio::test]
async fn a_generation_cancelled_in_the_queue_of_the_lead_ends_well() {
    let mut stage = Stage::new(|_| Ok(vec![accept(), Cue::Hang])).await;
    let stream = stage.client().generate(named("q")).await.unwrap();
    assert_eq!(stage.followed().await.request_id, "q");
    cancel(&stage, "q").await;
    let responses: Vec<_> = soon(stream.into_inner().map(Result::unwrap).collect()).await;
    assert!(matches!(responses[0].event, Some(Event::Started(_))));
    assert_eq!(end(&responses).reason(), FinishReason::Cancelled);
    let get = v1::GetGenerationRequest {
        generation_id: "q".into(),
    };
    let standing = stage.client().get_generation(get).await.unwrap();
    assert_eq!(standing.into_inner().state(), GenerationState::Cancelled);
}

/// Cancels a live generation.
async fn cancel(stage: &Stage, id: &str) {
    let cancel = v1::CancelGenerationRequest {
        generation_id: id.into(),
        reason: "test".into(),
    };
    let answer = stage.client().cancel_generation(cancel).await.unwrap();
    assert_eq!(answer.into_inner().state(), GenerationState::Cancelled);
}

#[tokio::test]
async fn a_cancelled_choice_is_an_error_by_http() {
    for stream in [false, true] {
        let mut stage = Stage::new(stuck).await;
        let body = serde_json::json!({"prompt": "x", "stream": stream});
        let complete = tokio::spawn(http::complete(stage.http, body));
        let id = stage.followed().await.request_id;
        cancel(&stage, &id).await;
        let answer = soon(complete).await.unwrap();
        if stream {
            // [DONE] does not follow.
            let events = answer.events();
            assert!(events.last().unwrap().contains("cancelled"), "{events:?}");
        } else {
            assert_eq!((answer.status, answer.error().2), (409, "cancelled".into()));
        }
    }
}

#[tokio::test]
async fn events_that_could_not_be_sent_break_the_connection() {
    let config = FrontConfig {
        client_stall: Duration::from_millis(100),
        ..patient()
    };
    // Each token has a lot to say: far more together than the sockets' buffers hold.
    let output = byte_ids(&[b'a'; 30_000]);
    let mut stage = Stage::with_config(config, move |request| {
        let mut request = request.clone();
        request.stop.as_mut().unwrap().max_tokens = u32::MAX;
        Ok(play(&request, &output))
    })
    .await;
    let body =
        serde_json::json!({"prompt": "x", "stream": true, "logprobs": 20, "max_tokens": 900});
    let mut connection =
        http::open(stage.http, "POST", "/v1/completions", "", &body.to_string()).await;
    stage.hung_up().await;
    let mut answer = Vec::new();
    let read = soon(connection.read_to_end(&mut answer)).await;
    let is_whole = answer.ends_with(b"0\r\n\r\n");
    assert!(
        read.is_err() || !is_whole,
        "the answer ended as if it were complete"
    );
}

#[tokio::test]
async fn a_met_stop_sequence_frees_the_lead_before_the_client_has_read() {
    let mut output = byte_ids(&[b'a'; 20_000]);
    output.extend(byte_ids(b"STOP"));
    let mut stage = Stage::new(move |request| {
        let mut request = request.clone();
        request.stop.as_mut().unwrap().max_tokens = u32::MAX;
        Ok(play(&request, &output))
    })
    .await;
    // Far more than the queues and windows hold, and all of it after the stop sequence.
    let everything = v1::GenerateRequest {
        logprobs: Some(v1::LogprobParams {
            output: true,
            top: 20,
            prompt: false,
        }),
        stop: Some(v1::StopParams {
            stop_sequences: vec!["STOP".into()],
            ..Default::default()
        }),
        stream: Some(v1::StreamParams {
            delivery: v1::Delivery::FinalOnly.into(),
            ..Default::default()
        }),
        ..named("s")
    };
    let stream = stage.client().generate(everything).await.unwrap();
    assert_eq!(stage.settled().await, "s");
    assert_eq!(stage.hung_up().await, "s");
    let rest: Vec<_> = soon(stream.into_inner().map(Result::unwrap).collect()).await;
    assert_eq!(end(&rest).matched_stop_sequence, "STOP");
}
