//! Why a checkpoint could not be read, written or loaded.

use std::io;
use std::path::{Path, PathBuf};

use crate::fault::Faults;
use crate::synth::SpecError;

/// Why an operation on a checkpoint ended without a result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The checkpoint is not sound; says everything that is wrong with it.
    #[error(transparent)]
    Faults(#[from] Faults),
    /// The description of a synthetic model is not sound.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The system refused to read a file.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The system has no memory for weights.
    #[error("there is no memory for the weights; use fewer ranks on this machine, or a larger one")]
    Memory {
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The system refused to write a file.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The disk became full, or a quota was used up, while a file was written.
    #[error("the disk has no room left for {}; free some, or write to another disk", path.display())]
    Full {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// A file would become larger than the system allows.
    #[error(
        "{} may not become that large; raise the limit (ulimit -f), or write to another file system",
        path.display()
    )]
    FileTooLarge {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// A file changed between being checked and being used.
    #[error("{} is now {found} bytes long, but was {expected} when it was checked", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// Bytes when it was checked.
        expected: u64,
        /// Bytes now.
        found: u64,
    },
    /// A name under which no folder can be written.
    #[error("cannot write {}: {why}", path.display())]
    Unsuitable {
        /// The name.
        path: PathBuf,
        /// Why not, and what to do.
        why: &'static str,
    },
    /// The folder to write to holds something already.
    #[error("{} exists already; name another folder, or allow overwriting (--overwrite)", path.display())]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// The folder to overwrite holds something other than a checkpoint.
    #[error(
        "{} is not overwritten: it is no checkpoint (config.json with an index or a shard)",
        path.display()
    )]
    NotACheckpoint {
        /// The folder.
        path: PathBuf,
    },
    /// The model was written, but the one it replaced could not be removed.
    #[error("{} is written, but what it replaced is still in {}; delete that", path.display(), old.display())]
    OldRemains {
        /// The new model.
        path: PathBuf,
        /// The folder that holds the old one, or what is left of it.
        old: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// What a killed process left behind could not be removed.
    #[error("cannot remove {}, which a write that was killed left; delete it", path.display())]
    Stale {
        /// The folder.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The disk has too little room for what is to be written.
    #[error(
        "{} needs {needed} bytes, but its disk has {free} free; free some, or write to another disk",
        path.display()
    )]
    NoSpace {
        /// The folder.
        path: PathBuf,
        /// Bytes to write.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// A file that was to be written beside the weights has a name the layout needs, or a path.
    #[error("{name:?} cannot be the name of a file beside the weights")]
    FileName {
        /// The name.
        name: String,
    },
    /// The caller asked to stop.
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    /// The system refused to write `path`; what the operator can do depends on its reason.
    pub(crate) fn write(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::Full { path, source }
            }
            io::ErrorKind::FileTooLarge => Self::FileTooLarge { path, source },
            _ => Self::Write { path, source },
        }
    }
}
