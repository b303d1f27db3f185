//! What a director wants of its kernel and what it finds there: the values that `plan` compares
//! and that the dataplane reads and writes. No decision is taken here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;

use ipnet::IpNet;

use crate::id::DeviceName;
use crate::spec::{Forward, Persistence, Protocol, Scheduler, SchedulerFlags, Thresholds};
use crate::sync::SyncFilter;

/// A link-layer address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddress(pub [u8; 6]);

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// That of an address.
    #[must_use]
    pub fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// What identifies a virtual service in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServiceKey {
    /// What goes to an address and port.
    At {
        /// Transport protocol.
        protocol: Protocol,
        /// Virtual address and port.
        address: SocketAddr,
    },
    /// What carries a firewall mark (ipvsadm(8): -f).
    Marked {
        /// The mark.
        mark: NonZeroU32,
        /// Of this family.
        family: Family,
    },
}

impl ServiceKey {
    /// What goes to this address and port.
    #[must_use]
    pub fn at(protocol: Protocol, address: SocketAddr) -> Self {
        Self::At { protocol, address }
    }

    /// The family of what it takes.
    #[must_use]
    pub fn family(&self) -> Family {
        match self {
            Self::At { address, .. } => Family::of(address.ip()),
            Self::Marked { family, .. } => *family,
        }
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At { protocol, address } => write!(f, "{protocol}/{address}"),
            Self::Marked { mark, family } => write!(f, "mark {mark} ({family})"),
        }
    }
}

/// What gets a firewall mark: packets to one address and a range of its ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MarkRule {
    /// The virtual address.
    pub address: IpAddr,
    /// Transport protocol.
    pub protocol: Protocol,
    /// First and last port.
    pub ports: (u16, u16),
    /// The mark.
    pub mark: NonZeroU32,
}

/// Everything that gets a firewall mark from Quorate; no packet is in two of them.
pub type MarkRules = BTreeSet<MarkRule>;

/// What Quorate has the packet filter of a director do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PacketRules {
    /// What gets firewall marks.
    pub marks: MarkRules,
    /// Whose sync messages are heeded, if anybody listens.
    pub sync: Option<SyncFilter>,
}

impl PacketRules {
    /// Whether nothing is to be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty() && self.sync.is_none()
    }
}

/// What a virtual service is, apart from its real servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceSettings {
    /// Scheduler by its kernel name.
    pub scheduler: Scheduler,
    /// What the scheduler does besides.
    pub flags: SchedulerFlags,
    /// Persistence, if clients stick to a real server.
    pub persistence: Option<Persistence>,
    /// Whether each datagram is scheduled by itself.
    pub one_packet: bool,
}

impl ServiceSettings {
    /// With this scheduler, and nothing besides.
    #[must_use]
    pub fn plain(scheduler: Scheduler) -> Self {
        Self { scheduler, flags: SchedulerFlags::default(), persistence: None, one_packet: false }
    }

    /// For addresses of this family: a prefix is no longer than an address.
    #[must_use]
    pub fn of_family(self, family: Family) -> Self {
        let most = match family {
            Family::V4 => 32,
            Family::V6 => 128,
        };
        let persistence = self.persistence.map(|p| Persistence { prefix: p.prefix.min(most), ..p });
        Self { persistence, ..self }
    }
}

/// How one real server takes part in a service (IPVS calls it a destination).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Destination {
    /// How packets reach it.
    pub forward: Forward,
    /// Its share; 0 takes no new connection.
    pub weight: u32,
    /// How many connections it takes.
    pub thresholds: Thresholds,
}

impl Destination {
    /// Forwarded so, with this share, and as many connections as come.
    #[must_use]
    pub fn new(forward: Forward, weight: u32) -> Self {
        Self { forward, weight, thresholds: Thresholds::default() }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { forward, weight, thresholds } = self;
        write!(f, "{forward}, weight {weight}")?;
        match (thresholds.upper, thresholds.lower) {
            (0, _) => Ok(()),
            (upper, 0) => write!(f, ", at most {upper} connections"),
            (upper, lower) => write!(f, ", at most {upper} connections, again below {lower}"),
        }
    }
}

/// One virtual service with its real servers, as wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredService {
    /// The service's own settings.
    pub settings: ServiceSettings,
    /// Real servers by address and port.
    pub destinations: BTreeMap<SocketAddr, Destination>,
}

/// Every virtual service that this director's kernel shall have.
pub type DesiredServices = BTreeMap<ServiceKey, DesiredService>;

/// What passed, since a service or real server was made, or each second of late
/// (`struct ip_vs_kstats`, net/netfilter/ipvs/ip_vs_est.c).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Connections.
    pub connections: u64,
    /// Packets from clients.
    pub packets_in: u64,
    /// Packets to clients through this director (none under DR and TUN).
    pub packets_out: u64,
    /// Bytes from clients.
    pub bytes_in: u64,
    /// Bytes to clients through this director.
    pub bytes_out: u64,
}

impl std::ops::Add for Traffic {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            connections: self.connections.saturating_add(other.connections),
            packets_in: self.packets_in.saturating_add(other.packets_in),
            packets_out: self.packets_out.saturating_add(other.packets_out),
            bytes_in: self.bytes_in.saturating_add(other.bytes_in),
            bytes_out: self.bytes_out.saturating_add(other.bytes_out),
        }
    }
}

/// What the kernel counted of a service or real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statistics {
    /// Since it was made.
    pub total: Traffic,
    /// Each second, of late; all 0 where `net.ipv4.vs.run_estimation` is off.
    pub rate: Traffic,
}

impl std::ops::Add for Statistics {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { total: self.total + other.total, rate: self.rate + other.rate }
    }
}

/// A real server as found in the kernel, with its counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ObservedDestination {
    /// Its settings; `None` where the kernel holds what Quorate can't express (a forwarding
    /// method that it does not know), which is never equal to what is wanted.
    pub destination: Option<Destination>,
    /// Connections that are established.
    pub active: u32,
    /// Connections in any other state.
    pub inactive: u32,
    /// What it was sent.
    pub statistics: Statistics,
}

/// A virtual service as found in the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ObservedService {
    /// Its settings; `None` where the kernel holds what Quorate can't express (flags of other
    /// programs, an unknown scheduler), which is never equal to what is wanted.
    pub settings: Option<ServiceSettings>,
    /// Real servers by address and port.
    pub destinations: BTreeMap<SocketAddr, ObservedDestination>,
    /// What it was sent.
    pub statistics: Statistics,
}

/// Every virtual service found in the kernel, foreign ones included.
pub type ObservedServices = BTreeMap<ServiceKey, ObservedService>;

/// How long IPVS keeps a connection on which nothing comes, in seconds; of a network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionTimeouts {
    /// Of TCP, while it is established.
    pub tcp_s: u32,
    /// Of TCP, after a FIN.
    pub tcp_fin_s: u32,
    /// Of UDP.
    pub udp_s: u32,
}

impl Default for ConnectionTimeouts {
    /// Linux's (`tcp_timeouts`, `udp_timeouts` in net/netfilter/ipvs/ip_vs_proto_*.c).
    fn default() -> Self {
        Self { tcp_s: 15 * 60, tcp_fin_s: 2 * 60, udp_s: 5 * 60 }
    }
}

impl fmt::Display for ConnectionTimeouts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tcp {} s, tcp_fin {} s, udp {} s", self.tcp_s, self.tcp_fin_s, self.udp_s)
    }
}

/// A VIP on a device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceAddress {
    /// The device that carries it.
    pub device: DeviceName,
    /// Address and prefix length.
    pub net: IpNet,
}

/// Addresses on devices.
pub type DeviceAddresses = BTreeSet<DeviceAddress>;
