//! Steps on their way: sent to all ranks, or void.

use cluster::Event;
use spec::{Fence, Rank};
use telemetry::labels::LeadPhase;

use super::StepLoop;
use super::answers::Broken;
use crate::lead::blame::Failed;
use crate::lead::life;

impl StepLoop {
    /// Sends steps for as long as the engine plans any.
    pub(super) fn plan(&mut self) {
        self.engine.pause_admission(self.leader.is_draining());
        while self.serving {
            let engine = &mut self.engine;
            let Some(step) = self.meter.timed(LeadPhase::Plan, || engine.next_step()) else {
                break;
            };
            for admitted in self.engine.take_admitted() {
                let (cached, now) = (admitted.cached_prompt_tokens, self.now);
                self.ledger.run(admitted.sequence, cached, now);
            }
            if self.flight.is_empty() {
                self.progress.restart(self.now);
            }
            life::opened(&step.parts, &self.ledger);
            self.flight.depart(&step);
            self.meter.send(&step, self.now);
            let (workers, ledger) = (&mut self.workers, &self.ledger);
            let send = || workers.send(&step, &|sequence| ledger.kept(sequence));
            if let Err(name) = self.meter.timed(LeadPhase::Send, send) {
                let broken = Broken {
                    why: "takes no steps".into(),
                    blamed: None,
                    barren: false,
                };
                self.blame_for(&name, broken);
            }
        }
    }

    pub(super) fn is_current(&self, fence: Fence) -> bool {
        self.epoch
            .as_ref()
            .is_some_and(|epoch| epoch.fence == fence)
    }

    /// Returns the ranks that a worker holds in the epoch.
    pub(super) fn ranks_of(&self, name: &str) -> &[Rank] {
        let mut members = self.epoch.iter().flat_map(|epoch| &epoch.members);
        let found = members.find(|(member, _)| member.name == name);
        found.map_or(&[], |(_, ranks)| ranks)
    }

    /// Returns the worker that holds a rank in the epoch.
    fn holder(&self, rank: Rank) -> Option<&str> {
        let mut members = self.epoch.iter().flat_map(|epoch| &epoch.members);
        let found = members.find(|(_, ranks)| ranks.contains(&rank));
        found.map(|(member, _)| member.name.as_str())
    }

    /// Voids the step that a worker could not complete, and sees to it that this has an end.
    pub(super) fn blame_for(&mut self, by: &str, broken: Broken) {
        let Broken {
            why,
            blamed,
            barren,
        } = broken;
        let mut away = None;
        // A worker that goes while nothing is computed has failed nothing.
        if !self.flight.is_empty() {
            let blames = blamed.and_then(|rank| self.holder(rank));
            let blames = blames.map(str::to_owned);
            let failed = Failed {
                by,
                blames: blames.as_deref(),
                barren,
            };
            let worst = self.blame.failed(failed, &self.flight.oldest());
            away = worst.and_then(|name| self.ranks_of(&name).first().copied());
        }
        let hopeless = self.blame.hopeless();
        if !hopeless.is_empty() {
            self.end_sequences(&hopeless, &why);
        }
        self.fail_step(format!("worker '{by}': {why}"), away);
    }

    pub(super) fn fail_step(&mut self, why: String, silent: Option<Rank>) {
        let Some(fence) = self.epoch.as_ref().map(|epoch| epoch.fence) else {
            return;
        };
        self.tell_leader(Event::StepFailed { fence, why, silent });
    }
}
