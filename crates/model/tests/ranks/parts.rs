//! What a rank keeps between parts: tokens by position, tables, KV; and that a part can be run
//! again.

use std::slice;
use std::sync::Arc;

use spec::{
    BlockId, BlockRun, Fence, KvPlan, Line, LineResult, Part, Rank, Sampling, Slot, StepNumber,
    TokenId,
};

use exchange::{HostExchange, Local, local_group};
use kernels::{Backend, Linear, Moment};
use model::{Choice, ModelError, Progress, RankModel, Sampler, Stage, log_sum_exp};

use crate::group::{
    BLOCK_SIZE, CHECKPOINT, Group, Request, Rows, cpu, even, load, open, rank_model, requests,
    serve,
};
use crate::twist::{Twist, Twisted};

pub(crate) const PLAN: KvPlan = KvPlan {
    block_size: BLOCK_SIZE,
    full_blocks: 40,
    window_blocks: 40,
    num_slots: 3,
};

/// One rank alone.
pub(crate) struct Alone {
    pub(crate) model: RankModel,
    exchange: HostExchange<Local>,
    step: u64,
    rows: Rows,
}

impl Alone {
    pub(crate) fn new(plan: KvPlan) -> Self {
        Self {
            model: rank_model(&Arc::new(even(1)), Rank(0), plan),
            exchange: local_group(1).remove(0),
            step: 0,
            rows: Rows::new(),
        }
    }

    pub(crate) fn try_run(&mut self, part: &Part) -> Result<Vec<LineResult>, ModelError> {
        self.step += 1;
        let number = StepNumber(self.step);
        let rows = &mut self.rows;
        let mut capture = |line: usize, position: u32, logits: &[f32]| {
            let slot = part.lines[line].slot.0;
            let bits = logits.iter().map(|logit| logit.to_bits()).collect();
            rows.insert((u64::from(slot), position), bits);
        };
        let (fence, exchange) = (Fence::default(), &mut self.exchange);
        let result = self
            .model
            .run_with(fence, number, part, exchange, &(), &mut capture);
        result.map(|result| result.lines)
    }

    pub(crate) fn run(&mut self, part: &Part) -> Vec<LineResult> {
        self.try_run(part).unwrap()
    }
}

pub(crate) fn blocks(first: u32, blocks: impl IntoIterator<Item = u32>) -> BlockRun {
    BlockRun {
        first,
        blocks: blocks.into_iter().map(BlockId).collect(),
    }
}

/// A line that samples, with blocks of the same ids in both pools.
pub(crate) fn line(slot: u32, start: usize, len: usize, run: BlockRun) -> Line {
    Line {
        slot: Slot(slot),
        start: start as u32,
        len: len as u32,
        full: run.clone(),
        window: run,
        samples: true,
        prompt_logprobs: false,
    }
}

/// A part that opens a request in slot 0 and runs its whole prompt.
pub(crate) fn whole_prompt(request: &Request) -> Part {
    Part {
        opens: vec![open(Slot(0), request)],
        lines: vec![line(0, 0, request.prompt.len(), blocks(0, 0..20))],
        ..Part::default()
    }
}

fn tokens(results: &[LineResult]) -> Vec<TokenId> {
    let tokens = results.iter().flat_map(|line| &line.tokens);
    tokens.map(|sampled| sampled.token).collect()
}

fn only(lines: Vec<Line>) -> Part {
    Part {
        lines,
        ..Part::default()
    }
}

#[test]
fn a_part_run_again_gives_the_same_and_so_does_all_after_it() {
    let request = requests().remove(1);
    let len = request.prompt.len();
    let expected = serve(even(1), slice::from_ref(&request), usize::MAX);
    let mut alone = Alone::new(PLAN);
    let parts: Vec<Part> = (0..5)
        .map(|i| match i {
            0 => whole_prompt(&request),
            _ => only(vec![line(0, len + i - 1, 1, BlockRun::default())]),
        })
        .collect();
    // As after void steps: each pair of parts runs twice.
    let mut sampled = Vec::new();
    for pair in parts.windows(2) {
        let first: Vec<_> = pair.iter().map(|part| alone.run(part)).collect();
        let again: Vec<_> = pair.iter().map(|part| alone.run(part)).collect();
        assert_eq!(first, again);
        sampled.extend(tokens(&again[0]));
    }
    assert_eq!(sampled, expected.tokens[0][..4]);
    for (at, row) in &alone.rows {
        assert!(expected.rows[at] == *row, "{at:?}");
    }
}

#[test]
fn a_line_whose_input_is_not_there_is_skipped_but_its_blocks_count() {
    let request = requests().remove(3);
    let len = request.prompt.len();
    let mut alone = Alone::new(PLAN);
    let mut first = whole_prompt(&request);
    first.lines[0].samples = false;
    first.lines[0].full = blocks(0, 0..3);
    first.lines[0].window = blocks(0, 0..3);
    assert!(alone.run(&first)[0].tokens.is_empty());
    // Nothing was sampled at `len`: this line cannot run, nor the one planned after it.
    let grown = line(0, len, 4, blocks(3, [9, 8]));
    let skipped = alone.run(&only(vec![grown]));
    assert_eq!(skipped, [LineResult::default()]);
    // The last row again, now sampled; position 12 lies in a block that the skipped line brought.
    let mut sampled = Vec::new();
    for position in len - 1..13 {
        let next = line(0, position, 1, BlockRun::default());
        sampled.extend(tokens(&alone.run(&only(vec![next]))));
    }
    let expected = serve(even(1), &[request], usize::MAX);
    assert_eq!(sampled, expected.tokens[0][..5]);
}

#[test]
fn window_blocks_can_be_used_again_once_the_window_has_passed() {
    let request = requests().remove(2);
    let expected = serve(even(1), slice::from_ref(&request), usize::MAX);
    let window = CHECKPOINT.geometry().sliding_window;
    let chunk = BLOCK_SIZE;
    // Blocks of one chunk and of the window before it, used in turn.
    let ring = (window / BLOCK_SIZE + 1) as u32;
    let mut alone = Alone::new(KvPlan {
        window_blocks: ring as usize,
        ..PLAN
    });
    for start in (0..request.prompt.len()).step_by(chunk) {
        let index = (start / BLOCK_SIZE) as u32;
        let opens = if start == 0 {
            vec![open(Slot(0), &request)]
        } else {
            Vec::new()
        };
        let mut line = line(0, start, chunk, blocks(index, [index]));
        line.window = blocks(index, [index % ring]);
        line.samples = false;
        alone.run(&Part {
            opens,
            lines: vec![line],
            ..Part::default()
        });
    }
    assert_eq!(alone.rows.len(), request.prompt.len());
    for (at, row) in &alone.rows {
        assert!(expected.rows[at] == *row, "{at:?}");
    }
}

#[test]
fn a_sequence_starts_on_the_blocks_of_another() {
    let request = requests().remove(2);
    let (len, shared) = (request.prompt.len(), 24);
    let expected = serve(even(1), slice::from_ref(&request), usize::MAX);
    let mut alone = Alone::new(PLAN);
    alone.run(&whole_prompt(&request));
    // Positions 0 .. 24 are in blocks 0 .. 6; the window layers need only what the window reaches.
    let own = 20..30;
    let mut second = line(1, shared, len - shared, BlockRun::default());
    second.full = blocks(0, (0..6).chain(own.clone()));
    second.window = blocks(4, (4..6).chain(own));
    let part = Part {
        closes: vec![Slot(0)],
        opens: vec![open(Slot(1), &request)],
        lines: vec![second],
        ..Part::default()
    };
    assert_eq!(tokens(&alone.run(&part)), expected.tokens[0][..1]);
    for position in shared..len {
        let (at, from) = ((1, position as u32), (0, position as u32));
        assert!(alone.rows[&at] == expected.rows[&from], "{position}");
    }
}

#[test]
fn kv_outlives_a_change_of_placement_and_rank() {
    let request = requests().remove(1);
    let len = request.prompt.len();
    let expected = serve(even(1), slice::from_ref(&request), usize::MAX);
    let mut alone = Alone::new(PLAN);
    let mut sampled = tokens(&alone.run(&whole_prompt(&request)));

    // The rank becomes rank 1 of 2; rank 0 has no sequences.
    let placement = Arc::new(even(2));
    let weights = load(&placement, Rank(1));
    alone
        .model
        .adopt(Rank(1), weights, Arc::clone(&placement))
        .unwrap();
    let mut group = Group {
        models: vec![rank_model(&placement, Rank(0), PLAN), alone.model],
        exchanges: local_group(2),
        step: 10,
    };
    let mut rows = Rows::new();
    for i in 0..3 {
        let parts = [
            Part::default(),
            Part {
                rank: Rank(1),
                lines: vec![line(0, len + i, 1, BlockRun::default())],
                ..Part::default()
            },
        ];
        let results = group.run(&parts, |_, slot| u64::from(slot.0), &mut rows);
        sampled.extend(tokens(&results[1].lines));
    }
    assert_eq!(sampled, expected.tokens[0][..4]);
    for (at, row) in &rows {
        assert!(expected.rows[at] == *row, "{at:?}");
    }
}

#[test]
fn prompt_logprobs_come_for_every_token_but_the_first() {
    // Longer than one slice of logits.
    let mut request = requests().remove(0);
    request.prompt = (0..150).map(|p| TokenId(p * p % 384)).collect();
    request.sampling.prompt_logprobs = Some(3);
    request.sampling.logprobs = Some(2);
    request.sampling.repetition_penalty = 1.0;
    let mut alone = Alone::new(KvPlan {
        full_blocks: 38,
        window_blocks: 38,
        ..PLAN
    });
    let mut reported = Vec::new();
    let mut sampled = Vec::new();
    for (start, len) in [(0, 70), (70, 79), (149, 1)] {
        let mut line = line(0, start, len, BlockRun::default());
        line.samples = start + len == 150;
        line.prompt_logprobs = true;
        let mut part = only(vec![line]);
        if start == 0 {
            part.opens = vec![open(Slot(0), &request)];
            part.lines[0].full = blocks(0, 0..38);
            part.lines[0].window = blocks(0, 0..38);
        }
        let result = alone.run(&part).remove(0);
        reported.extend(result.prompt_logprobs);
        sampled.extend(result.tokens);
    }
    assert_eq!(reported.len(), 149);
    let row = |position: usize| -> Vec<f32> {
        let bits = &alone.rows[&(0, position as u32)];
        bits.iter().map(|bits| f32::from_bits(*bits)).collect()
    };
    for (i, found) in reported.iter().enumerate() {
        let (logits, token) = (row(i), request.prompt[i + 1]);
        assert_eq!(found.token, token);
        let own = logits[token.index()];
        assert_eq!(
            found.logprob,
            (f64::from(own) - log_sum_exp(&logits)) as f32
        );
        let better = logits.iter().filter(|logit| **logit > own).count();
        assert_eq!(found.rank as usize, better + 1);
        assert_eq!(found.top.len(), 3);
    }
    let [sampled] = &sampled[..] else {
        panic!("one token is sampled: {sampled:?}")
    };
    let logprob = sampled.logprob.as_ref().unwrap();
    assert_eq!((logprob.rank, logprob.top.len()), (1, 2));
    assert_eq!(logprob.top[0], (sampled.token, logprob.logprob));
}

#[test]
fn penalties_see_the_prompt_and_every_token_so_far() {
    let mut request = requests().remove(3);
    request.count = 12;
    request.sampling = Sampling {
        temperature: 0.0,
        repetition_penalty: 100.0,
        frequency_penalty: 2.0,
        ..Sampling::default()
    };
    let outcome = serve(even(1), slice::from_ref(&request), usize::MAX);
    let mut seen = request.prompt.clone();
    seen.sort();
    seen.dedup();
    let before = seen.len();
    seen.extend(&outcome.tokens[0]);
    seen.sort();
    seen.dedup();
    // Far fewer tokens than have a positive logit, so none is worth repeating.
    assert_eq!(seen.len(), before + request.count, "{:?}", outcome.tokens);
}

#[test]
fn a_draw_is_keyed_by_the_position_that_the_token_takes() {
    let mut request = requests().remove(1);
    request.sampling = Sampling {
        seed: 99,
        choice: 3,
        ..Sampling::default()
    };
    let outcome = serve(even(1), slice::from_ref(&request), usize::MAX);
    for (i, token) in outcome.tokens[0].iter().enumerate() {
        let position = (request.prompt.len() + i) as u32;
        let row = &outcome.rows[&(0, position - 1)];
        let logits: Vec<f32> = row.iter().map(|bits| f32::from_bits(*bits)).collect();
        let choice = Choice {
            sampling: &request.sampling,
            penalized: &[],
            position,
        };
        assert_eq!(Sampler::default().choose(&logits, &choice), *token);
    }
}

#[test]
fn logits_that_are_not_finite_name_sequence_and_position() {
    /// Spoils one logit of the last row of a call.
    struct Spoil;
    impl Twist for Spoil {
        fn linear(&self, inner: &dyn Backend, args: Linear<'_>) {
            let spoils = args.outputs == CHECKPOINT.geometry().vocab_size;
            let (outputs, out) = (args.outputs, args.out);
            inner.linear(Linear {
                out: &mut *out,
                ..args
            });
            if spoils {
                let len = out.len();
                out[len - outputs + 5] = f32::NAN;
            }
        }
    }
    let request = requests().remove(1);
    let backend = Arc::new(Twisted {
        inner: cpu(),
        twist: Arc::new(Spoil),
    });
    let placement = Arc::new(even(1));
    let weights = load(&placement, Rank(0));
    let mut model = RankModel::new(weights, backend, Rank(0), placement, PLAN).unwrap();
    let error = model.run(
        Fence::default(),
        StepNumber(1),
        &whole_prompt(&request),
        &mut local_group(1)[0],
        &(),
    );
    assert_eq!(
        error.unwrap_err().to_string(),
        "the logits after position 22 of sequence 0 are not finite (token 5)"
    );
}

#[test]
fn progress_passes_every_stage_of_every_layer_also_without_rows() {
    #[derive(Default)]
    struct Seen(std::cell::RefCell<Vec<(u32, Stage)>>);
    impl Progress for Seen {
        fn at(&self, moment: Moment, stage: Stage) {
            assert_eq!(moment.step, StepNumber(7));
            let mut seen = self.0.borrow_mut();
            if seen.last() != Some(&(moment.layer, stage)) {
                seen.push((moment.layer, stage));
            }
        }
    }
    let mut expected = Vec::new();
    for layer in 0..CHECKPOINT.geometry().num_layers() as u32 {
        let stages = [
            Stage::Attention,
            Stage::Dispatch,
            Stage::Experts,
            Stage::Combine,
        ];
        expected.extend(stages.map(|stage| (layer, stage)));
    }
    expected.push((CHECKPOINT.geometry().num_layers() as u32, Stage::Head));
    for part in [Part::default(), whole_prompt(&requests()[1])] {
        let (seen, mut alone) = (Seen::default(), Alone::new(PLAN));
        let exchange = &mut alone.exchange;
        let fence = Fence::default();
        alone
            .model
            .run(fence, StepNumber(7), &part, exchange, &seen)
            .unwrap();
        assert_eq!(seen.0.into_inner(), expected);
    }
}
