//! Trying a real server over the way on which IPVS sends it clients' packets (`crate::path`): a TCP
//! connection to the VIP is asked for *at the real server*, and taken back as soon as it is granted.
//!
//! No socket of TCP can do that: where this director owns the VIP, it would talk to itself, and the
//! answer, which comes from an address of its own, is a martian (accept_local,
//! Documentation/networking/ip-sysctl.rst).
//! So the packets are our own. A raw socket sends a packet to the real server whose header names the VIP,
//! without IPVS taking it for a client's (`ip_vs_in_hook`: IP_NODEFRAG). By IPv6 it would take that one: there a
//! packet socket hands it to the neighbour that the kernel's tables name, as the kernel would. A packet socket, one for all tries, hears
//! the answers before the kernel drops them. Neither address nor sysctl is touched, and the fence does not have to
//! open: it drops what comes *to* a VIP and goes out *from* one.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quorate_model::kernel::Family;
use rustix::net::{
    AddressFamily, SendFlags, SocketFlags, SocketType, bind, getsockname, ipproto, sendto,
    socket_with,
};

use super::neighbour::Hop;
use crate::path;
use crate::sys;

pub use super::neighbour::Neighbours;
pub use crate::path::{Ends, Mark, Reply};

/// Longest packet that is looked at: headers, and options of TCP.
pub const PACKET_BYTES: usize = 128;
/// Room for the answers of all tries that may begin at once, as the kernel counts it.
const HEARD_BYTES: i32 = 4 << 20;
/// A port that nothing needs to listen on (RFC 863): only the route to it is looked up, or the neighbour
/// behind which it is.
const DISCARD: u16 = 9;
/// How soon a neighbour that the kernel asks for is looked for, and after which longest time again.
const LOOK_FIRST: Duration = Duration::from_millis(5);
const LOOK_LAST: Duration = Duration::from_secs(1);

const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;
const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

/// How IPVS would send to the real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// The packet as it is, on the real server's link (DR).
    Route,
    /// In a packet of its own, by IPIP or IPv6 in IPv6 (TUN).
    Tunnel,
}

/// What all tries of one address family share while any is under way: what sends, and the mark by which their
/// answers are heard.
#[derive(Debug)]
pub struct Way {
    family: Family,
    mark: Mark,
    route: OwnedFd,
    tunnel: OwnedFd,
}

/// One try at one real server.
#[derive(Debug)]
pub struct Try {
    way: Arc<Way>,
    method: Method,
    server: IpAddr,
    ends: Ends,
    number: u32,
    /// Connected to the real server: it has the kernel look for it.
    route: UdpSocket,
    /// Where its packets go, once that is known and if it has to be.
    hop: Mutex<Option<Hop>>,
    /// Keeps the port, so that no other connection of this director has it meanwhile.
    _port: OwnedFd,
}

impl Way {
    /// A way, and the socket that hears the answers of all tries on it, without waiting.
    ///
    /// # Errors
    /// Without CAP_NET_RAW.
    pub fn open(family: Family, mark: Mark) -> io::Result<(Self, OwnedFd)> {
        let raw = |of, protocol| socket_with(of, SocketType::RAW, FLAGS, Some(protocol));
        let (route, tunnel, protocol) = match family {
            Family::V4 => {
                // RAW: with a header of its own (raw(7)); IPIP: in one that the kernel makes.
                let (route, tunnel) = (
                    raw(AddressFamily::INET, ipproto::RAW)?,
                    raw(AddressFamily::INET, ipproto::IPIP)?,
                );
                sys::set_no_defragmentation(&route)?;
                sys::set_no_defragmentation(&tunnel)?;
                (route, tunnel, ETH_P_IP)
            }
            Family::V6 => {
                let tunnel = raw(AddressFamily::INET6, ipproto::IPV6)?;
                (sys::neighbour_socket()?, tunnel, ETH_P_IPV6)
            }
        };
        let filter = sys::bytes_equal(&path::is_answer(mark, family));
        let hearing = sys::packets_of(protocol, &filter)?;
        sys::set_receive_buffer(&hearing, HEARD_BYTES)?;
        Ok((Self { family, mark, route, tunnel }, hearing))
    }

    /// A try at this real server with a connection to this VIP, from this address of the director's or the one
    /// that it would use, all of the way's family. `drawn`: a number that nobody guesses.
    ///
    /// # Errors
    /// Without a route, the source address or a port.
    pub fn attempt(
        self: Arc<Self>,
        (server, vip): (IpAddr, SocketAddr),
        method: Method,
        source: Option<IpAddr>,
        drawn: u16,
    ) -> io::Result<Try> {
        let (any, family): (IpAddr, _) = match self.family {
            Family::V4 => (Ipv4Addr::UNSPECIFIED.into(), AddressFamily::INET),
            Family::V6 => (Ipv6Addr::UNSPECIFIED.into(), AddressFamily::INET6),
        };
        if [server, vip.ip(), source.unwrap_or(any)].iter().any(|is| is.is_ipv4() != any.is_ipv4())
        {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let route = UdpSocket::bind((source.unwrap_or(any), 0))?;
        route.set_nonblocking(true)?;
        route.connect((server, DISCARD))?;
        let from = route.local_addr()?.ip();
        let port = socket_with(family, SocketType::STREAM, FLAGS, Some(ipproto::TCP))?;
        bind(&port, &SocketAddr::new(from, 0))?;
        let from = SocketAddr::try_from(getsockname(&port)?)?;
        let (ends, number) = (Ends { from, to: vip }, path::number(self.mark, drawn));
        let hop = Mutex::default();
        Ok(Try { way: self, method, server, ends, number, route, hop, _port: port })
    }
}

impl Try {
    /// What answers to it are known by.
    #[must_use]
    pub fn ends(&self) -> Ends {
        self.ends
    }

    /// Whether its packets go nowhere yet, since the neighbour behind which the real server is does not say
    /// where it is.
    #[must_use]
    pub fn lacks_neighbour(&self) -> bool {
        self.needs_neighbour() && self.hop().is_none()
    }

    fn needs_neighbour(&self) -> bool {
        self.way.family == Family::V6 && self.method == Method::Route
    }

    fn hop(&self) -> Option<Hop> {
        *self.hop.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks where its packets have to go, if they need that, and has the kernel look as long as it does not know.
    /// For as long as it takes: who gives up drops it.
    ///
    /// # Errors
    /// Without a route.
    pub async fn find_neighbour(&self, neighbours: &Neighbours) -> io::Result<()> {
        let IpAddr::V6(server) = self.server else { return Ok(()) };
        let mut wait = LOOK_FIRST;
        while self.needs_neighbour() {
            let found = neighbours.hop(server).await?;
            if found.is_none_or(|hop| !hop.sure) {
                // A datagram that nobody needs. What became of the one before is no matter.
                let _ = self.route.send(&[]);
            }
            if found.is_some() {
                *self.hop.lock().unwrap_or_else(PoisonError::into_inner) = found;
                return Ok(());
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LOOK_LAST);
        }
        Ok(())
    }

    /// Asks for a connection. May be repeated: packets get lost.
    ///
    /// # Errors
    /// If the packet can't be sent, or it is not known where to.
    pub fn ask(&self) -> io::Result<()> {
        self.send(&path::syn(self.ends, self.number))
    }

    /// The route is the real server's, whatever the header in the packet names.
    fn send(&self, packet: &[u8]) -> io::Result<()> {
        let Way { route, tunnel, .. } = &*self.way;
        if self.needs_neighbour() {
            let Hop { device, address, .. } = self.hop().ok_or(io::ErrorKind::HostUnreachable)?;
            return sys::send_to_neighbour(route, (device, ETH_P_IPV6), address, packet);
        }
        let sending = if self.method == Method::Route { route } else { tunnel };
        sendto(sending, packet, SendFlags::empty(), &SocketAddr::new(self.server, 0))?;
        Ok(())
    }

    /// What a packet that was heard between its ends says of it, if anything. What was granted is taken back.
    #[must_use]
    pub fn heard(&self, packet: &[u8]) -> Option<Reply> {
        let reply = path::reply(self.number, packet)?;
        if let Reply::Accepted(theirs) = reply {
            // If it gets lost, the real server asks again, and this kernel resets it or is silent.
            let _ = self.send(&path::reset(self.ends, self.number, theirs));
        }
        Some(reply)
    }
}

/// To which try a packet that was heard may be an answer.
#[must_use]
pub fn ends_of(packet: &[u8]) -> Option<Ends> {
    path::ends(packet)
}
