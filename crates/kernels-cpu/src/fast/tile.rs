//! A strip times a few rows: the inner products, for each instruction path.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;
#[cfg(test)]
mod tests;

use half::bf16;

use super::layout::STRIP;
use super::quantize::Rows;

/// Most rows of a `bf16` tile: with the outputs of a strip their sums fill the registers of the widest path.
pub(super) const ROWS: usize = 6;

/// Most rows of an MXFP4 tile: the more there are, the less it costs to look codes up.
pub(super) const CODE_ROWS: usize = 8;

/// The sums of a row with a strip.
pub(super) type Sums = [f32; STRIP];

/// An instruction path of this processor.
#[derive(Clone, Copy)]
pub(crate) enum Tiles {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(avx512::Avx512),
    #[cfg(target_arch = "aarch64")]
    Neon(neon::Neon),
}

impl Tiles {
    /// Finds the fastest path.
    pub(crate) fn detect() -> Self {
        Self::all().pop().unwrap_or(Self::Scalar)
    }

    /// Lists the paths of this processor, the fastest last.
    pub(crate) fn all() -> Vec<Self> {
        let mut all = vec![Self::Scalar];
        #[cfg(target_arch = "x86_64")]
        {
            all.extend(avx2::Avx2::detect().map(Self::Avx2));
            all.extend(avx512::Avx512::all().into_iter().map(Self::Avx512));
        }
        #[cfg(target_arch = "aarch64")]
        all.extend(neon::Neon::all().into_iter().map(Self::Neon));
        all
    }

    /// Whether products of `bf16` are made by [`Tiles::dots`], and not by [`Tiles::bf16`].
    pub(super) fn has_dots(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(avx512) => avx512.has_dots(),
            _ => false,
        }
    }

    /// Names what decides the bits. Products of `bf16` by the instruction made for them differ from others
    /// where numbers are below the smallest normal one.
    pub(crate) fn numerics(self) -> &'static str {
        match self.has_dots() {
            true => "fast-2-dots",
            false => "fast-2",
        }
    }

    /// Adds the products of a `bf16` strip with each row, pairs of inputs, to the row's sums: for each
    /// pair the second input first, both fused. The rows were rounded to `bf16`.
    ///
    /// # Panics
    ///
    /// If a row is too short, or there are more than [`ROWS`].
    pub(super) fn bf16(self, strip: &[u8], x: &[&[f32]], sums: &mut [Sums]) {
        assert!(x.len() == sums.len() && x.len() <= ROWS, "bf16: rows");
        match self {
            Self::Scalar => scalar::bf16(strip, x, sums),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(avx2) => avx2.bf16(strip, x, sums),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(avx512) => avx512.bf16(strip, x, sums),
            #[cfg(target_arch = "aarch64")]
            Self::Neon(neon) => neon.bf16(strip, x, sums),
        }
    }

    /// The same by an instruction made for it.
    ///
    /// # Panics
    ///
    /// As [`Tiles::bf16`], and if there is no such instruction.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        expect(unused_variables, reason = "no other path has such an instruction")
    )]
    pub(super) fn dots(self, strip: &[u8], x: &[&[bf16]], sums: &mut [Sums]) {
        assert!(x.len() == sums.len() && x.len() <= ROWS, "dots: rows");
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(avx512) => avx512.dots(strip, x, sums),
            _ => panic!("dots: this path has none"),
        }
    }

    /// Adds the products of an MXFP4 strip with each row to the row's sums, block by block.
    ///
    /// # Panics
    ///
    /// If a row is too short, or there are more than [`CODE_ROWS`].
    pub(super) fn codes(self, strip: &[u8], x: Rows<'_>, sums: &mut [Sums]) {
        assert!(x.count == sums.len() && x.count <= CODE_ROWS, "codes: rows");
        match self {
            Self::Scalar => scalar::codes(strip, x, sums),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(avx2) => avx2.codes(strip, x, sums),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(avx512) => avx512.codes(strip, x, sums),
            #[cfg(target_arch = "aarch64")]
            Self::Neon(neon) => neon.codes(strip, x, sums),
        }
    }
}

/// Calls a function that is generic over a number of rows with the rows of a tile.
macro_rules! by_rows {
    ($count:expr, [$($rows:literal)+], $call:ident $arguments:tt) => {
        match $count {
            $($rows => $call::<$rows> $arguments,)+
            _ => {}
        }
    };
}
use by_rows;
