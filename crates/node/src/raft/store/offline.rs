//! A member's store without a running Raft: read as a whole, and made anew as a whole. Only
//! `quorated recover` does that, with the daemon stopped. Tests: `raft/tests/recover.rs`.

use std::path::Path;
use std::sync::Arc;

use prost::Message as _;
use quorate_api::convert::Promises;
use quorate_api::peer::v1 as peer;
use quorate_model::state::ClusterState;
use quorate_model::time::Timing;

use super::database::{Changes, Name};
use super::lock::DataDirectory;
use super::snapshots::Snapshots;
use super::{Store, StoreError, damaged, log, open_database, owner};
use crate::identity::Identity;
use crate::raft::machine::Applied;
use crate::raft::reader::Reader;
use crate::raft::types::{LogId, SnapshotMeta, Vote};
use crate::raft::wire;

/// What a member's store holds.
#[derive(Debug)]
pub(crate) struct Stored {
    /// The snapshot, and every entry of the log after it.
    pub(crate) applied: Applied,
    /// The last entry of which this node knows that it was committed.
    pub(crate) committed: Option<LogId>,
    /// Raft's vote.
    pub(crate) vote: Option<Vote>,
    /// The voter's memory.
    pub(crate) promises: Promises,
}

/// Reads the store of a member; nothing is changed but what opening a database changes.
///
/// # Errors
///
/// If it is another node's, empty or damaged.
pub(crate) fn read(directory: &DataDirectory, identity: &Identity) -> Result<Stored, StoreError> {
    let path = directory.path();
    let database = open_database(path)?;
    Store::check_owner(&database, path, identity)?;
    let wrong = |cause: std::io::Error| damaged(path, &cause);
    let (mut applied, reader) = (Applied::default(), Reader::default());
    if let Some(snapshot) = Snapshots::open(&path.join("snapshots")).map_err(wrong)?.current() {
        applied = Applied::from_snapshot(&snapshot.meta, &snapshot.snapshot).map_err(wrong)?;
    }
    let purged = log::read_id(&database, Name::Purged).map_err(wrong)?;
    let next = applied.last.map_or(0, |id| id.index.saturating_add(1));
    let missing = || StoreError::Damaged {
        path: path.to_owned(),
        cause: format!("entry {next} of the log is neither in the snapshot nor in the log"),
    };
    if purged.is_some_and(|purged| purged.index >= next) {
        return Err(missing());
    }
    let entries = log::read_entries(&database, next..).map_err(wrong)?;
    if entries.first().is_some_and(|entry| entry.log_id.index != next) {
        return Err(missing());
    }
    for entry in entries {
        applied.apply(entry.log_id, entry.payload, &reader).map_err(|error| {
            StoreError::Damaged { path: path.to_owned(), cause: error.to_string() }
        })?;
    }
    let promises = super::read_promises(&database).and_then(|stored| match stored {
        Some(stored) => stored.try_into(),
        None => Ok(Promises::default()),
    });
    let promises = promises
        .map_err(|error| StoreError::Damaged { path: path.to_owned(), cause: error.to_string() })?;
    Ok(Stored {
        applied,
        committed: log::read_id(&database, Name::Committed).map_err(wrong)?,
        vote: log::read_vote(&database).map_err(wrong)?,
        promises,
    })
}

/// What a store is made of.
#[derive(Debug)]
pub(crate) struct Fresh<'a> {
    /// Whose store it is.
    pub(crate) identity: &'a Identity,
    /// What the log begins after.
    pub(crate) meta: SnapshotMeta,
    /// The state as of there.
    pub(crate) state: &'a ClusterState,
    /// Raft's vote: not below the term of what the log begins after.
    pub(crate) vote: Vote,
    /// The voter's memory.
    pub(crate) promises: &'a Promises,
    /// The timing in force.
    pub(crate) timing: Timing,
}

/// Makes a store in an empty directory; it is on disk when this returns.
///
/// # Errors
///
/// If the file system refuses.
pub(crate) fn write(path: &Path, fresh: &Fresh<'_>) -> Result<(), StoreError> {
    let refused = |cause| StoreError::Io { path: path.to_owned(), cause };
    let snapshots = Snapshots::open(&path.join("snapshots")).map_err(refused)?;
    let data = peer::State::from(fresh.state).encode_to_vec();
    snapshots.write(fresh.meta.clone(), Arc::new(data)).map_err(refused)?;
    let database = open_database(path)?;
    let fill = || {
        let mut changes = Changes::default();
        changes.put(Name::Owner, &owner(fresh.identity))?;
        changes.put(Name::Vote, &wire::stored_vote(&fresh.vote).encode_to_vec())?;
        if let Some(last) = &fresh.meta.last_log_id {
            changes.put(Name::Purged, &wire::log_id(last).encode_to_vec())?;
            changes.put(Name::Committed, &wire::log_id(last).encode_to_vec())?;
        }
        let promises = peer::StoredPromises::from(fresh.promises);
        changes.put(Name::Promises, &promises.encode_to_vec())?;
        changes.put(Name::Timing, &peer::Timing::from(fresh.timing).encode_to_vec())?;
        database.apply(changes)?;
        database.sync()
    };
    fill().map_err(refused)
}
