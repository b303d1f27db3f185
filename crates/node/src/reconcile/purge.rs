//! Taking what is ours out of the kernel: what the durable lists name, and nothing else.
//!
//! Nothing here opens anything. Tests: `reconcile/tests/purge.rs`.

use std::collections::BTreeSet;
use std::path::Path;

use quorate_dataplane::{Dataplane, DataplaneError, IpvsProblem, addresses_of};
use quorate_model::id::DeviceName;
use quorate_model::kernel::{DeviceAddress, DeviceAddresses, PacketRules, ServiceKey};
use quorate_model::plan::Action;
use quorate_model::routing::Routing;
use quorate_model::sync::{SyncRole, SyncSettings, SyncStep};

use super::list::List;
use super::routing::remove_routing;
use super::{ListError, service_list, sync_list, vip_list};

/// What was taken out of the kernel, and what could not be.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Purged {
    /// Routes and policy rules that stood there.
    pub(crate) routing: Routing,
    /// Addresses that stood there.
    pub(crate) addresses: Vec<DeviceAddress>,
    /// Services that stood there, with their real servers.
    pub(crate) services: Vec<ServiceKey>,
    /// Whether our table of nftables stood there.
    pub(crate) rules: bool,
    /// Sync daemons that ran.
    pub(crate) sync: Vec<SyncRole>,
    /// Addresses that still stand, and why.
    pub(crate) addresses_left: Vec<(DeviceAddress, DataplaneError)>,
    /// Services that still stand, and why.
    pub(crate) services_left: Vec<(ServiceKey, DataplaneError)>,
    /// Why something else still stands.
    pub(crate) left: Vec<DataplaneError>,
}

/// Takes our routes and policy rules out of the kernel, then our addresses, then our services, our table of nftables, which has a
/// name of its own and is on no list, and the sync daemons that we started. What is gone leaves the lists.
///
/// # Errors
///
/// If the lists can't be read or written, or the kernel can't be looked at.
pub(crate) fn purge(dataplane: &mut dyn Dataplane, data_dir: &Path) -> Result<Purged, PurgeError> {
    let (routing, stay) = remove_routing(dataplane, data_dir)?;
    let mut done = purge_addresses(dataplane, data_dir)?;
    done.routing = routing;
    done.left.extend(stay.into_iter().map(|(_, error)| error));
    purge_services(dataplane, data_dir, &mut done)?;
    match purge_rules(dataplane) {
        Ok(gone) => done.rules = gone,
        Err(error) => done.left.push(error),
    }
    purge_sync(dataplane, data_dir, &mut done)?;
    Ok(done)
}

/// Our addresses: each was on the list before it was in the kernel.
///
/// # Errors
///
/// If the list can't be read.
pub(crate) fn listed_addresses(data_dir: &Path) -> Result<DeviceAddresses, ListError> {
    let list: List<DeviceAddress> = List::open(vip_list(data_dir))?;
    Ok(list.entries().clone())
}

/// Those of these addresses that stand in the kernel.
///
/// # Errors
///
/// If the kernel can't be looked at.
pub(crate) fn standing(
    dataplane: &mut dyn Dataplane,
    addresses: &DeviceAddresses,
) -> Result<DeviceAddresses, DataplaneError> {
    let devices: BTreeSet<DeviceName> = addresses.iter().map(|a| a.device.clone()).collect();
    let devices: Vec<DeviceName> = devices.into_iter().collect();
    let present = addresses_of(&dataplane.observe_addresses(&devices)?);
    Ok(addresses.intersection(&present).cloned().collect())
}

/// Why nothing more could be taken out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PurgeError {
    /// A list of what is ours can't be read or written.
    #[error(transparent)]
    List(#[from] ListError),
    /// The kernel can't be looked at.
    #[error(transparent)]
    Kernel(#[from] DataplaneError),
}

fn purge_addresses(dataplane: &mut dyn Dataplane, data_dir: &Path) -> Result<Purged, PurgeError> {
    let mut done = Purged::default();
    for address in standing(dataplane, &listed_addresses(data_dir)?)? {
        match dataplane.remove_address(&address) {
            Ok(()) => done.addresses.push(address),
            Err(error) => done.addresses_left.push((address, error)),
        }
    }
    let left = done.addresses_left.iter().map(|(address, _)| address.clone()).collect();
    List::open(vip_list(data_dir))?.replace(left)?;
    Ok(done)
}

/// Whether there was such a table.
fn purge_rules(dataplane: &mut dyn Dataplane) -> Result<bool, DataplaneError> {
    match dataplane.rules() {
        // Without nftables nobody ever set any.
        Err(DataplaneError::NoNft { .. }) => Ok(false),
        Ok(Some(rules)) if rules.is_empty() => Ok(false),
        Ok(_) => dataplane.set_rules(&PacketRules::default()).map(|()| true),
        Err(error) => Err(error),
    }
}

fn purge_sync(
    dataplane: &mut dyn Dataplane,
    data_dir: &Path,
    done: &mut Purged,
) -> Result<(), ListError> {
    let mut list: List<SyncSettings> = List::open(sync_list(data_dir))?;
    if list.entries().is_empty() {
        return Ok(());
    }
    if dataplane.capabilities().ipvs != Err(IpvsProblem::NoModule) {
        let running = match dataplane.sync_daemons() {
            Ok(running) => running,
            Err(error) => {
                done.left.push(error);
                return Ok(());
            }
        };
        for role in running.into_keys() {
            match dataplane.sync_step(&SyncStep::Stop(role)) {
                Ok(()) => done.sync.push(role),
                Err(error) => done.left.push(error),
            }
        }
    }
    if done.left.is_empty() { list.replace(BTreeSet::new()) } else { Ok(()) }
}

fn purge_services(
    dataplane: &mut dyn Dataplane,
    data_dir: &Path,
    done: &mut Purged,
) -> Result<(), PurgeError> {
    let mut list: List<ServiceKey> = List::open(service_list(data_dir))?;
    if list.entries().is_empty() {
        return Ok(());
    }
    // A kernel without ip_vs has none: the module was removed, and all services with it.
    if dataplane.capabilities().ipvs != Err(IpvsProblem::NoModule) {
        let observed = dataplane.observe_services()?;
        let ours = list.entries().iter().filter(|key| observed.contains_key(key));
        let actions: Vec<Action> = ours.map(|key| Action::DeleteService(*key)).collect();
        let failed = dataplane.apply(&actions);
        for action in actions {
            let Action::DeleteService(key) = action else { continue };
            match failed.iter().find(|(failed, _)| *failed == Action::DeleteService(key)) {
                None => done.services.push(key),
                Some((_, error)) => done.services_left.push((key, error.clone())),
            }
        }
    }
    list.replace(done.services_left.iter().map(|(key, _)| *key).collect())?;
    Ok(())
}
