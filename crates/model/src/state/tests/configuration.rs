//! Configurations that have to be confirmed, and the revisions before.

use super::*;
use crate::command::Order;
use crate::overrides::Override;

const SHOP: &str = "[group.web]\ninterface = \"public\"\naddresses = [\"10.0.0.100/32\"]\n\
    [service.shop]\ngroup = \"web\"\nlisten = \"tcp/10.0.0.100:80\"\n\
    real_servers = [{ address = \"10.0.1.1:80\" }, { address = \"10.0.1.2:80\" }]\n";

fn ada() -> Order {
    Order { author: "ada".to_owned(), at: UnixMillis(50) }
}

/// To be confirmed until then.
fn trial(request: u128, until: u64, source: &str) -> Command {
    let Command::Configure(plain) = configure(request, None, source) else {
        panic!("no configure")
    };
    Command::Configure(Configure { confirm_until: Some(UnixMillis(until)), ..plain })
}

fn confirm(revision: u64) -> Command {
    Command::Confirm { revision: Revision(revision), order: ada() }
}

fn due(revision: u64, until: u64) -> Command {
    let until = Some(UnixMillis(until));
    Command::RollBack { revision: Revision(revision), until, order: ada() }
}

fn abort(revision: u64) -> Command {
    Command::RollBack { revision: Revision(revision), until: None, order: ada() }
}

impl Cluster {
    fn source(&self) -> &str {
        self.state.configuration.as_ref().map_or("", |kept| &kept.source)
    }

    fn groups(&self) -> Vec<&str> {
        self.state.spec.groups.keys().map(GroupName::as_str).collect()
    }
}

#[test]
fn what_nobody_confirms_gives_way_to_the_one_before_under_a_new_revision() {
    let mut cluster = Cluster::with_web();
    assert_eq!(cluster.configured(trial(2, 100, DB)), (2, true));
    assert_eq!(cluster.groups(), ["db"], "it is in force meanwhile");
    assert_eq!(cluster.configured(due(2, 100)), (3, true));
    assert_eq!((cluster.source(), cluster.groups()), (WEB, vec!["web"]));
    let kept = cluster.state.configuration.clone().unwrap();
    assert_eq!((kept.takes_back, kept.author.as_str()), (Some(Revision(2)), "ada"));
    assert_eq!(kept.message, "rollback of revision 2, which nobody confirmed");
    assert_eq!(cluster.state.unconfirmed, None);
    assert!(
        cluster.state.was_taken_back(Revision(2)) && !cluster.state.was_taken_back(Revision(1))
    );
    // It comes once, however often it is proposed.
    assert_eq!(cluster.configured(due(2, 100)), (3, false));
}

#[test]
fn what_is_confirmed_stays_and_is_rolled_back_no_more() {
    let mut cluster = Cluster::with_web();
    cluster.done(trial(2, 100, DB));
    assert_eq!(cluster.configured(confirm(2)), (2, true));
    assert_eq!(cluster.configured(confirm(2)), (2, false), "the same again is no error");
    let settled = Refused::NotUnconfirmed { revision: Revision(2), current: Revision(2) };
    assert_eq!(cluster.refused(due(2, 100)), settled);
    assert_eq!(cluster.refused(abort(2)), settled);
    assert_eq!(cluster.groups(), ["db"]);
    assert_eq!(cluster.state.configuration.as_ref().unwrap().confirmed, Some(ada()));
}

#[test]
fn an_abort_does_not_wait_for_the_deadline_and_comes_once() {
    let mut cluster = Cluster::with_web();
    cluster.done(trial(2, 100, DB));
    assert_eq!(cluster.configured(abort(2)), (3, true));
    assert_eq!(cluster.configured(abort(2)), (3, false));
    assert_eq!(cluster.source(), WEB);
    let kept = cluster.state.configuration.clone().unwrap();
    assert_eq!(kept.message, "rollback of revision 2, which was aborted");
}

#[test]
fn only_the_revision_that_is_named_is_confirmed_or_rolled_back() {
    let mut cluster = Cluster::with_web();
    cluster.done(trial(2, 100, DB));
    for other in [1, 3] {
        let refused = Refused::NotUnconfirmed { revision: Revision(other), current: Revision(2) };
        assert_eq!(cluster.refused(confirm(other)), refused);
        assert_eq!(cluster.refused(abort(other)), refused);
        assert_eq!(cluster.refused(due(other, 100)), refused);
    }
    // Whoever confirms too late is told so.
    cluster.done(due(2, 100));
    let late = Refused::NotUnconfirmed { revision: Revision(2), current: Revision(3) };
    assert_eq!(cluster.refused(confirm(2)), late);
}

#[test]
fn nothing_else_is_applied_while_a_revision_waits_to_be_confirmed() {
    let mut cluster = Cluster::with_web();
    cluster.done(trial(2, 100, DB));
    for other in [configure(3, None, WEB), configure(3, None, DB), trial(3, 200, WEB)] {
        assert_eq!(cluster.refused(other), Refused::Unconfirmed(Revision(2)));
    }
    assert_eq!(
        cluster.refused(configure(3, Some(1), WEB)),
        Refused::Conflict { current: Revision(2), expected: Revision(1) }
    );
    // Orders about ownership are no configuration.
    cluster.done(pin("db", Some(2)));
    cluster.done(confirm(2));
    assert_eq!(
        cluster.configured(configure(3, None, WEB)),
        (3, true),
        "the request may come again"
    );
}

#[test]
fn the_same_again_moves_the_deadline_and_the_old_one_counts_no_more() {
    let mut cluster = Cluster::with_web();
    cluster.done(trial(2, 100, DB));
    assert_eq!(cluster.configured(trial(3, 200, DB)), (2, false));
    let settled = Refused::NotUnconfirmed { revision: Revision(2), current: Revision(2) };
    assert_eq!(cluster.refused(due(2, 100)), settled);
    assert_eq!(cluster.configured(due(2, 200)), (3, true));
    assert_eq!(cluster.source(), WEB);
}

#[test]
fn what_is_in_force_already_has_nothing_to_be_confirmed() {
    let mut cluster = Cluster::with_web();
    assert_eq!(cluster.configured(trial(2, 100, WEB)), (1, false));
    assert_eq!(cluster.state.unconfirmed, None);
}

#[test]
fn the_first_configuration_gives_way_to_the_empty_one() {
    let mut cluster = Cluster::new();
    cluster.done(trial(1, 100, WEB));
    assert_eq!(cluster.configured(due(1, 100)), (2, true));
    assert_eq!((cluster.source(), cluster.groups()), ("", vec![]));
}

#[test]
fn the_timing_before_comes_back_though_the_text_before_names_none() {
    let mut cluster = Cluster::with_web();
    let lan = cluster.state.timing;
    cluster.done(trial(2, 100, &format!("[cluster]\ntiming = \"wan\"\n{WEB}")));
    assert_eq!(cluster.state.timing, Timing::WAN);
    cluster.done(due(2, 100));
    assert_eq!(cluster.state.timing, lan);
    assert_eq!(cluster.state.longest_lease, Timing::WAN.lease(), "promises of then may still run");
}

#[test]
fn an_epoch_never_comes_again_though_its_group_does() {
    let mut cluster = Cluster::with_web();
    let first = cluster.next;
    cluster.granted(grant(0, 1));
    cluster.done(trial(2, 100, DB));
    cluster.done(due(2, 100));
    assert_eq!(cluster.epoch("web"), None);
    assert_eq!(cluster.granted(grant(first, 1)), [], "a grant from before is stale");
    cluster.granted(grant(0, 2));
    assert!(cluster.epoch("web").unwrap() > first);
}

#[test]
fn pins_and_weights_that_it_ended_come_back_with_what_they_are_of() {
    let mut cluster = Cluster::new();
    cluster.done(configure(1, None, SHOP));
    cluster.done(pin("web", Some(2)));
    let server = |last: u8| ([10, 0, 1, last], 80).into();
    let weigh = |last, until: Option<u64>| Command::Override {
        servers: vec![("shop".parse().unwrap(), server(last))],
        to: Some(Override { weight: 0, order: ada(), until: until.map(UnixMillis) }),
    };
    cluster.done(weigh(1, None));
    cluster.done(weigh(2, Some(40)));
    cluster.done(trial(2, 100, DB));
    assert!(cluster.state.pins.is_empty() && cluster.state.overrides.is_empty());
    cluster.done(due(2, 100));
    assert_eq!(cluster.pinned(), Some(2));
    let left: Vec<_> = cluster.state.overrides.iter().map(|(_, server, _)| *server).collect();
    assert_eq!(left, [server(1)], "the time of the other is over");
}

#[test]
fn a_pin_to_a_node_that_left_meanwhile_does_not_come_back() {
    let mut cluster = Cluster::with_web();
    cluster.done(pin("web", Some(2)));
    cluster.done(trial(2, 100, DB));
    cluster.done(Command::Leave(NodeId(2)));
    cluster.done(Command::Forget(NodeId(2)));
    cluster.done(due(2, 100));
    assert_eq!((cluster.groups(), cluster.pinned()), (vec!["web"], None));
}

#[test]
fn the_one_before_comes_back_though_its_nodes_have_left_and_others_joined() {
    let mut cluster = Cluster::new();
    cluster.done(configure(1, None, &format!("{WEB}only = [\"n2\"]\n")));
    cluster.done(trial(2, 100, DB));
    cluster.done(Command::Leave(NodeId(2)));
    cluster.done(Command::Forget(NodeId(2)));
    // Applied by somebody, it would be refused: no director may own its group.
    assert_eq!(cluster.configured(due(2, 100)), (3, true));
    assert_eq!(cluster.groups(), ["web"]);
}

#[test]
fn the_last_revisions_are_kept_with_who_applied_them() {
    let mut cluster = Cluster::new();
    let text = |number: u64| format!("{WEB}preempt_delay = \"{number}s\"\n");
    for number in 1..=30 {
        cluster.done(configure(u128::from(number), None, &text(number)));
    }
    assert_eq!(cluster.state.history.len() + 1, REVISIONS_MAX);
    assert_eq!(cluster.state.configuration_of(Revision(10)), None);
    for number in 11..=30 {
        let kept = cluster.state.configuration_of(Revision(number)).unwrap();
        assert_eq!((&kept.source, kept.author.as_str()), (&text(number), "tester"));
    }
}

#[test]
fn long_texts_push_out_the_oldest_but_never_what_may_come_back() {
    let mut cluster = Cluster::new();
    let long = |number: usize, bytes: usize| {
        format!("# {}\n{WEB}preempt_delay = \"{number}s\"\n", "x".repeat(bytes))
    };
    for number in 1..=4 {
        cluster.done(configure(number as u128, None, &long(number, REVISIONS_BYTES_MAX / 4)));
    }
    let kept = |cluster: &Cluster| -> Vec<u64> {
        cluster.state.history.iter().map(|kept| kept.revision.0).collect()
    };
    assert_eq!(kept(&cluster), [2, 3], "four quarters and a bit are too much");
    cluster.done(trial(5, 100, &long(5, REVISIONS_BYTES_MAX)));
    assert_eq!(kept(&cluster), [4], "it may come back");
    cluster.done(trial(6, 200, &long(5, REVISIONS_BYTES_MAX)));
    cluster.done(due(5, 200));
    assert_eq!(cluster.source(), long(4, REVISIONS_BYTES_MAX / 4));
    assert_eq!(kept(&cluster), [0; 0], "nothing fits beside it that is as long as all may be");
}

#[test]
fn the_time_left_is_never_more_than_was_asked_for_whatever_a_clock_says() {
    let mut cluster = Cluster::with_web();
    cluster.done(trial(2, 20_005, DB));
    let left = |now| cluster.state.unconfirmed.as_ref().unwrap().left(UnixMillis(now));
    assert_eq!(left(5), Duration::from_secs(20));
    assert_eq!(left(10_005), Duration::from_secs(10));
    assert_eq!(left(0), Duration::from_secs(20), "a clock that is behind");
    assert_eq!(left(u64::MAX), Duration::ZERO, "a clock that is ahead");
}

#[test]
fn a_message_is_one_line_of_bounded_length() {
    assert!(is_message("") && is_message("Montag, grün"));
    assert!(is_message(&"x".repeat(MESSAGE_BYTES_MAX)));
    for bad in ["two\nlines".to_owned(), "\u{1b}[31m".to_owned(), "x".repeat(501)] {
        assert!(!is_message(&bad), "{bad:?} passed");
    }
}
