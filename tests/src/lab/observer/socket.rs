//! A packet socket on one interface: whole Ethernet frames out and in. Owns the two calls that
//! rustix has no type for. Seen to work by `tests/tests/lab_host_network.rs`.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{LinkAddr, bind};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send,
    socket_with, sockopt,
};

use super::wire::Mac;

/// Room for answers that come while the observer is not on a processor.
const BUFFER: usize = 4 << 20;

/// A packet socket for the frames of one protocol.
#[derive(Debug)]
pub(super) struct PacketSocket {
    fd: OwnedFd,
}

/// An interface, found in the network namespace of the calling thread.
#[derive(Debug, Clone, Copy)]
pub(super) struct Interface {
    link: LinkAddr,
    /// Its hardware address.
    pub(super) mac: Mac,
}

impl Interface {
    /// The interface of this name.
    pub(super) fn find(name: &str) -> io::Result<Self> {
        let found = getifaddrs()?
            .filter(|entry| entry.interface_name == name)
            .find_map(|entry| entry.address?.as_link_addr().copied());
        let link = found.ok_or(io::ErrorKind::NotFound)?;
        let mac = link.addr().ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { link, mac })
    }
}

impl PacketSocket {
    /// Opens it in the network namespace of the calling thread, where it stays.
    pub(super) fn open(interface: &Interface, protocol: Protocol) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = socket_with(AddressFamily::PACKET, SocketType::RAW, flags, Some(protocol))?;
        // The interface's own address names no protocol: the socket's stays (packet(7)).
        bind(fd.as_raw_fd(), &interface.link)?;
        // Past the administrator's limit, root may.
        sockopt::set_socket_recv_buffer_size_force(&fd, BUFFER)?;
        Ok(Self { fd })
    }

    /// Sends a frame. One that finds no room, or no carrier, is lost as it would be on the wire.
    pub(super) fn send(&self, frame: &[u8]) {
        let _lost = send(&self.fd, frame, SendFlags::empty());
    }

    /// A frame that has come, if there is one.
    pub(super) fn receive<'a>(&self, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
        let (length, _) = recv(&self.fd, &mut *buffer, RecvFlags::empty()).ok()?;
        buffer.get(..length)
    }

    /// To wait on.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
