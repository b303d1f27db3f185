//! Once faults stop, every address of the configuration is served after a bounded time and from
//! then on without a gap, and nothing moves without need. One node may stay dead: what it owned
//! has to move.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use quorate_model::id::NodeId;
use quorate_model::spec::ClusterSpec;
use quorate_model::time::promise;

use crate::simulation::clock::{MS, Real};
use crate::simulation::mutant::Mutant;
use crate::simulation::node::Node;

/// What it catches.
pub const CATCHES: &[Mutant] =
    &[Mutant::NeverAsksAgain, Mutant::ProposalNeverEnds, Mutant::Unsuspecting];

/// How long after the last fault everything is served: two seconds for the election, the disk and
/// the log to catch up, and for each of quarantine, the promise to the last owner, suspicion and
/// one move more no longer than the longest promise.
#[must_use]
pub fn bound(longest_lease: Duration) -> Real {
    let longest = u64::try_from(promise(longest_lease).as_nanos()).unwrap_or(u64::MAX);
    2_000 * MS + 4 * longest
}

/// Looks at every kernel.
///
/// # Errors
///
/// An address is not served.
pub fn check(now: Real, nodes: &BTreeMap<NodeId, Node>, spec: &ClusterSpec) -> Result<(), String> {
    for (name, group) in &spec.groups {
        for address in group.addresses.iter().map(|vip| vip.net.addr()) {
            let served = |ip: IpAddr| nodes.values().any(|n| n.kernel.serves(n.clock.at(now), ip));
            if !served(address) {
                return Err(format!("{address} of {name} is not served though all is well"));
            }
        }
    }
    Ok(())
}
