//! Writes a synthetic model to a folder, whole or not at all.
//!
//! Everything goes into a hidden folder beside the wanted one, is flushed to disk, and takes the
//! wanted name by a rename. Whatever fails or is cancelled before that leaves nothing behind.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process;

use super::layout::{Layout, Shard};
use super::texts::{config_json, generation_json};
use super::{Spec, Stream};
use crate::config::{CONFIG, GENERATION};
use crate::error::Error;
use crate::index::INDEX;
use crate::parallel::{self, CHUNK, Watch};

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
/// the watch cancels. Then `dir` is as it was before.
pub fn write(
    dir: &Path,
    spec: &Spec,
    options: &WriteOptions<'_>,
    watch: &mut Watch<'_>,
) -> Result<Written, Error> {
    spec.check()?;
    let layout = Layout::new(spec);
    check_names(options.files, &layout)?;
    check_target(dir, options.overwrite)?;

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

    let partial = Partial::create(dir)?;
    check_space(dir, &partial.path, num_bytes)?;
    for (name, text) in texts {
        let path = partial.path.join(name);
        let written = File::create(&path).and_then(|mut file| {
            file.write_all(text)?;
            file.sync_all()
        });
        written.map_err(|source| Error::Write { path, source })?;
    }
    write_shards(&partial.path, spec, &layout.shards, options.threads, watch)?;
    partial.finish(dir)?;
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

/// A range of one tensor, and where in its file it goes.
struct Piece<'a> {
    path: &'a Path,
    file: &'a File,
    stream: &'a Stream,
    first: u64,
    len: usize,
    offset: u64,
}

fn write_shards(
    dir: &Path,
    spec: &Spec,
    shards: &[Shard],
    threads: usize,
    watch: &mut Watch<'_>,
) -> Result<(), Error> {
    let mut files = Vec::with_capacity(shards.len());
    for shard in shards {
        let path = dir.join(&shard.name);
        let created = File::create(&path).and_then(|file| {
            file.set_len(shard.num_bytes())?;
            file.write_all_at(&shard.header, 0)?;
            Ok(file)
        });
        match created {
            Ok(file) => files.push((path, file)),
            Err(source) => return Err(Error::Write { path, source }),
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
        written.map_err(|source| Error::Write {
            path: piece.path.to_owned(),
            source,
        })?;
        line.report(piece.len as u64)
    })?;
    for (path, file) in files {
        file.sync_all()
            .map_err(|source| Error::Write { path, source })?;
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

/// Refuses a folder that is in use, and one that is no checkpoint even if it may be overwritten.
fn check_target(dir: &Path, overwrite: bool) -> Result<(), Error> {
    let path = dir.to_owned();
    let is_empty = match fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return Err(Error::NotACheckpoint { path });
        }
        Err(source) => return Err(Error::Write { path, source }),
    };
    match (is_empty, overwrite) {
        (true, _) => Ok(()),
        (false, false) => Err(Error::Exists { path }),
        (false, true) if dir.join(CONFIG).exists() => Ok(()),
        (false, true) => Err(Error::NotACheckpoint { path }),
    }
}

/// Refuses to begin what cannot end.
fn check_space(dir: &Path, partial: &Path, needed: u64) -> Result<(), Error> {
    let disk = rustix::fs::statvfs(partial).map_err(|error| Error::Write {
        path: partial.to_owned(),
        source: error.into(),
    })?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free < needed {
        let path = dir.to_owned();
        return Err(Error::NoSpace { path, needed, free });
    }
    Ok(())
}

/// A folder on its way; removed unless it is finished.
struct Partial {
    path: PathBuf,
    finished: bool,
}

impl Partial {
    fn create(dir: &Path) -> Result<Self, Error> {
        let path = beside(dir, "partial")?;
        fs::create_dir(&path).map_err(|source| Error::Write {
            path: dir.to_owned(),
            source,
        })?;
        let finished = false;
        Ok(Self { path, finished })
    }

    /// Gives the folder its name, replacing what has it.
    fn finish(mut self, dir: &Path) -> Result<(), Error> {
        let failed = |source| Error::Write {
            path: dir.to_owned(),
            source,
        };
        sync_dir(&self.path).map_err(failed)?;
        // A rename replaces an empty folder, but not one that holds something.
        let old = beside(dir, "replaced")?;
        let replaces = fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some());
        if replaces {
            fs::rename(dir, &old).map_err(failed)?;
        }
        if let Err(source) = fs::rename(&self.path, dir) {
            if replaces {
                fs::rename(&old, dir).map_err(failed)?;
            }
            return Err(failed(source));
        }
        self.finished = true;
        if let Some(parent) = self.path.parent() {
            sync_dir(parent).map_err(failed)?;
        }
        if replaces {
            fs::remove_dir_all(&old).map_err(failed)?;
        }
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.finished {
            // Nothing more can be done where even removing fails; the first error is reported.
            fs::remove_dir_all(&self.path).unwrap_or_default();
        }
    }
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Returns a hidden name in the same folder, unique to this process.
fn beside(dir: &Path, what: &str) -> Result<PathBuf, Error> {
    // Through the file system, so that "." and "a/.." have a name and a parent too.
    let whole = std::path::absolute(dir).map_err(|source| Error::Write {
        path: dir.to_owned(),
        source,
    })?;
    let (Some(parent), Some(name)) = (whole.parent(), whole.file_name()) else {
        return Err(Error::NotACheckpoint {
            path: dir.to_owned(),
        });
    };
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{what}-{}", process::id()));
    Ok(parent.join(hidden))
}
