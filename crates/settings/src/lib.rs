//! A configuration file and environment variables for a clap command.
//!
//! Clap stays the only description of what settings exist: every option of the chosen subcommands that
//! is not hidden is also a key of the file, in the table named after its subcommand, and a variable. A
//! flag goes before a variable, a variable before the file, the file before the default:
//!
//! 1. clap reads the command line once and ignores what is wrong with it, to learn the subcommand, which
//!    flags are given, and which file;
//! 2. the file is checked as a whole, each value by clap's own parser of that option, and all that is
//!    wrong is told at once;
//! 3. what the file and the variables give and the command line does not is added to it as flags, and
//!    clap reads that. So whatever it checks (types, required options, conflicts) holds for all of it.
//!
//! Where somebody has misspelled a name, [`likely`] says which one was meant, also of what is no setting.

mod effective;
mod example;
mod file;
mod literal;
mod nearest;
mod origin;
mod problem;
mod resolve;
mod setting;

pub use effective::Effective;
pub use nearest::likely;
pub use origin::Origin;
pub use problem::{Error, Hint, Problem};
pub use resolve::Resolved;
pub use setting::Settings;
