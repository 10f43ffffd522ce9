//! The live generations, for those who look at them.

use std::ops::Bound;
use std::time::Duration;

use proto::internal::ListedSequence;
use spec::SequenceId;

use super::entry::State;
use super::{Ledger, Name};
use crate::lead::step_loop::millis;

impl Ledger {
    /// Returns the live ones that have left the queue.
    pub(crate) fn running(&self) -> impl Iterator<Item = (SequenceId, &Name)> {
        let is_running = |name: &Name| match self.entries.get(name).map(|entry| &entry.state) {
            Some(State::Live(live)) => live.is_running,
            _ => false,
        };
        let live = self.live.iter().filter(move |(_, name)| is_running(name));
        live.map(|(sequence, name)| (*sequence, name))
    }

    /// Lists the first `most` live sequences that came after this one.
    pub(crate) fn list(
        &self,
        after: SequenceId,
        most: usize,
        now: Duration,
    ) -> Vec<ListedSequence> {
        let later = (Bound::Excluded(after), Bound::Unbounded);
        let live = self.live.range(later).take(most);
        let listed = live.filter_map(|(sequence, name)| {
            let entry = self.entries.get(name)?;
            let State::Live(live) = &entry.state else {
                return None;
            };
            let log = entry.log.borrow();
            Some(ListedSequence {
                sequence: sequence.0,
                request_id: name.request_id.to_string(),
                principal: name.principal.to_string(),
                running: live.is_running,
                prompt_tokens: log.prompt_len() as u32,
                generated_tokens: log.tokens().len() as u32,
                age_ms: millis(entry.after(now)),
                followers: entry.followers.len() as u32,
            })
        });
        listed.collect()
    }
}
