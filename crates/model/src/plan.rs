//! From what is wanted and what is found to an ordered list of actions on the kernel.

use std::net::SocketAddr;

use crate::kernel::{Destination, ServiceKey, ServiceSettings};

/// One change of the kernel's IPVS table. "Already so" is success for each (design §5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make a virtual service without real servers.
    AddService(ServiceKey, ServiceSettings),
    /// Give a virtual service other settings, keeping its connections.
    SetService(ServiceKey, ServiceSettings),
    /// Remove a virtual service with its real servers.
    DeleteService(ServiceKey),
    /// Add a real server to a virtual service.
    AddDestination(ServiceKey, SocketAddr, Destination),
    /// Give a real server another weight or forwarding method, keeping its connections.
    SetDestination(ServiceKey, SocketAddr, Destination),
    /// Remove a real server from a virtual service.
    DeleteDestination(ServiceKey, SocketAddr),
}
