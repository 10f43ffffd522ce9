//! `conclave synth`: writes a model of random weights in the published layout.

use std::ops::ControlFlow;
use std::path::Path;

use checkpoint::synth::{Spec, WriteOptions, Written};
use checkpoint::{Progress, synth};
use indicatif::{ProgressBar, ProgressStyle};

use crate::Outcome;
use crate::args::SynthArgs;
use crate::in_words;
use crate::model::synthetic_tokenizer;
use crate::size::show_bytes;

/// Writes the model and says what was written.
pub(crate) fn run(args: &SynthArgs) -> Outcome {
    let spec = spec(args)?;
    let written = write(&args.out, spec, false)?;
    for (name, bytes) in &written.shards {
        println!("{name}  {bytes} bytes");
    }
    println!(
        "{}: {} in all",
        written.dir.display(),
        show_bytes(written.num_bytes)
    );
    Ok(())
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

/// Writes a synthetic model with its tokenizer; shows a progress bar on a terminal.
pub(crate) fn write(dir: &Path, mut spec: Spec, overwrite: bool) -> Result<Written, String> {
    let tokenizer = synthetic_tokenizer(&mut spec)?;
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
        advance(&bar, progress)
    });
    bar.finish_and_clear();
    written.map_err(in_words)
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
