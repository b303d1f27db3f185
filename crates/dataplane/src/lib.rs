//! The only crate that touches the kernel.
//!
//! [`Dataplane`] is what a director needs of its kernel: IPVS services, VIP addresses, announcing
//! and sysctls. [`linux`] is the real one; [`fake`] is a stateful kernel in memory that can be told
//! to fail. One suite of rules (tests/src/contract.rs) holds for both, so that what the simulator
//! shows on the fake is true of Linux. [`realserver`] sets up a DR or TUN real server.
//! [`connections`] lists those of a service. [`linux::path`] tries a real server over the way of its clients' packets.
//! [`fence`] is the kernel's own block on VIP traffic past a lease's deadline, [`watch`] tells that
//! something in the kernel changed, [`scheduling`] keeps a thread from being held up.
//!
//! Nothing here decides what a kernel shall hold (`quorate_model::plan` does), and no `unsafe`
//! stands outside `sys`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use quorate_model::claim::{Answer, Question};
use quorate_model::id::DeviceName;
use quorate_model::kernel::{
    ConnectionTimeouts, DeviceAddress, DeviceAddresses, ObservedServices, PacketRules,
};
use quorate_model::plan::Action;
use quorate_model::routing::{Routing, RoutingEntry};
use quorate_model::sync::{SyncDaemons, SyncStep};

use crate::fence::{FenceError, Slot};

pub mod announce;
pub mod ask;
pub mod connections;
mod error;
pub mod fake;
pub mod fence;
pub mod linux;
mod netlink;
mod path;
pub mod realserver;
pub mod scheduling;
mod sys;
pub mod sysctl;
pub mod watch;

pub use error::{DataplaneError, Errno, Operation};
pub use quorate_model::kernel::MacAddress;
pub use sysctl::{DirectorNeeds, SysctlFinding, SysctlMode, SysctlProblem};

/// Everything that Quorate does with a kernel. Every call blocks, for seconds at worst; one
/// instance is used from one thread at a time, in the network namespace that it was made in.
pub trait Dataplane: Send {
    /// What this kernel and this process's rights allow.
    fn capabilities(&mut self) -> Capabilities;

    /// The whole IPVS table, foreign services included.
    ///
    /// # Errors
    /// Where the table can't be read in full. What is missing in an answer is missing in the
    /// kernel, unless another program changed the table meanwhile (the kernel doesn't tell).
    fn observe_services(&mut self) -> Result<ObservedServices, DataplaneError>;

    /// Does the actions in their order, all of them whatever fails; returns those that failed.
    ///
    /// "Already so" is success: a service or real server that stands already is changed to what
    /// the action says; what is to be deleted may be gone. A change of something that is gone
    /// fails ([`DataplaneError::Gone`]): what was planned on is no longer true, observe again.
    fn apply(&mut self, actions: &[Action]) -> Vec<(Action, DataplaneError)>;

    /// How long IPVS keeps a connection on which nothing comes.
    ///
    /// # Errors
    /// Where it can't be told.
    fn timeouts(&mut self) -> Result<ConnectionTimeouts, DataplaneError>;

    /// Sets how long IPVS keeps a connection on which nothing comes: those that are there keep what
    /// they have until their next packet.
    ///
    /// # Errors
    /// Where the kernel refuses.
    fn set_timeouts(&mut self, timeouts: ConnectionTimeouts) -> Result<(), DataplaneError>;

    /// What Quorate's own table of nftables does; `None` where that table holds something else, which
    /// [`Self::set_rules`] mends.
    ///
    /// # Errors
    /// Where it can't be told.
    fn rules(&mut self) -> Result<Option<PacketRules>, DataplaneError>;

    /// Makes the packet filter do exactly this for Quorate, in one step; nothing: the table goes.
    ///
    /// # Errors
    /// Where the rules are not so afterwards; then they are as they were.
    fn set_rules(&mut self, rules: &PacketRules) -> Result<(), DataplaneError>;

    /// The IPVS sync daemons of this network namespace, whoever started them.
    ///
    /// # Errors
    /// Where it can't be told.
    fn sync_daemons(&mut self) -> Result<SyncDaemons, DataplaneError>;

    /// Starts or ends a sync daemon. To end what does not run is success.
    ///
    /// # Errors
    /// Where the kernel refuses; one that runs already is not started again (EEXIST).
    fn sync_step(&mut self, step: &SyncStep) -> Result<(), DataplaneError>;

    /// Where this address is; `None` where no device has it.
    ///
    /// # Errors
    /// Where it can't be told.
    fn device_with(&mut self, address: IpAddr) -> Result<Option<AddressPlace>, DataplaneError>;

    /// Whether a device is there and can carry traffic.
    ///
    /// # Errors
    /// Where the kernel can't be asked; a device that isn't there is [`DeviceState::Missing`].
    fn device(&mut self, device: &DeviceName) -> Result<DeviceState, DataplaneError>;

    /// The addresses of these devices, whoever added them. A device that isn't there has none.
    ///
    /// # Errors
    /// Where the addresses can't be read in full.
    fn observe_addresses(
        &mut self,
        devices: &[DeviceName],
    ) -> Result<ObservedAddresses, DataplaneError>;

    /// Every address that carries Quorate's mark, on any device but lo. Kernels before 5.18 keep no mark.
    ///
    /// # Errors
    /// Where the addresses can't be read in full.
    fn marked_addresses(&mut self) -> Result<DeviceAddresses, DataplaneError>;

    /// Adds addresses, or refreshes their lifetimes; the kernel removes them by itself when the
    /// lifetime, rounded up to whole seconds, has run out. `None` is for ever. Returns those that do
    /// not stand afterwards as asked, with the reason.
    fn add_addresses(
        &mut self,
        addresses: &[DeviceAddress],
        lifetime: Option<Duration>,
    ) -> Vec<(DeviceAddress, DataplaneError)>;

    /// Removes addresses. One that isn't there, or whose device isn't, is removed already. Returns
    /// those that may still stand afterwards, with the reason.
    fn remove_addresses(
        &mut self,
        addresses: &[DeviceAddress],
    ) -> Vec<(DeviceAddress, DataplaneError)>;

    /// [`Self::add_addresses`] for one.
    ///
    /// # Errors
    /// Where the address does not stand afterwards as asked.
    fn add_address(
        &mut self,
        address: &DeviceAddress,
        lifetime: Option<Duration>,
    ) -> Result<(), DataplaneError> {
        let failed = self.add_addresses(std::slice::from_ref(address), lifetime);
        failed.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
    }

    /// [`Self::remove_addresses`] for one.
    ///
    /// # Errors
    /// Where the address may still stand.
    fn remove_address(&mut self, address: &DeviceAddress) -> Result<(), DataplaneError> {
        let failed = self.remove_addresses(std::slice::from_ref(address));
        failed.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
    }

    /// The routes and policy rules that carry Quorate's mark ([`quorate_model::routing::PROTOCOL`]), on any device. One
    /// that somebody gave what Quorate can't express is not among them.
    ///
    /// # Errors
    /// Where they can't be read in full.
    fn observe_routing(&mut self) -> Result<Routing, DataplaneError>;

    /// Adds a route or policy rule with Quorate's mark. One that stands already with it, and is equal, is success.
    ///
    /// # Errors
    /// Where it does not stand afterwards: another one has its place ([`DataplaneError::Taken`]), its device is
    /// missing or down, or its source is no address of this host.
    fn add_routing(&mut self, entry: &RoutingEntry) -> Result<(), DataplaneError>;

    /// Removes a route or policy rule that carries Quorate's mark. One that isn't there, or carries another mark, is
    /// removed already.
    ///
    /// # Errors
    /// Where it may still stand.
    fn remove_routing(&mut self, entry: &RoutingEntry) -> Result<(), DataplaneError>;

    /// Arms the fence (design §4) on every device but lo, with these VIPs in it, closed; what an
    /// earlier process left there is taken off afterwards. `vips` are all that may stand on this host.
    ///
    /// # Errors
    /// Where it does not stand as asked: no VIP may be configured then. Arming again is safe.
    fn arm_fence(&mut self, vips: &[IpAddr]) -> Result<(), FenceError>;

    /// Fences an address, closed, before it is configured; where it is fenced already, the slot that
    /// it has.
    ///
    /// # Errors
    /// Where it is not fenced: it must not be configured then.
    fn fence(&mut self, vip: IpAddr) -> Result<Slot, FenceError>;

    /// Lets an address go from the fence, after it is gone from the devices.
    ///
    /// # Errors
    /// Where it is still fenced; it is closed then.
    fn unfence(&mut self, vip: IpAddr) -> Result<(), FenceError>;

    /// Looks at every device: puts the fence on those that are new, and back where it is gone.
    /// Returns the devices where it had to.
    ///
    /// # Errors
    /// Where it does not stand on every device afterwards: the VIPs have to go.
    fn mend_fence(&mut self) -> Result<Vec<DeviceName>, FenceError>;

    /// Tells the neighbours of a device that this host has the address: gratuitous ARP in request
    /// and reply form, or an unsolicited neighbour advertisement. A device without link-layer
    /// addresses (a tunnel) has no neighbours to tell.
    ///
    /// # Errors
    /// Where a frame could not be handed to the device.
    fn announce(&mut self, device: &DeviceName, address: IpAddr) -> Result<(), DataplaneError>;

    /// Asks the neighbours of devices who has these addresses, three times within 300 ms, and
    /// tells for each who answered. Blocks for that long. What this host has itself is no answer.
    fn ask(&mut self, questions: &BTreeSet<Question>) -> BTreeMap<Question, Answer>;

    /// Checks, and in [`SysctlMode::Set`] sets and reads back, the sysctls that a director needs.
    fn director_sysctls(&mut self, needs: &DirectorNeeds, mode: SysctlMode) -> Vec<SysctlFinding>;
}

/// Where an address is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressPlace {
    /// The device.
    pub device: DeviceName,
    /// Whether it is the device's first of IPv4, which the kernel itself sends from; true of IPv6.
    pub first: bool,
}

/// What a kernel and this process's rights allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// Whether this process may change addresses and IPVS (CAP_NET_ADMIN is effective).
    pub net_admin: bool,
    /// Whether IPVS can be programmed.
    pub ipvs: Result<IpvsInfo, IpvsProblem>,
}

/// What IPVS says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpvsInfo {
    /// Version as major, minor, patch.
    pub version: (u8, u8, u8),
    /// Buckets of the connection table (`conn_tab_bits` of the module).
    pub connection_table_size: u32,
}

/// Why IPVS can't be programmed. The director is not eligible for groups with services, and stays
/// a voter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IpvsProblem {
    /// The kernel has no ip_vs and could not load it.
    #[error(
        "this kernel has no ip_vs: load it with `modprobe ip_vs`, or run a kernel that has it \
         (a cloud or container kernel may not)"
    )]
    NoModule,
    /// The kernel has ip_vs, but this process may not use it.
    #[error(
        "not permitted to use ip_vs: CAP_NET_ADMIN is needed, in the host's own user namespace \
         (systemd: AmbientCapabilities=CAP_NET_ADMIN)"
    )]
    NotPermitted,
    /// ip_vs could not be asked for another reason.
    #[error("{0}")]
    Failed(DataplaneError),
}

/// Whether a device can carry traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceState {
    /// There is no such device.
    Missing,
    /// It is there, but set down, or has no carrier.
    Down,
    /// It is up and running.
    Up {
        /// Its number in this network namespace.
        index: u32,
        /// Its link-layer address; `None` where it has none (a tunnel).
        mac: Option<MacAddress>,
    },
}

/// Addresses found on devices.
pub type ObservedAddresses = BTreeMap<DeviceAddress, ObservedAddress>;

/// What is known of an address found on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObservedAddress {
    /// Whether it carries Quorate's mark. Kernels before 5.18 keep no mark, so `false` does not
    /// prove that it is foreign; `true` proves that it is ours.
    pub ours: bool,
    /// How long it will stand (whole seconds, rounded down); `None` is for ever.
    pub lifetime: Option<Duration>,
}

/// The addresses alone, for comparing with what is wanted.
#[must_use]
pub fn addresses_of(observed: &ObservedAddresses) -> DeviceAddresses {
    observed.keys().cloned().collect()
}

/// An address's lifetime as the kernel counts it: whole seconds, at least one, rounded up so that
/// a lifetime never ends before it was asked to; `None` is for ever.
#[must_use]
pub fn lifetime_s(lifetime: Option<Duration>) -> u32 {
    const FOR_EVER: u32 = u32::MAX;
    let Some(lifetime) = lifetime else { return FOR_EVER };
    let whole = lifetime.as_secs().saturating_add(u64::from(lifetime.subsec_nanos() > 0));
    // INFINITY_LIFE_TIME itself must not be reached by rounding.
    u32::try_from(whole.max(1)).unwrap_or(FOR_EVER).min(FOR_EVER - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_is_whole_seconds_rounded_up_and_never_zero_or_for_ever() {
        let of = |ms| lifetime_s(Some(Duration::from_millis(ms)));
        assert_eq!((of(0), of(1), of(1_000), of(1_001), of(10_000)), (1, 1, 1, 2, 10));
        assert_eq!(lifetime_s(Some(Duration::MAX)), u32::MAX - 1);
        assert_eq!(lifetime_s(None), u32::MAX);
    }

    #[test]
    fn a_mac_address_reads_as_usual() {
        assert_eq!(MacAddress([2, 0, 0, 0xab, 1, 0xff]).to_string(), "02:00:00:ab:01:ff");
    }
}
