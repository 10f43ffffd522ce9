//! Sharding, batching and chunking change no bit.

use std::sync::LazyLock;

use spec::{Placement, Rank};

use crate::group::{CHECKPOINT, Outcome, even, requests, serve};

/// Every request alone on one rank, its prompt in one chunk.
static ALONE: LazyLock<Outcome> = LazyLock::new(|| {
    let mut alone = Outcome::default();
    for (i, request) in requests().into_iter().enumerate() {
        let one = serve(even(1), &[request], usize::MAX);
        let rows = one.rows.into_iter();
        alone
            .rows
            .extend(rows.map(|((_, position), row)| ((i as u64, position), row)));
        alone.tokens.extend(one.tokens);
    }
    alone
});

#[track_caller]
fn demand_equal(what: &str, outcome: &Outcome) {
    let alone = &*ALONE;
    assert_eq!(
        outcome.rows.keys().collect::<Vec<_>>(),
        alone.rows.keys().collect::<Vec<_>>(),
        "{what}: other rows"
    );
    for (at, row) in &alone.rows {
        // Whole rows of bits would fill the screen.
        assert!(outcome.rows[at] == *row, "{what}: row {at:?} differs");
    }
    assert_eq!(outcome.tokens, alone.tokens, "{what}");
}

#[test]
fn every_row_was_computed_and_rows_differ() {
    let alone = &*ALONE;
    let expected: usize = requests()
        .iter()
        .map(|request| request.prompt.len() + request.count - 1)
        .sum();
    assert_eq!(alone.rows.len(), expected);
    let mut rows: Vec<_> = alone.rows.values().collect();
    rows.sort();
    rows.dedup();
    assert_eq!(
        rows.len(),
        expected,
        "two rows are equal: the test compares nothing"
    );
}

#[test]
fn any_number_of_ranks_gives_the_same_bits() {
    for num_ranks in [1, 2, 3, 4, 8] {
        let outcome = serve(even(num_ranks), &requests(), 7);
        demand_equal(&format!("{num_ranks} ranks"), &outcome);
    }
}

#[test]
fn ranks_without_experts_take_part() {
    let outcome = serve(even(11), &requests(), 16);
    demand_equal("11 ranks for 9 experts", &outcome);
}

#[test]
fn any_chunking_gives_the_same_bits() {
    for chunk in [1, 2, 5, 13, 64] {
        let outcome = serve(even(2), &requests(), chunk);
        demand_equal(&format!("chunks of {chunk}"), &outcome);
    }
}

/// The rank of a layer's expert.
type OwnerOf = fn(usize, usize) -> u32;

#[test]
fn any_placement_gives_the_same_bits() {
    let geometry = CHECKPOINT.geometry();
    let placements: [(&str, OwnerOf); 3] = [
        ("scattered, another in each layer", |layer, expert| {
            ((expert * 7 + layer * 5) % 3) as u32
        }),
        ("all on the last rank", |_, _| 2),
        ("reversed and uneven", |_, expert| {
            2 - (expert * expert / 30) as u32
        }),
    ];
    for (name, owner) in placements {
        let layers = (0..geometry.num_layers()).map(|layer| {
            let owners = (0..geometry.num_experts).map(|expert| Rank(owner(layer, expert)));
            owners.collect()
        });
        let placement = Placement::new(3, layers.collect()).unwrap();
        demand_equal(name, &serve(placement, &requests(), 7));
    }
}
