//! One sequence on one rank, driven as the engine would.

use std::ops::ControlFlow;
use std::sync::Arc;

use checkpoint::{Checkpoint, LoadOptions, RankWeights};
use exchange::{HostExchange, Local, local_group};
use kernels::Backend;
use model::{RankModel, Rotary};
use spec::{
    BlockId, BlockRun, Fence, KvPlan, Line, Open, Part, Placement, Rank, Sampling, SequenceId,
    Slot, StepNumber, TokenId,
};

const BLOCK_SIZE: usize = 16;

/// Loads all weights of a model for a group of one rank.
pub(crate) fn whole_model(checkpoint: &Checkpoint) -> Arc<RankWeights> {
    let geometry = checkpoint.geometry();
    let placement = Placement::even(geometry.num_layers(), geometry.num_experts, 1);
    let options = LoadOptions {
        placement: &placement,
        rank: Rank(0),
        threads: 2,
        have: &[],
        packing: None,
        cache: None,
    };
    let weights = RankWeights::load(checkpoint, &options, &mut |_| ControlFlow::Continue(()));
    Arc::new(weights.unwrap())
}

pub(crate) struct Session {
    model: RankModel,
    exchange: HostExchange<Local>,
    step: u64,
    len: usize,
    num_blocks: usize,
}

impl Session {
    /// Has room for so many positions.
    pub(crate) fn new(
        weights: &Arc<RankWeights>,
        backend: Arc<dyn Backend>,
        inv_freq: &[f32],
        positions: usize,
    ) -> Self {
        let geometry = weights.checkpoint().geometry();
        let placement = Placement::even(geometry.num_layers(), geometry.num_experts, 1);
        let num_blocks = positions.div_ceil(BLOCK_SIZE);
        let plan = KvPlan {
            block_size: BLOCK_SIZE,
            full_blocks: num_blocks,
            window_blocks: num_blocks,
            num_slots: 1,
        };
        let rotary = Rotary {
            inv_freq: inv_freq.to_vec(),
            ..Rotary::new(&geometry.rope, geometry.head_dim)
        };
        let weights = Arc::clone(weights);
        let model = RankModel::new(weights, backend, Rank(0), Arc::new(placement), plan);
        Self {
            model: model.unwrap().with_rotary(rotary),
            exchange: local_group(1).pop().unwrap(),
            step: 0,
            len: 0,
            num_blocks,
        }
    }

    /// Runs the prompt in chunks and returns the first token after it. `take` sees the logits of
    /// the rows from `first_row` on.
    pub(crate) fn prefill(
        &mut self,
        prompt: &[TokenId],
        chunk: usize,
        first_row: usize,
        take: &mut dyn FnMut(usize, &[f32]),
    ) -> TokenId {
        let greedy = Sampling {
            temperature: 0.0,
            ..Sampling::default()
        };
        let mut opens = vec![Open {
            slot: Slot(0),
            sequence: SequenceId(1),
            tokens: prompt.into(),
            prompt_len: prompt.len() as u32,
            sampling: Arc::new(greedy),
        }];
        loop {
            let start = self.len;
            let len = chunk.min(prompt.len() - start);
            self.len += len;
            let last = self.len == prompt.len();
            let token = self.step(
                std::mem::take(&mut opens),
                (start, len),
                last,
                first_row,
                take,
            );
            if last {
                return token.expect("the last row samples");
            }
        }
    }

    /// Runs one more row and returns the token after it.
    pub(crate) fn decode(&mut self) -> TokenId {
        let start = self.len;
        self.len += 1;
        let token = self.step(Vec::new(), (start, 1), true, usize::MAX, &mut |_, _| ());
        token.expect("the row samples")
    }

    fn step(
        &mut self,
        opens: Vec<Open>,
        (start, len): (usize, usize),
        samples: bool,
        first_row: usize,
        take: &mut dyn FnMut(usize, &[f32]),
    ) -> Option<TokenId> {
        self.step += 1;
        // All blocks at once, in no natural order.
        let blocks = if opens.is_empty() {
            BlockRun::default()
        } else {
            let last = self.num_blocks as u32 - 1;
            let blocks = (0..self.num_blocks as u32).map(|i| BlockId(last - i));
            BlockRun {
                first: 0,
                blocks: blocks.collect(),
            }
        };
        let part = Part {
            rank: Rank(0),
            closes: Vec::new(),
            opens,
            lines: vec![Line {
                slot: Slot(0),
                start: start as u32,
                len: len as u32,
                full: blocks.clone(),
                window: blocks,
                samples,
                prompt_logprobs: false,
            }],
        };
        let (fence, number) = (Fence::default(), StepNumber(self.step));
        let exchange = &mut self.exchange;
        let result = if start + len <= first_row {
            self.model.run(fence, number, &part, exchange, &())
        } else {
            let mut capture = |_line: usize, position: u32, logits: &[f32]| {
                if position as usize >= first_row {
                    take(position as usize, logits);
                }
            };
            self.model
                .run_with(fence, number, &part, exchange, &(), &mut capture)
        };
        let line = result.unwrap().lines.remove(0);
        assert!(line.ran, "every input is there");
        line.tokens.first().map(|sampled| sampled.token)
    }
}
