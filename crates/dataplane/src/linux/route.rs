//! Devices and addresses over rtnetlink, as blocking calls. It never decides which address stands where. Tests:
//! the contract suite.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use futures::TryStreamExt;
use ipnet::IpNet;
use quorate_model::id::DeviceName;
use quorate_model::kernel::{DeviceAddress, DeviceAddresses};
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressProtocol, CacheInfo,
};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::packet_route::route::{RouteMessage, RouteScope};
use rtnetlink::{
    AddressMessageBuilder, Error as RouteError, Handle, LinkUnspec, RouteMessageBuilder,
};

use crate::error::{DataplaneError, Errno, Operation};
use crate::netlink::{Connection, name};
use crate::{
    AddressPlace, DeviceState, MacAddress, ObservedAddress, ObservedAddresses, lifetime_s,
};

/// Quorate's mark on its addresses (IFA_PROTO, since Linux 5.18): `Q`. Below 4 is the kernel's.
const ADDRESS_MARK: u8 = b'Q';
/// INFINITY_LIFE_TIME.
const FOR_EVER: u32 = u32::MAX;
/// Requests that are under way at the same time: their answers, and what the kernel tells of them, must
/// fit a socket's receive buffer.
const REQUESTS_MAX: usize = 64;

/// A connection to rtnetlink in one network namespace.
#[derive(Debug)]
pub(super) struct Route {
    connection: Connection,
}

/// A failed request, before it is known what it was for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Failure {
    Errno(Errno),
    NoAnswer,
    Garbled,
}

impl Failure {
    pub(super) fn of(error: &RouteError) -> Self {
        match error {
            RouteError::NetlinkError(message) => {
                Self::Errno(Errno(message.raw_code().saturating_abs()))
            }
            RouteError::RequestFailed => Self::NoAnswer,
            _ => Self::Garbled,
        }
    }

    pub(super) fn during(self, doing: Operation) -> DataplaneError {
        match self {
            Self::Errno(errno) => DataplaneError::from_errno(doing, errno),
            Self::NoAnswer => DataplaneError::NoAnswer { doing },
            Self::Garbled => DataplaneError::Garbled { doing },
        }
    }
}

impl Route {
    /// Opens a connection in the calling thread's network namespace. No right is needed.
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self { connection: Connection::open()? })
    }

    /// Whether the connection has ended by itself, and every further request would fail.
    pub(super) fn is_broken(&self) -> bool {
        self.connection.is_broken()
    }

    fn requests(&self) -> &Handle {
        self.connection.requests()
    }

    fn wait<T>(&self, answer: impl Future<Output = Result<T, RouteError>>) -> Result<T, Failure> {
        let answer = self.connection.wait(answer).ok_or(Failure::NoAnswer)?;
        answer.map_err(|error| Failure::of(&error))
    }

    pub(super) fn link(&self, device: &DeviceName) -> Result<Option<LinkMessage>, Failure> {
        let request = self.requests().link().get().match_name(device.to_string()).execute();
        match self.wait(async { Box::pin(request).try_next().await }) {
            Err(Failure::Errno(Errno(libc::ENODEV))) => Ok(None),
            other => other,
        }
    }

    pub(super) fn device(&self, device: &DeviceName) -> Result<DeviceState, DataplaneError> {
        let doing = || Operation::ReadDevice(device.clone());
        let Some(link) = self.link(device).map_err(|failure| failure.during(doing()))? else {
            return Ok(DeviceState::Missing);
        };
        // IFF_RUNNING is operational state "up" or "unknown" (drivers without carrier).
        if !link.header.flags.contains(LinkFlags::Up | LinkFlags::Running) {
            return Ok(DeviceState::Down);
        }
        let mac = link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Address(bytes) => bytes.as_slice().try_into().ok().map(MacAddress),
            _ => None,
        });
        Ok(DeviceState::Up { index: link.header.index, mac })
    }

    /// The longest packet that a device carries; `None` where there is no such device.
    pub(super) fn mtu(&self, device: &DeviceName) -> Result<Option<u32>, DataplaneError> {
        let doing = || Operation::ReadDevice(device.clone());
        let link = self.link(device).map_err(|failure| failure.during(doing()))?;
        let attributes = link.map(|link| link.attributes).unwrap_or_default();
        Ok(attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Mtu(mtu) => Some(*mtu),
            _ => None,
        }))
    }

    /// Sets a device up or down; whether it had to.
    pub(super) fn set_up(&self, device: &DeviceName, up: bool) -> Result<bool, DataplaneError> {
        let doing = || Operation::SetDeviceUp(device.clone(), up);
        let link = self.link(device).map_err(|failure| failure.during(doing()))?;
        let link = link.ok_or_else(|| no_device(doing(), device))?;
        if link.header.flags.contains(LinkFlags::Up) == up {
            return Ok(false);
        }
        let change = LinkUnspec::new_with_index(link.header.index);
        let change = if up { change.up() } else { change.down() };
        self.wait(self.requests().link().set(change.build()).execute())
            .map(|()| true)
            .map_err(|failure| failure.during(doing()))
    }

    pub(super) fn has_host_route(
        &self,
        address: IpAddr,
        device: &DeviceName,
    ) -> Result<bool, DataplaneError> {
        let fail = |failure: Failure| failure.during(Operation::ReadRoute(address));
        let Some(link) = self.link(device).map_err(fail)? else { return Ok(false) };
        let wanted = host_route(address, link.header.index);
        // A request that names a destination would be answered by a lookup, not by the table.
        let mut whole = RouteMessage::default();
        whole.header.address_family = wanted.header.address_family;
        let dump = self.requests().route().get(whole).execute();
        let all: Vec<RouteMessage> = self.wait(dump.try_collect()).map_err(fail)?;
        Ok(all.iter().any(|found| {
            found.header.table == wanted.header.table
                && found.header.destination_prefix_length == wanted.header.destination_prefix_length
                && wanted.attributes.iter().all(|attribute| found.attributes.contains(attribute))
        }))
    }

    pub(super) fn add_host_route(
        &self,
        address: IpAddr,
        device: &DeviceName,
    ) -> Result<bool, DataplaneError> {
        let doing = || Operation::AddRoute(address);
        let link = self.link(device).map_err(|failure| failure.during(doing()))?;
        let index = link.ok_or_else(|| no_device(doing(), device))?.header.index;
        match self.wait(self.requests().route().add(host_route(address, index)).execute()) {
            Ok(()) => Ok(true),
            Err(Failure::Errno(Errno(libc::EEXIST))) => Ok(false),
            Err(failure) => Err(failure.during(doing())),
        }
    }

    pub(super) fn remove_host_route(
        &self,
        address: IpAddr,
        device: &DeviceName,
    ) -> Result<bool, DataplaneError> {
        let fail = |failure: Failure| failure.during(Operation::RemoveRoute(address));
        let Some(link) = self.link(device).map_err(fail)? else { return Ok(false) };
        let route = host_route(address, link.header.index);
        match self.wait(self.requests().route().del(route).execute()) {
            Ok(()) => Ok(true),
            Err(Failure::Errno(Errno(libc::ESRCH))) => Ok(false),
            Err(failure) => Err(fail(failure)),
        }
    }

    pub(super) fn observe_addresses(
        &self,
        devices: &[DeviceName],
    ) -> Result<ObservedAddresses, DataplaneError> {
        let fail = |failure: Failure| failure.during(Operation::ObserveAddresses);
        let mut by_index = Vec::new();
        for device in devices {
            if let Some(link) = self.link(device).map_err(fail)? {
                by_index.push((link.header.index, device));
            }
        }
        // One dump for all devices: the kernel would filter by device only in strict mode.
        let all: Vec<AddressMessage> =
            self.wait(self.requests().address().get().execute().try_collect()).map_err(fail)?;
        let found = all.iter().filter_map(|message| {
            let (_, device) = by_index.iter().find(|(index, _)| *index == message.header.index)?;
            let net = net(message)?;
            Some((DeviceAddress { device: (*device).clone(), net }, facts(message)))
        });
        Ok(found.collect())
    }

    /// Every address with our mark, whatever its device is called by now; but on lo, where a real
    /// server has VIPs that are meant to stand.
    pub(super) fn marked_addresses(&self) -> Result<DeviceAddresses, DataplaneError> {
        let fail = |failure: Failure| failure.during(Operation::ObserveAddresses);
        let names = self.names().map_err(fail)?;
        let all: Vec<AddressMessage> =
            self.wait(self.requests().address().get().execute().try_collect()).map_err(fail)?;
        let marked = all.iter().filter(|message| facts(message).ours).filter_map(|message| {
            let device = names.get(&message.header.index)?.clone();
            Some(DeviceAddress { device, net: net(message)? })
        });
        Ok(marked.collect())
    }

    /// The names of all devices but lo, by their index.
    fn names(&self) -> Result<BTreeMap<u32, DeviceName>, Failure> {
        self.names_of(|link| !link.header.flags.contains(LinkFlags::Loopback))
    }

    /// The names of all devices, by their index.
    pub(super) fn all_names(&self) -> Result<BTreeMap<u32, DeviceName>, Failure> {
        self.names_of(|_| true)
    }

    fn names_of(
        &self,
        which: impl Fn(&LinkMessage) -> bool,
    ) -> Result<BTreeMap<u32, DeviceName>, Failure> {
        let dump = self.requests().link().get().execute();
        let links: Vec<LinkMessage> = self.wait(dump.try_collect())?;
        let links = links.iter().filter(|link| which(link));
        Ok(links.filter_map(|link| Some((link.header.index, name(link)?))).collect())
    }

    pub(super) fn device_with(
        &self,
        address: IpAddr,
    ) -> Result<Option<AddressPlace>, DataplaneError> {
        let fail = |failure: Failure| failure.during(Operation::FindDevice(address));
        let names = self.names().map_err(fail)?;
        let all: Vec<AddressMessage> =
            self.wait(self.requests().address().get().execute().try_collect()).map_err(fail)?;
        let has = |message: &&AddressMessage| net(message).is_some_and(|net| net.addr() == address);
        let found = all.iter().find(has);
        let place = |message: &AddressMessage| {
            let index = message.header.index;
            let device = names.get(&index)?.clone();
            // A dump gives a device's addresses in their order, the primary ones first.
            let of_device = |m: &&AddressMessage| {
                m.header.index == index && net(m).is_some_and(|net| net.addr().is_ipv4())
            };
            let first = all.iter().find(of_device).and_then(net).map(|net| net.addr());
            Some(AddressPlace { device, first: address.is_ipv6() || first == Some(address) })
        };
        Ok(found.and_then(place))
    }

    pub(super) fn add_addresses(
        &self,
        addresses: &[DeviceAddress],
        lifetime: Option<Duration>,
    ) -> Vec<(DeviceAddress, DataplaneError)> {
        let add = |index: u32, address: &DeviceAddress| {
            let net = address.net;
            let mut request =
                self.requests().address().add(index, net.addr(), net.prefix_len()).replace();
            let mut cache = CacheInfo::default();
            cache.ifa_valid = lifetime_s(lifetime);
            // Linux takes the address with the longest common prefix for what this host itself sends
            // (RFC 6724 rule 8), which a VIP of /128 would be: real servers would answer probes from
            // it to themselves. A deprecated one is taken only where there is no other.
            cache.ifa_preferred = if net.addr().is_ipv6() { 0 } else { cache.ifa_valid };
            let attributes = &mut request.message_mut().attributes;
            attributes.push(AddressAttribute::CacheInfo(cache));
            attributes.push(AddressAttribute::Protocol(AddressProtocol::Other(ADDRESS_MARK)));
            if net.addr().is_ipv6() {
                // A change clears both unless they are sent again each time. NODAD: the lease, not
                // the neighbours, says who has the address; waiting a second for them costs one.
                attributes.push(AddressAttribute::Flags(
                    AddressFlags::Nodad | AddressFlags::Noprefixroute,
                ));
            }
            request.execute()
        };
        let failed = |address: &DeviceAddress, outcome| {
            let doing = Operation::AddAddress(address.clone());
            let error = match outcome {
                Ok(Some(())) => return None,
                Ok(None) | Err(Failure::Errno(Errno(libc::ENODEV))) => {
                    no_device(doing, &address.device)
                }
                Err(failure) => failure.during(doing),
            };
            Some((address.clone(), error))
        };
        self.for_each(addresses, add, failed)
    }

    pub(super) fn remove_addresses(
        &self,
        addresses: &[DeviceAddress],
    ) -> Vec<(DeviceAddress, DataplaneError)> {
        let remove = |index: u32, address: &DeviceAddress| {
            self.requests().address().del(address_message(index, address.net)).execute()
        };
        let failed = |address: &DeviceAddress, outcome| match outcome {
            Ok(_) | Err(Failure::Errno(Errno(libc::EADDRNOTAVAIL | libc::ENODEV))) => None,
            Err(failure) => {
                let doing = Operation::RemoveAddress(address.clone());
                Some((address.clone(), failure.during(doing)))
            }
        };
        self.for_each(addresses, remove, failed)
    }

    /// Makes a request for each address, [`REQUESTS_MAX`] at a time: one that waited for the answer
    /// to the one before would cost several times as much, and a director may have to take hundreds.
    /// `failed` is given each one's outcome, `Ok(None)` where its device is missing.
    fn for_each<R: Future<Output = Result<(), RouteError>>>(
        &self,
        addresses: &[DeviceAddress],
        request: impl Fn(u32, &DeviceAddress) -> R,
        failed: impl Fn(
            &DeviceAddress,
            Result<Option<()>, Failure>,
        ) -> Option<(DeviceAddress, DataplaneError)>,
    ) -> Vec<(DeviceAddress, DataplaneError)> {
        let mut indices: BTreeMap<&DeviceName, Result<Option<u32>, Failure>> = BTreeMap::new();
        for DeviceAddress { device, .. } in addresses {
            indices
                .entry(device)
                .or_insert_with(|| Ok(self.link(device)?.map(|link| link.header.index)));
        }
        let index =
            |address: &DeviceAddress| indices.get(&address.device).copied().unwrap_or(Ok(None));
        let mut failures = Vec::new();
        for chunk in addresses.chunks(REQUESTS_MAX) {
            let requests = chunk.iter().map(|address| {
                let index = index(address);
                let request = index.ok().flatten().map(|index| request(index, address));
                async move {
                    let Some(request) = request else { return Ok(index.map(|_| None)) };
                    Ok(request.await.map(Some).map_err(|error| Failure::of(&error)))
                }
            });
            let outcomes = self.wait(futures::future::try_join_all(requests));
            for (number, address) in chunk.iter().enumerate() {
                let outcome = match &outcomes {
                    Ok(outcomes) => outcomes.get(number).copied().unwrap_or(Ok(None)),
                    Err(failure) => Err(*failure),
                };
                failures.extend(failed(address, outcome));
            }
        }
        failures
    }
}

pub(super) fn no_device(doing: Operation, device: &DeviceName) -> DataplaneError {
    DataplaneError::NoDevice { doing, device: device.clone() }
}

/// A route of the main table to one address, out of one device.
fn host_route(address: IpAddr, device_index: u32) -> RouteMessage {
    match address {
        IpAddr::V4(address) => RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(address, 32)
            .scope(RouteScope::Link)
            .output_interface(device_index)
            .build(),
        IpAddr::V6(address) => RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(address, 128)
            .output_interface(device_index)
            .build(),
    }
}

fn address_message(index: u32, net: IpNet) -> AddressMessage {
    match net {
        IpNet::V4(net) => AddressMessageBuilder::<Ipv4Addr>::new()
            .index(index)
            .address(net.addr(), net.prefix_len())
            .build(),
        IpNet::V6(net) => AddressMessageBuilder::<Ipv6Addr>::new()
            .index(index)
            .address(net.addr(), net.prefix_len())
            .build(),
    }
}

/// The address itself: IFA_LOCAL where there is one (of a point-to-point device, IFA_ADDRESS is
/// the other end's).
fn net(message: &AddressMessage) -> Option<IpNet> {
    let mut address: Option<IpAddr> = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(local) => address = Some(*local),
            AddressAttribute::Address(other) => address = address.or(Some(*other)),
            _ => {}
        }
    }
    IpNet::new(address?, message.header.prefix_len).ok()
}

fn facts(message: &AddressMessage) -> ObservedAddress {
    let mut facts = ObservedAddress { ours: false, lifetime: None };
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Protocol(AddressProtocol::Other(ADDRESS_MARK)) => facts.ours = true,
            AddressAttribute::CacheInfo(cache) if cache.ifa_valid != FOR_EVER => {
                facts.lifetime = Some(Duration::from_secs(cache.ifa_valid.into()));
            }
            _ => {}
        }
    }
    facts
}
