//! The contracts between the model and what computes it: one op each for the forward pass
//! ([`Backend`]), and the two exchanges of rows around the experts ([`Exchange`]).
//!
//! Both are written once, here, with shapes and order of arithmetic; a back end implements them
//! and passes the conformance cases (feature `conformance`). [`Reference`] is the ops as plain
//! loops.

mod backend;
mod check;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod exchange;
pub mod mxfp4;
mod packing;
mod reference;

pub use backend::{
    Attend, Backend, Bf16, Codes, Combine, Embed, ExpertWork, Experts, KvLayout, Linear, Mxfp4,
    RmsNorm, Rotate, Route, Span, StoreKv,
};
pub use exchange::{Dispatch, Exchange, ExchangeError, Moment, Phase, Received, Returned, Work};
pub use packing::{Packing, Strip};
pub use reference::Reference;
