//! The labels that metrics have, with all the values they take.
//!
//! No value comes from a client: what a client chooses is `other` unless it is listed here.

mod running;

use std::borrow::Cow;

use crate::label::{Label, ScopeRef};

pub use running::{Commit, Expert, Group, Layer, ProcessKind, Rank, Rustc, Seat, Version};

/// Defines a label by all its values.
macro_rules! closed {
    (
        $(#[$about:meta])*
        $name:ident as $label:literal { $($variant:ident = $value:literal),+ $(,)? }
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $(
                #[doc = concat!("`", $value, "`")]
                $variant,
            )+
        }

        impl $name {
            /// All values, in order.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Returns the value as metrics show it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $value,)+
                }
            }
        }

        impl Label for $name {
            const NAME: &'static str = $label;

            fn allowed() -> Cow<'static, str> {
                let values: Vec<_> = Self::ALL.iter().map(|value| value.as_str()).collect();
                values.join(", ").into()
            }

            fn count(_: &ScopeRef<'_>) -> usize {
                Self::ALL.len()
            }

            fn text<'a>(_: &ScopeRef<'a>, index: usize) -> Option<Cow<'a, str>> {
                Some(Self::ALL.get(index)?.as_str().into())
            }

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

mod cluster;

pub use cluster::{
    Block, Election, EpochEnd, Exchange, Fenced, Kind, LeadPhase, Lookup, Pool, Preemption,
    Registration, Replay, StepPhase, Transport, Wait, WorkerState,
};

closed! {
    /// What a process is doing, as balancers and alerts need to know.
    Serving as "state" {
        Starting = "starting",
        Serving = "serving",
        Paused = "paused",
        Draining = "draining",
    }
}

closed! {
    /// A phase of the start, in the order of [`crate::Phase::ALL`].
    Start as "phase" {
        OpeningModel = "opening model",
        WaitingForStore = "waiting for store",
        WaitingForLead = "waiting for lead",
        Loading = "loading",
    }
}

closed! {
    /// How urgent a line of the log is.
    Level as "level" {
        Error = "error",
        Warn = "warn",
        Info = "info",
        Debug = "debug",
        Trace = "trace",
    }
}

closed! {
    /// What is asked of the membership store.
    StoreOp as "op" {
        Read = "read",
        Transaction = "transaction",
        Grant = "lease_grant",
        Renew = "lease_renew",
        Revoke = "lease_revoke",
        Watch = "watch",
    }
}

closed! {
    /// What came of a request to the membership store: an answer, a refusal, or neither.
    StoreOutcome as "outcome" {
        Ok = "ok",
        Refused = "refused",
        Failed = "failed",
    }
}

closed! {
    /// The API that a request came by.
    Api as "api" {
        Generate = "generate",
        Chat = "chat",
        Completions = "completions",
    }
}

closed! {
    /// Whether the answer comes in pieces.
    Stream as "stream" {
        No = "false",
        Yes = "true",
    }
}

closed! {
    /// How a request ended.
    Outcome as "outcome" {
        Ok = "ok",
        ClientError = "client_error",
        Rejected = "rejected",
        Cancelled = "cancelled",
        Failed = "failed",
    }
}

closed! {
    /// What ended a text; `none` where it was not brought to an end.
    Finish as "finish_reason" {
        None = "none",
        Stop = "stop",
        Length = "length",
        ToolCalls = "tool_calls",
        Cancelled = "cancelled",
    }
}

closed! {
    /// Why a request was not taken that nothing is wrong with.
    Rejection as "reason" {
        QueueFull = "queue_full",
        QueueTimeout = "queue_timeout",
        TooManyRequests = "too_many_requests",
        NoCapacity = "no_capacity",
        Draining = "draining",
        NotLeader = "not_leader",
    }
}

closed! {
    /// A path of the HTTP API.
    Route as "route" {
        Completions = "/v1/completions",
        Models = "/v1/models",
        Model = "/v1/models/{name}",
        Livez = "/livez",
        Readyz = "/readyz",
        Other = "other",
    }
}

closed! {
    /// A method of HTTP.
    Verb as "method" {
        Get = "GET",
        Post = "POST",
        Other = "other",
    }
}

closed! {
    /// A status of HTTP.
    HttpCode as "code" {
        C200 = "200",
        C400 = "400",
        C404 = "404",
        C405 = "405",
        C408 = "408",
        C409 = "409",
        C413 = "413",
        C429 = "429",
        C500 = "500",
        C503 = "503",
        C504 = "504",
        Other = "other",
    }
}

impl HttpCode {
    /// Returns the label of a status.
    #[must_use]
    pub fn of(status: u16) -> Self {
        let mut known = Self::ALL.iter();
        let known = known.find(|code| code.as_str().parse() == Ok(status));
        known.copied().unwrap_or(Self::Other)
    }
}

closed! {
    /// A call of the gRPC API.
    Call as "method" {
        Chat = "GenerationService/Chat",
        Generate = "GenerationService/Generate",
        CancelGeneration = "GenerationService/CancelGeneration",
        GetGeneration = "GenerationService/GetGeneration",
        Tokenize = "TokenizerService/Tokenize",
        Detokenize = "TokenizerService/Detokenize",
        RenderChat = "TokenizerService/RenderChat",
        ListModels = "ModelService/ListModels",
        GetModel = "ModelService/GetModel",
        Other = "other",
    }
}

impl Call {
    /// Returns the label of a path, `/package.Service/Method`; of a package other than `conclave.v1`
    /// it is `other`.
    #[must_use]
    pub fn of(path: &str) -> Self {
        let call = path.strip_prefix("/conclave.v1.").unwrap_or_default();
        let mut known = Self::ALL.iter();
        let known = known.find(|known| known.as_str() == call);
        known.copied().unwrap_or(Self::Other)
    }
}

closed! {
    /// A status of gRPC.
    GrpcCode as "code" {
        Ok = "OK",
        Cancelled = "CANCELLED",
        Unknown = "UNKNOWN",
        InvalidArgument = "INVALID_ARGUMENT",
        DeadlineExceeded = "DEADLINE_EXCEEDED",
        NotFound = "NOT_FOUND",
        AlreadyExists = "ALREADY_EXISTS",
        PermissionDenied = "PERMISSION_DENIED",
        ResourceExhausted = "RESOURCE_EXHAUSTED",
        FailedPrecondition = "FAILED_PRECONDITION",
        Aborted = "ABORTED",
        OutOfRange = "OUT_OF_RANGE",
        Unimplemented = "UNIMPLEMENTED",
        Internal = "INTERNAL",
        Unavailable = "UNAVAILABLE",
        DataLoss = "DATA_LOSS",
        Unauthenticated = "UNAUTHENTICATED",
    }
}

impl GrpcCode {
    /// Returns the label of a code; a number that is none is `UNKNOWN`, as clients take it.
    #[must_use]
    pub fn of(code: i32) -> Self {
        let known = usize::try_from(code)
            .ok()
            .and_then(|code| Self::ALL.get(code));
        known.copied().unwrap_or(Self::Unknown)
    }
}

closed! {
    /// Work on text.
    TextWork as "op" {
        Encode = "encode",
        Decode = "decode",
        Template = "template",
    }
}
