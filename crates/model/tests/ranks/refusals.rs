//! Parts that cannot be executed are refused before anything changes, and say why.

use std::sync::Arc;

use kernels::{Dispatch, Exchange, ExchangeError, Received, Returned, Work};
use model::{ModelError, RankModel};
use spec::{BlockRun, ExpertId, Fence, KvPlan, Part, Placement, Rank, Slot, StepNumber, TokenId};

use crate::group::{BLOCK_SIZE, CHECKPOINT, cpu, even, load, open, requests};
use crate::parts::{Alone, PLAN, blocks, line, whole_prompt};

/// A rank with 9 tokens of prompt in slot 0 on blocks 0 to 2, and the first token sampled.
fn ready() -> Alone {
    let mut alone = Alone::new(PLAN);
    let mut part = whole_prompt(&requests()[3]);
    part.lines[0].full = blocks(0, 0..3);
    part.lines[0].window = blocks(0, 0..3);
    alone.run(&part);
    alone
}

/// The next row of slot 0.
fn next() -> Part {
    Part {
        lines: vec![line(0, 9, 1, BlockRun::default())],
        ..Part::default()
    }
}

#[track_caller]
fn demand_refused(alone: &mut Alone, part: &Part, expected: &str) {
    match alone.try_run(part) {
        Err(error @ ModelError::Part(_)) => {
            let text = error.to_string();
            let text = text.strip_prefix("the part was refused: ").unwrap();
            assert_eq!(text, expected);
        }
        other => panic!("{other:?}, expected: {expected}"),
    }
}

#[test]
fn faults_of_a_line_are_named_and_change_nothing() {
    let mut alone = ready();
    let mut expected = ready();
    let max = CHECKPOINT.geometry().max_positions;
    type Change = fn(&mut Part);
    let cases: [(Change, &str); 14] = [
        (|p| p.rank = Rank(1), "it is rank 1's, this is rank 0"),
        (
            |p| p.lines[0].slot = Slot(2),
            "line 0 (slot 2): no sequence is open there",
        ),
        (
            |p| p.lines[0].slot = Slot(9),
            "line 0 (slot 9): no sequence is open there",
        ),
        (
            |p| p.closes.push(Slot(0)),
            "line 0 (slot 0): no sequence is open there",
        ),
        (
            |p| p.lines.push(p.lines[0].clone()),
            "line 1 (slot 0): the part has another line for the slot",
        ),
        (|p| p.lines[0].len = 0, "line 0 (slot 0): it has no rows"),
        (|p| p.lines[0].start = u32::MAX, "TOO FAR"),
        (
            |p| p.lines[0].start = 7,
            "line 0 (slot 0): it samples position 8, inside the prompt of 9",
        ),
        (
            |p| p.lines[0].full = blocks(3, [40]),
            "line 0 (slot 0): full block 40 is outside the pool of 40",
        ),
        (|p| p.lines[0].window = blocks(u32::MAX, [1]), "TABLE"),
        (
            |p| p.lines[0].len = 4,
            "line 0 (slot 0): the full table lacks blocks for positions 0 to 12",
        ),
        (
            |p| p.lines[0].full = blocks(1, [1]),
            "line 0 (slot 0): the full table lacks blocks for positions 0 to 9",
        ),
        (
            |p| p.lines[0].window = blocks(4, [7]),
            "line 0 (slot 0): the window table lacks blocks for positions 2 to 9",
        ),
        (
            |p| {
                p.opens.push(open(Slot(1), &requests()[0]));
                p.lines.push(line(1, 0, 1, blocks(0, [2])));
            },
            "line 1 (slot 1): full block 2 is written for two places in one part",
        ),
    ];
    for (change, text) in cases {
        let mut part = next();
        change(&mut part);
        let text = match text {
            "TOO FAR" => format!(
                "line 0 (slot 0): 1 rows from position {}, the model has {max} positions",
                u32::MAX
            ),
            "TABLE" => format!(
                "line 0 (slot 0): a window table of {} blocks is longer than the model's positions",
                u32::MAX as usize + 1
            ),
            text => text.to_owned(),
        };
        demand_refused(&mut alone, &part, &text);
    }
    assert_eq!(alone.run(&next()), expected.run(&next()));
}

#[test]
fn faults_of_an_open_are_named_and_change_nothing() {
    let mut alone = ready();
    let mut expected = ready();
    let request = &requests()[3];
    let opened = |change: &dyn Fn(&mut spec::Open)| {
        let mut open = open(Slot(1), request);
        change(&mut open);
        Part {
            opens: vec![open],
            ..Part::default()
        }
    };
    let max = CHECKPOINT.geometry().max_positions;
    let cases = [
        (
            opened(&|o| o.slot = Slot(3)),
            "open of slot 3 (sequence 1): there are 3 slots".into(),
        ),
        (
            opened(&|o| o.prompt_len = 0),
            "open of slot 1 (sequence 1): a prompt of 0 among 9 tokens".into(),
        ),
        (
            opened(&|o| o.prompt_len = 10),
            "open of slot 1 (sequence 1): a prompt of 10 among 9 tokens".into(),
        ),
        (
            opened(&|o| o.tokens = vec![TokenId(0); max + 1].into()),
            format!(
                "open of slot 1 (sequence 1): {} tokens, the model has {max} positions",
                max + 1
            ),
        ),
        (
            opened(&|o| {
                let mut tokens = o.tokens.to_vec();
                tokens[4] = TokenId(384);
                o.tokens = tokens.into();
            }),
            "open of slot 1 (sequence 1): token 384 at position 4 is outside the vocabulary of 384"
                .into(),
        ),
        (
            opened(&|o| Arc::make_mut(&mut o.sampling).temperature = f32::NAN),
            "open of slot 1 (sequence 1): temperature: NaN is not within 0 to 100".into(),
        ),
        (
            Part {
                closes: vec![Slot(3)],
                ..Part::default()
            },
            "close of slot 3: there are 3 slots".into(),
        ),
    ];
    for (mut part, text) in cases {
        part.closes.insert(0, Slot(0));
        demand_refused(&mut alone, &part, &text);
    }
    let twice = Part {
        opens: vec![open(Slot(1), request), open(Slot(1), request)],
        ..Part::default()
    };
    demand_refused(
        &mut alone,
        &twice,
        "open of slot 1 (sequence 1): the part opens the slot twice",
    );
    assert_eq!(alone.run(&next()), expected.run(&next()));
}

/// Brings other work than was sent.
struct Astray {
    work: Work,
    outputs: usize,
}

impl Exchange for Astray {
    fn dispatch(&mut self, args: Dispatch<'_>) -> Result<Received, ExchangeError> {
        Ok(Received {
            rows: vec![0.0; args.hidden],
            work: vec![self.work],
            counts: vec![1],
        })
    }

    fn combine(&mut self, _: &Received, _: &[f32]) -> Result<Returned, ExchangeError> {
        Ok(Returned {
            outputs: vec![0.0; self.outputs],
        })
    }
}

#[test]
fn work_that_is_not_this_ranks_is_an_error() {
    let placement = Arc::new(even(2));
    let weights = load(&placement, Rank(0));
    let mut model = RankModel::new(weights, cpu(), Rank(0), placement, PLAN).unwrap();
    let mut run = |expert, row, outputs| {
        let work = Work {
            expert: ExpertId(expert),
            row,
        };
        let (fence, number) = (Fence::default(), StepNumber(1));
        let mut exchange = Astray { work, outputs };
        let result = model.run(fence, number, &Part::default(), &mut exchange, &());
        result.unwrap_err().to_string()
    };
    let foreign = |row, expert| {
        format!(
            "layer 0 received row {row} of 1 for expert {expert}, which is not this rank's to compute"
        )
    };
    assert_eq!(run(8, 0, 0), foreign(0, 8));
    assert_eq!(run(77, 0, 0), foreign(0, 77));
    assert_eq!(run(0, 1, 0), foreign(1, 0));
    assert_eq!(
        run(0, 0, 5),
        "layer 0 got 5 values of expert outputs back, not 0"
    );
}

#[test]
fn weights_and_placement_must_belong_together() {
    let whole = Arc::new(even(1));
    let half = Arc::new(even(2));
    let weights = load(&half, Rank(1));
    let new = |rank, placement: &Arc<Placement>, plan| {
        let model = RankModel::new(
            Arc::clone(&weights),
            cpu(),
            rank,
            Arc::clone(placement),
            plan,
        );
        model.err().map(|error| error.to_string())
    };
    let cases = [
        (new(Rank(1), &half, PLAN), None),
        (
            new(Rank(0), &whole, PLAN),
            Some("expert 0 of layer 0 is placed on this rank, but is not loaded"),
        ),
        (
            new(Rank(2), &half, PLAN),
            Some("rank 2 is outside the placement's 2 ranks"),
        ),
        (
            new(Rank(0), &Arc::new(Placement::even(3, 8, 1)), PLAN),
            Some("the placement has 3 layers of 8 experts; the model has 3 of 9"),
        ),
        (
            new(
                Rank(1),
                &half,
                KvPlan {
                    full_blocks: usize::MAX / 64,
                    ..PLAN
                },
            ),
            Some("BLOCKS"),
        ),
        (
            new(
                Rank(1),
                &half,
                KvPlan {
                    block_size: 0,
                    ..PLAN
                },
            ),
            Some("a KV memory of 40 + 40 blocks of 0 positions cannot be reserved"),
        ),
        (
            // A number of bytes, and more than a processor can address.
            new(
                Rank(1),
                &half,
                KvPlan {
                    full_blocks: 1 << 44,
                    ..PLAN
                },
            ),
            Some("NO MEMORY"),
        ),
    ];
    for (found, expected) in cases {
        let huge = format!(
            "a KV memory of {} + 40 blocks of {BLOCK_SIZE} positions cannot be reserved",
            usize::MAX / 64
        );
        let refused = format!(
            "the system has no KV memory for {} + 40 blocks of {BLOCK_SIZE} positions",
            1_usize << 44
        );
        let expected = expected.map(|text| match text {
            "BLOCKS" => huge.as_str(),
            "NO MEMORY" => refused.as_str(),
            text => text,
        });
        assert_eq!(found.as_deref(), expected);
    }
}
