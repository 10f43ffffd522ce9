//! `conclave bench numerics`: how far rounding changes what a model says.

use std::num::NonZeroUsize;

use bench::{Agreement, Shape};
use serde_json::json;
use spec::TokenId;
use tokio_util::sync::CancellationToken;

use super::super::synth::bytes_bar;
use super::{Report, show, stopped};
use crate::Outcome;
use crate::args::NumericsArgs;
use crate::commands::worker::numerics;
use crate::model::{self, Model};

pub(super) fn run(args: &NumericsArgs, stop: &CancellationToken) -> Outcome {
    let report = Report::begin("--json", args.model.json.as_ref())?;
    let name = args.model.named()?;
    let model = model::open(&name)?;
    let tokens = tokens(args, &model)?;
    let shape = Shape {
        ranks: NonZeroUsize::MIN,
        threads: args.model.all_threads(),
        numerics: numerics(&args.model.numerics)?,
        cache: args.model.cache(),
        step_rows: 1,
        sequences: 1,
        positions: tokens.len(),
    };
    let bar = bytes_bar("loading");
    let found = Agreement::measure(&model.checkpoint, &shape, &tokens, &mut |progress| {
        show(&bar, progress, stop)
    });
    bar.finish_and_clear();
    let found = found.map_err(|error| stopped(error, stop))?;
    let numerics = &args.model.numerics;
    println!("{name}: {numerics} against exact");
    println!("| numerics | tokens | mean KLD | 99 % KLD | same top % | error of logits % |");
    println!("|---|---|---|---|---|---|");
    println!(
        "| {numerics} | {} | {:.2e} | {:.2e} | {:.2} | {:.2} |",
        tokens.len(),
        found.kld.mean(),
        found.kld.percentile(99.0),
        100.0 * found.same_top.mean(),
        100.0 * found.logit_error.mean(),
    );
    let figures = json!({
        "model": name,
        "numerics": numerics,
        "tokens": tokens.len(),
        "mean_kld": found.kld.mean(),
        "same_top": found.same_top.mean(),
        "logit_error": found.logit_error.mean(),
        "samples": found,
    });
    report.map_or(Ok(()), |report| report.end_json(&figures))
}

/// Returns the beginning of the text, or tokens drawn at random.
fn tokens(args: &NumericsArgs, model: &Model) -> Result<Vec<TokenId>, String> {
    let most = args.tokens.get();
    let Some(file) = &args.text else {
        let vocab = model.checkpoint.geometry().vocab_size as u32;
        let mut random = fastrand::Rng::with_seed(0);
        return Ok((0..most).map(|_| TokenId(random.u32(..vocab))).collect());
    };
    let text = std::fs::read_to_string(file);
    let text = text.map_err(|error| format!("--text {}: {error}", file.display()))?;
    let mut tokens = model.tokenizer.encode_with_special(&text);
    tokens.truncate(most);
    match tokens.is_empty() {
        true => Err(format!("--text {}: there is no text in it", file.display())),
        false => Ok(tokens),
    }
}
