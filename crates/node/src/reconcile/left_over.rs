//! What a former daemon of this node left in the kernel: it goes before anything else, whatever becomes of the one that
//! starts. Tests: `reconcile/tests/addresses.rs`, `reconcile/tests/routing.rs`.

use std::net::IpAddr;
use std::path::Path;

use quorate_dataplane::{Dataplane, DataplaneError};
use quorate_model::kernel::{DeviceAddress, DeviceAddresses};
use tracing::warn;

use super::list::List;
use super::routing::remove_routing;
use super::{ListError, listed_addresses, standing, vip_list};

/// Closes what a former daemon of this node left in the kernel, and removes its VIPs: whatever its
/// lease was, this start does not have it. To be called before anything else. A fence that can't be
/// armed keeps nothing from starting: such a director owns nothing.
///
/// The list stays: what it names is fenced again by the next start, however this one ends.
///
/// # Errors
///
/// If the list of VIPs can't be read or written, or the kernel keeps one: then nothing may be started.
pub(crate) fn remove_left_over(
    dataplane: &mut dyn Dataplane,
    data_dir: &Path,
) -> Result<DeviceAddresses, LeftOverError> {
    let listed = match recall(dataplane, data_dir) {
        Err(LeftOverError::Kernel(error)) => {
            warn!(%error, "addresses can't be read: only those on the list are fenced");
            listed_addresses(data_dir)?
        }
        other => other?,
    };
    // Closed before it is removed: nothing passes between the old fence and the new one.
    let vips: Vec<IpAddr> = listed.iter().map(|vip| vip.net.addr()).collect();
    if let Err(error) = dataplane.arm_fence(&vips) {
        warn!(%error, "the fence can't be armed: this director will own no VIP");
    }
    let (_, stay) = remove_routing(dataplane, data_dir)?;
    for (_, error) in stay {
        warn!(%error, "a route or rule of a former daemon stays; its removal is tried again");
    }
    // What is gone already needs no right to remove it: a daemon without any starts all the same.
    let left = standing(dataplane, &listed).unwrap_or(listed);
    for address in &left {
        dataplane.remove_address(address)?;
    }
    Ok(left)
}

/// The VIPs that may stand on this host, and that it may still forward for: those on the list, and
/// those with our mark. A list that was lost with its directory, or a device that has another name by
/// now, must not leave a VIP without a fence. What the marks add is on the list afterwards.
///
/// # Errors
///
/// If the list can't be read or written, or the kernel can't be asked.
pub(crate) fn recall(
    dataplane: &mut dyn Dataplane,
    data_dir: &Path,
) -> Result<DeviceAddresses, LeftOverError> {
    let mut list: List<DeviceAddress> = List::open(vip_list(data_dir))?;
    list.add(dataplane.marked_addresses()?.iter())?;
    Ok(list.entries().clone())
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
