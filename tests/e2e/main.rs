//! End-to-end tests: real processes, real sockets, real clients.

mod bad_input;
mod commands;
mod equality;
mod faults;
mod python;
