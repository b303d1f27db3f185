//! The state of the fake kernel, and what each change does to it. The error numbers are those of
//! net/netfilter/ipvs/ip_vs_ctl.c. It knows no test and no thread. Tests: as its parent's.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use quorate_model::claim::Question;
use quorate_model::id::DeviceName;
use quorate_model::kernel::{
    ConnectionTimeouts, Destination, DeviceAddress, Family, ObservedDestination, ObservedServices,
    PacketRules, ServiceKey,
};
use quorate_model::plan::Action;
use quorate_model::spec::{Forward, Scheduler};
use quorate_model::sync::{SyncDaemons, SyncSettings, SyncStep};

use super::routing::Held;
use super::{Announcement, Call};
use crate::error::{DataplaneError, Errno, Operation};
use crate::fence::{FenceError, Slot};
use crate::sysctl::Sysctls;
use crate::{
    AddressPlace, Capabilities, DeviceState, IpvsInfo, IpvsProblem, MacAddress, ObservedAddress,
    ObservedAddresses, lifetime_s,
};

/// Who added an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    Ours,
    Foreign,
}

#[derive(Debug, Clone, Copy)]
struct Address {
    mark: Mark,
    /// When it goes, in the kernel's time; `None`: never.
    until: Option<Duration>,
}

/// Everything that the kernel holds, and what it was told to fail at.
#[derive(Debug, Default)]
pub(super) struct Kernel {
    /// Time since the kernel was made.
    now: Duration,
    devices: BTreeMap<DeviceName, DeviceState>,
    addresses: BTreeMap<DeviceAddress, Address>,
    pub(super) routing: Held,
    /// What hosts on the networks of the devices have.
    pub(super) neighbours: BTreeMap<Question, MacAddress>,
    sysctls: BTreeMap<Vec<String>, String>,
    pub(super) services: ObservedServices,
    pub(super) timeouts: ConnectionTimeouts,
    pub(super) rules: PacketRules,
    /// Whether something that is not ours stands in that table instead.
    pub(super) spoilt_rules: bool,
    pub(super) sync: SyncDaemons,
    pub(super) lacks_nft: bool,
    pub(super) applied: Vec<Action>,
    pub(super) announcements: Vec<Announcement>,
    ipvs_problem: Option<IpvsProblem>,
    pub(super) lacks_net_admin: bool,
    pub(super) sysctls_read_only: bool,
    pub(super) missing_schedulers: BTreeSet<Scheduler>,
    pub(super) failures: BTreeMap<Call, VecDeque<Errno>>,
    pub(super) partial_dumps: u32,
    /// Whether a fence was armed, since the kernel was made.
    pub(super) armed: bool,
    pub(super) fenced: BTreeMap<IpAddr, Slot>,
    pub(super) fence_problem: Option<FenceError>,
}

impl Kernel {
    pub(super) fn arm_fence(&mut self, vips: &[IpAddr]) -> Result<(), FenceError> {
        if let Some(problem) = &self.fence_problem {
            return Err(problem.clone());
        }
        // The slots of the fence before are nobody's any more.
        self.fenced.clear();
        self.armed = true;
        vips.iter().try_for_each(|&vip| self.fence(vip).map(drop))
    }

    pub(super) fn fence(&mut self, vip: IpAddr) -> Result<Slot, FenceError> {
        if !self.armed {
            return Err(FenceError::NotArmed);
        }
        if let Some(slot) = self.fenced.get(&vip) {
            return Ok(slot.clone());
        }
        let slot = Slot::in_memory().map_err(|_| FenceError::Full)?;
        self.fenced.insert(vip, slot.clone());
        Ok(slot)
    }

    pub(super) fn capabilities(&self) -> Capabilities {
        let info = IpvsInfo { version: (1, 2, 1), connection_table_size: 4096 };
        let ipvs = match &self.ipvs_problem {
            Some(problem) => Err(problem.clone()),
            None if self.lacks_net_admin => Err(IpvsProblem::NotPermitted),
            None => Ok(info),
        };
        Capabilities { net_admin: !self.lacks_net_admin, ipvs }
    }

    /// Takes the next failure that this call was told to have.
    pub(super) fn may_fail(
        &mut self,
        call: Call,
        doing: impl FnOnce() -> Operation,
    ) -> Result<(), DataplaneError> {
        match self.failures.get_mut(&call).and_then(VecDeque::pop_front) {
            Some(errno) => Err(DataplaneError::from_errno(doing(), errno)),
            None => Ok(()),
        }
    }

    pub(super) fn needs_net_admin(
        &self,
        doing: impl FnOnce() -> Operation,
    ) -> Result<(), DataplaneError> {
        if self.lacks_net_admin {
            return Err(DataplaneError::from_errno(doing(), Errno(libc::EPERM)));
        }
        Ok(())
    }

    pub(super) fn needs_ipvs(&self, doing: impl Fn() -> Operation) -> Result<(), DataplaneError> {
        match &self.ipvs_problem {
            Some(IpvsProblem::NoModule) => Err(DataplaneError::NoIpvs { doing: doing() }),
            Some(IpvsProblem::NotPermitted) => {
                Err(DataplaneError::from_errno(doing(), Errno(libc::EPERM)))
            }
            Some(IpvsProblem::Failed(error)) => Err(error.clone()),
            None => self.needs_net_admin(doing),
        }
    }

    pub(super) fn needs_nft(&self, doing: impl Fn() -> Operation) -> Result<(), DataplaneError> {
        if self.lacks_nft {
            let cause = "No such file or directory (os error 2)".to_owned();
            return Err(DataplaneError::NoNft { doing: doing(), cause });
        }
        self.needs_net_admin(doing)
    }

    pub(super) fn set_ipvs(&mut self, ipvs: Result<(), IpvsProblem>) {
        self.ipvs_problem = ipvs.err();
        if self.ipvs_problem == Some(IpvsProblem::NoModule) {
            self.services.clear();
            self.sync.clear();
        }
    }

    pub(super) fn dump(&mut self) -> ObservedServices {
        let mut dump = self.services.clone();
        if self.partial_dumps > 0 {
            self.partial_dumps -= 1;
            keep_every_second(&mut dump);
            for service in dump.values_mut() {
                keep_every_second(&mut service.destinations);
            }
        }
        dump
    }

    /// One action, with the same meaning of errors as on Linux: "already so" is success.
    pub(super) fn apply(&mut self, action: &Action) -> Result<(), DataplaneError> {
        let doing = || Operation::Apply(Box::new(action.clone()));
        self.may_fail(Call::Apply, doing)?;
        self.needs_ipvs(doing)?;
        let gone = |errno| DataplaneError::Gone { doing: doing(), errno: Errno(errno) };
        match action {
            Action::AddService(key, settings) | Action::SetService(key, settings) => {
                let is_new = !self.services.contains_key(key);
                if is_new && matches!(action, Action::SetService(..)) {
                    return Err(gone(libc::ESRCH));
                }
                let scheduler = settings.scheduler;
                if self.missing_schedulers.contains(&scheduler) {
                    return Err(DataplaneError::NoScheduler { doing: doing(), scheduler });
                }
                self.services.entry(*key).or_default().settings = Some(*settings);
            }
            Action::DeleteService(key) => {
                if self.services.remove(key).is_none() {
                    return Ok(());
                }
            }
            Action::AddDestination(key, server, to) | Action::SetDestination(key, server, to) => {
                refused(key, server, to)
                    .map_err(|errno| DataplaneError::from_errno(doing(), errno))?;
                let service = self.services.get_mut(key).ok_or_else(|| gone(libc::ESRCH))?;
                let found = service.destinations.get_mut(server);
                match (found, action) {
                    (Some(found), _) => found.destination = Some(*to),
                    (None, Action::SetDestination(..)) => return Err(gone(libc::ENOENT)),
                    (None, _) => {
                        let destination = Some(*to);
                        let new = ObservedDestination { destination, ..Default::default() };
                        service.destinations.insert(*server, new);
                    }
                }
            }
            Action::DeleteDestination(key, server) => {
                let service = self.services.get_mut(key);
                if service.and_then(|service| service.destinations.remove(server)).is_none() {
                    return Ok(());
                }
            }
        }
        self.applied.push(action.clone());
        Ok(())
    }

    pub(super) fn sync_step(&mut self, step: &SyncStep) -> Result<(), DataplaneError> {
        match step {
            SyncStep::Stop(role) => {
                self.needs_ipvs(|| Operation::StopSync(*role))?;
                self.sync.remove(role);
            }
            SyncStep::Start(role, settings) => {
                let doing = || Operation::StartSync(*role, settings.clone());
                self.needs_ipvs(doing)?;
                let device = settings.device.clone();
                if self.device(&device) == DeviceState::Missing {
                    return Err(DataplaneError::NoDevice { doing: doing(), device });
                }
                if self.sync.contains_key(role) {
                    return Err(DataplaneError::from_errno(doing(), Errno(libc::EEXIST)));
                }
                // What was not said, the kernel chooses by the device's frames.
                let max_len = settings.max_len.or(Some(1_460));
                self.sync.insert(*role, SyncSettings { max_len, ..settings.clone() });
            }
        }
        Ok(())
    }

    pub(super) fn device_with(&self, address: IpAddr) -> Option<AddressPlace> {
        let found = self.addresses.keys().find(|at| at.net.addr() == address)?;
        let first = self
            .addresses
            .keys()
            .find(|at| at.device == found.device && at.net.addr().is_ipv4() == address.is_ipv4());
        let first = address.is_ipv6() || first == Some(found);
        Some(AddressPlace { device: found.device.clone(), first })
    }

    pub(super) fn device(&self, device: &DeviceName) -> DeviceState {
        self.devices.get(device).copied().unwrap_or(DeviceState::Missing)
    }

    pub(super) fn set_device(&mut self, device: &DeviceName, state: DeviceState) {
        match state {
            DeviceState::Missing => {
                self.devices.remove(device);
                self.routing.device_lost(device);
                self.lose_addresses(|address, _| address.device == *device);
                return;
            }
            DeviceState::Down => {
                self.routing.device_lost(device);
                // Without keep_addr_on_down, IPv6 addresses go with the device.
                self.lose_addresses(|address, _| {
                    address.device == *device && address.net.addr().is_ipv6()
                });
            }
            DeviceState::Up { .. } => {}
        }
        self.devices.insert(device.clone(), state);
    }

    pub(super) fn put_address(
        &mut self,
        address: &DeviceAddress,
        lifetime: Option<Duration>,
        mark: Mark,
    ) {
        let until = lifetime
            .map(|lifetime| Duration::from_secs(lifetime_s(Some(lifetime)).into()))
            .map(|whole| self.now + whole);
        // Who first added it stays its origin: Linux keeps the mark of IPv4 when it is refreshed.
        let mark = self.addresses.get(address).map_or(mark, |old| old.mark);
        self.addresses.insert(address.clone(), Address { mark, until });
    }

    pub(super) fn remove_address(&mut self, address: &DeviceAddress) {
        self.lose_addresses(|other, _| other == address);
    }

    /// Addresses go, and with each the routes that are to send from it.
    fn lose_addresses(&mut self, lost: impl Fn(&DeviceAddress, &Address) -> bool) {
        let gone: Vec<DeviceAddress> = self
            .addresses
            .iter()
            .filter(|(address, facts)| lost(address, facts))
            .map(|(address, _)| address.clone())
            .collect();
        for address in gone {
            self.addresses.remove(&address);
            self.routing.address_lost(address.net.addr());
        }
    }

    pub(super) fn observed_addresses(&self, of: impl Fn(&DeviceName) -> bool) -> ObservedAddresses {
        let observed = |address: &Address| ObservedAddress {
            ours: address.mark == Mark::Ours,
            lifetime: address
                .until
                .map(|until| Duration::from_secs(until.saturating_sub(self.now).as_secs())),
        };
        self.addresses
            .iter()
            .filter(|(address, _)| of(&address.device))
            .map(|(address, facts)| (address.clone(), observed(facts)))
            .collect()
    }

    pub(super) fn advance(&mut self, by: Duration) {
        self.now += by;
        let now = self.now;
        self.lose_addresses(|_, address| address.until.is_some_and(|until| until <= now));
    }

    pub(super) fn announce(&mut self, device: &DeviceName, address: IpAddr) {
        self.announcements.push(Announcement { at: self.now, device: device.clone(), address });
    }
}

fn keep_every_second<K: Ord, V>(map: &mut BTreeMap<K, V>) {
    let mut keep = false;
    map.retain(|_, _| {
        keep = !keep;
        keep
    });
}

/// What the kernel refuses whatever stands there (`ip_vs_genl_set_cmd`, `ip_vs_add_dest`).
fn refused(key: &ServiceKey, server: &SocketAddr, to: &Destination) -> Result<(), Errno> {
    if i32::try_from(to.weight).is_err() || to.thresholds.lower > to.thresholds.upper {
        return Err(Errno(libc::ERANGE));
    }
    let mixed = key.family() != Family::of(server.ip());
    if mixed && !matches!(to.forward, Forward::Tun(_)) {
        return Err(Errno(libc::EINVAL));
    }
    // `ip_vs_new_dest` takes local and unicast addresses only, and for IPv6 none of one link.
    let unicast = match server.ip() {
        IpAddr::V4(ip) => !ip.is_multicast() && !ip.is_unspecified() && !ip.is_broadcast(),
        IpAddr::V6(ip) => !ip.is_multicast() && !ip.is_unspecified() && !ip.is_unicast_link_local(),
    };
    if unicast { Ok(()) } else { Err(Errno(libc::EINVAL)) }
}

impl Sysctls for Kernel {
    fn read(&self, key: &[&str]) -> Result<String, DataplaneError> {
        let doing = || Operation::ReadSysctl(["/proc/sys"].iter().chain(key).collect());
        self.has_sysctl(key).map_err(|errno| DataplaneError::Refused { doing: doing(), errno })?;
        let owned: Vec<String> = key.iter().map(|&part| part.to_owned()).collect();
        let default = if key.last() == Some(&"send_redirects") { "1" } else { "0" };
        Ok(self.sysctls.get(&owned).cloned().unwrap_or_else(|| default.to_owned()))
    }

    fn write(&mut self, key: &[&str], value: &str) -> Result<(), DataplaneError> {
        let doing = || Operation::WriteSysctl(["/proc/sys"].iter().chain(key).collect());
        self.has_sysctl(key)
            .and(if self.sysctls_read_only { Err(Errno(libc::EROFS)) } else { Ok(()) })
            .and(if self.lacks_net_admin { Err(Errno(libc::EACCES)) } else { Ok(()) })
            .map_err(|errno| DataplaneError::Refused { doing: doing(), errno })?;
        let owned = key.iter().map(|&part| part.to_owned()).collect();
        self.sysctls.insert(owned, value.to_owned());
        Ok(())
    }
}

impl Kernel {
    /// Keys of a device are there with the device.
    fn has_sysctl(&self, key: &[&str]) -> Result<(), Errno> {
        let ["net", _, "conf", place, _] = key else { return Ok(()) };
        let known = matches!(*place, "all" | "default")
            || self.devices.keys().any(|device| device.as_str() == *place);
        if known { Ok(()) } else { Err(Errno(libc::ENOENT)) }
    }
}
