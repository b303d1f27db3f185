//! Each rule of the ownership protocol, shown by what breaks without it: one schedule of events on
//! the real voter and owner, which violates an invariant where the rule is broken, and none where
//! it is kept. `docs/design/ownership.md` has the table.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "what a test relies on fails the test")]

use std::time::Duration;

use quorate_model::id::NodeId;
use quorate_tests::ownership::script::{FAST, SLOW, Script, TRUE, group};
use quorate_tests::ownership::{Broken, Mutant};

const SECOND: Duration = Duration::from_secs(1);

fn two_serve(broken: &Broken) -> bool {
    matches!(broken, Broken::TwoServe(..))
}

fn an_epoch_goes_back(broken: &Broken) -> bool {
    matches!(broken, Broken::EpochWentBack(..))
}

/// Plays the schedule without the rule, and with it. With it, whoever was granted group `a` last
/// serves in the end: the schedule is harmless, and no dead end.
fn shows(
    mutant: Mutant,
    expected: fn(&Broken) -> bool,
    begin: impl Fn(Option<Mutant>) -> Script,
    schedule: impl Fn(&mut Script),
) {
    let mut without = begin(Some(mutant));
    schedule(&mut without);
    let broken = without.world.broken.clone();
    assert!(broken.as_ref().is_some_and(expected), "{mutant:?} is not caught: {broken:?}");
    let mut with = begin(None);
    schedule(&mut with);
    ends_well(with);
}

fn ends_well(mut script: Script) {
    assert_eq!(script.world.broken, None);
    script.pass(100_000);
    let last = script.world.log.last();
    let grant = script.world.log.state(last).grants.get(&group("a")).unwrap().clone();
    let voters = script.world.log.membership(last).voters();
    for id in script.world.ids() {
        script.world.append(id);
        script.world.apply(id, last);
    }
    if !script.world.owns(grant.owner, &group("a")) {
        script.grant(grant.owner.0);
    }
    let voters: Vec<u64> = voters.iter().map(|id| id.0).collect();
    for _ in 0..3 {
        script.renew(grant.owner.0, &voters);
    }
    assert_eq!(script.world.broken, None);
    assert!(script.serves(grant.owner.0), "{} can't serve any more", grant.owner);
}

#[test]
fn a_restarted_voter_waits_for_the_promises_that_it_forgot() {
    shows(Mutant::NoQuarantine, two_serve, Script::simple, |s| {
        s.grant(1);
        s.renew(1, &[1, 3]);
        s.restart(3);
        s.grant(2);
        s.renew(2, &[2, 3]);
    });
}

/// A lease of four seconds at first, of one later, or the other way round.
fn leases(first: Duration, then: Duration) -> impl Fn(Option<Mutant>) -> Script {
    move |mutant| {
        let group: &[(&str, &[u8])] = &[("a", &[1])];
        Script::new(mutant, vec![TRUE; 3], &[(first, group), (then, group)])
    }
}

#[test]
fn a_restarted_voter_waits_for_the_longest_promise_not_for_the_present_lease() {
    let begin = leases(4 * SECOND, SECOND);
    shows(Mutant::QuarantineOfTheCurrentLease, two_serve, begin, |s| {
        s.grant(1);
        s.renew(1, &[1, 3]);
        s.world.configure(1);
        s.apply(3);
        s.restart(3);
        s.pass(1_100);
        s.grant(2);
        s.renew(2, &[2, 3]);
    });
}

#[test]
fn a_promise_lasts_longer_than_its_lease() {
    shows(Mutant::ShortPromise, two_serve, Script::simple, |s| {
        s.grant(1);
        s.renew(1, &[1, 3]);
        s.grant(2);
        s.pass(500);
        s.renew(2, &[2, 3]);
    });
}

fn drifting(mutant: Option<Mutant>) -> Script {
    Script::new(mutant, vec![SLOW, TRUE, FAST], &[(40 * SECOND, &[("a", &[1])])])
}

#[test]
fn a_promise_lasts_longer_than_its_lease_though_the_clocks_drift_apart() {
    shows(Mutant::PromiseWithoutDrift, two_serve, drifting, |s| {
        s.grant(1);
        s.renew(1, &[1, 3]);
        s.grant(2);
        // The lease runs until 40.404 s, by the slow clock.
        s.pass(39_700);
        s.renew(2, &[2, 3]);
        s.pass(704);
        s.renew(2, &[2, 3]);
    });
}

#[test]
fn clocks_that_drift_apart_by_more_than_was_assumed_are_not_covered() {
    // No mutant: the assumption itself is broken. This is what it is for.
    let rates = vec![SLOW - 20_000, TRUE, FAST + 20_000];
    let mut s = Script::new(None, rates, &[(40 * SECOND, &[("a", &[1])])]);
    s.grant(1);
    s.renew(1, &[1, 3]);
    s.grant(2);
    s.pass(40_000);
    s.renew(2, &[2, 3]);
    assert!(s.world.broken.as_ref().is_some_and(two_serve));
}

#[test]
fn a_voter_promises_by_the_lease_in_the_renewal() {
    let begin = leases(4 * SECOND, SECOND);
    shows(Mutant::PromiseByTheVotersLease, two_serve, begin, |s| {
        s.grant(1);
        s.world.configure(1);
        s.apply(3);
        // Node 1 has not heard yet that the lease is shorter now.
        s.renew(1, &[1, 3]);
        s.pass(1_100);
        s.grant(2);
        s.renew(2, &[2, 3]);
    });
}

#[test]
fn a_promise_holds_addresses_not_a_groups_name() {
    let begin = |mutant| {
        let before: &[(&str, &[u8])] = &[("a", &[1, 3]), ("b", &[2])];
        let after: &[(&str, &[u8])] = &[("a", &[1]), ("b", &[2, 3])];
        Script::new(mutant, vec![TRUE; 3], &[(SECOND, before), (SECOND, after)])
    };
    shows(Mutant::PromiseByGroupName, two_serve, begin, |s| {
        s.grant_group("b", 2);
        s.grant_group("a", 1);
        s.renew(1, &[1, 3]);
        s.world.configure(1);
        s.apply(2);
        s.renew(2, &[2, 3]);
    });
}

#[test]
fn a_lease_counts_from_the_sending_not_from_the_ack() {
    shows(Mutant::LeaseFromTheAck, two_serve, Script::simple, |s| {
        s.grant(1);
        let round = s.send(1);
        s.hear(1, round.as_ref());
        s.hear(3, round.as_ref());
        s.pass(900);
        s.back(1, round.as_ref());
        s.back(3, round.as_ref());
        s.world.store(NodeId(1));
        s.grant(2);
        s.pass(200);
        s.renew(2, &[2, 3]);
    });
}

#[test]
fn a_live_promise_to_another_node_is_kept() {
    shows(Mutant::NoHeld, two_serve, Script::simple, |s| {
        s.grant(1);
        s.renew(1, &[1, 3]);
        s.grant(2);
        s.renew(2, &[2, 3]);
    });
}

#[test]
fn what_is_promised_is_asked_again_after_the_disk() {
    shows(Mutant::HeldAskedBeforeTheDisk, two_serve, Script::simple, |s| {
        s.grant(1);
        s.grant(2);
        let (one, two) = (s.send(1), s.send(2));
        // Both wait for the same disk.
        for round in [&one, &two] {
            s.world.hear(NodeId(3), round.as_ref().unwrap());
        }
        while s.world.writes(NodeId(3)) {
            s.world.write(NodeId(3));
        }
        s.hear(1, one.as_ref());
        s.hear(2, two.as_ref());
        for (owner, round) in [(1, &one), (2, &two)] {
            s.back(owner, round.as_ref());
            s.back(3, round.as_ref());
            s.world.store(NodeId(owner));
        }
    });
}

#[test]
fn a_voter_supports_no_epoch_older_than_one_it_supported() {
    shows(Mutant::NoFloor, an_epoch_goes_back, Script::simple, |s| {
        s.grant(1);
        s.renew(1, &[1, 3]);
        s.pass(2_000);
        s.grant(2);
        s.renew(2, &[2, 3]);
        s.pass(2_000);
        // Node 1 was cut off from the log, and node 3 is late with it.
        s.renew(1, &[1, 3]);
    });
}

#[test]
fn a_floor_outlives_the_voters_daemon() {
    shows(Mutant::VolatileFloor, an_epoch_goes_back, Script::simple, |s| {
        s.grant(1);
        let snapshot = s.world.log.last();
        s.renew(1, &[1, 3]);
        s.pass(2_000);
        s.grant(2);
        s.renew(2, &[2, 3]);
        s.restart_from(3, snapshot);
        s.pass(2_000);
        s.renew(1, &[1, 3]);
    });
}

#[test]
fn a_voter_answers_after_the_disk_not_before() {
    let begin = leases(SECOND, 4 * SECOND);
    shows(Mutant::AckBeforeTheDisk, two_serve, begin, |s| {
        s.grant(1);
        s.renew(1, &[1, 3]);
        s.world.configure(1);
        s.apply(1);
        // The first renewal with the longer lease: the longest promise has to be written.
        let round = s.send(1).unwrap();
        s.hear(1, Some(&round));
        s.world.hear(NodeId(3), &round);
        s.back(1, Some(&round));
        s.back(3, Some(&round));
        s.world.store(NodeId(1));
        s.restart(3);
        s.pass(1_100);
        s.grant(2);
        s.renew(2, &[2, 3]);
    });
}

#[test]
fn a_restarted_daemon_never_takes_up_an_old_grant() {
    shows(Mutant::ResumedEpoch, two_serve, Script::simple, |s| {
        s.grant(1);
        s.renew(1, &[2, 3]);
        let release = s.give_up(1);
        s.restart(1);
        s.renew(1, &[2, 3]);
        // The release of the daemon before comes late.
        s.hear(2, release.as_ref());
        s.hear(3, release.as_ref());
        s.grant(2);
        s.renew(2, &[2, 3]);
    });
}

#[test]
fn an_ack_counts_for_the_start_and_the_grant_that_asked() {
    shows(Mutant::AckByRoundAlone, two_serve, Script::simple, |s| {
        s.grant(1);
        let old = s.send(1);
        s.hear(2, old.as_ref());
        s.hear(3, old.as_ref());
        s.pass(900);
        s.restart(1);
        s.grant(1);
        // The first round of this start has the number of the first of the start before.
        s.send(1);
        s.back(2, old.as_ref());
        s.back(3, old.as_ref());
        s.world.store(NodeId(1));
        s.pass(200);
        s.grant(2);
        s.renew(2, &[2, 3]);
    });
}

#[test]
fn a_release_frees_only_the_epoch_that_it_names() {
    shows(Mutant::ReleaseOfAnyEpoch, two_serve, Script::simple, |s| {
        s.grant(1);
        s.renew(1, &[2, 3]);
        let release = s.give_up(1);
        s.grant(1);
        s.renew(1, &[2, 3]);
        s.hear(2, release.as_ref());
        s.hear(3, release.as_ref());
        s.grant(2);
        s.renew(2, &[2, 3]);
    });
}

fn released_and_taken(s: &mut Script) {
    s.grant(1);
    s.renew(1, &[1, 3]);
    let release = s.give_up(1);
    s.hear(3, release.as_ref());
    s.grant(2);
    s.renew(2, &[2, 3]);
}

#[test]
fn a_release_is_told_after_the_fence_is_closed() {
    shows(Mutant::ReleaseBeforeClosing, two_serve, Script::simple, released_and_taken);
}

#[test]
fn nobody_releases_beside_a_live_daemon() {
    shows(Mutant::ReleaseBesideALiveDaemon, two_serve, Script::simple, released_and_taken);
}

#[test]
fn a_pause_between_the_quorum_and_the_fence_extends_nothing() {
    shows(Mutant::RelativeDeadline, two_serve, Script::simple, |s| {
        s.grant(1);
        let round = s.send(1);
        for voter in [1, 3] {
            s.hear(voter, round.as_ref());
            s.back(voter, round.as_ref());
        }
        s.pass(900);
        s.world.store(NodeId(1));
        s.grant(2);
        s.pass(200);
        s.renew(2, &[2, 3]);
    });
}

#[test]
fn a_dead_daemons_kernel_closes_by_itself() {
    shows(Mutant::NoFence, two_serve, Script::simple, |s| {
        s.grant(1);
        s.renew(1, &[1, 3]);
        s.grant(2);
        s.pass(1_100);
        s.renew(2, &[2, 3]);
    });
}

#[test]
fn a_lease_needs_a_majority() {
    shows(Mutant::Minority, two_serve, Script::simple, |s| {
        s.grant(1);
        s.renew(1, &[1]);
        s.grant(2);
        s.renew(2, &[2]);
    });
}

/// Three voters, two more nodes, and a lease of one second.
fn five(mutant: Option<Mutant>) -> Script {
    let mut s = Script::new(mutant, vec![TRUE; 5], &[(SECOND, &[("a", &[1])])]);
    s.world.grant(&group("a"), NodeId(1), quorate_model::id::Epoch(0));
    for node in 1..=3 {
        s.world.append(NodeId(node));
    }
    for node in 1..=3 {
        s.apply(node);
    }
    s
}

/// Nodes 4 and 5 become voters, one after the other; node 1 hears of nothing.
fn two_changes(s: &mut Script, between: u64) {
    s.voters(&[&[1, 2, 3], &[1, 2, 3, 4]], &[2, 3, 4]);
    s.voters(&[&[1, 2, 3, 4]], &[2, 3, 4]);
    s.pass(between);
    s.voters(&[&[1, 2, 3, 4], &[1, 2, 3, 4, 5]], &[2, 3, 4, 5]);
    s.voters(&[&[1, 2, 3, 4, 5]], &[2, 3, 4, 5]);
}

fn successor(s: &mut Script) {
    let previous = s.world.log.epoch(&group("a"));
    s.world.grant(&group("a"), NodeId(5), previous);
    for node in 2..=5 {
        s.world.append(NodeId(node));
    }
    for node in 2..=5 {
        s.apply(node);
    }
    s.renew(5, &[3, 4, 5]);
}

#[test]
fn a_voter_acks_nobody_who_goes_by_an_older_membership() {
    shows(Mutant::NoMembershipRule, two_serve, five, |s| {
        two_changes(s, 2_100);
        s.renew(1, &[1, 2]);
        successor(s);
    });
}

#[test]
fn changes_of_the_voters_are_spaced() {
    let play = |between| {
        let mut s = five(None);
        s.renew(1, &[1, 2]);
        two_changes(&mut s, between);
        successor(&mut s);
        s
    };
    assert!(play(0).world.broken.as_ref().is_some_and(two_serve));
    ends_well(play(2_060));
}

#[test]
fn voters_change_one_at_a_time() {
    let play = |steps: &[&[u64]]| {
        let mut s = five(None);
        s.renew(1, &[1, 3]);
        for pair in steps.windows(2) {
            let (from, to) = (pair[0], pair[1]);
            s.voters(&[from, to], &[1, 2, 4, 5]);
            s.voters(&[to], &[1, 2, 4, 5]);
        }
        let previous = s.world.log.epoch(&group("a"));
        s.world.grant(&group("a"), NodeId(4), previous);
        for node in [1, 2, 4, 5] {
            s.world.append(NodeId(node));
        }
        s.apply(2);
        s.apply(4);
        s.renew(4, &[2, 4]);
        s
    };
    // A swap: {1, 3} of {1, 2, 3} and {2, 4} of {1, 2, 4} share nobody.
    assert!(play(&[&[1, 2, 3], &[1, 2, 4]]).world.broken.as_ref().is_some_and(two_serve));
    let one_added = play(&[&[1, 2, 3], &[1, 2, 3, 4]]);
    assert_eq!(one_added.world.broken, None);
    assert!(!one_added.serves(4), "two of four are no majority");
}
