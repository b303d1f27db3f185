//! What a director's files say, in the words of Quorate's configuration, before the directors are put together.

use std::net::IpAddr;
use std::time::Duration;

use super::report::Place;

/// Keys with their values, as TOML writes them.
pub(super) type Fields = Vec<(&'static str, String)>;

/// What one director's files say.
#[derive(Debug, Default)]
pub(super) struct Side {
    /// What messages call it.
    pub(super) label: String,
    /// What `router_id` says.
    pub(super) router_id: Option<(String, Place)>,
    /// The keys of `[cluster]`.
    pub(super) cluster: Vec<(&'static str, String, Place)>,
    /// The groups.
    pub(super) groups: Vec<Group>,
    /// The tracks that groups name.
    pub(super) tracks: Vec<Track>,
    /// The services.
    pub(super) services: Vec<Service>,
}

/// An address that moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Vip {
    /// The address.
    pub(super) ip: IpAddr,
    /// The length of its prefix.
    pub(super) prefix: u8,
    /// The device, if it is not the group's.
    pub(super) device: Option<String>,
    /// Where it stands.
    pub(super) place: Place,
}

/// Addresses that move together.
#[derive(Debug, Clone)]
pub(super) struct Group {
    /// What Keepalived calls it.
    pub(super) name: String,
    /// The last line of it.
    pub(super) until: u32,
    /// The names of its instances.
    pub(super) instances: Vec<String>,
    /// Where it stands.
    pub(super) place: Place,
    /// The device.
    pub(super) device: Option<String>,
    /// The addresses.
    pub(super) vips: Vec<Vip>,
    /// The routes that go with it.
    pub(super) routes: Vec<Route>,
    /// The policy rules that go with it.
    pub(super) rules: Vec<Rule>,
    /// The higher, the rather it is its owner.
    pub(super) priority: u32,
    /// Whether it is to begin as its owner.
    pub(super) master: bool,
    /// Whether it returns.
    pub(super) preempt: bool,
    /// After which time.
    pub(super) preempt_delay: Duration,
    /// The keys of its tracks.
    pub(super) tracks: Vec<String>,
    /// What is run for it.
    pub(super) hooks: Vec<Hook>,
    /// Where `use_vmac` stands.
    pub(super) vmac: Option<Place>,
}

/// An address and the length of its prefix, without bits of a host.
pub(super) type Net = (IpAddr, u8);

/// A route that moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    /// Where it stands.
    pub(super) place: Place,
    /// The type.
    pub(super) kind: &'static str,
    /// Where to.
    pub(super) to: Net,
    /// The next hop.
    pub(super) via: Option<IpAddr>,
    /// The device, if it is not the group's.
    pub(super) device: Option<String>,
    /// What the director itself sends from.
    pub(super) source: Option<IpAddr>,
    /// The table.
    pub(super) table: u32,
    /// The metric.
    pub(super) metric: Option<u32>,
    /// The scope.
    pub(super) scope: Option<&'static str>,
    /// The longest packet.
    pub(super) mtu: Option<u32>,
}

/// A policy rule that moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    /// Where it stands.
    pub(super) place: Place,
    /// Whether it is of IPv4.
    pub(super) four: bool,
    /// Its place among the others; given one after all directors are put together if it says none.
    pub(super) priority: Option<u32>,
    /// Whether it takes what it would else not take.
    pub(super) not: bool,
    /// Where packets come from.
    pub(super) from: Option<Net>,
    /// Where they go to.
    pub(super) to: Option<Net>,
    /// Their firewall mark, and which bits of it count.
    pub(super) mark: Option<(u32, Option<u32>)>,
    /// The device that they came in by.
    pub(super) incoming: Option<String>,
    /// The device that their sender is bound to.
    pub(super) outgoing: Option<String>,
    /// What is done with them, if their route is not looked for.
    pub(super) action: Option<&'static str>,
    /// Where it is looked for.
    pub(super) table: Option<u32>,
}

impl Group {
    /// One without addresses, as Keepalived takes what an instance does not say.
    pub(super) fn new(name: &str, place: Place, until: u32) -> Self {
        Self {
            name: name.to_owned(),
            until,
            instances: Vec::new(),
            place,
            device: None,
            vips: Vec::new(),
            routes: Vec::new(),
            rules: Vec::new(),
            priority: 100,
            master: false,
            preempt: true,
            preempt_delay: Duration::ZERO,
            tracks: Vec::new(),
            hooks: Vec::new(),
            vmac: None,
        }
    }
}

/// Something that a director has to see.
#[derive(Debug, Clone)]
pub(super) struct Track {
    /// What tells it from the others: its kind and name.
    pub(super) key: String,
    /// What it may be called.
    pub(super) name: String,
    /// Where it stands.
    pub(super) place: Place,
    /// What it says.
    pub(super) fields: Fields,
    /// The device, of one of an interface.
    pub(super) device: Option<String>,
}

/// A program that is run.
#[derive(Debug, Clone)]
pub(super) struct Hook {
    /// What it may be called, behind the name of its group or service.
    pub(super) name: &'static str,
    /// The events.
    pub(super) on: Vec<&'static str>,
    /// The program with its arguments.
    pub(super) command: Vec<String>,
    /// Who runs it.
    pub user: Option<String>,
    /// Where it stands.
    pub(super) place: Place,
}

/// Where a service listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Listen {
    /// The address.
    pub(super) ip: IpAddr,
    /// The port; 0: all of them.
    pub(super) port: u16,
    /// The last one of a range.
    pub(super) last: u16,
}

/// A virtual service.
#[derive(Debug, Clone)]
pub(super) struct Service {
    /// Where it stands.
    pub(super) place: Place,
    /// The last line of it.
    pub(super) until: u32,
    /// `tcp`, `udp` or `sctp`.
    pub(super) protocol: &'static str,
    /// Where it listens; of one by mark, what the mark stands for.
    pub(super) listen: Vec<(&'static str, Listen, Place)>,
    /// The firewall mark.
    pub(super) mark: Option<u32>,
    /// How packets reach its real servers.
    pub(super) forward: Forward,
    /// What else it says.
    pub(super) fields: Fields,
    /// Its scheduler.
    pub(super) scheduler: String,
    /// Whether it is persistent.
    pub(super) persistent: bool,
    /// Its real servers.
    pub(super) servers: Vec<Server>,
    /// Who answers while no other does.
    pub(super) sorry: Option<Server>,
    /// What is run for it.
    pub(super) hooks: Vec<Hook>,
}

/// A forwarding method, with the tunnel as TOML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Forward {
    /// Direct routing.
    Dr,
    /// Masquerading.
    Nat,
    /// A tunnel.
    Tun(Option<String>),
}

impl Forward {
    /// Its word.
    #[must_use]
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Dr => "DR",
            Self::Nat => "NAT",
            Self::Tun(_) => "TUN",
        }
    }
}

/// A real server.
#[derive(Debug, Clone)]
pub(super) struct Server {
    /// Where it stands.
    pub(super) place: Place,
    /// The address.
    pub(super) ip: IpAddr,
    /// The port, if it says one.
    pub(super) port: Option<u16>,
    /// Its own forwarding method.
    pub(super) forward: Option<Forward>,
    /// What else it says.
    pub(super) fields: Fields,
    /// How it is probed.
    pub(super) checks: Vec<Check>,
    /// What is run for it.
    pub(super) hooks: Vec<Hook>,
}

/// A probe.
#[derive(Debug, Clone)]
pub(super) struct Check {
    /// Where it stands.
    pub(super) place: Place,
    /// The type.
    pub(super) kind: &'static str,
    /// Whether it connects to a port.
    pub(super) has_port: bool,
    /// What it says, but for the port.
    pub(super) fields: Fields,
    /// The port, if it says one.
    pub(super) port: Option<u16>,
}
