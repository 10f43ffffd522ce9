//! Where requests go when there are several groups, and some of them cannot serve.

use std::time::Duration;

use coordinator::front::FrontConfig;
use proto::internal::WatchResponse;
use proto::v1::generate_response::Event;
use proto::v1::{self, generate_request::Prompt};
use tokio::task::JoinSet;
use tokio_stream::StreamExt as _;
use tonic::{Code, Status};

use crate::http;
use crate::stage::{Stage, always, ids, patient, refusal, soon, special};

/// Says a little and ends.
fn output() -> Vec<u32> {
    [ids("one two"), vec![special("<|return|>")]].concat()
}

/// Makes the front of a stage know two groups.
fn lead(stage: &Stage, second: String) {
    let first = stage.leads.borrow()["0"].clone();
    let both = [("0".to_owned(), first), ("1".to_owned(), second)];
    stage.leads.send_replace(both.into());
}

#[tokio::test]
async fn completions_go_around_a_group_that_does_not_serve() {
    let stage = Stage::new(always(output())).await;
    let wrong = |_: &_| Err(refusal(Code::ResourceExhausted, "QUEUE_FULL", "not here"));
    let down = Stage::new(wrong).await;
    let incomplete = WatchResponse {
        status: "waiting for workers".into(),
        ..Default::default()
    };
    down.state.send(incomplete).unwrap();
    lead(&stage, down.leads.borrow()["0"].clone());
    soon(async {
        let both = ["group '0': serving", "group '1': waiting for workers"];
        loop {
            let said = http::get(stage.http, "/readyz").await.body;
            if both.iter().all(|words| said.contains(words)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    for prompt in 0..8 {
        let body = serde_json::json!({"prompt": format!("{prompt} is a number")});
        let answer = http::complete(stage.http, body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

#[tokio::test]
async fn a_group_that_nobody_leads_holds_up_its_own_requests_only() {
    let config = FrontConfig {
        hold: Duration::from_secs(600),
        ..patient()
    };
    let stage = Stage::with_config(config, always(output())).await;
    // Nobody listens there.
    lead(&stage, "http://127.0.0.1:1".into());
    let mut runs = JoinSet::new();
    for number in 0..8 {
        let mut client = stage.client();
        runs.spawn(async move {
            let request = v1::GenerateRequest {
                request_id: format!("r-{number}"),
                prompt: Some(Prompt::Text(format!("{number} is a number"))),
                ..Default::default()
            };
            let heard = client.generate(request).await?.into_inner();
            heard.collect::<Result<Vec<_>, Status>>().await
        });
    }
    // Some of them are for the group that is there.
    let heard = soon(runs.join_next()).await.unwrap().unwrap().unwrap();
    let last = heard.last().unwrap().event.as_ref();
    assert!(matches!(last, Some(Event::Finished(_))), "{heard:?}");
}
