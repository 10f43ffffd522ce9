//! The suite that every transport passes, with one and with several ranks in a process.

use std::sync::Arc;

use exchange::conformance::{Group, all};
use exchange::{Exchange, Inbox};
use exchange_grpc::Wire;
use spec::{Fence, Rank};

use crate::process::{FENCE, Process, enter};

struct Processes {
    processes: Vec<Process>,
    ranks_each: usize,
    exchanges: Vec<exchange::HostExchange<Wire>>,
    /// By rank.
    inboxes: Vec<Arc<Inbox>>,
}

impl Processes {
    fn start(num_ranks: usize, ranks_each: usize) -> Self {
        let ranks: Vec<u32> = (0..num_ranks as u32).collect();
        let ranks: Vec<&[u32]> = ranks.chunks(ranks_each).collect();
        let processes: Vec<_> = ranks.iter().map(|_| Process::start()).collect();
        let exchanges: Vec<_> = enter(&processes, &ranks, FENCE)
            .into_iter()
            .flatten()
            .collect();
        let inboxes = exchanges.iter().map(|e| Arc::clone(e.inbox())).collect();
        Self {
            processes,
            ranks_each,
            exchanges,
            inboxes,
        }
    }
}

impl Group for Processes {
    fn fence(&self) -> Fence {
        FENCE
    }

    fn exchanges(&mut self) -> Vec<Box<dyn Exchange>> {
        self.exchanges
            .drain(..)
            .map(|e| Box::new(e) as Box<dyn Exchange>)
            .collect()
    }

    fn waiting_for(&self, rank: Rank) -> Option<Rank> {
        self.inboxes[rank.index()].waiting_for()
    }

    fn abort(&self) {
        self.processes
            .iter()
            .for_each(|process| process.hub.abort(FENCE));
    }

    fn kill(&self, rank: Rank) -> Vec<Rank> {
        let process = rank.index() / self.ranks_each;
        self.processes[process].kill();
        let first = process * self.ranks_each;
        (first..first + self.ranks_each)
            .map(|rank| Rank(rank as u32))
            .collect()
    }
}

#[test]
fn one_rank_a_process_conforms() {
    all(|num_ranks| Processes::start(num_ranks, 1));
}

#[test]
fn two_ranks_a_process_conform() {
    all(|num_ranks| Processes::start(num_ranks, 2));
}
