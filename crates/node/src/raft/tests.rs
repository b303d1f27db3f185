//! Several nodes on one machine: real sled, real TLS, loopback.
//!
//! Each node has a runtime of its own, which is torn down to kill it.

mod admission;
mod cluster;
mod datagrams;
mod leadership;
mod links;
mod member;
mod recover;
mod release;
mod rollback;
mod space;
