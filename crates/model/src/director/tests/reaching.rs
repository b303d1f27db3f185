//! Directors that see different real servers of one group.

use super::*;
use crate::command::GrantReason;
use crate::reach::Reach;
use crate::spec::Format;

/// What the check of the configuration takes to a verdict, and no longer than the other directors have to
/// have been fit (`preempt_delay`): 2 s, then four tries of 3 s, 3 s apart.
const DELAY: Duration = Duration::from_secs(2 + 12 + 9);
const A_WHILE: Duration = Duration::from_secs(80);

/// All directors have probed all, the first one owns the group web, the third leads.
fn all_see_all(settings: &str) -> World {
    let plain = format!("{settings}\n[group.plain]");
    let text = CONFIGURATION.replace("[group.plain]", &plain);
    let mut world = World::with(&text, Role::Director, &ObservedServices::new());
    for (id, octet) in [1, 2, 3].into_iter().flat_map(|id| [(id, 11), (id, 12)]) {
        world.verdict(id, octet, Verdict::Up);
    }
    world.grant("web", 1);
    world.grant("plain", 2);
    world.lead(3);
    assert_eq!(world.govern(3, SECOND), []);
    world
}

const EVACUATES: &str = "evacuate_on_disagreement = true";

fn moved(world: &mut World, time: Duration) -> Vec<(u64, GrantReason)> {
    let moves = world.govern(3, time);
    moves.into_iter().filter(|(group, ..)| group == "web").map(|(_, to, why)| (to, why)).collect()
}

fn problems(world: &World, id: u64) -> Vec<String> {
    let problems = world.director(id).view(world.now).problems;
    problems.into_iter().filter(|problem| problem.contains("real servers")).collect()
}

#[test]
fn each_director_tells_how_many_real_servers_it_sees() {
    let mut world = World::new();
    world.run(SECOND);
    let reach = |world: &World, of: u64| {
        world.director(2).view(world.now).reach[&NodeId(of)].get(&group("web")).copied()
    };
    let revision = crate::id::Revision(1);
    assert_eq!(reach(&world, 1), Some(Reach { revision, up: 0, down: 0, all: 2 }));
    world.verdict(1, 11, Verdict::Up);
    world.verdict(1, 12, down());
    world.run(SECOND);
    assert_eq!(reach(&world, 1), Some(Reach { revision, up: 1, down: 1, all: 2 }));
    assert_eq!(reach(&world, 2), Some(Reach { revision, up: 0, down: 0, all: 2 }));
    world.weigh(12, Some(0));
    world.run(SECOND);
    let drained = Some(Reach { revision, up: 1, down: 0, all: 1 });
    assert_eq!(reach(&world, 1), drained, "one that is drained counts for nothing");
}

#[test]
fn an_owner_that_alone_sees_real_servers_down_says_so_and_keeps_its_group() {
    let mut world = all_see_all("");
    world.verdict(1, 11, down());
    assert_eq!(moved(&mut world, A_WHILE), []);
    assert_eq!(
        problems(&world, 1),
        [
            "sees 1 of 2 real servers of web down, while n2 sees 2 up: look at this director's own way to \
          them, or move it: `quorate transfer web --to n2`"
        ]
    );
    assert_eq!(problems(&world, 2), [""; 0]);
    let told = |world: &mut World, id: u64| -> Vec<String> {
        world.told(id).into_iter().filter(|told| told.starts_with("disagreement")).collect()
    };
    assert_eq!(told(&mut world, 1), ["disagreement n1 n1 !"], "the owner is the one to act");
    assert_eq!(told(&mut world, 2), ["disagreement n1 n1"]);
    let disagreed = |world: &World| world.director(2).view(world.now).disagreed;
    assert_eq!(disagreed(&world), BTreeSet::from([group("web")]));
    world.verdict(1, 11, Verdict::Up);
    world.run(SECOND);
    assert_eq!((problems(&world, 1), disagreed(&world)), (vec![], BTreeSet::new()));
    assert_eq!(told(&mut world, 1), ["disagreement_over n1 n1 !"]);
}

#[test]
fn a_standby_that_sees_fewer_says_so_too() {
    let mut world = all_see_all("");
    world.verdict(3, 11, down());
    world.verdict(3, 12, down());
    world.run(A_WHILE);
    let told = problems(&world, 3);
    assert_eq!(told.len(), 1);
    assert!(told[0].ends_with("way to them"), "{told:?}: there is nothing to move");
}

#[test]
fn a_group_leaves_an_owner_that_sees_fewer_once() {
    let mut world = all_see_all(EVACUATES);
    world.verdict(1, 11, down());
    assert_eq!(moved(&mut world, A_WHILE), [(2, GrantReason::Disagreement)]);
    assert_eq!(world.serves(1), []);
    assert_eq!(moved(&mut world, Duration::from_secs(300)), [], "it stays where it went");
}

#[test]
fn verdicts_that_directors_come_to_one_after_another_move_nothing() {
    let mut world = all_see_all(EVACUATES);
    for to in [down(), Verdict::Up] {
        let owner_first = if to == Verdict::Up { [3, 2, 1] } else { [1, 2, 3] };
        for id in owner_first {
            world.verdict(id, 11, to.clone());
            assert_eq!(moved(&mut world, DELAY / 3), []);
        }
        assert_eq!(moved(&mut world, A_WHILE), []);
    }
}

#[test]
fn real_servers_that_are_down_for_all_move_nothing() {
    let mut world = all_see_all(EVACUATES);
    for (id, octet) in [1, 2, 3].into_iter().flat_map(|id| [(id, 11), (id, 12)]) {
        world.verdict(id, octet, down());
    }
    assert_eq!(moved(&mut world, A_WHILE), []);
    assert_eq!(problems(&world, 1), [""; 0]);
}

#[test]
fn a_director_that_sees_others_but_not_more_gets_nothing() {
    let mut world = all_see_all(EVACUATES);
    world.verdict(1, 11, down());
    world.verdict(2, 12, down());
    world.verdict(3, 12, down());
    assert_eq!(moved(&mut world, A_WHILE), []);
}

#[test]
fn of_the_others_it_goes_to_one_that_sees_most() {
    let mut world = all_see_all(EVACUATES);
    world.verdict(1, 11, down());
    world.verdict(1, 12, down());
    world.verdict(2, 11, down());
    assert_eq!(moved(&mut world, A_WHILE), [(3, GrantReason::Disagreement)]);
}

#[test]
fn what_a_director_has_not_probed_is_not_held_against_it_nor_counted_for_it() {
    let mut world = all_see_all(EVACUATES);
    world.restart(1, 7);
    // Its daemon starts anew, and its probes take their time.
    assert_eq!(moved(&mut world, A_WHILE), [(1, GrantReason::Restarted)]);
    let mut world = all_see_all(EVACUATES);
    world.restart(2, 7);
    world.restart(3, 8);
    world.lead(3);
    world.verdict(1, 11, down());
    assert_eq!(moved(&mut world, A_WHILE), [], "nobody has seen more");
}

#[test]
fn a_preferred_director_gets_its_group_back_once_it_sees_as_much_again() {
    let settings = format!("prefer = [\"n1\"]\npreempt_delay = \"10s\"\n{EVACUATES}");
    let mut world = all_see_all(&settings);
    world.verdict(1, 11, down());
    assert_eq!(moved(&mut world, A_WHILE * 4), [(2, GrantReason::Disagreement)]);
    world.verdict(1, 11, Verdict::Up);
    assert_eq!(moved(&mut world, Duration::from_secs(9)), []);
    assert_eq!(moved(&mut world, A_WHILE), [(1, GrantReason::Preempt)]);
}

#[test]
fn an_evacuated_director_that_sees_more_changes_nothing() {
    let mut world = all_see_all(EVACUATES);
    world.evacuate(2);
    world.evacuate(3);
    world.apply_on(&[1, 2, 3]);
    world.verdict(1, 11, down());
    assert_eq!(moved(&mut world, A_WHILE), []);
}

#[test]
fn an_owner_that_dies_is_replaced_by_who_sees_most() {
    let mut world = all_see_all(EVACUATES);
    world.verdict(2, 11, down());
    assert_eq!(moved(&mut world, A_WHILE), []);
    world.cut = BTreeSet::from([1]);
    assert_eq!(moved(&mut world, SECOND), [(3, GrantReason::OwnerSilent)]);
}

#[test]
fn a_groups_own_delay_counts_in_place_of_its_checks() {
    let settings = format!("preempt_delay = \"1s\"\n{EVACUATES}\ndisagreement_delay = \"2s\"");
    let mut world = all_see_all(&settings);
    assert_eq!(moved(&mut world, SECOND * 15), []);
    world.verdict(1, 11, down());
    assert_eq!(moved(&mut world, SECOND), []);
    assert_eq!(moved(&mut world, SECOND * 2), [(2, GrantReason::Disagreement)]);
}

#[test]
fn directors_that_go_by_different_configurations_are_not_compared() {
    let mut world = all_see_all(EVACUATES);
    world.verdict(1, 11, down());
    world.state.configuration.as_mut().unwrap().revision = crate::id::Revision(2);
    let source = world.state.configuration.as_ref().unwrap().source.clone();
    world.state.spec =
        Arc::new(crate::spec::parse(&source.replace("2s", "3s"), Format::Toml).unwrap());
    world.apply_on(&[1]);
    world.run(A_WHILE);
    assert_eq!(world.nodes[&3].proposed, Vec::<Vec<Grant>>::new());
}

/// What the others would say: `None` where they have not probed it.
fn told(of: &[(u8, bool)]) -> Event {
    let servers = of.iter().map(|(octet, up)| (([10, 0, 0, *octet], 80).into(), *up));
    Event::Hearsay(BTreeMap::from([("web".parse().unwrap(), servers.collect())]))
}

#[test]
fn until_a_director_has_probed_what_the_others_see_counts() {
    let mut world = World::new();
    assert_eq!(world.weights(1), weights(&[(11, 1), (12, 1)]));
    world.event(1, told(&[(11, false)]));
    assert_eq!(world.weights(1), weights(&[(12, 1)]), "as after a restart of the machine");
    world.verdict(1, 11, Verdict::Up);
    world.event(1, told(&[(11, false), (12, true)]));
    assert_eq!(world.weights(1), weights(&[(11, 1), (12, 1)]), "it knows better");
}

#[test]
fn what_the_others_see_brings_up_what_starts_down() {
    let text = CONFIGURATION.replace("interval = \"2s\"", "interval = \"2s\", start = \"down\"");
    let mut world = World::with(&text, Role::Director, &ObservedServices::new());
    assert_eq!(world.weights(1), weights(&[]));
    world.event(1, told(&[(11, true), (12, false)]));
    assert_eq!(world.weights(1), weights(&[(11, 1)]));
}

#[test]
fn what_a_directors_own_kernel_held_counts_before_what_the_others_see() {
    let mut world = World::with(CONFIGURATION, Role::Director, &found(&[(11, 1)]));
    world.event(1, told(&[(11, false), (12, true)]));
    assert_eq!(world.weights(1), weights(&[(11, 1)]));
}

#[test]
fn what_the_others_saw_before_is_no_news_when_it_is_found_to_be_so() {
    let mut world = World::new();
    world.event(1, told(&[(11, false)]));
    world.told(1);
    world.verdict(1, 11, down());
    world.verdict(1, 12, down());
    assert_eq!(world.told(1), ["real_server_down 10.0.0.12", "quorum_down web"]);
}

/// Its switch is broken for two of them, and the second notices it later.
#[test]
fn a_group_goes_to_who_sees_more_and_not_to_who_is_about_to_see_as_little() {
    let mut world = all_see_all(EVACUATES);
    assert_eq!(moved(&mut world, A_WHILE), []);
    world.verdict(1, 11, down());
    assert_eq!(moved(&mut world, SECOND * 2), []);
    world.verdict(2, 11, down());
    assert_eq!(moved(&mut world, A_WHILE), [(3, GrantReason::Disagreement)]);
}

#[test]
fn one_that_has_probed_nothing_yet_is_not_who_sees_more() {
    let mut world = all_see_all(EVACUATES);
    assert_eq!(moved(&mut world, A_WHILE), []);
    world.restart(2, 7);
    world.lead(3);
    world.verdict(1, 11, down());
    assert_eq!(moved(&mut world, A_WHILE), [(3, GrantReason::Disagreement)]);
}

/// It sees more, but takes no grant up: its disk hangs.
/// The moves of this time, so many at the most, with when each was: the second director applies none.
fn moved_without_the_second(
    world: &mut World,
    time: Duration,
    most: usize,
) -> Vec<(Instant, u64, GrantReason)> {
    let (mut moves, end) = (Vec::new(), world.now + time);
    while world.now < end && moves.len() < most {
        world.run(R * 4);
        let proposed = std::mem::take(&mut world.nodes.get_mut(&3).unwrap().proposed);
        for grants in proposed {
            let index = crate::id::LogIndex(world.state.applied.0 + 1);
            moves.extend(grants.iter().map(|grant| (world.now, grant.owner.0, grant.reason)));
            let at = crate::command::UnixMillis(0);
            world.state.apply(index, &crate::command::Command::Grant { at, grants }).unwrap();
            world.apply_on(&[1, 3]);
            world.event(3, Event::Proposed);
        }
    }
    moves
}

#[test]
fn one_that_sees_more_and_takes_no_grant_up_gets_the_group_again_later_each_time() {
    let mut world = all_see_all(&format!("{EVACUATES}\npreempt_delay = \"10s\""));
    world.verdict(1, 11, down());
    world.verdict(3, 11, down());
    let moves = moved_without_the_second(&mut world, SECOND * 240, usize::MAX);
    let to_second = moves.iter().filter(|(_, to, _)| *to == 2).map(|(at, ..)| *at);
    let to_second: Vec<Instant> = to_second.collect();
    let gaps = to_second.windows(2).map(|pair| pair[1].since(pair[0]).as_secs());
    let gaps: Vec<u64> = gaps.collect();
    // The commit, and the time until the silence is noticed, come on top.
    assert!(gaps.len() >= 4 && gaps.len() <= 5, "{gaps:?}: {moves:?}");
    for (gap, least) in gaps.iter().zip([10, 20, 40, 80]) {
        assert!((least..least + 5).contains(gap), "{gaps:?}");
    }
}

#[test]
fn a_group_goes_back_to_one_that_sees_fewer_rather_than_to_nobody() {
    let mut world = all_see_all(EVACUATES);
    world.verdict(1, 11, down());
    world.verdict(3, 11, down());
    let applied = world.state.clone();
    let moves = moved_without_the_second(&mut world, SECOND * 120, 2);
    assert_eq!(applied.grants[&group("web")].owner, NodeId(1));
    let moves: Vec<_> = moves.into_iter().map(|(_, to, why)| (to, why)).collect();
    assert_eq!(moves, [(2, GrantReason::Disagreement), (1, GrantReason::OwnerSilent)]);
    world.run(SECOND * 20);
    assert!(world.serves(1).contains(&vip(WEB)));
}

#[test]
fn a_late_report_or_another_configuration_is_no_agreement() {
    let settings = format!("prefer = [\"n1\"]\npreempt_delay = \"1s\"\n{EVACUATES}");
    let mut world = all_see_all(&settings);
    world.verdict(1, 11, down());
    assert_eq!(moved(&mut world, A_WHILE), [(2, GrantReason::Disagreement)]);
    // Nothing is heard of the first for a while, and then it restarts, and nothing of it has been probed.
    world.cut = BTreeSet::from([1]);
    assert_eq!(moved(&mut world, SECOND), []);
    world.cut = BTreeSet::new();
    assert_eq!(moved(&mut world, SECOND * 5), [], "it sees fewer still");
    world.state.configuration.as_mut().unwrap().revision = crate::id::Revision(2);
    world.apply_on(&[2, 3]);
    assert_eq!(moved(&mut world, SECOND * 5), []);
    world.apply_on(&[1]);
    assert_eq!(moved(&mut world, SECOND * 5), []);
    world.verdict(1, 11, Verdict::Up);
    assert_eq!(moved(&mut world, SECOND * 5), [(1, GrantReason::Preempt)]);
}

#[test]
fn a_director_that_has_not_applied_a_drain_does_not_see_more() {
    let mut world = all_see_all(EVACUATES);
    let order = crate::overrides::Override {
        weight: 0,
        order: crate::command::Order {
            author: "ada".to_owned(),
            at: crate::command::UnixMillis(0),
        },
        until: None,
    };
    let web = world.state.spec.services.keys().next().unwrap().clone();
    world.state.overrides.set(&web, ([10, 0, 0, 12], 80).into(), Some(order));
    world.state.applied.0 += 1;
    world.apply_on(&[1, 3]);
    world.verdict(3, 11, Verdict::Up);
    assert_eq!(moved(&mut world, A_WHILE), []);
}

#[test]
fn what_a_director_can_not_try_any_more_it_does_not_see() {
    let mut world = all_see_all(EVACUATES);
    assert_eq!(moved(&mut world, A_WHILE), []);
    let target = |octet: u8| {
        let targets = crate::desired::probe_targets(&world.state.spec);
        let address = std::net::SocketAddr::from(([10, 0, 0, octet], 80));
        targets.into_iter().find(|target| target.address == address).unwrap()
    };
    let (first, second) = (target(11), target(12));
    for id in [2, 3] {
        world.event(id, Event::Blind(first.clone(), true));
        world.event(id, Event::Blind(second.clone(), true));
    }
    for octet in [11, 12] {
        world.verdict(1, octet, down());
    }
    assert_eq!(moved(&mut world, A_WHILE), [], "the others only think that they see it");
    assert_eq!(problems(&world, 1), [""; 0]);
    let told = world.director(2).view(world.now).problems;
    assert!(
        told.iter().any(|problem| problem.starts_with("can't try 2 of its checks")),
        "{told:?}"
    );
    world.event(3, Event::Blind(first, false));
    assert_eq!(moved(&mut world, A_WHILE), [(3, GrantReason::Disagreement)]);
}
