//! The real binary `quorate` against nodes that are kept in memory: what it prints where, and how
//! it ends. `fake` is such a node; each other file is one part of the behaviour.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that can't go on ends")]

mod cluster;
mod configuration;
mod context;
mod convert;
mod events;
mod examples;
mod explain;
mod failures;
mod fake;
mod orders;
mod reference;
mod remote;
mod revisions;
mod run;
mod shell;
mod status;
mod tools;
mod validate;
