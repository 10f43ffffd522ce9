//! Why a checkpoint could not be read, written or loaded.

use std::io;
use std::path::PathBuf;

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
    /// The system refused to write a file.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason; a full disk is told by its kind.
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
    /// The folder to write to holds something already.
    #[error("{} exists already; say that it may be overwritten, or choose another name", path.display())]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// The folder to overwrite holds something other than a checkpoint.
    #[error("{} is not a checkpoint (it has no config.json) and is not overwritten", path.display())]
    NotACheckpoint {
        /// The folder.
        path: PathBuf,
    },
    /// The disk has too little room for what is to be written.
    #[error("{} needs {needed} bytes, but its disk has {free} free", path.display())]
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
