//! `quorated release`: what a dead daemon held is free at once, and not when its lease is over
//! (design §3). The unit runs it after each daemon (ExecStopPost).
//!
//! In this order: a fresh fence, closed, over the old one; the addresses away; the voters told. What
//! is told frees promises, so it is never told beside a daemon that lives and renews them: the data
//! directory's lock says so. It never tells what it could not close. Tests: `raft/tests/release.rs`,
//! `reconcile/tests/release.rs`,
//! tests/tests/lab_host_release.rs.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use quorate_api::convert::cluster_id_bytes;
use quorate_api::peer::v1 as peer;
use quorate_dataplane::fence::FenceError;
use quorate_dataplane::linux::Linux;
use quorate_dataplane::{Dataplane, DataplaneError};
use quorate_model::id::{NodeId, Role};
use quorate_model::membership::Membership;
use quorate_model::state::ClusterState;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::clock;
use crate::config::NodeConfig;
use crate::host::{HostLock, HostLockError};
use crate::identity::Identity;
use crate::identity::file::{self, IdentityFileError};
use crate::peer::channel::{Channels, Purpose, with_causes};
use crate::peer::directory::PeerDirectory;
use crate::peer::tls;
use crate::raft::status::RaftStatus;
use crate::raft::store::lock::{DataDirectory, LockError};
use crate::reconcile::{
    LeftOverError, ListError, listed_addresses, recall, remove_routing, standing,
};
use holding::Holding;
pub use holding::HoldingError;

pub(crate) mod holding;

/// How long telling the voters may take in all: later the promises are nearly over anyway.
const TELL_LIMIT: Duration = Duration::from_millis(200);

/// Why a dead daemon's groups were not released. They are free when their leases are over.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// A daemon lives, or the data directory can't be used.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Another director runs in this network namespace.
    #[error(transparent)]
    Host(#[from] HostLockError),
    /// What was held can't be read.
    #[error(transparent)]
    Holding(#[from] HoldingError),
    /// The identity can't be read.
    #[error(transparent)]
    Identity(#[from] IdentityFileError),
    /// The list of VIPs can't be read or written.
    #[error(transparent)]
    List(#[from] ListError),
    /// What may stand can't be told.
    #[error(transparent)]
    LeftOver(#[from] LeftOverError),
    /// The kernel can't be used or looked at.
    #[error(transparent)]
    Kernel(#[from] DataplaneError),
    /// No fence could be closed.
    #[error("the VIPs can't be closed, so nobody is told: {0}")]
    Fence(#[from] FenceError),
    /// An address stays.
    #[error("a VIP can't be removed, so nobody is told: {0}")]
    Stays(DataplaneError),
    /// The identity can't be used.
    #[error("the identity's key or certificate can't be used: {0}")]
    Tls(#[from] rustls::Error),
    /// The system refuses files, threads or a runtime.
    #[error("a dead daemon's groups can't be released: {0}")]
    System(#[from] io::Error),
}

/// Closes what a dead daemon had open, and tells the voters that its groups are free. Where there is
/// nothing to do it says nothing.
///
/// # Errors
///
/// If a daemon lives, or it can't be closed: then nobody is told.
pub fn release(config: &NodeConfig) -> Result<(), ReleaseError> {
    let Some(directory) = DataDirectory::lock_existing(&config.data_dir)? else { return Ok(()) };
    let data_dir = directory.path();
    let held = Holding::load(data_dir)?.filter(|holding| !holding.leases.is_empty());
    // Also where node.toml says witness by now: what it was as a director may be open.
    if config.role == Role::Director || held.is_some() || !listed_addresses(data_dir)?.is_empty() {
        let _host = HostLock::take()?;
        close(&mut Linux::new()?, data_dir, held.as_ref())?;
    }
    if let Some(holding) = held {
        // A holding of the cluster that this node was in before frees nothing in this one.
        if let Some(identity) = file::load(data_dir)?.filter(|i| holding.is_of(i)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(tell(identity, &holding, TELL_LIMIT))?;
        }
        holding::clear(data_dir)?;
    }
    directory.give_back()?;
    Ok(())
}

/// Closes every address that a daemon of this node may have opened, and removes it. Each was on the
/// durable list before it was in the kernel, so none of a group that is released can be missing. The list
/// stays: the next daemon begins with a fence around the same addresses, since what this one forwarded
/// (the replies of NAT) must not leave meanwhile.
pub(crate) fn close(
    dataplane: &mut dyn Dataplane,
    data_dir: &Path,
    held: Option<&Holding>,
) -> Result<(), ReleaseError> {
    let listed = recall(dataplane, data_dir)?;
    let standing = standing(dataplane, &listed)?;
    if standing.is_empty() && held.is_none() {
        return give_up_routing(dataplane, data_dir);
    }
    let mut vips: BTreeSet<IpAddr> = listed.iter().map(|vip| vip.net.addr()).collect();
    vips.extend(held.iter().flat_map(|holding| &holding.addresses));
    // It goes over the old one, which may be open, and stays when this process ends.
    dataplane.arm_fence(&vips.into_iter().collect::<Vec<_>>())?;
    give_up_routing(dataplane, data_dir)?;
    for address in standing {
        dataplane.remove_address(&address).map_err(ReleaseError::Stays)?;
        info!(device = %address.device, address = %address.net, "a dead daemon's VIP closed");
    }
    Ok(())
}

/// Removes the routes and policy rules of a dead daemon. One that stays keeps nobody from being told: it is no address
/// that two could answer for, and the next daemon tries again.
fn give_up_routing(dataplane: &mut dyn Dataplane, data_dir: &Path) -> Result<(), ReleaseError> {
    let (_, stay) = remove_routing(dataplane, data_dir)?;
    for (_, error) in stay {
        warn!(%error, "a dead daemon's route or rule stays");
    }
    Ok(())
}

/// Tells every voter, all at the same time, over every link.
///
/// A holding may be out of date: a voter drops a promise of that epoch alone, no daemon of this node
/// ever renews it again, and the addresses are closed. So it frees what nobody relies on.
///
/// # Errors
///
/// If the identity can't be used. A voter that is not reached is no error: the rest may be enough.
pub(crate) async fn tell(
    identity: Identity,
    holding: &Holding,
    limit: Duration,
) -> Result<(), rustls::Error> {
    let identity = Arc::new(identity);
    let nodes = holding.voters.clone();
    let membership = Membership { configs: vec![nodes.keys().copied().collect()], nodes };
    let status = RaftStatus { membership: Arc::new(membership), ..RaftStatus::default() };
    // The senders may go: what they said last stays.
    let (_, status) = watch::channel(Arc::new(status));
    let (_, state) = watch::channel(Arc::<ClusterState>::default());
    let directory = PeerDirectory::new(Arc::clone(&identity), state, status);
    let channels = Channels::new(directory.clone(), tls::client(&identity, directory)?, None);
    let report = holding.last_report(clock::now());
    let others = holding.voters.keys().filter(|&&voter| voter != identity.node_id);
    let mut telling: FuturesUnordered<_> = others
        .map(|&voter| {
            let request = peer::ReleaseRequest {
                route: Some(peer::Route {
                    cluster_id: cluster_id_bytes(identity.cluster_id),
                    to: voter.0,
                    from: identity.node_id.0,
                }),
                released: Some(holding.released()),
                report: Some(report.clone()),
            };
            tell_one(&channels, voter, request)
        })
        .collect();
    let mut told = 0_usize;
    let all = async {
        while let Some((voter, answer)) = telling.next().await {
            match answer {
                Ok(()) => told += 1,
                Err(cause) => warn!(node = %voter, %cause, "a voter was not told of the release"),
            }
        }
    };
    if tokio::time::timeout(limit, all).await.is_err() {
        warn!("not every voter was told of the release within {limit:?}");
    }
    let groups: Vec<String> = holding.leases.keys().map(ToString::to_string).collect();
    info!(groups = groups.join(", "), told, "released what a dead daemon held");
    Ok(())
}

/// Over every link at once: whichever answers first. A voter may hear it twice.
async fn tell_one(
    channels: &Channels,
    voter: NodeId,
    request: peer::ReleaseRequest,
) -> (NodeId, Result<(), String>) {
    let lanes = channels.lanes(voter, Purpose::Calls);
    let mut asking: FuturesUnordered<_> = lanes
        .iter()
        .map(|lane| {
            let (mut client, request) = (crate::peer::network::client(lane), request.clone());
            async move { client.release(request).await }
        })
        .collect();
    let mut failure = "no link of it is known".to_owned();
    while let Some(answer) = asking.next().await {
        match answer {
            Ok(_) => return (voter, Ok(())),
            Err(status) => failure = with_causes(&status),
        }
    }
    (voter, Err(failure))
}
