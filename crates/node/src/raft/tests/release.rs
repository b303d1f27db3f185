//! What is told of a dead daemon's groups reaches every voter that can be reached.

use std::collections::BTreeSet;
use std::time::Duration;

use quorate_api::peer::v1::datagram::Message as Wire;
use quorate_model::id::{Epoch, GroupName, Incarnation};
use quorate_model::ownership::message::{Message, Obstacle};

use super::member::{LIMIT, Member, three};
use crate::identity::file;
use crate::peer::server::Delivery;
use crate::raft::config::SNAPSHOT_EVERY;
use crate::release::holding::{self, Holder, Holding, Leases};
use crate::release::tell;

fn web() -> GroupName {
    "web".parse().unwrap()
}

fn holding(member: &Member) -> Holding {
    let directory = member.node().directory();
    let voters = member.handle().status().borrow().membership.nodes.clone();
    Holding {
        holder: Holder {
            cluster_id: directory.cluster_id(),
            me: member.id(),
            incarnation: Incarnation(7),
        },
        voters,
        leases: [(web(), Epoch(42))].into(),
        addresses: BTreeSet::new(),
    }
}

fn tell_of(dead: &Member, holding: &Holding, limit: Duration) {
    let identity = file::load(dead.directory.path()).unwrap().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(tell(identity, holding, limit)).unwrap();
}

#[test]
fn every_voter_hears_that_the_groups_are_free_and_their_owner_stopping() {
    let mut members = three(SNAPSHOT_EVERY);
    let holding = holding(&members[0]);
    let dead = members[0].id();
    members[0].kill();
    tell_of(&members[0], &holding, LIMIT);
    for number in [1, 2] {
        let Delivery { from, message } = members[number].delivery();
        assert_eq!(from, dead);
        let message = Message::try_from(message).unwrap();
        assert_eq!(message, Message::Released([(web(), Epoch(42))].into()));
        let Message::Report(report) =
            Message::try_from(members[number].delivery().message).unwrap()
        else {
            panic!("no report");
        };
        assert_eq!(report.incarnation, Incarnation(7));
        assert_eq!(report.obstacles, [(web(), [Obstacle::Stopping].into())].into());
    }
}

#[test]
fn a_voter_that_is_dead_too_keeps_nobody_from_hearing() {
    let mut members = three(SNAPSHOT_EVERY);
    let holding = holding(&members[0]);
    members[0].kill();
    members[1].kill();
    tell_of(&members[0], &holding, Duration::from_secs(5));
    assert!(matches!(members[2].delivery().message, Wire::Released(_)));
}

#[test]
fn another_than_the_holder_frees_nothing_in_its_name() {
    let mut members = three(SNAPSHOT_EVERY);
    let forged = holding(&members[0]);
    let mine = holding(&members[1]);
    // Its key is not the one that is pinned for the node that it names.
    let identity = file::load(members[1].directory.path()).unwrap().unwrap();
    let liar = crate::identity::Identity { node_id: forged.holder.me, ..identity };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(tell(liar, &forged, Duration::from_secs(5))).unwrap();
    tell_of(&members[1], &mine, Duration::from_secs(5));
    // The first that came is that of the honest one.
    assert_eq!(members[2].delivery().from, members[1].id());
}

#[test]
fn the_file_follows_what_is_held_and_who_votes() {
    let mut members = three(SNAPSHOT_EVERY);
    let wanted = holding(&members[0]);
    let data = tempfile::tempdir().unwrap();
    let (held, leases) = tokio::sync::watch::channel(Leases::new());
    let (raft, state) = (members[0].handle().status(), members[0].handle().state());
    let path = data.path().to_owned();
    let keeping = members[0].spawn(holding::keep(path, wanted.holder, leases, raft, state));
    held.send_replace(wanted.leases.clone());
    // It ends with the loop, after what it was told last.
    drop(held);
    members[0].block_on(async { tokio::time::timeout(LIMIT, keeping).await.unwrap().unwrap() });
    assert_eq!(Holding::load(data.path()).unwrap(), Some(wanted));
    members[0].stop();
}

#[test]
fn what_is_held_comes_back_from_its_file() {
    let members = three(SNAPSHOT_EVERY);
    let mut holding = holding(&members[0]);
    holding.addresses = [[192, 0, 2, 1].into(), std::net::Ipv6Addr::LOCALHOST.into()].into();
    let data = tempfile::tempdir().unwrap();
    assert_eq!(Holding::load(data.path()).unwrap(), None);
    holding.save(data.path()).unwrap();
    assert_eq!(Holding::load(data.path()).unwrap(), Some(holding));
    std::fs::write(data.path().join("holding"), [0xff]).unwrap();
    assert!(Holding::load(data.path()).is_err());
    holding::clear(data.path()).unwrap();
    holding::clear(data.path()).unwrap();
    assert_eq!(Holding::load(data.path()).unwrap(), None);
}
