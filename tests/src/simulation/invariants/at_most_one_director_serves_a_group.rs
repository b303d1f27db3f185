//! At any instant of real time at most one director's kernel answers for an address. Asked for
//! each address, since addresses move between groups.
//!
//! Whether a kernel serves begins only when its fence or its addresses change, and ends by itself:
//! so it is enough to look after each such change.

use std::collections::BTreeMap;
use std::net::IpAddr;

use quorate_model::id::NodeId;

use crate::simulation::clock::Real;
use crate::simulation::mutant::Mutant;
use crate::simulation::node::Node;

/// What it catches here. `tests/tests/ownership_rules.rs` has many more.
pub const CATCHES: &[Mutant] = &[
    Mutant::NoQuarantine,
    Mutant::ShortPromise,
    Mutant::NoHeld,
    Mutant::AckForTheNewestRound,
    Mutant::Minority,
    Mutant::NoFence,
];

/// Looks at every kernel.
///
/// # Errors
///
/// Two directors serve an address.
pub fn check(
    now: Real,
    nodes: &BTreeMap<NodeId, Node>,
    addresses: &[IpAddr],
) -> Result<(), String> {
    for &address in addresses {
        let serving = nodes.iter().filter(|(_, n)| n.kernel.serves(n.clock.at(now), address));
        let serving: Vec<String> = serving.map(|(id, _)| format!("n{id}")).collect();
        if serving.len() > 1 {
            return Err(format!("{address} is served by {}", serving.join(" and ")));
        }
    }
    Ok(())
}
