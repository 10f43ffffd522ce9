//! The two exchanges of a layer over host memory.

use std::sync::Arc;

use kernels::{Dispatch, Exchange, ExchangeError, Moment, Phase, Received, Returned};
use spec::{Fence, Rank};

use crate::frame::{self, Expected, Malformed, Unread};
use crate::inbox::{Inbox, PATIENCE};
use crate::payload::Parts;
use crate::plan::Plan;
use crate::transport::{Local, Outgoing, Round as _, SendError, Transport, Unsent};

/// One rank's side of the exchanges of one epoch.
///
/// In each exchange it sends one frame to every other rank, an empty one where it has nothing, then
/// takes one from each in rank order; so the outcome does not depend on the order of arrival. Its
/// own rows are copied, not sent.
#[derive(Debug)]
pub struct HostExchange<T> {
    rank: Rank,
    num_ranks: usize,
    inbox: Arc<Inbox>,
    transport: T,
    /// The dispatch that waits for its combine.
    open: Option<Open>,
    /// The last exchange that began.
    last: Option<(Moment, Phase)>,
}

/// What a combine needs to know of its dispatch.
#[derive(Debug)]
struct Open {
    moment: Moment,
    hidden: usize,
    /// Outputs that come home: rows times k.
    places: usize,
    plan: Plan,
}

impl<T: Transport> HostExchange<T> {
    /// Returns the exchange of the inbox's rank, in its epoch.
    #[must_use]
    pub fn new(inbox: Arc<Inbox>, num_ranks: usize, transport: T) -> Self {
        let rank = inbox.rank();
        Self {
            rank,
            num_ranks,
            inbox,
            transport,
            open: None,
            last: None,
        }
    }

    /// Returns where this rank's frames arrive: whom it waits for, and how to wake it.
    #[must_use]
    pub fn inbox(&self) -> &Arc<Inbox> {
        &self.inbox
    }

    /// Returns the way to the other ranks.
    #[must_use]
    pub fn transport(&self) -> &T {
        &self.transport
    }

    /// Returns the way to the other ranks, between two exchanges.
    #[cfg(any(test, feature = "conformance"))]
    pub fn transport_mut(&mut self) -> &mut T {
        &mut self.transport
    }

    /// Returns this rank.
    #[must_use]
    pub fn rank(&self) -> Rank {
        self.rank
    }

    /// Returns the ranks of the group.
    #[must_use]
    pub fn num_ranks(&self) -> usize {
        self.num_ranks
    }

    /// Begins an exchange: in the inbox's epoch, and after the one before. The moment comes from
    /// the lead's plan, so a wrong one is an error and no bug of this process.
    fn begin(&mut self, moment: Moment, phase: Phase) -> Result<(), ExchangeError> {
        self.inbox.check(moment, phase)?;
        if let Some(last) = self.last.filter(|last| *last >= (moment, phase)) {
            let why = format!("it has begun {} of {} before", last.1, last.0);
            return Err(bad_frame((moment, phase), self.rank, why));
        }
        self.last = Some((moment, phase));
        Ok(())
    }

    fn others(&self) -> impl Iterator<Item = Rank> + use<T> {
        let own = self.rank;
        (0..self.num_ranks as u32)
            .map(Rank)
            .filter(move |rank| *rank != own)
    }
}

/// # Panics
///
/// If lengths do not follow from each other, or calls do not alternate: bugs of the caller.
impl<T: Transport> Exchange for HostExchange<T> {
    fn dispatch(&mut self, args: Dispatch<'_>) -> Result<Received, ExchangeError> {
        let Dispatch {
            moment,
            hidden,
            k,
            rows,
            experts,
            owners,
        } = args;
        assert!(hidden > 0 && k > 0, "rows have a width and experts");
        assert_eq!(
            rows.len() / hidden * k,
            experts.len(),
            "k experts for each row"
        );
        assert_eq!(rows.len() % hidden, 0, "whole rows");
        let phase = Phase::Dispatch;
        self.begin(moment, phase)?;
        let plan = Plan::new(experts, k, owners, self.num_ranks);
        let frames = frames((moment, phase), self.rank, self.others(), |to| {
            frame::encode_dispatch(&plan.shares[to.index()], rows, hidden)
        })?;
        let begun = self.transport.begin(&self.inbox, (moment, phase), frames);
        let mut round = begun.map_err(|unsent| self::unsent((moment, phase), self.rank, unsent))?;
        let expected = Expected {
            rank: self.rank,
            hidden,
            k,
            owners,
        };
        let mut received = Received::default();
        for from in (0..self.num_ranks as u32).map(Rank) {
            if from == self.rank {
                frame::append_own(&plan.shares[from.index()], rows, hidden, &mut received);
            } else {
                let payload = round.receive(from)?;
                frame::decode_dispatch(payload, expected, &mut received)
                    .map_err(|why| unread((moment, phase), from, why))?;
            }
        }
        round.finish()?;
        self.open = Some(Open {
            moment,
            hidden,
            places: experts.len(),
            plan,
        });
        Ok(received)
    }

    fn combine(&mut self, received: &Received, outputs: &[f32]) -> Result<Returned, ExchangeError> {
        let open = self.open.take().expect("a combine follows its dispatch");
        let Open {
            moment,
            hidden,
            places,
            plan,
        } = open;
        assert_eq!(
            received.counts.len(),
            self.num_ranks,
            "a count for each rank"
        );
        assert_eq!(
            outputs.len(),
            received.work.len() * hidden,
            "one output for each pair"
        );
        let phase = Phase::Combine;
        self.begin(moment, phase)?;
        let ends = received.counts.iter().scan(0, |end, count| {
            *end += count * hidden;
            Some(*end - count * hidden..*end)
        });
        let of_rank: Vec<_> = ends.collect();
        let frames = frames((moment, phase), self.rank, self.others(), |to| {
            frame::encode_combine(&outputs[of_rank[to.index()].clone()], hidden)
        })?;
        let begun = self.transport.begin(&self.inbox, (moment, phase), frames);
        let mut round = begun.map_err(|unsent| self::unsent((moment, phase), self.rank, unsent))?;
        let mut home = vec![0.0; places * hidden];
        for (from, share) in (0..).map(Rank).zip(&plan.shares) {
            if from == self.rank {
                let own = &outputs[of_rank[from.index()].clone()];
                frame::place_own(own, hidden, &share.places, &mut home);
            } else {
                let payload = round.receive(from)?;
                frame::decode_combine(payload, hidden, &share.places, &mut home)
                    .map_err(|why| unread((moment, phase), from, why))?;
            }
        }
        round.finish()?;
        Ok(Returned { outputs: home })
    }
}

/// Encodes a rank's frames, one for each of the others.
fn frames<'a>(
    exchange: (Moment, Phase),
    own: Rank,
    others: impl Iterator<Item = Rank>,
    encode: impl Fn(Rank) -> Result<Parts<'a>, Malformed>,
) -> Result<Vec<Outgoing<'a>>, ExchangeError> {
    let frame = |to| {
        let parts = encode(to).map_err(|why| bad_frame(exchange, own, why.to_string()))?;
        Ok(Outgoing { to, parts })
    };
    others.map(frame).collect()
}

fn unsent((moment, phase): (Moment, Phase), own: Rank, unsent: Unsent) -> ExchangeError {
    let peer = unsent.to;
    match unsent.error {
        SendError::Gone(why) => ExchangeError::PeerLost {
            peer,
            why,
            phase,
            moment,
        },
        SendError::Left => ExchangeError::Aborted {
            peer,
            phase,
            moment,
        },
        SendError::Refused(why) => {
            let why = format!("rank {peer} refused it: {why}");
            bad_frame((moment, phase), own, why)
        }
    }
}

fn unread(exchange: (Moment, Phase), peer: Rank, why: Unread) -> ExchangeError {
    match why {
        Unread::Malformed(why) => bad_frame(exchange, peer, why.to_string()),
        Unread::Broken(error) => error,
    }
}

fn bad_frame((moment, phase): (Moment, Phase), peer: Rank, why: String) -> ExchangeError {
    ExchangeError::BadFrame {
        peer,
        why,
        phase,
        moment,
    }
}

/// Returns the exchanges of `num_ranks` ranks that are threads of this process, in the epoch
/// [`Fence::default`].
#[must_use]
pub fn local_group(num_ranks: usize) -> Vec<HostExchange<Local>> {
    local_group_at(Fence::default(), num_ranks)
}

/// Like [`local_group`], in the epoch of `fence`. No rank waits longer than [`PATIENCE`] for a frame.
#[must_use]
pub fn local_group_at(fence: Fence, num_ranks: usize) -> Vec<HostExchange<Local>> {
    let ranks = (0..num_ranks as u32).map(Rank);
    let inboxes: Vec<_> = ranks
        .map(|r| Arc::new(Inbox::with_patience(fence, r, num_ranks, PATIENCE)))
        .collect();
    let exchange = |inbox: &Arc<Inbox>| {
        let transport = Local::new(inbox.rank(), inboxes.clone());
        HostExchange::new(Arc::clone(inbox), num_ranks, transport)
    };
    inboxes.iter().map(exchange).collect()
}

#[cfg(test)]
mod tests;
