//! A table of so many services with so many real servers each, in the words of each system. Pure.
//! All have the same rules: one VIP, a port for each service, `wlc`, direct routing, no checks.

use std::fmt::{self, Write as _};
use std::net::Ipv4Addr;

use crate::failover::vip;

/// The port of the first service.
const FIRST_PORT: usize = 10_000;

/// A table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// How many virtual services.
    pub services: usize,
    /// How many real servers each has.
    pub servers: usize,
}

impl Shape {
    /// Many services, few real servers each: 10,000 real servers.
    pub const WIDE: Self = Self { services: 1_000, servers: 10 };
    /// Few services, many real servers each: 30,000 real servers.
    pub const DEEP: Self = Self { services: 100, servers: 300 };
    /// 50,000 real servers.
    pub const LARGE: Self = Self { services: 5_000, servers: 10 };

    /// Real servers of all services.
    #[must_use]
    pub fn real_servers(self) -> usize {
        self.services * self.servers
    }

    /// The port of a service.
    #[must_use]
    pub fn port(service: usize) -> usize {
        FIRST_PORT + service
    }

    /// The port of the last service: the first real server of that one has the weight that changes.
    #[must_use]
    pub fn last_port(self) -> usize {
        Self::port(self.services.saturating_sub(1))
    }

    /// The address of a real server: no two are the same.
    #[must_use]
    pub fn address(self, service: usize, server: usize) -> Ipv4Addr {
        let number = u32::try_from(service * self.servers + server).unwrap_or(u32::MAX >> 8);
        Ipv4Addr::from(0x0a80_0001 + number)
    }

    /// The real server whose weight changes.
    #[must_use]
    pub fn chosen(self) -> Ipv4Addr {
        self.address(self.services.saturating_sub(1), 0)
    }

    /// Each service's port with its real servers and their weights.
    fn each(self, weight: u32) -> impl Iterator<Item = (usize, Vec<(Ipv4Addr, u32)>)> {
        (0..self.services).map(move |service| {
            let of = |server| {
                let address = self.address(service, server);
                (address, if address == self.chosen() { weight } else { 1 })
            };
            (Self::port(service), (0..self.servers).map(of).collect())
        })
    }

    /// The chosen one with this weight, as Quorate's configuration.
    #[must_use]
    pub fn toml(self, weight: u32) -> String {
        group() + &self.services_toml(weight)
    }

    /// The services of [`Self::toml`], without their group.
    #[must_use]
    pub fn services_toml(self, weight: u32) -> String {
        let mut text = String::new();
        for (port, servers) in self.each(weight) {
            let servers: Vec<String> = servers
                .iter()
                .map(|(address, weight)| {
                    format!("{{ address = \"{address}\", weight = {weight} }}")
                })
                .collect();
            let _infallible = write!(
                text,
                "\n[service.s{port}]\ngroup = \"web\"\nlisten = \"tcp/{}:{port}\"\n\
                 scheduler = \"wlc\"\nreal_servers = [\n  {},\n]\n",
                vip(0),
                servers.join(",\n  ")
            );
        }
        text
    }

    /// The same for Keepalived: the checker alone, and no checks, so that every real server stands
    /// from the beginning.
    #[must_use]
    pub fn keepalived(self, weight: u32) -> String {
        let mut text = "global_defs {\n  router_id d1\n}\n".to_owned();
        for (port, servers) in self.each(weight) {
            let _infallible = write!(
                text,
                "virtual_server {} {port} {{\n  lvs_sched wlc\n  lvs_method DR\n  protocol TCP\n",
                vip(0)
            );
            for (address, weight) in servers {
                let _infallible =
                    writeln!(text, "  real_server {address} {port} {{\n    weight {weight}\n  }}");
            }
            text.push_str("}\n");
        }
        text
    }

    /// The same for `ipvsadm-restore`.
    #[must_use]
    pub fn rules(self, weight: u32) -> String {
        let mut text = String::new();
        for (port, servers) in self.each(weight) {
            let at = format!("{}:{port}", vip(0));
            let _infallible = writeln!(text, "-A -t {at} -s wlc");
            for (address, weight) in servers {
                let _infallible = writeln!(text, "-a -t {at} -r {address}:{port} -g -w {weight}");
            }
        }
        text
    }
}

/// The group alone, with no service.
pub(super) fn group() -> String {
    format!(
        "[group.web]\ninterface = \"public\"\naddresses = [\"{}/32\"]\npreempt = false\n",
        vip(0)
    )
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} × {}", self.services, self.servers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_system_gets_the_same_rules() {
        let shape = Shape { services: 2, servers: 2 };
        assert_eq!(shape.real_servers(), 4);
        let (toml, rules, other) = (shape.toml(7), shape.rules(7), shape.keepalived(7));
        for (n, port) in [(1, 10_000), (2, 10_000), (3, 10_001), (4, 10_001)] {
            let weight = if n == 3 { 7 } else { 1 };
            let address = format!("10.128.0.{n}");
            assert!(toml.contains(&format!("\"{address}\", weight = {weight} ")), "{toml}");
            let rule = format!("-r {address}:{port} -g -w {weight}\n");
            assert!(rules.contains(&rule), "{rules}");
            let block = format!("real_server {address} {port} {{\n    weight {weight}\n");
            assert!(other.contains(&block), "{other}");
        }
        assert_eq!(shape.chosen(), Ipv4Addr::new(10, 128, 0, 3));
    }
}
