//! What operators ask: how the group is, what it works on; and their order to a worker to end.

use std::time::Duration;

use cluster::Registration;
use engine::{PoolLoad, RankLoad};
use proto::internal as wire;
use spec::SequenceId;
use tokio::sync::oneshot;
use tonic::Status;

use super::StepLoop;
use crate::lead::convert;
use crate::limits;

/// What an operator asks, and where the answer goes.
#[derive(Debug)]
pub(crate) enum Inquiry {
    /// How the group is.
    Describe(oneshot::Sender<wire::DescribeResponse>),
    /// The first so many sequences that came after this one.
    Sequences {
        after: SequenceId,
        most: usize,
        reply: oneshot::Sender<wire::ListSequencesResponse>,
    },
    /// That a worker ends; the answer is which start of it.
    Drain {
        name: String,
        reply: oneshot::Sender<Result<u64, Status>>,
    },
}

impl StepLoop {
    /// Answers an operator; one who is gone needs no answer.
    pub(super) fn inquire(&self, inquiry: Inquiry) {
        match inquiry {
            Inquiry::Describe(reply) => drop(reply.send(self.describe())),
            Inquiry::Sequences { after, most, reply } => {
                drop(reply.send(self.list(after, most)));
            }
            Inquiry::Drain { name, reply } => drop(reply.send(self.drain(&name))),
        }
    }

    /// Notes since when the group serves, or does not.
    pub(super) fn note_change(&mut self) {
        if self.stood.0 != self.serving {
            self.stood = (self.serving, self.now);
        }
    }

    fn describe(&self) -> wire::DescribeResponse {
        let (status, load) = (self.leader.status(), self.engine.load());
        let placement = self.epoch.as_ref().map(|epoch| &epoch.placement);
        let members = self
            .leader
            .members()
            .map(|(member, ranks)| wire::GroupMember {
                registration: Some(Self::registration(member)),
                ranks: ranks.iter().map(|rank| rank.0).collect(),
                drain: self.is_ordered(&member.name),
            });
        wire::DescribeResponse {
            fence: Some(convert::fence(status.fence)),
            serving: status.serving,
            since_ms: millis(self.now.saturating_sub(self.stood.1)),
            status: status.text,
            ranks_needed: self.num_ranks as u32,
            ranks_present: status.ranks_present as u32,
            missing: status.missing,
            members: members.collect(),
            placement: placement.map(convert::placement).unwrap_or_default(),
            waiting: load.waiting as u32,
            running: load.running as u32,
            ranks: load.ranks.iter().map(rank_use).collect(),
        }
    }

    fn registration(member: &Registration) -> wire::Registration {
        wire::Registration {
            name: member.name.clone(),
            incarnation: member.incarnation,
            address: member.address.clone(),
            wire_min: member.wire.0,
            wire_max: member.wire.1,
            build: member.build.clone(),
            weights_fingerprint: member.weights.clone(),
            tokenizer_fingerprint: member.tokenizer.clone(),
            draining: member.draining,
            numerics: member.numerics.clone(),
            num_ranks: member.num_ranks as u32,
            term: member.term.0,
            ..Default::default()
        }
    }

    fn list(&self, after: SequenceId, most: usize) -> wire::ListSequencesResponse {
        let most = match most {
            0 => limits::MAX_LISTED,
            most => most.min(limits::MAX_LISTED),
        };
        let mut sequences = self.ledger.list(after, most + 1, self.now);
        let more = sequences.len() > most;
        sequences.truncate(most);
        let last = sequences.last().map_or(0, |last| last.sequence);
        wire::ListSequencesResponse {
            sequences,
            next: if more { last } else { 0 },
        }
    }

    fn is_ordered(&self, name: &str) -> bool {
        let session = self.sessions.get(name);
        session.is_some_and(|session| session.orders.drain.is_cancelled())
    }

    fn drain(&self, name: &str) -> Result<u64, Status> {
        let session = self.sessions.get(name).ok_or_else(|| {
            Status::not_found(format!(
                "no worker named '{name}' is registered in the group"
            ))
        })?;
        tracing::info!(worker = %name, "an operator has ordered this worker to end");
        session.orders.drain.cancel();
        Ok(session.incarnation)
    }
}

fn rank_use(load: &RankLoad) -> wire::RankUse {
    let pool = |pool: &PoolLoad| wire::PoolUse {
        held: pool.held as u64,
        cached: pool.cached as u64,
        free: pool.free as u64,
    };
    wire::RankUse {
        running: load.running as u32,
        full: Some(pool(&load.full)),
        window: Some(pool(&load.window)),
    }
}

/// Returns a time in milliseconds.
pub(in crate::lead) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
