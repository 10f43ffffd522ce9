//! Which rows go to which rank, and where their outputs belong. Pure.

use spec::Rank;

/// What one rank sends in a dispatch, to each rank, itself included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// One for each rank, in rank order.
    pub(crate) shares: Vec<Share>,
}

/// The rows that have an expert on one rank.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Share {
    /// Indices of the rows, ascending: each once, however many of its experts are there.
    pub(crate) rows: Vec<u32>,
    /// How many experts each of `rows` has there, at least 1.
    pub(crate) counts: Vec<u32>,
    /// The experts, by row, then in the row's top-k order.
    pub(crate) experts: Vec<u32>,
    /// For each of `experts`, where its output belongs in `[rows, k]`.
    pub(crate) places: Vec<u32>,
}

impl Plan {
    /// Routes `experts`, `[rows, k]`, to their `owners`.
    ///
    /// # Panics
    ///
    /// If an expert has no owner or an owner is not a rank: the router and the placement are this
    /// process's own, and both were checked.
    pub(crate) fn new(experts: &[u32], k: usize, owners: &[Rank], num_ranks: usize) -> Self {
        let mut shares = vec![Share::default(); num_ranks];
        for (row, chosen) in (0u32..).zip(experts.chunks_exact(k)) {
            for (place, &expert) in (row * k as u32..).zip(chosen) {
                let share = &mut shares[owners[expert as usize].index()];
                if share.rows.last() == Some(&row) {
                    *share.counts.last_mut().expect("a count for each row") += 1;
                } else {
                    share.rows.push(row);
                    share.counts.push(1);
                }
                share.experts.push(expert);
                share.places.push(place);
            }
        }
        Self { shares }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Owners, k, and distinct experts for each row.
    fn routing() -> impl Strategy<Value = (usize, Vec<Rank>, usize, Vec<u32>)> {
        (1usize..6, 1usize..12)
            .prop_flat_map(|(ranks, experts)| {
                let owners = prop::collection::vec(0..ranks as u32, experts);
                (Just(ranks), owners, 1..=experts.min(4), 0usize..20)
            })
            .prop_flat_map(|(ranks, owners, k, rows)| {
                let all: Vec<u32> = (0..owners.len() as u32).collect();
                let chosen = prop::collection::vec(Just(all).prop_shuffle(), rows);
                (Just(ranks), Just(owners), Just(k), chosen)
            })
            .prop_map(|(ranks, owners, k, chosen)| {
                let owners = owners.into_iter().map(Rank).collect();
                let experts = chosen.iter().flat_map(|all| all[..k].to_vec()).collect();
                (ranks, owners, k, experts)
            })
    }

    proptest! {
        #[test]
        fn every_pair_goes_once_to_its_owner((ranks, owners, k, experts) in routing()) {
            let plan = Plan::new(&experts, k, &owners, ranks);
            prop_assert_eq!(plan.shares.len(), ranks);
            let mut seen = BTreeMap::new();
            for (rank, share) in (0..).zip(&plan.shares) {
                prop_assert_eq!(share.rows.len(), share.counts.len());
                prop_assert_eq!(share.experts.len(), share.places.len());
                // Each row travels once to a rank, and rows keep their order.
                prop_assert!(share.rows.is_sorted_by(|a, b| a < b));
                // By row, then in top-k order.
                prop_assert!(share.places.is_sorted_by(|a, b| a < b));
                let of_rows = share.rows.iter().zip(&share.counts);
                let rows: Vec<u32> =
                    of_rows.flat_map(|(&row, &n)| std::iter::repeat_n(row, n as usize)).collect();
                let from_places: Vec<u32> = share.places.iter().map(|p| p / k as u32).collect();
                prop_assert_eq!(rows, from_places);
                for (&expert, &place) in share.experts.iter().zip(&share.places) {
                    prop_assert_eq!(owners[expert as usize], Rank(rank));
                    prop_assert_eq!(seen.insert(place, expert), None);
                }
            }
            let all: Vec<u32> = seen.into_values().collect();
            prop_assert_eq!(all, experts);
        }
    }
}
