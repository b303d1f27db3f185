//! Synchronisation of connections between directors: what the IPVS sync daemons of a kernel shall be,
//! and what has to be done about those that are found (net/netfilter/ipvs/ip_vs_sync.c).
//!
//! Every director runs both daemons: the master tells the others of the connections that pass here,
//! the backup takes in what the others tell. Ownership is by group, daemons are by network namespace.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use crate::id::{DeviceName, NodeId};
use crate::spec::Sync;
use crate::state::ClusterState;

/// What a sync daemon does (`IP_VS_STATE_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SyncRole {
    /// It tells others.
    Master,
    /// It listens to others.
    Backup,
}

impl SyncRole {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Master, Self::Backup];
}

impl fmt::Display for SyncRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Master => "master",
            Self::Backup => "backup",
        })
    }
}

/// How the daemons of a kernel talk.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SyncSettings {
    /// On which device.
    pub device: DeviceName,
    /// Which they heed of several on one network, 1 to 255.
    pub id: u8,
    /// The multicast group.
    pub group: IpAddr,
    /// Its UDP port.
    pub port: u16,
    /// How many hops a message may take.
    pub ttl: u8,
    /// The longest message in bytes; `None`: what fits the device's frames.
    pub max_len: Option<u16>,
}

impl fmt::Display for SyncSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { device, id, group, port, ttl, .. } = self;
        write!(f, "id {id} on {device}, group {group} port {port} ttl {ttl}")
    }
}

/// The sync daemons of a kernel.
pub type SyncDaemons = BTreeMap<SyncRole, SyncSettings>;

/// Whose sync messages are heeded: all others to this group and port are dropped.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SyncFilter {
    /// The multicast group.
    pub group: IpAddr,
    /// Its UDP port.
    pub port: u16,
    /// The addresses of the members; never empty.
    pub members: BTreeSet<IpAddr>,
}

/// What a director's kernel shall run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncGoal {
    /// As configured.
    pub spec: Sync,
    /// This node's address on the link, which tells the device; `None`: it has no such link.
    pub address: Option<IpAddr>,
    /// The addresses of all members on the link.
    pub members: BTreeSet<IpAddr>,
}

impl SyncGoal {
    /// What this node's kernel shall run.
    #[must_use]
    pub fn of(state: &ClusterState, me: NodeId) -> Option<Self> {
        let spec = state.spec.sync.clone()?;
        let on_link = |id: NodeId| {
            let links = &state.nodes.get(&id)?.description.links;
            links.iter().find(|link| link.name == spec.link).map(|link| link.listen.ip())
        };
        // A node that joined with an address of the other family can neither tell nor hear.
        let of_family = |address: &IpAddr| address.is_ipv4() == spec.group.is_ipv4();
        let members = state.nodes.keys().filter_map(|&id| on_link(id)).filter(of_family).collect();
        Some(Self { address: on_link(me), members, spec })
    }

    /// The daemons' settings on this device.
    #[must_use]
    pub fn settings(&self, device: DeviceName) -> SyncSettings {
        let Sync { id, group, port, ttl, max_len, .. } = self.spec;
        SyncSettings { device, id, group, port, ttl, max_len }
    }

    /// Whom they heed; `None` where no member is on the link.
    #[must_use]
    pub fn filter(&self) -> Option<SyncFilter> {
        let Sync { group, port, .. } = self.spec;
        let members = self.members.clone();
        (!members.is_empty()).then_some(SyncFilter { group, port, members })
    }
}

/// One change of the daemons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyncStep {
    /// End it. What it has not told yet is lost.
    Stop(SyncRole),
    /// Start it.
    Start(SyncRole, SyncSettings),
}

/// What has to be done so that both daemons run as wanted, or, where nothing is wanted, those that
/// are `ours` end. Group and port of both are what the first one that started had, so where one is
/// wrong both start anew.
#[must_use]
pub fn plan_sync(wanted: Option<&SyncSettings>, found: &SyncDaemons, ours: bool) -> Vec<SyncStep> {
    let stop = |roles: &SyncDaemons| roles.keys().map(|&role| SyncStep::Stop(role)).collect();
    let Some(wanted) = wanted else {
        return if ours { stop(found) } else { Vec::new() };
    };
    let right = |is: &SyncSettings| {
        // What the kernel chose itself is told as a number.
        let max_len = wanted.max_len.and(is.max_len);
        SyncSettings { max_len, ..is.clone() } == *wanted
    };
    let all_right = found.values().all(right);
    let mut steps: Vec<SyncStep> = if all_right { Vec::new() } else { stop(found) };
    for role in SyncRole::ALL {
        if !all_right || !found.contains_key(&role) {
            steps.push(SyncStep::Start(role, wanted.clone()));
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(device: &str, max_len: Option<u16>) -> SyncSettings {
        let group = "224.0.0.81".parse().unwrap();
        SyncSettings { device: device.parse().unwrap(), id: 1, group, port: 8848, ttl: 1, max_len }
    }

    fn found(of: &[(SyncRole, &SyncSettings)]) -> SyncDaemons {
        of.iter().map(|(role, settings)| (*role, (*settings).clone())).collect()
    }

    #[test]
    fn both_daemons_run_on_every_director() {
        use SyncRole::{Backup, Master};
        let want = settings("eth1", None);
        let start = |role| SyncStep::Start(role, want.clone());
        let none = SyncDaemons::new();
        assert_eq!(plan_sync(Some(&want), &none, false), [start(Master), start(Backup)]);
        let half = found(&[(Master, &want)]);
        assert_eq!(plan_sync(Some(&want), &half, true), [start(Backup)]);
        let whole = found(&[(Master, &want), (Backup, &want)]);
        assert_eq!(plan_sync(Some(&want), &whole, false), []);
    }

    #[test]
    fn daemons_with_other_settings_start_anew_together() {
        use SyncRole::{Backup, Master};
        use SyncStep::{Start, Stop};
        let (want, old) = (settings("eth1", None), settings("eth0", None));
        let mixed = found(&[(Master, &want), (Backup, &old)]);
        let anew = [Stop(Master), Stop(Backup), Start(Master, want.clone()), Start(Backup, want)];
        assert_eq!(plan_sync(Some(&settings("eth1", None)), &mixed, false), anew);
    }

    /// Where no length is wanted the kernel chooses one, and tells it.
    #[test]
    fn a_length_that_the_kernel_chose_is_no_difference() {
        let of_mtu = settings("eth1", Some(1_460));
        let both = found(&[(SyncRole::Master, &of_mtu), (SyncRole::Backup, &of_mtu)]);
        assert_eq!(plan_sync(Some(&settings("eth1", None)), &both, true), []);
        assert_eq!(plan_sync(Some(&settings("eth1", Some(1_000))), &both, true).len(), 4);
    }

    #[test]
    fn what_is_wanted_no_longer_ends_if_it_is_ours() {
        let own = settings("eth1", None);
        let running = found(&[(SyncRole::Master, &own)]);
        assert_eq!(plan_sync(None, &running, true), [SyncStep::Stop(SyncRole::Master)]);
        assert_eq!(plan_sync(None, &running, false), []);
    }
}
