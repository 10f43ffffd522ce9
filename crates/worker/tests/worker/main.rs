//! Whole workers over real sockets, driven by a lead and a coordinator that the tests play.

mod coordinator;
mod lead;
mod process;

mod equality;
mod faults;
mod membership;
mod refusals;
