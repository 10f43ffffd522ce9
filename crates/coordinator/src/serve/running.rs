//! A coordinator that runs, and how it ends in order.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Error;
use crate::directory::Peers;
use crate::front::Front;
use crate::tenure::Office;

/// How long connections may take to close once every stream has ended.
const CLOSE: Duration = Duration::from_secs(3);

/// How long after us another coordinator may say that it ends, too, and still be heard.
const LOOK_AROUND: Duration = Duration::from_millis(500);

/// A running coordinator.
#[derive(Debug)]
pub struct Running {
    pub(super) front: Front,
    pub(super) tasks: TaskTracker,
    /// Told to end.
    pub(super) shutdown: CancellationToken,
    /// The front has drained: its servers close.
    pub(super) drained: CancellationToken,
    pub(super) groups: Vec<Seat>,
    pub(super) name: String,
    /// How long streams may go on after that.
    pub(super) drain: Duration,
    pub(super) peers: watch::Receiver<Peers>,
    pub(super) present: Present,
    /// Everything else ends.
    pub(super) end: CancellationToken,
    pub(super) failures: mpsc::Receiver<Error>,
}

/// The coordinator's record in the membership store.
#[derive(Debug)]
pub(super) struct Present {
    /// Says there that it is about to end.
    pub(super) draining: CancellationToken,
    /// Takes it back.
    pub(super) leave: CancellationToken,
    /// It was taken back.
    pub(super) left: CancellationToken,
}

/// A group that this coordinator may lead.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) group: String,
    /// Gives its lead up, or does not try to get it.
    pub(super) leave: CancellationToken,
    pub(super) office: watch::Receiver<Option<Office>>,
}

impl Running {
    /// Waits for the end: after shutdown, until the sequences have ended, have gone over to another
    /// lead, or the drain time is over.
    ///
    /// # Errors
    ///
    /// What failed by itself first; everything else is then ended in order.
    pub async fn wait(mut self) -> Result<(), Error> {
        let failed = tokio::select! {
            failure = self.failures.recv() => failure,
            () = self.shutdown.cancelled() => None,
        };
        self.present.draining.cancel();
        // A client that does not read can hold its generation's end up for longer.
        let drain = tokio::time::timeout(self.drain + CLOSE, self.front.drain(self.drain));
        let ((), drained) = tokio::join!(self.hand_over(), drain);
        if drained.is_err() {
            tracing::warn!("clients that do not read were left behind");
        }
        self.drained.cancel();
        let left = tokio::time::timeout(CLOSE, self.leave()).await;
        if left.is_err() {
            tracing::warn!("the membership store was not told of the end; leases will tell it");
        }
        self.end.cancel();
        self.tasks.close();
        if tokio::time::timeout(CLOSE, self.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("connections were still open at the end");
        }
        failed.map_or(Ok(()), Err)
    }

    /// Gives up what another coordinator can lead: streams find it there.
    async fn hand_over(&self) {
        let others_lead = |seat: &&Seat| self.peers.borrow().could_lead(&seat.group, &self.name);
        if !self.groups.iter().any(|seat| others_lead(&seat)) {
            return;
        }
        // Those that are told to end at the same moment say so, too, and cannot lead.
        let mut peers = self.peers.clone();
        let shown = peers.wait_for(|peers| peers.is_draining(&self.name));
        let shown = tokio::time::timeout(CLOSE - LOOK_AROUND, shown);
        // Without the store nobody could be elected: streams end here.
        let is_shown = matches!(shown.await, Ok(Ok(_)));
        if !is_shown {
            return;
        }
        tokio::time::sleep(LOOK_AROUND).await;
        for seat in self.groups.iter().filter(others_lead) {
            seat.leave.cancel();
        }
    }

    /// Gives up whatever is led here, and takes the coordinator out of the store.
    async fn leave(&mut self) {
        for seat in &mut self.groups {
            seat.leave.cancel();
            // An election that has ended leads nothing.
            seat.office.wait_for(Option::is_none).await.ok();
        }
        self.present.leave.cancel();
        self.present.left.cancelled().await;
    }
}
