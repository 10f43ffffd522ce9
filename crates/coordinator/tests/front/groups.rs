//! Where requests go when there are several groups, and some of them cannot serve.

use std::time::Duration;

use proto::internal::WatchResponse;
use tonic::Code;

use crate::http;
use crate::stage::{Stage, always, ids, refusal, soon, special};

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
