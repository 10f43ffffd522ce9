//! A short name for a model's weights, by which ranks recognize that they serve the same.

use std::fmt;

use sha2::{Digest, Sha256};
use spec::{Attention, Geometry, Rope};

use crate::checkpoint::Checkpoint;
use crate::error::Error;

/// Bytes looked at from each end of a tensor: enough to tell models and training states apart
/// while costing one read of each end. A damaged byte in between is `verify`'s to find.
const SAMPLE: u64 = 4096;

/// Identifies weights: the SHA-256 of the geometry, every tensor's name, type and shape, and the
/// bytes at both of its ends. The same for the same bytes on disk and in memory, however they
/// are cut into files.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

impl Checkpoint {
    /// Computes the fingerprint of the weights; reads 8 KiB of each tensor.
    ///
    /// # Errors
    ///
    /// If a file cannot be read.
    pub fn fingerprint(&self) -> Result<Fingerprint, Error> {
        let mut hash = Sha256::new();
        // What is hashed is a format: a change of it needs another number here.
        hash.update(b"weights 1\n");
        hash.update(geometry_text(self.geometry()));
        let mut tensors: Vec<_> = self.tensors().iter().collect();
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        let mut bytes = Vec::new();
        for tensor in tensors {
            let (name, dtype, shape) = (&tensor.name, tensor.dtype, &tensor.shape);
            hash.update(format!("{name} {dtype} {shape:?}\n"));
            let size = tensor.num_bytes();
            // The end's sample begins at a multiple of 16, where every kind of content can.
            let tail = size.saturating_sub(SAMPLE) / 16 * 16;
            for (first, end) in [(0, size.min(SAMPLE)), (tail, size)] {
                bytes.resize((end - first) as usize, 0);
                self.read(tensor, first, &mut bytes)?;
                hash.update(&bytes);
            }
        }
        Ok(Fingerprint(hash.finalize().into()))
    }
}

/// Writes every number that changes what a forward pass computes; floats by their bits.
fn geometry_text(geometry: &Geometry) -> String {
    // Taken apart by name, so that a new field cannot be forgotten here.
    let Geometry {
        layers,
        hidden,
        intermediate,
        num_experts,
        experts_per_token,
        num_heads,
        num_kv_heads,
        head_dim,
        vocab_size,
        sliding_window,
        max_positions,
        rope,
        rms_norm_eps,
        swiglu_limit,
    } = geometry;
    let Rope {
        theta,
        factor,
        beta_fast,
        beta_slow,
        original_max_positions,
        truncate,
    } = rope;
    let kinds: String = layers
        .iter()
        .map(|layer| match layer {
            Attention::Sliding => 's',
            Attention::Full => 'f',
        })
        .collect();
    let rope = [theta, factor, beta_fast, beta_slow].map(|value| value.to_bits());
    let (eps, limit) = (rms_norm_eps.to_bits(), swiglu_limit.to_bits());
    format!(
        "{kinds} {hidden} {intermediate} {num_experts} {experts_per_token} {num_heads} \
         {num_kv_heads} {head_dim} {vocab_size} {sliding_window} {max_positions} {rope:x?} \
         {original_max_positions} {truncate} {eps:x} {limit:x}\n"
    )
}
