//! The simulator: real directors of `quorate-model` over a simulated log, network, clocks, disks
//! and kernels, with faults from a seed. The same seed gives the same run, step by step.
//!
//! Owns the world that the directors live in, the faults, and the invariants. It decides nothing
//! that a director decides. `tests/tests/simulation.rs` runs it, and says how a failed seed is run
//! again.
#![allow(clippy::unwrap_used, reason = "a simulator that can't go on fails its test")]

mod calm;
pub mod clock;
mod daemon;
mod datagrams;
mod faults;
pub mod invariants;
pub mod kernel;
pub mod log;
pub mod mutant;
pub mod network;
pub mod node;
mod questions;
mod raft;
pub mod random;
mod services;
pub mod setup;
pub mod trace;
mod world;
mod writes;

pub use mutant::Mutant;
pub use world::{Invariant, Outcome, Plan, Violation, run};
