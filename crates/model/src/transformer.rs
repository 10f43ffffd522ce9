//! One rank's model: weights, KV memory and sequences, and how a part runs through them.

use std::sync::Arc;

use checkpoint::RankWeights;
use kernels::{Backend, Embed, Exchange, Packing};
use spec::{Attention, Fence, Geometry, KvPlan, Part, PartResult, Placement, Rank, StepNumber};

use crate::attention::{Rows, attention};
use crate::batch::Batch;
use crate::check::PartCheck;
use crate::error::ModelError;
use crate::head::{Capture, Head};
use crate::kv::KvMemory;
use crate::moe::{mixture, route};
use crate::pass::{Pass, Place};
use crate::progress::{Progress, Stage};
use crate::rope::Rotary;
use crate::scratch::Scratch;
use crate::slots::Slots;

/// The model of one rank: all that is not an expert, its share of the experts, and the KV and
/// tokens of the sequences that live here.
pub struct RankModel {
    geometry: Geometry,
    weights: Arc<RankWeights>,
    backend: Arc<dyn Backend>,
    rank: Rank,
    placement: Arc<Placement>,
    rotary: Rotary,
    slots: Slots,
    kv: KvMemory,
    scratch: Scratch,
    head: Head,
}

impl RankModel {
    /// Makes a rank without sequences.
    ///
    /// # Errors
    ///
    /// If the geometry cannot be served, the KV plan has no size, or weights and placement do not
    /// belong together.
    pub fn new(
        weights: Arc<RankWeights>,
        backend: Arc<dyn Backend>,
        rank: Rank,
        placement: Arc<Placement>,
        plan: KvPlan,
    ) -> Result<Self, ModelError> {
        let geometry = weights.checkpoint().geometry().clone();
        if let Some(fault) = geometry.faults().into_iter().next() {
            return Err(fault.into());
        }
        check_placement(&geometry, &weights, rank, &placement)?;
        check_layout(&weights, backend.as_ref())?;
        Ok(Self {
            kv: KvMemory::new(&geometry, plan)?,
            rotary: Rotary::new(&geometry.rope, geometry.head_dim),
            slots: Slots::new(plan.num_slots),
            scratch: Scratch::default(),
            head: Head::default(),
            geometry,
            weights,
            backend,
            rank,
            placement,
        })
    }

    /// Takes other rotary frequencies than those of the geometry: the ones a reference computed,
    /// whose last bits differ from library to library.
    ///
    /// # Panics
    ///
    /// If there are not `head_dim / 2` frequencies.
    #[must_use]
    pub fn with_rotary(mut self, rotary: Rotary) -> Self {
        assert_eq!(
            rotary.inv_freq.len(),
            self.geometry.head_dim / 2,
            "one frequency a pair"
        );
        self.rotary = rotary;
        self
    }

    /// Enters a new epoch: other experts, another place in the group. KV and sequences stay.
    ///
    /// # Errors
    ///
    /// If weights and placement do not belong together; nothing is changed then.
    pub fn adopt(
        &mut self,
        rank: Rank,
        weights: Arc<RankWeights>,
        placement: Arc<Placement>,
    ) -> Result<(), ModelError> {
        if *weights.checkpoint().geometry() != self.geometry {
            return Err(ModelError::OtherModel);
        }
        check_placement(&self.geometry, &weights, rank, &placement)?;
        check_layout(&weights, self.backend.as_ref())?;
        (self.rank, self.weights, self.placement) = (rank, weights, placement);
        Ok(())
    }

    /// Executes a part: computes its rows, samples, and answers one result for each line.
    ///
    /// The same part can be run again, after an error or after success, with the same outcome.
    ///
    /// # Errors
    ///
    /// [`ModelError::Part`] if the part asks for what cannot be done; then nothing was changed and
    /// no exchange was made. [`ModelError::Exchange`] and the others leave KV and tokens of this
    /// part's lines half written; the step is void.
    pub fn run(
        &mut self,
        fence: Fence,
        step: StepNumber,
        part: &Part,
        exchange: &mut dyn Exchange,
        progress: &dyn Progress,
    ) -> Result<PartResult, ModelError> {
        self.execute((fence, step), part, exchange, progress, None)
    }

    /// Does what [`RankModel::run`] does, and shows the logits of every row of the part.
    ///
    /// # Errors
    ///
    /// The same.
    pub fn run_with(
        &mut self,
        fence: Fence,
        step: StepNumber,
        part: &Part,
        exchange: &mut dyn Exchange,
        progress: &dyn Progress,
        capture: Capture<'_>,
    ) -> Result<PartResult, ModelError> {
        self.execute((fence, step), part, exchange, progress, Some(capture))
    }

    fn execute(
        &mut self,
        (fence, step): (Fence, StepNumber),
        part: &Part,
        exchange: &mut dyn Exchange,
        progress: &dyn Progress,
        capture: Option<Capture<'_>>,
    ) -> Result<PartResult, ModelError> {
        self.apply(part)?;
        let Self {
            geometry,
            weights,
            backend,
            rotary,
            slots,
            kv,
            scratch,
            head,
            ..
        } = self;
        let pass = Pass {
            geometry,
            backend: backend.as_ref(),
            rotary,
            placement: &self.placement,
            rank: self.rank,
            fence,
            step,
            progress,
        };
        let batch = Batch::gather(&part.lines, slots);
        scratch.resize(geometry, batch.rows());
        if batch.rows() > 0 {
            pass.backend.embed(Embed {
                table: &weights.embedding,
                ids: &batch.ids,
                hidden: geometry.hidden,
                out: &mut scratch.x,
            });
        }
        run_layers(&pass, weights, (&batch, slots), kv, exchange, scratch)?;
        let lines = head.run(&pass, weights, (part, &batch), slots, scratch, capture)?;
        Ok(PartResult {
            rank: self.rank,
            lines,
        })
    }

    /// Checks the part, then applies its closes, opens and table changes.
    fn apply(&mut self, part: &Part) -> Result<(), ModelError> {
        let check = PartCheck {
            geometry: &self.geometry,
            plan: &self.kv.plan,
            slots: &self.slots,
            rank: self.rank,
        };
        check.run(part)?;
        for slot in &part.closes {
            self.slots.close(*slot);
        }
        for open in &part.opens {
            self.slots.open(open);
        }
        for line in &part.lines {
            // Also for a line that will be skipped: the next plan counts on these blocks.
            let sequence = self.slots.at_mut(line.slot);
            sequence.full.apply(&line.full);
            sequence.window.apply(&line.window);
        }
        Ok(())
    }
}

/// Runs the rows of `scratch.x` through all layers.
fn run_layers(
    pass: &Pass<'_>,
    weights: &RankWeights,
    (batch, slots): (&Batch, &Slots),
    kv: &mut KvMemory,
    exchange: &mut dyn Exchange,
    scratch: &mut Scratch,
) -> Result<(), ModelError> {
    let geometry = pass.geometry;
    let rows_of = |kind, window| {
        let spans = batch.spans(slots, kind);
        Rows::new(spans, &batch.positions, window, geometry.query_width())
    };
    let full = rows_of(Attention::Full, None);
    let sliding = rows_of(Attention::Sliding, Some(geometry.sliding_window));
    let layers = weights.layers.iter().zip(&geometry.layers);
    for (index, (layer, kind)) in layers.enumerate() {
        let place = Place {
            layer: index,
            stage: Stage::Attention,
        };
        pass.report(place);
        if batch.rows() > 0 {
            let rows = match kind {
                Attention::Full => &full,
                Attention::Sliding => &sliding,
            };
            let layer_kv = (&mut kv.layers[index], kv.layout);
            attention(pass, place, layer, rows, layer_kv, scratch);
            route(pass, place, layer, scratch);
        }
        mixture(pass, index, &layer.experts, exchange, scratch)?;
    }
    Ok(())
}

/// Checks that the weights lie as the back end computes with them: else it would compute otherwise than
/// its name says.
fn check_layout(weights: &RankWeights, backend: &dyn Backend) -> Result<(), ModelError> {
    let (found, wanted) = (weights.layout(), backend.packing().map(Packing::name));
    match found == wanted {
        true => Ok(()),
        false => Err(ModelError::OtherLayout { found, wanted }),
    }
}

/// Checks that a placement is for this model and that its experts of this rank are loaded.
fn check_placement(
    geometry: &Geometry,
    weights: &RankWeights,
    rank: Rank,
    placement: &Placement,
) -> Result<(), ModelError> {
    let num_ranks = placement.num_ranks();
    if rank.index() >= num_ranks {
        return Err(ModelError::UnknownRank { rank, num_ranks });
    }
    let (layers, expected_layers) = (placement.num_layers(), geometry.num_layers());
    // All layers of a placement have the same number of experts.
    let experts = if layers == 0 {
        0
    } else {
        placement.owners(0).len()
    };
    if layers != expected_layers || experts != geometry.num_experts {
        return Err(ModelError::OtherPlacement {
            layers,
            experts,
            expected_layers,
            expected_experts: geometry.num_experts,
        });
    }
    for layer in 0..layers {
        let mut held = placement.held_by(layer, rank);
        if let Some(expert) = held.find(|e| weights.layers[layer].experts.expert(*e).is_none()) {
            return Err(ModelError::ExpertNotLoaded { layer, expert });
        }
    }
    Ok(())
}
