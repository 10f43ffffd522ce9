//! The path of x86-64 processors with a matrix unit (AMX): sixteen rows by sixteen outputs at a time.
//!
//! All that a call needs is loaded, computed and stored in it, and the unit released at its end, so that a change of
//! threads need not save 8 KiB.
#![expect(unsafe_code, reason = "instructions that not every x86-64 has")]

use std::arch::asm;
use std::sync::OnceLock;

use half::bf16;

use super::super::layout::{PAIR_BYTES, STRIP};
use super::super::tiled::{PAIRS, Tile, Tiled};
use super::avx512::Avx512;
use super::{Sums, numbers, scalar};
use crate::simd::matrix::{self, ROW_BYTES, ROWS, Sizes};

/// Proof that this processor has the unit and the system lends it, beside AVX-512: only [`Amx::detect`] makes one.
#[derive(Clone, Copy)]
pub(crate) struct Amx {
    narrow: Avx512,
}

impl Amx {
    /// Finds the unit, once for all: a system may lend it now and refuse it later, and ranks of a process are alike.
    pub(super) fn detect() -> Option<Self> {
        static FOUND: OnceLock<Option<Amx>> = OnceLock::new();
        *FOUND.get_or_init(|| {
            let narrow = Avx512::all().pop()?;
            let this = Self { narrow };
            (matrix::is_lent() && this.adds_as_the_model()).then_some(this)
        })
    }

    /// What it does not do better.
    pub(super) fn narrow(self) -> Avx512 {
        self.narrow
    }

    /// Compares some thousand sums of products with the model's.
    fn adds_as_the_model(self) -> bool {
        // Two tiles and a half.
        const INPUTS: usize = 5 * PAIRS;
        let mut numbers = numbers();
        let strip: Vec<u8> = (0..INPUTS / 2 * PAIR_BYTES / 2)
            .flat_map(|_| numbers().to_le_bytes())
            .collect();
        let x: [bf16; INPUTS * ROWS] = std::array::from_fn(|_| numbers());
        let (mut found, mut expected) = ([[0.0; STRIP]; ROWS], [[0.0; STRIP]; ROWS]);
        let mut all = Tiled::zeroed(ROWS, INPUTS);
        for piece in all.pieces(&x.map(bf16::to_f32), INPUTS) {
            piece.round();
        }
        self.bf16(&strip, all.tile(0), &mut found);
        scalar::tiled(&strip, all.tile(0), &mut expected);
        found == expected
    }

    /// Adds the products of a `bf16` strip with up to 16 rows to their sums.
    #[expect(clippy::unused_self, reason = "the proof that the unit may be used")]
    pub(super) fn bf16(self, strip: &[u8], x: Tile<'_>, sums: &mut [Sums]) {
        let rows = x.rows;
        let pairs = strip.len() / PAIR_BYTES;
        assert!(
            (1..=ROWS).contains(&rows)
                && sums.len() == rows
                && x.lines.len() == pairs.div_ceil(PAIRS) * rows,
            "tiled: rows of a tile"
        );
        let (full, rest) = (pairs / PAIRS, pairs % PAIRS);
        let sum = (rows, ROW_BYTES);
        let (x_rest, strip_rest) = match rest {
            0 => ((0, 0), (0, 0)),
            _ => ((rows, 4 * rest), (rest, ROW_BYTES)),
        };
        let (x_full, strip_full) = ((rows, 4 * PAIRS), (PAIRS, ROW_BYTES));
        let sizes = Sizes::new([sum, sum, sum, sum, x_full, strip_full, x_rest, strip_rest]);
        // SAFETY: `self` exists, so the unit may be used. `sizes` are of 64 bytes and sound: no tile is larger than
        // 16 rows of 64 bytes. Read are, of `x`, `full` times `rows` lines, which are 64 bytes each and follow each
        // other, then as many if there is a rest; of `strip`, 16 pairs of 256 bytes each time, then the rest, in all
        // not more pairs than it has; read and written are `rows` sums of 256 bytes. All as asserted. No tile is in
        // use before or after.
        unsafe {
            asm!(
                "ldtilecfg [{sizes}]",
                "tileloadd tmm0, [{sums} + {step}]",
                "tileloadd tmm1, [{sums} + {step} + 64]",
                "tileloadd tmm2, [{sums} + {step} + 128]",
                "tileloadd tmm3, [{sums} + {step} + 192]",
                "test {full}, {full}",
                "jz 3f",
                "2:",
                "tileloadd tmm4, [{x} + {line}]",
                "tileloadd tmm5, [{strip} + {step}]",
                "tdpbf16ps tmm0, tmm4, tmm5",
                "tileloadd tmm5, [{strip} + {step} + 64]",
                "tdpbf16ps tmm1, tmm4, tmm5",
                "tileloadd tmm5, [{strip} + {step} + 128]",
                "tdpbf16ps tmm2, tmm4, tmm5",
                "tileloadd tmm5, [{strip} + {step} + 192]",
                "tdpbf16ps tmm3, tmm4, tmm5",
                "add {x}, {tile}",
                "add {strip}, 4096",
                "dec {full}",
                "jnz 2b",
                "3:",
                "test {rest}, {rest}",
                "jz 4f",
                "tileloadd tmm6, [{x} + {line}]",
                "tileloadd tmm7, [{strip} + {step}]",
                "tdpbf16ps tmm0, tmm6, tmm7",
                "tileloadd tmm7, [{strip} + {step} + 64]",
                "tdpbf16ps tmm1, tmm6, tmm7",
                "tileloadd tmm7, [{strip} + {step} + 128]",
                "tdpbf16ps tmm2, tmm6, tmm7",
                "tileloadd tmm7, [{strip} + {step} + 192]",
                "tdpbf16ps tmm3, tmm6, tmm7",
                "4:",
                "tilestored [{sums} + {step}], tmm0",
                "tilestored [{sums} + {step} + 64], tmm1",
                "tilestored [{sums} + {step} + 128], tmm2",
                "tilestored [{sums} + {step} + 192], tmm3",
                "tilerelease",
                sizes = in(reg) &sizes,
                sums = in(reg) sums.as_mut_ptr(),
                step = in(reg) PAIR_BYTES,
                line = in(reg) 4 * PAIRS,
                tile = in(reg) 4 * PAIRS * rows,
                x = inout(reg) x.lines.as_ptr() => _,
                strip = inout(reg) strip.as_ptr() => _,
                full = inout(reg) full => _,
                rest = in(reg) rest,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }
}
