//! The ownership protocol of design §3 as machines without I/O: a voter that promises, an owner
//! that renews, and the messages between them. Two directors never answer for one VIP because any
//! two majorities share a voter, and that voter's promise to the old owner outlasts its lease.

pub mod message;
pub mod owner;
pub mod quorum;
pub mod voter;
