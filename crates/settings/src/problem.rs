//! What can be wrong, in words that say where and what to do.

use std::fmt;
use std::io::{self, Write as _};
use std::path::PathBuf;

use thiserror::Error;

use crate::origin::Origin;

/// Why there are no settings.
#[derive(Debug)]
pub enum Error {
    /// The command line asks for help or the version, or is refused by clap.
    CommandLine {
        /// What clap says.
        error: Box<clap::Error>,
        /// Flags that it speaks of and that nobody typed, with where they come from.
        notes: Vec<String>,
    },
    /// Settings are wrong or missing; all of them are told.
    Problems(Vec<Problem>),
}

impl Error {
    /// Prints it as clap prints its errors: help and version to the standard output, all else to the
    /// standard error.
    ///
    /// # Errors
    ///
    /// When the output cannot be written.
    pub fn print(&self) -> io::Result<()> {
        match self {
            Self::CommandLine { error, notes } => {
                error.print()?;
                let mut out = io::stderr().lock();
                notes
                    .iter()
                    .try_for_each(|note| writeln!(out, "note: {note}"))
            }
            Self::Problems(_) => writeln!(io::stderr().lock(), "{self}"),
        }
    }

    /// Returns the status to exit with: 0 for help and version, 2 for all else.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::CommandLine { error, .. } if !error.use_stderr() => 0,
            Self::CommandLine { .. } | Self::Problems(_) => 2,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CommandLine { error, notes } => {
                let notes: String = notes.iter().map(|note| format!("\nnote: {note}")).collect();
                write!(f, "{error}{notes}")
            }
            Self::Problems(problems) => {
                let lines: Vec<String> = problems.iter().map(|p| format!("error: {p}")).collect();
                f.write_str(&lines.join("\n"))
            }
        }
    }
}

impl std::error::Error for Error {}

/// One thing that is wrong with the file, a variable, or the settings together.
#[derive(Debug, Error)]
pub enum Problem {
    /// The file is not there, is no file, or may not be read.
    #[error("cannot read {} (named by {named_by}): {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The flag or variable that names it.
        named_by: String,
        /// What the system says.
        source: io::Error,
    },
    /// The file is longer than any file of settings.
    #[error("{} has more than {limit} bytes: that is no file of settings", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Most bytes.
        limit: u64,
    },
    /// The file is not TOML.
    #[error("{at}: not TOML: {message}")]
    Syntax {
        /// Where.
        at: Origin,
        /// What is wrong.
        message: String,
    },
    /// No setting has this key.
    #[error("{at}: unknown key `{key}`{}; {hint}", under(table))]
    UnknownKey {
        /// Where.
        at: Origin,
        /// As written.
        key: String,
        /// Where it stands.
        table: Option<String>,
        /// What may have been meant.
        hint: Hint,
    },
    /// No command has this table.
    #[error("{at}: unknown table [{table}]; {hint}")]
    UnknownTable {
        /// Where.
        at: Origin,
        /// As written.
        table: String,
        /// What may have been meant.
        hint: Hint,
    },
    /// The value is of the wrong type.
    #[error("{at}: `{key}`{}: expected {expected}, found {found}", under(table))]
    WrongType {
        /// Where.
        at: Origin,
        /// The setting.
        key: String,
        /// Where it stands.
        table: Option<String>,
        /// What the setting takes.
        expected: String,
        /// What there is.
        found: String,
    },
    /// Clap refuses the value.
    #[error(
        "{origin}: {}expected {expected}, found '{value}': {reason}",
        setting_in(key, table)
    )]
    Refused {
        /// Who gives the value.
        origin: Origin,
        /// The setting, where the origin does not name it.
        key: Option<String>,
        /// Where it stands.
        table: Option<String>,
        /// What the value should be, in a word.
        expected: String,
        /// As written.
        value: String,
        /// Why it is not taken.
        reason: String,
    },
    /// Nobody gives what is required.
    #[error(
        "`{key}` is missing: give it as {flag}, as {variable}, or as `{key}`{} in {file}",
        under(table)
    )]
    Missing {
        /// The setting.
        key: String,
        /// Its flag.
        flag: String,
        /// Its variable.
        variable: String,
        /// Where its key stands.
        table: Option<String>,
        /// The file, or how to name one.
        file: String,
    },
}

impl Problem {
    /// Returns the line of the file that it is about.
    pub(crate) fn line(&self) -> Option<usize> {
        match self {
            Self::Syntax { at, .. }
            | Self::UnknownKey { at, .. }
            | Self::UnknownTable { at, .. }
            | Self::WrongType { at, .. }
            | Self::Refused { origin: at, .. } => match at {
                Origin::File { line, .. } => Some(*line),
                _ => None,
            },
            Self::Unreadable { .. } | Self::TooLong { .. } | Self::Missing { .. } => None,
        }
    }
}

fn under(table: &Option<String>) -> String {
    let under = |table| format!(" under [{table}]");
    table.as_ref().map(under).unwrap_or_default()
}

fn setting_in(key: &Option<String>, table: &Option<String>) -> String {
    let named = |key| format!("`{key}`{}: ", under(table));
    key.as_ref().map(named).unwrap_or_default()
}

/// What somebody who wrote an unknown name may have meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// The known name that is most like it.
    Nearest(String),
    /// It is known, and belongs under these tables.
    BelongsUnder(Vec<String>),
    /// It is known, and belongs at the top of the file.
    BelongsAtTheTop,
    /// Nothing is known here.
    NothingIsKnown,
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nearest(name) => write!(f, "the nearest known one is `{name}`"),
            Self::BelongsUnder(tables) => {
                let tables: Vec<String> = tables.iter().map(|table| format!("[{table}]")).collect();
                write!(f, "it belongs under {}", tables.join(" or "))
            }
            Self::BelongsAtTheTop => f.write_str("it belongs at the top, above all tables"),
            Self::NothingIsKnown => f.write_str("none is known here"),
        }
    }
}
