//! A strip times a few rows: the inner products, for each instruction path.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;
#[cfg(test)]
mod tests;

#[cfg(target_arch = "x86_64")]
use half::bf16;

use super::layout::STRIP;
use super::quantize::Rows;
#[cfg(target_arch = "x86_64")]
use super::tiled::Tile;

/// Most rows of a call with `bf16`, for which paths that pass a strip piece by piece read it once. The rows that share a
/// pass on the way, five or six by path, divide it.
pub(super) const ROWS: usize = 30;

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
    #[cfg(target_arch = "x86_64")]
    Amx(amx::Amx),
    #[cfg(target_arch = "aarch64")]
    Neon(neon::Neon),
}

/// How a path multiplies `bf16`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Halves {
    /// As `f32`: [`Tiles::bf16`].
    Widened,
    /// By pairs: [`Tiles::dots`].
    #[cfg(target_arch = "x86_64")]
    Dots,
    /// By tiles: [`Tiles::tiled`].
    #[cfg(target_arch = "x86_64")]
    Tiled,
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
            all.extend(amx::Amx::detect().map(Self::Amx));
        }
        #[cfg(target_arch = "aarch64")]
        all.extend(neon::Neon::all().into_iter().map(Self::Neon));
        all
    }

    /// Returns how products of `bf16` are made.
    pub(super) fn halves(self) -> Halves {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(avx512) if avx512.has_dots() => Halves::Dots,
            #[cfg(target_arch = "x86_64")]
            Self::Amx(_) => Halves::Tiled,
            _ => Halves::Widened,
        }
    }

    /// Names what decides the bits. Products of `bf16` by instructions made for them differ from others where
    /// numbers are below the smallest normal one, which are zero to those; tiles are added in another order too.
    pub(crate) fn numerics(self) -> &'static str {
        match self.halves() {
            Halves::Widened => "fast-2",
            #[cfg(target_arch = "x86_64")]
            Halves::Dots => "fast-2-dots",
            #[cfg(target_arch = "x86_64")]
            Halves::Tiled => "fast-2-tiles",
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
            #[cfg(target_arch = "x86_64")]
            Self::Amx(_) => panic!("bf16: this path multiplies by tiles"),
            #[cfg(target_arch = "aarch64")]
            Self::Neon(neon) => neon.bf16(strip, x, sums),
        }
    }

    /// The same by an instruction made for it.
    ///
    /// # Panics
    ///
    /// As [`Tiles::bf16`], and if there is no such instruction.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn dots(self, strip: &[u8], x: &[&[bf16]], sums: &mut [Sums]) {
        assert!(x.len() == sums.len() && x.len() <= ROWS, "dots: rows");
        match self {
            Self::Avx512(avx512) => avx512.dots(strip, x, sums),
            _ => panic!("dots: this path has none"),
        }
    }

    /// Adds the products of a `bf16` strip with the rows of a tile to their sums: those of first inputs and those of
    /// second ones on their own for 16 pairs, and then both.
    ///
    /// # Panics
    ///
    /// If the tile is not as long as the strip, or has not as many rows as there are sums, or the path has no such unit.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn tiled(self, strip: &[u8], x: Tile<'_>, sums: &mut [Sums]) {
        match self {
            Self::Amx(amx) => amx.bf16(strip, x, sums),
            _ => panic!("tiled: this path has no such unit"),
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
            #[cfg(target_arch = "x86_64")]
            Self::Amx(amx) => amx.narrow().codes(strip, x, sums),
            #[cfg(target_arch = "aarch64")]
            Self::Neon(neon) => neon.codes(strip, x, sums),
        }
    }
}

/// Returns numbers in no order, between 2^-7 and 2 in size, of either sign.
#[cfg(target_arch = "x86_64")]
fn numbers() -> impl FnMut() -> bf16 {
    // Knuth's generator: The Art of Computer Programming, volume 2, section 3.3.4.
    let mut state = 1_u64;
    move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let bits = (state >> 48) as u16;
        bf16::from_bits(bits & 0x87ff | 0x3c00)
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
