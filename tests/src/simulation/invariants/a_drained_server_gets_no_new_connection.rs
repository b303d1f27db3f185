//! A director that has been told of a configuration opens no connection to a real server that has
//! weight 0 there, or by an operator's order, or is not in it: after a bounded time, however often its kernel refused, and
//! whatever probing says.
//!
//! Asked of each connection that a client makes through the kernel which serves the address.

use std::net::SocketAddr;

use quorate_model::desired;
use quorate_model::kernel::ServiceKey;
use quorate_model::spec::ClusterSpec;

use crate::simulation::clock::{MS, Real};
use crate::simulation::mutant::Mutant;
use crate::simulation::node::Node;

/// What it catches.
pub const CATCHES: &[Mutant] = &[Mutant::ServicesTriedOnce, Mutant::WeightByVerdict];

/// How long a running daemon may take to bring its kernel in line: what it refused is tried again
/// every 20 ms here, and it refuses one in four.
pub const BOUND: Real = 500 * MS;

/// Looks at a new connection through a node's kernel.
///
/// # Errors
///
/// No configuration that the node could still go by lets the real server have it.
pub fn check(now: Real, node: &Node, key: &ServiceKey, server: &SocketAddr) -> Result<(), String> {
    let settled = now.saturating_sub(node.running_since) >= BOUND;
    let current = |replaced: &Option<Real>| replaced.is_none_or(|at| now - at < BOUND);
    let mut going_by = node.told_of.iter().filter(|(_, replaced)| current(replaced));
    if !node.runs() || !settled || going_by.any(|(spec, _)| takes_connections(spec, key, server)) {
        return Ok(());
    }
    Err(format!("{server} gets a connection of {key} though it is drained"))
}

fn takes_connections(spec: &ClusterSpec, key: &ServiceKey, server: &SocketAddr) -> bool {
    spec.services.values().any(|service| {
        desired::keys(service).contains(key)
            && service.real_servers.iter().any(|s| s.address == *server && s.weight > 0)
    })
}
