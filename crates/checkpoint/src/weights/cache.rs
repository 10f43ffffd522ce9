//! Packed matrices on disk, a file each, so that they are packed once and shared by all processes of a
//! machine that serve the same checkpoint.
//!
//! A file holds the bytes of the matrix and then a mark, a length and a digest. The digest is also of what
//! the bytes are of (checkpoint, layout, tensor), so that a file in the place of another is found out. A
//! file is written under another name and then renamed; it is never changed. So it may be mapped, and the
//! folder may be deleted at any time: who has mapped a file keeps it.

use std::fs::{self, File, Permissions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use rustix::fs::statvfs;
use sha2::{Digest, Sha256};
use tempfile::TempPath;

use super::pack::Source;
use crate::checkpoint::{Checkpoint, Store};
use crate::error::Error;
use crate::map::{Map, Region};

/// Ends every file; another format has another.
const MARK: &[u8; 16] = b"conclave packed1";
/// What follows the matrix: the mark, its length, and the digest.
const TRAILER: usize = MARK.len() + size_of::<u64>() + blake3::OUT_LEN;
/// What unfinished files are called.
const UNFINISHED: &str = ".packing-";
/// Locked by all who write files.
const WRITERS: &str = "writers.lock";
/// Locked by who packs what every rank needs; experts are mostly of one rank.
const SHARED_MATRICES: &str = "shared.lock";
/// Bytes that are left free on the disk.
const SPARE: u64 = 256 << 20;

/// Where packed matrices are kept, for any number of checkpoints.
#[derive(Clone, Debug)]
pub struct PackedCache {
    dir: PathBuf,
    /// Bytes of weights below which nothing is kept.
    least: u64,
    tell: fn(&PackedNews),
}

/// What happened to packed matrices in a load, for operators.
#[derive(Clone, Debug)]
pub enum PackedNews {
    /// Some that were kept cannot be used, and are packed again.
    Unusable {
        /// How many.
        files: usize,
        /// The first of them, and what is wrong with it.
        first: String,
    },
    /// Some cannot be kept: they are packed into memory, and again at the next start.
    NotKept {
        /// Where they should have been kept.
        dir: PathBuf,
        /// Why they are not.
        why: String,
    },
    /// All are there.
    Loaded {
        /// Where they are kept.
        dir: PathBuf,
        /// Those that were found.
        found: usize,
        /// Those that were packed and are kept.
        packed: usize,
        /// Those that were packed and are not.
        in_memory: usize,
    },
}

/// What a cache holds of one checkpoint in one layout.
#[derive(Debug)]
pub(super) struct Shelf {
    pub(super) dir: PathBuf,
    /// What all digests begin with.
    of: String,
    pub(super) tell: fn(&PackedNews),
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    #[error("it is not there")]
    Missing,
    #[error(transparent)]
    Io(io::Error),
    #[error("it is not a packed matrix of this version")]
    OtherVersion,
    #[error("it has {found} bytes in the place of {expected}")]
    Length { found: u64, expected: u64 },
    #[error("its bytes are not those that were written")]
    Damaged,
}

impl PackedCache {
    /// Returns the cache in a folder, which is made when something is put into it. Loads of less than
    /// 64 MiB are not kept: packing takes no longer than looking for what is packed.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            least: 64 << 20,
            tell: |_| {},
        }
    }

    /// Tells news of loads to `tell`.
    #[must_use]
    pub fn telling(self, tell: fn(&PackedNews)) -> Self {
        Self { tell, ..self }
    }

    /// Keeps loads of any size.
    #[must_use]
    pub fn of_any_size(self) -> Self {
        Self { least: 0, ..self }
    }

    /// Returns where it is.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the place of a checkpoint of which so many bytes are wanted; `None` if they are few, or made
    /// in memory.
    pub(super) fn shelf(
        &self,
        checkpoint: &Checkpoint,
        layout: &str,
        bytes: u64,
    ) -> Result<Option<Shelf>, Error> {
        let files = match checkpoint.store() {
            Store::Files(files) if bytes >= self.least => files,
            _ => return Ok(None),
        };
        let mut of = format!("{} {layout}\n", checkpoint.fingerprint()?);
        for shard in &files.shards {
            // A fingerprint looks at the ends of tensors alone; a file that was written since is another.
            let path = || files.dir.join(&shard.name);
            let changed = shard.file.metadata().and_then(|about| about.modified());
            let changed = changed.map_err(|source| Error::Read {
                path: path(),
                source,
            })?;
            let changed = changed.duration_since(UNIX_EPOCH).unwrap_or_default();
            of.push_str(&format!("{} {}\n", shard.num_bytes, changed.as_nanos()));
        }
        let name = Sha256::digest(&of);
        let name: String = name
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Ok(Some(Shelf {
            dir: self.dir.join(name),
            of,
            tell: self.tell,
        }))
    }
}

impl Shelf {
    /// The file of a matrix.
    pub(super) fn file(&self, source: &Source<'_>) -> PathBuf {
        match source.id {
            (_, Some(expert)) => self.dir.join(format!("{}.{expert}", source.name())),
            (_, None) => self.dir.join(source.name()),
        }
    }

    /// Maps a matrix, after reading all of it.
    pub(super) fn open(&self, source: &Source<'_>) -> Result<Region, Unusable> {
        let (path, len) = (&self.file(source), source.num_bytes());
        let file = File::open(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => Unusable::Missing,
            _ => Unusable::Io(error),
        })?;
        let (found, expected) = (
            file.metadata().map_err(Unusable::Io)?.len(),
            (len + TRAILER) as u64,
        );
        if found != expected {
            return Err(Unusable::Length { found, expected });
        }
        let map = Map::open_large(&file).map_err(Unusable::Io)?;
        let (bytes, trailer) = map.bytes().split_at(len);
        if &trailer[..MARK.len()] != MARK {
            return Err(Unusable::OtherVersion);
        }
        if trailer != self.trailer(path, bytes) {
            return Err(Unusable::Damaged);
        }
        Ok(Region::Mapped {
            map: Arc::new(map),
            range: 0..len,
        })
    }

    /// Says that this process is about to write files, for as long as what is returned lives. Where no other
    /// does, what a killed one has left unfinished is removed.
    pub(super) fn enter(&self) -> io::Result<File> {
        fs::create_dir_all(&self.dir)?;
        let lock = self.lock_file(WRITERS)?;
        if lock.try_lock().is_ok() {
            for entry in fs::read_dir(&self.dir)? {
                let entry = entry?;
                if entry
                    .file_name()
                    .as_encoded_bytes()
                    .starts_with(UNFINISHED.as_bytes())
                {
                    fs::remove_file(entry.path())?;
                }
            }
        }
        // Nobody has it for themselves for longer than that takes.
        lock.lock_shared()?;
        Ok(lock)
    }

    /// Takes the right to pack the matrices that every rank needs, for as long as what is returned lives;
    /// `None` while another process has it.
    pub(super) fn lock_shared_matrices(&self) -> io::Result<Option<File>> {
        let lock = self.lock_file(SHARED_MATRICES)?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(lock)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn lock_file(&self, name: &str) -> io::Result<File> {
        let mut options = File::options();
        options.write(true).create(true).truncate(false);
        options.open(self.dir.join(name))
    }

    /// Makes files for matrices, if there is room for all of them. They are gone with what is returned.
    pub(super) fn make_room(&self, sources: &[Source<'_>]) -> io::Result<Vec<TempPath>> {
        let needed: u64 = sources.iter().map(|source| source.num_bytes() as u64).sum();
        let disk = statvfs(&self.dir)?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free < needed + SPARE {
            let why =
                format!("{free} bytes are free where {needed} are needed, and {SPARE} to spare");
            return Err(io::Error::new(ErrorKind::StorageFull, why));
        }
        let files = sources.iter().map(|_| {
            let file = tempfile::Builder::new()
                .prefix(UNFINISHED)
                .permissions(Permissions::from_mode(0o644))
                .tempfile_in(&self.dir)?;
            // There are thousands, and a process may have far fewer open.
            Ok(file.into_temp_path())
        });
        files.collect()
    }

    /// Ends a file whose matrix is written, and gives it its name.
    pub(super) fn finish(&self, source: &Source<'_>, file: TempPath) -> io::Result<Region> {
        let (path, len) = (self.file(source), source.num_bytes());
        let map = Map::open(&File::open(&file)?)?;
        let trailer = self.trailer(&path, &map.bytes()[..len]);
        drop(map);
        let end = File::options().write(true).open(&file)?;
        end.write_all_at(&trailer, len as u64)?;
        file.persist(&path).map_err(|error| error.error)?;
        Ok(Region::Mapped {
            map: Arc::new(Map::open_large(&File::open(&path)?)?),
            range: 0..len,
        })
    }

    fn trailer(&self, path: &Path, bytes: &[u8]) -> [u8; TRAILER] {
        let mut hash = blake3::Hasher::new();
        hash.update(self.of.as_bytes());
        hash.update(path.file_name().unwrap_or_default().as_encoded_bytes());
        hash.update(b"\n");
        hash.update(bytes);
        let mut trailer = [0; TRAILER];
        trailer[..MARK.len()].copy_from_slice(MARK);
        trailer[MARK.len()..][..8].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
        trailer[MARK.len() + 8..].copy_from_slice(hash.finalize().as_bytes());
        trailer
    }
}
