//! The coordinator: the front (API, text, streams) and the lead (engine and step loop).
//!
//! Both run in one process here, and talk through `conclave.internal.v1` all the same, so that any
//! front can use any lead. Which coordinator leads a group is elected through the membership store:
//! `election` bids for it, `tenure` starts and ends the lead, `directory` tells fronts who leads.

mod directory;
mod election;
pub mod front;
mod lead;
mod limits;
mod quarantine;
mod serve;
mod status;
mod tenure;
mod wire;

pub use lead::LeadConfig;
pub use serve::{Advertised, Config, Error, Listeners, Running, Served, StoreAt, start};
