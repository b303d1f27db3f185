//! A node whose disk is full: it leads no more and takes no entries, and has them all later.

use std::time::Duration;

use quorate_model::command::Command;
use quorate_model::id::NodeId;

use super::member::{Member, leader, three, write_until_taken};
use crate::raft::config::SNAPSHOT_EVERY;
use crate::raft::handle::{ProposeError, UNCOMMITTED_MAX};
use crate::raft::status::RaftRole;

fn fill(member: &Member) {
    member.node().store().space().fill();
}

fn empty(member: &Member) {
    member.node().store().space().pretend(None);
}

#[test]
fn a_leader_whose_disk_is_full_takes_nothing_and_another_one_leads() {
    let members = three(SNAPSHOT_EVERY);
    let full = leader(&members);
    full.add_client("before");
    fill(full);
    let refused = full.block_on(full.handle().propose(Command::Forget(NodeId(9))));
    assert!(matches!(refused, Err(ProposeError::DiskFull(_))), "{refused:?}");
    let others: Vec<&Member> = members.iter().filter(|member| member.id() != full.id()).collect();
    for other in &others {
        other.wait_status("another leader", |status| {
            status.leader.is_some_and(|leader| leader != full.id())
        });
    }
    full.wait_status("following", |status| status.role == RaftRole::Follower);
    assert!(others.iter().any(|member| member.leads()));
    write_until_taken(&members, "meanwhile");
    others.iter().for_each(|other| other.wait_client("meanwhile"));
    empty(full);
    full.wait_client("meanwhile");
}

#[test]
fn a_follower_whose_disk_is_full_takes_no_entries_and_has_them_later() {
    let members = three(SNAPSHOT_EVERY);
    let leading = leader(&members);
    let (full, other) = {
        let mut followers = members.iter().filter(|member| member.id() != leading.id());
        (followers.next().unwrap(), followers.next().unwrap())
    };
    leading.add_client("before");
    full.wait_client("before");
    let before = full.handle().status().borrow().last_log;
    fill(full);
    for number in 0..20 {
        leading.add_client(&format!("c{number}"));
    }
    other.wait_client("c19");
    assert_eq!(full.handle().status().borrow().last_log, before);
    empty(full);
    full.wait_client("c19");
}

#[test]
fn a_leader_writes_no_more_than_so_much_that_no_majority_takes() {
    let members = three(SNAPSHOT_EVERY);
    let leading = leader(&members);
    leading.add_client("before");
    members.iter().filter(|member| member.id() != leading.id()).for_each(fill);
    let mut handle = leading.handle();
    handle.limit = Duration::from_millis(1);
    let mut refused = None;
    for _ in 0..UNCOMMITTED_MAX * 2 {
        match leading.block_on(handle.propose(Command::Forget(NodeId(9)))) {
            Err(ProposeError::Unknown(_)) => {}
            other => {
                refused = Some(other);
                break;
            }
        }
    }
    assert_eq!(refused, Some(Err(ProposeError::NoQuorum)));
    members.iter().for_each(empty);
    write_until_taken(&members, "after");
    members.iter().for_each(|member| member.wait_client("after"));
}
