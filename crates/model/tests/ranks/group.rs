//! A group of ranks on threads, and an engine just clever enough to drive it.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::{Arc, LazyLock};
use std::thread;

use checkpoint::synth::Spec;
use checkpoint::{Checkpoint, LoadOptions, RankWeights};
use exchange::{HostExchange, Local, local_group};
use kernels::Backend;
use kernels_cpu::Cpu;
use model::RankModel;
use spec::{
    BlockId, BlockRun, Fence, KvPlan, Line, Open, Part, PartResult, Placement, Rank, Sampling,
    SequenceId, Slot, StepNumber, TokenId,
};

pub(crate) const BLOCK_SIZE: usize = 4;

/// Nine experts: no number of ranks but 3 divides them. The window is smaller than the prompts.
pub(crate) static CHECKPOINT: LazyLock<Checkpoint> = LazyLock::new(|| {
    let spec = "synth:tiny,layers=3,experts=9,heads=10,vocab=384,seed=7";
    Checkpoint::synth(&Spec::parse(spec).unwrap()).unwrap()
});

pub(crate) fn even(num_ranks: usize) -> Placement {
    let geometry = CHECKPOINT.geometry();
    Placement::even(geometry.num_layers(), geometry.num_experts, num_ranks)
}

pub(crate) fn load(placement: &Placement, rank: Rank) -> Arc<RankWeights> {
    load_for(&*cpu(), placement, rank)
}

fn load_for(backend: &dyn Backend, placement: &Placement, rank: Rank) -> Arc<RankWeights> {
    let options = LoadOptions {
        placement,
        rank,
        threads: 1,
        have: &[],
        packing: backend.packing(),
        cache: None,
    };
    let weights = RankWeights::load(&CHECKPOINT, &options, &mut |_| ControlFlow::Continue(()));
    Arc::new(weights.unwrap())
}

pub(crate) fn cpu() -> Arc<dyn Backend> {
    Arc::new(Cpu::new(NonZeroUsize::MIN))
}

pub(crate) fn fast() -> Arc<dyn Backend> {
    Arc::new(Cpu::fast(NonZeroUsize::MIN))
}

/// Makes a back end for a rank.
pub(crate) type Make = fn() -> Arc<dyn Backend>;

pub(crate) fn rank_model(placement: &Arc<Placement>, rank: Rank, plan: KvPlan) -> RankModel {
    rank_model_on(cpu(), placement, rank, plan)
}

fn rank_model_on(
    backend: Arc<dyn Backend>,
    placement: &Arc<Placement>,
    rank: Rank,
    plan: KvPlan,
) -> RankModel {
    let weights = load_for(&*backend, placement, rank);
    RankModel::new(weights, backend, rank, Arc::clone(placement), plan).unwrap()
}

/// Logits of a row, by sequence and position; equal only if every bit is.
pub(crate) type Rows = BTreeMap<(u64, u32), Vec<u32>>;

/// All ranks of a group, in this process.
pub(crate) struct Group {
    pub(crate) models: Vec<RankModel>,
    pub(crate) exchanges: Vec<HostExchange<Local>>,
    pub(crate) step: u64,
}

impl Group {
    fn new(make: Make, placement: &Arc<Placement>, plan: KvPlan) -> Self {
        let ranks = (0..placement.num_ranks()).map(|rank| Rank(rank as u32));
        Self {
            models: ranks
                .map(|rank| rank_model_on(make(), placement, rank, plan))
                .collect(),
            exchanges: local_group(placement.num_ranks()),
            step: 0,
        }
    }

    /// Runs one step on all ranks; `owner` names the sequence of a rank's slot.
    pub(crate) fn run(
        &mut self,
        parts: &[Part],
        owner: impl Fn(Rank, Slot) -> u64 + Sync,
        rows: &mut Rows,
    ) -> Vec<PartResult> {
        self.step += 1;
        let number = StepNumber(self.step);
        let ranks = self.models.iter_mut().zip(&mut self.exchanges).zip(parts);
        thread::scope(|scope| {
            let running = ranks.map(|((model, exchange), part)| {
                let owner = &owner;
                scope.spawn(move || {
                    let mut rows = Rows::new();
                    let mut capture = |line: usize, position: u32, logits: &[f32]| {
                        let sequence = owner(part.rank, part.lines[line].slot);
                        let bits = logits.iter().map(|logit| logit.to_bits()).collect();
                        rows.insert((sequence, position), bits);
                    };
                    let fence = Fence::default();
                    let result = model
                        .run_with(fence, number, part, exchange, &(), &mut capture)
                        .unwrap();
                    (result, rows)
                })
            });
            let running: Vec<_> = running.collect();
            let done = running.into_iter().map(|thread| {
                let (result, mut new) = thread.join().unwrap();
                rows.append(&mut new);
                result
            });
            done.collect()
        })
    }
}

/// A request to the tiny engine.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) prompt: Vec<TokenId>,
    /// Tokens to generate.
    pub(crate) count: usize,
    pub(crate) sampling: Sampling,
}

/// Requests of different lengths, greedy and sampled.
pub(crate) fn requests() -> Vec<Request> {
    let lengths = [1, 23, 40, 9, 17];
    let request = |(i, len): (usize, &usize)| {
        let token = |p: usize| TokenId(((i * 131 + p * p * 17 + p * 5) % 384) as u32);
        let sampling = Sampling {
            temperature: if i % 2 == 0 { 0.0 } else { 0.8 },
            frequency_penalty: 0.3 * i as f32,
            repetition_penalty: 1.1,
            top_p: 0.95,
            seed: i as u64,
            ..Sampling::default()
        };
        Request {
            prompt: (0..*len).map(token).collect(),
            count: 6,
            sampling,
        }
    };
    lengths.iter().enumerate().map(request).collect()
}

/// What a run of requests gave.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) rows: Rows,
    pub(crate) tokens: Vec<Vec<TokenId>>,
}

/// As [`serve_on`], exactly.
pub(crate) fn serve(placement: Placement, requests: &[Request], chunk: usize) -> Outcome {
    serve_on(cpu, placement, requests, chunk)
}

/// Serves all requests together: request `i` on rank `i % ranks`, at most `chunk` rows a line.
pub(crate) fn serve_on(
    make: Make,
    placement: Placement,
    requests: &[Request],
    chunk: usize,
) -> Outcome {
    let num_ranks = placement.num_ranks();
    let blocks = |request: &Request| (request.prompt.len() + request.count).div_ceil(BLOCK_SIZE);
    let num_blocks = requests.iter().map(blocks).sum();
    let plan = KvPlan {
        block_size: BLOCK_SIZE,
        full_blocks: num_blocks,
        window_blocks: num_blocks,
        num_slots: requests.len(),
    };
    let mut group = Group::new(make, &Arc::new(placement), plan);
    let mut outcome = Outcome {
        tokens: vec![Vec::new(); requests.len()],
        ..Outcome::default()
    };
    let mut done = vec![0; requests.len()];
    loop {
        let mut parts: Vec<Part> = (0..num_ranks)
            .map(|rank| Part {
                rank: Rank(rank as u32),
                ..Part::default()
            })
            .collect();
        let mut next_block = 0;
        for (i, request) in requests.iter().enumerate() {
            let (start, output) = (done[i], outcome.tokens[i].len());
            let first_block = next_block;
            next_block += blocks(request) as u32;
            if output == request.count {
                continue;
            }
            let part = &mut parts[i % num_ranks];
            let slot = Slot(i as u32);
            let mut run = BlockRun::default();
            if start == 0 {
                part.opens.push(open(slot, request));
                run.blocks = (first_block..next_block).rev().map(BlockId).collect();
            }
            let known = request.prompt.len() + output;
            let len = chunk.min(known - start);
            done[i] += len;
            part.lines.push(Line {
                slot,
                start: start as u32,
                len: len as u32,
                full: run.clone(),
                window: run,
                samples: done[i] == known,
                prompt_logprobs: false,
            });
        }
        if parts.iter().all(|part| part.lines.is_empty()) {
            return outcome;
        }
        let owner = |_: Rank, slot: Slot| u64::from(slot.0);
        let results = group.run(&parts, owner, &mut outcome.rows);
        for (part, result) in parts.iter().zip(results) {
            for (line, result) in part.lines.iter().zip(result.lines) {
                assert!(result.ran);
                let tokens = result.tokens.iter().map(|sampled| sampled.token);
                outcome.tokens[line.slot.index()].extend(tokens);
            }
        }
    }
}

/// Opens a request in the slot of its number.
pub(crate) fn open(slot: Slot, request: &Request) -> Open {
    Open {
        slot,
        sequence: SequenceId(u64::from(slot.0)),
        tokens: request.prompt.as_slice().into(),
        prompt_len: request.prompt.len() as u32,
        sampling: Arc::new(request.sampling.clone()),
    }
}
