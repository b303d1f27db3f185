//! The cluster's configuration as types that can't be wrong. Text becomes these types in `read`
//! (design §6), which reports every error at once; nothing later needs to check again.

mod check;
pub mod difference;
pub mod document;
mod hook;
mod http;
mod ipvs;
mod kinds;
pub mod nodes;
pub mod read;
mod track;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::id::{GroupName, HookName, InterfaceName, NodeName, ServiceName};
use crate::routing::RoutingEntry;
use crate::time::Timing;

pub use check::{Check, CheckKind, Damp, Origin, Through, Via};
pub use document::{Diagnostics, Format};
pub use hook::{Hook, RunOn};
pub use http::{
    BodyDigest, HttpCheck, HttpMethod, HttpRequest, HttpVersion, Matcher, Pattern, StatusCodes, Tls,
};
pub use ipvs::{
    Engine, Forward, Persistence, Protocol, SCHEDULERS, Scheduler, SchedulerFlag, SchedulerFlags,
    Thresholds, Timeouts, Tunnel, TunnelChecksum,
};
pub use kinds::{
    DNS_RECORDS, DnsCheck, DnsRecord, ExecCheck, FileCheck, GrpcCheck, RCODES, Rcode, UdpCheck,
    UdpReply,
};
pub use nodes::{KnownNode, against_nodes};
pub use read::{examine, json_schema, parse};
pub use track::{FileRule, Track, TrackKind};

/// How long a better director must have been eligible before a group returns to it, by default.
pub const PREEMPT_DELAY_DEFAULT: Duration = Duration::from_secs(60);
/// Largest weight of a real server (the kernel has no limit; ipvsadm(8) gives 65535).
pub const WEIGHT_MAX: u32 = 65_535;

/// The whole replicated configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterSpec {
    /// Lease and renewal interval; absent: the cluster keeps what it has.
    pub timing: Option<Timing>,
    /// Addresses one of which a director has to reach, for groups that name none of their own.
    pub arbitration: Vec<IpAddr>,
    /// How long every director's kernel keeps connections on which nothing comes.
    pub timeouts: Timeouts,
    /// How directors tell each other of their connections; `None`: they don't.
    pub sync: Option<Sync>,
    /// How long a director must have listened before a group returns to it by itself.
    pub sync_warmup: Duration,
    /// Whether services in the kernel that are not of this configuration are removed.
    pub foreign_services: ForeignServices,
    /// VIP groups by name.
    pub groups: BTreeMap<GroupName, VipGroup>,
    /// Virtual services by name.
    pub services: BTreeMap<ServiceName, VirtualService>,
    /// Programs that are run when something happened, by name.
    pub hooks: BTreeMap<HookName, Hook>,
}

/// What becomes of services in a director's kernel that Quorate did not program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ForeignServices {
    /// They are left alone.
    #[default]
    Keep,
    /// They are removed: the whole table is Quorate's.
    Remove,
}

/// How the IPVS sync daemons of the directors talk (ipvsadm(8): --start-daemon).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sync {
    /// The `[[link]]` of every node's `node.toml` whose device they use.
    pub link: String,
    /// Which daemons heed each other of several on one network, 1 to 255.
    pub id: u8,
    /// The multicast group.
    pub group: IpAddr,
    /// Its UDP port.
    pub port: u16,
    /// How many hops a message may take.
    pub ttl: u8,
    /// The longest message in bytes; `None`: what fits the device's frames.
    pub max_len: Option<u16>,
    /// How often a connection that goes on is told of again, in seconds
    /// (`net.ipv4.vs.sync_refresh_period`).
    pub refresh_s: u32,
    /// How often each telling is repeated (`net.ipv4.vs.sync_retries`).
    pub retries: u8,
}

/// Addresses that move together: the unit of ownership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VipGroup {
    /// Its addresses, in the order of the file; never empty, no address twice in the cluster.
    pub addresses: Vec<Vip>,
    /// Directors in the order in which they are preferred.
    pub prefer: Vec<NodeName>,
    /// If given, no other director may own the group.
    pub only: Option<Vec<NodeName>>,
    /// Whether the group returns to a better director.
    pub preempt: bool,
    /// How long that director must have been eligible first.
    pub preempt_delay: Duration,
    /// The group's own arbitration addresses, in place of the cluster's; empty: none.
    pub arbitration: Option<Vec<IpAddr>>,
    /// What a director has to see, in the order of the file, none twice.
    pub tracks: Vec<Track>,
    /// Whether a director that sees fewer of the group's real servers than another may not own it.
    pub evacuate_on_disagreement: bool,
    /// For how long it has to see fewer; if not given, what the slowest check takes to a verdict.
    pub disagreement_delay: Option<Duration>,
    /// Routes and policy rules that its owner has; no two of them in one place of a kernel.
    pub routing: BTreeSet<RoutingEntry<InterfaceName>>,
}

impl Default for ClusterSpec {
    /// That of an empty file.
    fn default() -> Self {
        Self {
            timing: None,
            arbitration: Vec::new(),
            timeouts: Timeouts::default(),
            sync: None,
            sync_warmup: read::WARMUP_DEFAULT,
            foreign_services: ForeignServices::default(),
            groups: BTreeMap::new(),
            services: BTreeMap::new(),
            hooks: BTreeMap::new(),
        }
    }
}

impl ClusterSpec {
    /// The addresses one of which a director has to reach to be fit for this group: the group's
    /// own, else the cluster's. Where there is none, nothing is asked.
    #[must_use]
    pub fn arbitration_of<'a>(&'a self, group: &'a VipGroup) -> &'a [IpAddr] {
        group.arbitration.as_deref().unwrap_or(&self.arbitration)
    }

    /// The service of this name, where it has a real server at this address; a sorry server is none.
    #[must_use]
    pub fn service_with(&self, name: &ServiceName, server: &SocketAddr) -> Option<&VirtualService> {
        let service = self.services.get(name)?;
        service.real_servers.iter().any(|real| real.address == *server).then_some(service)
    }
}

/// One virtual IP address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Vip {
    /// Address and prefix length.
    pub net: IpNet,
    /// The interface that carries it, by the name that every node's `node.toml` maps.
    pub interface: InterfaceName,
}

/// A virtual service and the real servers behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualService {
    /// The VIP group that holds its addresses.
    pub group: GroupName,
    /// Where it listens; never empty, every address a VIP of its group.
    pub listen: Vec<Listen>,
    /// The firewall mark by which IPVS takes all of `listen` for one service.
    pub mark: Option<NonZeroU32>,
    /// How it chooses a real server.
    pub scheduler: Scheduler,
    /// What its scheduler does besides.
    pub flags: SchedulerFlags,
    /// Whether each datagram is scheduled by itself (UDP).
    pub one_packet: bool,
    /// Whether and how clients stick to a real server.
    pub persistence: Option<Persistence>,
    /// How real servers are probed: all of it has to pass; empty: they count as up.
    pub checks: Vec<Arc<Check>>,
    /// The same for the real servers that have checks of their own, in place of these.
    pub own_checks: BTreeMap<SocketAddr, Vec<Arc<Check>>>,
    /// Real servers whose weight an operator ordered: no check changes it.
    pub ordered: BTreeSet<SocketAddr>,
    /// Whether a failed real server stays in the table with weight 0 instead of leaving it.
    pub inhibit: bool,
    /// The weight of real servers that has to be up, or the sorry server answers.
    pub quorum: u32,
    /// By how much more or less than that it takes to gain or lose it; less than the quorum.
    pub hysteresis: u32,
    /// While fewer real servers than this are up, all of them serve; 0: never. Not with a sorry server.
    pub min_up: u32,
    /// In which time a real server that comes up, or is new, gets its whole weight; zero: at once.
    pub slow_start: Duration,
    /// For how long a real server that leaves the configuration keeps its connections, with weight 0;
    /// zero: they end with it.
    pub drain: Duration,
    /// Its real servers, in the order of the file, no address twice.
    pub real_servers: Vec<RealServer>,
    /// Who answers while no real server takes connections.
    pub sorry_server: Option<RealServer>,
}

impl VirtualService {
    /// How the real server at this address is probed.
    #[must_use]
    pub fn checks_of(&self, server: &SocketAddr) -> &[Arc<Check>] {
        self.own_checks.get(server).unwrap_or(&self.checks)
    }

    /// The way of clients' packets to a real server, from the first address of its family at which they come;
    /// `None` where none can be tried: by NAT, by tunnels with a header of their own or of the other family, or
    /// for other protocols.
    #[must_use]
    pub fn through(&self, server: &RealServer) -> Option<Through> {
        let tunnelled = match server.forward {
            Forward::Dr => false,
            Forward::Tun(Tunnel::Ipip) => true,
            Forward::Tun(_) | Forward::Nat => return None,
        };
        let way = |listen: &&Listen| {
            let vip = listen.address;
            let by_tcp = listen.protocol == Protocol::Tcp && vip.port() > 0;
            by_tcp && vip.is_ipv4() == server.address.is_ipv4()
        };
        let vip = self.listen.iter().find(way)?.address;
        Some(Through { vip, tunnelled })
    }
}

/// Protocol, address and port of a virtual service, or a range of ports of one by firewall mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Listen {
    /// Transport protocol.
    pub protocol: Protocol,
    /// Virtual address and (first) port.
    pub address: SocketAddr,
    /// The last port.
    pub last_port: u16,
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.protocol, self.address)?;
        if self.last_port != self.address.port() {
            write!(f, "-{}", self.last_port)?;
        }
        Ok(())
    }
}

/// A server that takes one virtual service's traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RealServer {
    /// Address and port; port 0, of a service by firewall mark: as the client asked.
    pub address: SocketAddr,
    /// Its share, 0 to [`WEIGHT_MAX`]; 0 takes no new connection.
    pub weight: u32,
    /// How packets reach it.
    pub forward: Forward,
    /// How many connections it takes.
    pub thresholds: Thresholds,
}
