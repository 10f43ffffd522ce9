//! Reading memory with the widest loads of the processor, and doing next to nothing with it: what kernels that
//! stream weights are compared with.
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "registers that not every processor has")
)]

use std::hint::black_box;

/// Bytes read at a time: four of the widest registers.
const CHUNK: usize = 256;

/// Reads bytes once, from the first to the last; fewer than 256 at the end may be left out.
pub fn read(bytes: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512bw")]
        fn of_512_bits(bytes: &[u8]) {
            fold(bytes);
        }
        #[target_feature(enable = "avx2")]
        fn of_256_bits(bytes: &[u8]) {
            fold(bytes);
        }
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw") {
            // SAFETY: the processor has the registers.
            return unsafe { of_512_bits(bytes) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has the registers.
            return unsafe { of_256_bits(bytes) };
        }
    }
    fold(bytes);
}

/// The compiler takes the widest registers of the function that this is inlined into.
#[inline(always)]
fn fold(bytes: &[u8]) {
    let mut all = [0_u8; CHUNK];
    for chunk in black_box(bytes).as_chunks::<CHUNK>().0 {
        for (all, byte) in all.iter_mut().zip(chunk) {
            *all |= *byte;
        }
    }
    black_box(all);
}
