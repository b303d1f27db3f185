//! What a Quorate cluster is, and every decision it takes.
//!
//! This crate is pure: no clock (time is an argument), no I/O, no async, no randomness, and no
//! collection whose order differs between nodes. The daemon, the simulator and the model checker
//! run this same code, so whatever is proven of it holds for all three.
#![forbid(unsafe_code)]

pub mod announce;
pub mod claim;
pub mod command;
pub mod desired;
pub mod director;
pub mod id;
pub mod kernel;
pub mod leadership;
pub mod leaving;
pub mod membership;
pub mod occurrence;
pub mod overrides;
pub mod ownership;
pub mod placement;
pub mod plan;
pub mod probe;
pub mod reach;
pub mod reply;
pub mod routing;
pub mod silence;
pub mod slow_start;
pub mod space;
pub mod spec;
pub mod state;
pub mod sync;
pub mod time;
pub mod watch;
