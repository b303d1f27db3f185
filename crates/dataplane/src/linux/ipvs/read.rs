//! From IPVS answers to values of the model. Whatever the bytes are, the result is a value or
//! [`Malformed`], never a panic. Tests: `tests.rs` beside this file.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;

use quorate_model::kernel::{
    ConnectionTimeouts, Destination, Family, ObservedDestination, ObservedService, ServiceKey,
    ServiceSettings, Statistics,
};
use quorate_model::spec::{
    Engine, Forward, Persistence, Protocol, Scheduler, SchedulerFlags, Thresholds, Tunnel,
    TunnelChecksum,
};

use super::wire::{
    Attributes, DestinationAttr, FLAG_HASHED, FLAG_ONE_PACKET, FLAG_PERSISTENT, FLAG_SCHEDULER,
    FLAG_SCHEDULER_SHIFT, InfoAttr, Malformed, Payload, ServiceAttr, StatsAttr, TUNNEL_CHECKSUM,
    TUNNEL_GRE, TUNNEL_GUE, TUNNEL_REMOTE_CHECKSUM, TopAttr,
};
use crate::IpvsInfo;

/// A service without its destinations; `None` for one of a protocol that Quorate does not know.
pub(super) fn service(
    attributes: Attributes<'_>,
) -> Result<Option<(ServiceKey, ObservedService)>, Malformed> {
    let mut found = FoundService::default();
    for attribute in top(attributes, TopAttr::Service)? {
        let (kind, payload) = attribute?;
        match ServiceAttr::from(kind) {
            ServiceAttr::Family => found.family = Some(payload.u16()?),
            ServiceAttr::Protocol => found.protocol = Some(payload.u16()?),
            ServiceAttr::Address => found.address = Some(payload),
            ServiceAttr::Port => found.port = Some(payload.be16()?),
            ServiceAttr::FirewallMark => found.mark = NonZeroU32::new(payload.u32()?),
            ServiceAttr::Scheduler => found.scheduler = payload.text().and_then(Scheduler::named),
            ServiceAttr::Flags => found.flags = Some(payload.u32()?),
            ServiceAttr::Timeout => found.timeout_s = Some(payload.u32()?),
            ServiceAttr::Netmask => found.netmask = Some(payload),
            ServiceAttr::PersistenceEngine => {
                found.engine = Some(payload.text().and_then(Engine::named))
            }
            // A kernel sends the 64-bit form after the other, so it wins.
            ServiceAttr::Stats | ServiceAttr::Stats64 => found.statistics = statistics(payload)?,
            ServiceAttr::UnrecognizedConst(_) => {}
        }
    }
    found.finish()
}

#[derive(Default)]
struct FoundService<'a> {
    family: Option<u16>,
    protocol: Option<u16>,
    address: Option<Payload<'a>>,
    port: Option<u16>,
    mark: Option<NonZeroU32>,
    scheduler: Option<Scheduler>,
    flags: Option<u32>,
    timeout_s: Option<u32>,
    netmask: Option<Payload<'a>>,
    /// Its engine; `None` inside where its name is none that Quorate could give.
    engine: Option<Option<Engine>>,
    statistics: Statistics,
}

impl FoundService<'_> {
    fn finish(self) -> Result<Option<(ServiceKey, ObservedService)>, Malformed> {
        let Some(key) = self.key()? else { return Ok(None) };
        let service = ObservedService {
            settings: self.settings(key.family())?,
            destinations: BTreeMap::new(),
            statistics: self.statistics,
        };
        Ok(Some((key, service)))
    }

    fn key(&self) -> Result<Option<ServiceKey>, Malformed> {
        let family = known_family(self.family.ok_or(Malformed)?)?;
        if let Some(mark) = self.mark {
            return Ok(Some(ServiceKey::Marked { mark, family }));
        }
        let protocol = match self.protocol.map(i32::from) {
            Some(libc::IPPROTO_TCP) => Protocol::Tcp,
            Some(libc::IPPROTO_UDP) => Protocol::Udp,
            Some(libc::IPPROTO_SCTP) => Protocol::Sctp,
            Some(_) => return Ok(None),
            None => return Err(Malformed),
        };
        let ip = ip(family, self.address.ok_or(Malformed)?)?;
        Ok(Some(ServiceKey::at(protocol, SocketAddr::new(ip, self.port.ok_or(Malformed)?))))
    }

    fn settings(&self, family: Family) -> Result<Option<ServiceSettings>, Malformed> {
        let flags = self.flags.ok_or(Malformed)? & !FLAG_HASHED;
        let prefix = prefix(family, self.netmask.ok_or(Malformed)?)?;
        let (Some(scheduler), Some(prefix)) = (self.scheduler, prefix) else { return Ok(None) };
        if flags & !(FLAG_PERSISTENT | FLAG_ONE_PACKET | FLAG_SCHEDULER) != 0 {
            return Ok(None);
        }
        // Without the flag, timeout, netmask and engine have no effect: they are no difference.
        let persistence = if flags & FLAG_PERSISTENT == 0 {
            None
        } else {
            let engine = match self.engine {
                Some(None) => return Ok(None),
                engine => engine.flatten(),
            };
            Some(Persistence { timeout_s: self.timeout_s.ok_or(Malformed)?, prefix, engine })
        };
        let bits = (flags & FLAG_SCHEDULER) >> FLAG_SCHEDULER_SHIFT;
        Ok(Some(ServiceSettings {
            scheduler,
            flags: SchedulerFlags::from_bits(u8::try_from(bits).unwrap_or_default()),
            persistence,
            one_packet: flags & FLAG_ONE_PACKET != 0,
        }))
    }
}

/// `None` for a mask with holes, which Quorate can't express.
fn prefix(family: Family, netmask: Payload<'_>) -> Result<Option<u8>, Malformed> {
    let prefix = match family {
        Family::V4 => {
            let mask = netmask.be32()?;
            let ones = mask.leading_ones();
            (mask.count_ones() == ones).then_some(ones)
        }
        Family::V6 => Some(netmask.u32()?).filter(|&prefix| prefix <= 128),
    };
    Ok(prefix.and_then(|prefix| u8::try_from(prefix).ok()))
}

/// A destination of a service whose address is of the family given.
pub(super) fn destination(
    attributes: Attributes<'_>,
    service: Family,
) -> Result<(SocketAddr, ObservedDestination), Malformed> {
    let mut family = None;
    let mut address = None;
    let mut port = None;
    let mut forward = None;
    let mut weight = None;
    let mut thresholds = Thresholds::default();
    let (mut active, mut inactive) = (0, 0);
    let mut found = Statistics::default();
    let mut tunnel = FoundTunnel::default();
    for attribute in top(attributes, TopAttr::Destination)? {
        let (kind, payload) = attribute?;
        match DestinationAttr::from(kind) {
            DestinationAttr::Address => address = Some(payload),
            DestinationAttr::Port => port = Some(payload.be16()?),
            DestinationAttr::ForwardMethod => forward = Some(payload.u32()?),
            DestinationAttr::Weight => weight = Some(payload.u32()?),
            DestinationAttr::UpperThreshold => thresholds.upper = payload.u32()?,
            DestinationAttr::LowerThreshold => thresholds.lower = payload.u32()?,
            DestinationAttr::ActiveConnections => active = payload.u32()?,
            DestinationAttr::InactiveConnections => inactive = payload.u32()?,
            DestinationAttr::Family => family = Some(payload.u16()?),
            DestinationAttr::TunnelType => tunnel.kind = payload.u8()?,
            DestinationAttr::TunnelPort => tunnel.port = payload.be16()?,
            DestinationAttr::TunnelFlags => tunnel.flags = payload.u16()?,
            DestinationAttr::Stats | DestinationAttr::Stats64 => found = statistics(payload)?,
            DestinationAttr::UnrecognizedConst(_) => {}
        }
    }
    let forward = match forward.ok_or(Malformed)? {
        0 => Some(Forward::Nat),
        2 => tunnel.known().map(Forward::Tun),
        3 => Some(Forward::Dr),
        _ => None,
    };
    let weight = weight.ok_or(Malformed)?;
    let destination = forward.map(|forward| Destination { forward, weight, thresholds });
    // Kernels before 3.18 don't say the family: there it is the service's.
    let family = family.map_or(Ok(service), known_family)?;
    let ip = ip(family, address.ok_or(Malformed)?)?;
    let server = SocketAddr::new(ip, port.ok_or(Malformed)?);
    Ok((server, ObservedDestination { destination, active, inactive, statistics: found }))
}

#[derive(Default)]
struct FoundTunnel {
    kind: u8,
    port: u16,
    flags: u16,
}

impl FoundTunnel {
    /// `None` for what Quorate can't express.
    fn known(&self) -> Option<Tunnel> {
        match (self.kind, self.flags) {
            (0, _) => Some(Tunnel::Ipip),
            (TUNNEL_GUE, flags) => {
                let checksum = match flags {
                    0 => TunnelChecksum::None,
                    TUNNEL_CHECKSUM => TunnelChecksum::Full,
                    TUNNEL_REMOTE_CHECKSUM => TunnelChecksum::Remote,
                    _ => return None,
                };
                Some(Tunnel::Gue { port: self.port, checksum })
            }
            (TUNNEL_GRE, 0) => Some(Tunnel::Gre { checksum: false }),
            (TUNNEL_GRE, TUNNEL_CHECKSUM) => Some(Tunnel::Gre { checksum: true }),
            _ => None,
        }
    }
}

/// Counters and rates, of 32 or 64 bits.
fn statistics(payload: Payload<'_>) -> Result<Statistics, Malformed> {
    let mut found = Statistics::default();
    let Statistics { total, rate } = &mut found;
    for attribute in payload.attributes() {
        let (kind, payload) = attribute?;
        let place = match StatsAttr::from(kind) {
            StatsAttr::Connections => &mut total.connections,
            StatsAttr::PacketsIn => &mut total.packets_in,
            StatsAttr::PacketsOut => &mut total.packets_out,
            StatsAttr::BytesIn => &mut total.bytes_in,
            StatsAttr::BytesOut => &mut total.bytes_out,
            StatsAttr::ConnectionRate => &mut rate.connections,
            StatsAttr::PacketRateIn => &mut rate.packets_in,
            StatsAttr::PacketRateOut => &mut rate.packets_out,
            StatsAttr::ByteRateIn => &mut rate.bytes_in,
            StatsAttr::ByteRateOut => &mut rate.bytes_out,
            StatsAttr::UnrecognizedConst(_) => continue,
        };
        *place = payload.u32_or_u64()?;
    }
    Ok(found)
}

/// How long IPVS keeps connections.
pub(super) fn config(attributes: Attributes<'_>) -> Result<ConnectionTimeouts, Malformed> {
    let (mut tcp_s, mut tcp_fin_s, mut udp_s) = (None, None, None);
    for attribute in attributes {
        let (kind, payload) = attribute?;
        match TopAttr::from(kind) {
            TopAttr::TimeoutTcp => tcp_s = Some(payload.u32()?),
            TopAttr::TimeoutTcpFin => tcp_fin_s = Some(payload.u32()?),
            TopAttr::TimeoutUdp => udp_s = Some(payload.u32()?),
            TopAttr::Service
            | TopAttr::Destination
            | TopAttr::Daemon
            | TopAttr::UnrecognizedConst(_) => {}
        }
    }
    // A kernel without a protocol says nothing of it.
    Ok(ConnectionTimeouts {
        tcp_s: tcp_s.unwrap_or_default(),
        tcp_fin_s: tcp_fin_s.unwrap_or_default(),
        udp_s: udp_s.unwrap_or_default(),
    })
}

/// What ip_vs says of itself.
pub(super) fn info(attributes: Attributes<'_>) -> Result<IpvsInfo, Malformed> {
    let (mut version, mut connection_table_size) = (None, None);
    for attribute in attributes {
        let (kind, payload) = attribute?;
        match InfoAttr::from(kind) {
            InfoAttr::Version => version = Some(payload.u32()?.to_be_bytes()),
            InfoAttr::ConnectionTableSize => connection_table_size = Some(payload.u32()?),
            InfoAttr::UnrecognizedConst(_) => {}
        }
    }
    let [_, major, minor, patch] = version.ok_or(Malformed)?;
    Ok(IpvsInfo {
        version: (major, minor, patch),
        connection_table_size: connection_table_size.ok_or(Malformed)?,
    })
}

pub(super) fn top(
    attributes: Attributes<'_>,
    wanted: TopAttr,
) -> Result<Attributes<'_>, Malformed> {
    for attribute in attributes {
        let (kind, payload) = attribute?;
        if TopAttr::from(kind) == wanted {
            return Ok(payload.attributes());
        }
    }
    Err(Malformed)
}

/// An address; a dump always gives sixteen bytes, of which IPv4 uses the first four.
fn ip(family: Family, address: Payload<'_>) -> Result<IpAddr, Malformed> {
    Ok(match family {
        Family::V4 => Ipv4Addr::from(address.bytes4()?).into(),
        Family::V6 => Ipv6Addr::from(address.bytes16()?).into(),
    })
}

fn known_family(family: u16) -> Result<Family, Malformed> {
    match i32::from(family) {
        libc::AF_INET => Ok(Family::V4),
        libc::AF_INET6 => Ok(Family::V6),
        _ => Err(Malformed),
    }
}
