//! Makes the worker ready for an epoch: weights, threads, KV memory, exchange.

use std::sync::Arc;

use checkpoint::{Checkpoint, RankWeights};
use exchange_grpc::{Hub, Peer};
use kernels::Exchange;
use proto::internal as wire;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use tonic::Status;

use crate::compute::{Hold, Order};
use crate::convert::{self, EpochPlan};
use crate::crew::{Contact, Crew};
use crate::epoch::Begun;
use crate::error::chain;
use crate::limits::PROGRESS_INTERVAL;
use crate::load::{LoadGauge, load};
use crate::run::{Prepared, Seat};

/// What a preparation changes; one at a time.
pub(crate) struct Workshop {
    checkpoint: Checkpoint,
    crew: Crew,
    /// Weights of the epoch before, which the next one shares.
    weights: Vec<Arc<RankWeights>>,
    hub: Hub,
    /// Threads that read weights: those that will compute with them.
    load_threads: usize,
}

/// A preparation: of which epoch, and who is told of its progress.
pub(crate) struct Preparation {
    pub(crate) plan: Arc<EpochPlan>,
    pub(crate) begun: Begun,
    pub(crate) states: mpsc::Sender<Result<wire::PrepareResponse, Status>>,
}

impl Workshop {
    pub(crate) fn new(checkpoint: Checkpoint, crew: Crew, hub: Hub, load_threads: usize) -> Self {
        Self {
            checkpoint,
            crew,
            weights: Vec::new(),
            hub,
            load_threads,
        }
    }

    /// Prepares an epoch. Returns what it needs to run, and for each rank whether its KV was kept.
    ///
    /// # Errors
    ///
    /// The status to answer: `ABORTED` if another epoch was begun meanwhile, `FAILED_PRECONDITION`
    /// with the reason if the worker cannot hold what the epoch needs.
    pub(crate) async fn prepare(
        &mut self,
        preparation: &Preparation,
    ) -> Result<(Prepared, Vec<bool>), Status> {
        let Preparation { plan, .. } = preparation;
        // Ranks that compute for the epoch before come back at once.
        self.hub.leave();
        self.weights = self.load(preparation).await?;
        let contacts = self.crew.assign(&plan.own).await;
        let contacts = contacts.map_err(|error| Status::resource_exhausted(chain(&error)))?;
        let kept_kv = self.hold(preparation, &contacts).await?;
        if preparation.begun.alive.is_cancelled() {
            return Err(superseded(plan));
        }
        let seats = self.enter(plan, contacts).await?;
        Ok((
            Prepared {
                plan: Arc::clone(plan),
                seats,
            },
            kept_kv,
        ))
    }

    /// Ends the ranks' threads; nothing is prepared afterwards.
    pub(crate) async fn close(&mut self) {
        self.hub.leave();
        self.crew.dismiss().await;
    }

    /// Loads the ranks' weights on a thread that may block, telling its progress.
    async fn load(&self, preparation: &Preparation) -> Result<Vec<Arc<RankWeights>>, Status> {
        let gauge = Arc::new(LoadGauge::default());
        let (checkpoint, have) = (self.checkpoint.clone(), self.weights.clone());
        let (plan, alive) = (
            Arc::clone(&preparation.plan),
            preparation.begun.alive.clone(),
        );
        let (threads, shown) = (self.load_threads, Arc::clone(&gauge));
        let task = tokio::task::spawn_blocking(move || {
            let watch = (shown.as_ref(), &alive);
            load(
                &checkpoint,
                &plan.placement,
                &plan.own,
                &have,
                threads,
                watch,
            )
        });
        let loaded = preparation.wait(task, &gauge).await;
        let loaded = loaded.map_err(|error| Status::internal(chain(&error)))?;
        loaded.map_err(|error| match error {
            checkpoint::Error::Cancelled => superseded(&preparation.plan),
            error => Status::failed_precondition(format!("loading weights: {}", chain(&error))),
        })
    }

    /// Hands each rank its weights; answers whether it kept its KV.
    async fn hold(
        &self,
        preparation: &Preparation,
        contacts: &[Contact],
    ) -> Result<Vec<bool>, Status> {
        let mut replies = Vec::with_capacity(contacts.len());
        for (contact, weights) in contacts.iter().zip(&self.weights) {
            let (reply, held) = oneshot::channel();
            let (plan, weights) = (Arc::clone(&preparation.plan), Arc::clone(weights));
            let since = preparation.begun.since;
            let order = Order::Hold(Hold {
                plan,
                weights,
                since,
                reply,
            });
            contact
                .orders
                .send(order)
                .await
                .map_err(|_| gone(contact))?;
            replies.push(held);
        }
        let mut kept_kv = Vec::with_capacity(contacts.len());
        for (contact, held) in contacts.iter().zip(replies) {
            let held = held.await.map_err(|_| gone(contact))?;
            kept_kv.push(held.map_err(|error| Status::failed_precondition(chain(&error)))?);
        }
        Ok(kept_kv)
    }

    /// Enters the exchange of the epoch: from here on its frames are taken, and no others.
    async fn enter(
        &self,
        plan: &Arc<EpochPlan>,
        contacts: Vec<Contact>,
    ) -> Result<Vec<Seat>, Status> {
        let peer = |member: &convert::Member| Peer {
            address: member.address.clone(),
            ranks: member.ranks.clone(),
        };
        let peers = plan.peers.iter().map(peer).collect();
        let exchanges = self.hub.enter(plan.fence, &plan.own, peers);
        let exchanges = exchanges.map_err(|error| Status::failed_precondition(chain(&error)))?;
        let mut seats = Vec::with_capacity(contacts.len());
        for (contact, exchange) in contacts.into_iter().zip(exchanges) {
            let inbox = Arc::clone(exchange.inbox());
            let exchange: Box<dyn Exchange> = Box::new(exchange);
            let order = Order::Enter {
                plan: Arc::clone(plan),
                exchange,
            };
            contact
                .orders
                .send(order)
                .await
                .map_err(|_| gone(&contact))?;
            seats.push(Seat { contact, inbox });
        }
        Ok(seats)
    }
}

impl Preparation {
    /// Waits for a task and meanwhile tells how much is loaded.
    async fn wait<T>(
        &self,
        mut task: JoinHandle<T>,
        gauge: &LoadGauge,
    ) -> Result<T, tokio::task::JoinError> {
        let mut tick = interval(PROGRESS_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                done = &mut task => return done,
                _ = tick.tick() => {
                    let (done, total) = gauge.read();
                    // A full queue, or a lead that has left, does not stop the load: what is in
                    // memory now need not be read by the next epoch.
                    self.states.try_send(Ok(convert::loading(done, total))).ok();
                }
            }
        }
    }
}

/// The answer to a preparation that another one has overtaken.
pub(crate) fn superseded(plan: &EpochPlan) -> Status {
    Status::aborted(format!(
        "epoch {} was given up while it was prepared",
        plan.fence
    ))
}

/// The answer when a rank's thread is gone: it panicked, and the process is about to end.
fn gone(contact: &Contact) -> Status {
    Status::internal(format!("the thread of rank {} has ended", contact.rank))
}
