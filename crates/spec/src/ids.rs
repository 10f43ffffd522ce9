//! Newtypes for the integers that must not be swapped.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// One device's place in a group, `0..num_ranks`.
    Rank, u32
);
id!(
    /// Counts the leads of a group; a higher term fences every lower one.
    Term, u64
);
id!(
    /// Version of a group: its members and placement.
    Epoch, u64
);
id!(
    /// Number of a step within a term, counted from 1 and never reused.
    StepNumber, u64
);
id!(
    /// An expert within a layer, `0..num_experts`.
    ExpertId, u32
);
id!(
    /// A row of the vocabulary.
    TokenId, u32
);
id!(
    /// A page of KV within one rank's pool.
    BlockId, u32
);
id!(
    /// One generation, unique within a lead's term.
    SequenceId, u64
);
id!(
    /// A rank's place for one sequence: its tokens, tables and sampling state.
    Slot, u32
);

impl Rank {
    /// Returns the rank as an index.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl ExpertId {
    /// Returns the expert as an index.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl TokenId {
    /// Returns the token as an index into the vocabulary.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl BlockId {
    /// Returns the block as an index into its pool.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl Slot {
    /// Returns the slot as an index.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What every control message and frame carries, so that nothing of another epoch is obeyed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fence {
    /// The lead's term.
    pub term: Term,
    /// The group's version under that term.
    pub epoch: Epoch,
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.term, self.epoch)
    }
}
