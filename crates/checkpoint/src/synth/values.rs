//! The bytes of a synthetic model.
//!
//! Every unit of a tensor (two bfloat16 numbers, one scale byte, or eight bytes of MXFP4 codes) is
//! a function of the tensor's name, the seed and the unit's index, so any range can be made
//! without what comes before it, on any number of threads. Unit `i` takes the 64 bits
//! `mix(key + (i + 1) * 0x9e3779b97f4a7c15)`, the SplitMix64 generator (Steele, Lea, Flood,
//! <https://doi.org/10.1145/2714064.2660195>) entered at its `i`-th step, where `key` is the first
//! eight bytes of the SHA-256 of seed and name. Only integers, IEEE arithmetic and square roots
//! are used, so that every machine makes the same bytes.
//!
//! Spreads are chosen so that the model behaves: the residual stream stays of order one, some
//! gates reach the clamp, the router's choices spread over all experts, logits are of order three.

use half::bf16;
use sha2::{Digest, Sha256};

use super::Spec;
use crate::mxfp4::VALUES;
use crate::tensors::{Key, TensorSpec, Weight};

const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// The elements of one tensor, by index.
pub(crate) struct Stream {
    key: u64,
    kind: Kind,
}

enum Kind {
    /// bfloat16 numbers.
    Normal(Box<Bell>),
    /// MXFP4 codes, all equally likely: the magnitudes are spaced so that their values then have
    /// nearly the tails of a normal distribution.
    Codes,
    /// Scale bytes around `low` and `low + 1`.
    Scales {
        low: u8,
        /// Of 65,536, how many are the upper one.
        upper: u16,
        edges: bool,
    },
}

impl Stream {
    /// Prepares the elements of one tensor.
    pub(crate) fn new(spec: &Spec, tensor: &TensorSpec) -> Self {
        let mut hash = Sha256::new();
        hash.update(spec.seed.to_le_bytes());
        hash.update(tensor.name.as_bytes());
        let digest: [u8; 32] = hash.finalize().into();
        let (first, _) = digest
            .split_first_chunk()
            .expect("a SHA-256 has more than eight bytes");
        Self {
            key: u64::from_le_bytes(*first),
            kind: kind(spec, tensor.key),
        }
    }

    /// Writes the tensor's bytes `first..first + out.len()`. `first` must lie between units, and
    /// so must the end unless it is the tensor's.
    pub(crate) fn fill(&self, first: u64, out: &mut [u8]) {
        match &self.kind {
            Kind::Normal(bell) => self.fill_units(first, out, |bits| bell.pair(bits)),
            Kind::Codes => self.fill_units(first, out, u64::to_le_bytes),
            Kind::Scales { low, upper, edges } => {
                self.fill_units(first, out, |bits| [scale(bits, *low, *upper, *edges)]);
            }
        }
    }

    fn fill_units<const UNIT: usize>(
        &self,
        first: u64,
        out: &mut [u8],
        unit: impl Fn(u64) -> [u8; UNIT],
    ) {
        assert!(
            first.is_multiple_of(UNIT as u64),
            "a range begins between units"
        );
        let before = (first / UNIT as u64).wrapping_mul(GAMMA);
        let mut state = self.key.wrapping_add(before);
        let mut next = || {
            state = state.wrapping_add(GAMMA);
            unit(mix(state))
        };
        let (whole, rest) = out.as_chunks_mut::<UNIT>();
        for out in whole {
            *out = next();
        }
        if !rest.is_empty() {
            let len = rest.len();
            rest.copy_from_slice(&next()[..len]);
        }
    }
}

/// The output function of SplitMix64.
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Bell-shaped numbers: sums of four uniform bytes, which stay within 3.5 standard deviations.
struct Bell {
    /// The number for each sum; the last three sums do not occur.
    by_sum: [bf16; 1024],
}

impl Bell {
    fn new(mean: f64, deviation: f64) -> Self {
        const MEAN_SUM: f64 = 4.0 * 127.5;
        // The variance of a uniform byte is (256^2 - 1) / 12.
        let factor = deviation / (4.0 * 65535.0 / 12.0f64).sqrt();
        let mut by_sum = [bf16::ZERO; 1024];
        for (sum, number) in by_sum.iter_mut().enumerate() {
            *number = bf16::from_f64((sum as f64 - MEAN_SUM) * factor + mean);
        }
        Self { by_sum }
    }

    /// Makes two numbers of eight bytes, one of the lower four and one of the upper.
    fn pair(&self, bits: u64) -> [u8; 4] {
        const BYTES: u64 = 0x00ff_00ff_00ff_00ff;
        const SUMS: u64 = 0x0000_ffff_0000_ffff;
        // Each half adds up on its own: bytes to sums of two, then to sums of four.
        let twos = (bits & BYTES) + (bits >> 8 & BYTES);
        let fours = (twos & SUMS) + (twos >> 16 & SUMS);
        let number = |shift: u32| self.by_sum[(fours >> shift) as usize & 1023].to_bits();
        (u32::from(number(32)) << 16 | u32::from(number(0))).to_le_bytes()
    }
}

fn scale(bits: u64, low: u8, upper: u16, edges: bool) -> u8 {
    // Two in a hundred blocks decode to almost nothing.
    if edges && (bits >> 48) < 1311 {
        return (bits >> 40) as u8 & 1;
    }
    let byte = low + u8::from((bits as u16) < upper);
    // Every eighth block lies an octave higher, every eighth one lower.
    match bits >> 16 & 7 {
        0 => byte + 1,
        1 => byte - 1,
        _ => byte,
    }
}

/// Chooses mean and spread of each tensor.
fn kind(spec: &Spec, key: Key) -> Kind {
    let normal = |mean, deviation| Kind::Normal(Box::new(Bell::new(mean, deviation)));
    // A matrix over `width` inputs of order one gives outputs of order `gain`.
    let matrix = |gain: f64, width: usize| normal(0.0, gain / (width as f64).sqrt());
    let (hidden, query) = (spec.hidden, spec.heads * spec.head_dim);
    let weight = match key {
        Key::Embedding => return normal(0.0, 1.0),
        Key::FinalNorm => return normal(1.0, 0.2),
        Key::Head => return matrix(3.0, hidden),
        Key::Layer(_, weight) => weight,
    };
    match weight {
        Weight::InputNorm | Weight::PostNorm => normal(1.0, 0.2),
        Weight::OutputBias | Weight::QueryBias | Weight::KeyBias | Weight::ValueBias => {
            normal(0.0, 0.3)
        }
        Weight::Output => matrix(0.8, query),
        Weight::Query | Weight::Key => matrix(1.2, hidden),
        Weight::Value => matrix(1.0, hidden),
        Weight::Sinks => normal(1.0, 1.5),
        Weight::RouterBias => normal(0.0, 0.4),
        Weight::Router => matrix(1.5, hidden),
        Weight::GateUpBias => normal(0.0, 0.5),
        Weight::DownBias => normal(0.0, 0.1),
        Weight::GateUpBlocks | Weight::DownBlocks => Kind::Codes,
        // Outputs of order 2.5, so that the clamp at 7 is reached now and then.
        Weight::GateUpScales => scales(2.5, hidden, spec.edge_scales),
        // Inside an expert values are of order 3; what it adds is of order 0.5.
        Weight::DownScales => scales(0.5 / 3.0, spec.intermediate, spec.edge_scales),
    }
}

/// Chooses the two powers of two whose mean, times the codes' spread, is the spread wanted.
fn scales(gain: f64, width: usize, edges: bool) -> Kind {
    let squares = VALUES.map(|value| f64::from(value * value));
    let spread = (squares.iter().sum::<f64>() / VALUES.len() as f64).sqrt();
    let wanted = gain / (width as f64).sqrt() / spread;
    // Taken apart by its bits, since logarithms differ between machines.
    let bits = wanted.to_bits();
    let low = (bits >> 52) as i32 - 1023 + 127;
    Kind::Scales {
        low: u8::try_from(low).expect("a spread far from the ends of the range"),
        upper: (bits >> 36) as u16,
        edges,
    }
}
