//! Makes the worker ready for an epoch: weights, threads, KV memory, exchange.

use std::sync::Arc;

use checkpoint::{Checkpoint, RankWeights};
use exchange_grpc::{Hub, Peer};
use kernels::Exchange;
use proto::internal as wire;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinError;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::compute::{Hold, Order};
use crate::convert::{self, EpochPlan};
use crate::crew::{Contact, Crew};
use crate::error::{Error, chain};
use crate::limits::PROGRESS_INTERVAL;
use crate::load::{Layout, LoadGauge, Loaded, Loading, load};
use crate::meter::{Metered, StepMeter};
use crate::run::{Prepared, Seat};
use crate::standing::Standing;

/// What a preparation changes; one at a time.
pub(crate) struct Workshop {
    checkpoint: Checkpoint,
    crew: Crew,
    /// Weights that are in memory, which the next epoch shares: those of the epoch before, and the
    /// whole ranks of a load that was stopped or failed in place of the first of them. So there is
    /// never more than one for each of the worker's ranks.
    weights: Vec<Arc<RankWeights>>,
    /// A load that no preparation has waited to the end of.
    loading: Option<Loading>,
    hub: Hub,
    layout: Layout,
    /// Told how preparations go.
    standing: Arc<Standing>,
}

/// A preparation: of which epoch, and who is told of its progress.
pub(crate) struct Preparation {
    pub(crate) plan: Arc<EpochPlan>,
    /// Cancelled when the epoch is over.
    pub(crate) alive: CancellationToken,
    pub(crate) states: mpsc::Sender<Result<wire::PrepareResponse, Status>>,
}

impl Workshop {
    pub(crate) fn new(
        checkpoint: Checkpoint,
        crew: Crew,
        hub: Hub,
        layout: Layout,
        standing: Arc<Standing>,
    ) -> Self {
        Self {
            checkpoint,
            crew,
            weights: Vec::new(),
            loading: None,
            hub,
            layout,
            standing,
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
        self.standing.prepares(&preparation.plan);
        let prepared = self.make_ready(preparation).await;
        self.standing.prepared(match &prepared {
            Ok(_) => Ok(()),
            Err(status) => Err(status.message().to_owned()),
        });
        prepared
    }

    async fn make_ready(
        &mut self,
        preparation: &Preparation,
    ) -> Result<(Prepared, Vec<bool>), Status> {
        let Preparation { plan, .. } = preparation;
        // Ranks that compute for the epoch before come back at once.
        self.hub.leave();
        self.load(preparation).await?;
        let contacts = self.crew.assign(&plan.own).await;
        let contacts = contacts.map_err(|error| match error {
            Error::RankHung { .. } => hung(&error),
            error => Status::resource_exhausted(chain(&error)),
        })?;
        let kept_kv = self.hold(preparation, &contacts).await?;
        if preparation.alive.is_cancelled() {
            return Err(superseded(plan));
        }
        let seats = self.enter(plan, contacts).await?;
        Ok((
            Prepared {
                plan: Arc::clone(plan),
                seats,
                meter: StepMeter::new(self.standing.telemetry().clone()),
            },
            kept_kv,
        ))
    }

    /// Ends the exchange, the load and the ranks' threads; nothing is prepared afterwards.
    pub(crate) async fn close(&mut self) {
        self.hub.close();
        if let Some(loading) = self.loading.take() {
            loading.stop().await;
        }
        self.crew.dismiss().await;
    }

    /// Loads the ranks' weights, telling the progress. A load that an earlier preparation began goes
    /// on if it is of the same.
    async fn load(&mut self, preparation: &Preparation) -> Result<(), Status> {
        let plan = &preparation.plan;
        let mut begun = self.loading.take();
        if let Some(other) = begun.take_if(|loading| !loading.is_for(plan)) {
            // What is whole need not be read again.
            let whole = other.stop().await;
            self.keep(whole);
        }
        let loading = begun.unwrap_or_else(|| {
            let (checkpoint, have) = (self.checkpoint.clone(), self.weights.clone());
            let layout = self.layout.clone();
            Loading::begin(plan, move |plan, watch| {
                load(&checkpoint, plan, &have, &layout, watch)
            })
        });
        let loading = self.loading.insert(loading);
        let loaded = preparation.wait(loading, &self.standing).await?;
        self.loading = None;
        let (weights, outcome) = loaded.map_err(|error| Status::internal(chain(&error)))?;
        match outcome {
            Ok(()) => self.weights = weights,
            Err(error) => {
                self.keep(weights);
                let why = format!("loading weights: {}", chain(&error));
                return Err(Status::failed_precondition(why));
            }
        }
        Ok(())
    }

    /// Keeps the whole ranks of a load that brought no more. They take the place of as many older
    /// ones: loads that fail again and again must not pile weights up.
    fn keep(&mut self, whole: Vec<Arc<RankWeights>>) {
        let superseded = whole.len().min(self.weights.len());
        self.weights.splice(..superseded, whole);
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
            let order = Order::Hold(Hold {
                plan,
                weights,
                reply,
            });
            self.order(contact, order).await?;
            replies.push(held);
        }
        let mut kept_kv = Vec::with_capacity(contacts.len());
        for (contact, held) in contacts.iter().zip(replies) {
            let held = self.crew.obeyed(contact.rank, held).await;
            let held = held.map_err(|error| hung(&error))?;
            let held = held.map_err(|_| gone(contact))?;
            kept_kv.push(held.map_err(|error| Status::failed_precondition(chain(&error)))?);
        }
        Ok(kept_kv)
    }

    /// Gives a rank an order; its queue may be full of the steps before.
    async fn order(&self, contact: &Contact, order: Order) -> Result<(), Status> {
        let sent = self
            .crew
            .obeyed(contact.rank, contact.orders.send(order))
            .await;
        let sent = sent.map_err(|error| hung(&error))?;
        sent.map_err(|_| gone(contact))
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
        for (index, (contact, exchange)) in contacts.into_iter().zip(exchanges).enumerate() {
            let inbox = Arc::clone(exchange.inbox());
            let counted = (index, Arc::clone(&contact.gauge));
            let exchange = Metered::new(exchange, counted, &self.standing);
            let exchange: Box<dyn Exchange> = Box::new(exchange);
            let order = Order::Enter {
                plan: Arc::clone(plan),
                exchange,
            };
            self.order(&contact, order).await?;
            seats.push(Seat { contact, inbox });
        }
        Ok(seats)
    }
}

impl Preparation {
    /// Waits for a load and meanwhile tells how much is there. The outer error says that the epoch
    /// ended first.
    async fn wait(
        &self,
        loading: &mut Loading,
        standing: &Standing,
    ) -> Result<Result<Loaded, JoinError>, Status> {
        let mut tick = interval(PROGRESS_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let gauge = Arc::clone(loading.gauge());
        let show = |gauge: &LoadGauge| standing.loads(gauge.read(), gauge.news());
        loop {
            tokio::select! {
                ended = loading.ended() => {
                    show(&gauge);
                    return Ok(ended);
                }
                // The load goes on: the next epoch mostly needs the same.
                () = self.alive.cancelled() => return Err(superseded(&self.plan)),
                _ = tick.tick() => {
                    show(&gauge);
                    let (done, total) = gauge.read();
                    // A full queue, or a lead that has left, does not stop the load either: what is
                    // in memory now need not be read by the next epoch.
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

/// The answer when a rank's thread hangs; the process is about to end.
fn hung(error: &Error) -> Status {
    Status::internal(chain(error))
}

/// The answer when a rank's thread is gone: it panicked, and the process is about to end.
fn gone(contact: &Contact) -> Status {
    Status::internal(format!("the thread of rank {} has ended", contact.rank))
}

#[cfg(test)]
mod tests;
