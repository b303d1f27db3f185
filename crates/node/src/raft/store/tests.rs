//! openraft's own suite, and what it does not ask: durability, sizes, wiped and foreign stores.

use std::fs;
use std::path::Path;

use openraft::storage::{RaftLogStorage as _, RaftLogStorageExt as _};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{EntryPayload, RaftLogReader as _, StorageError};
use quorate_api::peer::v1::StoredPromises;
use quorate_model::command::{Command, Configure, LinkAddress, RequestId, UnixMillis};
use quorate_model::id::{NodeId, Role};
use quorate_model::spec::Format;
use quorate_model::time::Timing;
use tempfile::TempDir;

use super::lock::{DataDirectory, LockError};
use super::log::LogStore;
use super::{Store, StoreError};
use crate::identity::{Identity, NodeProfile, found};
use crate::raft::machine::StateMachine;
use crate::raft::types::{Entry, LeaderId, LogId, TypeConfig, Vote};

mod crash;

fn identity() -> Identity {
    let profile = NodeProfile {
        name: "lb1".parse().unwrap(),
        role: Role::Director,
        links: vec![LinkAddress {
            name: "lan".to_owned(),
            listen: "127.0.0.1:7400".parse().unwrap(),
        }],
    };
    found("prod", Timing::LAN, &profile).unwrap().0
}

fn create(path: &Path, identity: &Identity) -> Store {
    Store::create(DataDirectory::lock(path).unwrap(), identity, None).unwrap()
}

fn open(path: &Path, identity: &Identity) -> Result<Store, StoreError> {
    Store::open(DataDirectory::lock(path)?, identity)
}

fn log_id(index: u64) -> LogId {
    LogId::new(LeaderId { term: 1, node_id: 1 }, index)
}

fn leave(index: u64) -> Entry {
    Entry { log_id: log_id(index), payload: EntryPayload::Normal(Command::Leave(NodeId(index))) }
}

fn sized(index: u64, bytes: usize) -> Entry {
    let configure = Configure {
        request: RequestId(index.into()),
        author: String::new(),
        at: UnixMillis(0),
        expected: None,
        source: "abcdefghijklmnopqrstuvwxyz".chars().cycle().take(bytes).collect(),
        format: Format::Toml,
        message: String::new(),
        confirm_until: None,
    };
    Entry { log_id: log_id(index), payload: EntryPayload::Normal(Command::Configure(configure)) }
}

fn blobs(data_dir: &Path) -> usize {
    fs::read_dir(data_dir.join("db").join("blobs")).unwrap().count()
}

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), StorageError<TypeConfig>> {
        let directory = tempfile::tempdir().unwrap();
        let store = create(directory.path(), &identity());
        let (machine, _) = StateMachine::new(&store);
        Ok((directory, LogStore::new(store).unwrap(), machine))
    }
}

#[tokio::test]
async fn the_store_is_what_openraft_expects() {
    Suite::test_all(Builder).await.unwrap();
}

#[tokio::test]
async fn log_vote_and_promises_survive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let identity = identity();
    let vote = Vote { leader_id: LeaderId { term: 3, node_id: 2 }, committed: true };
    {
        let store = create(directory.path(), &identity);
        let mut log = LogStore::new(store.clone()).unwrap();
        log.save_vote(&vote).await.unwrap();
        log.blocking_append((1..=3).map(leave)).await.unwrap();
        log.save_committed(Some(log_id(2))).await.unwrap();
        let promises = StoredPromises { format: 1, longest_ns: 5, floors: Vec::new() };
        store.persist_promises(&promises).wait().await.unwrap();
    }
    let store = open(directory.path(), &identity).unwrap();
    assert_eq!(store.promises().unwrap().unwrap().longest_ns, 5);
    let mut log = LogStore::new(store).unwrap();
    assert_eq!(log.read_vote().await.unwrap(), Some(vote));
    assert_eq!(log.read_committed().await.unwrap(), Some(log_id(2)));
    assert_eq!(log.try_get_log_entries(..).await.unwrap(), (1..=3).map(leave).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_large_entry_is_split_and_never_becomes_a_blob() {
    let directory = tempfile::tempdir().unwrap();
    let identity = identity();
    let entries: Vec<_> = (1..=8).map(|index| sized(index, 1_000_000)).collect();
    {
        let mut log = LogStore::new(create(directory.path(), &identity)).unwrap();
        log.blocking_append(entries.clone()).await.unwrap();
    }
    let mut log = LogStore::new(open(directory.path(), &identity).unwrap()).unwrap();
    assert_eq!(log.try_get_log_entries(2..=7).await.unwrap(), entries[1..7]);
    log.truncate_after(Some(log_id(4))).await.unwrap();
    assert_eq!(log.get_log_state().await.unwrap().last_log_id, Some(log_id(4)));
    assert_eq!(blobs(directory.path()), 0);
}

/// Leaves of sled's tree grow and merge while the log moves on; none may become a blob.
#[tokio::test]
async fn a_log_that_is_written_and_purged_for_long_makes_no_blobs() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = LogStore::new(create(directory.path(), &identity())).unwrap();
    for round in 0..60_u64 {
        let entries: Vec<_> = (1..=20)
            .map(|n| {
                sized(round * 20 + n, usize::try_from((round * 7 + n * 977) % 30_000).unwrap())
            })
            .collect();
        log.blocking_append(entries).await.unwrap();
        if round % 3 == 2 {
            log.purge(log_id(round * 20 - 30)).await.unwrap();
        }
    }
    let kept = log.try_get_log_entries(..).await.unwrap();
    assert_eq!(kept.last().map(|entry| entry.log_id.index), Some(1_200));
    assert_eq!(kept.len(), 1_200 - (59 * 20 - 30));
    assert_eq!(blobs(directory.path()), 0);
}

#[tokio::test]
async fn what_can_not_be_synced_is_not_acknowledged_and_ends_the_process() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = create(directory.path(), &identity());
    let broken = store.database.clone().with_broken_sync();
    store.writer = super::writer::Writer::start(broken, store.fatal_sender()).unwrap();
    let mut fatal = store.fatal();
    let mut log = LogStore::new(store.clone()).unwrap();
    assert!(log.blocking_append([leave(1)]).await.is_err());
    fatal.wait_for(Option::is_some).await.unwrap();
    let vote = Vote { leader_id: LeaderId { term: 1, node_id: 1 }, committed: false };
    assert!(log.save_vote(&vote).await.is_err());
    let promises = StoredPromises::default();
    assert!(store.persist_promises(&promises).wait().await.is_err());
}

#[test]
fn a_start_that_a_full_disk_cut_off_damages_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let identity = identity();
    drop(create(directory.path(), &identity));
    // What sled leaves where there was no room for a byte of it.
    fs::write(directory.path().join("db").join("snap.FFFFFFFFFFFFFFFF.generating"), "").unwrap();
    drop(open(directory.path(), &identity).unwrap());
}

#[tokio::test]
async fn promises_wait_until_there_is_room_on_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let store = create(directory.path(), &identity());
    let promises = StoredPromises { format: 1, longest_ns: 7, floors: Vec::new() };
    store.space().fill();
    let durable = store.persist_promises(&promises);
    // What is asked for later is on disk, and this is not.
    let mut log = LogStore::new(store.clone()).unwrap();
    let vote = Vote { leader_id: LeaderId { term: 1, node_id: 1 }, committed: false };
    log.save_vote(&vote).await.unwrap();
    assert_eq!(store.promises().unwrap(), None);
    let waiting = tokio::spawn(durable.wait());
    store.space().pretend(None);
    waiting.await.unwrap().unwrap();
    assert_eq!(store.promises().unwrap(), Some(promises));
}

#[tokio::test]
async fn a_purge_that_a_crash_cut_off_is_finished_at_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let identity = identity();
    {
        let store = create(directory.path(), &identity);
        let mut log = LogStore::new(store.clone()).unwrap();
        log.blocking_append((1..=5).map(leave)).await.unwrap();
        let mark = crate::raft::wire::log_id(&log_id(3));
        let bytes = prost::Message::encode_to_vec(&mark);
        store.database.put(super::database::Name::Purged, &bytes).unwrap();
    }
    let mut log = LogStore::new(open(directory.path(), &identity).unwrap()).unwrap();
    assert_eq!(log.try_get_log_entries(..).await.unwrap(), vec![leave(4), leave(5)]);
}

#[test]
fn a_second_daemon_is_told_who_has_the_directory() {
    let directory = tempfile::tempdir().unwrap();
    let _held = DataDirectory::lock(directory.path()).unwrap();
    let error = DataDirectory::lock(directory.path()).unwrap_err();
    assert!(
        matches!(&error, LockError::Held { holder, .. }
        if *holder == format!("pid {}", std::process::id())),
        "{error}"
    );
}

#[test]
fn an_emptied_database_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let identity = identity();
    drop(create(directory.path(), &identity));
    assert!(open(directory.path(), &identity).is_ok());
    fs::remove_dir_all(directory.path().join("db")).unwrap();
    let error = open(directory.path(), &identity).unwrap_err();
    assert!(matches!(error, StoreError::Emptied { .. }), "{error}");
}

#[test]
fn another_nodes_database_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mine = identity();
    drop(create(directory.path(), &mine));
    let other = Identity { node_id: NodeId(2), ..mine };
    let error = open(directory.path(), &other).unwrap_err();
    assert!(matches!(error, StoreError::Foreign { .. }), "{error}");
}

#[tokio::test]
async fn a_used_database_is_never_taken_for_a_new_one() {
    let directory = tempfile::tempdir().unwrap();
    let identity = identity();
    // One that was made and never used may be made again: its node crashed while it joined.
    drop(create(directory.path(), &identity));
    {
        let mut log = LogStore::new(create(directory.path(), &identity)).unwrap();
        log.blocking_append([leave(1)]).await.unwrap();
    }
    let lock = DataDirectory::lock(directory.path()).unwrap();
    let error = Store::create(lock, &identity, None).unwrap_err();
    assert!(matches!(error, StoreError::Orphaned { .. }), "{error}");
}

#[test]
fn the_founding_command_waits_until_the_log_has_it() {
    let directory = tempfile::tempdir().unwrap();
    let identity = identity();
    let founding = Command::Forget(NodeId(9));
    let lock = DataDirectory::lock(directory.path()).unwrap();
    drop(Store::create(lock, &identity, Some(&founding)).unwrap());
    let store = open(directory.path(), &identity).unwrap();
    assert_eq!(store.founding(), Ok(Some(founding)));
    store.founded().unwrap();
    assert_eq!(store.founding(), Ok(None));
}
