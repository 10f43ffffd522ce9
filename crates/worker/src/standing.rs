//! How the worker stands, as operators see it: the phase of its start, and whether it is ready.
//!
//! It is ready while it is registered with its lead and holds the weights of its last epoch; whether
//! the group is complete is the coordinator's to say.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use spec::{Fence, Geometry, Rank};
use store::Store;
use telemetry::labels::{Fenced, Registration, Seat};
use telemetry::{Phase, WorkerTelemetry};
use tokio_util::sync::CancellationToken;

use crate::chosen::Chosen;
use crate::config::Config;
use crate::convert::EpochPlan;
use crate::error::Result;

/// Joins what the parts of a worker know of it, for the admin listener.
#[derive(Debug)]
pub(crate) struct Standing {
    telemetry: WorkerTelemetry,
    chosen: Chosen,
    facts: Mutex<Facts>,
}

#[derive(Debug)]
struct Facts {
    /// Why the membership store has not answered yet; `None` once it has.
    no_store: Option<String>,
    /// Why the worker is not registered; `None` while it is.
    unregistered: Option<String>,
    weights: Weights,
}

#[derive(Debug)]
enum Weights {
    /// Nobody has asked for any.
    Unasked,
    Loading(Fence),
    Loaded,
    Failed(String),
}

impl Standing {
    pub(crate) fn new(telemetry: WorkerTelemetry) -> Self {
        let facts = Facts {
            no_store: Some("it was not asked yet".into()),
            unregistered: Some("no lead is known".into()),
            weights: Weights::Unasked,
        };
        Self {
            telemetry,
            chosen: Chosen::new(),
            facts: Mutex::new(facts),
        }
    }

    /// Returns what counts the rows of each expert.
    pub(crate) fn chosen(&self) -> &Chosen {
        &self.chosen
    }

    /// Shows operators the rows of every single expert, where that was asked for.
    pub(crate) fn show_experts(&self, config: &Config, geometry: &Geometry) {
        if config.expert_metrics {
            let (layers, experts) = (geometry.num_layers(), geometry.num_experts);
            self.telemetry.show_experts(layers, experts);
        }
    }

    pub(crate) fn telemetry(&self) -> &WorkerTelemetry {
        &self.telemetry
    }

    /// Shows whether the membership store answers until `shutdown`, and then that the worker drains.
    pub(crate) async fn follow(
        self: Arc<Self>,
        store: Store,
        shutdown: CancellationToken,
    ) -> Result<()> {
        let mut health = store.health();
        loop {
            let now = health.borrow_and_update().clone();
            let up = f64::from(u8::from(now.connected));
            self.telemetry.process().store_up.set((), up);
            self.change(|facts| match now.connected {
                true => facts.no_store = None,
                // The lead that it has named goes on without it.
                false if facts.no_store.is_none() => {}
                false => facts.no_store = now.last_error.or(facts.no_store.take()),
            });
            tokio::select! {
                // The store that is asked here keeps its health.
                Ok(()) = health.changed() => {}
                () = shutdown.cancelled() => {
                    self.drains();
                    return Ok(());
                }
            }
        }
    }

    /// The lead has taken the worker in.
    pub(crate) fn registered(&self) {
        self.count(Registration::Accepted);
        self.change(|facts| facts.unregistered = None);
    }

    /// The worker is not registered, or no more; `refused` if another try would be, too.
    pub(crate) fn unregistered(&self, why: &str, refused: bool) {
        self.count(match refused {
            true => Registration::Refused,
            false => Registration::Failed,
        });
        self.change(|facts| facts.unregistered = Some(why.to_owned()));
    }

    fn count(&self, outcome: Registration) {
        self.telemetry.metrics().registrations.add(outcome, 1);
    }

    /// A message came that says what epoch it is of; `is_stale` if it was refused for that.
    pub(crate) fn hears(&self, message: Fenced, is_stale: bool) {
        let stale = &self.telemetry.metrics().stale_messages;
        stale.add(message, u64::from(is_stale));
    }

    /// An epoch is being prepared.
    pub(crate) fn prepares(&self, plan: &EpochPlan) {
        let metrics = self.telemetry.metrics();
        metrics.term.set((), plan.fence.term.0 as f64);
        metrics.epoch.set((), plan.fence.epoch.0 as f64);
        self.telemetry.seat(plan.own.iter().map(|rank| rank.0));
        for (seat, rank) in plan.own.iter().enumerate() {
            metrics.experts_hosted.set(Seat(seat), experts(plan, *rank));
        }
        self.change(|facts| facts.weights = Weights::Loading(plan.fence));
    }

    /// So much of the weights is in memory, of so much, and `news` of it is counted for the first time.
    pub(crate) fn loads(&self, (done, total): (u64, u64), news: u64) {
        let metrics = self.telemetry.metrics();
        metrics.load_bytes.add((), news);
        metrics
            .load_progress
            .set((), done as f64 / total.max(1) as f64);
        self.telemetry.vitals().loaded(done, total);
    }

    /// The epoch is prepared, or cannot be.
    pub(crate) fn prepared(&self, prepared: std::result::Result<(), String>) {
        if prepared.is_ok() {
            self.telemetry.metrics().load_progress.set((), 1.0);
        }
        self.change(|facts| {
            facts.weights = match prepared {
                Ok(()) => Weights::Loaded,
                Err(why) => Weights::Failed(why),
            }
        });
    }

    /// The worker ends.
    pub(crate) fn drains(&self) {
        self.telemetry.vitals().enter(Phase::Draining, "");
    }

    fn change(&self, change: impl FnOnce(&mut Facts)) {
        let mut facts = self.facts();
        change(&mut facts);
        let (phase, detail) = facts.phase();
        let vitals = self.telemetry.vitals();
        vitals.ready(match phase {
            Phase::Serving => Ok(()),
            other => Err(format!("{}: {detail}", other.as_str())),
        });
        vitals.enter(phase, detail);
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        // Nothing panics while it holds the lock.
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Facts {
    /// Returns what the worker is doing, and more about it in words.
    fn phase(&self) -> (Phase, String) {
        if let Weights::Loading(fence) = &self.weights {
            return (Phase::Loading, format!("for epoch {fence}"));
        }
        match (&self.unregistered, &self.no_store) {
            (None, _) => {}
            (Some(_), Some(why)) => return (Phase::WaitingForStore, why.clone()),
            (Some(why), None) => return (Phase::WaitingForLead, why.clone()),
        }
        let detail = match &self.weights {
            Weights::Loaded => return (Phase::Serving, String::new()),
            Weights::Failed(why) => format!("the last epoch could not be prepared: {why}"),
            _ => "registered; an epoch is prepared once all ranks are there".into(),
        };
        (Phase::WaitingForLead, detail)
    }
}

/// Returns how many experts a rank holds, over all layers.
fn experts(plan: &EpochPlan, rank: Rank) -> f64 {
    let layers = 0..plan.placement.num_layers();
    let held = layers.map(|layer| plan.placement.held_by(layer, rank).count());
    held.sum::<usize>() as f64
}

#[cfg(test)]
mod tests {
    use spec::Rank;
    use telemetry::{About, Telemetry, WorkerTelemetry};

    use super::Standing;
    use crate::testing::plan;

    fn standing() -> (Standing, WorkerTelemetry) {
        let telemetry = Telemetry::worker(About::default(), "0", 1);
        (Standing::new(telemetry.clone()), telemetry)
    }

    fn phase(telemetry: &WorkerTelemetry) -> &'static str {
        telemetry.vitals().startup().phase
    }

    #[test]
    fn a_worker_starts_by_store_lead_and_weights() {
        let (standing, telemetry) = standing();
        standing.change(|facts| facts.no_store = Some("refused".into()));
        assert_eq!(phase(&telemetry), "waiting for store");
        standing.change(|facts| facts.no_store = None);
        assert_eq!(phase(&telemetry), "waiting for lead");
        standing.registered();
        assert_eq!(phase(&telemetry), "waiting for lead");
        assert!(telemetry.vitals().startup().detail.contains("all ranks"));
        standing.prepares(&plan(vec![Rank(0)]));
        standing.loads((3, 12), 3);
        let startup = telemetry.vitals().startup();
        assert_eq!(
            (startup.phase, &*startup.detail),
            ("loading", "for epoch 1.1")
        );
        assert!(!startup.started && telemetry.vitals().readiness().is_err());
        standing.prepared(Ok(()));
        assert_eq!(phase(&telemetry), "serving");
        assert_eq!(telemetry.vitals().readiness(), Ok(()));
    }

    #[test]
    fn is_not_ready_without_a_lead_though_it_holds_weights() {
        let (standing, telemetry) = standing();
        standing.change(|facts| facts.no_store = None);
        standing.registered();
        standing.prepares(&plan(vec![Rank(0)]));
        standing.prepared(Ok(()));
        standing.unregistered("the lead ended the stream", false);
        let why = telemetry.vitals().readiness().unwrap_err();
        assert_eq!(why, "waiting for lead: the lead ended the stream");
        assert!(telemetry.vitals().startup().started);
        standing.registered();
        assert_eq!(telemetry.vitals().readiness(), Ok(()));
        standing.drains();
        standing.registered();
        assert!(telemetry.vitals().readiness().is_err());
    }

    #[test]
    fn an_epoch_that_cannot_be_prepared_is_told() {
        let (standing, telemetry) = standing();
        standing.registered();
        standing.prepares(&plan(vec![Rank(0)]));
        standing.prepared(Err("too little memory".into()));
        let why = telemetry.vitals().readiness().unwrap_err();
        assert!(why.contains("too little memory"), "{why}");
    }

    #[test]
    fn what_the_lead_decides_is_shown() {
        let (standing, telemetry) = standing();
        let plan = plan(vec![Rank(0)]);
        standing.prepares(&plan);
        standing.unregistered("another model", true);
        let text = telemetry.render();
        let experts = plan.placement.owners(0).len();
        for line in [
            "conclave_term{model=\"\",group=\"0\"} 1",
            "conclave_epoch{model=\"\",group=\"0\"} 1",
            &format!("conclave_ep_experts_hosted{{model=\"\",group=\"0\",rank=\"0\"}} {experts}"),
            "conclave_registrations_total{model=\"\",group=\"0\",outcome=\"refused\"} 1",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line}");
        }
    }
}
