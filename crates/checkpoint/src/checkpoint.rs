//! A checkpoint whose every tensor is known to be where and what it should be.

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use spec::{Geometry, Placement, Rank};

use crate::config::ModelConfig;
use crate::error::Error;
use crate::fault::Faults;
use crate::map::Map;
use crate::name::ModelName;
use crate::synth::{Spec, SpecError, Stream};
use crate::tensors::{self, Key, TensorSpec};

/// A model's weights, checked and ready to be loaded: on disk, or made in memory.
///
/// A clone is the same checkpoint. Nothing of the weights is read before it is asked for.
#[derive(Clone, Debug)]
pub struct Checkpoint(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: ModelConfig,
    tensors: Vec<TensorSpec>,
    store: Store,
}

#[derive(Debug)]
pub(crate) enum Store {
    Files(Files),
    Synth(Spec),
}

/// A checkpoint on disk.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) dir: PathBuf,
    pub(crate) shards: Vec<Shard>,
    pub(crate) places: HashMap<Key, Place>,
    /// Bytes of all tensors, as the index says.
    pub(crate) total_size: Option<u64>,
}

/// One file of weights, open and mapped when it is first needed.
#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) name: String,
    pub(crate) file: File,
    pub(crate) num_bytes: u64,
    pub(crate) map: OnceLock<Arc<Map>>,
}

/// Where a tensor's bytes lie.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) shard: usize,
    /// Counted from the start of the file.
    pub(crate) range: Range<u64>,
}

impl Checkpoint {
    /// Opens the checkpoint in a folder: reads configuration, index and headers, and checks
    /// every tensor's name, shape, type and place.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub fn open(dir: &Path) -> Result<Self, Faults> {
        crate::open::open(dir)
    }

    /// Makes a synthetic model in memory; no weight exists before it is asked for.
    ///
    /// # Errors
    ///
    /// If the description makes no model.
    pub fn synth(spec: &Spec) -> Result<Self, SpecError> {
        spec.check()?;
        let config = spec.config();
        Ok(Self::new(config, Store::Synth(spec.clone())))
    }

    /// Opens the checkpoint that `name` stands for.
    ///
    /// # Errors
    ///
    /// As [`Checkpoint::open`] or [`Checkpoint::synth`].
    pub fn named(name: &ModelName) -> Result<Self, Error> {
        Ok(match name {
            ModelName::Dir(dir) => Self::open(dir)?,
            ModelName::Synth(spec) => Self::synth(spec)?,
        })
    }

    pub(crate) fn new(config: ModelConfig, store: Store) -> Self {
        let tensors = tensors::expected(&config.geometry);
        Self(Arc::new(Inner {
            config,
            tensors,
            store,
        }))
    }

    /// Returns what the configuration says.
    #[must_use]
    pub fn config(&self) -> &ModelConfig {
        &self.0.config
    }

    /// Returns the model's numbers.
    #[must_use]
    pub fn geometry(&self) -> &Geometry {
        &self.0.config.geometry
    }

    /// Returns every tensor: the layers in order, then embedding, norm and head.
    #[must_use]
    pub fn tensors(&self) -> &[TensorSpec] {
        &self.0.tensors
    }

    /// Returns the folder; `None` if the model is made in memory.
    #[must_use]
    pub fn dir(&self) -> Option<&Path> {
        match self.store() {
            Store::Files(files) => Some(&files.dir),
            Store::Synth(_) => None,
        }
    }

    /// Returns how to name this checkpoint to [`Checkpoint::named`].
    #[must_use]
    pub fn name(&self) -> ModelName {
        match self.store() {
            Store::Files(files) => ModelName::Dir(files.dir.clone()),
            Store::Synth(spec) => ModelName::Synth(spec.clone()),
        }
    }

    /// Returns the bytes of all tensors.
    #[must_use]
    pub fn num_bytes(&self) -> u64 {
        self.tensors().iter().map(TensorSpec::num_bytes).sum()
    }

    /// Returns the bytes that every rank holds: all but the experts.
    #[must_use]
    pub fn replicated_bytes(&self) -> u64 {
        let replicated = self.tensors().iter().filter(|t| !t.key.is_expert());
        replicated.map(TensorSpec::num_bytes).sum()
    }

    /// Returns the bytes of one expert of one layer.
    #[must_use]
    pub fn expert_bytes(&self) -> u64 {
        let of_first_layer =
            |t: &&TensorSpec| t.key.is_expert() && matches!(t.key, Key::Layer(0, _));
        let pieces = self.tensors().iter().filter(of_first_layer);
        pieces.map(TensorSpec::piece_bytes).sum()
    }

    /// Returns the bytes of weights that a rank holds.
    ///
    /// # Panics
    ///
    /// If the placement has fewer layers than the model.
    #[must_use]
    pub fn bytes_for_rank(&self, placement: &Placement, rank: Rank) -> u64 {
        let layers = 0..self.geometry().num_layers();
        let held: usize = layers
            .map(|layer| placement.held_by(layer, rank).count())
            .sum();
        self.replicated_bytes() + held as u64 * self.expert_bytes()
    }

    /// Returns whether `other` is this very checkpoint, opened once.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(crate) fn store(&self) -> &Store {
        &self.0.store
    }

    /// Copies the tensor's bytes from `first` on, without mapping its file.
    pub(crate) fn read(
        &self,
        tensor: &TensorSpec,
        first: u64,
        out: &mut [u8],
    ) -> Result<(), Error> {
        match self.store() {
            Store::Synth(spec) => Stream::new(spec, tensor).fill(first, out),
            Store::Files(files) => {
                let place = &files.places[&tensor.key];
                let shard = &files.shards[place.shard];
                let read = shard.file.read_exact_at(out, place.range.start + first);
                read.map_err(|source| Error::Read {
                    path: files.dir.join(&shard.name),
                    source,
                })?;
            }
        }
        Ok(())
    }
}

impl Files {
    /// Returns the map of a shard, made on first use.
    pub(crate) fn map(&self, shard: usize) -> Result<Arc<Map>, Error> {
        let shard = &self.shards[shard];
        if let Some(map) = shard.map.get() {
            return Ok(Arc::clone(map));
        }
        let path = || self.dir.join(&shard.name);
        let mapped = Map::open(&shard.file);
        let map = mapped.map_err(|source| Error::Read {
            path: path(),
            source,
        })?;
        let found = map.bytes().len() as u64;
        if found != shard.num_bytes {
            return Err(Error::Changed {
                path: path(),
                expected: shard.num_bytes,
                found,
            });
        }
        Ok(Arc::clone(shard.map.get_or_init(|| Arc::new(map))))
    }
}
