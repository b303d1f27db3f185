//! What nodes tell each other outside Raft. Each message may be lost, late, or arrive twice.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::id::{Epoch, GroupName, Incarnation, LogIndex, Round};
use crate::reach::Reach;

/// A datagram between two nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// An owner asks a voter to support its leases.
    Renew(Renew),
    /// The voter's answer.
    RenewReply(RenewReply),
    /// A former owner serves these groups no more: its promises may be dropped.
    Released(BTreeMap<GroupName, Epoch>),
    /// What a node knows and can do, told to every node each renewal interval.
    Report(Report),
}

/// An owner asks a voter to support its leases, all groups in one message.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Renew {
    /// This start of the owner's daemon.
    pub incarnation: Incarnation,
    /// Which sending this is.
    pub round: Round,
    /// The log index of the membership that the owner goes by.
    pub membership: LogIndex,
    /// How long the lease runs from the sending (L).
    pub lease: Duration,
    /// The groups.
    pub groups: BTreeMap<GroupName, RenewGroup>,
}

/// One group of a renewal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RenewGroup {
    /// The owner's grant.
    pub epoch: Epoch,
    /// What the lease covers: addresses, not the group's name.
    pub addresses: BTreeSet<IpAddr>,
    /// Whether the owner's lease runs.
    pub holding: bool,
}

/// A voter's answer to a renewal; groups that wait for the disk are answered later.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RenewReply {
    /// The asker's incarnation, repeated.
    pub incarnation: Incarnation,
    /// The round, repeated.
    pub round: Round,
    /// The answer for each group, with the epoch it was asked for.
    pub results: BTreeMap<GroupName, (Epoch, RenewResult)>,
}

/// A voter's answer for one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RenewResult {
    /// Promised.
    Ack,
    /// Not promised.
    Refused(Refusal),
}

/// Why a voter does not promise (design §3, rules 1 to 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The voter started so short ago that promises it forgot may still be alive.
    Quarantine {
        /// How long it will still refuse.
        remaining: Duration,
    },
    /// The owner goes by an older membership than the voter, or by one not yet applied here.
    Membership,
    /// The voter knows a later epoch.
    Superseded,
    /// A promise to another node is alive.
    Held {
        /// How long it still is.
        remaining: Duration,
    },
}

/// What a node knows and can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// This start of the node's daemon.
    pub incarnation: Incarnation,
    /// Rises with each report and from one daemon of a node to the next, while the machine is up,
    /// so that a late report can be told.
    pub sequence: u64,
    /// What it heard of each group's owner.
    pub heard: BTreeMap<GroupName, Heard>,
    /// What keeps it from owning each group that it knows; nothing, where the set is empty. A
    /// group without an entry is one that it has not heard of yet.
    pub obstacles: BTreeMap<GroupName, BTreeSet<Obstacle>>,
    /// How many real servers of each group it sees. Only what stands in `obstacles` too is told.
    pub reach: BTreeMap<GroupName, Reach>,
    /// Whether it has not listened long enough to the connections of the others: no group returns to it
    /// by itself.
    pub cold: bool,
}

/// What a voter heard of a group's owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// The epoch that it listens for: the latest grant that it applied.
    pub epoch: Epoch,
    /// Since when no renewal of that epoch came, counted from the grant if none ever did.
    pub silent: Duration,
    /// For how long the owner has said that its lease does not run though no other promise
    /// stands in the way here; `None` if its lease runs.
    pub deaf: Option<Duration>,
}

impl Heard {
    /// Whether the owner has been silent for so long.
    #[must_use]
    pub fn is_silent(&self, suspicion: Duration) -> bool {
        self.silent >= suspicion
    }

    /// Whether the owner has been deaf for so long.
    #[must_use]
    pub fn is_deaf(&self, suspicion: Duration) -> bool {
        self.deaf.is_some_and(|time| time >= suspicion)
    }
}

/// What keeps a director from owning a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Obstacle {
    /// The daemon lacks CAP_NET_ADMIN.
    NoNetAdmin,
    /// The kernel has no ip_vs and the group carries services.
    NoIpvs,
    /// `node.toml` maps no device to the group's interface.
    InterfaceUnknown,
    /// The device does not exist.
    DeviceMissing,
    /// The device is down or has no carrier.
    DeviceDown,
    /// The kernel does not carry the group's services as configured.
    NotProgrammed,
    /// The kernel refused one of the group's addresses.
    AddressRefused,
    /// The daemon has just started and has not looked at its kernel yet.
    Starting,
    /// The daemon is stopping.
    Stopping,
    /// The fence does not stand on every device, so nothing would close a VIP.
    FenceNotArmed,
    /// None of the group's arbitration addresses answers.
    ArbitrationFailed,
    /// One of the group's tracks fails.
    TrackFailed,
    /// Another host has one of the group's addresses, which no member has held yet.
    AddressInUse,
    /// The disk of the data directory is full, so a grant can't be taken in. Who owns a group already
    /// keeps it: that needs no disk.
    DiskFull,
}

impl Obstacle {
    /// The obstacles that count only while another director, fit otherwise, does not have them,
    /// the weightiest first: better a group with some services than one without an owner, and
    /// where nobody reaches the gateway, nothing is gained by a move (design §3, placement).
    pub const SOFT: [Self; 3] =
        [Self::AddressRefused, Self::NotProgrammed, Self::ArbitrationFailed];

    /// Whether a director with this obstacle may own the group where none has fewer.
    #[must_use]
    pub fn is_soft(self) -> bool {
        Self::SOFT.contains(&self)
    }
}

impl std::fmt::Display for Obstacle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::NoNetAdmin => "no CAP_NET_ADMIN",
            Self::NoIpvs => "the kernel has no ip_vs",
            Self::InterfaceUnknown => "node.toml maps no device to the interface",
            Self::DeviceMissing => "the device does not exist",
            Self::DeviceDown => "the device is down",
            Self::NotProgrammed => "services are not programmed",
            Self::AddressRefused => "the kernel refused an address",
            Self::Starting => "just started",
            Self::Stopping => "stopping",
            Self::FenceNotArmed => "the fence is not armed",
            Self::ArbitrationFailed => "it reaches no arbitration address",
            Self::TrackFailed => "a track fails",
            Self::AddressInUse => "another host has one of its addresses",
            Self::DiskFull => "its disk is full",
        })
    }
}
