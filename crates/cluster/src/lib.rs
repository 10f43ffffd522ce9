//! Who is in a group, and which epoch it is in.
//!
//! [`Leader`] is a pure state machine: it is told what happened and when, and answers what to do.
//! It knows no socket, clock or store, so a thousand failures can be played through in a second.

mod event;
mod leader;
mod member;
mod seats;

pub use event::{Action, EpochPlan, Event, LeaderConfig, Status};
pub use leader::Leader;
pub use member::{Refused, Registration};
