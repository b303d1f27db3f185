//! A VIP is on a device while the director wants it there, and not otherwise.

use std::collections::BTreeMap;

use quorate_dataplane::Errno;
use quorate_dataplane::fake::Call;
use quorate_model::director::{AddressGoal, AddressReport, DeviceCondition};
use quorate_model::kernel::{DeviceAddress, DeviceAddresses};
use quorate_model::time::Instant;
use tempfile::TempDir;

use super::super::listed_addresses;
use super::*;
use crate::clock;

mod routing;

/// EINVAL of asm-generic/errno-base.h.
const EINVAL: Errno = Errno(22);
/// The lifetime of every goal.
const LIFETIME: Duration = Duration::from_secs(2);

fn vip(octet: u8) -> DeviceAddress {
    let address: std::net::IpAddr = [192, 0, 2, octet].into();
    DeviceAddress { device: eth(0), net: address.into() }
}

fn set(vips: &[DeviceAddress]) -> DeviceAddresses {
    vips.iter().cloned().collect()
}

/// A lease that outlasts every test.
fn later() -> Instant {
    clock::now() + Duration::from_secs(3_600)
}

/// A kernel whose eth0 is up; there is no eth1.
fn kernel() -> FakeKernel {
    let kernel = FakeKernel::new();
    kernel.set_device(&eth(0), up());
    kernel
}

struct Addresses {
    kernel: FakeKernel,
    directory: TempDir,
    thread: AddressThread,
    events: mpsc::Receiver<Event>,
    sequence: u64,
}

impl Addresses {
    async fn on(kernel: FakeKernel) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (sender, events) = mpsc::channel(EVENTS);
        let devices = vec![eth(0), eth(1)];
        let thread = AddressThread::start(on(&kernel), directory.path(), devices, sender).unwrap();
        let mut addresses = Self { kernel, directory, thread, events, sequence: 0 };
        assert_eq!(addresses.report().await.sequence, 0);
        addresses
    }

    async fn report(&mut self) -> AddressReport {
        let event = next(&mut self.events).await;
        let Event::Addresses(report) = event else { panic!("{event:?}") };
        report
    }

    /// Waits for a report that is so.
    async fn until(&mut self, so: impl Fn(&AddressReport) -> bool) -> AddressReport {
        loop {
            let report = self.report().await;
            if so(&report) {
                return report;
            }
        }
    }

    /// Sets a goal and waits until it was worked on.
    async fn aim(
        &mut self,
        wanted: &[(DeviceAddress, Instant)],
        known: &[DeviceAddress],
    ) -> AddressReport {
        self.sequence += 1;
        let sequence = self.sequence;
        let wanted: BTreeMap<_, _> = wanted.iter().cloned().collect();
        let known = set(known);
        let goal = AddressGoal { sequence, wanted, lifetime: LIFETIME, known, routing: [].into() };
        self.thread.aim(goal);
        self.until(|report| report.sequence == sequence).await
    }

    fn present(&self) -> DeviceAddresses {
        self.kernel.addresses().into_keys().collect()
    }

    /// What is on the list of our own VIPs.
    fn listed(&self) -> String {
        std::fs::read_to_string(vip_list(self.directory.path())).unwrap()
    }
}

#[tokio::test]
async fn the_thread_says_first_how_the_devices_are() {
    let mut addresses = Addresses::on(kernel()).await;
    let devices = addresses.aim(&[], &[]).await.devices;
    let want = [(eth(0), DeviceCondition::Up), (eth(1), DeviceCondition::Missing)];
    assert_eq!(devices, BTreeMap::from(want));
}

#[tokio::test]
async fn a_device_that_goes_down_is_told_unasked() {
    let mut addresses = Addresses::on(kernel()).await;
    addresses.kernel.set_device(&eth(0), DeviceState::Down);
    let down = |report: &AddressReport| report.devices[&eth(0)] == DeviceCondition::Down;
    addresses.until(down).await;
}

#[tokio::test]
async fn a_wanted_vip_is_opened_for_the_lifetime_and_every_vip_is_listed_as_ours() {
    let mut addresses = Addresses::on(kernel()).await;
    let report = addresses.aim(&[(vip(1), later())], &[vip(1), vip(2)]).await;
    assert_eq!((report.present, report.failed), (set(&[vip(1)]), BTreeMap::new()));
    assert_eq!(addresses.kernel.addresses()[&vip(1)].lifetime, Some(LIFETIME));
    assert_eq!(addresses.listed(), "eth0 192.0.2.1/32\neth0 192.0.2.2/32\n");
    // One that is no VIP any more is forgotten, once it is gone from the kernel and the fence.
    addresses.aim(&[], &[vip(2)]).await;
    addresses.aim(&[], &[vip(2)]).await;
    assert_eq!(addresses.listed(), "eth0 192.0.2.2/32\n");
}

#[tokio::test]
async fn a_goal_that_is_set_again_refreshes_the_lifetime() {
    let mut addresses = Addresses::on(kernel()).await;
    for _ in 0..3 {
        addresses.aim(&[(vip(1), later())], &[vip(1)]).await;
        addresses.kernel.advance(LIFETIME - Duration::from_millis(1));
        assert_eq!(addresses.present(), set(&[vip(1)]));
    }
}

#[tokio::test]
async fn a_vip_whose_lease_has_ended_is_not_opened() {
    let mut addresses = Addresses::on(kernel()).await;
    let report = addresses.aim(&[(vip(1), clock::now())], &[vip(1)]).await;
    assert_eq!(report.present, set(&[]));
    assert_eq!(addresses.present(), set(&[]));
}

#[tokio::test]
async fn a_vip_that_is_wanted_no_longer_goes_also_when_the_configuration_forgot_it() {
    let mut addresses = Addresses::on(kernel()).await;
    addresses.aim(&[(vip(1), later()), (vip(2), later())], &[vip(1), vip(2)]).await;
    let report = addresses.aim(&[(vip(2), later())], &[vip(1), vip(2)]).await;
    assert_eq!(report.present, set(&[vip(2)]));
    addresses.aim(&[], &[]).await;
    assert_eq!(addresses.present(), set(&[]));
}

#[tokio::test]
async fn a_vip_that_another_program_configured_goes_and_its_other_addresses_stay() {
    let mut addresses = Addresses::on(kernel()).await;
    addresses.kernel.put_foreign_address(&vip(1));
    addresses.kernel.put_foreign_address(&vip(9));
    let report = addresses.aim(&[], &[vip(1)]).await;
    assert_eq!(report.present, set(&[]), "what is none of ours is not told");
    assert_eq!(addresses.present(), set(&[vip(9)]));
}

#[tokio::test]
async fn a_vip_that_another_program_configures_later_goes_unasked() {
    let mut addresses = Addresses::on(kernel()).await;
    addresses.aim(&[], &[vip(1)]).await;
    addresses.kernel.put_foreign_address(&vip(1));
    addresses.report().await;
    assert_eq!(addresses.present(), set(&[]));
}

#[tokio::test]
async fn a_wanted_vip_that_another_program_removed_comes_back_unasked() {
    let mut addresses = Addresses::on(kernel()).await;
    addresses.aim(&[(vip(1), later())], &[vip(1)]).await;
    addresses.kernel.advance(LIFETIME);
    addresses.until(|report| report.present == set(&[vip(1)])).await;
    assert_eq!(addresses.present(), set(&[vip(1)]));
}

#[tokio::test]
async fn the_kernel_gets_no_vip_that_could_not_be_listed_as_ours_before() {
    let mut addresses = Addresses::on(kernel()).await;
    std::fs::remove_dir_all(addresses.directory.path()).unwrap();
    let report = addresses.aim(&[(vip(1), later())], &[vip(1)]).await;
    assert_eq!(report.failed.keys().collect::<Vec<_>>(), [&vip(1)]);
    assert_eq!(addresses.present(), set(&[]));
}

#[tokio::test]
async fn a_vip_that_the_kernel_refuses_is_told_and_tried_again() {
    let mut addresses = Addresses::on(kernel()).await;
    addresses.kernel.fail_next(Call::AddAddress, 1, EINVAL);
    let report = addresses.aim(&[(vip(1), later()), (vip(2), later())], &[vip(1), vip(2)]).await;
    assert_eq!(report.failed.keys().collect::<Vec<_>>(), [&vip(1)]);
    assert_eq!(report.present, set(&[vip(2)]));
    addresses.until(|report| report.failed.is_empty()).await;
    assert_eq!(addresses.present(), set(&[vip(1), vip(2)]));
}

#[tokio::test]
async fn a_vip_that_the_kernel_keeps_is_told_as_present_and_removed_again() {
    let mut addresses = Addresses::on(kernel()).await;
    addresses.aim(&[(vip(1), later())], &[vip(1)]).await;
    addresses.kernel.fail_next(Call::RemoveAddress, 1, EINVAL);
    let report = addresses.aim(&[], &[vip(1)]).await;
    assert_eq!(report.present, set(&[vip(1)]), "no release is told for it");
    assert_eq!(report.failed.keys().collect::<Vec<_>>(), [&vip(1)]);
    addresses.until(|report| report.present.is_empty()).await;
    assert_eq!(addresses.present(), set(&[]));
}

#[tokio::test]
async fn addresses_that_cannot_be_read_count_as_present() {
    let mut addresses = Addresses::on(kernel()).await;
    addresses.kernel.fail_next(Call::ObserveAddresses, 1_000, EINVAL);
    let report = addresses.aim(&[], &[vip(1)]).await;
    assert_eq!(report.present, set(&[vip(1)]));
}

#[tokio::test]
async fn a_vip_is_announced_unless_its_lease_has_ended() {
    let mut addresses = Addresses::on(kernel()).await;
    addresses.thread.announce(vip(1), clock::now());
    addresses.thread.announce(vip(2), later());
    // The thread looks around only when nothing is left to announce. The first look may have
    // begun before the two were put, the second has not.
    for state in [DeviceState::Down, up()] {
        addresses.kernel.set_device(&eth(1), state);
        addresses.report().await;
    }
    let announced = addresses.kernel.take_announcements();
    let announced: Vec<_> = announced.iter().map(|a| (&a.device, a.address)).collect();
    assert_eq!(announced, [(&eth(0), vip(2).net.addr())]);
}

#[test]
fn what_the_daemon_before_left_is_removed_and_fenced_again_by_every_start() {
    let directory = tempfile::tempdir().unwrap();
    let kernel = kernel();
    for octet in [1, 2, 9] {
        kernel.put_foreign_address(&vip(octet));
    }
    std::fs::write(vip_list(directory.path()), "eth0 192.0.2.1/32\neth0 192.0.2.2/32\n").unwrap();
    let removed = remove_left_over(&mut kernel.dataplane(), directory.path()).unwrap();
    assert_eq!(removed, [vip(1), vip(2)].into());
    assert_eq!(kernel.addresses().into_keys().collect::<Vec<_>>(), [vip(9)]);
    // A former owner still sends the replies of NAT from them; it may start many times before it
    // hears what the VIPs are.
    for _ in 0..2 {
        let again = remove_left_over(&mut kernel.dataplane(), directory.path()).unwrap();
        assert_eq!(again, [].into());
        let fenced: Vec<std::net::IpAddr> = kernel.fenced().into_keys().collect();
        assert_eq!(fenced, [vip(1).net.addr(), vip(2).net.addr()]);
    }
}

/// The data directory was moved away, or the device has another name.
#[test]
fn a_vip_that_is_on_no_list_is_known_by_its_mark() {
    let directory = tempfile::tempdir().unwrap();
    let kernel = kernel();
    kernel.dataplane().add_address(&vip(1), Some(Duration::from_secs(10))).unwrap();
    let removed = remove_left_over(&mut kernel.dataplane(), directory.path()).unwrap();
    assert_eq!(removed, [vip(1)].into());
    assert!(kernel.fenced().contains_key(&vip(1).net.addr()));
    assert_eq!(listed_addresses(directory.path()).unwrap(), [vip(1)].into());
}

#[test]
fn a_left_over_that_the_kernel_keeps_stays_on_the_list_and_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let kernel = kernel();
    std::fs::write(vip_list(directory.path()), "eth0 192.0.2.1/32\n").unwrap();
    kernel.put_foreign_address(&vip(1));
    kernel.fail_next(Call::RemoveAddress, 1, EINVAL);
    let error = remove_left_over(&mut kernel.dataplane(), directory.path()).unwrap_err();
    assert!(matches!(error, LeftOverError::Kernel(_)), "{error}");
    let left = remove_left_over(&mut kernel.dataplane(), directory.path()).unwrap();
    assert_eq!(left, [vip(1)].into());
}
