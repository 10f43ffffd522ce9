//! The CPU back end against the contract, and against itself on other threads and instructions.

use std::num::NonZeroUsize;

use kernels::{Backend, conformance};
use kernels_cpu::Cpu;

fn threads(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).expect("at least one")
}

#[test]
fn passes_every_case() {
    conformance::all(&Cpu::new(threads(2)));
}

#[test]
fn passes_every_case_on_any_processor() {
    conformance::all(&Cpu::scalar(threads(1)));
}

#[test]
fn gives_the_same_bits_on_any_number_of_threads() {
    let one = Cpu::new(threads(1));
    for count in [2, 3] {
        conformance::agree(&one, &Cpu::new(threads(count)));
    }
}

#[test]
fn gives_the_same_bits_on_any_processor() {
    let (best, scalar) = (Cpu::new(threads(1)), Cpu::scalar(threads(1)));
    assert_eq!(best.numerics(), scalar.numerics());
    conformance::agree(&best, &scalar);
}
