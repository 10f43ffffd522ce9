//! End-to-end tests: real processes, real sockets, real clients.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod admin;
mod api_page;
mod bad_clients;
mod bad_input;
mod bench;
mod commands;
mod corrupt;
mod damage;
mod drain;
mod equality;
mod failures;
mod faults;
mod generations;
mod kills;
mod logs;
mod mini;
mod operators;
mod order;
mod python;
mod recipe;
mod reflection;
mod streams;
