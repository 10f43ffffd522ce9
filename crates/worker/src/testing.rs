//! What the tests of several modules are made of.

use std::sync::Arc;

use checkpoint::{Checkpoint, ModelName};
use kernels::{
    Attend, Backend, Combine, Embed, Experts, Linear, Packing, Reference, RmsNorm, Rotate, Route,
    StoreKv,
};
use spec::{BlockId, BlockRun, Epoch, Fence, KvPlan, Line, Open, Part, Placement, Rank};
use spec::{SequenceId, Slot, Term, TokenId};

use crate::convert::EpochPlan;

/// The reference, but for what it does before it attends.
pub(crate) struct Odd<F>(pub(crate) F);

impl<F: Fn() + Send + Sync> Backend for Odd<F> {
    fn numerics(&self) -> &str {
        "odd-1"
    }
    fn packing(&self) -> Option<&'static dyn Packing> {
        None
    }

    fn embed(&self, args: Embed<'_>) {
        Reference.embed(args);
    }
    fn rms_norm(&self, args: RmsNorm<'_>) {
        Reference.rms_norm(args);
    }
    fn linear(&self, args: Linear<'_>) {
        Reference.linear(args);
    }
    fn rotate(&self, args: Rotate<'_>) {
        Reference.rotate(args);
    }
    fn store_kv(&self, args: StoreKv<'_>) {
        Reference.store_kv(args);
    }
    fn attend(&self, args: Attend<'_>) {
        self.0();
        Reference.attend(args);
    }
    fn route(&self, args: Route<'_>) {
        Reference.route(args);
    }
    fn run_experts(&self, args: Experts<'_>) {
        Reference.run_experts(args);
    }
    fn combine(&self, args: Combine<'_>) {
        Reference.combine(args);
    }
}

/// A model of one layer.
pub(crate) fn checkpoint() -> Checkpoint {
    Checkpoint::named(&ModelName::parse("synth:tiny,layers=1").unwrap()).unwrap()
}

/// The first epoch, in which this worker is alone.
pub(crate) fn plan(own: Vec<Rank>) -> Arc<EpochPlan> {
    let (layers, experts) = (1, checkpoint().geometry().num_experts);
    Arc::new(EpochPlan {
        group: "0".into(),
        fence: Fence {
            term: Term(1),
            epoch: Epoch(1),
        },
        placement: Arc::new(Placement::even(layers, experts, own.len())),
        own,
        held: Vec::new(),
        peers: Vec::new(),
        kv: KvPlan {
            block_size: 16,
            full_blocks: 1,
            window_blocks: 1,
            num_slots: 1,
        },
        max_step_rows: 16,
    })
}

/// One token of a new sequence.
pub(crate) fn part() -> Part {
    let blocks = BlockRun {
        first: 0,
        blocks: vec![BlockId(0)],
    };
    Part {
        rank: Rank(0),
        closes: Vec::new(),
        opens: vec![Open {
            slot: Slot(0),
            sequence: SequenceId(1),
            tokens: [TokenId(1)].into(),
            prompt_len: 1,
            sampling: Arc::default(),
        }],
        lines: vec![Line {
            slot: Slot(0),
            start: 0,
            len: 1,
            full: blocks.clone(),
            window: blocks,
            samples: true,
            prompt_logprobs: false,
        }],
    }
}
