//! What a lease rests on.

use super::*;

const L: Duration = Duration::from_millis(500);
const START: Instant = Instant(1_000_000_000);

fn group() -> GroupName {
    "g".parse().unwrap()
}

fn ips(hosts: &[u8]) -> BTreeSet<IpAddr> {
    hosts.iter().map(|&host| IpAddr::from([10, 0, 0, host])).collect()
}

fn membership(index: u64, configs: &[&[u64]]) -> Membership {
    let configs = configs.iter().map(|c| c.iter().map(|&n| NodeId(n)).collect()).collect();
    Membership { index: LogIndex(index), configs, nodes: BTreeSet::new() }
}

fn three() -> Membership {
    membership(1, &[&[1, 2, 3]])
}

fn owner(hosts: &[u8]) -> Owner {
    let mut owner = Owner::new(Incarnation(9));
    owner.take_up(&group(), Epoch(10), &ips(hosts));
    owner
}

fn reply(round: &Renew, result: RenewResult) -> RenewReply {
    RenewReply {
        incarnation: round.incarnation,
        round: round.round,
        results: BTreeMap::from([(group(), (Epoch(10), result))]),
    }
}

fn ack(owner: &mut Owner, round: &Renew, from: &[u64], membership: &Membership) {
    for &voter in from {
        owner.reply(NodeId(voter), &reply(round, RenewResult::Ack), membership);
    }
}

#[test]
fn a_lease_runs_from_the_send_time_that_a_majority_has_acked() {
    let mut owner = owner(&[1]);
    let first = owner.next_round(START, L, LogIndex(1)).unwrap();
    let second = owner.next_round(START + L / 2, L, LogIndex(1)).unwrap();
    ack(&mut owner, &second, &[1], &three());
    assert_eq!(owner.lease_until(&group()), Some(Instant(0)));
    ack(&mut owner, &first, &[2], &three());
    assert_eq!(owner.lease_until(&group()), Some(START + L), "the older of the best two");
}

#[test]
fn an_ack_counts_with_the_lease_of_its_round() {
    let mut owner = owner(&[1]);
    let long = owner.next_round(START, L * 2, LogIndex(1)).unwrap();
    let short = owner.next_round(START, L, LogIndex(1)).unwrap();
    ack(&mut owner, &long, &[1, 2], &three());
    ack(&mut owner, &short, &[1, 2], &three());
    assert_eq!(owner.lease_until(&group()), Some(START + L * 2));
}

#[test]
fn in_a_joint_membership_both_sets_must_ack() {
    let mut owner = owner(&[1]);
    let joint = membership(1, &[&[1, 2, 3], &[3, 4, 5]]);
    let round = owner.next_round(START, L, LogIndex(1)).unwrap();
    ack(&mut owner, &round, &[1, 2, 3], &joint);
    assert_eq!(owner.lease_until(&group()), Some(Instant(0)));
    ack(&mut owner, &round, &[4], &joint);
    assert_eq!(owner.lease_until(&group()), Some(START + L));
}

#[test]
fn only_addresses_that_the_acked_rounds_quoted_are_leased() {
    let mut owner = owner(&[1]);
    let round = owner.next_round(START, L, LogIndex(1)).unwrap();
    owner.take_up(&group(), Epoch(10), &ips(&[1, 2]));
    ack(&mut owner, &round, &[1, 2], &three());
    let leased: Vec<Instant> = owner.addresses(&group()).map(|(_, until)| until).collect();
    assert_eq!(leased, [START + L, Instant(0)]);
}

#[test]
fn an_address_that_is_held_for_another_does_not_close_the_others() {
    let mut owner = owner(&[1]);
    let round = owner.next_round(START, L, LogIndex(1)).unwrap();
    ack(&mut owner, &round, &[1, 2], &three());
    owner.take_up(&group(), Epoch(10), &ips(&[1, 2]));
    let remaining = L;
    let mut quoted = BTreeSet::new();
    for step in 1..=2 {
        let round = owner.next_round(START + L / 4 * step, L, LogIndex(1)).unwrap();
        let addresses = round.groups[&group()].addresses.clone();
        let blocked = addresses.contains(&IpAddr::from([10, 0, 0, 2]));
        quoted.insert(addresses);
        if blocked {
            let refused = RenewResult::Refused(Refusal::Held { remaining });
            owner.reply(NodeId(2), &reply(&round, refused), &three());
        } else {
            ack(&mut owner, &round, &[1, 2], &three());
        }
    }
    assert_eq!(quoted, BTreeSet::from([ips(&[1]), ips(&[1, 2])]));
    assert!(owner.addresses(&group()).next().unwrap().1 > START + L);
}

#[test]
fn acks_of_another_incarnation_membership_or_epoch_count_for_nothing() {
    let mut owner = owner(&[1]);
    let round = owner.next_round(START, L, LogIndex(1)).unwrap();
    for voter in [1, 2, 3] {
        let mut other = reply(&round, RenewResult::Ack);
        other.incarnation = Incarnation(8);
        owner.reply(NodeId(voter), &other, &three());
        let right = reply(&round, RenewResult::Ack);
        owner.reply(NodeId(voter), &right, &membership(2, &[&[1, 2, 3]]));
        let mut later = reply(&round, RenewResult::Ack);
        later.results.insert(group(), (Epoch(11), RenewResult::Ack));
        owner.reply(NodeId(voter), &later, &three());
    }
    assert_eq!(owner.lease_until(&group()), Some(Instant(0)));
}

#[test]
fn a_late_ack_of_a_group_that_was_given_up_and_granted_anew_counts_for_nothing() {
    let mut owner = owner(&[1]);
    let round = owner.next_round(START, L, LogIndex(1)).unwrap();
    assert_eq!(owner.give_up(&group()), Some(Epoch(10)));
    owner.take_up(&group(), Epoch(11), &ips(&[1]));
    ack(&mut owner, &round, &[1, 2, 3], &three());
    assert_eq!(owner.lease_until(&group()), Some(Instant(0)));
}

#[test]
fn acks_before_a_change_of_the_membership_make_no_majority_with_those_after() {
    let mut owner = owner(&[1]);
    let round = owner.next_round(START, L, LogIndex(1)).unwrap();
    ack(&mut owner, &round, &[1], &three());
    owner.membership_changed();
    let round = owner.next_round(START, L, LogIndex(2)).unwrap();
    ack(&mut owner, &round, &[2], &membership(2, &[&[1, 2, 3]]));
    assert_eq!(owner.lease_until(&group()), Some(Instant(0)));
}
