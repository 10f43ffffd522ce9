//! The steps of a group, each rank on its back end's own threads.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, Scope};

use exchange::{HostExchange, Local};
use kernels::Backend;
use model::{Capture, ModelError, RankModel};
use spec::{Fence, Part, StepNumber};

use super::Group;

/// A rank.
pub(super) struct Seat {
    pub(super) model: RankModel,
    pub(super) exchange: HostExchange<Local>,
    /// The model's.
    pub(super) backend: Arc<dyn Backend>,
}

/// How a rank on another thread is reached.
struct Desk {
    orders: Sender<(StepNumber, Part)>,
    results: Receiver<Result<(), ModelError>>,
}

/// Runs steps while its ranks wait for more.
pub(crate) struct Steps<'a> {
    /// The rank of this thread.
    first: &'a mut Seat,
    others: Vec<Desk>,
    step: &'a mut StepNumber,
}

impl Group {
    /// Does work that runs many steps.
    pub(crate) fn run<T: Send>(&mut self, work: impl FnOnce(&mut Steps<'_>) -> T + Send) -> T {
        let (first, others) = self.seats.split_first_mut().expect("a group has a rank");
        let step = &mut self.step;
        thread::scope(|scope| {
            let others = others.iter_mut().map(|seat| seat.serve(scope)).collect();
            let backend = Arc::clone(&first.backend);
            let mut result = None;
            backend.host(Box::new(|| {
                let mut steps = Steps {
                    first,
                    others,
                    step,
                };
                result = Some(work(&mut steps));
            }));
            result.expect("a back end runs what it hosts")
        })
    }
}

impl Seat {
    /// Takes orders on a thread of its own until nobody gives any.
    fn serve<'a>(&'a mut self, scope: &'a Scope<'a, '_>) -> Desk {
        let (orders, inbox) = channel();
        let (replies, results) = channel();
        let backend = Arc::clone(&self.backend);
        scope.spawn(move || {
            backend.host(Box::new(move || {
                for (step, part) in inbox {
                    // Whoever gave the order may have failed since.
                    replies.send(self.compute(step, &part)).ok();
                }
            }));
        });
        Desk { orders, results }
    }

    fn compute(&mut self, step: StepNumber, part: &Part) -> Result<(), ModelError> {
        let (model, exchange) = (&mut self.model, &mut self.exchange);
        let result = model.run(Fence::default(), step, part, exchange, &())?;
        debug_assert!(
            result.lines.iter().all(|line| line.ran),
            "a line was skipped"
        );
        Ok(())
    }

    fn show(
        &mut self,
        step: StepNumber,
        part: &Part,
        capture: Capture<'_>,
    ) -> Result<(), ModelError> {
        let (model, exchange) = (&mut self.model, &mut self.exchange);
        let shown = model.run_with(Fence::default(), step, part, exchange, &(), capture);
        shown.map(drop)
    }
}

impl Steps<'_> {
    /// Computes a part on each rank.
    pub(crate) fn run(&mut self, parts: Vec<Part>) -> Result<(), ModelError> {
        self.step.0 += 1;
        let mut parts = parts.into_iter();
        let own = parts.next();
        for (desk, part) in self.others.iter().zip(parts) {
            desk.orders
                .send((*self.step, part))
                .expect("a rank waits for orders");
        }
        let mut result = own.map_or(Ok(()), |part| self.first.compute(*self.step, &part));
        for desk in &self.others {
            let other = desk.results.recv().expect("a rank answers each order");
            result = result.and(other);
        }
        result
    }

    /// Computes a part in a group of one rank, and shows the logits of all rows.
    pub(crate) fn show(
        &mut self,
        parts: Vec<Part>,
        capture: Capture<'_>,
    ) -> Result<(), ModelError> {
        self.step.0 += 1;
        let mut parts = parts.into_iter();
        match (parts.next(), parts.next()) {
            (Some(part), None) => self.first.show(*self.step, &part, capture),
            _ => panic!("one rank has one part"),
        }
    }
}
