//! Who follows a generation, and what becomes of it when nobody does.

use std::time::Duration;

use spec::SequenceId;

use super::entry::State;
use super::{Following, Ledger, Name, Terms};
use crate::lead::log::{Cursor, End, Failure};
use crate::limits;

impl Ledger {
    /// Lets somebody follow; `None` if there is no such generation, or enough follow it.
    ///
    /// The last follower's word about keeping it counts, and the latest deadline of all.
    pub(crate) fn follow(
        &mut self,
        name: &Name,
        terms: &Terms,
        now: Duration,
    ) -> Option<Following> {
        let entry = self.entries.get_mut(name)?;
        if entry.followers.len() >= limits::MAX_FOLLOWERS {
            return None;
        }
        self.last_number += 1;
        entry.followers.insert(self.last_number);
        entry.is_read = true;
        entry.keep = terms.keep;
        if let State::Live(live) = &mut entry.state {
            live.kept_until = None;
            let deadline = terms.deadline.map(|left| now + left);
            live.deadline = match live.is_followed {
                // None is the latest of all.
                true => live
                    .deadline
                    .zip(deadline)
                    .map(|(one, other)| one.max(other)),
                false => deadline,
            };
            live.is_followed = true;
        }
        let log = entry.log.subscribe();
        let (age, revision) = {
            let log = log.borrow();
            let ended = log.end().map(|(_, after)| *after);
            (ended.unwrap_or_else(|| entry.after(now)), log.revision())
        };
        let cursor = Cursor {
            revision,
            ..terms.cursor
        };
        self.schedule(name);
        Some(Following {
            number: self.last_number,
            log,
            cursor,
            age,
        })
    }

    /// Keeps a generation that nobody has followed yet, for this long at least.
    pub(crate) fn await_follower(&mut self, name: &Name, least: Duration, now: Duration) {
        let Some(entry) = self.entries.get_mut(name) else {
            return;
        };
        if let State::Live(live) = &mut entry.state {
            live.kept_until = Some(now + entry.keep.unwrap_or_default().max(least));
        }
        self.schedule(name);
    }

    /// Takes in that a follower has gone. Returns the sequence that nobody wants any more.
    pub(crate) fn unfollow(
        &mut self,
        name: &Name,
        number: u64,
        now: Duration,
    ) -> Option<SequenceId> {
        let entry = self.entries.get_mut(name)?;
        if !entry.followers.remove(&number) || !entry.followers.is_empty() {
            return None;
        }
        let State::Live(live) = &mut entry.state else {
            return None;
        };
        if let Some(keep) = entry.keep {
            live.kept_until = Some(now + keep);
            self.schedule(name);
            return None;
        }
        // A front that watches the same deadline may be the first to see that it passes.
        let passes = |deadline: Duration| deadline <= now + limits::DEADLINE_SLACK;
        let end = match live.deadline.is_some_and(passes) {
            true => End::Failed(Failure::Deadline),
            false => End::Abandoned,
        };
        self.end(name, end, now)
    }
}
