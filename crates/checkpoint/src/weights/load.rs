//! Brings a rank's weights into memory, each needed byte once.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use bytemuck::Pod;
use kernels::Packing;
use spec::ExpertId;

use super::{
    Expert, ExpertMatrix, ExpertSet, LayerWeights, LoadOptions, Matrix, RankWeights, pack, packed,
};
use crate::checkpoint::{Checkpoint, Store};
use crate::error::Error;
use crate::map::{Heap, Map, Region, Tensor};
use crate::parallel::{self, CHUNK, Progress, Watch};
use crate::synth::Stream;
use crate::tensors::{Key, TensorSpec, Weight};

/// A tensor, or one expert's slice of it.
pub(super) type PieceId = (Key, Option<ExpertId>);

/// Loads a rank's weights; see [`RankWeights::load`].
pub(super) fn load(
    checkpoint: &Checkpoint,
    options: &LoadOptions<'_>,
    watch: &mut Watch<'_>,
) -> Result<RankWeights, Error> {
    let geometry = checkpoint.geometry();
    assert!(
        options.placement.num_layers() == geometry.num_layers()
            && (0..geometry.num_layers())
                .all(|layer| options.placement.owners(layer).len() == geometry.num_experts),
        "the placement is of this model"
    );
    assert!(
        options
            .have
            .iter()
            .all(|have| have.checkpoint.is_same(checkpoint)),
        "weights are shared within one checkpoint"
    );
    let layout = options.packing.map(Packing::name);
    assert!(
        options.have.iter().all(|have| have.layout == layout),
        "weights are shared within one layout"
    );
    let wanted = wanted(checkpoint, options);
    let bytes = total(&wanted);
    let is_packed = |piece: &Piece<'_>| options.packing.is_some() && pack::is_matrix(piece.id.0);
    let (packed, plain): (Vec<_>, Vec<_>) = wanted.into_iter().partition(is_packed);
    let mut before = 0;
    // Both halves of the work are told as one.
    let mut told = |progress: Progress| {
        before = before.max(progress.done);
        let total = bytes;
        watch(Progress { total, ..progress })
    };
    let regions = match checkpoint.store() {
        Store::Files(_) => fetch(checkpoint, &plain, options.threads, &mut told)?,
        Store::Synth(_) => make(checkpoint, &plain, options.threads, &mut told)?,
    };
    let ids = plain.iter().map(|piece| piece.id);
    let mut regions: HashMap<PieceId, Region> = ids.zip(regions).collect();
    if let Some(packing) = options.packing {
        let mut highest = before;
        let mut told = |progress: Progress| {
            // What could not be kept is packed again; nobody is told that less is done.
            highest = highest.max(before + progress.done);
            let (done, total) = (highest, bytes);
            watch(Progress { done, total })
        };
        let ids = packed.iter().map(|piece| piece.id);
        let sources = pack::sources(checkpoint, ids, packing)?;
        let shelf = match options.cache {
            Some(cache) => cache.shelf(checkpoint, packing.name(), bytes)?,
            None => None,
        };
        regions.extend(packed::load(
            sources,
            shelf.as_ref(),
            options.threads,
            &mut told,
        )?);
    }
    let mut loaded = Loaded {
        regions,
        is_packed: options.packing.is_some(),
    };
    Ok(loaded.assemble(checkpoint, options))
}

/// A range of a tensor that is not in memory yet.
struct Piece<'a> {
    id: PieceId,
    tensor: &'a TensorSpec,
    /// Within the tensor.
    range: Range<u64>,
}

/// Lists what the rank needs and no one here has.
fn wanted<'a>(checkpoint: &'a Checkpoint, options: &LoadOptions<'_>) -> Vec<Piece<'a>> {
    let mut wanted = Vec::new();
    for tensor in checkpoint.tensors() {
        let size = tensor.piece_bytes();
        let mut want = |expert: Option<ExpertId>| {
            let first = expert.map_or(0, |expert| expert.index() as u64) * size;
            wanted.push(Piece {
                id: (tensor.key, expert),
                tensor,
                range: first..first + size,
            });
        };
        match tensor.key {
            Key::Layer(layer, _) if tensor.key.is_expert() => {
                for expert in options.placement.held_by(layer, options.rank) {
                    if shared_expert(options, layer, expert).is_none() {
                        want(Some(expert));
                    }
                }
            }
            _ if options.have.is_empty() => want(None),
            _ => {}
        }
    }
    wanted
}

fn shared_expert<'a>(
    options: &LoadOptions<'a>,
    layer: usize,
    expert: ExpertId,
) -> Option<&'a Arc<Expert>> {
    let mut have = options.have.iter();
    have.find_map(|have| have.layers[layer].experts.held[expert.index()].as_ref())
}

fn total(wanted: &[Piece<'_>]) -> u64 {
    wanted.iter().map(|p| p.range.end - p.range.start).sum()
}

/// Maps the pieces and touches their pages.
fn fetch(
    checkpoint: &Checkpoint,
    wanted: &[Piece<'_>],
    threads: usize,
    watch: &mut Watch<'_>,
) -> Result<Vec<Region>, Error> {
    let Store::Files(files) = checkpoint.store() else {
        unreachable!("only files are fetched");
    };
    let mut regions = Vec::with_capacity(wanted.len());
    let mut jobs: Vec<(Arc<Map>, usize, Range<usize>)> = Vec::new();
    for piece in wanted {
        let place = &files.places[&piece.tensor.key];
        let map = files.map(place.shard)?;
        let start = (place.range.start + piece.range.start) as usize;
        let range = start..start + (piece.range.end - piece.range.start) as usize;
        for first in range.clone().step_by(CHUNK) {
            let chunk = first..range.end.min(first + CHUNK);
            jobs.push((Arc::clone(&map), place.shard, chunk));
        }
        regions.push(Region::Mapped { map, range });
    }
    // In the order of the files, since disks are fastest so.
    jobs.sort_by_key(|(_, shard, range)| (*shard, range.start));
    parallel::run(
        jobs,
        threads,
        total(wanted),
        watch,
        |(map, shard, range), line| {
            let fetched = map.fetch(&range);
            fetched.map_err(|source| Error::Read {
                path: files.dir.join(&files.shards[shard].name),
                source,
            })?;
            line.report(range.len() as u64)
        },
    )?;
    Ok(regions)
}

/// Makes the pieces on the heap.
fn make(
    checkpoint: &Checkpoint,
    wanted: &[Piece<'_>],
    threads: usize,
    watch: &mut Watch<'_>,
) -> Result<Vec<Region>, Error> {
    let Store::Synth(spec) = checkpoint.store() else {
        unreachable!("only synthetic models are made");
    };
    let mut heaps: Vec<Heap> = wanted
        .iter()
        .map(|piece| Heap::zeroed((piece.range.end - piece.range.start) as usize))
        .collect();
    let mut jobs: Vec<(Arc<Stream>, u64, &mut [u8])> = Vec::new();
    for (piece, heap) in wanted.iter().zip(&mut heaps) {
        let stream = Arc::new(Stream::new(spec, piece.tensor));
        let chunks = heap.bytes_mut().chunks_mut(CHUNK);
        let firsts = (piece.range.start..).step_by(CHUNK);
        jobs.extend(
            firsts
                .zip(chunks)
                .map(|(first, out)| (Arc::clone(&stream), first, out)),
        );
    }
    parallel::run(
        jobs,
        threads,
        total(wanted),
        watch,
        |(stream, first, out), line| {
            stream.fill(first, out);
            line.report(out.len() as u64)
        },
    )?;
    Ok(heaps.into_iter().map(Region::Heap).collect())
}

/// What was brought into memory, to be put in its place.
struct Loaded {
    regions: HashMap<PieceId, Region>,
    /// Whether the matrices are.
    is_packed: bool,
}

impl Loaded {
    fn take<T: Pod>(&mut self, key: Key, expert: Option<ExpertId>) -> Tensor<T> {
        let region = self.regions.remove(&(key, expert));
        Tensor::new(region.expect("every piece that is not shared was wanted"))
    }

    fn matrix(&mut self, key: Key) -> Matrix {
        match self.is_packed {
            true => Matrix::Packed(self.take(key, None)),
            false => Matrix::Rows(self.take(key, None)),
        }
    }

    fn codes(&mut self, blocks: Key, scales: Key, expert: ExpertId) -> ExpertMatrix {
        let blocks = self.take(blocks, Some(expert));
        match self.is_packed {
            true => ExpertMatrix::Packed(blocks),
            false => ExpertMatrix::Rows {
                blocks,
                scales: self.take(scales, Some(expert)),
            },
        }
    }

    fn assemble(&mut self, checkpoint: &Checkpoint, options: &LoadOptions<'_>) -> RankWeights {
        let first = options.have.first();
        let layers = 0..checkpoint.geometry().num_layers();
        RankWeights {
            checkpoint: checkpoint.clone(),
            layout: options.packing.map(Packing::name),
            embedding: match first {
                Some(have) => have.embedding.clone(),
                None => self.take(Key::Embedding, None),
            },
            final_norm: match first {
                Some(have) => have.final_norm.clone(),
                None => self.take(Key::FinalNorm, None),
            },
            head: match first {
                Some(have) => have.head.clone(),
                None => self.matrix(Key::Head),
            },
            layers: layers
                .map(|layer| {
                    let experts = self.experts(checkpoint, layer, options);
                    match first {
                        Some(have) => LayerWeights {
                            experts,
                            ..have.layers[layer].clone()
                        },
                        None => self.layer(layer, experts),
                    }
                })
                .collect(),
        }
    }

    fn layer(&mut self, layer: usize, experts: ExpertSet) -> LayerWeights {
        let mut matrix = |weight| self.matrix(Key::Layer(layer, weight));
        let (q, k) = (matrix(Weight::Query), matrix(Weight::Key));
        let (v, o) = (matrix(Weight::Value), matrix(Weight::Output));
        let mut take = |weight| self.take(Key::Layer(layer, weight), None);
        LayerWeights {
            input_norm: take(Weight::InputNorm),
            q,
            q_bias: take(Weight::QueryBias),
            k,
            k_bias: take(Weight::KeyBias),
            v,
            v_bias: take(Weight::ValueBias),
            o,
            o_bias: take(Weight::OutputBias),
            sinks: take(Weight::Sinks),
            post_norm: take(Weight::PostNorm),
            router: take(Weight::Router),
            router_bias: take(Weight::RouterBias),
            experts,
        }
    }

    fn experts(
        &mut self,
        checkpoint: &Checkpoint,
        layer: usize,
        options: &LoadOptions<'_>,
    ) -> ExpertSet {
        let mut held = vec![None; checkpoint.geometry().num_experts];
        for expert in options.placement.held_by(layer, options.rank) {
            let shared = shared_expert(options, layer, expert);
            let shared = shared.map(Arc::clone);
            held[expert.index()] =
                Some(shared.unwrap_or_else(|| Arc::new(self.expert(layer, expert))));
        }
        ExpertSet { held }
    }

    fn expert(&mut self, layer: usize, expert: ExpertId) -> Expert {
        let key = |weight| Key::Layer(layer, weight);
        let gate_up = (key(Weight::GateUpBlocks), key(Weight::GateUpScales));
        let down = (key(Weight::DownBlocks), key(Weight::DownScales));
        Expert {
            gate_up: self.codes(gate_up.0, gate_up.1, expert),
            gate_up_bias: self.take(key(Weight::GateUpBias), Some(expert)),
            down: self.codes(down.0, down.1, expert),
            down_bias: self.take(key(Weight::DownBias), Some(expert)),
        }
    }
}
