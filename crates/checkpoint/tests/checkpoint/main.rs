//! Writes small models, reads them back, and breaks them in every way that files break.
#![expect(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

mod child;
mod folder;

mod damage;
mod inspect;
mod packed;
mod resident;
mod synth;
mod weights;
mod write;
