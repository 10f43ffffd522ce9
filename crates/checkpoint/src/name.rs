//! How a model is named on a command line: a folder, or a description.

use std::fmt;
use std::path::PathBuf;

use crate::synth::{PREFIX, Spec, SpecError};

/// Where a model's weights come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelName {
    /// A folder with a checkpoint in the published layout.
    Dir(PathBuf),
    /// A synthetic model, made in memory.
    Synth(Spec),
}

impl ModelName {
    /// Reads `synth:PRESET[,key=value]…`, or takes the text as a path.
    ///
    /// # Errors
    ///
    /// If a description cannot be read; a path is looked at only when it is opened.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        if text.starts_with(PREFIX) {
            Spec::parse(text).map(Self::Synth)
        } else {
            Ok(Self::Dir(PathBuf::from(text)))
        }
    }
}

impl std::str::FromStr for ModelName {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        Self::parse(text)
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dir(path) => path.display().fmt(f),
            Self::Synth(spec) => spec.fmt(f),
        }
    }
}
