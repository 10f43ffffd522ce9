//! What clients see while no lead answers for their generation.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use coordinator::front::FrontConfig;
use proto::v1::{self, GenerationState};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::generate::{request, run};
use crate::stage::{Stage, always, patient, refusal, soon, special};

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
async fn a_new_lead_of_one_group_does_not_hold_up_the_requests_of_others() {
    let stage = Stage::new(always(vec![special("<|return|>")])).await;
    let address = stage.leads.borrow()["0"].clone();
    let both = ["0", "1"].map(|name| (name.to_owned(), address.clone()));
    stage.leads.send_replace(both.into());
    stage.hinder(refusing(usize::MAX, "LEAD_NEW"));
    soon(run(&stage, named("r"))).await;
}
