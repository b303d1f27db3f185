//! Trying a real server over the way on which IPVS sends it clients' packets (`crate::path`): a TCP
//! connection to the VIP is asked for *at the real server*, and taken back as soon as it is granted.
//!
//! No socket of TCP can do that: where this director owns the VIP, it would talk to itself, and the
//! answer, which comes from an address of its own, is a martian (accept_local,
//! Documentation/networking/ip-sysctl.rst).
//! So the packets are our own. A raw socket sends a packet to the real server whose header names the VIP,
//! without IPVS taking it for a client's (`ip_vs_in_hook`: IP_NODEFRAG). A packet socket, one for all tries, hears
//! the answers before the kernel drops them. Neither address nor sysctl is touched, and the fence does not have to
//! open: it drops what comes *to* a VIP and goes out *from* one.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::net::{
    AddressFamily, SendFlags, SocketFlags, SocketType, bind, getsockname, ipproto, sendto,
    socket_with,
};

use crate::path;
use crate::sys;

pub use crate::path::{Ends, Mark, Reply};

/// Longest packet that is looked at: headers, and options of TCP.
pub const PACKET_BYTES: usize = 128;
/// Room for the answers of all tries that may begin at once, as the kernel counts it.
const HEARD_BYTES: i32 = 4 << 20;
/// A port that nothing needs to listen on (RFC 863): only the route to it is looked up.
const DISCARD: u16 = 9;

/// How IPVS would send to the real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// The packet as it is, on the real server's link (DR).
    Route,
    /// In a packet of its own, by IPIP (TUN).
    Tunnel,
}

/// What all tries share while any is under way: what sends, and the mark by which their answers are heard.
#[derive(Debug)]
pub struct Way {
    mark: Mark,
    route: OwnedFd,
    tunnel: OwnedFd,
}

/// One try at one real server.
#[derive(Debug)]
pub struct Try {
    way: Arc<Way>,
    method: Method,
    server: Ipv4Addr,
    ends: Ends,
    number: u32,
    /// Keeps the port, so that no other connection of this director has it meanwhile.
    _port: OwnedFd,
}

const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);
const FAMILY: AddressFamily = AddressFamily::INET;

impl Way {
    /// A way, and the socket that hears the answers of all tries on it, without waiting.
    ///
    /// # Errors
    /// Without CAP_NET_RAW.
    pub fn open(mark: Mark) -> io::Result<(Self, OwnedFd)> {
        let sending = |protocol| {
            let socket = socket_with(FAMILY, SocketType::RAW, FLAGS, Some(protocol))?;
            sys::set_no_defragmentation(&socket)?;
            io::Result::Ok(socket)
        };
        // RAW: with a header of its own (raw(7)); IPIP: in one that the kernel makes.
        let way = Self { mark, route: sending(ipproto::RAW)?, tunnel: sending(ipproto::IPIP)? };
        let hearing = sys::packets_of_ipv4(&sys::bytes_equal(&path::is_answer(mark)))?;
        sys::set_receive_buffer(&hearing, HEARD_BYTES)?;
        Ok((way, hearing))
    }

    /// A try at this real server with a connection to this VIP, from this address of the director's or the one
    /// that it would use. `drawn`: a number that nobody guesses.
    ///
    /// # Errors
    /// Without a route, the source address or a port.
    pub fn attempt(
        self: Arc<Self>,
        (server, vip): (Ipv4Addr, SocketAddrV4),
        method: Method,
        source: Option<Ipv4Addr>,
        drawn: u16,
    ) -> io::Result<Try> {
        let route = UdpSocket::bind((source.unwrap_or(Ipv4Addr::UNSPECIFIED), 0))?;
        route.connect((server, DISCARD))?;
        let SocketAddr::V4(from) = route.local_addr()? else {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        };
        let port = socket_with(FAMILY, SocketType::STREAM, FLAGS, Some(ipproto::TCP))?;
        bind(&port, &SocketAddrV4::new(*from.ip(), 0))?;
        let from = SocketAddrV4::try_from(getsockname(&port)?)?;
        let (ends, number) = (Ends { from, to: vip }, path::number(self.mark, drawn));
        Ok(Try { way: self, method, server, ends, number, _port: port })
    }
}

impl Try {
    /// What answers to it are known by.
    #[must_use]
    pub fn ends(&self) -> Ends {
        self.ends
    }

    /// Asks for a connection. May be repeated: packets get lost.
    ///
    /// # Errors
    /// If the packet can't be sent.
    pub fn ask(&self) -> io::Result<()> {
        self.send(&path::syn(self.ends, self.number))
    }

    /// The route is the real server's, whatever the header in the packet names.
    fn send(&self, packet: &[u8]) -> io::Result<()> {
        let to = SocketAddrV4::new(self.server, 0);
        let Way { route, tunnel, .. } = &*self.way;
        let sending = if self.method == Method::Route { route } else { tunnel };
        sendto(sending, packet, SendFlags::empty(), &to)?;
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
