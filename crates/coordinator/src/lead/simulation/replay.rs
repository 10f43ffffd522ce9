//! Which seeds are run, and how one that broke a rule is run again and tells what happens.

use super::net::Event;
use super::{SEEDS, World};

/// Names the one seed to run, or a first and a last one with a dash between them.
const SEED: &str = "CONCLAVE_TEST_SEED";

/// Returns the command that runs one seed alone.
pub(super) fn replay(seed: u64) -> String {
    format!("{SEED}={seed} cargo test -p coordinator --lib simulation -- --nocapture")
}

/// Returns the first seed and the one after the last.
#[expect(clippy::disallowed_methods, reason = "who replays a seed names it so")]
pub(super) fn seeds() -> (u64, u64) {
    let Ok(given) = std::env::var(SEED) else {
        return (0, SEEDS);
    };
    let (first, last) = given.split_once('-').unwrap_or((&given, &given));
    let seed = |text: &str| text.parse::<u64>().ok();
    let range = seed(first).zip(seed(last).and_then(|last| last.checked_add(1)));
    let range = range.filter(|(first, end)| first < end);
    range.unwrap_or_else(|| panic!("{SEED} is {given:?}: give a seed as 7, or a range as 0-99"))
}

impl World {
    /// Says what happens next, if it is to be told.
    pub(super) fn tell(&self, event: &Event) {
        if !self.is_told {
            return;
        }
        match event {
            Event::Packet(port, packet) => {
                let (from, to) = (self.net.peer(*port), self.net.node(*port));
                eprintln!("{:?} {from:?} -> {to:?}: {packet:?}", self.net.now);
            }
            Event::Tick(_) => {}
            other => eprintln!("{:?} {other:?}", self.net.now),
        }
    }
}
