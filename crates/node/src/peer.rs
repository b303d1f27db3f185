//! Node to node: who may speak, over which connections, and what is said.
//!
//! A peer is known by its pinned key and by nothing else. Every message names its cluster and the
//! node it is meant for, and is refused elsewhere. The tests stand with the Raft node's
//! (`raft/tests`), which needs all of this.

pub mod admission;
pub mod channel;
pub mod datagrams;
pub mod dial;
pub mod directory;
pub(crate) mod dropped;
pub mod join;
pub mod listener;
pub(crate) mod network;
pub mod server;
pub mod tls;
