//! How fast weights are made, written, and brought into memory; run with `cargo bench -p checkpoint`.
#![expect(clippy::print_stdout, reason = "a benchmark prints")]

use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::time::Instant;

use checkpoint::synth::{self, Spec, WriteOptions};
use checkpoint::{Checkpoint, LoadOptions, PackedCache, Progress, RankWeights, verify};
use kernels::{Backend as _, Packing};
use kernels_cpu::Cpu;
use spec::{Placement, Rank};

fn go_on(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn timed<T>(what: &str, bytes: u64, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    let seconds = start.elapsed().as_secs_f64();
    let rate = bytes as f64 / 1e9 / seconds;
    println!("{what:<20}{seconds:7.2} s {rate:6.2} GB/s");
    result
}

fn load(checkpoint: &Checkpoint) -> RankWeights {
    load_as(checkpoint, None, None)
}

/// Loads in the layout of the back end that computes fast.
fn pack(checkpoint: &Checkpoint, cache: Option<&PackedCache>) -> RankWeights {
    let cpu = Cpu::fast(NonZeroUsize::MIN);
    load_as(checkpoint, cpu.packing(), cache)
}

fn load_as(
    checkpoint: &Checkpoint,
    packing: Option<&'static dyn Packing>,
    cache: Option<&PackedCache>,
) -> RankWeights {
    let geometry = checkpoint.geometry();
    let placement = Placement::even(geometry.num_layers(), geometry.num_experts, 1);
    let options = LoadOptions {
        placement: &placement,
        rank: Rank(0),
        threads: 2,
        have: &[],
        packing,
        cache,
    };
    RankWeights::load(checkpoint, &options, &mut go_on).expect("the load is not cancelled")
}

fn main() {
    // `cargo test --all-targets` runs this too, and should not write gigabytes.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let spec = Spec::parse("20b,layers=4,vocab=32768,seed=1").expect("a sound description");
    let made = Checkpoint::synth(&spec).expect("a sound description");
    let bytes = made.num_bytes();
    println!("{spec}: {bytes} bytes, two threads");
    drop(timed("made in memory", bytes, || load(&made)));
    let temp = tempfile::tempdir().expect("a folder for temporary files");
    let dir = temp.path().join("model");
    let options = WriteOptions {
        files: &[],
        overwrite: false,
        threads: 2,
    };
    timed("written to disk", bytes, || {
        synth::write(&dir, &spec, &options, &mut go_on).expect("the disk has room")
    });
    let disk = timed("opened", 0, || {
        Checkpoint::open(&dir).expect("what was written is sound")
    });
    timed("fingerprint", 0, || {
        disk.fingerprint().expect("the files can be read")
    });
    drop(timed("mapped and touched", bytes, || load(&disk)));
    timed("verified", bytes, || {
        verify(&dir, true, 2, &mut go_on).expect("what was written is sound")
    });
    let cache = PackedCache::new(temp.path().join("packed"));
    drop(timed("packed into memory", bytes, || pack(&disk, None)));
    drop(timed("packed and kept", bytes, || {
        pack(&disk, Some(&cache))
    }));
    drop(timed("found packed", bytes, || pack(&disk, Some(&cache))));
}
