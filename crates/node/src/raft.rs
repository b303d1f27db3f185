//! The node's part in the Raft group.

pub mod machine;
pub mod store;
pub mod types;
pub(crate) mod wire;
