//! Writes the checkpoints that `tests/golden/make.py` runs, one folder for each case, with its
//! fingerprint beside it: `write_golden_checkpoints DIR`.

use std::error::Error;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use checkpoint::Checkpoint;
use checkpoint::synth::{Spec, WriteOptions, write};
use serde_json::Value;

const CASES: &str = include_str!("../tests/golden/cases.json");

fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::args().nth(1).ok_or("which folder to write to?")?;
    let dir = Path::new(&dir);
    fs::create_dir_all(dir)?;
    let cases: Vec<Value> = serde_json::from_str(CASES)?;
    for case in &cases {
        let text = |key: &str| case[key].as_str().ok_or(format!("a case lacks its {key}"));
        let (name, spec) = (text("name")?, Spec::parse(text("spec")?)?);
        let folder = dir.join(name);
        let options = WriteOptions {
            files: &[],
            overwrite: true,
            threads: 2,
        };
        write(&folder, &spec, &options, &mut |_| ControlFlow::Continue(()))?;
        let fingerprint = Checkpoint::open(&folder)?.fingerprint()?;
        fs::write(
            dir.join(format!("{name}.fingerprint")),
            fingerprint.to_string(),
        )?;
    }
    Ok(())
}
