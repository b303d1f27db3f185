//! Elections, replication, restarts, snapshots, removal.

use openraft::errors::RPCError;
use openraft::network::{RPCOption, RaftNetworkFactory as _, RaftNetworkV2 as _};
use openraft::raft::VoteRequest;
use quorate_model::command::Command;
use quorate_model::state::Reply;
use tokio::time::timeout;

use super::member::{LIMIT, Member, leader, three};
use crate::raft::config::SNAPSHOT_EVERY;
use crate::raft::handle::ProposeError;
use crate::raft::status::RaftRole;
use crate::raft::types::{LeaderId, Vote};

#[test]
fn three_nodes_form_a_cluster_and_agree() {
    let members = three(SNAPSHOT_EVERY);
    leader(&members).add_client("a");
    for member in &members {
        member.wait_client("a");
        assert_eq!(member.handle().state().borrow().nodes.len(), 3);
    }
}

#[test]
fn a_follower_names_the_leader_and_proposes_nothing() {
    let members = three(SNAPSHOT_EVERY);
    let leading = leader(&members).id();
    let follower = members.iter().find(|member| !member.leads()).unwrap();
    follower.wait_status("a leader", |status| status.leader == Some(leading));
    let command = Command::Forget(quorate_model::id::NodeId(9));
    let refused = follower.block_on(follower.handle().propose(command));
    assert_eq!(refused, Err(ProposeError::NotLeader { leader: Some(leading) }));
}

#[test]
fn a_killed_follower_catches_up_from_its_disk() {
    let mut members = three(SNAPSHOT_EVERY);
    leader(&members).add_client("before");
    let position = members.iter().position(|member| !member.leads()).unwrap();
    members[position].wait_client("before");
    members[position].kill();
    leader(&members).add_client("meanwhile");
    members[position].restart();
    members[position].wait_client("before");
    members[position].wait_client("meanwhile");
}

#[test]
fn a_killed_leader_is_followed_by_another_and_comes_back_as_a_follower() {
    let mut members = three(SNAPSHOT_EVERY);
    leader(&members).add_client("before");
    let position = members.iter().position(Member::leads).unwrap();
    members[position].kill();
    leader(&members).add_client("meanwhile");
    members[position].restart();
    members[position].wait_client("before");
    members[position].wait_client("meanwhile");
    members[position].wait_status("following", |status| status.role == RaftRole::Follower);
}

/// Raft tries again sooner than after the time that an answer may take.
#[test]
fn a_node_that_refuses_connections_is_told_of_at_once() {
    let mut members = three(SNAPSHOT_EVERY);
    let position = members.iter().position(|member| !member.leads()).unwrap();
    let to = members[position].id();
    members[position].kill();
    let leading = leader(&members);
    let mut network = leading.node().network();
    let outcome = leading.block_on(async {
        let mut way = network.new_client(to.0, &Default::default()).await;
        let leader_id = LeaderId { term: 9, node_id: leading.id().0 };
        let request = VoteRequest::new(Vote { leader_id, committed: false }, None);
        timeout(LIMIT, way.pre_vote(request, RPCOption::new(LIMIT * 10))).await
    });
    assert!(matches!(outcome, Ok(Err(RPCError::Unreachable(_)))), "{outcome:?}");
}

#[test]
fn a_cluster_that_stopped_comes_back_with_everything() {
    let mut members = three(SNAPSHOT_EVERY);
    leader(&members).add_client("kept");
    for member in &mut members {
        member.stop();
    }
    for member in &mut members {
        member.restart();
    }
    for member in &members {
        member.wait_client("kept");
    }
    leader(&members).add_client("after");
}

#[test]
fn a_follower_that_lags_far_behind_gets_a_snapshot() {
    let mut members = three(20);
    let position = members.iter().position(|member| !member.leads()).unwrap();
    members[position].kill();
    let leading = leader(&members);
    for number in 0..100 {
        leading.add_client(&format!("c{number}"));
    }
    members[position].restart();
    members[position].wait_client("c99");
    assert!(members[position].node().store().snapshots().current().is_some());
    // What came by snapshot survives a restart, too.
    members[position].kill();
    members[position].restart();
    members[position].wait_client("c0");
    members[position].wait_client("c99");
}

#[test]
fn a_removed_node_is_forgotten_and_refused() {
    let members = three(SNAPSHOT_EVERY);
    let gone = members.iter().find(|member| !member.leads()).unwrap();
    let leading = leader(&members);
    assert_eq!(leading.propose(Command::Leave(gone.id())), Reply::Done);
    leading.wait_voters(2);
    for member in members.iter().filter(|member| member.id() != gone.id()) {
        member.wait_state("the node being forgotten", |s| !s.nodes.contains_key(&gone.id()));
        let calls = gone.node().calls();
        let refused =
            gone.block_on(calls.observe(member.id(), true, super::member::LIMIT)).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::PermissionDenied, "{refused}");
    }
    // What is left works.
    leading.add_client("after");
}

#[test]
fn a_leader_that_leaves_is_followed_by_another_which_finishes() {
    let mut members = three(SNAPSHOT_EVERY);
    let position = members.iter().position(Member::leads).unwrap();
    let id = members[position].id();
    assert_eq!(members[position].propose(Command::Leave(id)), Reply::Done);
    for member in members.iter().filter(|member| member.id() != id) {
        member.wait_state("the leader being forgotten", |s| !s.nodes.contains_key(&id));
        member.wait_voters(2);
    }
    members.remove(position);
    leader(&members).add_client("after");
}

#[test]
fn the_second_of_two_nodes_can_be_removed() {
    let first = Member::founder("prod", "n1", SNAPSHOT_EVERY);
    let token = first.token();
    let second = Member::joiner(&token, super::member::profile("n2"), SNAPSHOT_EVERY).unwrap();
    first.wait_voters(2);
    assert_eq!(first.propose(Command::Leave(second.id())), Reply::Done);
    first.wait_voters(1);
    first.wait_state("the node being forgotten", |s| !s.nodes.contains_key(&second.id()));
    first.add_client("after");
}

#[test]
fn without_a_majority_nothing_is_confirmed() {
    let mut members = three(SNAPSHOT_EVERY);
    let position = members.iter().position(Member::leads).unwrap();
    for (other, member) in members.iter_mut().enumerate() {
        if other != position {
            member.kill();
        }
    }
    let alone = &members[position];
    let command = Command::Forget(quorate_model::id::NodeId(9));
    let outcome = alone.block_on(alone.handle().propose(command));
    assert!(
        matches!(outcome, Err(ProposeError::Unknown(_) | ProposeError::NoQuorum)),
        "{outcome:?}"
    );
}
