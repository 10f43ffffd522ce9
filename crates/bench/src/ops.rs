//! Single ops at the sizes of a model, on its weights. What caches hold is pushed out before each run, as all
//! the other weights of a step would push it out.

mod small;

use std::ops::ControlFlow;
use std::time::Instant;

use checkpoint::{Checkpoint, LayerWeights, LoadOptions, PackedCache, Pages, RankWeights, Watch};
use half::bf16;
use kernels::{Attend, Backend, Bf16, ExpertWork, Experts, KvLayout, Linear, Span};
use kernels_cpu::{Cpu, Numerics, Threads, Unit};
use serde::Serialize;
use spec::{BlockId, ExpertId, Geometry, Placement, Rank};

use crate::error::Error;
use crate::limits::Probe;
use crate::samples::Samples;

/// Positions of a block of KV, as coordinators choose it.
const BLOCK: usize = 16;
/// Runs of an op that are measured.
const RUNS: usize = 15;

/// An op, how much work it is, and how long it took.
#[derive(Clone, Debug, Serialize)]
pub struct Op {
    /// What it is.
    pub name: String,
    /// Rows that it computes at once.
    pub rows: usize,
    /// Multiplications and additions.
    pub operations: f64,
    /// Bytes of weights or KV, each read once.
    pub bytes: f64,
    /// What it multiplies; `None` for an op that does next to nothing with what it reads.
    #[serde(serialize_with = "name")]
    pub unit: Option<Unit>,
    /// Seconds of each run.
    pub seconds: Samples,
}

fn name<S: serde::Serializer>(unit: &Option<Unit>, to: S) -> Result<S::Ok, S::Error> {
    unit.map(Unit::name).serialize(to)
}

impl Op {
    /// Returns the operations a second, in each run.
    #[must_use]
    pub fn rates(&self) -> Samples {
        Samples(
            self.seconds
                .0
                .iter()
                .map(|seconds| self.operations / seconds)
                .collect(),
        )
    }

    /// Returns the bytes read a second, in each run.
    #[must_use]
    pub fn reads(&self) -> Samples {
        Samples(
            self.seconds
                .0
                .iter()
                .map(|seconds| self.bytes / seconds)
                .collect(),
        )
    }
}

/// What is measured.
#[derive(Clone, Debug)]
pub struct Which {
    /// Threads that compute.
    pub threads: Threads,
    /// How they compute.
    pub numerics: Numerics,
    /// Where packed weights are kept.
    pub cache: Option<PackedCache>,
    /// Rows computed at once.
    pub rows: Vec<usize>,
    /// Positions that attention looks back on.
    pub context: usize,
}

/// Loads the weights of a model and measures its ops, telling each when it is measured; `tell` stops it.
///
/// # Errors
///
/// If the weights cannot be loaded, there is no memory for keys and values, or the caller stops.
pub fn measure(
    checkpoint: &Checkpoint,
    which: &Which,
    probe: &Probe,
    watch: &mut Watch<'_>,
    tell: &mut dyn FnMut(&Op) -> ControlFlow<()>,
) -> Result<Vec<Op>, Error> {
    let geometry = checkpoint.geometry();
    let backend = Cpu::with(which.numerics, &which.threads).map_err(Error::Bind)?;
    let options = LoadOptions {
        placement: &Placement::even(geometry.num_layers(), geometry.num_experts, 1),
        rank: Rank(0),
        threads: which.threads.count(),
        have: &[],
        packing: backend.packing(),
        cache: which.cache.as_ref(),
    };
    let bench = Bench {
        weights: &RankWeights::load(checkpoint, &options, watch)?,
        backend: &backend,
        units: match which.numerics {
            Numerics::Exact => [Unit::F32; 2],
            Numerics::Fast => [Unit::Bf16, Unit::Bytes],
        },
        probe,
    };
    let mut ops = Vec::new();
    let mut take = |op: Op| {
        let told = tell(&op);
        ops.push(op);
        match told {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Cancelled),
        }
    };
    for rows in &which.rows {
        bench.matrices(*rows, &mut take)?;
        take(bench.experts(*rows))?;
        bench.small(*rows, &mut take)?;
    }
    for window in [None, Some(geometry.sliding_window)] {
        for rows in which.rows.iter().filter(|rows| **rows <= which.context) {
            take(bench.attention(*rows, which.context, window)?)?;
        }
    }
    Ok(ops)
}

/// Takes a measured op; fails if the caller stops.
type Take<'a> = dyn FnMut(Op) -> Result<(), Error> + 'a;

/// What ops are measured with.
struct Bench<'a> {
    backend: &'a dyn Backend,
    /// Of one rank that holds all experts.
    weights: &'a RankWeights,
    /// What the large matrices are multiplied with, and the experts.
    units: [Unit; 2],
    probe: &'a Probe,
}

impl Bench<'_> {
    /// Measures the products of a layer and the head with so many rows. Logits are computed for few rows of a
    /// prompt, so the head is left out where there are more.
    fn matrices(&self, rows: usize, take: &mut Take<'_>) -> Result<(), Error> {
        let geometry = self.weights.checkpoint().geometry();
        let (hidden, query, kv) = (geometry.hidden, geometry.query_width(), geometry.kv_width());
        let (experts, dense) = (geometry.num_experts, self.units[0]);
        type Pick = fn(&LayerWeights) -> Bf16<'_>;
        let layers: [(&str, Pick, [usize; 2], Unit); 4] = [
            (
                "q projection",
                |layer| layer.q.view(),
                [hidden, query],
                dense,
            ),
            ("k projection", |layer| layer.k.view(), [hidden, kv], dense),
            (
                "o projection",
                |layer| layer.o.view(),
                [query, hidden],
                dense,
            ),
            // It is computed exactly everywhere.
            (
                "router",
                |layer| Bf16::Rows(&layer.router),
                [hidden, experts],
                Unit::F32,
            ),
        ];
        for (name, pick, [inputs, outputs], unit) in layers {
            let matrices = self.weights.layers.iter().map(pick).collect::<Vec<_>>();
            take(self.linear((name, unit), &matrices, (rows, inputs, outputs)))?;
        }
        if rows <= model::MAX_LOGIT_ROWS {
            let head = [self.weights.head.view()];
            let size = (rows, hidden, geometry.vocab_size);
            take(self.linear(("head", dense), &head, size))?;
        }
        Ok(())
    }

    /// Times runs of an op, which are told their number, after one that is not counted.
    fn timed(&self, mut op: impl FnMut(usize)) -> Samples {
        op(0);
        let seconds = (1..=RUNS).map(|run| {
            self.probe.sweep();
            let start = Instant::now();
            op(run);
            start.elapsed().as_secs_f64()
        });
        Samples(seconds.collect())
    }

    fn linear(
        &self,
        (name, unit): (&str, Unit),
        matrices: &[Bf16<'_>],
        (rows, inputs, outputs): (usize, usize, usize),
    ) -> Op {
        let (x, mut out) = (ones(rows * inputs), ones(rows * outputs));
        let seconds = self.timed(|run| {
            self.backend.linear(Linear {
                x: &x,
                weight: matrices[run % matrices.len()],
                bias: None,
                inputs,
                outputs,
                accumulate: false,
                out: &mut out,
            });
        });
        Op {
            name: format!("{name} {inputs} x {outputs}"),
            rows,
            operations: (2 * rows * inputs * outputs) as f64,
            bytes: (2 * inputs * outputs) as f64,
            unit: Some(unit),
            seconds,
        }
    }

    /// Measures a layer's experts, so many rows choosing among all of them in turn.
    fn experts(&self, rows: usize) -> Op {
        let geometry = self.weights.checkpoint().geometry();
        let Geometry {
            hidden,
            intermediate,
            num_experts,
            experts_per_token: k,
            ..
        } = *geometry;
        let active = num_experts.min(rows * k);
        let lists: Vec<(Vec<u32>, Vec<u32>)> = (0..active)
            .map(|expert| (expert..rows * k).step_by(active))
            .map(|pairs| pairs.map(|pair| ((pair / k) as u32, pair as u32)).unzip())
            .collect();
        let (x, mut out) = (ones(rows * hidden), ones(rows * k * hidden));
        let layers = &self.weights.layers;
        let seconds = self.timed(|run| {
            let experts = &layers[run % layers.len()].experts;
            let work = lists.iter().enumerate().map(|(index, (rows, outputs))| {
                let expert = ExpertId(((run * active + index) % num_experts) as u32);
                let weights = experts.expert(expert).expect("one rank holds all");
                weights.work(rows, outputs)
            });
            let work: Vec<ExpertWork<'_>> = work.collect();
            self.backend.run_experts(Experts {
                x: &x,
                hidden,
                intermediate,
                limit: geometry.swiglu_limit,
                work: &work,
                out: &mut out,
            });
        });
        let values = 3 * hidden * intermediate;
        Op {
            name: format!("experts {k} of {num_experts}"),
            rows,
            operations: (2 * rows * k * values) as f64,
            bytes: (active * values) as f64 * 17.0 / 32.0,
            unit: Some(self.units[1]),
            seconds,
        }
    }

    /// Measures attention of the last rows of a context, over all of it or a window.
    fn attention(&self, rows: usize, context: usize, window: Option<usize>) -> Result<Op, Error> {
        let geometry = self.weights.checkpoint().geometry();
        let (heads, kv_heads, head_dim) =
            (geometry.num_heads, geometry.num_kv_heads, geometry.head_dim);
        let layout = KvLayout {
            block_size: BLOCK,
            kv_heads,
            head_dim,
        };
        let blocks = context.div_ceil(BLOCK);
        // Blocks of a sequence lie anywhere: 17 and the number of blocks have no common factor then.
        let order = (0..blocks).map(|at| BlockId((at * 17 % blocks) as u32));
        let table: Vec<BlockId> = match blocks.is_multiple_of(17) {
            true => (0..blocks).map(|at| BlockId(at as u32)).collect(),
            false => order.collect(),
        };
        // In pages as those of a rank.
        let pages = || {
            let mut pages = Pages::zeroed(blocks * layout.block_len() * size_of::<f32>())?;
            for (to, number) in pages.floats_mut().iter_mut().zip(numbers()) {
                *to = number;
            }
            std::io::Result::Ok(pages)
        };
        let (keys, values) = (pages()?, pages()?);
        let sinks = vec![bf16::ONE; heads];
        let (q, mut out) = (ones(rows * heads * head_dim), ones(rows * heads * head_dim));
        let seconds = self.timed(|_| {
            self.backend.attend(Attend {
                q: &q,
                heads,
                spans: &[Span {
                    first_row: 0,
                    len: rows,
                    start: context - rows,
                    table: &table,
                }],
                layout,
                keys: keys.floats(),
                values: values.floats(),
                sinks: &sinks,
                window,
                scale: 1.0 / (head_dim as f32).sqrt(),
                out: &mut out,
            });
        });
        let read = window.map_or(context, |window| (window + rows - 1).min(context));
        // A row sees what is before it and itself, or the last of that.
        let seen = (context - rows..context).map(|at| (at + 1).min(window.unwrap_or(context)));
        let pairs: usize = seen.sum();
        let what = window.map_or("all".to_owned(), |window| format!("{window} of"));
        Ok(Op {
            name: format!("attention to {what} {context}"),
            rows,
            operations: (4 * pairs * heads * head_dim) as f64,
            bytes: (2 * read * kv_heads * head_dim * size_of::<f32>()) as f64,
            unit: Some(Unit::F32),
            seconds,
        })
    }
}

/// Values that are neither zero nor subnormal, and not all alike.
fn numbers() -> impl Iterator<Item = f32> {
    (0..7).map(|at| 0.5 + at as f32 / 8.0).cycle()
}

/// So many of them.
fn ones(len: usize) -> Vec<f32> {
    numbers().take(len).collect()
}
