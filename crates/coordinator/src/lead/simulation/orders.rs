//! The workers as a step loop reaches them, and what such a loop is made of.

use std::collections::VecDeque;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use cluster::{EpochPlan, LeaderConfig};
use engine::{Engine, EngineConfig};
use proto::internal as wire;
use spec::{Fence, KvPlan, Step, Term};
use telemetry::{CoordinatorTelemetry, Telemetry};
use tokio::sync::{mpsc, watch};

use super::Group;
use super::packet::Packet;
use crate::lead::convert;
use crate::lead::ledger::Name;
use crate::lead::meter::LeadMeter;
use crate::lead::step_loop::{Setup, StepLoop};
use crate::lead::workers::{Kept, Workers};

/// Nobody looks at what the leads count.
static UNSEEN: LazyLock<CoordinatorTelemetry> =
    LazyLock::new(|| Telemetry::unseen_coordinator(vec!["0".into()], super::MAX_RANKS));

/// What a step loop wants.
pub(super) enum Order {
    Prepare(Arc<EpochPlan>),
    /// For the worker of this name.
    Parts(String, Box<Packet>),
    End,
}

/// Orders in the order they were given.
#[derive(Clone, Default)]
pub(super) struct Outbox(Arc<Mutex<VecDeque<Order>>>);

impl Outbox {
    fn put(&self, order: Order) {
        let mut orders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        orders.push_back(order);
    }

    pub(super) fn take(&self) -> Option<Order> {
        let mut orders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        orders.pop_front()
    }
}

struct Far {
    outbox: Outbox,
    plan: Option<Arc<EpochPlan>>,
}

impl Workers for Far {
    fn prepare(&mut self, plan: &EpochPlan, _: &KvPlan, _: usize) {
        self.outbox.put(Order::End);
        let plan = Arc::new(plan.clone());
        self.plan = Some(Arc::clone(&plan));
        self.outbox.put(Order::Prepare(plan));
    }

    fn send(&mut self, step: &Step, kept: Kept<'_>) -> Result<(), String> {
        let plan = self.plan.as_ref().expect("steps are of an epoch");
        assert_eq!(step.fence, plan.fence, "a step of another epoch");
        for (member, ranks) in &plan.members {
            let parts = || ranks.iter().map(|rank| &step.parts[rank.index()]);
            let packet = Packet::Parts {
                fence: step.fence,
                step: step.number,
                sent: parts().map(|part| convert::part(part, kept)).collect(),
                read: parts().cloned().collect(),
            };
            self.outbox
                .put(Order::Parts(member.name.clone(), Box::new(packet)));
        }
        Ok(())
    }

    fn end(&mut self) {
        self.plan = None;
        self.outbox.put(Order::End);
    }
}

/// A loop, and what it tells.
pub(super) struct Begun {
    pub(super) step_loop: StepLoop,
    /// What it hears of terms.
    pub(super) outranked: watch::Receiver<Term>,
    /// Followers that are gone.
    pub(super) gone: mpsc::UnboundedReceiver<(Name, u64)>,
    pub(super) state: watch::Receiver<wire::WatchResponse>,
}

/// Begins a step loop.
pub(super) fn begin(outbox: &Outbox, setting: Group, (term, lead): (Term, u64)) -> Begun {
    let num_ranks = setting.num_ranks;
    let engine = EngineConfig {
        num_ranks,
        kv: KvPlan {
            block_size: super::MODEL.block_size,
            full_blocks: 40,
            window_blocks: 24,
            num_slots: 3,
        },
        sliding_window: super::MODEL.window,
        max_step_rows: 16,
        max_in_flight: 2,
        max_waiting: 64,
        max_context: super::MAX_CONTEXT,
        checkpoint_interval: 8,
    };
    let leader = LeaderConfig {
        lead,
        num_ranks,
        num_layers: 2,
        num_experts: 8,
        weights: "w".into(),
        tokenizer: "t".into(),
        numerics: "exact".into(),
        wire: 1,
    };
    let (outranking, outranked) = watch::channel(Term(0));
    let (going, gone) = mpsc::unbounded_channel();
    let (states, state) = watch::channel(wire::WatchResponse::default());
    let step_loop = StepLoop::new(Setup {
        leader,
        term,
        outranked: outranking,
        engine: Engine::new(engine, Fence::default()).expect("the configuration holds"),
        max_step_rows: 16,
        vocab_size: super::VOCABULARY as usize,
        workers: Box::new(Far {
            outbox: outbox.clone(),
            plan: None,
        }),
        gone: going,
        hold: setting.hold,
        meter: LeadMeter::new(UNSEEN.clone(), 0, (8, num_ranks)),
        state: states,
    });
    Begun {
        step_loop,
        outranked,
        gone,
        state,
    }
}
