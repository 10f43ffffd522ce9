//! The model against transformers' GptOssForCausalLM in float32: `make.py` says what the
//! files hold and how they are made again.
//! `mutations` then gets one thing wrong at a time, and demands that this is noticed.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a helper of tests fails as a test does, and says what it measured"
)]

mod compare;
mod file;
mod mistakes;
mod mutations;
mod session;
mod stages;
mod twist;

use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::Arc;

use checkpoint::Checkpoint;
use checkpoint::synth::{Spec, WriteOptions, write};
use kernels::{Attend, Backend, Reference};
use kernels_cpu::Cpu;
use model::Rotary;

use crate::compare::compare;
use crate::file::Golden;
use crate::session::whole_model;
use crate::twist::{Twist, Twisted};

/// Rows of a part; not a divisor of the prompts' lengths.
const CHUNK: usize = 500;

fn cpu() -> Arc<dyn Backend> {
    Arc::new(Cpu::new(NonZeroUsize::new(2).unwrap()))
}

/// The golden's model in memory; fails if its weights are not those the golden was made with.
fn model_of(golden: &Golden) -> Checkpoint {
    let checkpoint = Checkpoint::synth(&Spec::parse(&golden.spec).unwrap()).unwrap();
    assert_eq!(
        checkpoint.fingerprint().unwrap().to_string(),
        golden.fingerprint,
        "{} makes other weights now; run tests/golden/make.py again",
        golden.spec
    );
    checkpoint
}

fn demand(golden: &Golden, checkpoint: &Checkpoint, backend: Arc<dyn Backend>) {
    let numerics = backend.numerics().to_owned();
    let found = compare(golden, &whole_model(checkpoint), backend, CHUNK);
    println!("{} on {numerics}: {found:?}", golden.name);
    let faults = found.faults(golden);
    assert!(
        faults.is_empty(),
        "{} on {numerics}: {faults:?}",
        golden.name
    );
}

fn on_cpu(name: &str) {
    let golden = Golden::read(name);
    demand(&golden, &model_of(&golden), cpu());
}

fn on_both(name: &str) {
    on_cpu(name);
    let golden = Golden::read(name);
    demand(&golden, &model_of(&golden), Arc::new(Reference));
}

#[test]
fn rotary_frequencies_are_torchs_bit_by_bit() {
    for name in ["tiny-1", "deep-24", "wide-20"] {
        let golden = Golden::read(name);
        let checkpoint = model_of(&golden);
        let geometry = checkpoint.geometry();
        let rotary = Rotary::new(&geometry.rope, geometry.head_dim);
        assert_eq!(rotary.inv_freq, golden.inv_freq, "{name}");
    }
}

#[test]
fn a_single_token() {
    on_both("tiny-1");
}

#[test]
fn several_windows() {
    on_both("tiny-40");
}

#[test]
fn prompts_around_the_published_window() {
    for name in ["window-127", "window-128", "window-129"] {
        on_both(name);
    }
}

#[test]
fn more_than_two_published_windows() {
    on_both("window-300");
}

#[test]
fn past_the_original_context() {
    on_cpu("long-4600");
    on_cpu("long-9000");
}

#[test]
fn the_published_widths() {
    on_cpu("wide-20");
    on_cpu("wide-150");
}

#[test]
fn a_hundred_and_twenty_eight_experts_and_two_digit_layers() {
    on_both("deep-24");
}

#[test]
fn files_that_split_layers() {
    let golden = Golden::read("tiny-40");
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("model");
    let options = WriteOptions {
        files: &[],
        overwrite: false,
        threads: 2,
    };
    let spec = Spec::parse(&golden.spec).unwrap();
    let written = write(&dir, &spec, &options, &mut |_| ControlFlow::Continue(())).unwrap();
    assert!(written.shards.len() >= 4, "{written:?}");
    let checkpoint = Checkpoint::open(&dir).unwrap();
    assert_eq!(
        checkpoint.fingerprint().unwrap().to_string(),
        golden.fingerprint
    );
    demand(&golden, &checkpoint, cpu());
}

/// Attends in full layers only where the rows are read. The model has one such layer, its last, so
/// the other rows of its output go nowhere; computing them would take minutes.
struct OnlyFrom {
    position: usize,
}

impl Twist for OnlyFrom {
    fn attend(&self, inner: &dyn Backend, args: Attend<'_>) {
        let end = args.spans.iter().map(|span| span.start + span.len).max();
        if args.window.is_none() && end.is_some_and(|end| end <= self.position) {
            args.out.fill(0.0);
        } else {
            inner.attend(args);
        }
    }
}

#[test]
fn the_last_position() {
    let golden = Golden::read("far-131072");
    let position = golden.first_row;
    let twist = Arc::new(OnlyFrom { position });
    let backend = Twisted {
        inner: cpu(),
        twist,
    };
    demand(&golden, &model_of(&golden), Arc::new(backend));
}
