//! Lays matrices out as a back end wants them, while they are read.

use std::io;

use kernels::{Packing, Strip};

use super::load::PieceId;
use crate::checkpoint::{Checkpoint, Store};
use crate::error::Error;
use crate::map::{Heap, Region};
use crate::pages::Pages;
use crate::parallel::{self, Watch};
use crate::tensors::{Key, TensorSpec, Weight};

/// Whether a tensor is a matrix that a packed layout has, or the scales that go into one.
pub(super) fn is_matrix(key: Key) -> bool {
    use Weight::{DownBlocks, DownScales, GateUpBlocks, GateUpScales, Output, Query, Value};
    match key {
        Key::Head => true,
        Key::Embedding | Key::FinalNorm => false,
        Key::Layer(_, weight) => matches!(
            weight,
            Query
                | Weight::Key
                | Value
                | Output
                | GateUpBlocks
                | GateUpScales
                | DownBlocks
                | DownScales
        ),
    }
}

/// The scales of codes; `None` for a matrix of `bf16`.
fn scales_of(key: Key) -> Option<Key> {
    match key {
        Key::Layer(layer, Weight::GateUpBlocks) => Some(Key::Layer(layer, Weight::GateUpScales)),
        Key::Layer(layer, Weight::DownBlocks) => Some(Key::Layer(layer, Weight::DownScales)),
        _ => None,
    }
}

/// A matrix that is read strip by strip.
pub(super) struct Source<'a> {
    pub(super) id: PieceId,
    checkpoint: &'a Checkpoint,
    packing: &'static dyn Packing,
    tensor: TensorSpec,
    scales: Option<TensorSpec>,
    /// Its place among the slices of the tensor.
    slice: u64,
    outputs: usize,
    inputs: usize,
}

impl<'a> Source<'a> {
    fn new(checkpoint: &'a Checkpoint, packing: &'static dyn Packing, id: PieceId) -> Self {
        let (key, expert) = id;
        let geometry = checkpoint.geometry();
        let tensor = TensorSpec::new(key, geometry);
        let scales = scales_of(key).map(|key| TensorSpec::new(key, geometry));
        let (outputs, inputs) = match &scales {
            // A code is half a byte.
            Some(_) => (tensor.shape[1], 2 * tensor.shape[2] * tensor.shape[3]),
            None => (tensor.shape[0], tensor.shape[1]),
        };
        Self {
            id,
            checkpoint,
            packing,
            tensor,
            scales,
            slice: expert.map_or(0, |expert| expert.index() as u64),
            outputs,
            inputs,
        }
    }

    /// Bytes of a strip.
    pub(super) fn strip_bytes(&self) -> usize {
        match self.scales {
            Some(_) => self.packing.codes_bytes(self.inputs),
            None => self.packing.bf16_bytes(self.inputs),
        }
    }

    /// Bytes of all strips.
    pub(super) fn num_bytes(&self) -> usize {
        self.outputs.div_ceil(self.packing.strip()) * self.strip_bytes()
    }

    /// Bytes of it in the checkpoint.
    pub(super) fn source_bytes(&self) -> u64 {
        let scales = self.scales.as_ref().map_or(0, TensorSpec::piece_bytes);
        self.tensor.piece_bytes() + scales
    }

    /// Name of its tensor.
    pub(super) fn name(&self) -> &str {
        &self.tensor.name
    }

    /// Reads the rows of a strip.
    fn read(&self, tensor: &TensorSpec, strip: usize) -> Result<Heap, Error> {
        let row = tensor.piece_bytes() / self.outputs as u64;
        let first = strip * self.packing.strip();
        let rows = self.packing.strip().min(self.outputs - first);
        let mut heap = Heap::zeroed(rows * row as usize);
        let start = self.slice * tensor.piece_bytes() + first as u64 * row;
        self.checkpoint.read(tensor, start, heap.bytes_mut())?;
        Ok(heap)
    }

    /// Packs a strip; returns how many bytes were read for it.
    pub(super) fn pack(&self, strip: usize, out: &mut [u8]) -> Result<u64, Error> {
        let rows = self.read(&self.tensor, strip)?;
        let mut read = rows.bytes().len();
        match &self.scales {
            None => {
                let rows = bytemuck::cast_slice(rows.bytes());
                self.packing.bf16(rows, self.inputs, out);
            }
            Some(scales) => {
                let scales = self.read(scales, strip)?;
                read += scales.bytes().len();
                let strip = Strip {
                    blocks: rows.bytes(),
                    scales: scales.bytes(),
                    inputs: self.inputs,
                    pairs: matches!(self.tensor.key, Key::Layer(_, Weight::GateUpBlocks)),
                };
                self.packing.codes(strip, out);
            }
        }
        Ok(read as u64)
    }
}

/// The matrices among pieces, with the scales that are the codes' own.
///
/// # Errors
///
/// If a file has changed since it was opened.
pub(super) fn sources<'a>(
    checkpoint: &'a Checkpoint,
    pieces: impl Iterator<Item = PieceId>,
    packing: &'static dyn Packing,
) -> Result<Vec<Source<'a>>, Error> {
    let pieces: Vec<PieceId> = pieces.collect();
    if let Store::Files(files) = checkpoint.store() {
        for (key, _) in &pieces {
            files.map(files.places[key].shard)?;
        }
    }
    let pieces = pieces.into_iter().filter(|(key, _)| !key.is_scales());
    let sources = pieces.map(|piece| Source::new(checkpoint, packing, piece));
    Ok(sources.collect())
}

/// Packs matrices into memory of this process.
///
/// # Errors
///
/// If a file cannot be read, there is no memory, or the watch cancels.
pub(super) fn into_memory(
    sources: &[Source<'_>],
    threads: usize,
    watch: &mut Watch<'_>,
) -> Result<Vec<(PieceId, Region)>, Error> {
    let memory = sources
        .iter()
        .map(|source| Pages::zeroed(source.num_bytes()));
    let memory: io::Result<Vec<_>> = memory.collect();
    let mut memory = memory.map_err(|source| Error::Memory { source })?;
    let mut jobs = Vec::new();
    for (source, memory) in sources.iter().zip(&mut memory) {
        let strips = memory.chunks_exact_mut(source.strip_bytes()).enumerate();
        jobs.extend(strips.map(|(strip, out)| (source, strip, out)));
    }
    parallel::run(jobs, threads, 0, watch, |(source, strip, out), line| {
        line.report(source.pack(strip, out)?)
    })?;
    let ids = sources.iter().map(|source| source.id);
    Ok(ids.zip(memory.into_iter().map(Region::Pages)).collect())
}
