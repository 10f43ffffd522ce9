//! Where the value of a setting comes from.

use std::fmt;
use std::path::PathBuf;

/// Where the value of a setting comes from, the strongest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The command line.
    Flag,
    /// The environment variable of this name.
    Variable(String),
    /// The configuration file.
    File {
        /// As it was named.
        path: PathBuf,
        /// Of the key, from 1.
        line: usize,
    },
    /// What the program does when it is told nothing.
    Default,
    /// Nobody gave it, and it has no default.
    Unset,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("flag"),
            Self::Variable(name) => f.write_str(name),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Default => f.write_str("default"),
            Self::Unset => f.write_str("not set"),
        }
    }
}
