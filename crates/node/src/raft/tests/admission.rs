//! Who is let in, and who is not.

use std::time::Duration;

use quorate_model::command::{Command, UnixMillis};
use quorate_model::id::NodeId;
use quorate_model::state::Reply;

use super::member::{Member, leader, profile, three};
use crate::clock;
use crate::identity::authority::sha256;
use crate::identity::token::{self, Token};
use crate::peer::channel::Channels;
use crate::peer::directory::PeerDirectory;
use crate::peer::join::{JoinError, join_within};
use crate::peer::network::{client, route};
use crate::peer::tls;
use crate::raft::config::SNAPSHOT_EVERY;

fn refused(outcome: Result<Member, JoinError>) -> String {
    match outcome {
        Err(JoinError::Refused(why)) => why,
        Err(other) => panic!("not refused: {other}"),
        Ok(_) => panic!("admitted"),
    }
}

#[test]
fn a_follower_sends_the_joiner_to_the_leader() {
    let members = three(SNAPSHOT_EVERY);
    let leading = leader(&members);
    let follower = members.iter().find(|member| member.id() != leading.id()).unwrap();
    let mut token = leading.token();
    token.addresses = follower.profile.links.iter().map(|link| link.listen).collect();
    let fourth = Member::joiner(&token, profile("n4"), SNAPSHOT_EVERY).unwrap();
    assert_eq!(fourth.id(), NodeId(4));
    leading.wait_voters(4);
    fourth.wait_voters(4);
}

#[test]
fn a_token_works_once() {
    let first = Member::founder("prod", "n1", SNAPSHOT_EVERY);
    let token = first.token();
    let second = Member::joiner(&token, profile("n2"), SNAPSHOT_EVERY);
    assert_eq!(second.as_ref().map(Member::id).ok(), Some(NodeId(2)));
    let why = refused(Member::joiner(&token, profile("n3"), SNAPSHOT_EVERY));
    assert!(why.contains("already used"), "{why}");
}

#[test]
fn an_expired_token_is_refused() {
    let first = Member::founder("prod", "n1", SNAPSHOT_EVERY);
    first.wait_state("its founding", |state| state.cluster_id != 0);
    let state = first.handle().state().borrow().clone();
    let past = UnixMillis(clock::wall().0 - 16 * 60 * 1_000);
    let (token, command) = token::create(&state, past).unwrap().unwrap();
    assert_eq!(first.propose(command), Reply::Done);
    let why = refused(Member::joiner(&token, profile("n2"), SNAPSHOT_EVERY));
    assert!(why.contains("expired"), "{why}");
}

#[test]
fn a_made_up_secret_is_refused() {
    let first = Member::founder("prod", "n1", SNAPSHOT_EVERY);
    let token = Token { secret: [7; 32], ..first.token() };
    let why = refused(Member::joiner(&token, profile("n2"), SNAPSHOT_EVERY));
    assert!(why.contains("unknown"), "{why}");
}

#[test]
fn a_name_or_address_that_is_taken_is_refused_and_the_token_stays() {
    let first = Member::founder("prod", "n1", SNAPSHOT_EVERY);
    let token = first.token();
    let why = refused(Member::joiner(&token, profile("n1"), SNAPSHOT_EVERY));
    assert!(why.contains("already has a node named n1"), "{why}");
    let mut same_address = profile("n2");
    same_address.links[0].listen = first.profile.links[1].listen;
    let why = refused(Member::joiner(&token, same_address, SNAPSHOT_EVERY));
    assert!(why.contains("already listens"), "{why}");
    assert!(Member::joiner(&token, profile("n2"), SNAPSHOT_EVERY).is_ok());
}

#[test]
fn the_secret_is_not_sent_to_another_cluster() {
    let first = Member::founder("prod", "n1", SNAPSHOT_EVERY);
    let other = Member::founder("other", "o1", SNAPSHOT_EVERY);
    let addresses = other.token().addresses;
    let token = Token { addresses, ..first.token() };
    let outcome = Member::joiner(&token, profile("n2"), SNAPSHOT_EVERY);
    assert!(matches!(outcome, Err(JoinError::WrongCluster(_))));
}

#[test]
fn whoever_can_not_be_reached_is_named_with_the_cause() {
    let first = Member::founder("prod", "n1", SNAPSHOT_EVERY);
    let nowhere = super::member::free_address();
    let token = Token { addresses: vec![nowhere], ..first.token() };
    let profile = profile("n2");
    let joining = join_within(&token, &profile, Duration::from_millis(1));
    let error = first.block_on(joining).unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&nowhere.to_string()) && text.contains("refused"), "{text}");
}

/// Asks `member` as if this were node `from` of its cluster, with the key of `with`.
fn ask_as(member: &Member, from: NodeId, with: &Member, cluster_id: u128) -> tonic::Status {
    let path = with.directory.path();
    let mut identity = crate::identity::file::load(path).unwrap().unwrap();
    identity.cluster_id = cluster_id;
    identity.node_id = from;
    // It knows the asked member's key, so its own side does not refuse.
    let directory = PeerDirectory::new(
        identity.clone().into(),
        member.handle().state(),
        member.handle().status(),
    );
    let channels =
        Channels::new(directory.clone(), tls::client(&identity, directory).unwrap(), None);
    member.block_on(async {
        let to = member.id();
        let lane = channels.lane(to, crate::peer::channel::Purpose::Calls);
        let request = quorate_api::peer::v1::ObserveRequest {
            route: Some(route(&channels, to)),
            brief: true,
        };
        client(&lane).observe(request).await.unwrap_err()
    })
}

#[test]
fn a_node_of_another_cluster_is_refused_whatever_it_says() {
    let ours = Member::founder("prod", "n1", SNAPSHOT_EVERY);
    let other = Member::founder("other", "o1", SNAPSHOT_EVERY);
    ours.token();
    other.token();
    let our_id = ours.node().directory().cluster_id();
    let other_id = other.node().directory().cluster_id();
    // It says who it is, and then that it is a member of ours.
    for cluster_id in [other_id, our_id] {
        let status = ask_as(&ours, NodeId(1), &other, cluster_id);
        assert_eq!(status.code(), tonic::Code::PermissionDenied, "{status}");
    }
}

#[test]
fn a_member_speaks_for_itself_alone_and_to_its_own_cluster() {
    let ours = Member::founder("prod", "n1", SNAPSHOT_EVERY);
    ours.token();
    let our_id = ours.node().directory().cluster_id();
    let status = ask_as(&ours, NodeId(1), &ours, our_id + 1);
    assert_eq!(status.code(), tonic::Code::FailedPrecondition, "{status}");
    let status = ask_as(&ours, NodeId(2), &ours, our_id);
    assert_eq!(status.code(), tonic::Code::PermissionDenied, "{status}");
}

#[test]
fn a_client_certificate_is_known_by_its_key() {
    let first = Member::founder("prod", "n1", SNAPSHOT_EVERY);
    first.wait_state("its founding", |state| state.cluster_id != 0);
    let key = sha256(b"a public key");
    let directory = first.node().directory();
    assert_eq!(directory.client(&key), None);
    first.propose(Command::AddClient { name: "ops".to_owned(), public_key: key });
    assert_eq!(directory.client(&key), Some("ops".to_owned()));
}
