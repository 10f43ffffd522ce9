//! The suite that every transport passes, with one and with several ranks in a process.

use std::sync::{Arc, Mutex, PoisonError};

use exchange::conformance::{Group, all};
use exchange::{Exchange, ExchangeError, HostExchange, Inbox};
use exchange_grpc::Wire;
use kernels::{Dispatch, Received, Returned};
use spec::{Fence, Rank};

use crate::process::{FENCE, Process, enter};

struct Processes {
    processes: Vec<Process>,
    has_doors: bool,
    ranks_each: usize,
    /// By rank.
    exchanges: Vec<Mortal>,
    /// By rank.
    inboxes: Vec<Arc<Inbox>>,
}

impl Processes {
    fn start(num_ranks: usize, ranks_each: usize, has_doors: bool) -> Self {
        let start = match has_doors {
            true => Process::start_with_door,
            false => Process::start,
        };
        let ranks: Vec<u32> = (0..num_ranks as u32).collect();
        let ranks: Vec<&[u32]> = ranks.chunks(ranks_each).collect();
        let processes: Vec<_> = ranks.iter().map(|_| start()).collect();
        let exchanges: Vec<_> = enter(&processes, &ranks, FENCE)
            .into_iter()
            .flatten()
            .collect();
        let inboxes = exchanges.iter().map(|e| Arc::clone(e.inbox())).collect();
        let exchanges = exchanges.into_iter().map(Mortal::new).collect();
        Self {
            processes,
            has_doors,
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
        let mortal = |exchange: &Mortal| Box::new(exchange.clone()) as Box<dyn Exchange>;
        self.exchanges.iter().map(mortal).collect()
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
        self.exchanges[rank.index()].kill();
        self.processes[process].kill();
        if self.has_doors {
            // No stream wakes the process's other ranks; they end with it.
            self.processes[process].hub.abort(FENCE);
        }
        let first = process * self.ranks_each;
        (first..first + self.ranks_each)
            .map(|rank| Rank(rank as u32))
            .collect()
    }
}

/// An exchange that ends with its process: its files are closed then, whoever holds it.
#[derive(Clone)]
struct Mortal(Arc<Mutex<Option<HostExchange<Wire>>>>);

impl Mortal {
    fn new(exchange: HostExchange<Wire>) -> Self {
        Self(Arc::new(Mutex::new(Some(exchange))))
    }

    fn kill(&self) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    fn alive<T>(&self, act: impl FnOnce(&mut HostExchange<Wire>) -> T) -> T {
        let mut exchange = self.0.lock().unwrap();
        act(exchange
            .as_mut()
            .expect("nobody computes in a process that is gone"))
    }
}

impl Exchange for Mortal {
    fn dispatch(&mut self, args: Dispatch<'_>) -> Result<Received, ExchangeError> {
        self.alive(|exchange| exchange.dispatch(args))
    }

    fn combine(&mut self, received: &Received, outputs: &[f32]) -> Result<Returned, ExchangeError> {
        self.alive(|exchange| exchange.combine(received, outputs))
    }
}

#[test]
fn one_rank_a_process_conforms() {
    all(|num_ranks| Processes::start(num_ranks, 1, false));
}

#[test]
fn two_ranks_a_process_conform() {
    all(|num_ranks| Processes::start(num_ranks, 2, false));
}

#[test]
fn one_rank_a_process_conforms_with_lanes() {
    all(|num_ranks| Processes::start(num_ranks, 1, true));
}

#[test]
fn two_ranks_a_process_conform_with_lanes() {
    all(|num_ranks| Processes::start(num_ranks, 2, true));
}
