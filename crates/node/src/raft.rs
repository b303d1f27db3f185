//! The node's part in the Raft group.
//!
//! openraft stays behind this module: the rest of the daemon proposes commands, reads the
//! replicated state and Raft's status, and knows nothing else of it. The tests with several nodes
//! are in `raft/tests.rs`.

pub mod config;
pub mod handle;
mod leadership;
pub mod machine;
mod membership;
pub mod node;
mod overrides;
pub(crate) mod reader;
mod rollback;
pub mod status;
pub mod store;
pub mod types;
pub(crate) mod wire;

#[cfg(test)]
mod tests;
