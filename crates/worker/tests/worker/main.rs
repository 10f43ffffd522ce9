//! Whole workers over real sockets, driven by a lead and a coordinator that the tests play.

#![expect(
    clippy::unwrap_used,
    reason = "a failed assumption fails the test that made it"
)]

mod coordinator;
mod health;
mod lead;
mod process;
mod relay;

mod equality;
mod faults;
mod leads;
mod membership;
mod refusals;
mod shown;
