//! `conclave inspect`: a model's facts, its bytes per rank, and whether its files are sound.

use checkpoint::{ModelName, Report, verify};

use super::synth::{advance, bytes_bar};
use crate::Outcome;
use crate::args::InspectArgs;
use crate::in_words;
use crate::model::open_checkpoint;

/// Prints the report; with `--checksum` reads every byte.
pub(crate) fn run(args: &InspectArgs) -> Outcome {
    let checkpoint = open_checkpoint(&args.model)?;
    let report = Report::new(&checkpoint, &[args.ranks as usize]);
    print!("{}", report.map_err(in_words)?);
    if !args.checksum {
        return Ok(());
    }
    let ModelName::Dir(dir) = checkpoint.name() else {
        return Err("--checksum reads files; a synthetic model in memory has none".into());
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let bar = bytes_bar("reading");
    let verified = verify(&dir, true, threads, &mut |progress| advance(&bar, progress));
    bar.finish_and_clear();
    let verified = verified.map_err(in_words)?;
    println!();
    for file in &verified.files {
        let sum = file.sha256.as_deref().unwrap_or_default();
        println!("{sum}  {:>14}  {}", file.num_bytes, file.name);
    }
    if verified.faults.is_empty() {
        println!("every byte was read; nothing is wrong");
        return Ok(());
    }
    let faults: Vec<String> = verified.faults.iter().map(ToString::to_string).collect();
    Err(format!("{} faults\n{}", faults.len(), faults.join("\n")))
}
