//! What this node answers: the public API on the local socket and over mutual TLS.

pub(crate) mod admin;
mod connections;
pub(crate) mod error;
mod events;
mod leader;
pub(crate) mod local;
mod orders;
pub(crate) mod remote;
mod revisions;
mod served;
pub(crate) mod services;
pub(crate) mod status;
