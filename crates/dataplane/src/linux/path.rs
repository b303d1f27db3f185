//! Trying a real server over the way on which IPVS sends it clients' packets (`crate::path`): a TCP
//! connection to the VIP is asked for *at the real server*, and taken back as soon as it is granted.
//!
//! No socket of TCP can do that: where this director owns the VIP, it would talk to itself, and the
//! answer, which comes from an address of its own, is a martian (accept_local,
//! Documentation/networking/ip-sysctl.rst).
//! So the packets are our own. A raw socket sends a packet to the real server whose header names the VIP,
//! without IPVS taking it for a client's (`ip_vs_in_hook`: IP_NODEFRAG). A packet socket hears the
//! answer before the kernel drops it. Neither address nor sysctl is touched, and the fence does not have to
//! open: it drops what comes *to* a VIP and goes out *from* one.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::OwnedFd;

use rustix::net::{
    AddressFamily, SendFlags, SocketFlags, SocketType, bind, getsockname, ipproto, sendto,
    socket_with,
};

use crate::path::{self, Ends};
use crate::sys;

pub use crate::path::Reply;

/// Longest packet that is looked at: headers, and options of TCP.
pub const PACKET_BYTES: usize = 128;
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

/// The way to one real server, for one try.
#[derive(Debug)]
pub struct Path {
    sending: OwnedFd,
    server: Ipv4Addr,
    ends: Ends,
    number: u32,
    /// Keeps the port, so that no other connection of this director has it meanwhile.
    _port: OwnedFd,
}

impl Path {
    /// A way to this real server for connections to this VIP, from this address of the director's or the one
    /// that it would use, and the socket that hears the answers, without waiting. `number` is what the
    /// connection's numbers begin with: one that nobody guesses.
    ///
    /// # Errors
    /// Without CAP_NET_RAW, a route, the source address or a port.
    pub fn open(
        server: Ipv4Addr,
        vip: SocketAddrV4,
        method: Method,
        source: Option<Ipv4Addr>,
        number: u32,
    ) -> io::Result<(Self, OwnedFd)> {
        let route = UdpSocket::bind((source.unwrap_or(Ipv4Addr::UNSPECIFIED), 0))?;
        route.connect((server, DISCARD))?;
        let SocketAddr::V4(from) = route.local_addr()? else {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let family = AddressFamily::INET;
        let port = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
        bind(&port, &SocketAddrV4::new(*from.ip(), 0))?;
        let from = SocketAddrV4::try_from(getsockname(&port)?)?;
        let ends = Ends { from, to: vip };
        // RAW: with a header of its own (raw(7)); IPIP: in one that the kernel makes.
        let protocol = if method == Method::Route { ipproto::RAW } else { ipproto::IPIP };
        let sending = socket_with(family, SocketType::RAW, flags, Some(protocol))?;
        sys::set_no_defragmentation(&sending)?;
        let hearing = sys::packets_of_ipv4(&sys::bytes_equal(&path::is_for(ends)))?;
        Ok((Self { sending, server, ends, number, _port: port }, hearing))
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
        sendto(&self.sending, packet, SendFlags::empty(), &to)?;
        Ok(())
    }

    /// What a packet that was heard says of it, if anything. What was granted is taken back.
    #[must_use]
    pub fn heard(&self, packet: &[u8]) -> Option<Reply> {
        let reply = path::reply(self.ends, self.number, packet)?;
        if let Reply::Accepted(theirs) = reply {
            // If it gets lost, the real server asks again, and this kernel resets it or is silent.
            let _ = self.send(&path::reset(self.ends, self.number, theirs));
        }
        Some(reply)
    }
}
