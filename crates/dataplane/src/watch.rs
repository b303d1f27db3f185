//! Word from the kernel that devices, addresses, policy rules, qdiscs or filters changed (rtnetlink(7)), or nftables. It says
//! that something changed, not what: whoever is woken looks for himself. Tests: below, and
//! tests/tests/lab_host_fence.rs.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};

/// RTNLGRP_LINK, RTNLGRP_TC, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV6_RULE
/// (linux/rtnetlink.h), as bits. Not routes: beside a routing daemon they change all the time, and whoever keeps some
/// looks at them twice a second.
const GROUPS: u32 = 1 << 0 | 1 << 3 | 1 << 4 | 1 << 7 | 1 << 8 | 1 << 18;
/// Of one datagram no more than this is read: its content does not matter.
const READ: usize = 64;
/// Datagrams that are taken at a time; more only make the next wait short.
const DRAINED_MAX: usize = 1_024;

/// A socket that hears of changes, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Watch {
    socket: OwnedFd,
}

impl Watch {
    /// Starts listening. No right is needed.
    ///
    /// # Errors
    /// Where no socket can be opened.
    pub fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket =
            // No protocol is NETLINK_ROUTE: both are 0.
            socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
        Ok(Self { socket })
    }

    /// Starts listening for changes of nftables (NETLINK_NETFILTER, NFNLGRP_NFTABLES of
    /// linux/netfilter/nfnetlink.h).
    ///
    /// # Errors
    /// Where no socket can be opened.
    pub fn packet_filter() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let protocol = Some(rustix::net::netlink::NETFILTER);
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
        bind(&socket, &SocketAddrNetlink::new(0, 1 << 6))?;
        Ok(Self { socket })
    }

    /// Waits until something changed, at most this long; whether it did. Any number of changes at
    /// once count as one, and so does word that changes were missed.
    ///
    /// # Errors
    /// Where the socket can't be waited for.
    pub fn wait(&self, limit: Duration) -> io::Result<bool> {
        let limit = Timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(limit.subsec_nanos()),
        };
        let mut ready = [PollFd::new(&self.socket, PollFlags::IN)];
        match poll(&mut ready, Some(&limit)) {
            Ok(0) | Err(Errno::INTR) => return Ok(false),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let mut buffer = [0_u8; READ];
        for _ in 0..DRAINED_MAX {
            match recv(&self.socket, &mut buffer, RecvFlags::TRUNC) {
                // Full: something was missed, so something changed.
                Ok(_) | Err(Errno::NOBUFS | Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_change_the_wait_ends_by_itself() {
        let watch = Watch::open().unwrap();
        // Another test may change this machine's devices meanwhile; a nap of no length hears nothing
        // only if nothing was said before it.
        watch.wait(Duration::ZERO).unwrap();
    }
}
