//! `RunRequest` to the parts of a step.

use std::sync::Arc;

use proto::internal as wire;
use spec::{
    BlockId, BlockRun, Geometry, Line, Open, Part, Rank, Sampling, SequenceId, Slot, StepNumber,
    TokenId,
};

use super::plan::EpochPlan;
use super::{Fault, below};
use crate::limits::MAX_REQUEST_ID;

/// One step's parts for the ranks of this worker.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StepParts {
    /// Number of the step, from 1.
    pub(crate) step: StepNumber,
    /// One for each rank of the worker, ascending.
    pub(crate) parts: Vec<Part>,
}

/// Checks everything about a request that follows from the epoch and the model alone. What
/// depends on the steps before (is the slot open, is the position known) the rank checks itself.
///
/// # Errors
///
/// The first [`Fault`] found.
pub(crate) fn step_parts(
    request: wire::RunRequest,
    plan: &EpochPlan,
    geometry: &Geometry,
) -> Result<StepParts, Fault> {
    if request.step == 0 {
        return Err(Fault::new("step", "is 0; steps count from 1"));
    }
    let named: Vec<Rank> = request.parts.iter().map(|part| Rank(part.rank)).collect();
    if named != plan.own {
        let list = |ranks: &[Rank]| {
            let ranks: Vec<String> = ranks.iter().map(Rank::to_string).collect();
            ranks.join(", ")
        };
        let why = format!(
            "are for ranks [{}], this worker holds [{}]",
            list(&named),
            list(&plan.own)
        );
        return Err(Fault::new("parts", why));
    }
    let edge = Edge { plan, geometry };
    let parts = request.parts.into_iter().enumerate();
    let parts = parts.map(|(index, part)| edge.part(part, &format!("parts[{index}]")));
    Ok(StepParts {
        step: StepNumber(request.step),
        parts: parts.collect::<Result<_, _>>()?,
    })
}

/// What the pieces of a part have to fit.
struct Edge<'a> {
    plan: &'a EpochPlan,
    geometry: &'a Geometry,
}

impl Edge<'_> {
    fn part(&self, part: wire::Part, path: &str) -> Result<Part, Fault> {
        let mut closed = Seen::default();
        let mut closes = Vec::with_capacity(part.closes.len());
        for (index, slot) in part.closes.into_iter().enumerate() {
            closes.push(self.slot(slot, &mut closed, || format!("{path}.closes[{index}]"))?);
        }
        let mut opened = Seen::default();
        let mut opens = Vec::with_capacity(part.opens.len());
        for (index, open) in part.opens.into_iter().enumerate() {
            opens.push(self.open(open, &mut opened, &format!("{path}.opens[{index}]"))?);
        }
        let mut used = Seen::default();
        let mut lines = Vec::with_capacity(part.lines.len());
        for (index, line) in part.lines.into_iter().enumerate() {
            lines.push(self.line(line, &mut used, &format!("{path}.lines[{index}]"))?);
        }
        let rows: u64 = lines.iter().map(|line: &Line| u64::from(line.len)).sum();
        if rows > self.plan.max_step_rows as u64 {
            let why = format!(
                "have {rows} rows, the epoch allows {}",
                self.plan.max_step_rows
            );
            return Err(Fault::new(format!("{path}.lines"), why));
        }
        Ok(Part {
            rank: Rank(part.rank),
            closes,
            opens,
            lines,
        })
    }

    fn slot(&self, slot: u32, seen: &mut Seen, field: impl Fn() -> String) -> Result<Slot, Fault> {
        below(slot, self.plan.kv.num_slots, &field, "slots")?;
        if !seen.insert(slot) {
            return Err(Fault::new(field(), format!("slot {slot} is named twice")));
        }
        Ok(Slot(slot))
    }

    fn open(&self, open: wire::Open, seen: &mut Seen, path: &str) -> Result<Open, Fault> {
        let slot = self.slot(open.slot, seen, || format!("{path}.slot"))?;
        let (found, most) = (open.tokens.len(), self.geometry.max_positions);
        if found == 0 || found > most {
            let why = format!("has {found} tokens, not 1 to {most}");
            return Err(Fault::new(format!("{path}.tokens"), why));
        }
        for (index, token) in open.tokens.iter().enumerate() {
            let field = || format!("{path}.tokens[{index}]");
            below(
                *token,
                self.geometry.vocab_size,
                field,
                "tokens of the vocabulary",
            )?;
        }
        if open.prompt_len == 0 || open.prompt_len as usize > found {
            let why = format!("{} is not within 1 to the {found} tokens", open.prompt_len);
            return Err(Fault::new(format!("{path}.prompt_len"), why));
        }
        let (bytes, most) = (open.request_id.len(), MAX_REQUEST_ID);
        if bytes > most {
            let why = format!("has {bytes} bytes, not at most {most}");
            return Err(Fault::new(format!("{path}.request_id"), why));
        }
        let sampling = format!("{path}.sampling");
        let Some(choice) = open.sampling else {
            return Err(Fault::new(sampling, "is missing"));
        };
        let choice = sampling_from(choice);
        if let Err(error) = choice.check(self.geometry.vocab_size) {
            return Err(Fault::new(format!("{sampling}.{}", error.field), error.why));
        }
        Ok(Open {
            slot,
            sequence: SequenceId(open.sequence),
            tokens: open.tokens.into_iter().map(TokenId).collect(),
            prompt_len: open.prompt_len,
            sampling: Arc::new(choice),
        })
    }

    fn line(&self, line: wire::Line, seen: &mut Seen, path: &str) -> Result<Line, Fault> {
        let slot = self.slot(line.slot, seen, || format!("{path}.slot"))?;
        if line.len == 0 {
            return Err(Fault::new(
                format!("{path}.len"),
                "is 0; a line has at least one row",
            ));
        }
        let end = u64::from(line.start) + u64::from(line.len);
        if end > self.geometry.max_positions as u64 {
            let (start, len, most) = (line.start, line.len, self.geometry.max_positions);
            let why = format!("{len} from start {start} on ends past the model's {most} positions");
            return Err(Fault::new(format!("{path}.len"), why));
        }
        let kv = &self.plan.kv;
        Ok(Line {
            slot,
            start: line.start,
            len: line.len,
            full: self.run(line.full, kv.full_blocks, &format!("{path}.full"))?,
            window: self.run(line.window, kv.window_blocks, &format!("{path}.window"))?,
            samples: line.samples,
            prompt_logprobs: line.prompt_logprobs,
        })
    }

    /// An absent run is an empty one: nothing changes.
    fn run(&self, run: Option<wire::BlockRun>, pool: usize, path: &str) -> Result<BlockRun, Fault> {
        let run = run.unwrap_or_default();
        let longest = self
            .geometry
            .max_positions
            .div_ceil(self.plan.kv.block_size);
        let end = run.first as usize + run.blocks.len();
        if !run.blocks.is_empty() && end > longest {
            let why = format!("ends at entry {end}, a table has at most {longest}");
            return Err(Fault::new(format!("{path}.blocks"), why));
        }
        for (index, block) in run.blocks.iter().enumerate() {
            below(
                *block,
                pool,
                || format!("{path}.blocks[{index}]"),
                "blocks of the pool",
            )?;
        }
        Ok(BlockRun {
            first: run.first,
            blocks: run.blocks.into_iter().map(BlockId).collect(),
        })
    }
}

/// Slots that were named.
#[derive(Default)]
struct Seen(std::collections::BTreeSet<u32>);

impl Seen {
    /// Returns false if the slot was named before.
    fn insert(&mut self, slot: u32) -> bool {
        self.0.insert(slot)
    }
}

fn sampling_from(sampling: wire::Sampling) -> Sampling {
    let bias = |bias: wire::LogitBias| (TokenId(bias.token), bias.bias);
    Sampling {
        temperature: sampling.temperature,
        top_p: sampling.top_p,
        top_k: sampling.top_k,
        min_p: sampling.min_p,
        presence_penalty: sampling.presence_penalty,
        frequency_penalty: sampling.frequency_penalty,
        repetition_penalty: sampling.repetition_penalty,
        logit_bias: sampling.logit_bias.into_iter().map(bias).collect(),
        seed: sampling.seed,
        choice: sampling.choice,
        logprobs: sampling.logprobs,
        prompt_logprobs: sampling.prompt_logprobs,
    }
}
