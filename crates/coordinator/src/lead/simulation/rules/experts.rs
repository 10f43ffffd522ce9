//! Who holds which experts, and that none is an orphan when a step is computed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use spec::{ExpertId, Fence, Placement, StepNumber};

use super::Start;

/// An expert of a layer.
pub(in crate::lead::simulation) type Expert = (usize, ExpertId);

/// The experts that a worker holds at one moment.
type Held = Arc<BTreeSet<Expert>>;

/// Which step of which epoch.
type Number = (Fence, StepNumber);

/// What workers have in their memory, whatever any plan says of it.
#[derive(Default)]
pub(in crate::lead::simulation) struct Experts {
    /// Loaded for which epoch, by start of a worker.
    loaded: BTreeMap<Start, (Fence, Held)>,
    /// What each worker has given of steps, for which lead, and which experts it held then. Who stood still
    /// may come to a step long after the others.
    given: BTreeMap<Start, BTreeMap<Number, (u64, Held)>>,
}

impl Experts {
    /// A worker has loaded these for an epoch.
    pub(in crate::lead::simulation) fn load(
        &mut self,
        worker: Start,
        fence: Fence,
        experts: BTreeSet<Expert>,
    ) {
        self.loaded.insert(worker, (fence, Arc::new(experts)));
    }

    /// A worker gives up what it has loaded.
    pub(super) fn unload(&mut self, worker: Start) {
        self.loaded.remove(&worker);
    }

    /// A worker has computed the rows that came to its experts.
    pub(super) fn give(&mut self, worker: Start, epoch: (Fence, u64), step: StepNumber) {
        let loaded = self.loaded.get(&worker);
        let (fence, experts) = loaded.expect("who computes has loaded its experts");
        assert_eq!(*fence, epoch.0, "{worker:?} has loaded for another epoch");
        let experts = Arc::clone(experts);
        let given = self.given.entry(worker).or_default();
        given.insert((epoch.0, step), (epoch.1, experts));
    }

    /// Checks that every expert's rows came from one who held it, in the very epoch of the step.
    pub(super) fn check(
        &self,
        epoch: (Fence, u64),
        (placement, step): (&Placement, StepNumber),
        givers: &BTreeSet<Start>,
    ) {
        let given = givers.iter().filter_map(|giver| {
            let (lead, experts) = self.given.get(giver)?.get(&(epoch.0, step))?;
            (*lead == epoch.1).then_some(experts)
        });
        let there: BTreeSet<Expert> = given.flat_map(|held| held.iter()).copied().collect();
        for layer in 0..placement.num_layers() {
            for expert in 0..placement.owners(layer).len() {
                let expert = ExpertId(expert as u32);
                let is_there = there.contains(&(layer, expert));
                let fence = epoch.0;
                assert!(
                    is_there,
                    "step {step} of {fence} ran without expert {expert} of layer {layer}"
                );
            }
        }
    }
}
