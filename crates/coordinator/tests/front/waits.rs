//! What clients see while no lead answers for their generation.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use coordinator::front::FrontConfig;
use proto::internal::SequenceRecord;
use proto::v1::generate_response::Event;
use proto::v1::{self, GenerationState};
use tokio_stream::StreamExt as _;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::generate::{request, run};
use crate::stage::{Cue, Stage, accept, always, ids, patient, play, refusal, soon, special};
use crate::{chat, http};

fn get(id: &str) -> v1::GetGenerationRequest {
    v1::GetGenerationRequest {
        generation_id: id.into(),
    }
}

fn cancel(id: &str) -> v1::CancelGenerationRequest {
    v1::CancelGenerationRequest {
        generation_id: id.into(),
        reason: String::new(),
    }
}

fn named(id: &str) -> v1::GenerateRequest {
    v1::GenerateRequest {
        request_id: id.into(),
        ..request("x")
    }
}

/// What a lead says that has not served yet, or that leads no more.
fn passing(reason: &str) -> Status {
    refusal(Code::Unavailable, reason, "not yet")
}

/// Refuses so many calls.
fn refusing(times: usize, reason: &'static str) -> impl Fn() -> Option<Status> {
    let refused = Arc::new(AtomicUsize::new(0));
    move || (refused.fetch_add(1, Ordering::SeqCst) < times).then(|| passing(reason))
}

#[tokio::test]
async fn what_a_new_lead_cannot_know_is_asked_again_until_it_can() {
    for reason in ["LEAD_NEW", "NOT_LEADER", "LEAD_ENDING"] {
        let config = FrontConfig {
            ask_hold: Duration::from_secs(20),
            ..patient()
        };
        let stage = Stage::with_config(config, always(vec![special("<|return|>")])).await;
        run(&stage, named("r")).await;
        stage.hinder(refusing(2, reason));
        let got = soon(stage.client().get_generation(get("r"))).await.unwrap();
        assert_eq!(got.into_inner().state(), GenerationState::Succeeded);
        stage.hinder(refusing(2, reason));
        let cancelled = soon(stage.client().cancel_generation(cancel("r"))).await;
        let state = cancelled.unwrap().into_inner().state();
        assert_eq!(state, GenerationState::Succeeded, "{reason}");
    }
}

#[tokio::test]
async fn what_no_lead_can_tell_for_too_long_is_unavailable_and_says_why() {
    let config = FrontConfig {
        ask_hold: Duration::from_millis(200),
        ..patient()
    };
    let stage = Stage::with_config(config, always(Vec::new())).await;
    stage.hinder(refusing(usize::MAX, "LEAD_NEW"));
    let got = soon(stage.client().get_generation(get("r"))).await;
    let cancelled = soon(stage.client().cancel_generation(cancel("r"))).await;
    for status in [got.map(drop), cancelled.map(drop)] {
        let status = status.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status}");
        assert_eq!(status.get_details_error_info().unwrap().reason, "LEAD_NEW");
    }
}

#[tokio::test]
async fn a_call_is_held_no_longer_than_its_time_for_a_lead_that_does_not_answer() {
    let stage = Stage::new(always(Vec::new())).await;
    // It takes the connection, and says nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", silent.local_addr().unwrap());
    stage.leads.send_replace([("0".to_owned(), address)].into());
    let got = soon(stage.client().get_generation(get("r"))).await;
    let status = got.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(status.message().contains("within 300ms"), "{status}");
}

/// Reasoning beyond the limit of [`little_reasoning`].
fn much_reasoning() -> Vec<u32> {
    let thoughts = "think ".repeat(50);
    ids(&format!("<|channel|>analysis<|message|>{thoughts}<|end|>"))
}

fn little_reasoning() -> v1::ChatRequest {
    v1::ChatRequest {
        request_id: "t".into(),
        stop: Some(v1::StopParams {
            max_reasoning_tokens: Some(4),
            ..Default::default()
        }),
        ..chat::request("Hi")
    }
}

#[tokio::test]
async fn a_stream_beats_while_its_answer_cannot_be_opened() {
    let stage = Stage::with_config(beating(), always(much_reasoning())).await;
    stage.hinder(refusing(3, "NOT_LEADER"));
    let heard = soon(chat::run(&stage, little_reasoning())).await;
    let is_beat = |said: &&v1::ChatResponse| {
        matches!(said.event, Some(v1::chat_response::Event::Heartbeat(_)))
    };
    assert!(heard.iter().filter(is_beat).count() > 2, "{heard:?}");
    assert_eq!(chat::messages(&heard)[1].text, "ok");
}

#[tokio::test]
async fn an_answer_that_was_opened_stays_open_at_the_next_lead() {
    let stage = Stage::new(always(much_reasoning())).await;
    stage.lose_forced();
    let heard = soon(chat::run(&stage, little_reasoning())).await;
    assert_eq!(chat::messages(&heard)[1].text, "ok");
}

#[tokio::test]
async fn a_text_that_has_ended_is_settled_at_the_lead_that_comes_next() {
    let config = FrontConfig {
        ask_hold: Duration::from_secs(20),
        ..patient()
    };
    let mut stage = Stage::with_config(config, always(ids("one STOP two"))).await;
    stage.hinder(refusing(2, "NOT_LEADER"));
    let request = v1::GenerateRequest {
        stop: Some(v1::StopParams {
            stop_sequences: vec!["STOP".into()],
            ..Default::default()
        }),
        ..named("s")
    };
    run(&stage, request).await;
    assert_eq!(stage.settled().await, "s");
}

#[tokio::test]
async fn a_cancel_waits_for_a_lead_that_is_away() {
    let config = FrontConfig {
        ask_hold: Duration::from_secs(20),
        ..patient()
    };
    let stage = Stage::with_config(config, always(vec![special("<|return|>")])).await;
    run(&stage, named("r")).await;
    let leads = stage.leads.send_replace([].into());
    let mut client = stage.client();
    let cancelled = tokio::spawn(async move { client.cancel_generation(cancel("r")).await });
    // Long enough for the first of its tries; more would only be waited for.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!cancelled.is_finished());
    stage.leads.send_replace(leads);
    let state = soon(cancelled).await.unwrap().unwrap().into_inner().state();
    assert_eq!(state, GenerationState::Succeeded);
}

#[tokio::test]
async fn a_front_that_drains_holds_no_call() {
    let config = FrontConfig {
        ask_hold: Duration::from_secs(600),
        ..patient()
    };
    let stage = Stage::with_config(config, always(Vec::new())).await;
    stage.hinder(refusing(usize::MAX, "LEAD_NEW"));
    let mut client = stage.client();
    let asked = tokio::spawn(async move { client.get_generation(get("r")).await });
    stage.front.drain(Duration::from_secs(1)).await;
    let status = soon(asked).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
}

#[tokio::test]
async fn a_front_that_drains_refuses_what_no_lead_has_accepted() {
    let mut stage = Stage::with_config(beating(), |_| Ok(vec![Cue::Hang])).await;
    let stream = stage.client().generate(named("r")).await.unwrap();
    stage.followed().await;
    soon(stage.front.drain(Duration::from_secs(600))).await;
    let status = soon(stream.into_inner().filter_map(Result::err).next()).await;
    let status = status.unwrap();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert_eq!(status.get_details_error_info().unwrap().reason, "DRAINING");
}

#[tokio::test]
async fn a_new_lead_of_one_group_does_not_hold_up_the_requests_of_others() {
    let stage = Stage::new(always(vec![special("<|return|>")])).await;
    let address = stage.leads.borrow()["0"].clone();
    let both = ["0", "1"].map(|name| (name.to_owned(), address.clone()));
    stage.leads.send_replace(both.into());
    stage.hinder(refusing(usize::MAX, "LEAD_NEW"));
    soon(run(&stage, named("r"))).await;
}

/// Looks for a lead for long, and beats often.
fn beating() -> FrontConfig {
    FrontConfig {
        heartbeat: Duration::from_millis(20),
        hold: Duration::from_secs(20),
        ..patient()
    }
}

/// Leads only after some tries, which take longer than several heartbeats.
fn leads_late() -> impl Fn(&SequenceRecord) -> Result<Vec<Cue>, Status> + Send + Sync + 'static {
    let refuse = refusing(3, "NOT_LEADER");
    let output = [ids("one two"), vec![special("<|return|>")]].concat();
    move |record| refuse().map_or_else(|| Ok(play(record, &output)), Err)
}

#[tokio::test]
async fn a_stream_beats_before_any_lead_accepts_it() {
    let stage = Stage::with_config(beating(), leads_late()).await;
    let responses = soon(run(&stage, named("r"))).await;
    let is_beat =
        |response: &&v1::GenerateResponse| matches!(response.event, Some(Event::Heartbeat(_)));
    let before: Vec<_> = responses.iter().take_while(is_beat).collect();
    assert!(before.len() > 1, "{responses:?}");
    for response in &before {
        let Some(Event::Heartbeat(beat)) = &response.event else {
            unreachable!()
        };
        assert_eq!(response.sequence, 0, "nothing was told yet");
        assert_eq!(
            beat.state(),
            GenerationState::Unspecified,
            "nothing is queued"
        );
    }
    // All else is numbered as ever.
    let started = &responses[before.len()];
    assert!(matches!(started.event, Some(Event::Started(_))));
    assert_eq!(started.sequence, 1);
    assert!(matches!(
        responses.last().unwrap().event,
        Some(Event::Finished(_))
    ));
}

#[tokio::test]
async fn a_resumed_stream_and_a_chat_beat_with_the_number_that_the_client_has() {
    let stage = Stage::with_config(beating(), |_| Ok(vec![Cue::Hang])).await;
    let stream = Some(v1::StreamParams {
        resume_after: Some(50),
        ..Default::default()
    });
    let resumed = v1::GenerateRequest {
        stream,
        ..named("r")
    };
    let mut heard = stage.client().generate(resumed).await.unwrap().into_inner();
    let first = soon(heard.next()).await.unwrap().unwrap();
    assert_eq!(first.sequence, 50);
    assert!(matches!(first.event, Some(Event::Heartbeat(_))));
    let asked = v1::ChatRequest {
        request_id: "c".into(),
        stream,
        ..chat::request("Hi")
    };
    let mut heard = stage.client().chat(asked).await.unwrap().into_inner();
    let first = soon(heard.next()).await.unwrap().unwrap();
    assert_eq!(first.sequence, 50);
}

#[tokio::test]
async fn a_refusal_after_heartbeats_is_the_status_of_the_call() {
    let refuse = refusing(3, "NOT_LEADER");
    let stage = Stage::with_config(beating(), move |_| {
        let full = || refusal(Code::ResourceExhausted, "QUEUE_FULL", "full");
        Err(refuse().unwrap_or_else(full))
    })
    .await;
    let heard = stage.client().generate(named("r")).await.unwrap();
    let heard: Vec<_> = soon(heard.into_inner().collect()).await;
    assert!(heard.len() > 1);
    let status = heard.last().unwrap().as_ref().unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
}

#[tokio::test]
async fn server_sent_events_begin_with_comments_while_no_lead_accepts() {
    let stage = Stage::with_config(beating(), leads_late()).await;
    let body = serde_json::json!({"prompt": "x", "stream": true});
    let answer = http::complete(stage.http, body).await;
    assert_eq!(answer.status, 200);
    let before = answer.body.split("data: ").next().unwrap();
    assert!(before.matches(": waiting\n\n").count() > 1, "{answer:?}");
    assert!(answer.body.ends_with("data: [DONE]\n\n"), "{answer:?}");
    // The whole answer at once has its status, however long it takes.
    let stage = Stage::with_config(beating(), leads_late()).await;
    let answer = http::complete(stage.http, serde_json::json!({"prompt": "x"})).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn what_is_refused_late_is_the_last_event() {
    let refuse = refusing(3, "NOT_LEADER");
    let stage = Stage::with_config(beating(), move |_| {
        let full = || refusal(Code::ResourceExhausted, "QUEUE_FULL", "full");
        Err(refuse().unwrap_or_else(full))
    })
    .await;
    let body = serde_json::json!({"prompt": "x", "stream": true});
    let answer = http::complete(stage.http, body).await;
    assert_eq!(answer.status, 200);
    let last = answer.body.split_terminator("\n\n").last().unwrap();
    assert!(
        last.starts_with("data: ") && last.contains("queue_full"),
        "{last}"
    );
}

#[tokio::test]
async fn what_was_accepted_waits_for_room_in_the_queue_of_its_next_lead() {
    let mut output = ids("one two three four");
    output.push(special("<|return|>"));
    let (calls, tokens) = (AtomicUsize::new(0), output.len());
    let script = move |request: &SequenceRecord| match calls.fetch_add(1, Ordering::SeqCst) {
        0 => {
            let begun = play(request, &output).into_iter().take(4);
            let gone = Cue::Fail(passing("NOT_LEADER"));
            Ok(begun.chain([gone]).collect())
        }
        1..5 => Err(refusal(Code::ResourceExhausted, "QUEUE_FULL", "full")),
        _ => Ok(play(request, &output)),
    };
    let config = FrontConfig {
        hold: Duration::from_secs(20),
        ..patient()
    };
    let mut stage = Stage::with_config(config, script).await;
    let timeout = prost_types::Duration {
        seconds: 9,
        nanos: 0,
    };
    let request = v1::GenerateRequest {
        scheduling: Some(v1::SchedulingParams {
            queue_timeout: Some(timeout),
            ..Default::default()
        }),
        ..named("r")
    };
    let mut stream = stage.client().generate(request).await.unwrap().into_inner();
    soon(stream.next()).await.unwrap().unwrap();
    stage.forget();
    let rest: Vec<_> = soon(stream.map(Result::unwrap).collect()).await;
    assert_eq!(rest.last().unwrap().sequence as usize, tokens + 2);
    let first = stage.asked().await;
    let left = first.queue_timeout_us.unwrap();
    assert!((1..=9_000_000).contains(&left), "{left}");
    assert!(!first.was_accepted);
    let again = stage.asked().await;
    assert!(again.was_accepted);
    assert_eq!(again.queue_timeout_us, None, "it has run: its wait is over");
}

/// Returns what a call ends with, be it at once or after heartbeats.
async fn refused(stage: &Stage, request: v1::GenerateRequest) -> Status {
    match soon(stage.client().generate(request)).await {
        Ok(stream) => soon(stream.into_inner().filter_map(Result::err).next())
            .await
            .unwrap(),
        Err(status) => status,
    }
}

/// May wait to run for so many milliseconds.
fn hurried(id: &str, milliseconds: i32) -> v1::GenerateRequest {
    v1::GenerateRequest {
        scheduling: Some(v1::SchedulingParams {
            queue_timeout: Some(prost_types::Duration {
                seconds: i64::from(milliseconds / 1_000),
                nanos: milliseconds % 1_000 * 1_000_000,
            }),
            ..Default::default()
        }),
        ..named(id)
    }
}

#[tokio::test]
async fn a_flood_of_calls_that_resume_is_refused_at_once_too() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let full = move |_: &SequenceRecord| {
        counted.fetch_add(1, Ordering::SeqCst);
        Err(refusal(Code::ResourceExhausted, "QUEUE_FULL", "full"))
    };
    let stage = Stage::with_config(beating(), full).await;
    let request = v1::GenerateRequest {
        stream: Some(v1::StreamParams {
            resume_after: Some(2),
            ..Default::default()
        }),
        ..named("r")
    };
    let status = refused(&stage, request).await;
    assert_eq!(
        status.get_details_error_info().unwrap().reason,
        "QUEUE_FULL"
    );
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn what_no_lead_takes_waits_for_no_longer_than_it_may() {
    let stage = Stage::with_config(beating(), always(Vec::new())).await;
    stage.leads.send_replace([].into());
    let status = refused(&stage, hurried("r", 200)).await;
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert_eq!(
        status.get_details_error_info().unwrap().reason,
        "QUEUE_TIMEOUT"
    );
    assert!(status.get_details_retry_info().is_some());
}

#[tokio::test]
async fn the_wait_for_one_lead_counts_at_the_next() {
    let calls = AtomicUsize::new(0);
    let script = move |request: &SequenceRecord| match calls.fetch_add(1, Ordering::SeqCst) {
        0 => Ok(vec![accept(), Cue::Fail(passing("NOT_LEADER"))]),
        _ => Ok(play(request, &[special("<|return|>")])),
    };
    let config = FrontConfig {
        hold: Duration::from_secs(20),
        ..patient()
    };
    let mut stage = Stage::with_config(config, script).await;
    soon(run(&stage, hurried("r", 20_000))).await;
    let first = stage.asked().await.queue_timeout_us.unwrap();
    let next = stage.asked().await.queue_timeout_us.unwrap();
    // It pauses before it looks for another one.
    let pause = 20_000;
    assert!(
        first <= 20_000_000 && next + pause <= first,
        "{first} {next}"
    );
}
