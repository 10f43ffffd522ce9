//! What the series of one process are about: how many groups and ranks there are, and what they are
//! called.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// A seat that no rank has.
const VACANT: u32 = u32::MAX;

/// Says whose metrics they are.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// Version of the program.
    pub version: String,
    /// Name of the model that is served.
    pub model: String,
}

/// The ranges of the labels whose values a configuration decides, and the labels that every series of
/// the process has.
#[derive(Debug)]
pub(crate) struct Scope {
    /// `coordinator` or `worker`.
    pub(crate) process: &'static str,
    pub(crate) version: String,
    /// Labels that every series has.
    pub(crate) constants: Vec<(&'static str, String)>,
    /// Names of the groups that a coordinator may lead.
    pub(crate) groups: Vec<String>,
    /// Ranks of each of these groups.
    pub(crate) ranks: usize,
    /// Layers of the model, once that is known.
    layers: AtomicUsize,
    /// Experts of each layer, where a worker shows them one by one.
    experts: AtomicUsize,
    /// The ranks that a worker holds, in the order of its parts.
    seats: Box<[AtomicU32]>,
}

impl Scope {
    pub(crate) fn worker(about: About, group: &str, num_ranks: usize) -> Self {
        Self {
            process: "worker",
            version: about.version,
            constants: vec![("model", about.model), ("group", group.to_owned())],
            groups: Vec::new(),
            ranks: 0,
            layers: AtomicUsize::new(0),
            experts: AtomicUsize::new(0),
            seats: (0..num_ranks).map(|_| AtomicU32::new(VACANT)).collect(),
        }
    }

    pub(crate) fn coordinator(about: About, groups: Vec<String>, ranks: usize) -> Self {
        Self {
            process: "coordinator",
            version: about.version,
            constants: vec![("model", about.model)],
            groups,
            ranks,
            layers: AtomicUsize::new(0),
            experts: AtomicUsize::new(0),
            seats: Box::default(),
        }
    }

    pub(crate) fn num_seats(&self) -> usize {
        self.seats.len()
    }

    pub(crate) fn layers(&self) -> usize {
        self.layers.load(Ordering::Relaxed)
    }

    pub(crate) fn set_layers(&self, layers: usize) {
        self.layers.store(layers, Ordering::Relaxed);
    }

    pub(crate) fn experts(&self) -> usize {
        self.experts.load(Ordering::Relaxed)
    }

    pub(crate) fn set_experts(&self, experts: usize) {
        self.experts.store(experts, Ordering::Relaxed);
    }

    /// Returns the rank in a seat.
    pub(crate) fn rank_in(&self, seat: usize) -> Option<u32> {
        let rank = self.seats.get(seat)?.load(Ordering::Relaxed);
        (rank != VACANT).then_some(rank)
    }

    /// Gives a seat to a rank.
    pub(crate) fn seat(&self, seat: usize, rank: u32) {
        if let Some(place) = self.seats.get(seat) {
            place.store(rank, Ordering::Relaxed);
        }
    }

    /// Whether series with this value of `rank` are shown: a worker shows those of its own.
    pub(crate) fn shows(&self, rank: &str) -> bool {
        let mut seats = (0..self.num_seats()).filter_map(|seat| self.rank_in(seat));
        self.seats.is_empty()
            || rank
                .parse()
                .is_ok_and(|rank: u32| seats.any(|own| own == rank))
    }
}
