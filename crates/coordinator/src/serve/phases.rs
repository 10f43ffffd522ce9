//! What the coordinator waits for as it starts, for operators.
//!
//! It has started once a group has a lead, here or elsewhere. Whether all ranks are there is no matter of
//! its own start; the front's readiness says it.

use store::Store;
use telemetry::{CoordinatorTelemetry, Phase};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::front::Addresses;

/// Shows the phase, and whether the membership store answers, until `end`.
pub(super) async fn follow(
    telemetry: CoordinatorTelemetry,
    store: Store,
    mut leads: watch::Receiver<Addresses>,
    end: CancellationToken,
) {
    let mut health = store.health();
    loop {
        let now = health.borrow_and_update().clone();
        let up = f64::from(u8::from(now.connected));
        telemetry.process().store_up.set((), up);
        let has_lead = !leads.borrow_and_update().is_empty();
        let (phase, detail) = match (has_lead, now.connected) {
            (true, _) => (Phase::Serving, String::new()),
            (false, true) => (Phase::WaitingForLead, "no group has one".into()),
            (false, false) => {
                let unasked = || "it was not asked yet".into();
                (
                    Phase::WaitingForStore,
                    now.last_error.unwrap_or_else(unasked),
                )
            }
        };
        telemetry.vitals().enter(phase, detail);
        tokio::select! {
            Ok(()) = health.changed() => {}
            Ok(()) = leads.changed() => {}
            () = end.cancelled() => return,
        }
    }
}
