//! Whole passes: prompts that are computed, tokens that are generated.

use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use spec::{
    BlockId, BlockRun, Geometry, Line, Open, Part, Rank, Sampling, SequenceId, Slot, TokenId,
};

use crate::error::Error;
use crate::group::{Group, Shape, blocks};
use crate::samples::Samples;

/// Sequences that begin together: first all prompts are computed, then all generate, a token each at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Load {
    /// How many.
    pub sequences: usize,
    /// Tokens of each prompt.
    pub prompt: usize,
    /// Tokens of each that are generated one at a time; one more comes from the prompt.
    pub output: usize,
}

/// How long a load took.
#[derive(Clone, Debug)]
pub struct Times {
    /// Seconds until every sequence had its first token.
    pub prompt: f64,
    /// Seconds of each step that generated a token of every sequence.
    pub steps: Samples,
}

impl Load {
    /// Returns the prompt's tokens a second, of all sequences together.
    #[must_use]
    pub fn prompt_rate(&self, times: &Times) -> f64 {
        (self.sequences * self.prompt) as f64 / times.prompt
    }

    /// Returns the tokens generated in a second, of all sequences together.
    #[must_use]
    pub fn output_rate(&self, times: &Times) -> f64 {
        let seconds: f64 = times.steps.0.iter().sum();
        (self.sequences * times.steps.0.len()) as f64 / seconds
    }
}

/// A sequence of a pass, on its rank.
pub(crate) struct Place {
    rank: usize,
    slot: Slot,
    /// Positions that are computed.
    done: usize,
}

impl Place {
    /// The first sequence of the first rank.
    pub(crate) fn first() -> Self {
        Self {
            rank: 0,
            slot: Slot(0),
            done: 0,
        }
    }
}

impl Group {
    /// Computes a load from its prompts to the last token. Other seeds have other tokens.
    ///
    /// # Errors
    ///
    /// If a rank fails.
    ///
    /// # Panics
    ///
    /// If the group was made for fewer sequences or positions.
    pub fn pass(&mut self, load: Load, vocab: usize, seed: u64) -> Result<Times, Error> {
        assert!(
            load.sequences <= self.shape.sequences
                && load.prompt + load.output <= self.shape.positions,
            "the group was made for this load"
        );
        let ranks = self.shape.ranks.get();
        let places = (0..load.sequences).map(|index| Place {
            rank: index % ranks,
            slot: Slot((index / ranks) as u32),
            done: 0,
        });
        let mut places: Vec<Place> = places.collect();
        let mut random = fastrand::Rng::with_seed(seed);
        let shape = self.shape.clone();
        self.run(|steps| {
            let start = Instant::now();
            let mut token = |_| random.u32(..vocab as u32);
            while let Some(parts) = shape.prompts(&mut places, load, &mut token) {
                steps.run(parts)?;
            }
            let prompt = start.elapsed().as_secs_f64();
            let mut times = Samples::default();
            for _ in 0..load.output {
                let start = Instant::now();
                steps.run(shape.tokens(&mut places))?;
                times.0.push(start.elapsed().as_secs_f64());
            }
            Ok(Times {
                prompt,
                steps: times,
            })
        })
    }
}

impl Shape {
    /// Plans a step of prompts: as many rows as ranks take, sequence by sequence; `None` once all are done.
    pub(crate) fn prompts(
        &self,
        places: &mut [Place],
        load: Load,
        mut token: impl FnMut(usize) -> u32,
    ) -> Option<Vec<Part>> {
        let mut parts = self.parts();
        let mut room = vec![self.step_rows; parts.len()];
        for place in places.iter_mut() {
            let len = room[place.rank].min(load.prompt - place.done);
            if len == 0 {
                continue;
            }
            room[place.rank] -= len;
            let part = &mut parts[place.rank];
            let mut run = BlockRun::default();
            if place.done == 0 {
                let tokens: Vec<TokenId> = (0..load.prompt).map(|at| TokenId(token(at))).collect();
                part.opens.push(Open {
                    slot: place.slot,
                    sequence: SequenceId(u64::from(place.slot.0)),
                    prompt_len: tokens.len() as u32,
                    sampling: Arc::new(sampling(token(0).into())),
                    tokens: tokens.into(),
                });
                let most = blocks(self.positions) as u32;
                let first = place.slot.0 * most;
                run.blocks = (first..first + most).map(BlockId).collect();
            }
            part.lines.push(Line {
                slot: place.slot,
                start: place.done as u32,
                len: len as u32,
                full: run.clone(),
                window: run,
                samples: place.done + len == load.prompt,
                prompt_logprobs: false,
            });
            place.done += len;
        }
        let has_rows = parts.iter().any(|part| !part.lines.is_empty());
        has_rows.then_some(parts)
    }

    /// Plans a step that generates a token of every sequence.
    fn tokens(&self, places: &mut [Place]) -> Vec<Part> {
        let mut parts = self.parts();
        for place in places {
            parts[place.rank].lines.push(Line {
                slot: place.slot,
                start: place.done as u32,
                len: 1,
                full: BlockRun::default(),
                window: BlockRun::default(),
                samples: true,
                prompt_logprobs: false,
            });
            place.done += 1;
        }
        parts
    }

    fn parts(&self) -> Vec<Part> {
        let part = |rank| Part {
            rank: Rank(rank as u32),
            ..Part::default()
        };
        (0..self.ranks.get()).map(part).collect()
    }
}

/// The most likely token of random weights is often the same for ever, and with it the experts: so it is drawn.
fn sampling(seed: u64) -> Sampling {
    Sampling {
        temperature: 1.0,
        seed,
        ..Sampling::default()
    }
}

/// Returns the bytes of weights that a step with so many rows reads, each once: matrices of attention and
/// router, the head, and the experts that rows are expected to choose if all are alike.
#[must_use]
pub fn weight_bytes(geometry: &Geometry, rows: usize) -> f64 {
    let Geometry {
        hidden,
        intermediate,
        num_experts,
        experts_per_token,
        vocab_size,
        ..
    } = *geometry;
    let (query, kv) = (geometry.query_width(), geometry.kv_width());
    let dense = 2 * hidden * (2 * query + 2 * kv + num_experts);
    let missed = 1.0 - experts_per_token as f64 / num_experts as f64;
    let chosen = num_experts as f64 * (1.0 - missed.powi(rows as i32));
    // A block of 32 has 16 bytes of codes and one of scale.
    let expert = (3 * hidden * intermediate) as f64 * 17.0 / 32.0;
    let layer = dense as f64 + chosen * expert;
    geometry.num_layers() as f64 * layer + (2 * hidden * vocab_size) as f64
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::ops::ControlFlow;

    use checkpoint::Checkpoint;
    use checkpoint::synth::Spec;
    use kernels_cpu::{Numerics, Threads};

    use super::*;

    fn checkpoint(spec: &str) -> Checkpoint {
        Checkpoint::synth(&Spec::parse(spec).unwrap()).unwrap()
    }

    #[test]
    fn every_sequence_generates_in_every_step() {
        let checkpoint = checkpoint("tiny");
        let vocab = checkpoint.geometry().vocab_size;
        for (ranks, sequences) in [(1, 1), (1, 5), (2, 5), (3, 2)] {
            let shape = Shape {
                ranks: NonZeroUsize::new(ranks).unwrap(),
                threads: Threads::Any(NonZeroUsize::MIN),
                numerics: Numerics::Fast,
                cache: None,
                // Prompts take several steps, and share them.
                step_rows: 10,
                sequences,
                positions: 30,
            };
            let go_on = &mut |_| ControlFlow::Continue(());
            let mut group = Group::new(&checkpoint, &shape, go_on).unwrap();
            let load = Load {
                sequences,
                prompt: 17,
                output: 12,
            };
            for seed in 0..2 {
                let times = group.pass(load, vocab, seed).unwrap();
                assert_eq!(times.steps.0.len(), 12);
                assert!(times.prompt > 0.0 && load.output_rate(&times) > 0.0);
            }
        }
    }

    #[test]
    fn a_step_reads_what_the_checkpoint_holds() {
        let checkpoint = checkpoint("20b,layers=4,vocab=32768");
        // With so many rows every expert is chosen; of the rest all but embedding, norms, biases and sinks.
        let all = weight_bytes(checkpoint.geometry(), 1000);
        let held = checkpoint.num_bytes() as f64 - 2.0 * 2880.0 * 32768.0;
        assert!((all / held - 1.0).abs() < 2e-3, "{all} of {held}");
        // Layers of 53.3 MB and 4 experts of 13.2 MB, and a head of 188.7 MB.
        let one = weight_bytes(checkpoint.geometry(), 1);
        assert_eq!((one / 1e6).round(), 613.0);
    }
}
