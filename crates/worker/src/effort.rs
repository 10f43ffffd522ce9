//! What a part of a step has cost a rank: seconds by stage, and rows of experts by layer.

use std::cell::Cell;
use std::time::{Duration, Instant};

use model::Stage;
use telemetry::labels::StepPhase;

/// What one part has cost.
#[derive(Clone, Debug, Default)]
pub(crate) struct Effort {
    /// By phase, in the order of [`StepPhase::ALL`].
    pub(crate) spent: [Duration; StepPhase::ALL.len()],
    /// Rows that the rank's experts were given, by layer.
    pub(crate) rows: Vec<u32>,
}

/// Takes the time of the stages of one part, as its thread tells where it is.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    since: Cell<Instant>,
    now_in: Cell<Option<StepPhase>>,
    spent: Cell<[Duration; StepPhase::ALL.len()]>,
}

impl Stopwatch {
    /// Begins now.
    pub(crate) fn start() -> Self {
        Self {
            since: Cell::new(Instant::now()),
            now_in: Cell::new(None),
            spent: Cell::default(),
        }
    }

    /// The rank is in this stage from now on.
    pub(crate) fn enters(&self, stage: Stage) {
        self.turn(Some(phase(stage)));
    }

    /// Ends now; returns how long each phase took.
    pub(crate) fn stop(self) -> [Duration; StepPhase::ALL.len()] {
        self.turn(None);
        self.spent.get()
    }

    fn turn(&self, next: Option<StepPhase>) {
        let now = Instant::now();
        let took = now - self.since.replace(now);
        // What comes before the first stage is small: the look at what the part asks for.
        if let Some(phase) = self.now_in.replace(next) {
            let mut spent = self.spent.get();
            spent[phase as usize] += took;
            self.spent.set(spent);
        }
    }
}

fn phase(stage: Stage) -> StepPhase {
    match stage {
        Stage::Attention => StepPhase::Attention,
        Stage::Dispatch => StepPhase::Dispatch,
        Stage::Experts => StepPhase::Experts,
        Stage::Combine => StepPhase::Combine,
        Stage::Head => StepPhase::Sample,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_stage_is_that_until_the_next_one() {
        let watch = Stopwatch::start();
        let began = Instant::now();
        let wait = || {
            let began = Instant::now();
            while began.elapsed() < Duration::from_millis(2) {}
        };
        watch.enters(Stage::Attention);
        wait();
        watch.enters(Stage::Dispatch);
        watch.enters(Stage::Attention);
        wait();
        watch.enters(Stage::Head);
        wait();
        let spent = watch.stop();
        let of = |phase: StepPhase| spent[phase as usize];
        assert!(of(StepPhase::Attention) >= Duration::from_millis(4));
        assert!(of(StepPhase::Sample) >= Duration::from_millis(2));
        assert_eq!(of(StepPhase::Experts), Duration::ZERO);
        assert!(spent.iter().sum::<Duration>() <= began.elapsed());
    }
}
