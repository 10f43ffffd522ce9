//! The exchange between worker processes of one machine, over Unix sockets.
//!
//! From each rank to each rank of another process leads a lane of its own, a socket that carries frames
//! one way. The thread that computes for a rank writes to its lanes and reads from them itself: between
//! two ranks there is no other thread to be woken, and a row is copied into the system and out of it, no
//! more often.
//!
//! ```text
//! compute thread ─ Lanes ─ outgoing lane ═ socket ═ incoming lane ─ Lanes ─ compute thread over there
//! ```
//!
//! - [`Bell`]: what wakes a rank that sleeps over its lanes for anything else;
//! - [`Arrivals`]: where the lanes come in that others have opened;
//! - [`Lanes`]: all lanes of a rank; [`Round`]: one exchange over them;
//! - `header`, `outgoing`, `incoming`: what goes over a lane, and its two ends.

mod arrivals;
mod bell;
mod header;
mod incoming;
mod lanes;
mod limits;
mod outgoing;
mod round;

pub use arrivals::Arrivals;
pub use bell::Bell;
pub use lanes::Lanes;
pub use round::{Arrived, Coming, Round};
