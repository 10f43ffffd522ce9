//! Between wire types and the lead's own. What comes from outside is checked here, once.

use std::sync::Arc;

use proto::internal as wire;
use spec::{
    BlockId, BlockRun, Fence, KvPlan, Line, LineResult, Open, Part, PartResult, Rank, Sampling,
    TokenId,
};

use crate::wire::{sampled_token, sampling_to_wire, token_logprob};

/// Why a message was refused: the field, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub(crate) struct Malformed {
    pub(crate) field: &'static str,
    pub(crate) why: String,
}

impl Malformed {
    pub(crate) fn missing(field: &'static str) -> Self {
        Self {
            field,
            why: "is missing".into(),
        }
    }
}

pub(crate) fn fence(fence: Fence) -> wire::Fence {
    wire::Fence {
        term: fence.term.0,
        epoch: fence.epoch.0,
    }
}

pub(crate) fn kv_plan(plan: &KvPlan) -> wire::KvPlan {
    wire::KvPlan {
        block_size: plan.block_size as u32,
        full_blocks: plan.full_blocks as u32,
        window_blocks: plan.window_blocks as u32,
        num_slots: plan.num_slots as u32,
    }
}

pub(crate) fn part(part: &Part) -> wire::Part {
    wire::Part {
        rank: part.rank.0,
        closes: part.closes.iter().map(|slot| slot.0).collect(),
        opens: part.opens.iter().map(open).collect(),
        lines: part.lines.iter().map(line).collect(),
    }
}

fn open(open: &Open) -> wire::Open {
    wire::Open {
        slot: open.slot.0,
        sequence: open.sequence.0,
        tokens: open.tokens.iter().map(|token| token.0).collect(),
        prompt_len: open.prompt_len,
        sampling: Some(sampling_to_wire(&open.sampling)),
    }
}

fn line(line: &Line) -> wire::Line {
    wire::Line {
        slot: line.slot.0,
        start: line.start,
        len: line.len,
        full: Some(block_run(&line.full)),
        window: Some(block_run(&line.window)),
        samples: line.samples,
        prompt_logprobs: line.prompt_logprobs,
    }
}

fn block_run(run: &BlockRun) -> wire::BlockRun {
    let blocks = run.blocks.iter().map(|BlockId(block)| *block).collect();
    wire::BlockRun {
        first: run.first,
        blocks,
    }
}

/// Reads a front's sampling and checks it against the vocabulary.
pub(crate) fn sampling_from_wire(
    sampling: wire::Sampling,
    vocab_size: usize,
) -> Result<Arc<Sampling>, Malformed> {
    let mut logit_bias: Vec<(TokenId, f32)> = sampling
        .logit_bias
        .iter()
        .map(|bias| (TokenId(bias.token), bias.bias))
        .collect();
    logit_bias.sort_by_key(|(token, _)| *token);
    let sampling = Sampling {
        temperature: sampling.temperature,
        top_p: sampling.top_p,
        top_k: sampling.top_k,
        min_p: sampling.min_p,
        presence_penalty: sampling.presence_penalty,
        frequency_penalty: sampling.frequency_penalty,
        repetition_penalty: sampling.repetition_penalty,
        logit_bias,
        seed: sampling.seed,
        choice: sampling.choice,
        logprobs: sampling.logprobs,
        prompt_logprobs: sampling.prompt_logprobs,
    };
    let checked = sampling.check(vocab_size);
    checked.map_err(|error| Malformed {
        field: error.field,
        why: error.why,
    })?;
    Ok(Arc::new(sampling))
}

/// Reads token ids and checks them against the vocabulary.
pub(crate) fn tokens(
    field: &'static str,
    ids: &[u32],
    vocab_size: usize,
) -> Result<Vec<TokenId>, Malformed> {
    let outside = ids.iter().position(|id| *id as usize >= vocab_size);
    if let Some(at) = outside {
        let why = format!(
            "entry {at} is {}, the vocabulary has {vocab_size} tokens",
            ids[at]
        );
        return Err(Malformed { field, why });
    }
    Ok(ids.iter().map(|id| TokenId(*id)).collect())
}

pub(crate) fn part_result(result: wire::PartResult) -> PartResult {
    let lines = result.lines.into_iter().map(line_result).collect();
    PartResult {
        rank: Rank(result.rank),
        lines,
    }
}

fn line_result(result: wire::LineResult) -> LineResult {
    LineResult {
        ran: result.ran,
        tokens: result.tokens.into_iter().map(sampled_token).collect(),
        prompt_logprobs: result
            .prompt_logprobs
            .into_iter()
            .map(token_logprob)
            .collect(),
    }
}
