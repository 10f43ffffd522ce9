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

/// Runs every op's cases with a back end that rounds activations: products with large matrices may be off by
/// a share of all results of a case, and their bits depend on the batch as little as anybody's.
///
/// # Panics
///
/// If the back end fails one; the message names it.
pub fn all_rounded(backend: &dyn Backend) {
    for case in cases() {
        case.check_rounded(backend);
    }
}

/// Demands the same bits of both back ends in every case.
///
/// # Panics
///
/// If they differ; the message names the case and the element.
pub fn agree(one: &dyn Backend, other: &dyn Backend) {
    for case in cases() {
        let expected = (case.run)(one, 0..case.rows);
        let found = (case.run)(other, 0..case.rows);
        same_bits(&case.name, &found, &expected);
    }
}

/// Lists the cases of every op.
fn cases() -> impl Iterator<Item = Case> {
    let dense = [dense::embed(), dense::rms_norm(), dense::linear()];
    let attention = [
        attention::rotate(),
        attention::store_kv(),
        attention::attend(),
    ];
    let experts = [experts::route(), experts::run_experts(), experts::combine()];
    let all = dense.into_iter().chain(attention).chain(experts);
    all.flatten()
}

/// What rounding may cost: the root of the mean square of all errors of a case, as a share of that of its
/// results. 8 bits with a scale for each 32 numbers lose about 0.5 % in each of two products.
const ROUNDED: f64 = 0.02;

/// Computes some rows of a case and returns what the op wrote for them, in row order.
type Run = Box<dyn Fn(&dyn Backend, Range<usize>) -> Vec<f32>>;

/// One op on fixed inputs.
struct Case {
    name: String,
    /// Whether a back end that rounds activations rounds them here.
    is_product: bool,
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
            is_product: false,
            rows,
            bound,
            run,
        }
    }

    /// The same, as a product with a large matrix.
    fn product(self) -> Self {
        let is_product = true;
        Self { is_product, ..self }
    }

    fn check(&self, backend: &dyn Backend) {
        let found = (self.run)(backend, 0..self.rows);
        let expected = (self.run)(&Reference, 0..self.rows);
        self.close(&found, &expected);
        self.check_batches(backend, &found);
    }

    fn check_rounded(&self, backend: &dyn Backend) {
        if !self.is_product {
            return self.check(backend);
        }
        let found = (self.run)(backend, 0..self.rows);
        let expected = (self.run)(&Reference, 0..self.rows);
        assert_eq!(found.len(), expected.len(), "{}: length", self.name);
        let (mut error, mut size) = (0.0, 0.0);
        for (found, expected) in found.iter().zip(&expected) {
            error += (f64::from(*found) - f64::from(*expected)).powi(2);
            size += f64::from(*expected).powi(2);
        }
        // Written so that NaN fails.
        assert!(
            error <= ROUNDED.powi(2) * size,
            "{}: off by {} of the results",
            self.name,
            (error / size).sqrt()
        );
        self.check_batches(backend, &found);
    }

    fn check_batches(&self, backend: &dyn Backend, found: &[f32]) {
        for batch in [1, 2, 3, 5, 8, 17, 101] {
            if batch < self.rows {
                let mut pieces = Vec::with_capacity(found.len());
                for first in (0..self.rows).step_by(batch) {
                    let end = self.rows.min(first + batch);
                    pieces.extend((self.run)(backend, first..end));
                }
                same_bits(&format!("{} by {batch}", self.name), &pieces, found);
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
