//! A second segment of a deployment: a bridge of its own, and a second interface on some hosts, as
//! a heartbeat line is. It is cut and healed apart from the first. Its test is
//! `tests/tests/lab_host_links.rs`.

use ipnet::IpNet;

use super::LabError;
use super::network::{BRIDGE, Network, address_line, ip};

/// A host's interface on the second segment.
pub const SECOND_INTERFACE: &str = "eth1";

/// The bridge's port to a host.
fn port(host: &str) -> String {
    format!("{host}-2")
}

impl Network {
    /// Joins these hosts by a second segment, each with this address on it.
    ///
    /// # Errors
    /// When there is no such host, or a tool fails.
    pub fn join_second_segment(&self, hosts: &[(&str, IpNet)]) -> Result<(), LabError> {
        let bridge = self.namespace(BRIDGE)?.name();
        let up = ["link add br1 type bridge forward_delay 0 stp_state 0", "link set br1 up"];
        ip(Some(bridge), &up.map(str::to_owned))?;
        for (host, address) in hosts {
            let (port, namespace) = (port(host), self.namespace(host)?.name());
            let pair = format!(
                "link add name {port} netns {bridge} type veth peer name {SECOND_INTERFACE} \
                 netns {namespace}"
            );
            ip(None, &[pair])?;
            let master = format!("link set dev {port} master br1");
            ip(Some(bridge), &[master, format!("link set dev {port} up")])?;
            let up = format!("link set dev {SECOND_INTERFACE} up");
            ip(Some(namespace), &[up, address_line("add", SECOND_INTERFACE, address)])?;
        }
        Ok(())
    }

    /// Cuts a host off the second segment behind its switch: it keeps the carrier, hears nothing.
    ///
    /// # Errors
    /// When there is no such host, or a tool fails.
    pub fn cut_second_silently(&self, host: &str) -> Result<(), LabError> {
        let line = format!("link set dev {} nomaster", port(host));
        ip(Some(self.namespace(BRIDGE)?.name()), &[line])
    }

    /// Undoes [`Network::cut_second_silently`].
    ///
    /// # Errors
    /// When there is no such host, or a tool fails.
    pub fn heal_second(&self, host: &str) -> Result<(), LabError> {
        let line = format!("link set dev {} master br1", port(host));
        ip(Some(self.namespace(BRIDGE)?.name()), &[line])
    }
}
