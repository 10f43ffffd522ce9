//! Writes a synthetic model to a folder, whole or not at all.
//!
//! Everything goes into a hidden folder beside the wanted one, is flushed to disk, and takes the
//! wanted name by a rename. Whatever fails or is cancelled before that leaves nothing behind; what
//! a killed process leaves, the next write to the same place removes.

mod partial;
mod target;

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use self::partial::Partial;
use self::target::Target;
use super::layout::{Layout, Shard};
use super::texts::{config_json, generation_json};
use super::{Spec, Stream};
use crate::config::{CONFIG, GENERATION};
use crate::error::Error;
use crate::index::INDEX;
use crate::parallel::{self, CHUNK, Progress, Watch};

/// How to write.
#[derive(Clone, Copy, Debug)]
pub struct WriteOptions<'a> {
    /// Files to lay beside the weights, by name: the tokenizer's.
    pub files: &'a [(String, Vec<u8>)],
    /// Whether a checkpoint that is there already is replaced.
    pub overwrite: bool,
    /// Threads that make values.
    pub threads: usize,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The folder.
    pub dir: PathBuf,
    /// Name and bytes of each file of weights.
    pub shards: Vec<(String, u64)>,
    /// Bytes of all files.
    pub num_bytes: u64,
}

/// Writes the model to `dir`, which must not exist or be empty unless it may be overwritten.
///
/// # Errors
///
/// If the description makes no model, the folder is in use, the disk is too small or fails, or
/// the watch cancels. Then `dir` is as it was before, but for what may fail after the new model has
/// taken its place: [`Error::OldRemains`], and an [`Error::Write`] that names the folder around `dir`,
/// whose entry may not have reached the disk.
pub fn write(
    dir: &Path,
    spec: &Spec,
    options: &WriteOptions<'_>,
    watch: &mut Watch<'_>,
) -> Result<Written, Error> {
    spec.check()?;
    let layout = Layout::new(spec);
    check_names(options.files, &layout)?;
    let target = Target::locate(dir, options.overwrite)?;
    partial::remove_stale(&target)?;
    target.replaces()?;

    let texts = [
        (CONFIG, config_json(spec)),
        (GENERATION, generation_json(spec)),
        (INDEX, layout.index.clone()),
    ];
    let texts: Vec<(&str, &[u8])> = texts
        .iter()
        .map(|(name, text)| (*name, text.as_bytes()))
        .chain(
            options
                .files
                .iter()
                .map(|(name, bytes)| (name.as_str(), bytes.as_slice())),
        )
        .collect();
    let weights: u64 = layout.shards.iter().map(Shard::num_bytes).sum();
    let num_bytes = weights + texts.iter().map(|(_, text)| text.len() as u64).sum::<u64>();

    check_space(&target, num_bytes)?;
    let partial = Partial::create(&target)?;
    for (name, text) in texts {
        let written = File::create(partial.new.join(name)).and_then(|mut file| {
            file.write_all(text)?;
            file.sync_all()
        });
        written.map_err(|source| Error::write(&dir.join(name), source))?;
    }
    let dirs = Dirs {
        grows_in: &partial.new,
        named: dir,
    };
    write_shards(&dirs, spec, &layout.shards, options.threads, watch)?;
    partial.finish(&target)?;
    Ok(Written {
        dir: dir.to_owned(),
        shards: layout
            .shards
            .iter()
            .map(|shard| (shard.name.clone(), shard.num_bytes()))
            .collect(),
        num_bytes,
    })
}

/// The folder that files are made in, and the one that messages name.
struct Dirs<'a> {
    grows_in: &'a Path,
    named: &'a Path,
}

/// A range of one tensor, and where in its file it goes.
struct Piece<'a> {
    /// Where the file will be.
    path: &'a Path,
    file: &'a File,
    stream: &'a Stream,
    first: u64,
    len: usize,
    offset: u64,
}

fn write_shards(
    dirs: &Dirs<'_>,
    spec: &Spec,
    shards: &[Shard],
    threads: usize,
    watch: &mut Watch<'_>,
) -> Result<(), Error> {
    let mut files = Vec::with_capacity(shards.len());
    for shard in shards {
        let path = dirs.named.join(&shard.name);
        let created = File::create(dirs.grows_in.join(&shard.name)).and_then(|file| {
            file.set_len(shard.num_bytes())?;
            file.write_all_at(&shard.header, 0)?;
            Ok(file)
        });
        match created {
            Ok(file) => files.push((path, file)),
            Err(source) => return Err(Error::write(&path, source)),
        }
    }
    let streams: Vec<Vec<Stream>> = shards
        .iter()
        .map(|shard| shard.tensors.iter().map(|t| Stream::new(spec, t)).collect())
        .collect();
    let mut pieces = Vec::new();
    for ((shard, streams), (path, file)) in shards.iter().zip(&streams).zip(&files) {
        let mut start = shard.header.len() as u64;
        for (tensor, stream) in shard.tensors.iter().zip(streams) {
            let size = tensor.num_bytes();
            for first in (0..size).step_by(CHUNK) {
                pieces.push(Piece {
                    path,
                    file,
                    stream,
                    first,
                    len: (size - first).min(CHUNK as u64) as usize,
                    offset: start + first,
                });
            }
            start += size;
        }
    }
    let total = pieces.iter().map(|piece| piece.len as u64).sum();
    parallel::run(pieces, threads, total, watch, |piece, line| {
        let mut bytes = vec![0; piece.len];
        piece.stream.fill(piece.first, &mut bytes);
        let written = piece.file.write_all_at(&bytes, piece.offset);
        written.map_err(|source| Error::write(piece.path, source))?;
        line.report(piece.len as u64)
    })?;
    // A disk may take long to catch up, so whoever waits can still stop after each file.
    let done = Progress { done: total, total };
    for (path, file) in files {
        let flushed = file.sync_all();
        flushed.map_err(|source| Error::write(&path, source))?;
        if watch(done).is_break() {
            return Err(Error::Cancelled);
        }
    }
    Ok(())
}

/// Refuses names that would leave the folder or replace a file of the layout.
fn check_names(files: &[(String, Vec<u8>)], layout: &Layout) -> Result<(), Error> {
    for (i, (name, _)) in files.iter().enumerate() {
        let ours = [CONFIG, GENERATION, INDEX].contains(&name.as_str())
            || layout.shards.iter().any(|shard| shard.name == *name)
            || name.ends_with(".safetensors");
        let twice = files[..i].iter().any(|(other, _)| other == name);
        let is_plain = Path::new(name).file_name() == Some(name.as_ref());
        if ours || twice || !is_plain {
            let name = name.clone();
            return Err(Error::FileName { name });
        }
    }
    Ok(())
}

/// Refuses to begin what cannot end.
fn check_space(target: &Target, needed: u64) -> Result<(), Error> {
    let disk = rustix::fs::statvfs(target.parent());
    let disk = disk.map_err(|error| Error::write(target.parent(), error.into()))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free < needed {
        let path = target.named().to_owned();
        return Err(Error::NoSpace { path, needed, free });
    }
    Ok(())
}
