//! The matrix unit of Intel's processors (AMX): whether it may be used, and how it is told the sizes of its tiles.
//!
//! Instructions and layouts are those of Intel's manual, volume 1, "Programming with Intel AMX", and volume 2.
#![expect(unsafe_code, reason = "a system call that no safe crate has")]

use std::arch::x86_64::{__cpuid, __cpuid_count};

/// Most rows of a tile.
pub(crate) const ROWS: usize = 16;

/// Most bytes of a row of a tile.
pub(crate) const ROW_BYTES: usize = 64;

/// Rows and bytes of a row of all eight tiles, as the instruction `LDTILECFG` reads them.
#[repr(C, align(64))]
pub(crate) struct Sizes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Sizes {
    /// Takes each tile's rows and bytes of a row; both are zero for one that is not used.
    ///
    /// # Panics
    ///
    /// If a tile is larger than there are.
    pub(crate) fn new(tiles: [(usize, usize); 8]) -> Self {
        let mut sizes = Self {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            row_bytes: [0; 16],
            rows: [0; 16],
        };
        for (tile, (rows, bytes)) in tiles.into_iter().enumerate() {
            assert!(rows <= ROWS && bytes <= ROW_BYTES, "sizes: a tile");
            (sizes.rows[tile], sizes.row_bytes[tile]) = (rows as u8, bytes as u16);
        }
        sizes
    }
}

/// Whether this processor has the unit for `bf16`, and the system lends it to all threads of this process: it is
/// asked to.
pub(crate) fn is_lent() -> bool {
    // What leaf 7 tells in EDX.
    const BF16: u32 = 1 << 22;
    const TILES: u32 = 1 << 24;
    /// Linux, `arch/x86/include/uapi/asm/prctl.h`.
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    /// What tiles hold, by its number among the states of a processor.
    const TILE_DATA: libc::c_long = 18;
    let found = __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & (BF16 | TILES) == BF16 | TILES;
    // SAFETY: the call allows threads of this process the use of more registers. It fails where a thread has a stack
    // for signals that has no room for them, and such stacks are refused from then on; std's have room, by what the
    // system says that signals need at least.
    found && unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILE_DATA) == 0 }
}
