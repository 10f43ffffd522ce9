//! What query heads have summed so far.

use crate::math;
use crate::simd::{LANES, Simd, WIDE, WideLanes};

/// Query heads of some rows.
pub(super) struct States {
    /// By head, the largest score so far.
    most: Vec<f32>,
    /// By head, the sum of `exp(score − most)`.
    total: Vec<f32>,
    /// By head, the sum of `exp(score − most) · value`, in whole registers.
    sums: Vec<WideLanes>,
}

/// Neighbouring heads of [`States`].
pub(super) struct Heads<'a> {
    pub(super) most: &'a mut [f32],
    pub(super) total: &'a mut [f32],
    pub(super) sums: &'a mut [WideLanes],
}

/// Registers of [`WIDE`] values that hold a head.
pub(super) fn registers(head_dim: usize) -> usize {
    head_dim.div_ceil(WIDE)
}

impl States {
    /// Returns sums of nothing.
    pub(super) fn new(heads: usize, head_dim: usize) -> Self {
        Self {
            // Below every score; infinity less infinity would be no number.
            most: vec![f32::MIN; heads],
            total: vec![0.0; heads],
            sums: vec![[0.0; WIDE]; heads * registers(head_dim)],
        }
    }

    /// Begins each head with a key of this score, whose value is zero.
    pub(super) fn begin(&mut self, scores: impl Iterator<Item = f32>) {
        for (most, score) in self.most.iter_mut().zip(scores) {
            *most = score;
        }
        self.total.fill(1.0);
    }

    /// Borrows so many heads.
    pub(super) fn rows(&mut self, first: usize, count: usize) -> Heads<'_> {
        let registers = self.sums.len() / self.most.len();
        Heads {
            most: &mut self.most[first..first + count],
            total: &mut self.total[first..first + count],
            sums: &mut self.sums[first * registers..(first + count) * registers],
        }
    }

    /// Adds the sums of other keys.
    #[inline(always)]
    pub(super) fn add<S: Simd>(&mut self, simd: S, other: &Self) {
        let registers = self.sums.len() / self.most.len();
        let sums = self.sums.chunks_exact_mut(registers);
        let sums = sums.zip(other.sums.chunks_exact(registers));
        let totals = self.total.iter_mut().zip(&other.total);
        let mosts = self.most.iter_mut().zip(&other.most);
        for (((sums, others), (total, other_total)), (most, other_most)) in
            sums.zip(totals).zip(mosts)
        {
            // A row sees no key of this part, and so does not know of it: not even in the sign of a zero.
            if *other_total == 0.0 {
                continue;
            }
            let largest = most.max(*other_most);
            let mut factors = [0.0; LANES];
            (factors[0], factors[1]) = (*most - largest, *other_most - largest);
            let differences = simd.load(&factors);
            simd.store(math::exp(simd, differences), &mut factors);
            let [own, others_own, ..] = factors;
            *most = largest;
            *total = other_total.mul_add(others_own, *total * own);
            let (own, others_own) = (simd.splat_wide(own), simd.splat_wide(others_own));
            for (sum, other) in sums.iter_mut().zip(others) {
                let kept = simd.mul_wide(simd.load_wide(sum), own);
                simd.store_wide(simd.fma_wide(simd.load_wide(other), others_own, kept), sum);
            }
        }
    }

    /// Writes each head's mean; `out` are its rows, `[group, head_dim]`.
    pub(super) fn finish(&self, out: Vec<&mut [f32]>) {
        let registers = self.sums.len() / self.most.len();
        let group = self.most.len() / out.len();
        let mut heads = self.sums.chunks_exact(registers).zip(&self.total);
        for row in out {
            let head_dim = row.len() / group;
            for (out, (sums, total)) in row.chunks_exact_mut(head_dim).zip(&mut heads) {
                for (out, sum) in out.iter_mut().zip(sums.as_flattened()) {
                    *out = sum / total;
                }
            }
        }
    }
}
