//! However the lead goes, ranks that wait for a peer come back: nothing else limits their wait.

use proto::internal::step_service_client::StepServiceClient;

use crate::health::Health;
use crate::lead::{Group, Sequence, advance, fence, parts, prepare, seat};
use crate::process::Process;
use crate::relay::Relay;

/// A worker whose rank waits for a peer that was told nothing, in a step of a lead behind a relay.
struct Waiting {
    workers: [Process; 2],
    relay: Relay,
    health: Health,
    group: Group,
}

impl Waiting {
    async fn start() -> Self {
        let workers = [Process::alone("a", 1).await, Process::alone("b", 1).await];
        let relay = Relay::start(&workers[0].address).await;
        let mut members = seat(&[&workers[0], &workers[1]]).await;
        let relayed = StepServiceClient::connect(relay.address.clone()).await;
        members[0].client = relayed.unwrap();
        let (mut group, _) = prepare(&mut members, fence(1, 1)).await;
        let mut health = Health::watch(&workers[0]).await;
        health.until(true).await;
        let parts = parts(&Sequence::several(2), 2, true);
        group.runs[0].send(fence(1, 1), 1, &parts).await;
        group.runs[0].until_waiting_for(1).await;
        Self {
            workers,
            relay,
            health,
            group,
        }
    }

    /// The worker notices by itself that the run is over, and obeys the next lead.
    async fn goes_on(mut self) {
        self.health.until(false).await;
        let [a, b] = &self.workers;
        let mut members = seat(&[a, b]).await;
        let (mut group, _) = prepare(&mut members, fence(2, 1)).await;
        advance(&mut group, 1, &mut Sequence::several(2), true).await;
    }
}

#[tokio::test]
async fn a_lead_that_ends_its_stream() {
    let mut waiting = Waiting::start().await;
    waiting.group.runs.clear();
    waiting.goes_on().await;
}

#[tokio::test]
async fn a_lead_that_dies() {
    let mut waiting = Waiting::start().await;
    waiting.relay.cut().await;
    waiting.goes_on().await;
}

#[tokio::test]
async fn a_lead_that_is_stopped_or_out_of_reach() {
    let waiting = Waiting::start().await;
    waiting.relay.fall_silent();
    waiting.goes_on().await;
}
