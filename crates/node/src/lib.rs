//! quorated: Raft, storage, transport, clock, director loop, probes, API.
//!
//! Pure decisions are `quorate-model`'s; this crate carries them out. Inside it, the API, Raft and
//! the probes talk to the director loop over bounded channels, not to each other.
#![forbid(unsafe_code)]

pub mod clock;
pub mod config;
pub mod identity;
pub mod raft;
