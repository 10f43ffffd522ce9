//! The engine against stub ranks: random walks, and one test for each thing it promises.

mod batching;
mod contract;
mod fairness;
mod prefix;
mod sharing;
mod walk;
mod world;
