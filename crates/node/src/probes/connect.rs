//! Connections to a real server, made from where its check says.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use quorate_model::id::{DeviceName, InterfaceName};
use quorate_model::probe::ProbeTarget;
use quorate_model::spec::Origin;
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};

use super::Failure;
use crate::patience::within;

/// From where to where.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) to: SocketAddr,
    origin: &'a Origin,
    device: Option<&'a DeviceName>,
}

impl<'a> Place<'a> {
    /// Where this target is probed; the reason where this director can't.
    pub(super) fn new(
        target: &'a ProbeTarget,
        devices: &'a BTreeMap<InterfaceName, DeviceName>,
    ) -> Result<Self, String> {
        let origin = &target.check.origin;
        let device = match &origin.interface {
            Some(name) => Some(devices.get(name).ok_or_else(|| {
                format!(
                    "no device is named for interface {name}: add it to [interfaces] of node.toml"
                )
            })?),
            None => None,
        };
        if origin.address.is_some_and(|from| from.is_ipv4() != target.address.is_ipv4()) {
            return Err("its source is not of the address family of the real server".to_owned());
        }
        Ok(Self { to: target.address, origin, device })
    }

    /// The source address that the check gives.
    pub(super) fn source(&self) -> Option<IpAddr> {
        self.origin.address
    }

    fn any(&self) -> IpAddr {
        match self.to {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        }
    }

    /// Has a socket send from where the check says.
    pub(super) fn prepare(&self, socket: &impl AsFd) -> io::Result<()> {
        let socket = SockRef::from(socket);
        let Origin { address, port, mark, .. } = self.origin;
        if let Some(device) = self.device {
            socket.bind_device(Some(device.as_str().as_bytes()))?;
        }
        if let Some(mark) = mark {
            socket.set_mark(mark.get())?;
        }
        if address.is_some() || port.is_some() {
            if port.is_some() {
                // The one before may still be in TIME_WAIT.
                socket.set_reuse_address(true)?;
            }
            let from = SocketAddr::new(address.unwrap_or(self.any()), port.unwrap_or(0));
            socket.bind(&from.into())?;
        }
        Ok(())
    }

    fn tcp(&self) -> io::Result<TcpSocket> {
        let socket = match self.to {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        self.prepare(&socket)?;
        Ok(socket)
    }

    fn udp(&self) -> io::Result<UdpSocket> {
        let (kind, protocol) = (Type::DGRAM.nonblocking().cloexec(), Protocol::UDP);
        let socket = Socket::new(Domain::for_address(self.to), kind, Some(protocol))?;
        self.prepare(&socket)?;
        socket.connect(&self.to.into())?;
        UdpSocket::from_std(socket.into())
    }
}

/// Establishes a TCP connection.
pub(super) async fn tcp(place: &Place<'_>, timeout: Duration) -> Result<TcpStream, Failure> {
    let socket = place.tcp().map_err(|error| Failure::Here(not_made(place, &error)))?;
    let stream = match within(timeout, socket.connect(place.to)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(failed(place, &error)),
        Err(over) => {
            let reason = || format!("no answer to a TCP connection within {timeout:?}");
            return Err(Failure::over(over, reason));
        }
    };
    if place.origin.port.is_some() {
        // The same pair of addresses and ports is needed again before TIME_WAIT is over. Where it
        // can't be set, the next try says so.
        let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    }
    Ok(stream)
}

/// A socket for UDP that is connected: what ICMP says of what it sends is told as an error.
pub(super) fn udp(place: &Place<'_>) -> Result<UdpSocket, Failure> {
    place.udp().map_err(|error| not_prepared(place, &error))
}

/// Why there is no socket that is connected already: but for a missing route, the cause is here.
pub(super) fn not_prepared(place: &Place<'_>, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => failed(place, error),
        _ => Failure::Here(not_made(place, error)),
    }
}

/// What an operator should read of a socket that could not be made.
fn not_made(place: &Place<'_>, error: &io::Error) -> String {
    let origin = place.origin;
    match error.kind() {
        io::ErrorKind::PermissionDenied => format!(
            "{error}: a mark needs CAP_NET_ADMIN, a device CAP_NET_RAW, a source port below 1024 \
             CAP_NET_BIND_SERVICE (check{origin})"
        ),
        io::ErrorKind::AddrNotAvailable => {
            format!("{error}: this director does not have its source address (check{origin})")
        }
        _ => format!("{error} (check{origin})"),
    }
}

/// What an operator should read of a failed connection.
pub(super) fn failed(place: &Place<'_>, error: &io::Error) -> Failure {
    if is_here(error) {
        return Failure::Here(not_made(place, error));
    }
    Failure::Server(match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused: nothing listens".to_owned(),
        io::ErrorKind::HostUnreachable => "no route to the host: it does not answer ARP".to_owned(),
        io::ErrorKind::NetworkUnreachable => "no route to its network".to_owned(),
        _ => format!("the connection failed: {error}"),
    })
}

/// Whether an error is of what this director lacks, so that it says nothing of the real server.
pub(super) fn is_here(error: &io::Error) -> bool {
    let here = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOBUFS,
        Errno::NOMEM,
        Errno::ADDRNOTAVAIL,
        Errno::ADDRINUSE,
        // The packet filter of this host. What an ICMP error forbids is EACCES, and comes from there.
        Errno::PERM,
    ];
    Errno::from_io_error(error).is_some_and(|errno| here.contains(&errno))
}
