//! Why a request was not served, and the gRPC status that says so.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::intake::Unread;
use super::limits;
use crate::status::{DOMAIN, reason, reason_of};

/// Why a request was not served, or not to its end.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Error {
    /// A field has a value that is not allowed.
    #[error("{field}: {why}")]
    Field { field: String, why: String },
    /// A field asks for something that does not exist here.
    #[error("{field} is not supported: {why}")]
    Unsupported { field: String, why: &'static str },
    /// No such model.
    #[error("model {name:?} is not served here; {served:?} is")]
    UnknownModel { name: String, served: String },
    /// A stream was to be resumed after more events than it has.
    #[error("stream.resume_after: the generation has ended with event {last}")]
    BeyondTheEnd { last: u64 },
    /// An answer does not fit into a message.
    #[error("{field}: the answer would have {bytes} bytes, more than {most}; ask in pieces")]
    AnswerTooLong {
        field: &'static str,
        bytes: usize,
        most: usize,
    },
    /// The front is full.
    #[error("{limit} generations are live, more are not taken")]
    TooManyLive { limit: usize },
    /// So many calls wait for leads that can tell.
    #[error("{limit} calls wait for a lead that can tell of their generations, more are not held")]
    TooManyHeld { limit: usize },
    /// The front is going away.
    #[error("the server is shutting down")]
    Draining,
    /// The caller's deadline has passed.
    #[error("the deadline passed after event {last_sequence} of generation {id:?}")]
    Deadline { id: String, last_sequence: u64 },
    /// The caller's deadline has passed, and this call has begun no generation.
    #[error("the deadline passed before there was an answer")]
    DeadlineEarly,
    /// It has not run for as long as it may wait.
    #[error("it waited to run for longer than scheduling.queue_timeout")]
    QueueTimeout,
    /// The request is no message of its call.
    #[error("{field}: {why}")]
    Unreadable { field: String, why: String },
    /// The request did not come, or there is no room for it.
    #[error(transparent)]
    Unread(#[from] Unread),
    /// Somebody cancelled the generation, and its client's API has no other word for that.
    #[error("the generation was cancelled")]
    Cancelled,
    /// The client did not read for too long.
    #[error("the client read nothing for {limit:?}")]
    ClientStalled { limit: Duration },
    /// The client has dropped the stream; nobody hears this.
    #[error("the client is gone")]
    ClientGone,
    /// The lead's own refusal.
    #[error("{}", .0.message())]
    Lead(Box<Status>),
    /// The connection to the lead broke.
    #[error("the lead cannot be reached: {why}")]
    LeadGone { why: String },
    /// The lead said something that cannot be.
    #[error("the lead broke the protocol: {why}")]
    LeadProtocol { why: &'static str },
    /// A task of the front panicked.
    #[error("the request was dropped by a mistake of the server; its log says more")]
    Broken,
}

impl Error {
    /// Makes a [`Error::Field`].
    pub(super) fn field(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Field {
            field: field.into(),
            why: why.into(),
        }
    }

    /// Makes a [`Error::Unsupported`].
    pub(super) fn unsupported(field: impl Into<String>, why: &'static str) -> Self {
        Self::Unsupported {
            field: field.into(),
            why,
        }
    }

    /// Takes what a call to the lead ended with.
    ///
    /// A broken connection is not the lead's answer: it reaches us as UNKNOWN or INTERNAL with the
    /// transport's error as source, and as CANCELLED where the connection is shut in order.
    pub(super) fn from_lead(status: Status) -> Self {
        let by_transport = std::error::Error::source(&status).is_some();
        let transport_codes = [
            Code::Unknown,
            Code::Internal,
            Code::Cancelled,
            Code::Unavailable,
        ];
        if by_transport && transport_codes.contains(&status.code()) {
            return Self::LeadGone {
                why: status.message().to_owned(),
            };
        }
        match status.code() {
            Code::ResourceExhausted
            | Code::Unavailable
            | Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::DeadlineExceeded
            | Code::DataLoss => Self::Lead(Box::new(status)),
            Code::Cancelled => Self::LeadGone {
                why: status.message().to_owned(),
            },
            code => {
                tracing::error!(
                    ?code,
                    message = status.message(),
                    "unexpected status of the lead"
                );
                Self::LeadProtocol {
                    why: "a status that it never gives",
                }
            }
        }
    }

    /// Says whether the generation may be found again, at this lead or another.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::LeadGone { .. } => true,
            Self::Lead(status) => {
                let passing = [
                    reason::NOT_LEADER,
                    reason::LEAD_ENDING,
                    reason::LEAD_NEW,
                    reason::REWRITTEN,
                ];
                reason_of(status).is_some_and(|reason| passing.contains(&reason.as_str()))
            }
            _ => false,
        }
    }

    /// Says whether a lead's queue was full.
    pub(super) fn is_full(&self) -> bool {
        match self {
            Self::Lead(status) => reason_of(status).as_deref() == Some(reason::QUEUE_FULL),
            _ => false,
        }
    }

    /// Says whether a lead answered that it knows no such generation, or none yet.
    pub(super) fn is_unknown(&self) -> bool {
        match self {
            Self::Lead(status) if status.code() == Code::NotFound => true,
            Self::Lead(status) => reason_of(status).as_deref() == Some(reason::LEAD_NEW),
            _ => false,
        }
    }

    /// Returns the gRPC code.
    pub(super) fn code(&self) -> Code {
        match self {
            Self::Field { .. } | Self::Unreadable { .. } => Code::InvalidArgument,
            Self::Unsupported { .. } => Code::Unimplemented,
            Self::UnknownModel { .. } => Code::NotFound,
            Self::BeyondTheEnd { .. } => Code::OutOfRange,
            Self::AnswerTooLong { .. } => Code::InvalidArgument,
            Self::TooManyLive { .. } | Self::TooManyHeld { .. } | Self::QueueTimeout => {
                Code::ResourceExhausted
            }
            Self::Draining | Self::LeadGone { .. } => Code::Unavailable,
            Self::Deadline { .. } | Self::DeadlineEarly => Code::DeadlineExceeded,
            Self::Unread(Unread::Crowded) => Code::ResourceExhausted,
            Self::Unread(Unread::TooLong { .. }) => Code::InvalidArgument,
            Self::Unread(Unread::TooSlow { .. } | Unread::Broken { .. }) => Code::Cancelled,
            Self::Cancelled | Self::ClientStalled { .. } | Self::ClientGone => Code::Cancelled,
            Self::Lead(status) => status.code(),
            Self::LeadProtocol { .. } | Self::Broken => Code::Internal,
        }
    }

    /// Returns the reason for programs, as in `google.rpc.ErrorInfo`.
    pub(super) fn reason(&self) -> Cow<'static, str> {
        let reason = match self {
            Self::Field { .. } => "FIELD_INVALID",
            Self::Unsupported { .. } => "FIELD_UNSUPPORTED",
            Self::UnknownModel { .. } => "MODEL_UNKNOWN",
            Self::BeyondTheEnd { .. } => "BEYOND_THE_END",
            Self::AnswerTooLong { .. } => "ANSWER_TOO_LONG",
            Self::TooManyLive { .. } => "TOO_MANY_GENERATIONS",
            Self::TooManyHeld { .. } => "TOO_MANY_HELD",
            Self::Draining => "DRAINING",
            Self::Deadline { .. } | Self::DeadlineEarly => reason::DEADLINE_PASSED,
            Self::QueueTimeout => reason::QUEUE_TIMEOUT,
            Self::Unreadable { .. } => "REQUEST_UNREADABLE",
            Self::Unread(Unread::Crowded) => "TOO_MANY_REQUESTS",
            Self::Unread(Unread::TooLong { .. }) => "REQUEST_TOO_LONG",
            Self::Unread(Unread::TooSlow { .. }) => "REQUEST_TOO_SLOW",
            Self::Unread(Unread::Broken { .. }) => "REQUEST_BROKEN",
            Self::Cancelled => "CANCELLED",
            Self::ClientStalled { .. } => "CLIENT_STALLED",
            Self::ClientGone => "CLIENT_GONE",
            Self::Lead(status) => {
                return reason_of(status).map_or(reason::REFUSED_BY_LEAD.into(), Cow::from);
            }
            Self::LeadGone { .. } => "LEAD_GONE",
            Self::LeadProtocol { .. } => "LEAD_PROTOCOL",
            Self::Broken => "BROKEN",
        };
        reason.into()
    }

    /// Returns when it may be worth another try; `None` if it is not.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TooManyLive { .. }
            | Self::TooManyHeld { .. }
            | Self::QueueTimeout
            | Self::Unread(Unread::Crowded)
            | Self::Draining
            | Self::LeadGone { .. } => Some(limits::RETRY_AFTER),
            Self::Lead(status) => status.get_details_retry_info()?.retry_delay,
            _ => None,
        }
    }

    /// Returns the name of the field that is at fault.
    pub(super) fn at_field(&self) -> Option<&str> {
        match self {
            Self::Field { field, .. }
            | Self::Unsupported { field, .. }
            | Self::Unreadable { field, .. } => Some(field),
            Self::AnswerTooLong { field, .. } => Some(field),
            Self::BeyondTheEnd { .. } => Some("stream.resume_after"),
            Self::Unread(Unread::TooLong { .. }) => Some("request"),
            _ => None,
        }
    }

    /// Gives the field that is at fault another name.
    pub(super) fn rename(self, name: impl FnOnce(&str) -> String) -> Self {
        match self {
            Self::Field { field, why } => Self::Field {
                field: name(&field),
                why,
            },
            Self::Unsupported { field, why } => Self::Unsupported {
                field: name(&field),
                why,
            },
            other => other,
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let mut metadata = HashMap::new();
        if let Error::Deadline { id, last_sequence } = &error {
            metadata.insert("generation_id".to_owned(), id.clone());
            metadata.insert("last_sequence".to_owned(), last_sequence.to_string());
        }
        let mut details = ErrorDetails::with_error_info(error.reason(), DOMAIN, metadata);
        if let Some(field) = error.at_field() {
            details.add_bad_request_violation(field, error.to_string());
        }
        if let Error::Lead(status) = &error
            && let Some(bad) = status.get_details_bad_request()
        {
            details.set_bad_request(bad.field_violations);
        }
        if let Some(delay) = error.retry_after() {
            details.set_retry_info(Some(delay));
        }
        Self::with_error_details(error.code(), error.to_string(), details)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tonic::{Code, Status};
    use tonic_types::{ErrorDetails, StatusExt as _};

    use super::Error;

    #[test]
    fn a_bad_field_is_named_in_the_details() {
        let status = Status::from(Error::field("sampling.top_p", "7 is not within 0 to 1"));
        assert_eq!(status.code(), Code::InvalidArgument);
        let violations = status.get_details_bad_request().unwrap().field_violations;
        assert_eq!(violations[0].field, "sampling.top_p");
        assert_eq!(
            status.get_details_error_info().unwrap().reason,
            "FIELD_INVALID"
        );
    }

    #[test]
    fn a_refusal_of_the_lead_keeps_its_code_and_delay() {
        let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(3)));
        let lead = Status::with_error_details(Code::ResourceExhausted, "queue full", details);
        let status = Status::from(Error::from_lead(lead));
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(status.message(), "queue full");
        let delay = status.get_details_retry_info().unwrap().retry_delay;
        assert_eq!(delay, Some(Duration::from_secs(3)));
    }

    #[test]
    fn a_field_that_the_lead_refuses_is_named_to_the_client() {
        let details = ErrorDetails::with_bad_request_violation("prompt", "is too long");
        let lead = Status::with_error_details(Code::InvalidArgument, "no", details);
        let status = Status::from(Error::from_lead(lead));
        let violations = status.get_details_bad_request().unwrap().field_violations;
        assert_eq!(violations[0].field, "prompt");
        let info = status.get_details_error_info().unwrap();
        assert_eq!(info.reason, "REFUSED_BY_LEAD");
    }

    #[test]
    fn a_broken_transport_is_unavailable() {
        let cause = std::io::Error::other("error reading a body from connection");
        let status = Status::from(Error::from_lead(Status::from_error(Box::new(cause))));
        assert_eq!(status.code(), Code::Unavailable);
        assert!(status.get_details_retry_info().is_some());
    }
}
