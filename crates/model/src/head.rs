//! The end of a step: logits of the rows that need them, sampled tokens and logprobs.

use checkpoint::RankWeights;
use kernels::Linear;
use spec::{Line, LineResult, Part, SampledToken, TokenId};

use crate::batch::{Batch, BatchLine};
use crate::error::ModelError;
use crate::pass::{Pass, Place};
use crate::progress::Stage;
use crate::sampler::{Choice, Penalized, Sampler, token_logprob};
use crate::scratch::Scratch;
use crate::slots::{Sequence, Slots};

/// Most rows whose logits exist at a time: 51 MB with the published vocabulary.
pub const MAX_LOGIT_ROWS: usize = 64;

/// Takes the logits of a row: index of its line in the part, its position, `[vocab_size]`.
pub type Capture<'a> = &'a mut dyn FnMut(usize, u32, &[f32]);

/// A row that needs logits.
#[derive(Clone, Copy, Debug)]
struct HeadRow {
    line: BatchLine,
    position: usize,
    samples: bool,
    /// The prompt's next token, whose logprob is reported.
    prompt: Option<TokenId>,
}

/// Chooses tokens; holds the memory for it.
#[derive(Debug, Default)]
pub(crate) struct Head {
    sampler: Sampler,
    penalized: Vec<(TokenId, Penalized)>,
}

impl Head {
    /// Computes logits in slices of rows and fills in the results. Sampled tokens enter their
    /// slots at once.
    pub(crate) fn run(
        &mut self,
        pass: &Pass<'_>,
        weights: &RankWeights,
        (part, batch): (&Part, &Batch),
        slots: &mut Slots,
        scratch: &mut Scratch,
        mut capture: Option<Capture<'_>>,
    ) -> Result<Vec<LineResult>, ModelError> {
        let place = Place {
            layer: pass.geometry.num_layers(),
            stage: Stage::Head,
        };
        pass.report(place);
        let mut results = vec![LineResult::default(); part.lines.len()];
        for line in &batch.lines {
            results[line.line].ran = true;
        }
        let rows = head_rows(&part.lines, batch, slots, capture.is_some());
        for slice in rows.chunks(MAX_LOGIT_ROWS) {
            logits(pass, place, weights, slice, scratch);
            let vocab_size = pass.geometry.vocab_size;
            for (row, logits) in slice.iter().zip(scratch.logits.chunks(vocab_size)) {
                check_finite(logits, row, slots.at(row.line.slot))?;
                if let Some(capture) = &mut capture {
                    capture(row.line.line, row.position as u32, logits);
                }
                let sequence = slots.at_mut(row.line.slot);
                self.finish_row(row, logits, sequence, &mut results[row.line.line]);
            }
            pass.report(place);
        }
        Ok(results)
    }

    fn finish_row(
        &mut self,
        row: &HeadRow,
        logits: &[f32],
        sequence: &mut Sequence,
        result: &mut LineResult,
    ) {
        if let Some(token) = row.prompt {
            let alternatives = sequence.sampling.prompt_logprobs.unwrap_or(0);
            let logprob = token_logprob(logits, token, alternatives as usize);
            result.prompt_logprobs.push(logprob);
        }
        if !row.samples {
            return;
        }
        let position = row.position + 1;
        sequence.penalized(position, &mut self.penalized);
        let choice = Choice {
            sampling: &sequence.sampling,
            penalized: &self.penalized,
            position: position as u32,
        };
        let token = self.sampler.choose(logits, &choice);
        let alternatives = sequence.sampling.logprobs;
        let logprob = alternatives.map(|n| token_logprob(logits, token, n as usize));
        sequence.set_token(position, token);
        result.tokens.push(SampledToken { token, logprob });
    }
}

/// Lists the rows that need logits, in order. With `all`, every row does.
fn head_rows(lines: &[Line], batch: &Batch, slots: &Slots, all: bool) -> Vec<HeadRow> {
    let mut rows = Vec::new();
    for batch_line in &batch.lines {
        let line = &lines[batch_line.line];
        let sequence = slots.at(line.slot);
        let prompt = &sequence.tokens()[..sequence.prompt_len];
        let end = batch_line.start + batch_line.len;
        for position in batch_line.start..end {
            let next = prompt.get(position + 1).filter(|_| line.prompt_logprobs);
            let row = HeadRow {
                line: *batch_line,
                position,
                samples: line.samples && position + 1 == end,
                prompt: next.copied(),
            };
            if all || row.samples || row.prompt.is_some() {
                rows.push(row);
            }
        }
    }
    rows
}

/// Computes the logits of a slice of rows.
fn logits(
    pass: &Pass<'_>,
    place: Place,
    weights: &RankWeights,
    slice: &[HeadRow],
    scratch: &mut Scratch,
) {
    let (hidden, vocab_size) = (pass.geometry.hidden, pass.geometry.vocab_size);
    let Scratch {
        x,
        normed,
        attended: rows,
        logits,
        ..
    } = scratch;
    rows.clear();
    for row in slice {
        let index = row.line.first_row + row.position - row.line.start;
        rows.extend_from_slice(&x[index * hidden..(index + 1) * hidden]);
    }
    normed.resize(rows.len(), 0.0);
    pass.norm(rows, &weights.final_norm, normed);
    logits.resize(slice.len() * vocab_size, 0.0);
    let args = Linear {
        x: normed,
        weight: weights.head.view(),
        bias: None,
        inputs: hidden,
        outputs: vocab_size,
        accumulate: false,
        out: logits,
    };
    pass.linear(place, args);
}

fn check_finite(logits: &[f32], row: &HeadRow, sequence: &Sequence) -> Result<(), ModelError> {
    match logits.iter().position(|logit| !logit.is_finite()) {
        None => Ok(()),
        Some(token) => Err(ModelError::NotFinite {
            sequence: sequence.id,
            position: row.position,
            token: TokenId(token as u32),
        }),
    }
}
