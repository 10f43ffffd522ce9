//! What the leader is told and what it asks for.

use spec::{Fence, Placement, Rank, Term};

use crate::member::Registration;

/// What the leader knows of its group before anybody comes.
#[derive(Clone, Debug)]
pub struct LeaderConfig {
    /// This start of the coordinator.
    pub lead: u64,
    /// Ranks that make the group complete.
    pub num_ranks: usize,
    /// Layers of the model.
    pub num_layers: usize,
    /// Experts of a layer.
    pub num_experts: usize,
    /// Fingerprint of the weights that are served.
    pub weights: String,
    /// Fingerprint of the tokenizer that belongs to them.
    pub tokenizer: String,
    /// How the group computes, such as "exact": what the name of a worker's numerics begins with.
    pub numerics: String,
    /// Wire version this build speaks.
    pub wire: u32,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A member's stream ended.
    Left {
        /// The member.
        name: String,
        /// Which start of it.
        incarnation: u64,
    },
    /// A member is about to end.
    Draining {
        /// The member.
        name: String,
        /// Which start of it.
        incarnation: u64,
    },
    /// A member is ready for an epoch.
    Prepared {
        /// The epoch.
        fence: Fence,
        /// The member.
        name: String,
        /// For each of its ranks, ascending, whether its KV is still there.
        kept_kv: Vec<bool>,
    },
    /// A member could not get ready.
    PrepareFailed {
        /// The epoch.
        fence: Fence,
        /// The member.
        name: String,
        /// What it said.
        why: String,
    },
    /// A member refuses an epoch, as it obeys another lead: it is sent away, to say whom when it comes
    /// back.
    Overtaken {
        /// The epoch.
        fence: Fence,
        /// The member.
        name: String,
        /// What it said.
        why: String,
    },
    /// A step did not happen.
    StepFailed {
        /// The epoch.
        fence: Fence,
        /// What is known of it.
        why: String,
        /// A rank that made no progress while others waited for it; its member is sent away.
        silent: Option<Rank>,
    },
    /// The lead has a higher term now, which nobody else has or had.
    Raised(Term),
    /// Time has passed.
    Tick,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Ask every member of the plan to get ready.
    Prepare(EpochPlan),
    /// All are ready: serve. For each rank, whether its KV is still there.
    Serve {
        /// The epoch.
        fence: Fence,
        /// By rank.
        kept_kv: Vec<bool>,
    },
    /// The epoch is over: its steps are void, its streams are closed.
    Stop {
        /// The epoch.
        fence: Fence,
        /// Why, in words.
        why: String,
    },
    /// Get a term above this one, which a worker has obeyed; no epoch is prepared before
    /// [`Event::Raised`].
    Raise {
        /// The worker's term.
        above: Term,
    },
    /// End a member's registration; it may register again.
    Evict {
        /// The member.
        name: String,
        /// Which start of it.
        incarnation: u64,
        /// Why, in words.
        why: String,
    },
}

/// An epoch to prepare.
#[derive(Clone, Debug, PartialEq)]
pub struct EpochPlan {
    /// Its fence.
    pub fence: Fence,
    /// Members and their ranks, by name.
    pub members: Vec<(Registration, Vec<Rank>)>,
    /// Owners of the experts.
    pub placement: Placement,
    /// Ranks that are held by the very start of a worker that held them when steps last ran.
    pub held: Vec<Rank>,
}

/// How a rank of the group is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// No member holds it.
    Lost,
    /// Its member waits for an epoch, or for the others to get ready.
    Standby,
    /// Its member gets ready for an epoch.
    Loading,
    /// It is part of the epoch that serves.
    Active,
    /// Its member is about to end.
    Draining,
}

/// What can be told of the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Current or last epoch.
    pub fence: Fence,
    /// Whether steps can run.
    pub serving: bool,
    /// Ranks that registered members hold.
    pub ranks_present: usize,
    /// Members that left and have not come back.
    pub missing: Vec<String>,
    /// Members that are about to end and hold ranks nobody else can take.
    pub draining: Vec<String>,
    /// What is going on, in words.
    pub text: String,
}
