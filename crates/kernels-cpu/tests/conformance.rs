//! The CPU back end against the contract, and against itself on other threads and instructions.

use std::num::NonZeroUsize;

use half::bf16;
use kernels::{
    Attend, Backend, Bf16, Combine, Embed, Experts, Linear, Packing, RmsNorm, Rotate, Route,
    StoreKv, conformance,
};
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
    for path in Cpu::on_every_path(threads(1)) {
        conformance::all(&path);
    }
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
    let best = Cpu::new(threads(1));
    for path in Cpu::on_every_path(threads(1)) {
        assert_eq!(best.numerics(), path.numerics());
        conformance::agree(&best, &path);
    }
}

#[test]
fn rounded_products_pass_every_case_on_every_path_and_any_number_of_threads() {
    let one = Cpu::fast(threads(1));
    conformance::all_rounded(&one);
    for path in Cpu::fast_on_every_path(threads(1)) {
        conformance::all_rounded(&path);
    }
    for count in [2, 3] {
        conformance::agree(&one, &Cpu::fast(threads(count)));
    }
}

#[test]
fn rounded_products_are_the_same_on_every_path() {
    let paths = Cpu::fast_on_every_path(threads(1));
    // Tiles are added in another order: `products_by_tiles_are_those_of_the_model`.
    for path in paths
        .iter()
        .filter(|path| path.numerics() != "fast-2-tiles")
    {
        conformance::agree(&paths[0], path);
    }
    conformance::agree(paths.last().unwrap(), &Cpu::fast(threads(1)));
}

/// A back end that is given its matrices as checkpoints hold them.
struct Unpacked(Cpu);

impl Backend for Unpacked {
    fn numerics(&self) -> &str {
        self.0.numerics()
    }

    fn packing(&self) -> Option<&'static dyn Packing> {
        None
    }

    fn embed(&self, args: Embed<'_>) {
        self.0.embed(args);
    }

    fn rms_norm(&self, args: RmsNorm<'_>) {
        self.0.rms_norm(args);
    }

    fn linear(&self, args: Linear<'_>) {
        self.0.linear(args);
    }

    fn rotate(&self, args: Rotate<'_>) {
        self.0.rotate(args);
    }

    fn store_kv(&self, args: StoreKv<'_>) {
        self.0.store_kv(args);
    }

    fn attend(&self, args: Attend<'_>) {
        self.0.attend(args);
    }

    fn route(&self, args: Route<'_>) {
        self.0.route(args);
    }

    fn run_experts(&self, args: Experts<'_>) {
        self.0.run_experts(args);
    }

    fn combine(&self, args: Combine<'_>) {
        self.0.combine(args);
    }
}

#[test]
fn a_matrix_that_is_not_packed_is_multiplied_exactly() {
    let (exact, fast) = (Cpu::new(threads(1)), Cpu::fast(threads(1)));
    conformance::agree(&exact, &Unpacked(fast));
}

#[test]
fn what_computes_otherwise_is_called_otherwise() {
    let exact = Cpu::new(threads(1));
    assert_eq!(exact.numerics(), "exact-2");
    assert!(exact.packing().is_none());
    for path in Cpu::fast_on_every_path(threads(1)) {
        assert_eq!(path.packing().unwrap().name(), "strips-1");
        // Numbers below the smallest normal one are zero to some: those that are read, and those that are made.
        for (weight, x) in [
            (bf16::from_bits(1), 2f32.powi(100)),
            (bf16::from_f32(2f32.powi(-70)), 2f32.powi(-70)),
        ] {
            let packing = path.packing().unwrap();
            let mut strip = vec![0; packing.bf16_bytes(2)];
            packing.bf16(&[weight, bf16::ZERO], 2, &mut strip);
            let mut out = [1.0];
            path.linear(Linear {
                x: &[x, 0.0],
                weight: Bf16::Packed(&strip),
                bias: None,
                inputs: 2,
                outputs: 1,
                accumulate: false,
                out: &mut out,
            });
            let expected = match path.numerics() {
                "fast-2" => x * weight.to_f32(),
                "fast-2-dots" | "fast-2-tiles" => 0.0,
                other => panic!("{other}"),
            };
            assert_eq!(out, [expected]);
        }
    }
}
