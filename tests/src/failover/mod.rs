//! Failover, seen from outside: deployments that stay up while one fault after the other hits them,
//! and an observer that asks all the while who answers.
//!
//! Owns the faults, and what is done around each: settle, strike, watch, heal. `quorate` and
//! `keepalived` are the two systems that it is done to; `bench` compares them, `soak` looks for an
//! instant at which two directors answer. Never judges by what a daemon says of itself: only by
//! answers on the wire. Its tests are below the modules, `tests/tests/lab_host_failover.rs` and
//! `tests/tests/lab_host_faults.rs`.

pub mod bed;
pub mod bench;
pub mod fault;
pub mod keepalived;
pub mod quorate;
pub mod round;
pub mod soak;
pub mod statistics;

use std::net::Ipv4Addr;

use ipnet::IpNet;

use crate::lab::{Host, LabError};

/// The directors of a deployment, with their addresses; the first three or all five are used.
pub const DIRECTORS: [(&str, Ipv4Addr); 5] = [
    ("d1", Ipv4Addr::new(192, 168, 10, 80)),
    ("d2", Ipv4Addr::new(192, 168, 10, 23)),
    ("d3", Ipv4Addr::new(192, 168, 10, 24)),
    ("d4", Ipv4Addr::new(192, 168, 10, 25)),
    ("d5", Ipv4Addr::new(192, 168, 10, 26)),
];
/// Where the observer asks from.
pub const CLIENT: (&str, Ipv4Addr) = ("client", Ipv4Addr::new(192, 168, 10, 100));

/// So many directors, and the observer's host.
///
/// # Errors
/// Never for these constants; an address that is none.
pub fn hosts(directors: usize) -> Result<Vec<Host>, LabError> {
    let all = DIRECTORS.iter().take(directors).chain([&CLIENT]);
    all.map(|(name, address)| {
        let unreadable = |_| LabError::Unreadable {
            what: "an address of the lab".to_owned(),
            text: address.to_string(),
        };
        Ok(Host::new(name, IpNet::new((*address).into(), 24).map_err(unreadable)?))
    })
    .collect()
}

/// The VIP of a group, by its number.
#[must_use]
pub fn vip(number: usize) -> Ipv4Addr {
    let part = |number: usize| u8::try_from(number).unwrap_or(u8::MAX);
    match number {
        0..20 => Ipv4Addr::new(192, 168, 10, 180 + part(number)),
        more => Ipv4Addr::new(10, 77, part(more / 250), part(more % 250) + 1),
    }
}
