//! What a daemon holds, in a file: `DATA_DIR/holding`, for `quorated release` when it is dead.
//!
//! Written by rename, so it is whole; not synced, since it counts only as long as the machine is up:
//! after a boot nothing is open. It may lag behind what is held: see [`super::tell`], and
//! [`super::close`], which takes the durable list of VIPs too: that never lags.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use prost::Message as _;
use quorate_api::convert::{
    self, DecodeError, FORMAT, address, address_bytes, check_format, cluster_id_bytes, decode,
};
use quorate_api::peer::v1 as peer;
use quorate_api::peer::v1::fitness::Obstacle;
use quorate_model::command::NodeDescription;
use quorate_model::id::{Epoch, GroupName, Incarnation, NodeId};
use quorate_model::state::ClusterState;
use quorate_model::time::Instant;
use tokio::sync::watch;
use tracing::warn;

use crate::identity::Identity;
use crate::raft::status::RaftStatus;

/// More than any number of groups and nodes needs.
const BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The groups that a daemon renews, and their epochs.
pub(crate) type Leases = BTreeMap<GroupName, Epoch>;

/// Who holds something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Holder {
    /// The cluster.
    pub(crate) cluster_id: u128,
    /// This node in it.
    pub(crate) me: NodeId,
    /// This start of its daemon.
    pub(crate) incarnation: Incarnation,
}

/// What a daemon holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holding {
    /// Who does.
    pub(crate) holder: Holder,
    /// Whom to tell, with their links and pinned keys.
    pub(crate) voters: BTreeMap<NodeId, NodeDescription>,
    /// What.
    pub(crate) leases: Leases,
    /// The addresses of these groups.
    pub(crate) addresses: BTreeSet<IpAddr>,
}

/// Why a holding can't be read.
#[derive(Debug, thiserror::Error)]
pub enum HoldingError {
    /// The file system refused.
    #[error("{path}: {cause}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// There is something else in it.
    #[error(
        "{path} can't be read: {cause}; remove it: what was held is free when its lease is over"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: DecodeError,
    },
}

fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("holding")
}

/// Nothing is held any more.
///
/// # Errors
///
/// If the file system refuses.
pub(crate) fn clear(data_dir: &Path) -> io::Result<()> {
    match fs::remove_file(path(data_dir)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Keeps what is held in the file, for as long as the director loop runs. It may lag behind: nothing
/// waits for it.
pub(crate) async fn keep(
    data_dir: PathBuf,
    holder: Holder,
    mut leases: watch::Receiver<Leases>,
    mut raft: watch::Receiver<Arc<RaftStatus>>,
    mut state: watch::Receiver<Arc<ClusterState>>,
) {
    let mut written: Option<Holding> = None;
    loop {
        let membership = Arc::clone(&raft.borrow_and_update().membership);
        let known = |voter: &NodeId| Some((*voter, membership.nodes.get(voter)?.clone()));
        let leases_now = leases.borrow_and_update().clone();
        let spec = Arc::clone(&state.borrow_and_update().spec);
        let groups = leases_now.keys().filter_map(|group| spec.groups.get(group));
        let addresses = groups.flat_map(|group| group.addresses.iter().map(|vip| vip.net.addr()));
        let holding = Holding {
            holder,
            voters: membership.voters().iter().filter_map(known).collect(),
            addresses: addresses.collect(),
            leases: leases_now,
        };
        if written.as_ref() != Some(&holding) {
            let (writing, place) = (holding.clone(), data_dir.clone());
            let saved = tokio::task::spawn_blocking(move || writing.save(&place)).await;
            match saved.map_err(io::Error::other).and_then(|saved| saved) {
                Ok(()) => written = Some(holding),
                Err(cause) => {
                    warn!(%cause, "what is held can't be kept: if this daemon dies, its leases run out");
                    written = None;
                }
            }
        }
        let goes_on = tokio::select! {
            changed = leases.changed() => changed.is_ok(),
            changed = raft.changed() => changed.is_ok(),
            changed = state.changed() => changed.is_ok(),
        };
        if !goes_on {
            return;
        }
    }
}

impl Holding {
    /// Reads what was held; `None`: nothing ever was.
    ///
    /// # Errors
    ///
    /// If there is a file, and it can't be read.
    pub(crate) fn load(data_dir: &Path) -> Result<Option<Self>, HoldingError> {
        let path = path(data_dir);
        let mut bytes = Vec::new();
        let read =
            fs::File::open(&path).and_then(|file| file.take(BYTES_MAX).read_to_end(&mut bytes));
        match read {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(HoldingError::Io { path, cause }),
            Ok(_) => {}
        }
        let stored: Result<peer::StoredHolding, _> = decode("StoredHolding", &bytes);
        match stored.and_then(Self::try_from) {
            Ok(holding) => Ok(Some(holding)),
            Err(cause) => Err(HoldingError::Damaged { path, cause }),
        }
    }

    /// Writes it in place of what was held before.
    ///
    /// # Errors
    ///
    /// If the file system refuses.
    pub(crate) fn save(&self, data_dir: &Path) -> io::Result<()> {
        let path = path(data_dir);
        let temporary = path.with_extension("new");
        let options = &mut OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(&peer::StoredHolding::from(self).encode_to_vec())?;
        fs::rename(&temporary, &path)
    }

    /// Whether it was held by this node in this cluster.
    pub(crate) fn is_of(&self, identity: &Identity) -> bool {
        (self.holder.cluster_id, self.holder.me) == (identity.cluster_id, identity.node_id)
    }

    /// What frees the promises.
    pub(crate) fn released(&self) -> peer::Released {
        let group = |(group, epoch): (&GroupName, &Epoch)| peer::ReleasedGroup {
            group: group.to_string(),
            epoch: epoch.0,
        };
        peer::Released { groups: self.leases.iter().map(group).collect() }
    }

    /// The last report of the dead daemon: it is stopping. Its number is above those that it sent, and
    /// below those of the next daemon, as theirs are numbered by the same clock.
    pub(crate) fn last_report(&self, now: Instant) -> peer::Report {
        let fitness = |group: &GroupName| peer::Fitness {
            group: group.to_string(),
            obstacles: vec![Obstacle::Stopping.into()],
            reach: None,
        };
        peer::Report {
            incarnation: self.holder.incarnation.0,
            sequence: now.0,
            fitness: self.leases.keys().map(fitness).collect(),
            ..peer::Report::default()
        }
    }
}

impl From<&Holding> for peer::StoredHolding {
    fn from(holding: &Holding) -> Self {
        let voter = |(id, node): (&NodeId, &NodeDescription)| peer::MembershipNode {
            id: id.0,
            node: Some(node.into()),
        };
        let lease = |(group, epoch): (&GroupName, &Epoch)| peer::HeldLease {
            group: group.to_string(),
            epoch: epoch.0,
        };
        Self {
            format: FORMAT,
            cluster_id: cluster_id_bytes(holding.holder.cluster_id),
            node_id: holding.holder.me.0,
            incarnation: holding.holder.incarnation.0,
            voters: holding.voters.iter().map(voter).collect(),
            leases: holding.leases.iter().map(lease).collect(),
            addresses: holding.addresses.iter().map(address_bytes).collect(),
        }
    }
}

impl TryFrom<peer::StoredHolding> for Holding {
    type Error = DecodeError;

    fn try_from(stored: peer::StoredHolding) -> Result<Self, DecodeError> {
        check_format("StoredHolding", stored.format)?;
        let voter = |member: peer::MembershipNode| {
            let node = member.node.ok_or(DecodeError::Missing("MembershipNode.node"))?;
            Ok((NodeId(member.id), node.try_into()?))
        };
        let lease = |lease: peer::HeldLease| {
            let group = lease.group.parse();
            let name = |cause| DecodeError::Name { field: "HeldLease.group", cause };
            Ok((group.map_err(name)?, Epoch(lease.epoch)))
        };
        Ok(Self {
            holder: Holder {
                cluster_id: convert::cluster_id(&stored.cluster_id)?,
                me: NodeId(stored.node_id),
                incarnation: Incarnation(stored.incarnation),
            },
            voters: stored.voters.into_iter().map(voter).collect::<Result<_, DecodeError>>()?,
            leases: stored.leases.into_iter().map(lease).collect::<Result<_, DecodeError>>()?,
            addresses: stored
                .addresses
                .iter()
                .map(|bytes| address(bytes))
                .collect::<Result<_, DecodeError>>()?,
        })
    }
}
