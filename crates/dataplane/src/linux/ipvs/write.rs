//! From values of the model to IPVS requests. Tests with golden bytes: `tests.rs` beside this file.

use std::net::{IpAddr, SocketAddr};

use quorate_model::kernel::{ConnectionTimeouts, Destination, Family, ServiceKey, ServiceSettings};
use quorate_model::plan::Action;
use quorate_model::spec::{Forward, Protocol, Tunnel, TunnelChecksum};

use super::wire::{
    Command, DestinationAttr, FLAG_ONE_PACKET, FLAG_PERSISTENT, FLAG_SCHEDULER_SHIFT, RequestHead,
    ServiceAttr, TUNNEL_CHECKSUM, TUNNEL_GRE, TUNNEL_GUE, TUNNEL_REMOTE_CHECKSUM, TopAttr, Writer,
};

/// Appends the request that does this action.
pub(super) fn action(writer: &mut Writer, head: &RequestHead, action: &Action) {
    let command = match action {
        Action::AddService(..) => Command::NewService,
        Action::SetService(..) => Command::SetService,
        Action::DeleteService(..) => Command::DeleteService,
        Action::AddDestination(..) => Command::NewDestination,
        Action::SetDestination(..) => Command::SetDestination,
        Action::DeleteDestination(..) => Command::DeleteDestination,
    };
    writer.message(head, command.into(), |writer| match action {
        Action::AddService(key, settings) | Action::SetService(key, settings) => {
            writer.nested(TopAttr::Service, |writer| {
                put_key(writer, key);
                put_settings(writer, key, settings);
            });
        }
        Action::DeleteService(key) => {
            writer.nested(TopAttr::Service, |writer| put_key(writer, key));
        }
        Action::AddDestination(key, server, to) | Action::SetDestination(key, server, to) => {
            writer.nested(TopAttr::Service, |writer| put_key(writer, key));
            writer.nested(TopAttr::Destination, |writer| {
                put_server(writer, server);
                put_destination(writer, *to);
            });
        }
        Action::DeleteDestination(key, server) => {
            writer.nested(TopAttr::Service, |writer| put_key(writer, key));
            writer.nested(TopAttr::Destination, |writer| put_server(writer, server));
        }
    });
}

/// Appends the request for all services.
pub(super) fn get_services(writer: &mut Writer, head: &RequestHead) {
    writer.message(head, Command::GetService.into(), |_| {});
}

/// Appends the request for all destinations of a service.
pub(super) fn get_destinations(writer: &mut Writer, head: &RequestHead, key: &ServiceKey) {
    writer.message(head, Command::GetDestination.into(), |writer| {
        writer.nested(TopAttr::Service, |writer| put_key(writer, key));
    });
}

/// Appends the request for version and table size.
pub(super) fn get_config(writer: &mut Writer, head: &RequestHead) {
    writer.message(head, Command::GetConfig.into(), |_| {});
}

/// The kernel leaves a time-out of 0 as it is.
pub(super) fn set_config(writer: &mut Writer, head: &RequestHead, timeouts: ConnectionTimeouts) {
    writer.message(head, Command::SetConfig.into(), |writer| {
        writer.put(TopAttr::TimeoutTcp, &timeouts.tcp_s.to_ne_bytes());
        writer.put(TopAttr::TimeoutTcpFin, &timeouts.tcp_fin_s.to_ne_bytes());
        writer.put(TopAttr::TimeoutUdp, &timeouts.udp_s.to_ne_bytes());
    });
}

pub(super) fn get_info(writer: &mut Writer, head: &RequestHead) {
    writer.message(head, Command::GetInfo.into(), |_| {});
}

/// Never a firewall mark with an address: its presence alone, even as 0, makes the kernel look for
/// a service by mark.
fn put_key(writer: &mut Writer, key: &ServiceKey) {
    writer.put(ServiceAttr::Family, &family(key.family()).to_ne_bytes());
    let (protocol, address) = match key {
        ServiceKey::Marked { mark, .. } => {
            return writer.put(ServiceAttr::FirewallMark, &mark.get().to_ne_bytes());
        }
        ServiceKey::At { protocol, address } => (protocol, address),
    };
    let protocol = match protocol {
        Protocol::Tcp => libc::IPPROTO_TCP,
        Protocol::Udp => libc::IPPROTO_UDP,
        Protocol::Sctp => libc::IPPROTO_SCTP,
    };
    let protocol = u16::try_from(protocol).unwrap_or_default();
    writer.put(ServiceAttr::Protocol, &protocol.to_ne_bytes());
    put_address(writer, ServiceAttr::Address, address.ip());
    writer.put(ServiceAttr::Port, &address.port().to_be_bytes());
}

fn put_settings(writer: &mut Writer, key: &ServiceKey, settings: &ServiceSettings) {
    let text = |name: &str| [name.as_bytes(), &[0]].concat();
    let mut flags = u32::from(settings.flags.bits()) << FLAG_SCHEDULER_SHIFT;
    if settings.persistence.is_some() {
        flags |= FLAG_PERSISTENT;
    }
    if settings.one_packet {
        flags |= FLAG_ONE_PACKET;
    }
    let timeout_s = settings.persistence.map_or(0, |persistence| persistence.timeout_s);
    let prefix = settings.persistence.map(|persistence| persistence.prefix);
    writer.put(ServiceAttr::Scheduler, &text(settings.scheduler.as_str()));
    // The mask says which flags are meant: all of them.
    let mask = u32::MAX;
    writer.put(ServiceAttr::Flags, &[flags.to_ne_bytes(), mask.to_ne_bytes()].concat());
    writer.put(ServiceAttr::Timeout, &timeout_s.to_ne_bytes());
    writer.put(ServiceAttr::Netmask, &netmask(key.family(), prefix));
    if let Some(engine) = settings.persistence.and_then(|persistence| persistence.engine) {
        writer.put(ServiceAttr::PersistenceEngine, &text(engine.as_str()));
    }
}

/// A mask in network order for IPv4, but for IPv6 a prefix length in host order.
fn netmask(family: Family, prefix: Option<u8>) -> [u8; 4] {
    match family {
        Family::V4 => {
            let host_bits = 32_u32.saturating_sub(u32::from(prefix.unwrap_or(32)));
            u32::MAX.checked_shl(host_bits).unwrap_or(0).to_be_bytes()
        }
        Family::V6 => u32::from(prefix.unwrap_or(128)).to_ne_bytes(),
    }
}

fn put_server(writer: &mut Writer, server: &SocketAddr) {
    put_address(writer, DestinationAttr::Address, server.ip());
    writer.put(DestinationAttr::Port, &server.port().to_be_bytes());
    writer.put(DestinationAttr::Family, &family(Family::of(server.ip())).to_ne_bytes());
}

fn put_destination(writer: &mut Writer, destination: Destination) {
    // IP_VS_CONN_F_MASQ, _TUNNEL, _DROUTE.
    let forward: u32 = match destination.forward {
        Forward::Nat => 0,
        Forward::Tun(_) => 2,
        Forward::Dr => 3,
    };
    writer.put(DestinationAttr::ForwardMethod, &forward.to_ne_bytes());
    writer.put(DestinationAttr::Weight, &destination.weight.to_ne_bytes());
    let thresholds = destination.thresholds;
    writer.put(DestinationAttr::UpperThreshold, &thresholds.upper.to_ne_bytes());
    writer.put(DestinationAttr::LowerThreshold, &thresholds.lower.to_ne_bytes());
    if let Forward::Tun(tunnel) = destination.forward {
        put_tunnel(writer, tunnel);
    }
}

/// A tunnel without a type is IP in IP, which kernels before 5.2 have alone.
fn put_tunnel(writer: &mut Writer, tunnel: Tunnel) {
    let (kind, port, flags) = match tunnel {
        Tunnel::Ipip => return,
        Tunnel::Gue { port, checksum } => {
            let flags = match checksum {
                TunnelChecksum::None => 0,
                TunnelChecksum::Full => TUNNEL_CHECKSUM,
                TunnelChecksum::Remote => TUNNEL_REMOTE_CHECKSUM,
            };
            (TUNNEL_GUE, port, flags)
        }
        Tunnel::Gre { checksum } => (TUNNEL_GRE, 0, if checksum { TUNNEL_CHECKSUM } else { 0 }),
    };
    writer.put(DestinationAttr::TunnelType, &[kind]);
    writer.put(DestinationAttr::TunnelPort, &port.to_be_bytes());
    writer.put(DestinationAttr::TunnelFlags, &flags.to_ne_bytes());
}

fn family(family: Family) -> u16 {
    let family = match family {
        Family::V4 => libc::AF_INET,
        Family::V6 => libc::AF_INET6,
    };
    u16::try_from(family).unwrap_or_default()
}

fn put_address(writer: &mut Writer, attr: impl Into<u16>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => writer.put(attr, &address.octets()),
        IpAddr::V6(address) => writer.put(attr, &address.octets()),
    }
}
