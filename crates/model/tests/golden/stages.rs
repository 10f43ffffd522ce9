//! Every stage of every layer against transformers: where a difference begins.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use kernels::{Attend, Backend, Combine, Embed, Route, StoreKv};

use crate::compare::worse;
use crate::file::Golden;
use crate::session::{Session, whole_model};
use crate::twist::{Twist, Twisted};
use crate::{cpu, model_of};

/// Keeps what the ops of a single prefill take and make, by stage; one entry a layer.
#[derive(Default)]
struct Stages {
    made: Mutex<HashMap<&'static str, Vec<Vec<f32>>>>,
}

impl Stages {
    fn keep(&self, stage: &'static str, values: &[f32]) {
        let mut made = self.made.lock().unwrap();
        made.entry(stage).or_default().push(values.to_vec());
    }
}

impl Twist for Stages {
    fn embed(&self, inner: &dyn Backend, args: Embed<'_>) {
        inner.embed(Embed {
            out: &mut *args.out,
            ..args
        });
        self.keep("embedding", args.out);
    }

    fn store_kv(&self, inner: &dyn Backend, args: StoreKv<'_>) {
        self.keep("k", args.k);
        self.keep("v", args.v);
        inner.store_kv(args);
    }

    fn attend(&self, inner: &dyn Backend, args: Attend<'_>) {
        inner.attend(Attend {
            out: &mut *args.out,
            ..args
        });
        self.keep("q", args.q);
        self.keep("attended", args.out);
    }

    fn route(&self, inner: &dyn Backend, args: Route<'_>) {
        self.keep("router", args.logits);
        inner.route(args);
    }

    fn combine(&self, inner: &dyn Backend, args: Combine<'_>) {
        let mut added = vec![0.0; args.x.len()];
        inner.combine(Combine {
            x: &mut added,
            ..args
        });
        self.keep("mixture", &added);
        inner.combine(args);
    }
}

/// Largest difference at the positions that the golden keeps; NaN if one is.
fn difference(golden: &Golden, found: &[f32], expected: &[f32]) -> f64 {
    let width = found.len() / golden.prompt.len();
    assert_eq!(expected.len(), golden.stages.len() * width);
    let rows = golden.stages.iter().zip(expected.chunks(width));
    let pairs = rows.flat_map(|(position, expected)| {
        let found = &found[position * width..(position + 1) * width];
        found.iter().zip(expected)
    });
    pairs.fold(0.0, |so_far, (found, expected)| {
        worse(so_far, *found, *expected)
    })
}

#[test]
fn every_stage_of_every_layer() {
    for name in ["tiny-1", "tiny-40"] {
        let golden = Golden::read(name);
        let checkpoint = model_of(&golden);
        let stages = Arc::new(Stages::default());
        let backend = Arc::new(Twisted {
            inner: cpu(),
            twist: Arc::clone(&stages),
        });
        let len = golden.prompt.len();
        let weights = whole_model(&checkpoint);
        let mut session = Session::new(&weights, backend, &golden.inv_freq, len);
        session.prefill(&golden.prompt, len, len, &mut |_, _| ());

        let made = stages.made.lock().unwrap();
        let embedding = difference(&golden, &made["embedding"][0], golden.stage("embedding"));
        assert_eq!(embedding, 0.0, "{name}: the embedding is a copy");
        for layer in 0..checkpoint.geometry().num_layers() {
            for stage in ["q", "k", "v", "attended", "router", "mixture"] {
                let expected = golden.stage(&format!("{layer}.{stage}"));
                let found = difference(&golden, &made[stage][layer], expected);
                let at = format!("{name}, layer {layer}, {stage}");
                println!("{at}: {found:.2e}");
                assert!(found <= golden.tolerance, "{at}: {found}");
            }
        }
    }
}

#[test]
fn a_stage_that_is_not_a_number_differs() {
    let golden = Golden::read("tiny-1");
    assert_eq!(golden.stages, [0]);
    let expected = [0.5; 3];
    assert_eq!(difference(&golden, &[0.5, 0.25, 0.5], &expected), 0.25);
    for place in 0..3 {
        let mut found = expected;
        found[place] = f32::NAN;
        assert!(difference(&golden, &found, &expected).is_nan(), "{place}");
    }
}
