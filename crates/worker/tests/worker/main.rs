//! Whole workers over real sockets, driven by a lead and a coordinator that the tests play.

#![expect(
    clippy::unwrap_used,
    reason = "a failed assumption fails the test that made it"
)]

mod coordinator;
mod lead;
mod process;

mod equality;
mod faults;
mod membership;
mod refusals;
