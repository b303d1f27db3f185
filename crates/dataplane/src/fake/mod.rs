//! A kernel in memory that behaves as Linux does, and can be told to fail.
//!
//! [`FakeKernel`] is the handle of a test: it makes [`Fake`] dataplanes, all of which see the one
//! kernel, and it sets what happens. There is no clock: [`FakeKernel::advance`] is time. What the
//! fake does is held against Linux by the contract suite (tests/src/contract.rs); what only the
//! fake can do is tested in `tests.rs` beside this file.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quorate_model::claim::{Answer, Question};
use quorate_model::id::DeviceName;
use quorate_model::kernel::{
    ConnectionTimeouts, DeviceAddress, DeviceAddresses, ObservedService, ObservedServices,
    PacketRules, ServiceKey,
};
use quorate_model::plan::Action;
use quorate_model::routing::{Routing, RoutingEntry};
use quorate_model::spec::Scheduler;
use quorate_model::sync::{SyncDaemons, SyncStep};

use self::kernel::{Kernel, Mark};
use crate::error::{DataplaneError, Errno, Operation};
use crate::fence::{FenceError, Slot};
use crate::sysctl;
use crate::{
    AddressPlace, Capabilities, Dataplane, DeviceState, DirectorNeeds, IpvsProblem, MacAddress,
    ObservedAddresses, SysctlFinding, SysctlMode,
};

mod kernel;
mod routing;
#[cfg(test)]
mod tests;

/// A kind of call that can be told to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// [`Dataplane::observe_services`].
    ObserveServices,
    /// One action of [`Dataplane::apply`].
    Apply,
    /// [`Dataplane::device`].
    Device,
    /// [`Dataplane::observe_addresses`].
    ObserveAddresses,
    /// One address of [`Dataplane::add_addresses`].
    AddAddress,
    /// One address of [`Dataplane::remove_addresses`].
    RemoveAddress,
    /// [`Dataplane::observe_routing`].
    ObserveRouting,
    /// [`Dataplane::add_routing`].
    AddRouting,
    /// [`Dataplane::remove_routing`].
    RemoveRouting,
    /// [`Dataplane::announce`].
    Announce,
    /// One question of [`Dataplane::ask`].
    Ask,
}

/// One announcement that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// When, as the sum of what the kernel was advanced by.
    pub at: Duration,
    /// On which device.
    pub device: DeviceName,
    /// Of which address.
    pub address: IpAddr,
}

/// A test's handle on a kernel in memory. Clones are the same kernel.
#[derive(Debug, Clone, Default)]
pub struct FakeKernel {
    kernel: Arc<Mutex<Kernel>>,
}

impl FakeKernel {
    /// A kernel with ip_vs and every right, without devices (there isn't even a `lo`).
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn kernel(&self) -> MutexGuard<'_, Kernel> {
        self.kernel.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A dataplane on this kernel.
    #[must_use]
    pub fn dataplane(&self) -> Fake {
        Fake { kernel: self.clone() }
    }

    /// Lets time pass: addresses whose lifetime runs out are removed.
    pub fn advance(&self, by: Duration) {
        self.kernel().advance(by);
    }

    /// Makes a device, changes it, or takes it away. A device that goes takes its addresses with
    /// it; one that is set down loses those of IPv6.
    pub fn set_device(&self, device: &DeviceName, state: DeviceState) {
        self.kernel().set_device(device, state);
    }

    /// Makes ip_vs be there or not. When it goes, its table goes.
    pub fn set_ipvs(&self, ipvs: Result<(), IpvsProblem>) {
        self.kernel().set_ipvs(ipvs);
    }

    /// Gives or takes CAP_NET_ADMIN: without it every change fails with EPERM.
    pub fn set_net_admin(&self, net_admin: bool) {
        self.kernel().lacks_net_admin = !net_admin;
    }

    /// Schedulers that this kernel can't load.
    pub fn set_missing_schedulers(&self, missing: BTreeSet<Scheduler>) {
        self.kernel().missing_schedulers = missing;
    }

    /// Makes nft(8) be there or not.
    pub fn set_nft(&self, there: bool) {
        self.kernel().lacks_nft = !there;
    }

    /// Puts something that is not ours into our table of the packet filter.
    pub fn spoil_rules(&self) {
        self.kernel().spoilt_rules = true;
    }

    /// Quorate's rules of the packet filter.
    #[must_use]
    pub fn rules(&self) -> PacketRules {
        self.kernel().rules.clone()
    }

    /// Makes every sysctl read-only, or writable again.
    pub fn set_sysctls_read_only(&self, read_only: bool) {
        self.kernel().sysctls_read_only = read_only;
    }

    /// Makes the next calls of a kind fail with this error, without any effect.
    pub fn fail_next(&self, call: Call, times: usize, errno: Errno) {
        self.kernel().failures.entry(call).or_default().extend(std::iter::repeat_n(errno, times));
    }

    /// Makes the next reading of the table leave out every second service and real server, as a
    /// dump does when another program changes the table meanwhile: without any error.
    pub fn make_next_dump_partial(&self) {
        self.kernel().partial_dumps += 1;
    }

    /// Puts a service there as another program would, whatever stood there.
    pub fn put_foreign_service(&self, key: ServiceKey, service: ObservedService) {
        self.kernel().services.insert(key, service);
    }

    /// Takes a service away as another program would.
    pub fn take_foreign_service(&self, key: &ServiceKey) {
        self.kernel().services.remove(key);
    }

    /// Adds an address for ever, as another program would: without Quorate's mark.
    pub fn put_foreign_address(&self, address: &DeviceAddress) {
        self.kernel().put_address(address, None, Mark::Foreign);
    }

    /// Adds a route or policy rule as another program would: without Quorate's mark.
    pub fn put_foreign_routing(&self, entry: &RoutingEntry) {
        self.kernel().routing.put(entry, Mark::Foreign);
    }

    /// Takes a route or policy rule away by hand, whoever added it.
    pub fn take_routing_by_hand(&self, entry: &RoutingEntry) {
        let mut kernel = self.kernel();
        kernel.routing.take(entry, Mark::Ours);
        kernel.routing.take(entry, Mark::Foreign);
    }

    /// Quorate's routes and policy rules.
    #[must_use]
    pub fn routing(&self) -> Routing {
        self.kernel().routing.marked(Mark::Ours)
    }

    /// Those of other programs.
    #[must_use]
    pub fn foreign_routing(&self) -> Routing {
        self.kernel().routing.marked(Mark::Foreign)
    }

    /// Makes the fence not stand, for this reason, or stand again. Whoever asks is told at the next
    /// arming or mending.
    pub fn set_fence_problem(&self, problem: Option<FenceError>) {
        self.kernel().fence_problem = problem;
    }

    /// Until when each fenced address is open, as [`Slot::deadline`].
    #[must_use]
    pub fn fenced(&self) -> BTreeMap<IpAddr, quorate_model::time::Instant> {
        self.kernel().fenced.iter().map(|(address, slot)| (*address, slot.deadline())).collect()
    }

    /// Gives an address to a neighbour of a device, or takes it away.
    pub fn set_neighbour(&self, question: &Question, mac: Option<MacAddress>) {
        let neighbours = &mut self.kernel().neighbours;
        match mac {
            Some(mac) => neighbours.insert(question.clone(), mac),
            None => neighbours.remove(question),
        };
    }

    /// The table as it is.
    #[must_use]
    pub fn services(&self) -> ObservedServices {
        self.kernel().services.clone()
    }

    /// The addresses as they are, of all devices.
    #[must_use]
    pub fn addresses(&self) -> ObservedAddresses {
        self.kernel().observed_addresses(|device| device.as_str() != "lo")
    }

    /// Every action since the last call of this that changed the table.
    #[must_use]
    pub fn take_applied(&self) -> Vec<Action> {
        std::mem::take(&mut self.kernel().applied)
    }

    /// Every announcement since the last call of this.
    #[must_use]
    pub fn take_announcements(&self) -> Vec<Announcement> {
        std::mem::take(&mut self.kernel().announcements)
    }
}

/// A dataplane on a [`FakeKernel`].
#[derive(Debug, Clone)]
pub struct Fake {
    kernel: FakeKernel,
}

impl Dataplane for Fake {
    fn capabilities(&mut self) -> Capabilities {
        self.kernel.kernel().capabilities()
    }

    fn observe_services(&mut self) -> Result<ObservedServices, DataplaneError> {
        let mut kernel = self.kernel.kernel();
        kernel.may_fail(Call::ObserveServices, || Operation::ObserveServices)?;
        kernel.needs_ipvs(|| Operation::ObserveServices)?;
        Ok(kernel.dump())
    }

    fn apply(&mut self, actions: &[Action]) -> Vec<(Action, DataplaneError)> {
        let mut kernel = self.kernel.kernel();
        let failed = |action: &Action| Some((action.clone(), kernel.apply(action).err()?));
        actions.iter().filter_map(failed).collect()
    }

    fn timeouts(&mut self) -> Result<ConnectionTimeouts, DataplaneError> {
        let kernel = self.kernel.kernel();
        kernel.needs_ipvs(|| Operation::ReadTimeouts)?;
        Ok(kernel.timeouts)
    }

    fn set_timeouts(&mut self, timeouts: ConnectionTimeouts) -> Result<(), DataplaneError> {
        let mut kernel = self.kernel.kernel();
        kernel.needs_ipvs(|| Operation::SetTimeouts(timeouts))?;
        // `ip_vs_set_timeout`: what does not fit 31 bits of ticks; the fake has 250 Hz.
        let ConnectionTimeouts { tcp_s, tcp_fin_s, udp_s } = timeouts;
        if [tcp_s, tcp_fin_s, udp_s].iter().any(|&time| time > i32::MAX as u32 / 250) {
            let (doing, errno) = (Operation::SetTimeouts(timeouts), Errno(libc::EINVAL));
            return Err(DataplaneError::from_errno(doing, errno));
        }
        kernel.timeouts = timeouts;
        Ok(())
    }

    fn rules(&mut self) -> Result<Option<PacketRules>, DataplaneError> {
        let kernel = self.kernel.kernel();
        kernel.needs_nft(|| Operation::ReadRules)?;
        Ok((!kernel.spoilt_rules).then(|| kernel.rules.clone()))
    }

    fn set_rules(&mut self, rules: &PacketRules) -> Result<(), DataplaneError> {
        let mut kernel = self.kernel.kernel();
        kernel.needs_nft(|| Operation::SetRules(rules.marks.len()))?;
        kernel.spoilt_rules = false;
        kernel.rules.clone_from(rules);
        Ok(())
    }

    fn sync_daemons(&mut self) -> Result<SyncDaemons, DataplaneError> {
        let kernel = self.kernel.kernel();
        kernel.needs_ipvs(|| Operation::ReadSync)?;
        Ok(kernel.sync.clone())
    }

    fn sync_step(&mut self, step: &SyncStep) -> Result<(), DataplaneError> {
        self.kernel.kernel().sync_step(step)
    }

    fn device_with(&mut self, address: IpAddr) -> Result<Option<AddressPlace>, DataplaneError> {
        Ok(self.kernel.kernel().device_with(address))
    }

    fn device(&mut self, device: &DeviceName) -> Result<DeviceState, DataplaneError> {
        let mut kernel = self.kernel.kernel();
        kernel.may_fail(Call::Device, || Operation::ReadDevice(device.clone()))?;
        Ok(kernel.device(device))
    }

    fn observe_addresses(
        &mut self,
        devices: &[DeviceName],
    ) -> Result<ObservedAddresses, DataplaneError> {
        let mut kernel = self.kernel.kernel();
        kernel.may_fail(Call::ObserveAddresses, || Operation::ObserveAddresses)?;
        Ok(kernel.observed_addresses(|device| devices.contains(device)))
    }

    fn marked_addresses(&mut self) -> Result<DeviceAddresses, DataplaneError> {
        let mut kernel = self.kernel.kernel();
        kernel.may_fail(Call::ObserveAddresses, || Operation::ObserveAddresses)?;
        let all = kernel.observed_addresses(|device| device.as_str() != "lo");
        Ok(all.into_iter().filter(|(_, found)| found.ours).map(|(address, _)| address).collect())
    }

    fn add_addresses(
        &mut self,
        addresses: &[DeviceAddress],
        lifetime: Option<Duration>,
    ) -> Vec<(DeviceAddress, DataplaneError)> {
        let mut kernel = self.kernel.kernel();
        failures(addresses, |address| {
            let doing = || Operation::AddAddress(address.clone());
            kernel.may_fail(Call::AddAddress, doing)?;
            kernel.needs_net_admin(doing)?;
            if kernel.device(&address.device) == DeviceState::Missing {
                return Err(DataplaneError::NoDevice {
                    doing: doing(),
                    device: address.device.clone(),
                });
            }
            kernel.put_address(address, lifetime, Mark::Ours);
            Ok(())
        })
    }

    fn remove_addresses(
        &mut self,
        addresses: &[DeviceAddress],
    ) -> Vec<(DeviceAddress, DataplaneError)> {
        let mut kernel = self.kernel.kernel();
        failures(addresses, |address| {
            let doing = || Operation::RemoveAddress(address.clone());
            kernel.may_fail(Call::RemoveAddress, doing)?;
            if kernel.device(&address.device) == DeviceState::Missing {
                return Ok(());
            }
            kernel.needs_net_admin(doing)?;
            kernel.remove_address(address);
            Ok(())
        })
    }

    fn observe_routing(&mut self) -> Result<Routing, DataplaneError> {
        self.routing()
    }

    fn add_routing(&mut self, entry: &RoutingEntry) -> Result<(), DataplaneError> {
        self.put_routing(entry)
    }

    fn remove_routing(&mut self, entry: &RoutingEntry) -> Result<(), DataplaneError> {
        self.take_routing(entry)
    }

    fn arm_fence(&mut self, vips: &[IpAddr]) -> Result<(), FenceError> {
        self.kernel.kernel().arm_fence(vips)
    }

    fn fence(&mut self, vip: IpAddr) -> Result<Slot, FenceError> {
        self.kernel.kernel().fence(vip)
    }

    fn unfence(&mut self, vip: IpAddr) -> Result<(), FenceError> {
        let slot = self.kernel.kernel().fenced.remove(&vip);
        slot.iter().for_each(Slot::close);
        Ok(())
    }

    fn mend_fence(&mut self) -> Result<Vec<DeviceName>, FenceError> {
        let kernel = self.kernel.kernel();
        match (&kernel.fence_problem, kernel.armed) {
            (Some(problem), _) => Err(problem.clone()),
            (None, false) => Err(FenceError::NotArmed),
            (None, true) => Ok(Vec::new()),
        }
    }

    fn announce(&mut self, device: &DeviceName, address: IpAddr) -> Result<(), DataplaneError> {
        let doing = || Operation::Announce(device.clone(), address);
        let mut kernel = self.kernel.kernel();
        kernel.may_fail(Call::Announce, doing)?;
        match kernel.device(device) {
            DeviceState::Missing => {
                Err(DataplaneError::NoDevice { doing: doing(), device: device.clone() })
            }
            DeviceState::Down => {
                let errno = Errno(libc::ENETDOWN);
                Err(DataplaneError::Refused { doing: doing(), errno })
            }
            DeviceState::Up { mac: None, .. } => Ok(()),
            DeviceState::Up { .. } => {
                kernel.announce(device, address);
                Ok(())
            }
        }
    }

    fn ask(&mut self, questions: &BTreeSet<Question>) -> BTreeMap<Question, Answer> {
        let mut kernel = self.kernel.kernel();
        let mut ask = |question: &Question| {
            let device = &question.device;
            let doing = || Operation::Ask(device.clone());
            kernel.may_fail(Call::Ask, doing)?;
            match kernel.device(device) {
                DeviceState::Missing => {
                    Err(DataplaneError::NoDevice { doing: doing(), device: device.clone() })
                }
                DeviceState::Down => {
                    let errno = Errno(libc::ENETDOWN);
                    Err(DataplaneError::Refused { doing: doing(), errno })
                }
                DeviceState::Up { mac: None, .. } => Ok(Answer::Free),
                DeviceState::Up { .. } => {
                    let neighbour = kernel.neighbours.get(question).copied();
                    Ok(neighbour.map_or(Answer::Free, Answer::InUse))
                }
            }
        };
        let mut answer = |question: &Question| {
            let answered = ask(question).unwrap_or_else(|error| Answer::Failed(error.to_string()));
            (question.clone(), answered)
        };
        questions.iter().map(&mut answer).collect()
    }

    fn director_sysctls(&mut self, needs: &DirectorNeeds, mode: SysctlMode) -> Vec<SysctlFinding> {
        sysctl::director(&mut *self.kernel.kernel(), needs, mode)
    }
}

fn failures(
    addresses: &[DeviceAddress],
    mut each: impl FnMut(&DeviceAddress) -> Result<(), DataplaneError>,
) -> Vec<(DeviceAddress, DataplaneError)> {
    let failed = |address: &DeviceAddress| Some((address.clone(), each(address).err()?));
    addresses.iter().filter_map(failed).collect()
}
