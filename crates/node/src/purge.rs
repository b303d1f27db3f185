//! `quorated purge`: all that is ours goes out of the kernel, for package removal and the way back.
//!
//! Routes and rules first, the addresses, then the services, and the fence's filters last: as long as one of our
//! addresses stands, its fence does. The data directory stays. Doing it again changes nothing.
//! Tests: `reconcile/tests/purge.rs`, tests/tests/lab_host_release.rs.

use std::io::{self, Write};

use quorate_dataplane::fence::{self, FenceError};
use quorate_dataplane::linux::Linux;
use quorate_dataplane::{Dataplane as _, DataplaneError};
use quorate_model::kernel::DeviceAddress;

use crate::config::NodeConfig;
use crate::host::{HostLock, HostLockError};
use crate::raft::store::lock::{DataDirectory, LockError};
use crate::reconcile::{self, ListError, Purged};
use crate::release::holding;

/// Why something of ours may still be in the kernel.
#[derive(Debug, thiserror::Error)]
pub enum PurgeError {
    /// The data directory is in use or can't be used.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A director runs in this network namespace.
    #[error(transparent)]
    Host(#[from] HostLockError),
    /// The lists of what is ours can't be read or written.
    #[error(transparent)]
    List(#[from] ListError),
    /// The kernel can't be used or looked at.
    #[error(transparent)]
    Kernel(#[from] DataplaneError),
    /// Something stays.
    #[error("not all of it could be removed; the fence stays on as long as a VIP does:\n{}", .0.join("\n"))]
    Left(Vec<String>),
    /// The fence can't be looked for.
    #[error(transparent)]
    Fence(#[from] FenceError),
    /// The file system or the terminal refuses.
    #[error("what was removed can't be noted or printed: {0}")]
    Io(#[from] io::Error),
}

impl From<reconcile::PurgeError> for PurgeError {
    fn from(error: reconcile::PurgeError) -> Self {
        match error {
            reconcile::PurgeError::List(error) => Self::List(error),
            reconcile::PurgeError::Kernel(error) => Self::Kernel(error),
        }
    }
}

/// Takes all that is ours out of the kernel; says what it was.
///
/// # Errors
///
/// If something of ours may still be there.
pub fn purge(config: &NodeConfig, out: &mut dyn Write) -> Result<(), PurgeError> {
    // Without a data directory nothing was ever listed; a fence is found without a list.
    let directory = DataDirectory::lock_existing(&config.data_dir)?;
    // Also without a data directory, or with another one than the daemon's that lives.
    let _host = HostLock::take()?;
    let mut linux = Linux::new()?;
    let mut left = Vec::new();
    if let Some(directory) = &directory {
        let done = reconcile::purge(&mut linux, directory.path());
        // What it held stands nowhere any more, so there is nothing to release.
        let forgotten = holding::clear(directory.path());
        // Lists that root wrote must stay the daemon's.
        directory.give_back()?;
        let done = done?;
        forgotten?;
        say(&done, out)?;
        left.extend(
            done.addresses_left.iter().map(|(address, error)| {
                format!("VIP {} on {}: {error}", address.net, address.device)
            }),
        );
        left.extend(
            done.services_left.iter().map(|(key, error)| format!("service {key}: {error}")),
        );
        left.extend(done.left.iter().map(ToString::to_string));
        if !done.addresses_left.is_empty() {
            return Err(PurgeError::Left(left));
        }
    }
    let devices = fence::devices()?;
    if !devices.is_empty() {
        // On no list that this node has: of a data directory that is gone, or on a renamed device.
        left.extend(linux.marked_addresses()?.into_iter().map(|address| {
            let DeviceAddress { device, net } = address;
            format!("VIP {net} on {device} is of a director whose list is not in {}: remove it by hand (ip address del {net} dev {device})", config.data_dir.display())
        }));
        if !left.is_empty() {
            return Err(PurgeError::Left(left));
        }
    }
    for (device, error) in fence::purge(&devices)? {
        left.push(format!("fence on {device}: {error}"));
    }
    if !left.is_empty() {
        return Err(PurgeError::Left(left));
    }
    writeln!(out, "no VIP, route, service or fence of Quorate is in the kernel")?;
    Ok(())
}

fn say(done: &Purged, out: &mut dyn Write) -> io::Result<()> {
    for entry in &done.routing {
        writeln!(out, "removed {entry}")?;
    }
    for address in &done.addresses {
        writeln!(out, "removed VIP {} from {}", address.net, address.device)?;
    }
    for service in &done.services {
        writeln!(out, "removed service {service}")?;
    }
    if done.rules {
        writeln!(out, "removed table inet quorate of nftables")?;
    }
    for role in &done.sync {
        writeln!(out, "ended the sync daemon of IPVS ({role})")?;
    }
    Ok(())
}
