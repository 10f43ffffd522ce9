//! Opens a folder: what the configuration promises against what the files hold.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::Path;
use std::sync::OnceLock;

use crate::checkpoint::{Checkpoint, Files, Place, Shard, Store};
use crate::config::ModelConfig;
use crate::fault::{FOLDER, Fault, Faults, What};
use crate::header::{self, Entry, Header};
use crate::index::{INDEX, Index};
use crate::tensors::{self, Key, TensorSpec};

/// Opens the checkpoint in `dir`, or says everything that is wrong with it.
pub(crate) fn open(dir: &Path) -> Result<Checkpoint, Faults> {
    let place = dir.display().to_string();
    let mut faults = Vec::new();
    if !dir.is_dir() {
        let error = std::fs::read_dir(dir).err();
        let error = error.unwrap_or_else(|| std::io::ErrorKind::NotADirectory.into());
        let why = error.to_string();
        let fault = Fault::file(FOLDER, What::Unreadable { why });
        return Faults::or(&place, vec![fault], None);
    }
    let collected = ModelConfig::collect(dir, &mut faults);
    let index = Index::read(dir, &mut faults);
    let opened = index.shards.iter();
    let (shards, headers): (Vec<Option<Shard>>, Vec<Option<Header>>) = opened
        .map(|name| open_shard(dir, name, &mut faults).unzip())
        .unzip();
    let found = Found::new(&index, &headers, &mut faults);
    // Also where something else is wrong with the configuration, so that all is told at once.
    let places = collected
        .geometry
        .and_then(|geometry| found.check(&tensors::expected(&geometry), &mut faults));
    let checkpoint = collected.config.zip(places).and_then(|(config, places)| {
        let files = Files {
            dir: dir.to_owned(),
            shards: shards.into_iter().collect::<Option<_>>()?,
            places,
            total_size: index.total_size,
        };
        Some(Checkpoint::new(config, Store::Files(files)))
    });
    Faults::or(&place, faults, checkpoint)
}

fn open_shard(dir: &Path, name: &str, faults: &mut Vec<Fault>) -> Option<(Shard, Header)> {
    let opened = File::open(dir.join(name)).and_then(|file| {
        let num_bytes = file.metadata()?.len();
        Ok((file, num_bytes))
    });
    match opened {
        Ok((file, num_bytes)) => {
            let header = header::read(&file, name, faults)?;
            let shard = Shard {
                name: name.to_owned(),
                file,
                num_bytes,
                map: OnceLock::new(),
            };
            Some((shard, header))
        }
        Err(error) => {
            faults.push(Fault::unreadable(name, &error));
            None
        }
    }
}

/// The tensors that the files hold, by name.
struct Found<'a> {
    index: &'a Index,
    /// Names the index gives, and the shard it gives them to.
    listed: HashMap<&'a str, usize>,
    tensors: HashMap<&'a str, (usize, u64, &'a Entry)>,
    /// Names that were reported with their file's header.
    unusable: HashSet<&'a str>,
    /// Whether a shard's header could be read; what the index says of the others is not missed.
    readable: Vec<bool>,
}

impl<'a> Found<'a> {
    fn new(index: &'a Index, headers: &'a [Option<Header>], faults: &mut Vec<Fault>) -> Self {
        let listed = index.tensors.iter().flatten();
        let listed = listed
            .map(|(name, shard)| (name.as_str(), *shard))
            .collect();
        let mut tensors = HashMap::new();
        let mut unusable = HashSet::new();
        let readable = headers.iter().enumerate();
        for (i, header) in readable.filter_map(|(i, header)| Some((i, header.as_ref()?))) {
            unusable.extend(header.unusable.iter().map(String::as_str));
            for entry in &header.entries {
                let found = (i, header.data_start, entry);
                if let Some((first, ..)) = tensors.insert(entry.name.as_str(), found) {
                    let other = index.shards[first].clone();
                    let what = What::TensorTwice { other };
                    faults.push(Fault::tensor(&index.shards[i], &entry.name, what));
                }
            }
        }
        Self {
            index,
            listed,
            tensors,
            unusable,
            readable: headers.iter().map(Option::is_some).collect(),
        }
    }

    /// Compares with what the model needs; the places are complete if no fault was found.
    fn check(
        &self,
        expected: &[TensorSpec],
        faults: &mut Vec<Fault>,
    ) -> Option<HashMap<Key, Place>> {
        let before = faults.len();
        let mut places = HashMap::with_capacity(expected.len());
        for tensor in expected {
            match self.tensors.get(tensor.name.as_str()) {
                Some((shard, data_start, entry)) => {
                    self.compare(tensor, *shard, *data_start, entry, faults);
                    // Offsets so large that they wrap were reported with the header.
                    let place = |offset: u64| data_start.saturating_add(offset);
                    let range = place(entry.range.start)..place(entry.range.end);
                    let shard = *shard;
                    places.insert(tensor.key, Place { shard, range });
                }
                None => self.report_missing(&tensor.name, faults),
            }
        }
        let names: HashSet<&str> = expected.iter().map(|tensor| tensor.name.as_str()).collect();
        let in_files = self
            .tensors
            .iter()
            .map(|(name, (shard, ..))| (*name, *shard));
        let listed = self.listed.iter().map(|(name, shard)| (*name, *shard));
        // A tensor that only the index knows is as foreign as one that only a file has.
        let unseen = listed
            .filter(|(name, _)| !self.tensors.contains_key(name) && !self.unusable.contains(name));
        let mut extra: Vec<(&str, usize)> = in_files.chain(unseen).collect();
        extra.retain(|(name, _)| !names.contains(name));
        extra.sort_by_key(|(name, shard)| (*shard, *name));
        for (name, shard) in extra {
            let file = &self.index.shards[shard];
            faults.push(Fault::tensor(file, name, What::TensorExtra));
        }
        (faults.len() == before).then_some(places)
    }

    fn compare(
        &self,
        tensor: &TensorSpec,
        shard: usize,
        data_start: u64,
        entry: &Entry,
        faults: &mut Vec<Fault>,
    ) {
        let file = &self.index.shards[shard];
        let mut report = |what| faults.push(Fault::tensor(file, &tensor.name, what));
        if entry.dtype != tensor.dtype.name() {
            report(What::WrongDtype {
                expected: tensor.dtype,
                found: entry.dtype.clone(),
            });
        }
        let shape = tensor.shape.iter().map(|side| *side as u64);
        if !shape.eq(entry.shape.iter().copied()) {
            report(What::WrongShape {
                expected: tensor.shape.clone(),
                found: entry.shape.clone(),
            });
        }
        let offset = data_start.saturating_add(entry.range.start);
        if !offset.is_multiple_of(tensor.dtype.size() as u64) {
            let dtype = tensor.dtype;
            report(What::Misaligned { offset, dtype });
        }
        match self.listed.get(tensor.name.as_str()) {
            Some(says) if *says != shard => report(What::WrongShard {
                index_says: self.index.shards[*says].clone(),
            }),
            None if self.index.tensors.is_some() => report(What::NotInIndex),
            _ => {}
        }
    }

    /// Reports a tensor that no readable file has, unless the file it should be in is to blame.
    fn report_missing(&self, name: &str, faults: &mut Vec<Fault>) {
        if self.unusable.contains(name) {
            return;
        }
        match self.listed.get(name) {
            Some(shard) if !self.readable[*shard] => {}
            Some(shard) => {
                let file = &self.index.shards[*shard];
                faults.push(Fault::tensor(file, name, What::TensorMissing));
            }
            None => {
                // Without any list of files the index is to blame, and was.
                if self.index.tensors.is_some() {
                    faults.push(Fault::tensor(INDEX, name, What::TensorMissing));
                } else if let Some(only) = self.index.shards.first()
                    && self.readable[0]
                {
                    faults.push(Fault::tensor(only, name, What::TensorMissing));
                }
            }
        }
    }
}
