//! Each operation of every path against the scalar one, bit by bit.

use half::bf16;

use super::{Kernel, LANES, Lanes, ORDERED, Path, Quad, SPLIT, Scalar, Simd, WIDE};

/// Values where operations could differ: both zeros, subnormals, ties, large, infinite, no number.
const EDGES: [f32; 16] = [
    0.0,
    -0.0,
    1e-40,
    -1e-40,
    0.5,
    1.5,
    -2.5,
    7.0,
    88.0,
    -88.0,
    1e30,
    -1e30,
    f32::MAX,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
];

fn edge(i: usize) -> Lanes {
    std::array::from_fn(|lane| EDGES[(i / 16 + lane * 3 + i * lane) % 16])
}

/// All results of all operations on some edges.
struct Everything;

impl Kernel for Everything {
    type Output = Vec<f32>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Vec<f32> {
        let mut results = Vec::new();
        let mut keep = |value: S::F32| {
            let mut lanes = [0.0; LANES];
            simd.store(value, &mut lanes);
            results.extend(lanes);
        };
        for i in 0..256 {
            let [a, b, c] = [i, i * 7 + 3, i * 5 + 1].map(edge);
            let (a, b, c) = (simd.load(&a), simd.load(&b), simd.load(&c));
            keep(simd.add(a, b));
            keep(simd.sub(a, b));
            keep(simd.mul(a, b));
            keep(simd.div(a, b));
            keep(simd.min(a, b));
            keep(simd.max(a, b));
            keep(simd.fma(a, b, c));
            keep(simd.round(a));
            keep(simd.splat(EDGES[i % 16]));
            keep(simd.pow2(simd.splat(i as f32 - 127.0)));
            keep(simd.widen(&[bf16::from_bits(i as u16 * 257); LANES]));
            let block = std::array::from_fn(|place| (i + place * 37) as u8);
            for scale in 0..=255 {
                simd.unpack(&block, scale).into_iter().for_each(&mut keep);
            }
        }
        for i in 0..256 {
            let [a, b, c] = [i, i * 7 + 3, i * 5 + 1].map(|i| {
                let (a, b) = (edge(i), edge(i + 1));
                std::array::from_fn(|lane| {
                    if lane < LANES {
                        a[lane]
                    } else {
                        b[lane - LANES]
                    }
                })
            });
            let (a, b, c) = (simd.load_wide(&a), simd.load_wide(&b), simd.load_wide(&c));
            let splat = simd.splat_wide(EDGES[i % 16]);
            for value in [simd.mul_wide(a, b), simd.fma_wide(a, b, c), splat] {
                let mut lanes = [0.0; WIDE];
                simd.store_wide(value, &mut lanes);
                results.extend(lanes);
            }
        }
        for i in 0..256 {
            let value = |place: usize| EDGES[place % 8] + (i * place) as f32 * 0.37;
            let lanes = |first: usize| std::array::from_fn(|lane| value(first + lane));
            let registers = [0, 11, 23, 40].map(|first| simd.load(&lanes(first)));
            results.extend(simd.sums(registers));
        }
        results
    }
}

#[test]
fn paths_give_the_same_bits() {
    let expected = Path::Scalar(Scalar).run(Everything);
    for path in Path::all() {
        let found = path.run(Everything);
        assert_eq!(found.len(), expected.len());
        for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let same = found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan();
            assert!(same, "result {i}: {found:e}, expected {expected:e}");
        }
    }
}

#[cfg(target_arch = "aarch64")]
#[test]
fn arm_has_a_path_of_its_own() {
    assert!(matches!(Path::detect(), Path::Neon(_)));
}

#[test]
fn orders_hold_every_value_once() {
    for order in [ORDERED, SPLIT] {
        let mut places: Vec<usize> = order.as_flattened().to_vec();
        places.sort_unstable();
        assert!(places.into_iter().eq(0..4 * LANES));
    }
}

#[test]
fn a_block_unpacks_to_its_values() {
    let block = std::array::from_fn(|place| (place * 37 + 11) as u8);
    let values: Quad<Lanes> = Scalar.unpack(&block, 125);
    for (lane, place) in values.as_flattened().iter().zip(SPLIT.as_flattened()) {
        let code = if place % 2 == 0 {
            block[place / 2] & 15
        } else {
            block[place / 2] >> 4
        };
        assert_eq!(*lane, kernels::mxfp4::value(code, 125));
    }
}
