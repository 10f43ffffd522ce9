//! What all stages of one step share.

use kernels::{Backend, Linear, Moment, RmsNorm};
use spec::{Fence, Geometry, Placement, Rank, StepNumber};

use crate::progress::{Progress, Stage};
use crate::rope::Rotary;

/// Multiply-adds after which a stage reports again that it is alive: under two seconds even on one
/// slow core, and enough rows that reading the weights once more for each slice costs little.
const SLICE_PRODUCTS: usize = 1 << 33;

/// One step on one rank.
pub(crate) struct Pass<'a> {
    pub(crate) geometry: &'a Geometry,
    pub(crate) backend: &'a dyn Backend,
    pub(crate) rotary: &'a Rotary,
    pub(crate) placement: &'a Placement,
    pub(crate) rank: Rank,
    pub(crate) fence: Fence,
    pub(crate) step: StepNumber,
    pub(crate) progress: &'a dyn Progress,
}

/// A place in the step: where a stage reports from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) layer: usize,
    pub(crate) stage: Stage,
}

impl Pass<'_> {
    pub(crate) fn moment(&self, layer: usize) -> Moment {
        Moment {
            fence: self.fence,
            step: self.step,
            layer: layer as u32,
        }
    }

    /// Reports where the rank is.
    pub(crate) fn report(&self, place: Place) {
        self.progress.at(self.moment(place.layer), place.stage);
    }

    /// Multiplies in slices of rows. A row's result does not depend on the others, so neither does
    /// it on the slices.
    pub(crate) fn linear(&self, place: Place, args: Linear<'_>) {
        let rows = slice_len(args.inputs * args.outputs);
        let inputs = args.x.chunks(rows * args.inputs);
        let outputs = args.out.chunks_mut(rows * args.outputs);
        for (x, out) in inputs.zip(outputs) {
            self.backend.linear(Linear { x, out, ..args });
            self.report(place);
        }
    }

    /// Norms rows, if there are any.
    pub(crate) fn norm(&self, x: &[f32], weight: &[half::bf16], out: &mut [f32]) {
        if x.is_empty() {
            return;
        }
        let eps = self.geometry.rms_norm_eps;
        self.backend.rms_norm(RmsNorm {
            x,
            weight,
            eps,
            out,
        });
    }
}

/// Returns how many items that take so many multiply-adds each make a slice.
pub(crate) fn slice_len(products_each: usize) -> usize {
    (SLICE_PRODUCTS / products_each.max(1)).max(1)
}
