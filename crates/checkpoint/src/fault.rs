//! What can be wrong with a checkpoint, found all at once and said one a line.

use std::fmt;

use spec::{GeometryError, SamplingError};

use crate::tensors::Dtype;

/// What a fault of the whole folder names in the place of a file.
pub(crate) const FOLDER: &str = "the folder";

/// One thing that is wrong with a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file it is in, by its name inside the checkpoint's folder, or `the folder`.
    pub file: String,
    /// The tensor it concerns, if it is about one.
    pub tensor: Option<String>,
    /// What is wrong.
    pub what: What,
}

/// The kinds of fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum What {
    /// A file that must be there is not.
    #[error("the file is missing")]
    FileMissing,
    /// The system refused to open or read a file.
    #[error("cannot be read: {why}")]
    Unreadable {
        /// The system's reason.
        why: String,
    },
    /// A `.safetensors` file lies in the folder without being part of the model.
    #[error("is not named by the index; move it away")]
    FileExtra,
    /// The index names a shard in a way that could leave the folder.
    #[error("names the shard {shard:?}, which is not a plain *.safetensors file name")]
    ShardName {
        /// The name found.
        shard: String,
    },
    /// A file of text is larger than any real one.
    #[error("is {size} bytes long; more than {limit} are not read")]
    TooLarge {
        /// Bytes of the file.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// A shard ends before its header does.
    #[error("is {size} bytes long, but its header needs {needed}: the file is truncated")]
    HeaderTruncated {
        /// Bytes of the file.
        size: u64,
        /// Bytes of length field and header.
        needed: u64,
    },
    /// The length field of a header is absurd.
    #[error("says that its header is {length} bytes long (limit {limit}): not a safetensors file")]
    HeaderLength {
        /// The length it says.
        length: u64,
        /// The limit.
        limit: u64,
    },
    /// The text is not JSON, or a key appears twice.
    #[error("not valid JSON: {why}")]
    Json {
        /// The parser's reason, with line and column.
        why: String,
    },
    /// A part of a JSON text has another form than the format says.
    #[error("{key}: expected {expected}, found {found}")]
    Key {
        /// Path of the key.
        key: String,
        /// What the format or this program wants.
        expected: String,
        /// What is there, shortened.
        found: String,
    },
    /// A JSON text lacks a key.
    #[error("{key} is missing")]
    KeyMissing {
        /// Path of the key.
        key: String,
    },
    /// The configuration describes a model that cannot be served.
    #[error("{0}")]
    Geometry(GeometryError),
    /// A sampling setting is out of its range.
    #[error("{0}")]
    Sampling(SamplingError),
    /// A shard's size is not what its header adds up to.
    #[error("is {found} bytes long, but its header describes {expected}{}", truncated(*.expected, *.found))]
    FileSize {
        /// Header and data as the header describes them.
        expected: u64,
        /// Bytes of the file.
        found: u64,
    },
    /// Bytes of a shard belong to no tensor.
    #[error("data bytes {from}..{to} belong to no tensor")]
    Gap {
        /// First byte, counted from the start of the data.
        from: u64,
        /// Byte after the last.
        to: u64,
    },
    /// Two tensors share bytes.
    #[error("data bytes {from}..{to} are also those of {other}")]
    Overlap {
        /// The other tensor.
        other: String,
        /// First byte shared, counted from the start of the data.
        from: u64,
        /// Byte after the last.
        to: u64,
    },
    /// A tensor's offsets point past the end of the file.
    #[error("data offsets {from}..{to} do not lie inside the file's {available} data bytes")]
    OutOfRange {
        /// Where it begins.
        from: u64,
        /// Where it ends.
        to: u64,
        /// Data bytes of the file.
        available: u64,
    },
    /// A tensor's bytes do not fit its shape.
    #[error("shape {shape:?} of {dtype} needs {expected} bytes, but the offsets span {found}")]
    Length {
        /// The shape in the header.
        shape: Vec<u64>,
        /// The element type in the header.
        dtype: String,
        /// Bytes by shape and type.
        expected: u128,
        /// Bytes by the offsets.
        found: u64,
    },
    /// A tensor of two-byte elements begins at an odd byte of its file.
    #[error("begins at byte {offset} of the file; {dtype} must begin at an even one")]
    Misaligned {
        /// Offset in the file.
        offset: u64,
        /// Its element type.
        dtype: Dtype,
    },
    /// The model needs a tensor that no file has.
    #[error("is missing")]
    TensorMissing,
    /// A tensor the model does not have.
    #[error("is not a tensor of this model")]
    TensorExtra,
    /// A tensor is in two files.
    #[error("is also in {other}")]
    TensorTwice {
        /// The file in which it was found first.
        other: String,
    },
    /// A tensor is in another file than the index says.
    #[error("belongs in {index_says} by the index")]
    WrongShard {
        /// The file the index names.
        index_says: String,
    },
    /// A tensor is in a file, but the index does not list it.
    #[error("is not listed in the index")]
    NotInIndex,
    /// A tensor has another element type than the model's.
    #[error("expected {expected}, found {found}")]
    WrongDtype {
        /// The model's.
        expected: Dtype,
        /// The file's.
        found: String,
    },
    /// A tensor has another shape than the configuration says.
    #[error("expected shape {expected:?}, found {found:?}")]
    WrongShape {
        /// By the configuration.
        expected: Vec<usize>,
        /// In the file.
        found: Vec<u64>,
    },
    /// Scale bytes that stand for no number (255, the NaN of the E8M0 format).
    #[error("{count} scale bytes are 255 (not a number), the first at element {first}")]
    ScaleNan {
        /// How many.
        count: u64,
        /// Index of the first.
        first: u64,
    },
    /// Elements that are infinite or not a number.
    #[error("{count} elements are infinite or not a number, the first at element {first}")]
    NotFinite {
        /// How many.
        count: u64,
        /// Index of the first.
        first: u64,
    },
}

/// Adds the likely cause to a size that is too small.
fn truncated(expected: u64, found: u64) -> &'static str {
    if found < expected {
        ": the file is truncated"
    } else {
        ""
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.tensor {
            Some(tensor) => write!(f, "{}: {tensor}: {}", self.file, self.what),
            None => write!(f, "{}: {}", self.file, self.what),
        }
    }
}

impl Fault {
    /// A fault of a file as a whole.
    pub(crate) fn file(file: &str, what: What) -> Self {
        Self {
            file: file.to_owned(),
            tensor: None,
            what,
        }
    }

    /// A fault of one tensor.
    pub(crate) fn tensor(file: &str, tensor: &str, what: What) -> Self {
        Self {
            file: file.to_owned(),
            tensor: Some(tensor.to_owned()),
            what,
        }
    }

    /// A fault of the system's making.
    pub(crate) fn unreadable(file: &str, error: &std::io::Error) -> Self {
        let what = match error.kind() {
            std::io::ErrorKind::NotFound => What::FileMissing,
            _ => What::Unreadable {
                why: error.to_string(),
            },
        };
        Self::file(file, what)
    }
}

/// All faults of a checkpoint; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    /// The checkpoint.
    pub place: String,
    /// The faults, in the order in which a reader would repair them: configuration, index, files,
    /// tensors.
    pub list: Vec<Fault>,
}

impl Faults {
    /// Returns `value` if nothing is wrong, else all that is.
    pub(crate) fn or<T>(place: &str, list: Vec<Fault>, value: Option<T>) -> Result<T, Self> {
        match value {
            Some(value) if list.is_empty() => Ok(value),
            _ => {
                debug_assert!(!list.is_empty(), "nothing was read, yet nothing is wrong");
                Err(Self {
                    place: place.to_owned(),
                    list,
                })
            }
        }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.list.len();
        let noun = if count == 1 { "fault" } else { "faults" };
        write!(f, "{}: {count} {noun}", self.place)?;
        for fault in &self.list {
            write!(f, "\n  {fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}
