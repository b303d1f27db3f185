//! What a director tells of what happens, and what it does not.

use super::*;
use crate::command::Order;
use crate::command::UnixMillis;
use crate::id::LogIndex;
use crate::occurrence::Kind;

impl World {
    /// What a node told since it was asked last: the word, what it concerns, the owner and the one before,
    /// and `!` where it is the one to act.
    pub(super) fn told(&mut self, id: u64) -> Vec<String> {
        let told = std::mem::take(&mut self.nodes.get_mut(&id).unwrap().told);
        let line = |Told { occurrence: o, mine }: Told| {
            let server = o.real_server.map(|server| server.ip().to_string());
            let concerns = o.subject.or(server).or_else(|| o.group.map(|g| g.to_string()));
            let owner = match (o.previous_owner, o.owner) {
                (Some(before), Some(owner)) => format!(" {before} -> {owner}"),
                (None, Some(owner)) => format!(" {owner}"),
                (_, None) => String::new(),
            };
            let act = if mine { " !" } else { "" };
            format!("{} {}{owner}{act}", o.kind.word(), concerns.unwrap_or_default())
        };
        told.into_iter().map(line).collect()
    }

    /// Forgets what was told so far.
    fn forget_told(&mut self) {
        (1..=3).for_each(|id| drop(self.told(id)));
    }

    /// The log goes on by one entry, and all apply it.
    fn apply(&mut self, change: impl FnOnce(&mut ClusterState)) {
        change(&mut self.state);
        self.state.applied = LogIndex(self.state.applied.0 + 1);
        self.apply_on(&[1, 2, 3]);
    }
}

const NOTHING: [&str; 0] = [];

#[test]
fn every_director_tells_the_same_of_a_grant_and_the_new_owner_alone_is_the_one_to_act() {
    let mut world = World::new();
    world.grant("web", 1);
    assert_eq!(world.told(1), ["owner_changed web n1 !", "group_up web n1 !"]);
    assert_eq!(world.told(2), ["owner_changed web n1"]);
    assert_eq!(world.told(3), ["owner_changed web n1"]);
    world.run(SECOND);
    (1..=3).for_each(|id| assert_eq!(world.told(id), NOTHING, "its lease is renewed"));
    world.grant("web", 2);
    world.run(SECOND);
    assert_eq!(world.told(1), ["owner_changed web n1 -> n2", "group_down web n2 !"]);
    assert_eq!(world.told(2), ["owner_changed web n1 -> n2 !", "group_up web n2 !"]);
    assert_eq!(world.told(3), ["owner_changed web n1 -> n2"]);
    world.run(SECOND);
    (1..=3).for_each(|id| assert_eq!(world.told(id), NOTHING));
}

#[test]
fn a_lease_that_ran_out_is_told_by_who_had_it_and_so_is_the_next_one() {
    let mut world = World::new();
    world.grant("web", 1);
    world.run(SECOND);
    world.forget_told();
    world.cut = BTreeSet::from([1]);
    world.run(SECOND);
    assert_eq!(world.told(1), ["group_down web n1 !"]);
    world.cut = BTreeSet::new();
    world.run(SECOND);
    assert_eq!(world.told(1), ["group_up web n1 !"], "under the same grant");
}

#[test]
fn a_group_that_is_served_again_says_for_how_long_it_was_not() {
    let gap = |world: &mut World, id: u64| {
        let told = std::mem::take(&mut world.nodes.get_mut(&id).unwrap().told);
        let up: Vec<_> = told.into_iter().filter(|t| t.occurrence.kind == Kind::GroupUp).collect();
        assert_eq!(up.len(), 1, "{up:?}");
        up[0].occurrence.gap
    };
    let mut world = World::new();
    world.grant("web", 1);
    assert_eq!(gap(&mut world, 1), None, "nobody served it before");
    world.run(SECOND);
    // A move that is ordered takes round trips, and the last renewal before it is one interval old.
    world.grant("web", 2);
    world.run(SECOND);
    let planned = gap(&mut world, 2).unwrap();
    assert!(planned < Duration::from_millis(200), "{planned:?}");
    world.forget_told();
    // Its owner falls silent for two seconds: that counts, and not only from the grant on.
    world.cut = BTreeSet::from([2]);
    world.run(SECOND * 2);
    world.decide("web", 3, 3);
    world.apply_on(&[1, 3]);
    world.run(SECOND);
    let failover = gap(&mut world, 3).unwrap();
    assert!(failover >= SECOND * 2 && failover < SECOND * 4, "{failover:?}");
    // A lease that lapsed and came back is measured by who had it.
    world.cut = BTreeSet::from([3]);
    world.forget_told();
    world.run(SECOND);
    world.cut = BTreeSet::new();
    world.run(SECOND);
    let lapse = gap(&mut world, 3).unwrap();
    assert!(lapse > Duration::from_millis(200) && lapse < SECOND, "{lapse:?}");
}

#[test]
fn a_daemon_that_starts_tells_nothing_that_was_so_before() {
    let mut world = World::with(CONFIGURATION, Role::Director, &found(&[(11, 1)]));
    (1..=3).for_each(|id| assert_eq!(world.told(id), NOTHING));
    world.grant("web", 1);
    world.grant("plain", 3);
    world.verdict(2, 12, down());
    world.verdict(2, 11, Verdict::Up);
    assert_eq!(
        world.told(2),
        ["owner_changed web n1", "owner_changed plain n3"],
        "12 was missing in the kernel, and 11 was there"
    );
    world.restart(2, 22);
    world.verdict(2, 12, down());
    world.verdict(2, 11, Verdict::Up);
    world.run(SECOND);
    assert_eq!(world.told(2), NOTHING);
    world.verdict(2, 11, down());
    assert_eq!(world.told(2), ["real_server_down 10.0.0.11 n1", "quorum_down web n1"]);
}

#[test]
fn what_a_starting_daemon_reads_of_the_log_is_no_news_but_a_grant_to_itself_is() {
    let mut world = World::new();
    world.grant("web", 1);
    world.heard = Some(LogIndex(14));
    world.restart(2, 22);
    world.decide("web", 3, 3);
    world.apply_on(&[2]);
    assert_eq!(world.told(2), NOTHING, "it is still behind");
    world.decide("plain", 2, 22);
    world.apply_on(&[2]);
    assert_eq!(world.told(2), ["owner_changed plain n2 !", "group_up plain n2 !"]);
    world.decide("web", 1, 1);
    world.apply_on(&[2]);
    assert_eq!(world.told(2), NOTHING, "this is the entry that it had heard of");
    world.decide("web", 3, 3);
    world.apply_on(&[2]);
    assert_eq!(world.told(2), ["owner_changed web n1 -> n3"]);
}

#[test]
fn an_owner_that_restarts_is_granted_anew_and_acts_on_that() {
    let mut world = World::new();
    world.grant("web", 1);
    world.run(SECOND);
    world.restart(1, 11);
    assert_eq!(world.told(1), NOTHING, "what was granted to the daemon before");
    world.grant_to("web", 1, 11);
    world.run(SECOND * 2);
    assert_eq!(world.told(1), ["owner_changed web n1 -> n1 !", "group_up web n1 !"]);
}

#[test]
fn each_director_tells_its_own_verdicts_and_the_owner_of_the_group_is_the_one_to_act() {
    let mut world = World::new();
    world.grant("web", 1);
    world.run(SECOND);
    world.forget_told();
    world.verdict(1, 11, down());
    world.verdict(2, 11, down());
    assert_eq!(world.told(1), ["real_server_down 10.0.0.11 n1 !"]);
    assert_eq!(world.told(2), ["real_server_down 10.0.0.11 n1"]);
    assert_eq!(world.told(3), NOTHING);
    world.verdict(1, 11, Verdict::Down("another reason".to_owned()));
    assert_eq!(world.told(1), NOTHING, "down it was");
    world.verdict(1, 12, down());
    assert_eq!(world.told(1), ["real_server_down 10.0.0.12 n1 !", "quorum_down web n1 !"]);
    world.verdict(1, 11, Verdict::Up);
    assert_eq!(world.told(1), ["real_server_up 10.0.0.11 n1 !", "quorum_up web n1 !"]);
    world.verdict(1, 11, Verdict::Weighs(7));
    assert_eq!(world.told(1), ["real_server_weight 10.0.0.11 n1 !"]);
}

#[test]
fn a_down_is_told_with_its_reason_and_the_grant_in_force() {
    let mut world = World::new();
    let epoch = world.grant("web", 1);
    world.forget_told();
    world.verdict(2, 11, down());
    let told = world.nodes[&2].told[0].occurrence.clone();
    assert_eq!(told.reason, "connection refused");
    assert_eq!((told.epoch, told.weight), (Some(epoch), None));
    assert_eq!(told.service.map(|s| s.to_string()), Some("web".to_owned()));
}

#[test]
fn another_configuration_tells_nothing_again() {
    let mut world = World::new();
    world.grant("web", 1);
    world.verdict(1, 11, down());
    world.forget_told();
    let more = CONFIGURATION.replace("\"2s\"", "\"3s\"");
    let more = more.replace(
        "[{ address = \"10.0.0.11:80\" }",
        "[{ address = \"10.0.0.13:80\" }, { address = \"10.0.0.11:80\", weight = 5 }",
    );
    world.configure(&more);
    assert_eq!(world.told(1), NOTHING);
    world.verdict(1, 11, down());
    world.verdict(1, 12, Verdict::Up);
    world.verdict(1, 13, Verdict::Up);
    assert_eq!(world.told(1), NOTHING);
    world.verdict(1, 11, Verdict::Up);
    assert_eq!(world.told(1), ["real_server_up 10.0.0.11 n1 !"]);
}

#[test]
fn an_inhibited_real_server_that_the_kernel_had_at_weight_0_was_down_and_a_drained_one_was_not() {
    for (lines, told) in [("inhibit = true\n", vec!["real_server_up 10.0.0.12"]), ("", vec![])] {
        let configuration = format!("{CONFIGURATION}{lines}");
        let mut world = World::with(&configuration, Role::Director, &found(&[(11, 1), (12, 0)]));
        world.verdict(1, 12, Verdict::Up);
        assert_eq!(world.told(1), told);
    }
}

#[test]
fn what_operators_order_is_told_by_every_director_and_the_next_configuration_too() {
    let mut world = World::new();
    world.forget_told();
    let order = || Order { author: "ada".to_owned(), at: UnixMillis(0) };
    world.apply(|state| drop(state.evacuated.insert(NodeId(2), order())));
    world.apply(|state| state.paused = Some(order()));
    world.apply(|state| drop(state.evacuated.remove(&NodeId(2))));
    world.apply(|state| state.paused = None);
    world.weigh(11, Some(0));
    world.weigh(11, None);
    world.apply(|state| {
        let configuration = state.configuration.as_mut().unwrap();
        configuration.revision = crate::id::Revision(2);
    });
    let expected = [
        "node_evacuated n2",
        "cluster_paused ",
        "node_restored n2",
        "cluster_resumed ",
        "weight_ordered 10.0.0.11",
        "weight_ordered 10.0.0.11",
        "configuration_applied ",
    ];
    (1..=3).for_each(|id| assert_eq!(world.told(id), expected));
}

#[test]
fn a_daemon_that_stops_says_why_it_serves_no_more() {
    let mut world = World::new();
    world.grant("web", 1);
    world.run(SECOND);
    world.forget_told();
    world.event(1, Event::Stop);
    world.run(R);
    let told = &world.nodes[&1].told;
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].occurrence.kind, told[0].mine), (crate::occurrence::Kind::GroupDown, true));
    assert_eq!(told[0].occurrence.reason, "the daemon stops");
}

#[test]
fn a_witness_tells_what_was_decided_and_nothing_of_real_servers() {
    let mut world = World::with(CONFIGURATION, Role::Witness, &ObservedServices::new());
    world.grant("web", 1);
    world.run(SECOND);
    assert_eq!(world.told(3), ["owner_changed web n1"]);
}
