//! How much is probed, how often and how, in the words of each system. Pure.
//!
//! Services of twenty real servers each behind one VIP; the real servers have an address each and one
//! port, so that one listener answers for all of them.

use std::fmt::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::failover::vip;

/// Real servers of each service.
const SERVERS_EACH: usize = 20;
/// The port of the first service.
const FIRST_PORT: usize = 10_000;
/// The network of all real servers, which their host has as a whole.
pub(super) const SERVERS: &str = "10.1.0.0/16";
/// Where TCP connections are taken and closed.
pub(super) const TCP_PORT: u16 = 8080;
/// Where pages are served.
pub(super) const HTTP_PORT: u16 = 8081;
/// The real server that fails: the last address of them all.
pub(super) const STRUCK: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(10, 1, 255, 254)), STRUCK_PORT);
/// Its port.
pub(super) const STRUCK_PORT: u16 = 9000;
/// How often that one is probed: a round shall not take long.
const STRUCK_EVERY: Duration = Duration::from_millis(200);

/// How real servers are probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Not at all.
    Unchecked,
    /// That they take a TCP connection.
    Tcp,
    /// That they answer a GET with status 200.
    Http,
}

/// So many real servers, each probed so often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// How many.
    pub targets: usize,
    /// How often each.
    pub every: Duration,
    /// How.
    pub kind: Kind,
}

impl Load {
    /// So many, each so many seconds.
    #[must_use]
    pub fn new(kind: Kind, targets: usize, seconds: u64) -> Self {
        Self { targets, every: Duration::from_secs(seconds), kind }
    }

    /// Probes that are due within this time.
    #[must_use]
    pub fn due_in(self, time: Duration) -> f64 {
        match self.kind {
            Kind::Unchecked => 0.0,
            Kind::Tcp | Kind::Http => {
                let targets = u32::try_from(self.targets).map_or(f64::MAX, f64::from);
                targets * time.as_secs_f64() / self.every.as_secs_f64()
            }
        }
    }

    fn server(number: usize) -> Ipv4Addr {
        Ipv4Addr::from(0x0a01_0001 + u32::try_from(number).unwrap_or(u32::from(u16::MAX)))
    }

    fn port(self) -> u16 {
        if self.kind == Kind::Http { HTTP_PORT } else { TCP_PORT }
    }

    /// Each service's port, with its real servers.
    fn services(self) -> impl Iterator<Item = (usize, impl Iterator<Item = Ipv4Addr>)> {
        (0..self.targets.div_ceil(SERVERS_EACH)).map(move |service| {
            let first = service * SERVERS_EACH;
            let last = (first + SERVERS_EACH).min(self.targets);
            (FIRST_PORT + service, (first..last).map(Self::server))
        })
    }

    /// The configuration of Quorate; with `struck` that real server besides, in a service of its own.
    #[must_use]
    pub fn toml(self, struck: bool) -> String {
        let mut text = format!(
            "[group.web]\ninterface = \"public\"\naddresses = [\"{}/32\"]\n\n\
             [check.probe]\ntype = \"{}\"\ninterval = \"{}ms\"\ntimeout = \"2s\"\nretry = 1\n\
             retry_delay = \"1s\"\n\n\
             [check.struck]\ntype = \"tcp\"\ninterval = \"{}ms\"\ntimeout = \"2s\"\nretry = 0\n",
            vip(0),
            if self.kind == Kind::Http { "http" } else { "tcp" },
            self.every.as_millis(),
            STRUCK_EVERY.as_millis(),
        );
        let check = if self.kind == Kind::Unchecked { "" } else { "check = \"probe\"\n" };
        let port = self.port();
        let service = |of: usize, check: &str| {
            format!(
                "\n[service.s{of}]\ngroup = \"web\"\nlisten = \"tcp/{}:{of}\"\nscheduler = \"wlc\"\n\
                 forward = \"NAT\"\n{check}real_servers = [\n",
                vip(0)
            )
        };
        for (of, servers) in self.services() {
            text += &service(of, check);
            for server in servers {
                let _infallible = writeln!(text, "  {{ address = \"{server}:{port}\" }},");
            }
            text.push_str("]\n");
        }
        if struck {
            text += &service(usize::from(STRUCK_PORT), "check = \"struck\"\n");
            let _infallible = writeln!(text, "  {{ address = \"{STRUCK}\" }},\n]");
        }
        text
    }

    /// The same for Keepalived.
    #[must_use]
    pub fn keepalived(self, struck: bool) -> String {
        let mut text = "global_defs {\n  router_id d1\n}\n".to_owned();
        let port = self.port();
        let tries = "    connect_timeout 2\n    retry 1\n    delay_before_retry 1\n";
        let check = match self.kind {
            Kind::Unchecked => String::new(),
            Kind::Tcp => format!("   TCP_CHECK {{\n{tries}   }}\n"),
            Kind::Http => format!(
                "   HTTP_GET {{\n    url {{\n     path /\n     status_code 200\n    }}\n{tries}   }}\n"
            ),
        };
        let service = |of: usize, every: Duration| {
            format!(
                "virtual_server {} {of} {{\n  delay_loop {}\n  lvs_sched wlc\n  lvs_method NAT\n  \
                 protocol TCP\n",
                vip(0),
                every.as_secs_f64(),
            )
        };
        for (of, servers) in self.services() {
            text += &service(of, self.every);
            for server in servers {
                let _infallible =
                    write!(text, "  real_server {server} {port} {{\n   weight 1\n{check}  }}\n");
            }
            text.push_str("}\n");
        }
        if struck {
            let _infallible = write!(
                text,
                "{}  real_server {} {STRUCK_PORT} {{\n   weight 1\n   TCP_CHECK {{\n    \
                 connect_timeout 2\n    retry 0\n   }}\n  }}\n}}\n",
                service(usize::from(STRUCK_PORT), STRUCK_EVERY),
                STRUCK.ip()
            );
        }
        text
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { targets, every, kind } = self;
        match kind {
            Kind::Unchecked => write!(f, "{targets} real servers without checks"),
            Kind::Tcp => write!(f, "{targets} TCP targets each {every:?}"),
            Kind::Http => write!(f, "{targets} HTTP targets each {every:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_systems_probe_the_same_servers_as_often() {
        let load = Load::new(Kind::Http, 22, 2);
        let (toml, other) = (load.toml(true), load.keepalived(true));
        assert!(toml.contains("type = \"http\"\ninterval = \"2000ms\"\n"), "{toml}");
        assert!(other.contains("delay_loop 2\n") && other.contains("delay_loop 0.2\n"), "{other}");
        for (server, service) in [(1, 10_000), (20, 10_000), (21, 10_001), (22, 10_001)] {
            assert_eq!(toml.matches(&format!("\"10.1.0.{server}:8081\"")).count(), 1);
            assert_eq!(other.matches(&format!("real_server 10.1.0.{server} 8081 ")).count(), 1);
            assert!(toml.contains(&format!("[service.s{service}]")), "{toml}");
        }
        assert_eq!(
            (toml.matches("listen = ").count(), other.matches("virtual_server").count()),
            (3, 3)
        );
        assert!(toml.contains("\"10.1.255.254:9000\"") && other.contains("10.1.255.254 9000"));
    }

    #[test]
    fn a_load_without_checks_has_no_probe_due() {
        let minute = Duration::from_secs(60);
        let due = |kind| Load::new(kind, 2_000, 2).due_in(minute);
        assert_eq!((due(Kind::Tcp).round(), due(Kind::Unchecked)), (60_000.0, 0.0));
        let text = Load::new(Kind::Unchecked, 3, 2).toml(false);
        assert!(!text.contains("check = "), "{text}");
    }
}
