//! The rules of design §3, one test each.

use super::*;
use crate::command::GrantReason;
use crate::id::{Incarnation, LogIndex, Round};
use crate::state::GrantRecord;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const L: Duration = Duration::from_millis(500);
const START: Instant = Instant(1_000_000_000);

fn group(name: &str) -> GroupName {
    name.parse().unwrap()
}

fn ips(hosts: &[u8]) -> BTreeSet<IpAddr> {
    hosts.iter().map(|&host| IpAddr::from([10, 0, 0, host])).collect()
}

fn renew(name: &str, epoch: u64, hosts: &[u8]) -> Renew {
    let asked = RenewGroup { epoch: Epoch(epoch), addresses: ips(hosts), holding: true };
    Renew {
        incarnation: Incarnation(9),
        round: Round(1),
        membership: LogIndex(1),
        lease: L,
        groups: BTreeMap::from([(group(name), asked)]),
    }
}

fn state(applied: u64, grants: &[(&str, u64)]) -> ClusterState {
    let record = |epoch: u64| GrantRecord {
        epoch: Epoch(epoch),
        owner: A,
        incarnation: Incarnation(9),
        reason: GrantReason::First,
        at: crate::command::UnixMillis(0),
    };
    ClusterState {
        applied: LogIndex(applied),
        grants: grants.iter().map(|&(name, epoch)| (group(name), record(epoch))).collect(),
        ..ClusterState::default()
    }
}

struct World {
    voter: Voter,
    membership: Membership,
    state: ClusterState,
}

impl World {
    /// A voter that may promise at once and has written what the tests ask for.
    fn ready() -> Self {
        let floors = ["g", "h"].map(|name| (group(name), Epoch(10))).into();
        let durable = DurablePromises { longest: promise(L), floors };
        let mut world = Self::started(durable);
        world.voter.quarantine_until = START;
        world
    }

    fn started(durable: DurablePromises) -> Self {
        let membership = Membership { index: LogIndex(1), ..Membership::default() };
        Self { voter: Voter::new(START, durable), membership, state: state(1, &[]) }
    }

    fn ask(&mut self, at: Instant, from: NodeId, renew: &Renew) -> Answer {
        let view = VoterView { membership: &self.membership, state: &self.state };
        self.voter.renew(at, from, renew, view)
    }

    fn result(&mut self, at: Instant, from: NodeId, renew: &Renew) -> Option<RenewResult> {
        only(self.ask(at, from, renew).reply.as_ref())
    }

    fn persisted(
        &mut self,
        at: Instant,
        written: DurablePromises,
    ) -> (Vec<(NodeId, RenewReply)>, Option<DurablePromises>) {
        let view = VoterView { membership: &self.membership, state: &self.state };
        self.voter.persisted(at, written, view)
    }
}

fn only(reply: Option<&RenewReply>) -> Option<RenewResult> {
    reply.and_then(|reply| reply.results.values().next()).map(|(_, result)| *result)
}

fn held(remaining: Duration) -> Option<RenewResult> {
    Some(RenewResult::Refused(Refusal::Held { remaining }))
}

const ACK: Option<RenewResult> = Some(RenewResult::Ack);
const SUPERSEDED: Option<RenewResult> = Some(RenewResult::Refused(Refusal::Superseded));
const MEMBERSHIP: Option<RenewResult> = Some(RenewResult::Refused(Refusal::Membership));

#[test]
fn rule_1_a_voter_promises_nothing_within_its_longest_promise_of_its_start() {
    let mut world = World::started(World::ready().voter.durable);
    let remaining = promise(L);
    let refused = Some(RenewResult::Refused(Refusal::Quarantine { remaining }));
    assert_eq!(world.result(START, A, &renew("g", 10, &[1])), refused);
    assert_eq!(world.result(START + promise(L), A, &renew("g", 10, &[1])), ACK);
}

#[test]
fn rule_2_a_membership_that_is_older_or_not_applied_here_is_refused() {
    let mut world = World::ready();
    world.membership.index = LogIndex(2);
    world.state.applied = LogIndex(3);
    let mut asked = renew("g", 10, &[1]);
    assert_eq!(world.result(START, A, &asked), MEMBERSHIP);
    asked.membership = LogIndex(4);
    assert_eq!(world.result(START, A, &asked), MEMBERSHIP);
    asked.membership = LogIndex(3);
    assert_eq!(world.result(START, A, &asked), ACK);
}

#[test]
fn rule_3_an_epoch_below_the_floor_or_the_applied_grant_is_superseded() {
    let mut world = World::ready();
    assert_eq!(world.result(START, A, &renew("g", 9, &[1])), SUPERSEDED);
    world.state = state(20, &[("g", 15)]);
    assert_eq!(world.result(START, A, &renew("g", 14, &[1])), SUPERSEDED);
}

#[test]
fn rule_3_an_epoch_of_a_deleted_group_is_superseded() {
    let mut world = World::ready();
    world.state = state(20, &[]);
    assert_eq!(world.result(START, A, &renew("g", 10, &[1])), SUPERSEDED);
}

#[test]
fn rule_4_a_higher_epoch_is_answered_when_its_floor_is_on_disk() {
    let mut world = World::ready();
    let answer = world.ask(START, A, &renew("g", 11, &[1]));
    assert_eq!(answer.reply, None);
    let written = answer.persist.unwrap();
    assert_eq!(written.floors[&group("g")], Epoch(11));
    let (replies, more) = world.persisted(START, written);
    assert_eq!((only(replies.first().map(|(_, reply)| reply)), more), (ACK, None));
}

#[test]
fn a_longer_promise_is_given_when_the_longest_is_on_disk() {
    let mut world = World::ready();
    let mut asked = renew("g", 10, &[1]);
    asked.lease = L * 2;
    let answer = world.ask(START, A, &asked);
    assert_eq!(answer.reply, None);
    assert_eq!(answer.persist.map(|written| written.longest), Some(promise(L * 2)));
}

#[test]
fn nothing_rests_on_a_write_that_is_not_the_one_under_way() {
    let mut world = World::ready();
    let old = world.voter.durable.clone();
    let written = world.ask(START, A, &renew("g", 11, &[1])).persist.unwrap();
    assert!(world.persisted(START, old).0.is_empty());
    assert_eq!(world.persisted(START, written).0.len(), 1);
}

#[test]
fn rule_5_a_promise_to_another_node_holds_its_group_and_its_addresses() {
    let mut world = World::ready();
    assert_eq!(world.result(START, A, &renew("g", 10, &[1, 2])), ACK);
    assert_eq!(world.result(START, B, &renew("g", 10, &[3])), held(promise(L)));
    assert_eq!(world.result(START, B, &renew("h", 10, &[2])), held(promise(L)));
    assert_eq!(world.result(START, B, &renew("h", 10, &[3])), ACK);
    assert_eq!(world.result(START, A, &renew("g", 10, &[1])), ACK, "its own never holds a node");
    assert_eq!(world.result(START + promise(L), B, &renew("g", 10, &[1])), ACK);
}

#[test]
fn an_address_that_left_its_group_is_free_when_its_own_last_promise_is_over() {
    let mut world = World::ready();
    let ms = Duration::from_millis;
    assert_eq!(world.result(START, A, &renew("g", 10, &[1, 2])), ACK);
    assert_eq!(world.result(START + ms(300), A, &renew("g", 10, &[1])), ACK);
    let before = START + promise(L) - ms(1);
    assert_eq!(world.result(before, B, &renew("h", 10, &[2])), held(ms(1)));
    assert_eq!(world.result(START + promise(L), B, &renew("h", 10, &[2])), ACK);
}

#[test]
fn rule_6_a_promise_is_never_shortened() {
    let mut world = World::ready();
    assert_eq!(world.result(START, A, &renew("g", 10, &[1])), ACK);
    let mut shorter = renew("g", 10, &[1]);
    shorter.lease = L / 4;
    assert_eq!(world.result(START, A, &shorter), ACK);
    assert_eq!(world.result(START, B, &renew("g", 10, &[1])), held(promise(L)));
}

#[test]
fn a_release_drops_the_promise_of_its_own_epoch_and_node_alone() {
    let mut world = World::ready();
    assert_eq!(world.result(START, A, &renew("g", 10, &[1])), ACK);
    world.voter.released(A, &group("g"), Epoch(9));
    world.voter.released(B, &group("g"), Epoch(10));
    assert_eq!(world.result(START, B, &renew("g", 10, &[1])), held(promise(L)));
    world.voter.released(A, &group("g"), Epoch(10));
    assert_eq!(world.result(START, B, &renew("g", 10, &[1])), ACK);
}

#[test]
fn a_release_also_takes_back_a_renewal_that_waits_for_the_disk() {
    let mut world = World::ready();
    let written = world.ask(START, A, &renew("g", 11, &[1])).persist.unwrap();
    world.voter.released(A, &group("g"), Epoch(11));
    assert!(world.persisted(START, written).0.is_empty());
    assert_eq!(world.result(START, B, &renew("g", 11, &[1])), ACK);
}

#[test]
fn an_owner_is_heard_when_it_asks_and_not_when_the_disk_is_done() {
    let mut world = World::ready();
    let written = world.ask(START, A, &renew("g", 11, &[1])).persist.unwrap();
    let later = START + L;
    world.persisted(later, written);
    assert_eq!(world.voter.heard(later)[&group("g")].silent, L);
}

#[test]
fn parts_of_one_round_that_wait_for_the_disk_are_all_answered() {
    let mut world = World::ready();
    let write = world.ask(START, A, &renew("x", 10, &[1])).persist.unwrap();
    assert_eq!(world.ask(START, A, &renew("y", 10, &[2])).persist, None, "one at a time");
    let (replies, more) = world.persisted(START, write);
    let answered = |replies: &[(NodeId, RenewReply)]| -> Vec<GroupName> {
        replies.iter().flat_map(|(_, reply)| reply.results.keys().cloned()).collect()
    };
    assert_eq!(answered(&replies), [group("x")]);
    let (replies, more) = world.persisted(START, more.unwrap());
    assert_eq!((answered(&replies), more), (vec![group("y")], None));
}

#[test]
fn a_lease_longer_than_any_that_can_be_configured_is_not_answered_and_leaves_nothing() {
    let mut world = World::ready();
    let mut asked = renew("g", 10, &[1]);
    asked.lease = LEASE_MAX + Duration::from_nanos(1);
    let answer = world.ask(START, A, &asked);
    assert!(answer.reply.is_none() && answer.persist.is_none(), "{answer:?}");
    assert_eq!(world.result(START, B, &renew("g", 10, &[1])), Some(RenewResult::Ack));
}
