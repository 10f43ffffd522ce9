//! Sharding, batching and chunking change no bit.

use std::sync::LazyLock;

use spec::{Placement, Rank};

use crate::group::{CHECKPOINT, Make, Outcome, cpu, even, fast, requests, serve_on};

/// How ranks may compute; each has numbers of its own.
const NUMERICS: [(&str, Make); 2] = [("exact", cpu), ("fast", fast)];

/// Every request alone on one rank, its prompt in one chunk.
static ALONE: LazyLock<[Outcome; 2]> = LazyLock::new(|| NUMERICS.map(|(_, make)| alone(make)));

fn alone(make: Make) -> Outcome {
    let mut alone = Outcome::default();
    for (i, request) in requests().into_iter().enumerate() {
        let one = serve_on(make, even(1), &[request], usize::MAX);
        let rows = one.rows.into_iter();
        alone
            .rows
            .extend(rows.map(|((_, position), row)| ((i as u64, position), row)));
        alone.tokens.extend(one.tokens);
    }
    alone
}

/// Serves all requests in every way to compute, and demands the bits of each alone.
#[track_caller]
fn demand_equal(what: &str, placement: &Placement, chunk: usize) {
    for ((name, make), alone) in NUMERICS.iter().zip(&*ALONE) {
        let outcome = serve_on(*make, placement.clone(), &requests(), chunk);
        assert_eq!(
            outcome.rows.keys().collect::<Vec<_>>(),
            alone.rows.keys().collect::<Vec<_>>(),
            "{what}, {name}: other rows"
        );
        for (at, row) in &alone.rows {
            // Whole rows of bits would fill the screen.
            assert!(
                outcome.rows[at] == *row,
                "{what}, {name}: row {at:?} differs"
            );
        }
        assert_eq!(outcome.tokens, alone.tokens, "{what}, {name}");
    }
}

#[test]
fn every_row_was_computed_and_rows_differ() {
    let expected: usize = requests()
        .iter()
        .map(|request| request.prompt.len() + request.count - 1)
        .sum();
    assert!(ALONE.iter().all(|alone| alone.rows.len() == expected));
    let mut rows: Vec<_> = ALONE.iter().flat_map(|alone| alone.rows.values()).collect();
    rows.sort();
    rows.dedup();
    assert_eq!(
        rows.len(),
        2 * expected,
        "two rows are equal: the test compares nothing"
    );
}

#[test]
fn any_number_of_ranks_gives_the_same_bits() {
    for num_ranks in [1, 2, 3, 4, 8] {
        demand_equal(&format!("{num_ranks} ranks"), &even(num_ranks), 7);
    }
}

#[test]
fn ranks_without_experts_take_part() {
    demand_equal("11 ranks for 9 experts", &even(11), 16);
}

#[test]
fn any_chunking_gives_the_same_bits() {
    for chunk in [1, 2, 5, 13, 64] {
        demand_equal(&format!("chunks of {chunk}"), &even(2), chunk);
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
        demand_equal(name, &placement, 7);
    }
}
