//! One node's kernel: the VIPs it carries, each with its `valid_lft`, and the fence, which lets a
//! VIP be served only before its deadline. Both go on by themselves when the daemon does not.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use quorate_model::director::{AddressGoal, AddressReport, DeviceCondition};
use quorate_model::id::DeviceName;
use quorate_model::kernel::DeviceAddress;
use quorate_model::time::Instant;

/// A kernel.
#[derive(Debug, Clone, Default)]
pub struct Kernel {
    carried: BTreeMap<DeviceAddress, Instant>,
    fence: BTreeMap<IpAddr, Instant>,
    /// Whether the fence is there at all: a mutant goes without.
    pub unfenced: bool,
    /// Whether the device is up.
    pub down: bool,
    /// The goal that waits for the one which is worked on.
    pub next: Option<AddressGoal>,
    /// Whether a goal is worked on.
    pub busy: bool,
}

impl Kernel {
    /// Whether clients get answers for this address.
    #[must_use]
    pub fn serves(&self, now: Instant, address: IpAddr) -> bool {
        let open = self.unfenced || self.fence.get(&address).is_some_and(|&until| now < until);
        let mut carried = self.carried.iter();
        open && carried.any(|(a, &until)| a.net.addr() == address && now < until)
    }

    /// Sets the fence: addresses that are not named are closed.
    pub fn set_fence(&mut self, deadlines: &[(IpAddr, Instant)]) {
        self.fence = deadlines.iter().copied().collect();
    }

    /// The daemon's start: left-over VIPs go before anything else, and the fence is loaded afresh.
    pub fn sweep(&mut self) {
        let Self { unfenced, down, .. } = *self;
        *self = Self { unfenced, down, ..Self::default() };
    }

    /// The daemon is gone: what it worked on stays as it is.
    pub fn abandon(&mut self) {
        self.next = None;
        self.busy = false;
    }

    /// Works on a goal. `keeps`: removals fail this time.
    pub fn work(&mut self, now: Instant, goal: &AddressGoal, keeps: bool) {
        self.carried.retain(|address, &mut until| {
            now < until && (goal.wanted.contains_key(address) || keeps)
        });
        for (address, &until) in &goal.wanted {
            let open = self.fence.get(&address.net.addr()).copied().unwrap_or_default();
            if now < until.max(open) {
                self.carried.insert(address.clone(), now + goal.lifetime);
            }
        }
    }

    /// What the kernel says.
    #[must_use]
    pub fn report(&self, now: Instant, sequence: u64, device: &DeviceName) -> AddressReport {
        let condition = if self.down { DeviceCondition::Down } else { DeviceCondition::Up };
        let present: BTreeSet<DeviceAddress> = self
            .carried
            .iter()
            .filter(|&(_, &until)| now < until)
            .map(|(address, _)| address.clone())
            .collect();
        AddressReport {
            sequence,
            present,
            failed: BTreeMap::new(),
            devices: BTreeMap::from([(device.clone(), condition)]),
            unfenced: None,
            strange: BTreeMap::new(),
            routing: BTreeMap::new(),
        }
    }
}
