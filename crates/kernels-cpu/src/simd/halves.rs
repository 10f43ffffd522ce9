//! Tables to take MXFP4 blocks apart with.

use kernels::mxfp4;

/// Upper and lower bytes of [`mxfp4::TWICE`] as `bf16`.
pub(super) static HALVES: [[u8; 16]; 2] = {
    let mut halves = [[0; 16]; 2];
    let mut code = 0;
    while code < 16 {
        let bits = (mxfp4::TWICE[code] as f32).to_bits();
        halves[0][code] = (bits >> 24) as u8;
        halves[1][code] = (bits >> 16) as u8;
        code += 1;
    }
    halves
};

/// Halves of all scales, so that finding one takes no branch.
pub(super) static HALF_SCALES: [f32; 256] = {
    let mut factors = [0.0; 256];
    let mut scale = 0;
    while scale < 256 {
        factors[scale] = mxfp4::half_scale(scale as u8);
        scale += 1;
    }
    factors
};
