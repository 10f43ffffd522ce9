//! Every path against the scalar one, bit by bit, and that one against plain sums.

use half::bf16;
use kernels::{Packing as _, Strip, mxfp4};

use super::super::layout::{STRIP, STRIPS};
use super::super::quantize::{Quantized, Rows, Whole, quantize};
#[cfg(target_arch = "x86_64")]
use super::super::tiled::Tiled;
use super::{CODE_ROWS, Halves, ROWS, Sums, Tiles, scalar};

/// SplitMix64.
struct Numbers(u64);

impl Numbers {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn float(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.float()).collect()
    }
}

fn quantized(x: &[f32]) -> Quantized {
    let blocks = x.as_chunks::<{ mxfp4::BLOCK }>().0;
    let mut all = Quantized::zeroed(blocks.len(), 1);
    for (block, x) in blocks.iter().enumerate() {
        (all.scales[block], all.starts[block]) = quantize(x, &mut all.values[block]);
    }
    all
}

fn wholes(block: &Whole) -> [i8; mxfp4::BLOCK] {
    bytemuck::cast(*block)
}

fn assert_same(one: &[Sums], other: &[Sums], what: &str) {
    let bits =
        |sums: &[Sums]| -> Vec<u32> { sums.as_flattened().iter().map(|s| s.to_bits()).collect() };
    assert_eq!(bits(one), bits(other), "{what}");
}

/// Sums to begin with, so that it shows who forgets them.
fn begun(numbers: &mut Numbers, rows: usize) -> Vec<Sums> {
    (0..rows)
        .map(|_| std::array::from_fn(|_| numbers.float()))
        .collect()
}

#[test]
fn bf16_products_are_the_same_on_every_path() {
    let mut numbers = Numbers(1);
    for (rows, inputs) in [(STRIP, 2), (STRIP, 64), (STRIP, 391), (37, 800)] {
        let weights: Vec<bf16> = numbers
            .floats(rows * inputs)
            .into_iter()
            .map(bf16::from_f32)
            .collect();
        let mut strip = vec![1; STRIPS.bf16_bytes(inputs)];
        STRIPS.bf16(&weights, inputs, &mut strip);
        let even = inputs.next_multiple_of(2);
        let halves: Vec<Vec<bf16>> = (0..ROWS)
            .map(|_| {
                let mut row: Vec<bf16> = numbers
                    .floats(inputs)
                    .into_iter()
                    .map(bf16::from_f32)
                    .collect();
                row.resize(even, bf16::ZERO);
                row
            })
            .collect();
        let floats = halves
            .iter()
            .map(|row| row.iter().map(|x| x.to_f32()).collect());
        let floats: Vec<Vec<f32>> = floats.collect();
        let x: Vec<&[f32]> = floats.iter().map(Vec::as_slice).collect();
        let before = begun(&mut numbers, ROWS);
        let mut expected = before.clone();
        Tiles::Scalar.bf16(&strip, &x, &mut expected);
        for (row, weights) in weights.chunks_exact(inputs).enumerate() {
            let products = weights
                .iter()
                .zip(x[2])
                .map(|(w, x)| w.to_f64() * f64::from(*x));
            let exact = products.sum::<f64>() + f64::from(before[2][row]);
            assert!((f64::from(expected[2][row]) - exact).abs() < 1e-4, "{row}");
        }
        for path in Tiles::all() {
            for count in 0..=ROWS {
                let mut found = before.clone();
                match path.halves() {
                    Halves::Widened => path.bf16(&strip, &x[..count], &mut found[..count]),
                    #[cfg(target_arch = "x86_64")]
                    Halves::Dots => {
                        let halves: Vec<&[bf16]> = halves.iter().map(Vec::as_slice).collect();
                        path.dots(&strip, &halves[..count], &mut found[..count]);
                    }
                    #[cfg(target_arch = "x86_64")]
                    Halves::Tiled => continue,
                }
                assert_same(
                    &found[..count],
                    &expected[..count],
                    &format!("{inputs} inputs, {count} rows"),
                );
                assert_same(&found[count..], &before[count..], "other rows");
            }
        }
    }
}

#[test]
fn products_with_codes_are_the_same_on_every_path() {
    let mut numbers = Numbers(2);
    for (rows, inputs, pairs, step) in [
        (STRIP, 32, false, CODE_ROWS),
        (STRIP, 416, true, CODE_ROWS),
        (37, 96, false, CODE_ROWS + 3),
    ] {
        let blocks = inputs / mxfp4::BLOCK;
        let codes: Vec<u8> = (0..rows * inputs / 2)
            .map(|_| numbers.bits() as u8)
            .collect();
        let scales: Vec<u8> = (0..rows * blocks)
            .map(|_| match numbers.bits() % 16 {
                bits @ 0..=4 => bits as u8,
                bits => 120 + bits as u8,
            })
            .collect();
        let mut strip = vec![1; STRIPS.codes_bytes(inputs)];
        let rows_of = Strip {
            blocks: &codes,
            scales: &scales,
            inputs,
            pairs,
        };
        STRIPS.codes(rows_of, &mut strip);
        let x = numbers.floats((1 + step * blocks) * 32);
        let all = quantized(&x);
        let some = |count| Rows {
            values: &all.values[1..],
            scales: &all.scales[1..],
            starts: &all.starts[1..],
            step,
            count,
        };
        let before = begun(&mut numbers, CODE_ROWS);
        let mut expected = before.clone();
        Tiles::Scalar.codes(&strip, some(CODE_ROWS), &mut expected);
        for row in 0..rows {
            let place = if pairs { row / 2 + row % 2 * 32 } else { row };
            let mut exact = f64::from(before[1][place]);
            let mut size = exact.abs();
            for at in 0..inputs {
                let block = row * blocks + at / 32;
                let byte = codes[16 * block + at % 32 / 2];
                let value = mxfp4::value(
                    if at % 2 == 0 { byte & 15 } else { byte >> 4 },
                    scales[block],
                );
                let from = 1 + 1 + at / 32 * step;
                let x = f64::from(wholes(&all.values[from])[at % 32]) * f64::from(all.scales[from]);
                exact += f64::from(value) * x;
                size += (f64::from(value) * x).abs();
            }
            let found = f64::from(expected[1][place]);
            assert!(
                (found - exact).abs() < 1e-6 * size,
                "{row}: {found} {exact}"
            );
        }
        for path in Tiles::all() {
            for count in 0..=CODE_ROWS {
                let mut found = before.clone();
                path.codes(&strip, some(count), &mut found[..count]);
                assert_same(
                    &found[..count],
                    &expected[..count],
                    &format!("{inputs} inputs, {count} rows"),
                );
                assert_same(&found[count..], &before[count..], "other rows");
            }
        }
    }
}

#[test]
fn every_scale_is_the_same_on_every_path() {
    let mut numbers = Numbers(5);
    let x = numbers.floats(mxfp4::BLOCK);
    let all = quantized(&x);
    let scales: Vec<u8> = (0..=255).collect();
    for scales in scales.chunks(STRIP) {
        let codes: Vec<u8> = (0..STRIP * mxfp4::BLOCK_BYTES)
            .map(|_| numbers.bits() as u8)
            .collect();
        let rows = Strip {
            blocks: &codes,
            scales,
            inputs: mxfp4::BLOCK,
            pairs: false,
        };
        let mut strip = vec![0; STRIPS.codes_bytes(mxfp4::BLOCK)];
        STRIPS.codes(rows, &mut strip);
        let mut expected = [[0.0; STRIP]];
        Tiles::Scalar.codes(&strip, Rows::of(&all), &mut expected);
        for path in Tiles::all() {
            let mut found = [[0.0; STRIP]];
            path.codes(&strip, Rows::of(&all), &mut found);
            assert_same(&found, &expected, &format!("scales from {}", scales[0]));
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_matrix_unit_that_is_lent_is_used() {
    use super::avx512::Avx512;
    use crate::simd::matrix;
    let is_there = matrix::is_lent() && !Avx512::all().is_empty();
    assert_eq!(matches!(Tiles::detect(), Tiles::Amx(_)), is_there);
}

#[cfg(target_arch = "aarch64")]
#[test]
fn arm_has_a_path_of_its_own() {
    let has_sdot = std::arch::is_aarch64_feature_detected!("dotprod");
    let paths = Tiles::all();
    assert!(matches!(paths.last(), Some(Tiles::Neon(_))));
    assert_eq!(paths.len(), 2 + usize::from(has_sdot));
}

#[test]
fn a_block_is_rounded_to_within_half_a_unit_of_its_largest() {
    let mut numbers = Numbers(3);
    for _ in 0..100 {
        let x: [f32; 32] = std::array::from_fn(|_| 3.0 * numbers.float());
        let mut block = Whole::default();
        let (scale, start) = quantize(&x, &mut block);
        let values = wholes(&block);
        assert_eq!(
            start,
            -12 * values.iter().map(|v| i32::from(*v)).sum::<i32>()
        );
        for (x, value) in x.iter().zip(values) {
            assert!((x - scale * f32::from(value)).abs() <= 0.5001 * scale);
        }
    }
    let mut block = [1; 8];
    assert_eq!(quantize(&[0.0; 32], &mut block), (0.0, 0));
    assert_eq!(block, [0; 8]);
    for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut x = [1.0; 32];
        x[7] = odd;
        assert!(quantize(&x, &mut block).0.is_nan(), "{odd}");
    }
}

#[test]
fn the_largest_sums_fit() {
    const INPUTS: usize = 64;
    // Code 7 is the largest value; all activations are as large as they can be, of one sign.
    let rows = Strip {
        blocks: &[0x77; STRIP * INPUTS / 2],
        scales: &[127; STRIP * INPUTS / mxfp4::BLOCK],
        inputs: INPUTS,
        pairs: false,
    };
    let mut strip = vec![0; STRIPS.codes_bytes(INPUTS)];
    STRIPS.codes(rows, &mut strip);
    for size in [1.0, -1.0] {
        let all = quantized(&[size; 2 * INPUTS]);
        assert_eq!(wholes(&all.values[1]), [127 * size as i8; 32]);
        let x = Rows {
            step: 2,
            count: 2,
            ..Rows::of(&all)
        };
        for path in Tiles::all() {
            let mut sums = [[0.0; STRIP]; 2];
            path.codes(&strip, x, &mut sums);
            let exact = 6.0 * INPUTS as f32 * size;
            let far = sums
                .as_flattened()
                .iter()
                .find(|sum| (**sum - exact).abs() > 1e-3);
            assert_eq!(far, None, "{exact}");
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn products_by_tiles_are_those_of_the_model() {
    let mut numbers = Numbers(7);
    for (outputs, inputs) in [
        (STRIP, 2),
        (STRIP, 31),
        (STRIP, 32),
        (STRIP, 33),
        (STRIP, 391),
        (37, 800),
    ] {
        let weights = numbers.floats(outputs * inputs);
        let weights: Vec<bf16> = weights.into_iter().map(bf16::from_f32).collect();
        let mut strip = vec![1; STRIPS.bf16_bytes(inputs)];
        STRIPS.bf16(&weights, inputs, &mut strip);
        for rows in 1..=19 {
            let x = numbers.floats(inputs * rows);
            let mut tiled = Tiled::zeroed(rows, inputs);
            for piece in tiled.pieces(&x, inputs) {
                piece.round();
            }
            for first in (0..rows).step_by(16) {
                let x = &x[first * inputs..];
                let tile = tiled.tile(first);
                let before = begun(&mut numbers, tile.rows);
                let mut expected = before.clone();
                scalar::tiled(&strip, tile, &mut expected);
                for (row, x) in x.chunks_exact(inputs).take(tile.rows).enumerate() {
                    for (output, weights) in weights.chunks_exact(inputs).enumerate() {
                        let products = weights.iter().zip(x);
                        let products =
                            products.map(|(w, x)| w.to_f64() * bf16::from_f32(*x).to_f64());
                        let exact = products.sum::<f64>() + f64::from(before[row][output]);
                        assert!((f64::from(expected[row][output]) - exact).abs() < 1e-4);
                    }
                }
                let paths = Tiles::all().into_iter();
                for path in paths.filter(|path| path.halves() == Halves::Tiled) {
                    let mut found = before.clone();
                    path.tiled(&strip, tile, &mut found);
                    assert_same(&found, &expected, &format!("{inputs} inputs, {rows} rows"));
                }
            }
        }
    }
}
