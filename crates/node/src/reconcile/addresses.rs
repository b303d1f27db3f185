//! The thread that keeps the VIPs on this node's devices as the director wants them, and that
//! announces them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use quorate_dataplane::{Dataplane, DataplaneError, DeviceState, addresses_of};
use quorate_model::director::{AddressGoal, AddressReport, DeviceCondition, Event};
use quorate_model::id::DeviceName;
use quorate_model::kernel::{DeviceAddress, DeviceAddresses};
use quorate_model::time::Instant;
use tracing::{info, warn};

use super::list::List;
use super::{Events, ListError, Mailbox, MakeDataplane, vip_list};
use crate::clock;

/// How often devices and addresses are looked at without being asked.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// From one announcement to the next: at most 200 a second (design §5).
const ANNOUNCE_GAP: Duration = Duration::from_millis(5);
/// Announcements that may wait; those past it are made up for by later ones.
const ANNOUNCEMENTS_MAX: usize = 4_096;

#[derive(Debug, Default)]
struct Orders {
    goal: Option<AddressGoal>,
    announcements: VecDeque<(DeviceAddress, Instant)>,
}

/// A handle on the thread.
#[derive(Debug, Clone)]
pub(crate) struct AddressThread {
    orders: Arc<Mailbox<Orders>>,
}

enum Task {
    Aim(AddressGoal),
    Announce(DeviceAddress, Instant),
}

/// Removes the VIPs that a former daemon of this node left in the kernel: whatever its lease was,
/// this start does not have it. To be called before anything else.
///
/// # Errors
///
/// If the list of VIPs can't be read, or the kernel keeps one: then nothing may be started.
pub(crate) fn remove_left_over(
    dataplane: &mut dyn Dataplane,
    data_dir: &Path,
) -> Result<Vec<DeviceAddress>, LeftOverError> {
    let mut list: List<DeviceAddress> = List::open(vip_list(data_dir))?;
    let listed = list.entries();
    let devices: BTreeSet<DeviceName> = listed.iter().map(|ours| ours.device.clone()).collect();
    let devices: Vec<DeviceName> = devices.into_iter().collect();
    // What is gone already needs no right to remove it: a daemon without any starts all the same.
    let left: Vec<DeviceAddress> = match dataplane.observe_addresses(&devices) {
        Ok(found) => listed.intersection(&addresses_of(&found)).cloned().collect(),
        Err(_) => listed.iter().cloned().collect(),
    };
    for address in &left {
        dataplane.remove_address(address)?;
    }
    list.replace(BTreeSet::new())?;
    Ok(left)
}

/// Why VIPs of a former daemon may still be there.
#[derive(Debug, thiserror::Error)]
pub enum LeftOverError {
    /// The list can't be read or written.
    #[error(transparent)]
    List(#[from] ListError),
    /// The kernel kept one.
    #[error(transparent)]
    Kernel(#[from] DataplaneError),
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
        let orders: Arc<Mailbox<Orders>> = Arc::default();
        let handle = Self { orders: Arc::clone(&orders) };
        let work = move || match make() {
            Ok(dataplane) => {
                let reported = AddressReport::default();
                let goal = AddressGoal::default();
                Worker { dataplane, listed, devices, events, goal, reported }.run(&orders);
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

    /// Announces an address, unless its lease has ended by then.
    pub(crate) fn announce(&self, address: DeviceAddress, until: Instant) {
        self.orders.put(|orders| {
            if orders.announcements.len() < ANNOUNCEMENTS_MAX {
                orders.announcements.push_back((address, until));
            }
        });
    }
}

struct Worker {
    dataplane: Box<dyn Dataplane>,
    listed: List<DeviceAddress>,
    devices: Vec<DeviceName>,
    events: Events,
    goal: AddressGoal,
    reported: AddressReport,
}

impl Worker {
    fn run(mut self, orders: &Mailbox<Orders>) {
        self.report(BTreeMap::new());
        loop {
            let task = orders.take(LOOK_EVERY, |orders| {
                if let Some(goal) = orders.goal.take() {
                    return Some(Task::Aim(goal));
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
                None => self.look(),
            }
            if self.events.is_closed() {
                return;
            }
        }
    }

    fn aim(&mut self) {
        let mut failed = BTreeMap::new();
        let present = self.present();
        let wanted = &self.goal.wanted;
        let ours = self.listed.entries().union(&self.goal.known);
        let unwanted: Vec<DeviceAddress> =
            ours.filter(|a| present.contains(a) && !wanted.contains_key(a)).cloned().collect();
        for address in unwanted {
            info!(device = %address.device, address = %address.net, "VIP closed");
            if let Err(error) = self.dataplane.remove_address(&address) {
                warn!(%error, "a VIP stays");
                failed.insert(address, error.to_string());
            }
        }
        let wanted = self.goal.wanted.clone();
        if let Err(error) = self.listed.add(wanted.keys()) {
            // An address that is on no list would outlive a crash unknown to the next daemon.
            warn!(%error, "no VIP is opened");
            failed.extend(wanted.keys().map(|a| (a.clone(), error.to_string())));
            self.report(failed);
            return;
        }
        for (address, until) in &wanted {
            // This thread may have been held up since the goal was set.
            if clock::now() >= *until {
                continue;
            }
            if !present.contains(address) {
                info!(device = %address.device, address = %address.net, "VIP opened");
            }
            if let Err(error) = self.dataplane.add_address(address, Some(self.goal.lifetime)) {
                warn!(%error, "a VIP can't be opened");
                failed.insert(address.clone(), error.to_string());
            }
        }
        self.report(failed);
    }

    /// Looks at the kernel unasked, and speaks only where something is different.
    fn look(&mut self) {
        let before = self.reported.clone();
        let now = self.observe(before.failed.clone());
        let strange = now.present.iter().any(|a| !self.goal.wanted.contains_key(a));
        let missing = self
            .goal
            .wanted
            .iter()
            .any(|(address, until)| !now.present.contains(address) && clock::now() < *until);
        if strange || missing {
            self.aim();
        } else if now != before {
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

    fn present(&mut self) -> DeviceAddresses {
        match self.dataplane.observe_addresses(&self.devices) {
            Ok(found) => addresses_of(&found),
            Err(error) => {
                // Unknown counts as present: what must go is removed even if it is gone already,
                // and no release is told for it.
                warn!(%error, "addresses can't be read");
                self.listed.entries().union(&self.goal.known).cloned().collect()
            }
        }
    }

    fn observe(&mut self, failed: BTreeMap<DeviceAddress, String>) -> AddressReport {
        let ours: DeviceAddresses =
            self.listed.entries().union(&self.goal.known).cloned().collect();
        let present = self.present().intersection(&ours).cloned().collect();
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
        AddressReport { sequence: self.goal.sequence, present, failed, devices }
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
