//! Who is in a group, and which epoch it is in.
//!
//! [`Leader`] and [`Candidate`] are pure state machines: they are told what happened and when, and
//! answer what to do. They know no socket, clock or store, so a thousand failures can be played
//! through in a second.

mod candidate;
mod event;
mod leader;
mod member;
mod seats;

pub use candidate::{Ask, Candidate, HAND_OVER, Heard, LeadRecord, Revision, Seat};
pub use event::{Action, EpochPlan, Event, LeaderConfig, Standing, Status};
pub use leader::{GRACE, Leader};
pub use member::{Refused, Registration};
