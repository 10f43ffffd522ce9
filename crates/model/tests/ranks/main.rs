//! Ranks as threads, and what a rank does with its parts.

#![expect(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

mod equality;
mod group;
mod parts;
mod refusals;
#[path = "../golden/twist.rs"]
mod twist;
