//! How far a rank is with its part, told while it works.

use kernels::Moment;

/// What a rank is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Attention over its own rows, and the router.
    Attention,
    /// Sending rows to the experts and waiting for those of others.
    Dispatch,
    /// Computing its experts.
    Experts,
    /// Sending outputs home and waiting for its own.
    Combine,
    /// Logits and sampling, after the last layer.
    Head,
}

/// Takes a rank's reports. Called before each stage and again after each slice of a long one, so
/// that a rank that works is told from one that is stuck.
///
/// A report is also where a step can be given up that nobody wants any more: an implementation may
/// leave by [`std::panic::resume_unwind`] and catch that around [`crate::RankModel::run`]. The model
/// is then as after an error: the step is void, all else can go on.
pub trait Progress {
    /// The rank is at this stage; the layer of `moment` is the number of layers in
    /// [`Stage::Head`].
    fn at(&self, moment: Moment, stage: Stage);
}

/// Nobody listens.
impl Progress for () {
    fn at(&self, _moment: Moment, _stage: Stage) {}
}
