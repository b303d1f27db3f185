//! What a Quorate cluster is, and every decision it takes.
//!
//! This crate is pure: no clock (time is an argument), no I/O, no async, no randomness, and no
//! collection whose order differs between nodes. The daemon, the simulator and the model checker
//! run this same code, so whatever is proven of it holds for all three.
#![forbid(unsafe_code)]

pub mod command;
pub mod id;
pub mod kernel;
pub mod plan;
pub mod spec;
pub mod state;
pub mod time;
