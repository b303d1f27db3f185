//! [`Dataplane`] on the real kernel, in the network namespace of the thread that makes it.
//!
//! It works, and says what is missing, without ip_vs and without CAP_NET_ADMIN. Tests: `ipvs` for
//! the bytes; for all else the contract suite (tests/tests/lab_ipvs_contract.rs).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use quorate_model::claim::{Answer, Question};
use quorate_model::id::DeviceName;
use quorate_model::kernel::{
    ConnectionTimeouts, DeviceAddress, DeviceAddresses, ObservedServices, PacketRules,
};
use quorate_model::plan::Action;
use quorate_model::routing::{Routing, RoutingEntry};
use quorate_model::sync::{SyncDaemons, SyncStep};

use self::ipvs::Ipvs;
use self::route::Route;
use self::routing::Routes;
use crate::error::{DataplaneError, Errno, Operation};
use crate::fence::{self, Fence, FenceError, Slot};
use crate::sysctl::{self, Proc};
use crate::{
    AddressPlace, Capabilities, Dataplane, DeviceState, DirectorNeeds, ObservedAddresses,
    SysctlFinding, SysctlMode, announce, sys,
};

mod ask;
mod clamp;
mod ipvs;
pub(crate) mod module;
mod neighbour;
mod nft;
pub mod path;
mod route;
mod routing;
mod rules;

/// The real kernel. Each instance has sockets of its own, so that one thread can program services
/// while another refreshes addresses.
#[derive(Debug)]
pub struct Linux {
    ipvs: Ipvs,
    route: Route,
    /// Opened when it is first needed: few groups have routes.
    routes: Option<Routes>,
    /// Opened at the first announcement, since it needs CAP_NET_RAW.
    packets: Option<OwnedFd>,
    fence: Option<Fence>,
}

impl Linux {
    /// Opens the sockets in the calling thread's network namespace. Neither ip_vs nor any right is
    /// needed for that: [`Dataplane::capabilities`] tells what is missing.
    ///
    /// Call the instance from this namespace only: sysctls are read and written where the calling
    /// thread is. Never call it from a task of an async runtime: every call blocks, and those that
    /// use rtnetlink panic there.
    ///
    /// # Errors
    /// Where no socket can be opened.
    pub fn new() -> Result<Self, DataplaneError> {
        let fail = |error| DataplaneError::from_io(Operation::OpenSocket, &error);
        Ok(Self {
            ipvs: Ipvs::open().map_err(fail)?,
            route: Route::open().map_err(fail)?,
            routes: None,
            packets: None,
            fence: None,
        })
    }

    /// The connection to rtnetlink, a new one if the last has ended.
    fn route(&mut self) -> Result<&Route, DataplaneError> {
        if self.route.is_broken() {
            self.route = Route::open()
                .map_err(|error| DataplaneError::from_io(Operation::OpenSocket, &error))?;
        }
        Ok(&self.route)
    }

    /// The connection for routes and policy rules, and that for devices.
    fn routing(&mut self) -> Result<(&Routes, &Route), DataplaneError> {
        let fail = |error| DataplaneError::from_io(Operation::OpenSocket, &error);
        self.route()?;
        let routes = match self.routes.take().filter(|routes| !routes.is_broken()) {
            Some(routes) => routes,
            None => Routes::open().map_err(fail)?,
        };
        Ok((self.routes.insert(routes), &self.route))
    }

    /// Sets a device up or down; whether it had to.
    pub(crate) fn set_up(&mut self, device: &DeviceName, up: bool) -> Result<bool, DataplaneError> {
        self.route()?.set_up(device, up)
    }

    /// Whether what leaves from this address tells its peers of segments that fit the device.
    pub(crate) fn is_clamped(
        &mut self,
        vip: IpAddr,
        device: &DeviceName,
    ) -> Result<bool, DataplaneError> {
        match self.longest_segment(vip, device)? {
            Some(mss) => clamp::stands(vip, mss),
            None => Ok(false),
        }
    }

    /// Makes it so; whether it had to.
    pub(crate) fn clamp(
        &mut self,
        vip: IpAddr,
        device: &DeviceName,
    ) -> Result<bool, DataplaneError> {
        let mss = self.longest_segment(vip, device)?.ok_or_else(|| DataplaneError::NoDevice {
            doing: Operation::Clamp(vip),
            device: device.clone(),
        })?;
        if clamp::stands(vip, mss)? {
            return Ok(false);
        }
        clamp::set(vip, mss).map(|()| true)
    }

    /// Takes that away; whether it was there.
    pub(crate) fn unclamp(&mut self, vip: IpAddr) -> Result<bool, DataplaneError> {
        clamp::unset(vip)
    }

    fn longest_segment(
        &mut self,
        vip: IpAddr,
        device: &DeviceName,
    ) -> Result<Option<u16>, DataplaneError> {
        let mtu = self.route()?.mtu(device)?;
        Ok(mtu.and_then(|mtu| clamp::longest_segment(vip, mtu)))
    }

    /// Whether the main table has a route to this one address through this device.
    pub(crate) fn has_host_route(
        &mut self,
        address: IpAddr,
        device: &DeviceName,
    ) -> Result<bool, DataplaneError> {
        self.route()?.has_host_route(address, device)
    }

    /// Adds that route; whether it had to.
    pub(crate) fn add_host_route(
        &mut self,
        address: IpAddr,
        device: &DeviceName,
    ) -> Result<bool, DataplaneError> {
        self.route()?.add_host_route(address, device)
    }

    /// Removes that route; whether it had to.
    pub(crate) fn remove_host_route(
        &mut self,
        address: IpAddr,
        device: &DeviceName,
    ) -> Result<bool, DataplaneError> {
        self.route()?.remove_host_route(address, device)
    }
}

impl Dataplane for Linux {
    fn capabilities(&mut self) -> Capabilities {
        Capabilities { net_admin: has_net_admin(), ipvs: self.ipvs.info() }
    }

    fn observe_services(&mut self) -> Result<ObservedServices, DataplaneError> {
        self.ipvs.observe()
    }

    fn apply(&mut self, actions: &[Action]) -> Vec<(Action, DataplaneError)> {
        self.ipvs.apply(actions)
    }

    fn timeouts(&mut self) -> Result<ConnectionTimeouts, DataplaneError> {
        self.ipvs.timeouts()
    }

    fn set_timeouts(&mut self, timeouts: ConnectionTimeouts) -> Result<(), DataplaneError> {
        self.ipvs.set_timeouts(timeouts)
    }

    fn rules(&mut self) -> Result<Option<PacketRules>, DataplaneError> {
        rules::read()
    }

    fn set_rules(&mut self, rules: &PacketRules) -> Result<(), DataplaneError> {
        rules::set(rules)
    }

    fn sync_daemons(&mut self) -> Result<SyncDaemons, DataplaneError> {
        self.ipvs.sync_daemons()
    }

    fn sync_step(&mut self, step: &SyncStep) -> Result<(), DataplaneError> {
        self.ipvs.sync_step(step)
    }

    fn device_with(&mut self, address: IpAddr) -> Result<Option<AddressPlace>, DataplaneError> {
        self.route()?.device_with(address)
    }

    fn device(&mut self, device: &DeviceName) -> Result<DeviceState, DataplaneError> {
        self.route()?.device(device)
    }

    fn observe_addresses(
        &mut self,
        devices: &[DeviceName],
    ) -> Result<ObservedAddresses, DataplaneError> {
        self.route()?.observe_addresses(devices)
    }

    fn marked_addresses(&mut self) -> Result<DeviceAddresses, DataplaneError> {
        self.route()?.marked_addresses()
    }

    fn add_addresses(
        &mut self,
        addresses: &[DeviceAddress],
        lifetime: Option<Duration>,
    ) -> Vec<(DeviceAddress, DataplaneError)> {
        match self.route() {
            Ok(route) => route.add_addresses(addresses, lifetime),
            Err(error) => addresses.iter().map(|a| (a.clone(), error.clone())).collect(),
        }
    }

    fn remove_addresses(
        &mut self,
        addresses: &[DeviceAddress],
    ) -> Vec<(DeviceAddress, DataplaneError)> {
        match self.route() {
            Ok(route) => route.remove_addresses(addresses),
            Err(error) => addresses.iter().map(|a| (a.clone(), error.clone())).collect(),
        }
    }

    fn observe_routing(&mut self) -> Result<Routing, DataplaneError> {
        let (routes, links) = self.routing()?;
        routes.observe(links)
    }

    fn add_routing(&mut self, entry: &RoutingEntry) -> Result<(), DataplaneError> {
        let (routes, links) = self.routing()?;
        routes.add(links, entry)
    }

    fn remove_routing(&mut self, entry: &RoutingEntry) -> Result<(), DataplaneError> {
        let (routes, links) = self.routing()?;
        routes.remove(links, entry)
    }

    fn arm_fence(&mut self, vips: &[IpAddr]) -> Result<(), FenceError> {
        self.fence = Some(Fence::arm(&fence::devices()?, vips)?);
        Ok(())
    }

    fn fence(&mut self, vip: IpAddr) -> Result<Slot, FenceError> {
        self.fence.as_mut().ok_or(FenceError::NotArmed)?.insert(vip)
    }

    fn unfence(&mut self, vip: IpAddr) -> Result<(), FenceError> {
        self.fence.as_mut().map_or(Ok(()), |fence| fence.remove(vip))
    }

    fn mend_fence(&mut self) -> Result<Vec<DeviceName>, FenceError> {
        self.fence.as_mut().ok_or(FenceError::NotArmed)?.mend()
    }

    fn announce(&mut self, device: &DeviceName, address: IpAddr) -> Result<(), DataplaneError> {
        let doing = || Operation::Announce(device.clone(), address);
        let (index, mac) = match self.route()?.device(device)? {
            DeviceState::Missing => {
                return Err(DataplaneError::NoDevice { doing: doing(), device: device.clone() });
            }
            DeviceState::Down => {
                let errno = Errno(libc::ENETDOWN);
                return Err(DataplaneError::Refused { doing: doing(), errno });
            }
            DeviceState::Up { mac: None, .. } => return Ok(()),
            DeviceState::Up { index, mac: Some(mac) } => (index, mac),
        };
        let fail = |error| DataplaneError::from_io(doing(), &error);
        if self.packets.is_none() {
            self.packets = Some(sys::packet_socket().map_err(fail)?);
        }
        let router = address.is_ipv6() && sysctl::is_router(&Proc, device);
        if let Some(socket) = &self.packets {
            for frame in announce::frames(mac, address, router) {
                sys::send_frame(socket, index, &frame).map_err(fail)?;
            }
        }
        Ok(())
    }

    fn ask(&mut self, questions: &BTreeSet<Question>) -> BTreeMap<Question, Answer> {
        match self.route() {
            Ok(route) => ask::ask(route, questions),
            Err(error) => {
                let failed = |q: &Question| (q.clone(), Answer::Failed(error.to_string()));
                questions.iter().map(failed).collect()
            }
        }
    }

    fn director_sysctls(&mut self, needs: &DirectorNeeds, mode: SysctlMode) -> Vec<SysctlFinding> {
        sysctl::director(&mut Proc, needs, mode)
    }
}

/// Whether CAP_NET_ADMIN is effective for the calling thread.
fn has_net_admin() -> bool {
    const CAP_NET_ADMIN: u32 = 12;
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & (1 << CAP_NET_ADMIN) != 0)
}
