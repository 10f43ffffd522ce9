//! Which rank holds which expert.

use std::fmt;
use std::ops::Range;

use crate::ids::{ExpertId, Rank};

/// Who computes each expert of each layer, for one epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    num_ranks: usize,
    /// `[layer][expert]`.
    owners: Vec<Vec<Rank>>,
}

/// Why a placement was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlacementError {
    /// A placement needs at least one rank.
    NoRanks,
    /// The layers differ in their number of experts.
    Ragged {
        /// The first layer that differs from layer 0.
        layer: usize,
    },
    /// An expert is given to a rank that does not exist.
    UnknownRank {
        /// Layer of the expert.
        layer: usize,
        /// The expert.
        expert: ExpertId,
        /// The rank named for it.
        rank: Rank,
    },
}

impl fmt::Display for PlacementError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRanks => write!(f, "a placement needs at least one rank"),
            Self::Ragged { layer } => write!(f, "layer {layer} has another number of experts"),
            Self::UnknownRank {
                layer,
                expert,
                rank,
            } => {
                write!(
                    f,
                    "expert {expert} of layer {layer} is placed on rank {rank}, which does not exist"
                )
            }
        }
    }
}

impl std::error::Error for PlacementError {}

impl Placement {
    /// Gives every rank a contiguous run of experts, the same in every layer; with a remainder
    /// the lower ranks hold one more. A group with more ranks than experts leaves some without.
    ///
    /// # Panics
    ///
    /// If `num_ranks` is zero or does not fit 32 bits: such a group is a bug of the caller.
    #[must_use]
    pub fn even(num_layers: usize, num_experts: usize, num_ranks: usize) -> Self {
        assert!(num_ranks > 0, "a placement needs at least one rank");
        assert!(
            u32::try_from(num_ranks).is_ok(),
            "{num_ranks} ranks have no numbers of 32 bits"
        );
        let mut layer = Vec::with_capacity(num_experts);
        // Ranks beyond the number of experts hold none.
        for rank in 0..num_ranks.min(num_experts) {
            let share = even_share(num_experts, num_ranks, rank);
            layer.extend(share.map(|_| Rank(rank as u32)));
        }
        Self {
            num_ranks,
            owners: vec![layer; num_layers],
        }
    }

    /// Takes a placement as it came over the wire.
    ///
    /// # Errors
    ///
    /// See [`PlacementError`].
    pub fn new(num_ranks: usize, owners: Vec<Vec<Rank>>) -> Result<Self, PlacementError> {
        if num_ranks == 0 {
            return Err(PlacementError::NoRanks);
        }
        let num_experts = owners.first().map_or(0, Vec::len);
        for (layer, experts) in owners.iter().enumerate() {
            if experts.len() != num_experts {
                return Err(PlacementError::Ragged { layer });
            }
            for (expert, rank) in experts.iter().enumerate() {
                if rank.index() >= num_ranks {
                    let expert = ExpertId(expert as u32);
                    return Err(PlacementError::UnknownRank {
                        layer,
                        expert,
                        rank: *rank,
                    });
                }
            }
        }
        Ok(Self { num_ranks, owners })
    }

    /// Returns the number of ranks in the group.
    #[must_use]
    pub fn num_ranks(&self) -> usize {
        self.num_ranks
    }

    /// Returns the owner of every expert of a layer, indexed by expert.
    #[must_use]
    pub fn owners(&self, layer: usize) -> &[Rank] {
        &self.owners[layer]
    }

    /// Returns the number of layers.
    #[must_use]
    pub fn num_layers(&self) -> usize {
        self.owners.len()
    }

    /// Lists the experts of a layer that a rank holds, ascending.
    pub fn held_by(&self, layer: usize, rank: Rank) -> impl Iterator<Item = ExpertId> + '_ {
        let owners = self.owners[layer].iter().enumerate();
        owners
            .filter(move |(_, owner)| **owner == rank)
            .map(|(e, _)| ExpertId(e as u32))
    }
}

/// Returns the run of experts that `rank` of `num_ranks` holds in an even placement.
fn even_share(num_experts: usize, num_ranks: usize, rank: usize) -> Range<usize> {
    let (each, more) = (num_experts / num_ranks, num_experts % num_ranks);
    let first = rank * each + rank.min(more);
    first..first + each + usize::from(rank < more)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_even_placement_gives_every_expert_one_owner() {
        for num_ranks in 1..=9 {
            let placement = Placement::even(2, 8, num_ranks);
            let held: Vec<usize> = (0..num_ranks)
                .map(|rank| placement.held_by(1, Rank(rank as u32)).count())
                .collect();
            assert_eq!(held.iter().sum::<usize>(), 8);
            assert!(
                held.iter().max().unwrap() - held.iter().min().unwrap() <= 1,
                "{held:?}"
            );
        }
    }

    #[test]
    fn a_huge_group_is_placed_in_the_time_of_its_experts() {
        let num_ranks = u32::MAX as usize;
        let placement = Placement::even(1, 4, num_ranks);
        assert_eq!(placement.num_ranks(), num_ranks);
        assert_eq!(placement.owners(0), [Rank(0), Rank(1), Rank(2), Rank(3)]);
    }

    #[test]
    #[should_panic = "no numbers of 32 bits"]
    fn refuses_more_ranks_than_numbers() {
        drop(Placement::even(1, 4, 1 << 32));
    }

    #[test]
    fn refuses_an_owner_that_does_not_exist() {
        let error = Placement::new(2, vec![vec![Rank(0), Rank(2)]]).unwrap_err();
        assert_eq!(
            error,
            PlacementError::UnknownRank {
                layer: 0,
                expert: ExpertId(1),
                rank: Rank(2)
            }
        );
    }
}
