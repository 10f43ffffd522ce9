//! Simulated time stands still while a rank computes.
//!
//! Ranks compute on threads of their own, outside the simulation. Without this, seconds of simulated
//! time would pass while one of them waits for a processor, and it would be taken for dead.

use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Steps of the simulation between two looks at which threads there are.
const LOOK_AGAIN: u32 = 16;

/// How long a rank may compute before time goes on all the same.
const LIMIT: Duration = Duration::from_secs(2);

/// Pause between two looks at the threads' states.
const PAUSE: Duration = Duration::from_micros(50);

/// Waits for ranks.
#[derive(Default)]
pub(crate) struct Pace {
    /// Where the system tells the state of each rank's thread.
    ranks: Vec<PathBuf>,
    steps: u32,
}

impl Pace {
    /// Waits until no rank of this process computes.
    pub(crate) fn wait(&mut self) {
        if self.steps.is_multiple_of(LOOK_AGAIN) {
            self.look();
        }
        self.steps += 1;
        let began = Instant::now();
        while self.ranks.iter().any(computes) && began.elapsed() < LIMIT {
            std::thread::sleep(PAUSE);
        }
    }

    fn look(&mut self) {
        let threads = std::fs::read_dir("/proc/self/task").unwrap();
        let stats = threads.filter_map(|thread| Some(thread.ok()?.path().join("stat")));
        self.ranks = stats.filter(is_rank).collect();
    }
}

/// Reads a thread's name and state. Source: proc(5), `/proc/<pid>/task/<tid>/stat`.
fn name_and_state(stat: &PathBuf) -> Option<(String, char)> {
    let stat = std::fs::read_to_string(stat).ok()?;
    let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
    Some((name.to_owned(), rest.trim_start().chars().next()?))
}

fn is_rank(stat: &PathBuf) -> bool {
    name_and_state(stat).is_some_and(|(name, _)| name.starts_with("rank-"))
}

/// Whether it runs, or would if it had a processor; else it sleeps, and waits for somebody.
fn computes(stat: &PathBuf) -> bool {
    name_and_state(stat).is_some_and(|(_, state)| state == 'R')
}
