//! `conclave bench`: measures the ops and whole passes on this machine.

mod kernels;
mod numerics;
mod passes;
mod serve;

use std::fs::Permissions;
use std::io::{self, Write as _};
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use checkpoint::{PackedCache, PackedNews, Progress};
use indicatif::ProgressBar;
use serde_json::Value;
use tempfile::NamedTempFile;
use tokio_util::sync::CancellationToken;
use worker::{Cores, Threads};

use super::synth::advance;
use super::worker::{packed_cache, threads};
use crate::args::{BenchArgs, BenchCommand, BenchModelArgs};
use crate::{Outcome, block_on, cores, in_words, mini, signals};

/// Measures what was asked for, prints a table, and writes the figures where a file is named. Ctrl-C and
/// SIGTERM end it after what is being measured, a second one at once.
pub(crate) fn run(args: BenchArgs) -> Outcome {
    cores::keep_to(args.command.cores())?;
    block_on(async {
        let stop = signals::shutdown(false)?;
        // Measuring blocks this thread; signals are listened for on another.
        match args.command {
            BenchCommand::Kernels(args) => kernels::run(&args, &stop),
            BenchCommand::Decode(args) => passes::decode(&args, &stop),
            BenchCommand::Prefill(args) => passes::prefill(&args, &stop),
            BenchCommand::Batch(args) => passes::batch(&args, &stop),
            BenchCommand::Numerics(args) => numerics::run(&args, &stop),
            BenchCommand::Serve(args) => tokio::select! {
                outcome = serve::run(args) => outcome,
                () = stop.cancelled() => Err(INTERRUPTED.into()),
            },
        }
    })
}

impl BenchCommand {
    /// Returns the cores that this process is to keep to.
    fn cores(&self) -> Option<&Cores> {
        let model = match self {
            Self::Kernels(args) => &args.model,
            Self::Decode(args) => &args.pass.model,
            Self::Prefill(args) => &args.pass.model,
            Self::Batch(args) => &args.pass.model,
            Self::Numerics(args) => &args.model,
            Self::Serve(_) => return None,
        };
        model.cores.as_ref()
    }
}

/// What is said where a signal has ended the work.
const INTERRUPTED: &str = "interrupted; nothing is written";

/// Says why nothing was measured.
fn stopped(error: bench::Error, stop: &CancellationToken) -> String {
    match stop.is_cancelled() {
        true => INTERRUPTED.into(),
        false => in_words(error),
    }
}

/// Moves a bar, and stops the work when told to.
fn show(bar: &ProgressBar, progress: Progress, stop: &CancellationToken) -> ControlFlow<()> {
    match stop.is_cancelled() {
        true => ControlFlow::Break(()),
        false => advance(bar, progress),
    }
}

impl BenchModelArgs {
    /// Returns the model's name; the one in the box is unpacked.
    fn named(&self) -> Result<String, String> {
        match &self.model {
            Some(name) => Ok(name.clone()),
            None => mini::folder().map(|folder| folder.display().to_string()),
        }
    }

    /// Returns where packed weights are kept.
    fn cache(&self) -> Option<PackedCache> {
        let cache = packed_cache(&self.packed_cache).map(PackedCache::new);
        // Where they lie changes how fast they are read, so that they do not lie there is said.
        cache.map(|cache| {
            cache.telling(|news| match news {
                PackedNews::Unusable { files, first } => {
                    eprintln!("{files} packed matrices are packed again; {first}");
                }
                PackedNews::NotKept { dir, why } => {
                    eprintln!("packed matrices cannot be kept in {}: {why}", dir.display());
                }
                PackedNews::Loaded { .. } => {}
            })
        })
    }

    /// Returns the threads of all ranks.
    fn all_threads(&self) -> Threads {
        threads(self.threads, self.cores.clone())
    }

    /// Shows them as flags.
    fn told_threads(&self) -> String {
        match self.all_threads() {
            Threads::Any(count) => format!("--threads {count}"),
            Threads::On(cores) => format!("--cores {cores}"),
        }
    }
}

/// A file that is asked for. That it cannot be written is told before anything is measured.
struct Report {
    flag: &'static str,
    path: PathBuf,
}

impl Report {
    /// Takes the file if one is named.
    fn begin(flag: &'static str, path: Option<&PathBuf>) -> Result<Option<Self>, String> {
        let report = path.cloned().map(|path| Self { flag, path });
        if let Some(report) = &report {
            drop(report.beside()?);
        }
        Ok(report)
    }

    /// A file in the same folder, gone when it is dropped.
    fn beside(&self) -> Result<NamedTempFile, String> {
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let file = tempfile::Builder::new()
            .prefix(".bench-")
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(folder);
        file.map_err(|error| self.failed(&error))
    }

    /// Writes the file at once.
    fn end(self, text: &str) -> Outcome {
        let is_file = |path: &Path| {
            path.symlink_metadata()
                .map_or(true, |about| about.is_file())
        };
        if !is_file(&self.path) {
            // A device, a pipe or a link is written to, and not replaced.
            let written = std::fs::write(&self.path, text);
            return written.map_err(|error| self.failed(&error));
        }
        let mut file = self.beside()?;
        let written = file.write_all(text.as_bytes());
        written.map_err(|error| self.failed(&error))?;
        let persisted = file.persist(&self.path);
        persisted.map_err(|error| self.failed(&error.error))?;
        Ok(())
    }

    fn failed(&self, error: &io::Error) -> String {
        format!("{} {}: {error}", self.flag, self.path.display())
    }

    fn end_json(self, figures: &Value) -> Outcome {
        self.end(&format!("{figures:#}\n"))
    }
}
