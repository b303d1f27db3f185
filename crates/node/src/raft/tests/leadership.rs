//! The lead is handed over by request, and goes by itself to a node that owns nothing.

use quorate_model::command::{Command, Configure, Grant, GrantReason, RequestId, UnixMillis};
use quorate_model::id::{Epoch, Incarnation};
use quorate_model::spec::Format;
use quorate_model::state::Reply;

use super::member::{Member, leader, three};
use crate::raft::config::SNAPSHOT_EVERY;
use crate::raft::status::RaftRole;

const WEB: &str = "[group.web]\ninterface = \"public\"\naddresses = [\"192.0.2.1/32\"]\n";

#[test]
fn a_leader_lets_another_voter_lead_and_nothing_is_lost() {
    let members = three(SNAPSHOT_EVERY);
    let old = leader(&members);
    old.add_client("before");
    let next = members.iter().find(|member| !member.leads()).unwrap();
    let term = old.handle().status().borrow().term;
    next.wait_client("before");
    old.block_on(old.handle().transfer_leader(next.id())).unwrap();
    next.wait_status("leading", |status| status.role == RaftRole::Leader);
    for member in &members {
        member.wait_status("the new leader", |status| status.leader == Some(next.id()));
    }
    assert_eq!(next.handle().status().borrow().term, term + 1, "one election, and no rival");
    next.add_client("after");
    for member in &members {
        member.wait_client("before");
        member.wait_client("after");
    }
}

#[test]
fn a_leader_that_owns_a_group_lets_another_lead_by_itself_and_the_grant_stays() {
    let members = three(SNAPSHOT_EVERY);
    let old = leader(&members);
    let configure = Command::Configure(Configure {
        request: RequestId(1),
        author: "test".to_owned(),
        at: UnixMillis(0),
        expected: None,
        source: WEB.to_owned(),
        format: Format::Toml,
        message: String::new(),
        confirm_until: None,
    });
    assert!(matches!(old.propose(configure), Reply::Configured { .. }));
    let grant = Grant {
        group: "web".parse().unwrap(),
        previous: Epoch(0),
        owner: old.id(),
        incarnation: Incarnation(1),
        reason: GrantReason::First,
    };
    let granted = old.propose(Command::Grant { at: UnixMillis(0), grants: vec![grant] });
    assert_eq!(granted, Reply::Granted(vec!["web".parse().unwrap()]));
    let grants = old.handle().state().borrow().grants.clone();
    old.wait_status("another leader", |status| {
        status.leader.is_some_and(|leader| leader != old.id())
    });
    let new: &Member = leader(&members);
    new.add_client("after");
    for member in &members {
        member.wait_client("after");
        assert_eq!(member.handle().state().borrow().grants, grants);
    }
}
