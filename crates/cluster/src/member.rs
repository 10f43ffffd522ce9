//! A worker as the leader knows it, and the reasons to refuse one.

use spec::{Fence, Term};

/// What a worker says of itself when it registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Name, unique among live members; keeps its ranks over restarts.
    pub name: String,
    /// Random number of this start of the process.
    pub incarnation: u64,
    /// Where other members reach it.
    pub address: String,
    /// Oldest and newest wire version it speaks.
    pub wire: (u32, u32),
    /// Version of the program; shown only.
    pub build: String,
    /// Fingerprint of its weights.
    pub weights: String,
    /// Fingerprint of its tokenizer; empty if its model brings none.
    pub tokenizer: String,
    /// What decides the bits of its results.
    pub numerics: String,
    /// Ranks it holds.
    pub num_ranks: usize,
    /// Highest term it has obeyed.
    pub term: Term,
    /// Which start of a coordinator it has obeyed in that term; 0 if it does not know.
    pub lead: u64,
    /// The epoch of the last step that it has taken part in, under whatever lead.
    pub stepped: Option<Fence>,
    /// Whether it is about to end.
    pub draining: bool,
}

/// Why a worker may not join. The text names both sides, so that it can be acted on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A field that no worker should send.
    #[error("{field} {why}")]
    Malformed {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// Another live process has the name.
    #[error("a worker named '{name}' is already here (at {address}); give this one another --name")]
    NameTaken {
        /// The name.
        name: String,
        /// Where the other is.
        address: String,
    },
    /// It cannot work in this group.
    #[error(
        "worker '{name}' has {what} {its}, this group has {ours}; {}",
        remedy(what, its, ours)
    )]
    Differs {
        /// The worker.
        name: String,
        /// What differs.
        what: &'static str,
        /// Its value.
        its: String,
        /// The group's value.
        ours: String,
    },
}

/// What to do about a worker that differs.
fn remedy(what: &str, its: &str, ours: &str) -> String {
    if its.starts_with("fast-") && ours.starts_with("fast-") {
        return "their processors, or what their systems lend of them, round differently: start all \
                of the group with --numerics exact"
            .into();
    }
    format!("start it with the same {what}")
}

/// Most ranks one worker may hold.
const MAX_RANKS: usize = 64;

/// Longest name of a worker, in bytes; workers refuse the plans of others with a longer one.
const MAX_NAME: usize = 128;

/// Longest address of a worker, in bytes.
const MAX_ADDRESS: usize = 1024;

impl Registration {
    /// Checks what can be checked without knowing the group.
    pub(crate) fn check(&self) -> Result<(), Refused> {
        let demand = |ok: bool, field, why: String| {
            if ok {
                Ok(())
            } else {
                Err(Refused::Malformed { field, why })
            }
        };
        let name = (1..=MAX_NAME).contains(&self.name.len());
        demand(name, "name", format!("must have 1 to {MAX_NAME} bytes"))?;
        let plain = self.name.chars().all(|c| c.is_ascii_graphic());
        demand(
            plain,
            "name",
            "must be printable ASCII without blanks".into(),
        )?;
        let address = (1..=MAX_ADDRESS).contains(&self.address.len());
        demand(
            address,
            "address",
            format!("must have 1 to {MAX_ADDRESS} bytes"),
        )?;
        demand(
            spec::is_address(&self.address),
            "address",
            format!("{:?} is not http://HOST:PORT", self.address),
        )?;
        let ranks = (1..=MAX_RANKS).contains(&self.num_ranks);
        demand(
            ranks,
            "num_ranks",
            format!("is {}, must be 1 to {MAX_RANKS}", self.num_ranks),
        )?;
        let stepped = self.stepped.map_or(Term(0), |stepped| stepped.term);
        demand(
            stepped <= self.term,
            "stepped",
            format!("is of {stepped}, which is above its term {}", self.term),
        )?;
        let (min, max) = self.wire;
        demand(
            min <= max,
            "wire_min",
            format!("{min} is above wire_max {max}"),
        )
    }
}
