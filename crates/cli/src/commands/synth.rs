//! `conclave synth`: writes a model of random weights in the published layout.

use std::ops::ControlFlow;
use std::path::Path;

use checkpoint::synth::{Spec, WriteOptions, Written};
use checkpoint::{Error, Progress, synth};
use indicatif::{ProgressBar, ProgressStyle};
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::args::SynthArgs;
use crate::model::synthetic_tokenizer;
use crate::size::show_bytes;
use crate::{Outcome, block_on, in_words, signals};

/// Exit status where a signal ended the work: that of a program ended by SIGINT.
pub(super) const INTERRUPTED: i32 = 130;

/// Writes the model and says what was written. Ctrl-C and SIGTERM end it; nothing stays then.
pub(crate) fn run(args: &SynthArgs) -> Outcome {
    let spec = spec(args)?;
    // The work blocks this thread; signals are listened for on another.
    block_on(async {
        let stop = signals::shutdown(false)?;
        // Where it is not listened for, a limit on the size of files (ulimit -f) kills the process,
        // which could not tidy up; this way writing fails with a reason.
        let too_large = signal(SignalKind::from_raw(Signal::XFSZ.as_raw()));
        drop(too_large.map_err(|error| format!("cannot listen for signals: {error}"))?);
        match write(&args.out, spec, args.overwrite, &stop) {
            Ok(written) => say(&written),
            Err(Failure::Write(Error::Cancelled)) => interrupted(&args.out),
            Err(failure) => return Err(failure.in_words()),
        }
        Ok(())
    })
}

fn say(written: &Written) {
    for (name, bytes) in &written.shards {
        println!("{name}  {bytes} bytes");
    }
    println!(
        "{}: {} in all",
        written.dir.display(),
        show_bytes(written.num_bytes)
    );
}

#[expect(
    clippy::disallowed_methods,
    reason = "what was written is removed by now, and scripts tell an interruption by its status"
)]
fn interrupted(dir: &Path) -> ! {
    eprintln!("error: interrupted; {} is as it was before", dir.display());
    std::process::exit(INTERRUPTED);
}

fn spec(args: &SynthArgs) -> Result<Spec, String> {
    let overrides = [
        ("layers", args.layers),
        ("experts", args.experts),
        ("hidden", args.hidden),
        ("intermediate", args.intermediate),
        ("vocab", args.vocab),
        ("heads", args.heads),
        ("kv_heads", args.kv_heads),
        ("head_dim", args.head_dim),
        ("seed", args.seed),
    ];
    let mut text = format!("synth:{}", args.preset);
    for (key, value) in overrides {
        if let Some(value) = value {
            text = format!("{text},{key}={value}");
        }
    }
    Spec::parse(&text).map_err(in_words)
}

/// Why no model was written.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The tokenizer could not be made.
    Tokenizer(String),
    Write(Error),
}

impl Failure {
    pub(crate) fn in_words(self) -> String {
        match self {
            Self::Tokenizer(why) => why,
            Self::Write(error) => in_words(error),
        }
    }
}

/// Writes a synthetic model with its tokenizer, unless told to stop; shows a progress bar on a
/// terminal.
pub(crate) fn write(
    dir: &Path,
    mut spec: Spec,
    overwrite: bool,
    stop: &CancellationToken,
) -> Result<Written, Failure> {
    let tokenizer = synthetic_tokenizer(&mut spec).map_err(Failure::Tokenizer)?;
    let files = [
        ("tokenizer.json".to_owned(), tokenizer.tokenizer_json),
        (
            "tokenizer_config.json".to_owned(),
            tokenizer.tokenizer_config,
        ),
        (
            "special_tokens_map.json".to_owned(),
            tokenizer.special_tokens_map,
        ),
    ];
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let options = WriteOptions {
        files: &files,
        overwrite,
        threads,
    };
    let bar = bytes_bar("writing");
    let written = synth::write(dir, &spec, &options, &mut |progress| {
        if stop.is_cancelled() {
            return ControlFlow::Break(());
        }
        advance(&bar, progress)
    });
    bar.finish_and_clear();
    written.map_err(Failure::Write)
}

/// A bar of bytes; hidden where there is no terminal.
pub(super) fn bytes_bar(what: &'static str) -> ProgressBar {
    let template = "{msg} [{bar:40}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    let style = ProgressStyle::with_template(template);
    let bar = ProgressBar::new(0).with_message(what);
    match style {
        Ok(style) => bar.with_style(style.progress_chars("=> ")),
        Err(_) => bar,
    }
}

/// Moves a bar; never stops the work.
pub(super) fn advance(bar: &ProgressBar, progress: Progress) -> ControlFlow<()> {
    bar.set_length(progress.total);
    bar.set_position(progress.done);
    ControlFlow::Continue(())
}
