//! The ownership protocol by itself: the voters and owners of `quorate-model`, a log of grants, a
//! network that loses, repeats, delays and reorders what it likes, disks, drifting clocks, and a
//! fence for each node. No director, no kernel, no placement: who is granted what, and when, is
//! the adversary's choice.
//!
//! One [`World`] serves four uses. `check` tries every order of events within bounds (stateright).
//! `walk` tries random orders without bounds, by the million. `script` plays one order, written
//! by hand. And each mutant breaks one rule around the real code: the same order that is harmless
//! with the rule must break an invariant without it.
//!
//! What it shows, and what not, stands in `docs/design/ownership.md`. Run by `tests/tests/ownership_*.rs`.
#![allow(clippy::unwrap_used, reason = "a model that can't go on fails its test")]

mod ask;
pub mod check;
mod daemon;
pub mod log;
mod membership;
pub mod mutant;
mod network;
pub mod script;
pub mod walk;
mod world;

pub use mutant::Mutant;
pub use network::{Datagram, Key};
pub use world::{Broken, Machine, Plan, World};
