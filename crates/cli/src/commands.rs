//! One file a command.

pub(crate) mod admin;
pub(crate) mod bench;
pub(crate) mod chat;
pub(crate) mod coordinator;
pub(crate) mod generate;
pub(crate) mod inspect;
pub(crate) mod synth;
pub(crate) mod up;
pub(crate) mod worker;
