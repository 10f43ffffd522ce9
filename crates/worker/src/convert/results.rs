//! What a worker answers, as wire messages.

use proto::internal as wire;
use spec::{
    Fence, LineResult, PartResult, Rank, SampledToken, SequenceId, StepNumber, TokenLogprob,
};
use wire::prepare_response::State;
use wire::run_response::Message;

/// Bytes of weights read so far.
pub(crate) fn loading(bytes_done: u64, bytes_total: u64) -> wire::PrepareResponse {
    let loading = wire::LoadProgress {
        bytes_done,
        bytes_total,
    };
    wire::PrepareResponse {
        state: Some(State::Loading(loading)),
    }
}

/// A sequence that the lead of an earlier term has left here.
pub(crate) fn left(sequence: wire::LeftSequence) -> wire::PrepareResponse {
    wire::PrepareResponse {
        state: Some(State::Left(sequence)),
    }
}

/// The end of a preparation, by a worker whose last step was of this epoch.
pub(crate) fn ready(kept_kv: Vec<bool>, stepped: Option<Fence>) -> wire::PrepareResponse {
    let stepped = stepped.unwrap_or_default();
    let ready = wire::Ready {
        kept_kv,
        left_term: stepped.term.0,
        left_epoch: stepped.epoch.0,
    };
    wire::PrepareResponse {
        state: Some(State::Ready(ready)),
    }
}

/// The answer to a step: each part with the rows of its rank's experts, by layer.
pub(crate) fn step_done(step: StepNumber, parts: Vec<(PartResult, Vec<u32>)>) -> wire::RunResponse {
    let parts = parts.into_iter().map(from_part).collect();
    response(Message::Done(wire::StepDone {
        step: step.0,
        parts,
    }))
}

/// A step that did not happen.
pub(crate) fn failed(
    step: StepNumber,
    rank: Rank,
    reason: String,
    blamed: Option<Rank>,
    sequence: Option<SequenceId>,
) -> wire::RunResponse {
    let blamed = blamed.map(|rank| rank.0);
    response(Message::Failed(wire::StepFailed {
        step: step.0,
        rank: rank.0,
        reason,
        blamed,
        sequence: sequence.map(|sequence| sequence.0),
    }))
}

/// Where all ranks of a worker are.
pub(crate) fn progress(ranks: Vec<wire::RankProgress>) -> wire::RunResponse {
    response(Message::Progress(wire::Progress { ranks }))
}

/// Where one rank is.
pub(crate) fn rank_progress(
    rank: Rank,
    step: u64,
    ticks: u64,
    waiting_for: Option<Rank>,
) -> wire::RankProgress {
    let waiting_for = waiting_for.map(|rank| rank.0);
    wire::RankProgress {
        rank: rank.0,
        step,
        ticks,
        waiting_for,
    }
}

fn response(message: Message) -> wire::RunResponse {
    wire::RunResponse {
        message: Some(message),
    }
}

fn from_part((part, expert_rows): (PartResult, Vec<u32>)) -> wire::PartResult {
    wire::PartResult {
        rank: part.rank.0,
        lines: part.lines.into_iter().map(from_line).collect(),
        expert_rows,
    }
}

fn from_line(line: LineResult) -> wire::LineResult {
    wire::LineResult {
        ran: line.ran,
        tokens: line.tokens.into_iter().map(from_sampled).collect(),
        prompt_logprobs: line.prompt_logprobs.into_iter().map(from_logprob).collect(),
    }
}

fn from_sampled(sampled: SampledToken) -> wire::SampledToken {
    wire::SampledToken {
        token: sampled.token.0,
        logprob: sampled.logprob.map(from_logprob),
    }
}

fn from_logprob(logprob: TokenLogprob) -> wire::TokenLogprob {
    let alternative = |(token, logprob): (spec::TokenId, f32)| wire::Alternative {
        token: token.0,
        logprob,
    };
    wire::TokenLogprob {
        token: logprob.token.0,
        logprob: logprob.logprob,
        rank: logprob.rank,
        top: logprob.top.into_iter().map(alternative).collect(),
    }
}
