//! The ops as plain loops: what every back end is measured against.
//!
//! Clear before fast. Sums are `f64` and rounded once to the `f32` that the contract passes on, so
//! that a difference from this back end is the other's own rounding.

mod attention;
mod dense;
mod experts;
#[cfg(test)]
mod tests;

use crate::backend::{
    Attend, Backend, Combine, Embed, Experts, Linear, RmsNorm, Rotate, Route, StoreKv,
};
use crate::packing::Packing;

/// The plain back end. One thread, no state.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reference;

impl Backend for Reference {
    fn numerics(&self) -> &str {
        "reference-1"
    }

    fn packing(&self) -> Option<&'static dyn Packing> {
        None
    }

    fn embed(&self, args: Embed<'_>) {
        dense::embed(args);
    }

    fn rms_norm(&self, args: RmsNorm<'_>) {
        dense::rms_norm(args);
    }

    fn linear(&self, args: Linear<'_>) {
        dense::linear(args);
    }

    fn rotate(&self, args: Rotate<'_>) {
        attention::rotate(args);
    }

    fn store_kv(&self, args: StoreKv<'_>) {
        attention::store_kv(args);
    }

    fn attend(&self, args: Attend<'_>) {
        attention::attend(args);
    }

    fn route(&self, args: Route<'_>) {
        experts::route(args);
    }

    fn run_experts(&self, args: Experts<'_>) {
        experts::run_experts(args);
    }

    fn combine(&self, args: Combine<'_>) {
        experts::combine(args);
    }
}

/// The products of two vectors, summed.
fn dot(a: impl IntoIterator<Item = f32>, b: impl IntoIterator<Item = f32>) -> f64 {
    a.into_iter()
        .zip(b)
        .map(|(a, b)| f64::from(a) * f64::from(b))
        .sum()
}
