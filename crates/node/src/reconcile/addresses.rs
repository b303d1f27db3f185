//! The thread that keeps the VIPs on this node's devices as the director wants them, the fence
//! around them, and that announces them. It opens and closes nothing: the slots of the fence are
//! the director loop's. Every VIP of the configuration is fenced, owned or not: what a former owner
//! still forwards (the replies of NAT) must not leave it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use quorate_dataplane::fence::{FenceError, Slot};
use quorate_dataplane::{Dataplane, DeviceState, ObservedAddress, ObservedAddresses, addresses_of};
use quorate_model::director::{AddressGoal, AddressReport, DeviceCondition, Event};
use quorate_model::id::DeviceName;
use quorate_model::kernel::{DeviceAddress, DeviceAddresses};
use quorate_model::time::Instant;
use tokio::sync::watch;
use tracing::{info, warn};

use super::list::List;
use super::routing::Kept;
use super::{Events, ListError, Mailbox, MakeDataplane, routing_list, vip_list};
use crate::clock;

/// How often devices and addresses are looked at without being asked.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often arming the fence is tried again.
const ARM_EVERY: Duration = Duration::from_secs(5);
/// From one announcement to the next: at most 200 a second (design §5).
const ANNOUNCE_GAP: Duration = Duration::from_millis(5);
/// Announcements that may wait; those past it are made up for by later ones.
const ANNOUNCEMENTS_MAX: usize = 4_096;

/// Addresses that are configured between two looks at their leases.
const ADDRESSES_AT_ONCE: usize = 64;

/// The slots of the fenced VIPs.
pub(crate) type Slots = BTreeMap<IpAddr, Slot>;

/// How long a VIP that another program had configured is told of.
const STRANGE_FOR: Duration = Duration::from_secs(300);
/// As many are told of.
const STRANGE_MAX: usize = 16;

#[derive(Debug, Default)]
struct Orders {
    goal: Option<AddressGoal>,
    /// Something changed in the kernel.
    look: bool,
    announcements: VecDeque<(DeviceAddress, Instant)>,
}

/// A handle on the thread.
#[derive(Debug, Clone)]
pub(crate) struct AddressThread {
    orders: Arc<Mailbox<Orders>>,
    slots: watch::Receiver<Arc<Slots>>,
}

enum Task {
    Aim(AddressGoal),
    Look,
    Announce(DeviceAddress, Instant),
}

impl AddressThread {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// If the list of our own VIPs can't be read, or no thread can be started.
    pub(crate) fn start(
        make: MakeDataplane,
        data_dir: &Path,
        devices: Vec<DeviceName>,
        events: Events,
    ) -> Result<Self, ListError> {
        let path = vip_list(data_dir);
        let listed = List::open(path.clone())?;
        let kept = Kept::new(List::open(routing_list(data_dir))?);
        let orders: Arc<Mailbox<Orders>> = Arc::default();
        let (published, slots) = watch::channel(Arc::new(Slots::new()));
        let handle = Self { orders: Arc::clone(&orders), slots };
        let work = move || match make() {
            Ok(dataplane) => {
                let worker = Worker {
                    dataplane,
                    listed,
                    devices,
                    events,
                    goal: AddressGoal::default(),
                    reported: AddressReport::default(),
                    slots: Slots::new(),
                    published,
                    unfenced: None,
                    last_tried: None,
                    strange: BTreeMap::new(),
                    kept,
                };
                worker.run(&orders);
            }
            Err(error) => warn!(%error, "addresses can't be kept: this node will own no VIP"),
        };
        std::thread::Builder::new()
            .name("addresses".to_owned())
            .spawn(work)
            .map_err(|cause| ListError::File { doing: "start a thread for", path, cause })?;
        Ok(handle)
    }

    /// Aims at a goal; earlier ones that were not begun are forgotten.
    pub(crate) fn aim(&self, goal: AddressGoal) {
        self.orders.put(|orders| orders.goal = Some(goal));
    }

    /// The slots of the fenced VIPs: who holds a lease opens and closes them.
    pub(crate) fn slots(&self) -> watch::Receiver<Arc<Slots>> {
        self.slots.clone()
    }

    /// Looks at the kernel now: something changed there, or in the fence.
    pub(crate) fn look(&self) {
        self.orders.put(|orders| orders.look = true);
    }

    /// Announces an address, unless its lease has ended by then.
    pub(crate) fn announce(&self, address: DeviceAddress, until: Instant) {
        self.orders.put(|orders| {
            if orders.announcements.len() < ANNOUNCEMENTS_MAX {
                orders.announcements.push_back((address, until));
            }
        });
    }
}

pub(super) struct Worker {
    pub(super) dataplane: Box<dyn Dataplane>,
    listed: List<DeviceAddress>,
    devices: Vec<DeviceName>,
    events: Events,
    pub(super) goal: AddressGoal,
    reported: AddressReport,
    slots: Slots,
    published: watch::Sender<Arc<Slots>>,
    /// Why the fence does not stand as it should.
    unfenced: Option<String>,
    /// When arming it was last tried in vain.
    last_tried: Option<Instant>,
    strange: BTreeMap<DeviceAddress, (Instant, String)>,
    pub(super) kept: Kept,
}

impl Worker {
    fn run(mut self, orders: &Mailbox<Orders>) {
        self.mend();
        self.report(BTreeMap::new());
        loop {
            let task = orders.take(LOOK_EVERY, |orders| {
                if let Some(goal) = orders.goal.take() {
                    return Some(Task::Aim(goal));
                }
                if std::mem::take(&mut orders.look) {
                    return Some(Task::Look);
                }
                orders.announcements.pop_front().map(|(a, until)| Task::Announce(a, until))
            });
            match task {
                Some(Task::Aim(goal)) => {
                    self.goal = goal;
                    self.aim();
                }
                Some(Task::Announce(address, until)) => {
                    self.announce(&address, until);
                    std::thread::sleep(ANNOUNCE_GAP);
                }
                Some(Task::Look) | None => self.look(),
            }
            if self.events.is_closed() {
                return;
            }
        }
    }

    fn aim(&mut self) {
        let mut failed = BTreeMap::new();
        let observed = self.observed();
        let present = addresses_of(&observed);
        // Fenced before anything is configured, and from when the configuration names it.
        let unfenced = self.fence_known();
        let wanted = &self.goal.wanted;
        let ours = self.listed.entries().union(&self.goal.known);
        let unwanted: Vec<DeviceAddress> =
            ours.filter(|a| present.contains(a) && !wanted.contains_key(a)).cloned().collect();
        for address in &unwanted {
            self.note_strange(address, &observed);
        }
        self.drop_routing();
        for (address, error) in self.dataplane.remove_addresses(&unwanted) {
            warn!(%error, "a VIP stays, closed by the fence");
            failed.insert(address, error.to_string());
        }
        for address in unwanted.iter().filter(|address| !failed.contains_key(address)) {
            info!(device = %address.device, address = %address.net, "VIP removed");
        }
        let wanted = self.goal.wanted.clone();
        if let Err(error) = self.listed.add(wanted.keys().chain(&self.goal.known)) {
            // An address that is on no list would outlive a crash unknown to the next daemon.
            warn!(%error, "no VIP is configured");
            failed.extend(wanted.keys().map(|a| (a.clone(), error.to_string())));
            self.report(failed);
            return;
        }
        let mut added = Vec::with_capacity(wanted.len());
        let mut fenced = Vec::with_capacity(wanted.len());
        for (address, until) in &wanted {
            match unfenced.get(&address.net.addr()) {
                Some(error) => {
                    failed.insert(address.clone(), error.clone());
                }
                None => fenced.push((address, until)),
            }
        }
        for some in fenced.chunks(ADDRESSES_AT_ONCE) {
            // This thread may have been held up since the goal was set; the lease may be renewed.
            let now = clock::now();
            let leased = some.iter().filter(|(a, until)| now < self.lease_end(a).max(**until));
            let leased: Vec<DeviceAddress> = leased.map(|(a, _)| (*a).clone()).collect();
            let refused = self.dataplane.add_addresses(&leased, Some(self.goal.lifetime));
            for (address, error) in refused {
                warn!(%error, "a VIP can't be configured");
                failed.insert(address, error.to_string());
            }
            added.extend(leased);
        }
        for address in added.iter().filter(|a| !present.contains(*a) && !failed.contains_key(*a)) {
            info!(device = %address.device, address = %address.net, "VIP configured");
        }
        self.report(failed.clone());
        let carried = self.reported.present.clone();
        if self.keep_routing(&carried) {
            self.report(failed);
        }
        self.unfence_gone();
    }

    /// Until when the fence is open for an address.
    pub(super) fn lease_end(&self, address: &DeviceAddress) -> Instant {
        self.slots.get(&address.net.addr()).map_or(Instant(0), Slot::deadline)
    }

    /// Fences every VIP of the configuration; returns those that are not fenced, with the reason.
    fn fence_known(&mut self) -> BTreeMap<IpAddr, String> {
        let mut unfenced = BTreeMap::new();
        let mut new = false;
        let vips: BTreeSet<IpAddr> =
            self.goal.known.iter().chain(self.goal.wanted.keys()).map(|a| a.net.addr()).collect();
        for vip in vips.into_iter().filter(|vip| !self.slots.contains_key(vip)).collect::<Vec<_>>()
        {
            match self.dataplane.fence(vip) {
                Ok(slot) => {
                    self.slots.insert(vip, slot);
                    new = true;
                }
                Err(error) => {
                    unfenced.insert(vip, error.to_string());
                }
            }
        }
        if new {
            self.published.send_replace(Arc::new(self.slots.clone()));
        }
        unfenced
    }

    /// Lets go of what is no VIP any more, once it is gone from the devices.
    fn unfence_gone(&mut self) {
        let kept: BTreeSet<IpAddr> = self
            .goal
            .known
            .iter()
            .chain(self.goal.wanted.keys())
            .chain(&self.reported.present)
            .map(|address| address.net.addr())
            .collect();
        let gone: Vec<IpAddr> =
            self.slots.keys().filter(|vip| !kept.contains(vip)).copied().collect();
        for vip in &gone {
            self.slots.remove(vip);
        }
        if !gone.is_empty() {
            // First of all nobody opens it any more.
            self.published.send_replace(Arc::new(self.slots.clone()));
        }
        for vip in gone {
            if let Err(error) = self.dataplane.unfence(vip) {
                warn!(%error, "an address that is no VIP any more stays fenced, closed");
            }
        }
        let listed = self.listed.entries().iter();
        let of_use = listed.filter(|vip| kept.contains(&vip.net.addr())).cloned().collect();
        if let Err(error) = self.listed.replace(of_use) {
            warn!(%error, "an address that is no VIP any more stays on the list");
        }
    }

    /// Puts the fence where it is missing; arms it where that failed before.
    fn mend(&mut self) {
        let now = clock::now();
        let mended = match self.dataplane.mend_fence() {
            Err(FenceError::NotArmed) => {
                if self.last_tried.is_some_and(|at| now.since(at) < ARM_EVERY) {
                    return;
                }
                self.last_tried = Some(now);
                self.slots.clear();
                let vips: Vec<IpAddr> =
                    self.listed.entries().iter().map(|vip| vip.net.addr()).collect();
                self.dataplane.arm_fence(&vips).map(|()| Vec::new())
            }
            other => other,
        };
        let unfenced = match mended {
            Ok(devices) => {
                for device in devices {
                    info!(%device, "the fence was put on this device");
                }
                None
            }
            Err(error) => Some(error.to_string()),
        };
        if unfenced != self.unfenced {
            match &unfenced {
                Some(error) => warn!(%error, "the fence does not stand: this director owns no VIP"),
                None => info!("the fence stands"),
            }
            self.unfenced = unfenced;
        }
    }

    /// A VIP that another program configured for good is told of, with what it means.
    fn note_strange(&mut self, address: &DeviceAddress, observed: &ObservedAddresses) {
        let for_ever = observed.get(address).is_some_and(|a| !a.ours && a.lifetime.is_none());
        if !for_ever || self.strange.len() >= STRANGE_MAX {
            return;
        }
        let text = format!(
            "VIP {} was configured on {} by another program and has been removed: take it out of \
             the distribution's network files, or stop that program",
            address.net, address.device
        );
        warn!("{text}");
        self.strange.insert(address.clone(), (clock::now(), text));
    }

    /// Looks at the kernel unasked, and speaks only where something is different.
    fn look(&mut self) {
        let before = self.reported.clone();
        self.mend();
        self.fence_known();
        let now = self.observe(before.failed.clone());
        let strange = now.present.iter().any(|a| !self.goal.wanted.contains_key(a));
        let missing = self.goal.wanted.iter().any(|(address, until)| {
            let until = self.lease_end(address).max(*until);
            !now.present.contains(address) && clock::now() < until
        });
        if strange || missing {
            return self.aim();
        }
        self.look_at_routing(&now.present);
        let now = AddressReport { routing: self.kept.failed.clone(), ..now };
        if now != before {
            self.send(now);
        }
    }

    fn announce(&mut self, address: &DeviceAddress, until: Instant) {
        if clock::now() >= until {
            return;
        }
        if let Err(error) = self.dataplane.announce(&address.device, address.net.addr()) {
            warn!(%error, "a VIP was not announced");
        }
    }

    fn observed(&mut self) -> ObservedAddresses {
        match self.dataplane.observe_addresses(&self.devices) {
            Ok(found) => found,
            Err(error) => {
                // Unknown counts as present: what must go is removed even if it is gone already,
                // and no release is told for it.
                warn!(%error, "addresses can't be read");
                let unknown = ObservedAddress { ours: true, lifetime: None };
                let ours = self.listed.entries().union(&self.goal.known);
                ours.map(|address| (address.clone(), unknown)).collect()
            }
        }
    }

    fn observe(&mut self, failed: BTreeMap<DeviceAddress, String>) -> AddressReport {
        let ours: DeviceAddresses =
            self.listed.entries().union(&self.goal.known).cloned().collect();
        let present = addresses_of(&self.observed()).intersection(&ours).cloned().collect();
        let mut devices = BTreeMap::new();
        for device in &self.devices {
            let condition = match self.dataplane.device(device) {
                Ok(DeviceState::Up { .. }) => DeviceCondition::Up,
                Ok(DeviceState::Missing) => DeviceCondition::Missing,
                Ok(DeviceState::Down) => DeviceCondition::Down,
                Err(error) => {
                    warn!(%error, "a device can't be looked at");
                    DeviceCondition::Down
                }
            };
            devices.insert(device.clone(), condition);
        }
        let now = clock::now();
        self.strange.retain(|_, (at, _)| now.since(*at) < STRANGE_FOR);
        let strange =
            self.strange.iter().map(|(address, (_, text))| (address.clone(), text.clone()));
        AddressReport {
            sequence: self.goal.sequence,
            present,
            failed,
            devices,
            unfenced: self.unfenced.clone(),
            strange: strange.collect(),
            routing: self.kept.failed.clone(),
        }
    }

    fn report(&mut self, failed: BTreeMap<DeviceAddress, String>) {
        let report = self.observe(failed);
        self.send(report);
    }

    fn send(&mut self, report: AddressReport) {
        self.reported = report.clone();
        // The queue is closed only when the daemon stops.
        let _ = self.events.blocking_send(Event::Addresses(report));
    }
}
