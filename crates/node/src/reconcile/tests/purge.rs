//! A purge takes out what the lists name, and nothing else.

use std::collections::BTreeSet;
use std::path::Path;

use quorate_dataplane::fake::Call;
use quorate_dataplane::{Errno, IpvsProblem};
use quorate_model::kernel::{DeviceAddress, MarkRule, ObservedService, PacketRules, ServiceKey};
use quorate_model::spec::Protocol;
use quorate_model::sync::{SyncRole, SyncSettings, SyncStep};

use super::super::list::List;
use super::super::purge::{Purged, purge};
use super::super::{service_list, sync_list, vip_list};
use super::*;

const EPERM: Errno = Errno(1);

fn vip(octet: u8) -> DeviceAddress {
    DeviceAddress { device: eth(0), net: format!("192.0.2.{octet}/32").parse().unwrap() }
}

fn key(octet: u8) -> ServiceKey {
    ServiceKey::at(Protocol::Tcp, ([192, 0, 2, octet], 80).into())
}

fn listed(data: &Path) -> (BTreeSet<DeviceAddress>, BTreeSet<ServiceKey>) {
    let vips: List<DeviceAddress> = List::open(vip_list(data)).unwrap();
    let services: List<ServiceKey> = List::open(service_list(data)).unwrap();
    (vips.entries().clone(), services.entries().clone())
}

/// 1 and 2 are ours, 2 is gone already; 3 is somebody else's.
fn kernel(data: &Path) -> FakeKernel {
    let kernel = FakeKernel::new();
    kernel.set_device(&eth(0), up());
    for octet in [1, 3] {
        kernel.put_foreign_address(&vip(octet));
        kernel.put_foreign_service(key(octet), ObservedService::default());
    }
    List::open(vip_list(data)).unwrap().add([vip(1), vip(2)].iter()).unwrap();
    List::open(service_list(data)).unwrap().add([key(1), key(2)].iter()).unwrap();
    kernel
}

#[test]
fn what_is_ours_goes_and_what_is_anothers_stays() {
    let data = tempfile::tempdir().unwrap();
    let kernel = kernel(data.path());
    let done = purge(&mut kernel.dataplane(), data.path()).unwrap();
    let expected = Purged { addresses: vec![vip(1)], services: vec![key(1)], ..Purged::default() };
    assert_eq!(done, expected);
    assert_eq!(kernel.addresses().into_keys().collect::<Vec<_>>(), [vip(3)]);
    assert_eq!(kernel.services().into_keys().collect::<Vec<_>>(), [key(3)]);
    assert_eq!(listed(data.path()), Default::default());
    // Again: nothing.
    assert_eq!(purge(&mut kernel.dataplane(), data.path()).unwrap(), Purged::default());
}

#[test]
fn what_stays_stays_on_its_list() {
    let data = tempfile::tempdir().unwrap();
    let kernel = kernel(data.path());
    kernel.fail_next(Call::RemoveAddress, 1, EPERM);
    kernel.fail_next(Call::Apply, 1, EPERM);
    let done = purge(&mut kernel.dataplane(), data.path()).unwrap();
    assert_eq!((done.addresses, done.services), (Vec::new(), Vec::new()));
    assert_eq!(done.addresses_left[0].0, vip(1));
    assert_eq!(done.services_left[0].0, key(1));
    assert_eq!(listed(data.path()), ([vip(1)].into(), [key(1)].into()));
}

#[test]
fn what_can_not_be_seen_is_not_taken_for_gone() {
    let data = tempfile::tempdir().unwrap();
    let kernel = kernel(data.path());
    kernel.fail_next(Call::ObserveAddresses, 1, EPERM);
    assert!(purge(&mut kernel.dataplane(), data.path()).is_err());
    kernel.fail_next(Call::ObserveServices, 1, EPERM);
    assert!(purge(&mut kernel.dataplane(), data.path()).is_err());
    assert_eq!(listed(data.path()).1, [key(1), key(2)].into());
}

#[test]
fn services_are_gone_with_the_module_that_held_them() {
    let data = tempfile::tempdir().unwrap();
    let kernel = kernel(data.path());
    kernel.set_ipvs(Err(IpvsProblem::NoModule));
    let done = purge(&mut kernel.dataplane(), data.path()).unwrap();
    assert_eq!((done.addresses, done.services), (vec![vip(1)], Vec::new()));
    assert_eq!(listed(data.path()), Default::default());
}

#[test]
fn marks_go_and_a_host_without_nftables_has_none() {
    let data = tempfile::tempdir().unwrap();
    let kernel = FakeKernel::new();
    let rule = MarkRule {
        address: ([192, 0, 2, 1]).into(),
        protocol: Protocol::Tcp,
        ports: (80, 80),
        mark: 1.try_into().unwrap(),
    };
    let rules = PacketRules { marks: [rule].into(), sync: None };
    kernel.dataplane().set_rules(&rules).unwrap();
    kernel.set_nft(false);
    let done = purge(&mut kernel.dataplane(), data.path()).unwrap();
    assert_eq!(done, Purged::default());
    kernel.set_nft(true);
    kernel.spoil_rules();
    let done = purge(&mut kernel.dataplane(), data.path()).unwrap();
    assert!(done.rules && done.left.is_empty(), "{done:?}");
    assert_eq!(kernel.rules(), PacketRules::default());
}

#[test]
fn sync_daemons_end_if_they_are_ours() {
    let settings = SyncSettings {
        device: eth(0),
        id: 1,
        group: "224.0.0.81".parse().unwrap(),
        port: 8848,
        ttl: 1,
        max_len: None,
    };
    let data = tempfile::tempdir().unwrap();
    let kernel = FakeKernel::new();
    kernel.set_device(&eth(0), up());
    let mut dataplane = kernel.dataplane();
    dataplane.sync_step(&SyncStep::Start(SyncRole::Master, settings.clone())).unwrap();
    assert_eq!(purge(&mut dataplane, data.path()).unwrap(), Purged::default());
    assert_eq!(dataplane.sync_daemons().unwrap().len(), 1, "another program's");
    List::open(sync_list(data.path())).unwrap().add([settings].iter()).unwrap();
    let done = purge(&mut dataplane, data.path()).unwrap();
    assert_eq!(done.sync, [SyncRole::Master]);
    assert_eq!(dataplane.sync_daemons(), Ok(Default::default()));
    assert_eq!(purge(&mut dataplane, data.path()).unwrap(), Purged::default());
}
