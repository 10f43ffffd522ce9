//! The cases every back end passes.
//!
//! [`all`] runs each op on edge shapes, compares with [`Reference`](crate::Reference) within the
//! op's bound, and demands equal bits however the rows are batched. [`agree`] demands equal bits of
//! two back ends: other thread counts, other instruction paths.

mod attention;
mod dense;
mod experts;
mod inputs;

use std::ops::Range;

use crate::{Backend, Reference};

/// Runs every op's cases.
///
/// # Panics
///
/// If the back end fails one; the message names it.
pub fn all(backend: &dyn Backend) {
    embed(backend);
    rms_norm(backend);
    linear(backend);
    rotate(backend);
    store_kv(backend);
    attend(backend);
    route(backend);
    run_experts(backend);
    combine(backend);
}

macro_rules! op {
    ($op:ident, $cases:path) => {
        #[doc = concat!("Runs the cases of [`Backend::", stringify!($op), "`].")]
        ///
        /// # Panics
        ///
        /// If the back end fails one; the message names it.
        pub fn $op(backend: &dyn Backend) {
            for case in $cases() {
                case.check(backend);
            }
        }
    };
}

op!(embed, dense::embed);
op!(rms_norm, dense::rms_norm);
op!(linear, dense::linear);
op!(rotate, attention::rotate);
op!(store_kv, attention::store_kv);
op!(attend, attention::attend);
op!(route, experts::route);
op!(run_experts, experts::run_experts);
op!(combine, experts::combine);

/// Demands the same bits of both back ends in every case.
///
/// # Panics
///
/// If they differ; the message names the case and the element.
pub fn agree(one: &dyn Backend, other: &dyn Backend) {
    let dense = [dense::embed(), dense::rms_norm(), dense::linear()];
    let attention = [
        attention::rotate(),
        attention::store_kv(),
        attention::attend(),
    ];
    let experts = [experts::route(), experts::run_experts(), experts::combine()];
    for case in dense.into_iter().chain(attention).chain(experts).flatten() {
        let expected = (case.run)(one, 0..case.rows);
        let found = (case.run)(other, 0..case.rows);
        same_bits(&case.name, &found, &expected);
    }
}

/// Computes some rows of a case and returns what the op wrote for them, in row order.
type Run = Box<dyn Fn(&dyn Backend, Range<usize>) -> Vec<f32>>;

/// One op on fixed inputs.
struct Case {
    name: String,
    rows: usize,
    /// Most that a result may be off, times one plus its magnitude.
    bound: f32,
    run: Run,
}

impl Case {
    fn new(
        name: String,
        rows: usize,
        bound: f32,
        run: impl Fn(&dyn Backend, Range<usize>) -> Vec<f32> + 'static,
    ) -> Self {
        let run = Box::new(run);
        Self {
            name,
            rows,
            bound,
            run,
        }
    }

    fn check(&self, backend: &dyn Backend) {
        let found = (self.run)(backend, 0..self.rows);
        let expected = (self.run)(&Reference, 0..self.rows);
        self.close(&found, &expected);
        for batch in [1, 2, 3, 5, 8, 17, 101] {
            if batch < self.rows {
                let mut pieces = Vec::with_capacity(found.len());
                for first in (0..self.rows).step_by(batch) {
                    let end = self.rows.min(first + batch);
                    pieces.extend((self.run)(backend, first..end));
                }
                same_bits(&format!("{} by {batch}", self.name), &pieces, &found);
            }
        }
    }

    fn close(&self, found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len(), "{}: length", self.name);
        for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
            // Written so that NaN fails.
            let close = (found - expected).abs() <= self.bound * (1.0 + expected.abs());
            assert!(
                close,
                "{}, element {i}: {found}, expected {expected} within {} of it",
                self.name, self.bound
            );
        }
    }
}

fn same_bits(name: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{name}: length");
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(
            found.to_bits() == expected.to_bits(),
            "{name}, element {i}: {found:e}, expected the very bits of {expected:e}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_passes() {
        all(&Reference);
    }

    #[test]
    fn the_reference_agrees_with_itself() {
        agree(&Reference, &Reference);
    }
}
