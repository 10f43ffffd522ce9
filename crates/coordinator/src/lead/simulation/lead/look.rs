//! What is seen of a lead from outside: how its generations stand, and whether it serves.

use std::time::Duration;

use spec::{Epoch, Fence, Term};

use super::{Lead, Name, Rules, Seen};
use crate::lead::convert;
use crate::lead::simulation::CLIENTS;

/// Returns what the generation of a client is called.
fn name(client: usize) -> Name {
    convert::name("p".into(), format!("r{client}")).expect("names are short")
}

impl Lead {
    /// Returns the epoch that it serves.
    pub(in crate::lead::simulation) fn serves(&self) -> Option<Fence> {
        let state = self.state.borrow();
        state.serving.then_some(Fence {
            term: Term(state.term),
            epoch: Epoch(state.epoch),
        })
    }

    /// Says whether a client's generation lives here.
    fn lives(&self, client: usize) -> bool {
        self.seen.get(&client) == Some(&Seen::Live)
    }

    /// Says whether a client's generation lived here at that time.
    pub(in crate::lead::simulation) fn lived(&self, client: usize, at: Duration) -> bool {
        let changed = self.changed.get(&client).copied().unwrap_or_default();
        self.lives(client) || changed > at
    }

    /// Looks how all generations stand, and tells the rules what is new.
    pub(super) fn look(&mut self, rules: &mut Rules, at: Duration) {
        self.has_served |= self.state.borrow().serving;
        let (submitted, forced) = (self.submitted.take(), self.forced.take());
        for client in 0..2 * CLIENTS {
            let Some(now) = self.stands(client) else {
                let before = self.seen.remove(&client);
                let is_right = before.is_none() || forced == Some(client);
                assert!(
                    is_right,
                    "generation {client} was {before:?}, and is forgotten"
                );
                continue;
            };
            let before = self.seen.get(&client);
            if before == Some(&now) {
                continue;
            }
            let state = self.state.borrow();
            let fence = Fence {
                term: Term(state.term),
                epoch: Epoch(state.epoch),
            };
            let lead = (self.me, fence, self.plan.as_deref());
            let asked = submitted == Some(client);
            rules.seen(lead, client, (before, &now, asked));
            drop(state);
            self.seen.insert(client, now);
            self.changed.insert(client, at);
        }
    }

    fn stands(&self, client: usize) -> Option<Seen> {
        let standing = self.step_loop.ledger().standing(&name(client))?;
        let log = standing.log;
        Some(match log.end() {
            None => Seen::Live,
            Some((end, _)) if end.may_go_on() => Seen::Stopped,
            Some((end, _)) => Seen::Over(end.clone(), log.tokens().len()),
        })
    }

    /// Checks that nothing lives on whose deadline has passed.
    pub(super) fn check_deadlines(&self, now: Duration) {
        for (client, deadline) in &self.deadlines {
            let is_late = now > *deadline && self.lives(*client);
            assert!(!is_late, "generation {client} lives beyond its deadline");
        }
    }
}
