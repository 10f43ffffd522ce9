//! Between the wire's frames and ours.

use exchange::{Frame, Moment, Phase};
use proto::internal::{ExchangePhase, PushRequest};
use spec::{Epoch, Fence, Rank, StepNumber, Term};
use tonic::Status;

/// Returns the frame as it goes over the wire.
pub(crate) fn to_wire(frame: Frame) -> PushRequest {
    let Frame {
        moment,
        phase,
        from,
        to,
        payload,
    } = frame;
    let phase = match phase {
        Phase::Dispatch => ExchangePhase::Dispatch,
        Phase::Combine => ExchangePhase::Combine,
    };
    PushRequest {
        term: moment.fence.term.0,
        epoch: moment.fence.epoch.0,
        step: moment.step.0,
        layer: moment.layer,
        phase: phase.into(),
        from: from.0,
        to: to.0,
        payload,
        // Said once a stream.
        group: String::new(),
    }
}

/// Returns the frame that came over the wire, to a worker of this group; what its numbers mean here is
/// checked later.
pub(crate) fn from_wire(request: PushRequest, group: &str) -> Result<Frame, Status> {
    // Terms and epochs of two groups are alike.
    if !request.group.is_empty() && request.group != group {
        let why = format!(
            "the frame is of group {:?}, this worker is in group {group:?}",
            request.group
        );
        return Err(Status::failed_precondition(why));
    }
    let phase = match request.phase() {
        ExchangePhase::Dispatch => Phase::Dispatch,
        ExchangePhase::Combine => Phase::Combine,
        ExchangePhase::Unspecified => {
            let why = format!("phase: {} is neither dispatch nor combine", request.phase);
            return Err(Status::invalid_argument(why));
        }
    };
    let fence = Fence {
        term: Term(request.term),
        epoch: Epoch(request.epoch),
    };
    let moment = Moment {
        fence,
        step: StepNumber(request.step),
        layer: request.layer,
    };
    let (from, to) = (Rank(request.from), Rank(request.to));
    Ok(Frame {
        moment,
        phase,
        from,
        to,
        payload: request.payload,
    })
}

/// Returns what a failed call says, with its causes: tonic's own message often names none.
pub(crate) fn reason(status: &Status) -> String {
    let mut reason = format!("{:?}: {}", status.code(), status.message());
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let text = error.to_string();
        if !reason.contains(&text) {
            reason.push_str(": ");
            reason.push_str(&text);
        }
        cause = error.source();
    }
    reason
}
