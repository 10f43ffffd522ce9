//! Brings a rank's weights into memory, each needed byte once.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use bytemuck::Pod;
use spec::ExpertId;

use super::{Expert, ExpertSet, LayerWeights, LoadOptions, RankWeights};
use crate::checkpoint::{Checkpoint, Store};
use crate::error::Error;
use crate::map::{Heap, Map, Region, Tensor};
use crate::parallel::{self, CHUNK, Watch};
use crate::synth::Stream;
use crate::tensors::{Key, TensorSpec, Weight};

/// A tensor, or one expert's slice of it.
type PieceId = (Key, Option<ExpertId>);

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
    let wanted = wanted(checkpoint, options);
    let regions = match checkpoint.store() {
        Store::Files(_) => fetch(checkpoint, &wanted, options.threads, watch)?,
        Store::Synth(_) => make(checkpoint, &wanted, options.threads, watch)?,
    };
    let ids = wanted.iter().map(|piece| piece.id);
    let mut loaded = Loaded {
        regions: ids.zip(regions).collect(),
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
}

impl Loaded {
    fn take<T: Pod>(&mut self, key: Key, expert: Option<ExpertId>) -> Tensor<T> {
        let region = self.regions.remove(&(key, expert));
        Tensor::new(region.expect("every piece that is not shared was wanted"))
    }

    fn assemble(&mut self, checkpoint: &Checkpoint, options: &LoadOptions<'_>) -> RankWeights {
        let first = options.have.first();
        let layers = 0..checkpoint.geometry().num_layers();
        RankWeights {
            checkpoint: checkpoint.clone(),
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
                None => self.take(Key::Head, None),
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
        let mut take = |weight| self.take(Key::Layer(layer, weight), None);
        LayerWeights {
            input_norm: take(Weight::InputNorm),
            q: take(Weight::Query),
            q_bias: take(Weight::QueryBias),
            k: take(Weight::Key),
            k_bias: take(Weight::KeyBias),
            v: take(Weight::Value),
            v_bias: take(Weight::ValueBias),
            o: take(Weight::Output),
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
        let expert = Some(expert);
        Expert {
            gate_up_blocks: self.take(key(Weight::GateUpBlocks), expert),
            gate_up_scales: self.take(key(Weight::GateUpScales), expert),
            gate_up_bias: self.take(key(Weight::GateUpBias), expert),
            down_blocks: self.take(key(Weight::DownBlocks), expert),
            down_scales: self.take(key(Weight::DownScales), expert),
            down_bias: self.take(key(Weight::DownBias), expert),
        }
    }
}
