//! A configuration that nobody confirms is rolled back by whoever leads when its time is over.

use quorate_model::command::{Command, Configure, Order, RequestId, UnixMillis};
use quorate_model::id::Revision;
use quorate_model::spec::Format;
use quorate_model::state::Reply;

use super::member::{Member, leader, three};
use crate::clock;
use crate::raft::config::SNAPSHOT_EVERY;

const WEB: &str = "[group.web]\ninterface = \"public\"\naddresses = [\"192.0.2.1/32\"]\n";
const DB: &str = "[group.db]\ninterface = \"public\"\naddresses = [\"192.0.2.2/32\"]\n";

fn apply(member: &Member, request: u128, source: &str, seconds: Option<u64>) -> Reply {
    let at = clock::wall();
    member.propose(Command::Configure(Configure {
        request: RequestId(request),
        author: "ada".to_owned(),
        at,
        expected: None,
        source: source.to_owned(),
        format: Format::Toml,
        message: String::new(),
        confirm_until: seconds.map(|seconds| UnixMillis(at.0 + seconds * 1_000)),
    }))
}

fn made(revision: u64) -> Reply {
    Reply::Configured { revision: Revision(revision), changed: true }
}

fn wait_for(member: &Member, revision: u64, source: &str) {
    member.wait_state("the revision", |state| {
        let in_force = state.configuration.as_ref();
        state.unconfirmed.is_none()
            && in_force.is_some_and(|c| (c.revision.0, c.source.as_str()) == (revision, source))
    });
}

#[test]
fn the_next_leader_rolls_back_and_the_old_one_learns_of_it() {
    let mut members = three(SNAPSHOT_EVERY);
    let leads = leader(&members).id();
    let first = members.iter().position(|member| member.id() == leads).unwrap();
    assert_eq!(apply(&members[first], 1, WEB, None), made(1));
    assert_eq!(apply(&members[first], 2, DB, Some(3)), made(2));
    members[first].kill();
    for member in members.iter().enumerate().filter(|(at, _)| *at != first).map(|(_, m)| m) {
        wait_for(member, 3, WEB);
    }
    members[first].restart();
    wait_for(&members[first], 3, WEB);
}

#[test]
fn a_deadline_and_the_text_before_outlive_a_restart_of_all_from_snapshots() {
    let mut members = three(2);
    assert_eq!(apply(leader(&members), 1, WEB, None), made(1));
    assert_eq!(apply(leader(&members), 2, DB, Some(5)), made(2));
    // So many that what was applied stands in a snapshot.
    for name in ["a", "b", "c", "d"] {
        leader(&members).add_client(name);
    }
    for member in &mut members {
        member.kill();
    }
    for member in &mut members {
        member.restart();
    }
    for member in &members {
        wait_for(member, 3, WEB);
    }
}

#[test]
fn what_is_confirmed_is_still_there_when_a_later_deadline_has_passed() {
    let members = three(SNAPSHOT_EVERY);
    let leader = leader(&members);
    assert_eq!(apply(leader, 1, WEB, Some(2)), made(1));
    let order = Order { author: "ada".to_owned(), at: clock::wall() };
    let confirmed = leader.propose(Command::Confirm { revision: Revision(1), order });
    assert_eq!(confirmed, made(1));
    assert_eq!(apply(leader, 2, DB, Some(3)), made(2));
    for member in &members {
        wait_for(member, 3, WEB);
    }
}
