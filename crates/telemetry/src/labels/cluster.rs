//! Labels of what a group of ranks does together: steps, exchanges, epochs, memory.

use std::borrow::Cow;

use crate::label::{Label, ScopeRef};

closed! {
    /// What a step, or a rank's part of it, computes: prompts, one row for each sequence that
    /// generates, both, or nothing but its share of the others' experts.
    Kind as "kind" {
        Prefill = "prefill",
        Decode = "decode",
        Mixed = "mixed",
        Idle = "idle",
    }
}

impl Kind {
    /// Returns the kind of work with these rows.
    #[must_use]
    pub fn of(has_prefill: bool, has_decode: bool) -> Self {
        match (has_prefill, has_decode) {
            (true, true) => Self::Mixed,
            (true, false) => Self::Prefill,
            (false, true) => Self::Decode,
            (false, false) => Self::Idle,
        }
    }
}

closed! {
    /// What a rank does in a step.
    StepPhase as "phase" {
        Attention = "attention",
        Dispatch = "dispatch",
        Experts = "experts",
        Combine = "combine",
        Sample = "sample",
    }
}

closed! {
    /// What a lead does for a step.
    LeadPhase as "phase" {
        Plan = "plan",
        Send = "send",
        Settle = "settle",
    }
}

closed! {
    /// What generations wait for: a slot or a row, blocks of KV, an epoch that serves, or other
    /// workers as one of the group's is about to end.
    Wait as "reason" {
        Capacity = "capacity",
        Kv = "kv",
        EpochChange = "epoch_change",
        Draining = "draining",
    }
}

closed! {
    /// How the worker of a rank is.
    WorkerState as "state" {
        Loading = "loading",
        Standby = "standby",
        Active = "active",
        Draining = "draining",
        Lost = "lost",
    }
}

closed! {
    /// A direction of the exchange: rows to the experts, or their outputs back.
    Exchange as "op" {
        Dispatch = "dispatch",
        Combine = "combine",
    }
}

closed! {
    /// How a frame reaches another rank: in this process's memory, by a socket of this machine, or over gRPC.
    Transport as "transport" {
        Local = "local",
        Unix = "unix",
        Grpc = "grpc",
    }
}

closed! {
    /// What became of an attempt to register.
    Registration as "outcome" {
        Accepted = "accepted",
        Refused = "refused",
        Failed = "failed",
    }
}

closed! {
    /// A message that says what term and epoch it is of.
    Fenced as "message" {
        Prepare = "prepare",
        Run = "run",
        Step = "step",
    }
}

closed! {
    /// Why a sequence that ran waits again.
    Preemption as "cause" {
        Kv = "kv",
        Epoch = "epoch",
    }
}

closed! {
    /// Why a request went on from what was known of it.
    Replay as "cause" {
        EpochChange = "epoch_change",
        LeaderChange = "leader_change",
    }
}

closed! {
    /// Why an epoch ended.
    EpochEnd as "reason" {
        Leave = "leave",
        StepFailed = "step_failed",
        PrepareFailed = "prepare_failed",
        Drain = "drain",
        LeaderChange = "leader_change",
    }
}

closed! {
    /// What became of a candidacy.
    Election as "outcome" {
        Won = "won",
        Lost = "lost",
        Resigned = "resigned",
    }
}

closed! {
    /// Where a block of KV is.
    Block as "state" {
        Held = "used",
        Cached = "cached",
        Free = "free",
    }
}

closed! {
    /// The layers that a pool of KV blocks is for.
    Pool as "pool" {
        Full = "full",
        Window = "window",
    }
}

closed! {
    /// Whether the prefix cache held a token's KV.
    Lookup as "result" {
        Hit = "hit",
        Miss = "miss",
    }
}
