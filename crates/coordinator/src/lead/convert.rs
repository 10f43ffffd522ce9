//! Between wire types and the lead's own. What comes from outside is checked here, once.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use engine::Stop;
use proto::internal as wire;
use spec::{
    BlockId, BlockRun, Epoch, Fence, KvPlan, Line, LineResult, Open, Part, PartResult, Placement,
    Rank, Sampling, Term, TokenId,
};

use super::follow::good_end;
use super::kept::kept;
use super::ledger::{Name, Record, Standing, Terms, Work};
use super::log::Cursor;
use super::message::Follow;
use super::workers::Kept;
use crate::limits;
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

/// Reads a fence, whatever it is: zero stands for none.
pub(crate) fn to_fence(term: u64, epoch: u64) -> Fence {
    Fence {
        term: Term(term),
        epoch: Epoch(epoch),
    }
}

pub(crate) fn placement(placement: &Placement) -> Vec<wire::LayerPlacement> {
    let layers = (0..placement.num_layers()).map(|layer| wire::LayerPlacement {
        owners: placement.owners(layer).iter().map(|rank| rank.0).collect(),
    });
    layers.collect()
}

pub(crate) fn kv_plan(plan: &KvPlan) -> wire::KvPlan {
    wire::KvPlan {
        block_size: plan.block_size as u32,
        full_blocks: plan.full_blocks as u32,
        window_blocks: plan.window_blocks as u32,
        num_slots: plan.num_slots as u32,
    }
}

pub(crate) fn part(part: &Part, kept: Kept<'_>) -> wire::Part {
    wire::Part {
        rank: part.rank.0,
        closes: part.closes.iter().map(|slot| slot.0).collect(),
        opens: part.opens.iter().map(|opened| open(opened, kept)).collect(),
        lines: part.lines.iter().map(line).collect(),
    }
}

fn open(open: &Open, kept: Kept<'_>) -> wire::Open {
    let at_home = kept(open.sequence);
    wire::Open {
        slot: open.slot.0,
        sequence: open.sequence.0,
        tokens: open.tokens.iter().map(|token| token.0).collect(),
        prompt_len: open.prompt_len,
        sampling: Some(sampling_to_wire(&open.sampling)),
        record: at_home.record.into(),
        request_id: at_home.request_id,
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

/// Reads the generated tokens that stay, and those that are forced after them.
///
/// A front of a build that does not send what stays is refused: its text would be written anew from the beginning. One
/// that sends it, and not how much it is, is not.
pub(crate) fn forced(
    force: &wire::ForceRequest,
    vocab_size: usize,
) -> Result<(Vec<TokenId>, Vec<TokenId>), Malformed> {
    let generated = tokens("generated", &force.generated, vocab_size)?;
    if force.keep as usize > generated.len() {
        let why = format!(
            "it is {}, but generated has {} tokens: the front is of an earlier build",
            force.keep,
            generated.len()
        );
        return Err(Malformed { field: "keep", why });
    }
    Ok((generated, tokens("tokens", &force.tokens, vocab_size)?))
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

/// What token ids and positions are checked against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Vocabulary {
    /// Every token id is below.
    pub(crate) size: usize,
    /// Most positions of a sequence.
    pub(crate) max_context: usize,
}

/// Reads a name.
pub(crate) fn name(principal: String, request_id: String) -> Result<Name, Malformed> {
    for (field, text) in [("principal", &principal), ("request_id", &request_id)] {
        if text.is_empty() || text.len() > limits::MAX_NAME {
            let why = format!("has {} bytes, not 1 to {}", text.len(), limits::MAX_NAME);
            return Err(Malformed { field, why });
        }
    }
    Ok(Name {
        principal: principal.into(),
        request_id: request_id.into(),
    })
}

/// Reads a front's wish to follow a sequence.
pub(crate) fn follow(
    mut request: wire::FollowRequest,
    vocabulary: &Vocabulary,
) -> Result<Follow, Malformed> {
    let kept = kept(&mut request);
    let record = request.record.ok_or_else(|| Malformed::missing("record"))?;
    let terms = Terms {
        cursor: Cursor {
            prompt_logprobs: request.prompt_logprobs_seen as usize,
            tokens: request.tokens_seen as usize,
            ..Cursor::default()
        },
        keep: limited("keep_us", request.keep_us, limits::MAX_KEEP)?,
        deadline: request.deadline_us.map(Duration::from_micros),
        queue_timeout: limited(
            "queue_timeout_us",
            request.queue_timeout_us,
            limits::MAX_KEEP,
        )?,
        age: Duration::from_micros(request.age_us),
    };
    let generated = tokens("generated", &request.generated, vocabulary.size)?;
    let (name, fingerprint, record) = match request.attach_only {
        true => {
            // Fronts of earlier builds do not tell it.
            let fingerprint = record.fingerprint.try_into().ok();
            (
                name(record.principal, record.request_id)?,
                fingerprint,
                None,
            )
        }
        false => {
            let (name, record) = self::record(record, generated.len(), vocabulary)?;
            let record = Record { kept, ..record };
            (name, Some(record.fingerprint), Some(record))
        }
    };
    Ok(Follow {
        name,
        fingerprint,
        record,
        generated,
        was_accepted: request.was_accepted,
        terms,
    })
}

fn limited(
    field: &'static str,
    micros: Option<u64>,
    most: Duration,
) -> Result<Option<Duration>, Malformed> {
    let given = micros.map(Duration::from_micros);
    match given.filter(|given| *given > most) {
        None => Ok(given),
        Some(given) => Err(Malformed {
            field,
            why: format!("{given:?} is more than {most:?}"),
        }),
    }
}

fn record(
    record: wire::SequenceRecord,
    generated: usize,
    vocabulary: &Vocabulary,
) -> Result<(Name, Record), Malformed> {
    let missing = Malformed::missing;
    let sampling = record.sampling.ok_or_else(|| missing("sampling"))?;
    let sampling = sampling_from_wire(sampling, vocabulary.size)?;
    let stop = record.stop.ok_or_else(|| missing("stop"))?;
    let prompt = tokens("tokens", &record.tokens, vocabulary.size)?;
    if prompt.is_empty() {
        return Err(Malformed {
            field: "tokens",
            why: "at least one is needed".into(),
        });
    }
    // A token that is generated needs a position, too.
    let (have, limit) = (prompt.len() + generated, vocabulary.max_context);
    if prompt.len() + generated.max(stop.max_tokens.min(1) as usize) > limit {
        let why = format!("{have} tokens leave no room in a context of {limit}");
        return Err(Malformed {
            field: "tokens",
            why,
        });
    }
    let bounded = [
        (
            "stop_tokens",
            stop.stop_tokens.len(),
            limits::MAX_STOP_TOKENS,
        ),
        ("front", record.front.len(), limits::MAX_FRONT_BYTES),
        ("cache_salt", record.cache_salt.len(), limits::MAX_NAME),
    ];
    if let Some((field, length, most)) = bounded.into_iter().find(|(_, len, most)| len > most) {
        let why = format!("{length} are more than {most}");
        return Err(Malformed { field, why });
    }
    let fingerprint = record.fingerprint.as_slice().try_into();
    let fingerprint = fingerprint.map_err(|_| Malformed {
        field: "fingerprint",
        why: format!("has {} bytes, not 32", record.fingerprint.len()),
    })?;
    let mut salt = DefaultHasher::new();
    record.cache_salt.hash(&mut salt);
    let name = name(record.principal, record.request_id)?;
    let stop_tokens = tokens("stop_tokens", &stop.stop_tokens, vocabulary.size)?;
    let work = Work {
        prompt: prompt.into(),
        sampling,
        stop: Stop {
            max_tokens: stop.max_tokens as usize,
            stop_tokens,
        },
        cache_salt: salt.finish(),
        priority: record
            .priority
            .clamp(-limits::MAX_PRIORITY, limits::MAX_PRIORITY),
    };
    let record = Record {
        fingerprint,
        front: record.front.into(),
        kept: Bytes::new(),
        work,
    };
    Ok((name, record))
}

/// Converts how a sequence stands.
pub(crate) fn standing(standing: &Standing<'_>) -> wire::SequenceStanding {
    let log = &standing.log;
    let (state, end) = match log.end().map(|(end, _)| good_end(end)) {
        None if log.cached().is_none() => (wire::SequenceState::Queued, None),
        None => (wire::SequenceState::Running, None),
        Some(Ok(end)) => (wire::SequenceState::Ended, Some(end)),
        Some(Err(_)) => (wire::SequenceState::Failed, None),
    };
    let tokens = log.tokens().iter().map(|sampled| sampled.token.0);
    wire::SequenceStanding {
        state: state.into(),
        front: standing.front.to_vec(),
        prompt_tokens: log.prompt_len() as u32,
        cached_prompt_tokens: log.cached().unwrap_or(0),
        tokens: tokens.collect(),
        prompt_logprobs: log.num_prompt_logprobs() as u32,
        end: end.unwrap_or_default().into(),
    }
}

/// Converts a time to microseconds.
pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
