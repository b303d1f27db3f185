//! Where a packet goes that leaves this host: out of which device, to which neighbour, as the kernel's own
//! tables have it (rtnetlink(7), arp(7)). It only asks; who solicits neighbours is the kernel.

use std::future::Future;
use std::io;
use std::net::Ipv6Addr;

use futures::{StreamExt as _, TryStreamExt as _};
use rtnetlink::packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{Error as RouteError, Handle, RouteMessageBuilder};

use crate::sys::LinkAddress;

/// The kernel's tables, for who asks from a task.
#[derive(Debug)]
pub struct Neighbours {
    requests: Handle,
}

/// The next hop on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hop {
    pub(crate) device: u32,
    pub(crate) address: LinkAddress,
    /// Whether the kernel knows that it is there; if not, the next packet has it ask.
    pub(crate) sure: bool,
}

impl Neighbours {
    /// A connection, and what drives it: a task that runs as long as it is needed.
    ///
    /// # Errors
    /// Without a socket. No right is needed.
    pub fn open() -> io::Result<(Self, impl Future<Output = ()> + Send + use<>)> {
        let (connection, requests, _no_groups) = rtnetlink::new_connection()?;
        Ok((Self { requests }, connection))
    }

    /// Where packets to this address go; none where the neighbour's link-layer address is not known.
    pub(crate) async fn hop(&self, to: Ipv6Addr) -> io::Result<Option<Hop>> {
        let wanted = RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(to, 128).build();
        let mut found = std::pin::pin!(self.requests.route().get(wanted).execute());
        let Some(route) = found.try_next().await.map_err(|error| failed(&error))? else {
            return Err(io::ErrorKind::NetworkUnreachable.into());
        };
        let (mut device, mut next) = (None, to);
        for attribute in route.attributes {
            match attribute {
                RouteAttribute::Oif(index) => device = Some(index),
                RouteAttribute::Gateway(RouteAddress::Inet6(gateway)) => next = gateway,
                _ => {}
            }
        }
        let device = device.ok_or(io::ErrorKind::NetworkUnreachable)?;
        self.neighbour(device, next).await
    }

    async fn neighbour(&self, device: u32, next: Ipv6Addr) -> io::Result<Option<Hop>> {
        let mut wanted = NeighbourMessage::default();
        wanted.header.family = AddressFamily::Inet6;
        wanted.header.ifindex = device;
        wanted.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::Inet6(next)));
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetNeighbour(wanted));
        request.header.flags = NLM_F_REQUEST;
        let mut requests = self.requests.clone();
        let answers = requests.request(request).map_err(|error| failed(&error))?;
        let mut answers = std::pin::pin!(answers);
        match answers.next().await.map(|answer| answer.payload) {
            Some(NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(found))) => {
                Ok(read(device, &found))
            }
            // What is not in the table was not asked for yet.
            Some(NetlinkPayload::Error(error)) if error.raw_code() == -libc::ENOENT => Ok(None),
            Some(NetlinkPayload::Error(error)) => {
                Err(io::Error::from_raw_os_error(error.raw_code().saturating_abs()))
            }
            _ => Err(io::Error::other("no answer of rtnetlink")),
        }
    }
}

fn failed(error: &RouteError) -> io::Error {
    match error {
        RouteError::NetlinkError(message) => {
            io::Error::from_raw_os_error(message.raw_code().saturating_abs())
        }
        _ => io::Error::other(error.to_string()),
    }
}

fn read(device: u32, found: &NeighbourMessage) -> Option<Hop> {
    let sure = match found.header.state {
        NeighbourState::Reachable | NeighbourState::Permanent | NeighbourState::Noarp => true,
        NeighbourState::Stale | NeighbourState::Delay | NeighbourState::Probe => false,
        _ => return None,
    };
    let bytes = found.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(bytes) => Some(bytes),
        _ => None,
    })?;
    Some(Hop { device, address: LinkAddress::new(bytes)?, sure })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(state: NeighbourState, bytes: &[u8]) -> NeighbourMessage {
        let mut entry = NeighbourMessage::default();
        entry.header.state = state;
        entry.attributes.push(NeighbourAttribute::LinkLayerAddress(bytes.to_vec()));
        entry
    }

    #[test]
    fn a_neighbour_is_one_whose_address_the_kernel_has_and_did_not_give_up() {
        let mac = [2, 0, 0, 0, 0, 7];
        let sure = |state| read(3, &entry(state, &mac)).map(|hop| hop.sure);
        assert_eq!(sure(NeighbourState::Reachable), Some(true));
        assert_eq!(sure(NeighbourState::Permanent), Some(true));
        assert_eq!(sure(NeighbourState::Stale), Some(false));
        assert_eq!(sure(NeighbourState::Probe), Some(false));
        for none in [NeighbourState::Incomplete, NeighbourState::Failed, NeighbourState::None] {
            assert_eq!(sure(none), None);
        }
        assert_eq!(read(3, &NeighbourMessage::default()), None);
        // As long as those of InfiniBand: a packet socket has no room for it.
        assert_eq!(read(3, &entry(NeighbourState::Reachable, &[1; 20])), None);
    }

    #[tokio::test]
    async fn who_is_not_on_a_link_of_this_host_has_no_neighbour() {
        let (neighbours, driver) = Neighbours::open().unwrap();
        let driver = tokio::spawn(driver);
        let to = "2001:db8:ffff::1".parse().unwrap();
        // Whether there is a route at all is up to the host.
        assert!(!matches!(neighbours.hop(to).await, Ok(Some(Hop { sure: true, .. }))));
        driver.abort();
    }
}
