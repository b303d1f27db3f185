//! What only the fake can do: time, faults, and several dataplanes on one kernel. All that Linux
//! does as well is in the contract suite.

use quorate_model::kernel::{Destination, ServiceSettings};
use quorate_model::spec::{Forward, Protocol};

use super::*;
use crate::MacAddress;

fn up() -> DeviceState {
    DeviceState::Up { index: 2, mac: Some(MacAddress([2, 0, 0, 0, 0, 1])) }
}

fn device() -> DeviceName {
    "eth0".parse().unwrap()
}

fn vip(text: &str) -> DeviceAddress {
    DeviceAddress { device: device(), net: text.parse().unwrap() }
}

fn kernel() -> FakeKernel {
    let kernel = FakeKernel::new();
    kernel.set_device(&device(), up());
    kernel
}

fn service(octet: u8) -> (ServiceKey, [Action; 2]) {
    let key = ServiceKey::at(Protocol::Tcp, ([192, 0, 2, octet], 80).into());
    let settings = ServiceSettings::plain(Scheduler::named("rr").unwrap());
    let to = Destination::new(Forward::Dr, 1);
    let server = ([192, 0, 2, 100], 80).into();
    (key, [Action::AddService(key, settings), Action::AddDestination(key, server, to)])
}

#[test]
fn an_address_stands_until_its_lifetime_has_run_out_and_not_longer() {
    let kernel = kernel();
    let mut dataplane = kernel.dataplane();
    dataplane.add_address(&vip("192.0.2.1/32"), Some(Duration::from_millis(1_500))).unwrap();
    dataplane.add_address(&vip("192.0.2.2/32"), None).unwrap();
    kernel.advance(Duration::from_millis(1_999));
    assert_eq!(kernel.addresses().len(), 2);
    kernel.advance(Duration::from_millis(1));
    assert_eq!(kernel.addresses().into_keys().collect::<Vec<_>>(), [vip("192.0.2.2/32")]);
}

#[test]
fn refreshing_an_address_starts_its_lifetime_anew() {
    let kernel = kernel();
    let mut dataplane = kernel.dataplane();
    for _ in 0..5 {
        dataplane.add_address(&vip("192.0.2.1/32"), Some(Duration::from_secs(2))).unwrap();
        kernel.advance(Duration::from_millis(1_900));
    }
    assert_eq!(kernel.addresses().len(), 1);
}

#[test]
fn all_dataplanes_see_one_kernel() {
    let kernel = kernel();
    let (key, actions) = service(1);
    assert_eq!(kernel.dataplane().apply(&actions), []);
    assert!(kernel.dataplane().observe_services().unwrap().contains_key(&key));
    assert_eq!(kernel.take_applied(), actions);
    assert_eq!(kernel.take_applied(), []);
}

#[test]
fn calls_fail_as_often_as_told_and_without_effect() {
    let kernel = kernel();
    let mut dataplane = kernel.dataplane();
    kernel.fail_next(Call::AddAddress, 2, Errno(libc::EINVAL));
    for _ in 0..2 {
        let error = dataplane.add_address(&vip("192.0.2.1/32"), None).unwrap_err();
        assert!(matches!(error, DataplaneError::Refused { errno: Errno(libc::EINVAL), .. }));
    }
    assert!(kernel.addresses().is_empty());
    assert_eq!(dataplane.add_address(&vip("192.0.2.1/32"), None), Ok(()));
}

#[test]
fn an_action_that_fails_does_not_stop_those_after_it() {
    let kernel = kernel();
    let (first, second) = (service(1), service(2));
    let actions = [first.1, second.1].concat();
    kernel.fail_next(Call::Apply, 1, Errno(libc::EINTR));
    let failures = kernel.dataplane().apply(&actions);
    let failed: Vec<&Action> = failures.iter().map(|(action, _)| action).collect();
    assert_eq!(failed, [&actions[0], &actions[1]], "the real server had no service to join");
    assert!(matches!(failures[0].1, DataplaneError::NoAnswer { .. }));
    assert!(matches!(failures[1].1, DataplaneError::Gone { errno: Errno(libc::ESRCH), .. }));
    assert_eq!(kernel.services().into_keys().collect::<Vec<_>>(), [second.0]);
}

#[test]
fn a_partial_dump_leaves_out_entries_once_and_says_nothing() {
    let kernel = kernel();
    let actions: Vec<Action> = (1..=4).flat_map(|octet| service(octet).1).collect();
    assert_eq!(kernel.dataplane().apply(&actions), []);
    kernel.make_next_dump_partial();
    assert_eq!(kernel.dataplane().observe_services().unwrap().len(), 2);
    assert_eq!(kernel.dataplane().observe_services().unwrap().len(), 4);
}

#[test]
fn without_ip_vs_services_fail_and_addresses_do_not() {
    let kernel = kernel();
    kernel.set_ipvs(Err(IpvsProblem::NoModule));
    let mut dataplane = kernel.dataplane();
    assert_eq!(dataplane.capabilities().ipvs, Err(IpvsProblem::NoModule));
    assert!(matches!(dataplane.observe_services(), Err(DataplaneError::NoIpvs { .. })));
    let failures = dataplane.apply(&service(1).1);
    assert_eq!(failures.len(), 2);
    assert!(matches!(failures[0].1, DataplaneError::NoIpvs { .. }));
    assert_eq!(dataplane.add_address(&vip("192.0.2.1/32"), None), Ok(()));
}

#[test]
fn a_missing_scheduler_is_named() {
    let kernel = kernel();
    kernel.set_missing_schedulers([Scheduler::named("rr").unwrap()].into());
    let failures = kernel.dataplane().apply(&service(1).1);
    let text = failures[0].1.to_string();
    assert!(text.contains("modprobe ip_vs_rr"), "{text}");
}

#[test]
fn a_device_that_goes_takes_its_addresses_along_and_comes_back_without() {
    let kernel = kernel();
    let mut dataplane = kernel.dataplane();
    dataplane.add_address(&vip("192.0.2.1/32"), None).unwrap();
    kernel.set_device(&device(), DeviceState::Missing);
    assert_eq!(dataplane.observe_addresses(&[device()]).unwrap().len(), 0);
    let error = dataplane.add_address(&vip("192.0.2.1/32"), None).unwrap_err();
    assert!(matches!(error, DataplaneError::NoDevice { .. }));
    kernel.set_device(&device(), up());
    assert!(kernel.addresses().is_empty());
}

#[test]
fn announcements_are_kept_with_their_time() {
    let kernel = kernel();
    let address = "192.0.2.1".parse().unwrap();
    kernel.advance(Duration::from_secs(3));
    kernel.dataplane().announce(&device(), address).unwrap();
    let want = Announcement { at: Duration::from_secs(3), device: device(), address };
    assert_eq!(kernel.take_announcements(), [want]);
    kernel.set_device(&device(), DeviceState::Down);
    kernel.dataplane().announce(&device(), address).unwrap_err();
    assert_eq!(kernel.take_announcements(), []);
}

#[test]
fn sysctls_that_cannot_be_set_are_reported_with_what_was_found() {
    let kernel = kernel();
    kernel.set_sysctls_read_only(true);
    let needs = DirectorNeeds { devices: vec![device()], ..DirectorNeeds::default() };
    let findings = kernel.dataplane().director_sysctls(&needs, SysctlMode::Set);
    assert!(findings.iter().all(|finding| finding.problem.is_some() && !finding.changed));
    let text = findings[0].to_string();
    assert!(
        text.starts_with("net.ipv4.conf.all.send_redirects = 1, needed: 0: cannot write "),
        "{text}"
    );
}
