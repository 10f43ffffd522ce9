//! The expert half of a layer: norm, router, dispatch, this rank's experts, combine.

use checkpoint::{ExpertSet, LayerWeights};
use kernels::{Bf16, Combine, Dispatch, Exchange, ExpertWork, Experts, Linear, Received, Route};
use spec::{ExpertId, Geometry};

use crate::error::ModelError;
use crate::pass::{Pass, Place, slice_len};
use crate::progress::Stage;
use crate::scratch::{Grouped, Scratch};

/// Norms the rows and chooses the experts of each.
pub(crate) fn route(pass: &Pass<'_>, place: Place, layer: &LayerWeights, scratch: &mut Scratch) {
    let geometry = pass.geometry;
    pass.norm(&scratch.x, &layer.post_norm, &mut scratch.normed);
    let args = Linear {
        x: &scratch.normed,
        weight: Bf16::Rows(&layer.router),
        bias: Some(&layer.router_bias),
        inputs: geometry.hidden,
        outputs: geometry.num_experts,
        accumulate: false,
        out: &mut scratch.router,
    };
    pass.linear(place, args);
    pass.backend.route(Route {
        logits: &scratch.router,
        num_experts: geometry.num_experts,
        k: geometry.experts_per_token,
        index: &mut scratch.experts,
        weight: &mut scratch.expert_weight,
    });
}

/// Sends the routed rows to their experts, computes this rank's, and adds what comes home to the
/// residual stream. Takes part in both exchanges also without rows.
pub(crate) fn mixture(
    pass: &Pass<'_>,
    layer: usize,
    experts: &ExpertSet,
    exchange: &mut dyn Exchange,
    scratch: &mut Scratch,
) -> Result<(), ModelError> {
    let geometry = pass.geometry;
    let at = |stage| Place { layer, stage };
    pass.report(at(Stage::Dispatch));
    let received = exchange.dispatch(Dispatch {
        moment: pass.moment(layer),
        hidden: geometry.hidden,
        k: geometry.experts_per_token,
        rows: &scratch.normed,
        experts: &scratch.experts,
        owners: pass.placement.owners(layer),
    })?;
    check_work(pass, layer, &received)?;

    pass.report(at(Stage::Experts));
    scratch.grouped.group(&received, geometry.num_experts);
    let values = received.work.len() * geometry.hidden;
    scratch.expert_out.resize(values, 0.0);
    run_experts(pass, at(Stage::Experts), experts, &received, scratch);

    pass.report(at(Stage::Combine));
    let returned = exchange.combine(&received, &scratch.expert_out)?;
    let expected = scratch.experts.len() * geometry.hidden;
    if returned.outputs.len() != expected {
        return Err(ModelError::WrongReturn {
            layer,
            found: returned.outputs.len(),
            expected,
        });
    }
    if expected > 0 {
        pass.backend.combine(Combine {
            outputs: &returned.outputs,
            weight: &scratch.expert_weight,
            k: geometry.experts_per_token,
            x: &mut scratch.x,
        });
    }
    Ok(())
}

/// Refuses work that came for experts or rows that are not here: it came from the network.
fn check_work(pass: &Pass<'_>, layer: usize, received: &Received) -> Result<(), ModelError> {
    let num_rows = received.rows.len() / pass.geometry.hidden;
    let owners = pass.placement.owners(layer);
    let foreign = received.work.iter().find(|work| {
        owners.get(work.expert.index()) != Some(&pass.rank) || work.row as usize >= num_rows
    });
    match foreign {
        None => Ok(()),
        Some(work) => Err(ModelError::ForeignWork {
            layer,
            expert: work.expert,
            row: work.row,
            num_rows,
        }),
    }
}

fn run_experts(
    pass: &Pass<'_>,
    place: Place,
    experts: &ExpertSet,
    received: &Received,
    scratch: &mut Scratch,
) {
    let Geometry {
        hidden,
        intermediate,
        ..
    } = *pass.geometry;
    let Scratch {
        grouped,
        expert_out,
        ..
    } = scratch;
    let mut run = |work: &[ExpertWork<'_>]| {
        pass.backend.run_experts(Experts {
            x: &received.rows,
            hidden,
            intermediate,
            limit: pass.geometry.swiglu_limit,
            work,
            out: expert_out,
        });
        pass.report(place);
    };
    let limit = slice_len(3 * hidden * intermediate);
    let (mut slice, mut pairs) = (Vec::new(), 0);
    for (expert, range) in grouped.runs() {
        let weights = experts
            .expert(expert)
            .expect("the placement was checked against the weights");
        // An expert that most rows chose is cut, too.
        for range in range
            .clone()
            .step_by(limit)
            .map(|start| start..range.end.min(start + limit))
        {
            if pairs > 0 && pairs + range.len() > limit {
                run(&slice);
                slice.clear();
                pairs = 0;
            }
            pairs += range.len();
            let (rows, outputs) = (&grouped.rows[range.clone()], &grouped.outputs[range]);
            slice.push(weights.work(rows, outputs));
        }
    }
    if !slice.is_empty() {
        run(&slice);
    }
}

impl Grouped {
    /// Sorts the received pairs by expert.
    fn group(&mut self, received: &Received, num_experts: usize) {
        self.ends.clear();
        self.ends.resize(num_experts, 0);
        for work in &received.work {
            self.ends[work.expert.index()] += 1;
        }
        // From counts to where each expert's entries start; placing them moves that to their end.
        let mut start = 0;
        for end in &mut self.ends {
            start += std::mem::replace(end, start);
        }
        self.rows.resize(received.work.len(), 0);
        self.outputs.resize(received.work.len(), 0);
        for (output, work) in received.work.iter().enumerate() {
            let place = &mut self.ends[work.expert.index()];
            self.rows[*place] = work.row;
            self.outputs[*place] = output as u32;
            *place += 1;
        }
    }

    /// Lists the experts that have work, ascending, with the range of their entries.
    fn runs(&self) -> impl Iterator<Item = (ExpertId, std::ops::Range<usize>)> {
        let starts = std::iter::once(&0).chain(&self.ends);
        let runs = starts.zip(&self.ends).enumerate();
        runs.filter(|(_, (start, end))| start < end)
            .map(|(expert, (start, end))| (ExpertId(expert as u32), *start..*end))
    }
}

#[cfg(test)]
mod tests {
    use kernels::Work;

    use super::*;

    #[test]
    fn work_is_grouped_by_expert_in_the_order_received() {
        let work = [(3, 0), (1, 0), (3, 1), (0, 2), (1, 2)];
        let work = work.map(|(expert, row)| Work {
            expert: ExpertId(expert),
            row,
        });
        let received = Received {
            work: work.to_vec(),
            ..Received::default()
        };
        let mut grouped = Grouped::default();
        // Twice: nothing of an earlier step may remain.
        for _ in 0..2 {
            grouped.group(&received, 5);
            let runs: Vec<_> = grouped.runs().map(|(e, range)| (e.0, range)).collect();
            assert_eq!(runs, [(0, 0..1), (1, 1..3), (3, 3..5)]);
            assert_eq!(grouped.rows, [2, 0, 2, 0, 1]);
            assert_eq!(grouped.outputs, [3, 1, 4, 0, 2]);
        }
    }
}
