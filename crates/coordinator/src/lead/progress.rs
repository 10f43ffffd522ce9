//! Who moves, who waits for whom, and who is to blame when nobody moves. Pure.

use std::time::Duration;

use spec::Rank;

/// What is known of one rank's progress.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// Whether it has a step to compute. One that has none may still owe a result, which its worker
    /// sends with those of its other ranks.
    busy: bool,
    ticks: u64,
    moved: Duration,
    reported: Duration,
    waiting_for: Option<Rank>,
}

/// Watches the ranks of an epoch while steps are in flight.
#[derive(Clone, Debug)]
pub(crate) struct ProgressWatch {
    limit: Duration,
    seen: Vec<Seen>,
}

/// Nobody moved for the limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stalled {
    /// A rank that is silent, or computes for ever, if one can be named.
    pub(crate) to_blame: Option<Rank>,
    /// In words.
    pub(crate) why: String,
}

impl ProgressWatch {
    pub(crate) fn new(num_ranks: usize, limit: Duration, now: Duration) -> Self {
        let fresh = Seen {
            busy: true,
            ticks: 0,
            moved: now,
            reported: now,
            waiting_for: None,
        };
        Self {
            limit,
            seen: vec![fresh; num_ranks],
        }
    }

    /// Starts the clock again: the ranks were idle and have just been given work.
    pub(crate) fn restart(&mut self, now: Duration) {
        for seen in &mut self.seen {
            *seen = Seen {
                busy: true,
                moved: now,
                reported: now,
                waiting_for: None,
                ..*seen
            };
        }
    }

    /// Takes in a report; a rank that is at `step` 0 has none to compute.
    pub(crate) fn report(
        &mut self,
        rank: Rank,
        (step, ticks): (u64, u64),
        waiting_for: Option<Rank>,
        now: Duration,
    ) {
        let Some(seen) = self.seen.get_mut(rank.index()) else {
            return;
        };
        // Whom it waits for changes when a frame comes, before the next tick.
        let same = ticks == seen.ticks && waiting_for == seen.waiting_for;
        let moved = if same { seen.moved } else { now };
        *seen = Seen {
            busy: step > 0,
            ticks,
            moved,
            reported: now,
            waiting_for,
        };
    }

    /// Takes in that a rank finished a step.
    pub(crate) fn finished(&mut self, rank: Rank, now: Duration) {
        if let Some(seen) = self.seen.get_mut(rank.index()) {
            *seen = Seen {
                moved: now,
                reported: now,
                waiting_for: None,
                ..*seen
            };
        }
    }

    /// Says whether the step hangs: a rank that still `owes` a result has not moved for the limit,
    /// and either it is silent, or it computes and waits for nobody, or none of them moves.
    pub(crate) fn stalled(&self, now: Duration, owes: impl Fn(Rank) -> bool) -> Option<Stalled> {
        let late = |since: Duration| now.saturating_sub(since) > self.limit;
        let all = || {
            self.seen
                .iter()
                .enumerate()
                .map(|(rank, seen)| (Rank(rank as u32), seen))
        };
        let ranks = || all().filter(|(rank, _)| owes(*rank));
        let limit = self.limit;
        if let Some((rank, _)) = ranks().find(|(_, seen)| late(seen.reported)) {
            let why = format!("rank {rank} has been silent for {limit:?}");
            return Some(Stalled {
                to_blame: Some(rank),
                why,
            });
        }
        let stuck = |seen: &Seen| seen.busy && late(seen.moved) && seen.waiting_for.is_none();
        if let Some((rank, _)) = ranks().find(|(_, seen)| stuck(seen)) {
            let why = format!("rank {rank} has made no progress for {limit:?}");
            return Some(Stalled {
                to_blame: Some(rank),
                why,
            });
        }
        if ranks().next().is_some() && ranks().all(|(_, seen)| late(seen.moved)) {
            let waits = ranks().filter_map(|(rank, seen)| Some((rank, seen.waiting_for?)));
            let waits: Vec<String> = waits.map(|(a, b)| format!("{a} for {b}")).collect();
            let why = format!("no rank moves; those that wait: {}", waits.join(", "));
            return Some(Stalled {
                to_blame: None,
                why,
            });
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_silent_one_is_to_blame_and_not_those_who_wait_for_it() {
        let mut watch = ProgressWatch::new(3, LIMIT, at(0));
        for second in 1..=6 {
            watch.report(Rank(0), (1, 1), Some(Rank(2)), at(second));
            watch.report(Rank(1), (1, 1), Some(Rank(2)), at(second));
        }
        assert_eq!(
            watch.stalled(at(6), |_| true).unwrap().to_blame,
            Some(Rank(2))
        );
    }

    #[test]
    fn a_long_step_with_progress_is_fine() {
        let mut watch = ProgressWatch::new(2, LIMIT, at(0));
        for second in 1..60 {
            watch.report(Rank(0), (1, second), None, at(second));
            watch.report(Rank(1), (1, 1), Some(Rank(0)), at(second));
            assert_eq!(watch.stalled(at(second), |_| true), None);
        }
    }

    #[test]
    fn a_rank_that_reports_but_does_not_move_is_to_blame() {
        let mut watch = ProgressWatch::new(2, LIMIT, at(0));
        for second in 1..=6 {
            watch.report(Rank(0), (1, 3), None, at(second));
            watch.report(Rank(1), (1, 3), Some(Rank(0)), at(second));
        }
        assert_eq!(
            watch.stalled(at(7), |_| true).unwrap().to_blame,
            Some(Rank(0))
        );
    }

    #[test]
    fn a_lost_frame_blames_nobody() {
        let mut watch = ProgressWatch::new(2, LIMIT, at(0));
        for second in 1..=7 {
            watch.report(Rank(0), (1, 3), Some(Rank(1)), at(second));
            watch.report(Rank(1), (1, 3), Some(Rank(0)), at(second));
        }
        let stalled = watch.stalled(at(7), |_| true).unwrap();
        assert_eq!(stalled.to_blame, None);
        assert!(stalled.why.contains("0 for 1, 1 for 0"), "{}", stalled.why);
    }

    #[test]
    fn a_rank_that_has_answered_owes_no_report() {
        let watch = ProgressWatch::new(2, LIMIT, at(0));
        assert_eq!(watch.stalled(at(7), |_| false), None);
        assert_eq!(
            watch
                .stalled(at(7), |rank| rank == Rank(1))
                .unwrap()
                .to_blame,
            Some(Rank(1))
        );
    }

    #[test]
    fn a_rank_that_is_done_before_its_neighbour_is_not_to_blame() {
        let mut watch = ProgressWatch::new(2, LIMIT, at(0));
        for second in 1..60 {
            watch.report(Rank(0), (0, 9), None, at(second));
            watch.report(Rank(1), (1, second), None, at(second));
            assert_eq!(watch.stalled(at(second), |_| true), None);
        }
        for second in 60..66 {
            watch.report(Rank(0), (0, 9), None, at(second));
            watch.report(Rank(1), (0, 59), None, at(second));
        }
        let stalled = watch.stalled(at(66), |_| true).unwrap();
        assert_eq!(stalled.to_blame, None, "the step was lost on its way");
    }

    #[test]
    fn idle_time_does_not_count() {
        let mut watch = ProgressWatch::new(1, LIMIT, at(0));
        watch.restart(at(100));
        assert_eq!(watch.stalled(at(104), |_| true), None);
        assert!(watch.stalled(at(106), |_| true).is_some());
    }
}
