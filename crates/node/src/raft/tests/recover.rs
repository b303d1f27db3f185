//! A lost cluster is recovered from one node's store: real stores, real Raft.

use std::fs;

use openraft::storage::RaftLogStorage as _;
use quorate_api::convert::Promises;
use quorate_model::command::{Command, Configure, Grant, GrantReason, RequestId, UnixMillis};
use quorate_model::id::{Epoch, GroupName, Incarnation, NodeId, Revision};
use quorate_model::spec::Format;
use quorate_model::state::{EPOCH_GAP, Reply};
use quorate_model::time::Timing;

use super::member::{Member, free_address, leader, profile, three};
use crate::config::NodeConfig;
use crate::identity::file;
use crate::raft::config::SNAPSHOT_EVERY;
use crate::raft::store::lock::{DataDirectory, LockError};
use crate::raft::store::log::LogStore;
use crate::raft::store::{Store, StoreError};
use crate::recover::{Confirmation, RecoverError, recover};

const SPEC: &str = "[group.web]\ninterface = \"public\"\naddresses = [\"192.0.2.1/32\"]\nprefer = [\"n1\", \"n3\"]\n";

fn config(member: &Member) -> NodeConfig {
    let text = format!(
        "name = \"{}\"\nrole = \"director\"\ndata_dir = \"{}\"\n[[link]]\nname = \"a\"\nlisten = \"{}\"\n",
        member.profile.name,
        member.directory.path().display(),
        free_address(),
    );
    crate::config::parse(&text).unwrap()
}

fn try_recover(member: &Member, phrase: &str) -> (Result<(), RecoverError>, String) {
    let mut said = Vec::new();
    let confirmation = Confirmation::Given(phrase.to_owned());
    let outcome = recover(&config(member), &confirmation, &mut said);
    (outcome, String::from_utf8(said).unwrap())
}

fn web() -> GroupName {
    "web".parse().unwrap()
}

fn grant(previous: Epoch, owner: NodeId) -> Command {
    Command::Grant {
        at: UnixMillis(0),
        grants: vec![Grant {
            group: web(),
            previous,
            owner,
            incarnation: Incarnation(1),
            reason: GrantReason::First,
        }],
    }
}

/// Three voters, revision 1, n1 owns `web`; everybody has all of it.
fn configured(snapshot_every: u64) -> Vec<Member> {
    let members = three(snapshot_every);
    let leader = leader(&members);
    let configure = Command::Configure(Configure {
        request: RequestId(1),
        author: "ops".to_owned(),
        at: UnixMillis(0),
        expected: None,
        source: SPEC.to_owned(),
        format: Format::Toml,
        message: String::new(),
        confirm_until: None,
    });
    let reply = leader.propose(configure);
    assert_eq!(reply, Reply::Configured { revision: Revision(1), changed: true });
    assert_eq!(leader.propose(grant(Epoch(0), members[0].id())), Reply::Granted(vec![web()]));
    leader.token();
    leader.add_client("ops");
    for member in &members {
        member.wait_client("ops");
    }
    members
}

fn cluster_id(member: &Member) -> u128 {
    file::load(member.directory.path()).unwrap().unwrap().cluster_id
}

fn promises(member: &Member) -> Promises {
    member.node().store().promises().unwrap().unwrap().try_into().unwrap()
}

#[test]
fn a_survivor_goes_on_alone_with_what_it_has_and_takes_new_nodes() {
    // With and without a snapshot below the log.
    for snapshot_every in [SNAPSHOT_EVERY, 4] {
        let mut members = configured(snapshot_every);
        let old = cluster_id(&members[2]);
        let before = members[2].handle().state().borrow().clone();
        let stored = Promises {
            longest: std::time::Duration::from_millis(1),
            floors: [(web(), Epoch(before.applied.0))].into(),
        };
        let durable = members[2].node().store().persist_promises(&(&stored).into());
        members[2].block_on(durable.wait()).unwrap();
        for member in &mut members {
            member.stop();
        }
        let (outcome, said) = try_recover(&members[2], "prod without 2 nodes");
        outcome.unwrap();
        for expected in ["Revision   1, applied by ops", "web: n1", "n1 (node 1", "1 open join"] {
            assert!(said.contains(expected), "{expected} in: {said}");
        }
        members[2].restart();
        let survivor = &members[2];
        survivor.wait_status("leading", |s| s.role == crate::raft::status::RaftRole::Leader);
        let state = survivor.handle().state().borrow().clone();
        assert_ne!(state.cluster_id, old);
        assert_eq!(state.cluster_id, cluster_id(survivor));
        assert_eq!(state.nodes.keys().copied().collect::<Vec<_>>(), [NodeId(3)]);
        assert_eq!((state.revision(), &state.spec), (Revision(1), &before.spec));
        assert_eq!(state.clients, before.clients);
        // No epoch of the lost cluster can be as high, and this voter still knows its own.
        assert_eq!(survivor.propose(grant(Epoch(0), NodeId(3))), Reply::Granted(vec![web()]));
        let epoch = survivor.handle().state().borrow().grants[&web()].epoch;
        assert!(epoch.0 > before.applied.0 + EPOCH_GAP, "{epoch}");
        let kept = promises(survivor);
        assert_eq!(kept.floors, stored.floors);
        assert_eq!(kept.longest, quorate_model::time::promise(Timing::LAN.lease()));
        // The names of the dropped are free; their numbers are not used again.
        let token = survivor.token();
        let joined = Member::joiner(&token, profile("n1"), snapshot_every).unwrap();
        survivor.wait_voters(2);
        assert_eq!(joined.id(), NodeId(4));
        survivor.add_client("after");
        joined.wait_client("after");
        // It starts again like any other.
        members[2].kill();
        members[2].restart();
        members[2].wait_voters(2);
        members[2].wait_client("after");
    }
}

#[test]
fn what_is_not_confirmed_to_the_letter_changes_nothing() {
    let mut members = configured(SNAPSHOT_EVERY);
    let old = cluster_id(&members[2]);
    members[2].stop();
    for phrase in ["", "yes", "prod", "prod without 1 node", "Prod without 2 nodes"] {
        let (outcome, said) = try_recover(&members[2], phrase);
        assert!(matches!(outcome, Err(RecoverError::NotConfirmed(_))), "{outcome:?}");
        assert!(said.contains("Dropped"), "what can be lost is said all the same: {said}");
    }
    members[2].restart();
    assert_eq!(cluster_id(&members[2]), old);
    members[2].wait_voters(3);
}

#[test]
fn nothing_is_recovered_beside_a_running_daemon_or_without_a_loss() {
    let mut founder = Member::founder("prod", "n1", SNAPSHOT_EVERY);
    founder.wait_state("its founding", |state| state.cluster_id != 0);
    let (outcome, said) = try_recover(&founder, "prod without 0 nodes");
    assert!(matches!(outcome, Err(RecoverError::Lock(LockError::Held { .. }))), "{outcome:?}");
    assert_eq!(said, "");
    founder.stop();
    let (outcome, _) = try_recover(&founder, "prod without 0 nodes");
    assert!(matches!(outcome, Err(RecoverError::Alone(_))), "{outcome:?}");
    founder.restart();
    founder.wait_voters(1);
}

#[test]
fn a_directory_without_a_member_is_not_made_one() {
    let member = Member::founder("prod", "n1", SNAPSHOT_EVERY);
    let mut config = config(&member);
    config.data_dir = member.directory.path().join("elsewhere");
    let outcome = recover(&config, &Confirmation::Given(String::new()), &mut Vec::new());
    assert!(matches!(outcome, Err(RecoverError::NoMember(_))), "{outcome:?}");
    assert!(!config.data_dir.exists());
}

/// Entries at the log's end may be committed although this node has not heard of it: they are taken.
#[test]
fn what_is_in_the_log_and_not_known_to_be_committed_is_taken_and_named() {
    let mut members = configured(SNAPSHOT_EVERY);
    for member in &mut members {
        member.stop();
    }
    let path = members[2].directory.path();
    let identity = file::load(path).unwrap().unwrap();
    {
        let store = Store::open(DataDirectory::lock(path).unwrap(), &identity).unwrap();
        let mut log = LogStore::new(store).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let first = openraft::storage::RaftLogStorageExt::blocking_append;
            let last = log.get_log_state().await.unwrap().last_log_id.unwrap();
            log.save_committed(Some(last)).await.unwrap();
            let command = Command::AddClient {
                name: "uncommitted".to_owned(),
                public_key: crate::identity::authority::sha256(b"uncommitted"),
            };
            let entry = crate::raft::types::Entry {
                log_id: crate::raft::types::LogId::new(last.leader_id, last.index + 1),
                payload: openraft::EntryPayload::Normal(command),
            };
            first(&mut log, [entry]).await.unwrap();
        });
    }
    let (outcome, said) = try_recover(&members[2], "prod without 2 nodes");
    outcome.unwrap();
    assert!(said.contains("the last 1 of them are not known to be committed"), "{said}");
    members[2].restart();
    members[2].wait_client("uncommitted");
}

/// Two of three that come back would be a quorum of the lost cluster, with the same VIPs.
#[test]
fn the_dead_that_return_are_told_and_end_for_good() {
    let mut members = configured(SNAPSHOT_EVERY);
    for member in &mut members {
        member.stop();
    }
    try_recover(&members[2], "prod without 2 nodes").0.unwrap();
    members[2].restart();
    members[2].wait_voters(1);
    for number in [0, 1] {
        members[number].restart();
        let mut fatal = members[number].node().fatal();
        let ended = async {
            let ended = fatal.wait_for(Option::is_some);
            tokio::time::timeout(super::member::LIMIT, ended).await.unwrap().unwrap().clone()
        };
        let why = members[number].block_on(ended).unwrap().to_string();
        assert!(why.contains("recovered without this node"), "{why}");
        members[number].stop();
        let path = members[number].directory.path();
        let identity = file::load(path).unwrap().unwrap();
        let error = Store::open(DataDirectory::lock(path).unwrap(), &identity).unwrap_err();
        assert!(matches!(error, StoreError::Abandoned { .. }), "{error}");
    }
    // Joined anew, it is a member like any other.
    let token = members[2].token();
    let again = Member::joiner(&token, members[0].profile.clone(), SNAPSHOT_EVERY).unwrap();
    members[2].wait_voters(2);
    assert_eq!(again.id(), NodeId(4));
}

#[test]
fn the_old_data_is_kept_and_the_lists_of_what_is_in_the_kernel_stay() {
    let mut members = configured(SNAPSHOT_EVERY);
    for member in &mut members {
        member.stop();
    }
    let path = members[2].directory.path();
    fs::write(path.join("vips"), "eth0 192.0.2.1/32\n").unwrap();
    let old = file::load(path).unwrap().unwrap();
    try_recover(&members[2], "prod without 2 nodes").0.unwrap();
    let kept = fs::read_dir(path).unwrap().map(|e| e.unwrap().path());
    let kept =
        kept.filter(|p| p.file_name().unwrap().to_str().unwrap().starts_with("before-recover-"));
    let kept: Vec<_> = kept.collect();
    assert_eq!(kept.len(), 1);
    assert_eq!(file::load(&kept[0]).unwrap().unwrap(), old);
    let stored = Store::open(DataDirectory::lock(&kept[0]).unwrap(), &old).unwrap();
    assert!(stored.promises().is_ok());
    assert_eq!(fs::read_to_string(path.join("vips")).unwrap(), "eth0 192.0.2.1/32\n");
}
