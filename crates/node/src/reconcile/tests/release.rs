//! What a dead daemon had open is closed before it is removed, and nothing of it is forgotten.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use quorate_dataplane::Errno;
use quorate_dataplane::fake::Call;
use quorate_dataplane::fence::FenceError;
use quorate_model::id::{Epoch, Incarnation, NodeId};
use quorate_model::kernel::DeviceAddress;
use quorate_model::time::Instant;

use super::super::LeftOverError;
use super::super::list::List;
use super::super::{listed_addresses, vip_list};
use super::*;
use crate::release::holding::{Holder, Holding};
use crate::release::{ReleaseError, close};

const EPERM: Errno = Errno(1);

fn vip(octet: u8) -> DeviceAddress {
    DeviceAddress { device: eth(0), net: format!("192.0.2.{octet}/32").parse().unwrap() }
}

fn ip(octet: u8) -> IpAddr {
    [192, 0, 2, octet].into()
}

/// 1 was opened and stands, 2 was opened and is gone; 9 is somebody else's.
fn kernel(data: &Path) -> FakeKernel {
    let kernel = FakeKernel::new();
    kernel.set_device(&eth(0), up());
    for octet in [1, 9] {
        kernel.put_foreign_address(&vip(octet));
    }
    List::open(vip_list(data)).unwrap().add([vip(1), vip(2)].iter()).unwrap();
    kernel
}

fn holding(addresses: &[u8]) -> Holding {
    Holding {
        holder: Holder { cluster_id: 1, me: NodeId(1), incarnation: Incarnation(1) },
        voters: Default::default(),
        leases: [("web".parse().unwrap(), Epoch(7))].into(),
        addresses: addresses.iter().map(|&octet| ip(octet)).collect(),
    }
}

#[test]
fn all_that_may_be_open_is_fenced_closed_and_ours_are_removed() {
    let data = tempfile::tempdir().unwrap();
    let kernel = kernel(data.path());
    close(&mut kernel.dataplane(), data.path(), Some(&holding(&[1, 3]))).unwrap();
    // The list's and the file's: one that is gone may be sent from all the same.
    let closed = kernel.fenced();
    assert_eq!(closed.keys().copied().collect::<Vec<_>>(), [ip(1), ip(2), ip(3)]);
    assert!(closed.values().all(|&until| until == Instant(0)), "{closed:?}");
    let left: BTreeSet<DeviceAddress> = kernel.addresses().into_keys().collect();
    assert_eq!(left, [vip(9)].into());
    // The next daemon's fence begins with the same.
    assert_eq!(listed_addresses(data.path()).unwrap(), [vip(1), vip(2)].into());
}

#[test]
fn nothing_is_touched_where_nothing_is_held_and_nothing_stands() {
    let data = tempfile::tempdir().unwrap();
    let kernel = kernel(data.path());
    kernel.dataplane().remove_address(&vip(1)).unwrap();
    close(&mut kernel.dataplane(), data.path(), None).unwrap();
    assert_eq!(kernel.fenced(), Default::default());
}

/// Whoever told the voters then would free promises to addresses that still answer.
#[test]
fn what_can_not_be_closed_or_removed_or_seen_is_an_error() {
    let data = tempfile::tempdir().unwrap();
    let held = holding(&[1]);
    let failing = |prepare: &dyn Fn(&FakeKernel)| {
        let kernel = kernel(data.path());
        prepare(&kernel);
        close(&mut kernel.dataplane(), data.path(), Some(&held)).unwrap_err()
    };
    let error = failing(&|kernel| kernel.set_fence_problem(Some(FenceError::NotArmed)));
    assert!(matches!(error, ReleaseError::Fence(_)), "{error}");
    let error = failing(&|kernel| kernel.fail_next(Call::RemoveAddress, 1, EPERM));
    assert!(matches!(error, ReleaseError::Stays(_)), "{error}");
    let error = failing(&|kernel| kernel.fail_next(Call::ObserveAddresses, 1, EPERM));
    let unseen = matches!(error, ReleaseError::LeftOver(LeftOverError::Kernel(_)));
    assert!(unseen, "{error}");
}
