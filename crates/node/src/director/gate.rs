//! The fence as the director loop sets it: one store for each VIP after every step. It decides
//! nothing: until when each address may be served is `Director::deadlines`. Tests: below.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use quorate_model::director::Director;
use quorate_model::time::Instant;
use tokio::sync::watch;
use tracing::info;

use crate::clock;
use crate::reconcile::{AddressThread, Slots};

/// The slots, and what was stored to them last.
#[derive(Debug)]
pub(super) struct Gate {
    /// A witness has none.
    addresses: Option<(AddressThread, watch::Receiver<Arc<Slots>>)>,
    slots: Arc<Slots>,
    stored: BTreeMap<IpAddr, Instant>,
}

impl Gate {
    pub(super) fn new(addresses: Option<AddressThread>) -> Self {
        let addresses = addresses.map(|addresses| {
            let mut slots = addresses.slots();
            slots.mark_changed();
            (addresses, slots)
        });
        Self { addresses, slots: Arc::default(), stored: BTreeMap::new() }
    }

    /// Waits until there are other slots: what is leased has to be stored to them too.
    pub(super) async fn changed(&mut self) {
        if let Some((_, slots)) = &mut self.addresses
            && slots.changed().await.is_ok()
        {
            return;
        }
        // There is no address thread, or it has ended: nothing can change.
        std::future::pending().await
    }

    /// Stores every deadline, and closes what has none.
    pub(super) fn set(&mut self, director: &Director) {
        let deadlines = director.deadlines().map(|(address, until)| (address.net.addr(), until));
        self.store(clock::now(), deadlines.collect());
    }

    fn store(&mut self, now: Instant, deadlines: BTreeMap<IpAddr, Instant>) {
        let Some((addresses, slots)) = &mut self.addresses else { return };
        let current = Arc::clone(&slots.borrow_and_update());
        if Arc::ptr_eq(&current, &self.slots) && deadlines == self.stored {
            return;
        }
        // Told once all are stored: a log that nobody reads holds nothing up between two of them.
        let mut changed = Vec::new();
        for (vip, slot) in current.iter() {
            let until = deadlines.get(vip).copied().unwrap_or_default();
            let before = slot.deadline();
            if until == before {
                continue;
            }
            slot.open_until(until);
            let (was_open, is_open) = (before > now, until > now);
            if is_open != was_open {
                changed.push((*vip, is_open));
            }
        }
        for (vip, is_open) in &changed {
            info!(address = %vip, "{}", if *is_open { "fence open" } else { "fence closed" });
        }
        self.slots = current;
        self.stored = deadlines;
        if changed.iter().any(|(_, is_open)| *is_open) {
            // An address that is missing because its lease had lapsed is wanted now.
            addresses.look();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use quorate_dataplane::fake::FakeKernel;
    use quorate_dataplane::{Dataplane, DeviceState, MacAddress};
    use quorate_model::director::{AddressGoal, Event};
    use quorate_model::id::DeviceName;
    use quorate_model::kernel::DeviceAddress;
    use tokio::sync::mpsc;

    use super::*;

    const VIP: &str = "192.0.2.1";

    struct Scene {
        kernel: FakeKernel,
        gate: Gate,
        thread: AddressThread,
        events: mpsc::Receiver<Event>,
        _directory: tempfile::TempDir,
    }

    impl Scene {
        async fn new() -> Self {
            let kernel = FakeKernel::new();
            let eth0: DeviceName = "eth0".parse().unwrap();
            let mac = Some(MacAddress([2, 0, 0, 0, 0, 1]));
            kernel.set_device(&eth0, DeviceState::Up { index: 2, mac });
            let mut dataplane = kernel.dataplane();
            dataplane.arm_fence(&[]).unwrap();
            let directory = tempfile::tempdir().unwrap();
            let (sender, events) = mpsc::channel(64);
            let make = Box::new(move || Ok(Box::new(dataplane) as Box<dyn Dataplane>));
            let thread = AddressThread::start(make, directory.path(), vec![eth0], sender).unwrap();
            let gate = Gate::new(Some(thread.clone()));
            let mut scene = Self { kernel, gate, thread, events, _directory: directory };
            let vip = DeviceAddress {
                device: "eth0".parse().unwrap(),
                net: VIP.parse::<IpAddr>().unwrap().into(),
            };
            scene.thread.aim(AddressGoal {
                sequence: 1,
                known: [vip].into(),
                ..AddressGoal::default()
            });
            scene.until_sequence(1).await;
            scene
        }

        async fn until_sequence(&mut self, sequence: u64) {
            while let Some(event) = self.events.recv().await {
                if matches!(event, Event::Addresses(report) if report.sequence == sequence) {
                    return;
                }
            }
        }

        fn store(&mut self, now: u64, deadlines: &[u64]) {
            let vip: IpAddr = VIP.parse().unwrap();
            self.gate.store(Instant(now), deadlines.iter().map(|&d| (vip, Instant(d))).collect());
        }

        fn deadline(&self) -> Instant {
            self.kernel.fenced()[&VIP.parse::<IpAddr>().unwrap()]
        }
    }

    #[tokio::test]
    async fn a_vip_that_nobody_leased_is_fenced_and_closed() {
        let scene = Scene::new().await;
        assert_eq!(scene.deadline(), Instant(0));
    }

    #[tokio::test]
    async fn a_deadline_is_stored_as_it_is_and_what_has_none_is_closed_at_once() {
        let mut scene = Scene::new().await;
        scene.store(100, &[500]);
        assert_eq!(scene.deadline(), Instant(500));
        scene.store(200, &[700]);
        assert_eq!(scene.deadline(), Instant(700));
        scene.store(210, &[]);
        assert_eq!(scene.deadline(), Instant(0));
    }

    #[tokio::test]
    async fn a_deadline_that_came_before_its_slot_is_stored_once_there_is_one() {
        let mut scene = Scene::new().await;
        let late: IpAddr = "192.0.2.2".parse().unwrap();
        let deadlines: BTreeMap<_, _> = [(late, Instant(900))].into();
        scene.gate.store(Instant(1), deadlines.clone());
        let vip = DeviceAddress { device: "eth0".parse().unwrap(), net: late.into() };
        scene.thread.aim(AddressGoal {
            sequence: 2,
            known: [vip].into(),
            ..AddressGoal::default()
        });
        let changed = tokio::time::timeout(Duration::from_secs(30), scene.gate.changed());
        changed.await.unwrap();
        scene.gate.store(Instant(2), deadlines);
        assert_eq!(scene.kernel.fenced()[&late], Instant(900));
    }
}
