//! Hubs over real sockets: the suite that every transport passes, failures, and wrong input.
#![cfg(test)]

mod conformance;
mod epochs;
mod faults;
mod lanes;
mod process;
mod wrong_input;
