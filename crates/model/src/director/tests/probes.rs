//! What probes say of real servers, and what counts until they do.

use super::*;
use crate::desired;

#[test]
fn a_real_server_that_the_kernel_found_without_is_not_put_back_before_it_answers() {
    let mut world = World::with(CONFIGURATION, Role::Director, &found(&[(11, 1)]));
    assert_eq!(world.weights(1), weights(&[(11, 1)]));
    world.verdict(1, 12, Verdict::Up);
    assert_eq!(world.weights(1), weights(&[(11, 1), (12, 1)]));
}

#[test]
fn a_real_server_that_the_kernel_found_at_weight_0_stays_so_before_it_answers() {
    let inhibit = format!("{CONFIGURATION}inhibit = true\n");
    let mut world = World::with(&inhibit, Role::Director, &found(&[(11, 1), (12, 0)]));
    assert_eq!(world.weights(1), weights(&[(11, 1), (12, 0)]));
    world.verdict(1, 12, Verdict::Up);
    assert_eq!(world.weights(1), weights(&[(11, 1), (12, 1)]));
}

#[test]
fn a_real_server_that_is_down_leaves_the_table_and_comes_back_by_itself() {
    let mut world = World::new();
    world.verdict(1, 11, down());
    assert_eq!(world.weights(1), weights(&[(12, 1)]));
    assert_eq!(world.weights(2), weights(&[(11, 1), (12, 1)]), "each goes by its own verdicts");
    world.verdict(1, 11, Verdict::Up);
    assert_eq!(world.weights(1), weights(&[(11, 1), (12, 1)]));
}

#[test]
fn an_inhibited_real_server_that_is_down_stays_with_weight_0() {
    let inhibit = format!("{CONFIGURATION}inhibit = true\n");
    let mut world = World::with(&inhibit, Role::Director, &ObservedServices::new());
    world.verdict(1, 11, down());
    assert_eq!(world.weights(1), weights(&[(11, 0), (12, 1)]));
    world.verdict(1, 11, Verdict::Up);
    assert_eq!(world.weights(1), weights(&[(11, 1), (12, 1)]));
}

#[test]
fn a_verdict_that_changes_nothing_sets_no_goal() {
    let mut world = World::new();
    let goals = world.nodes[&1].services.len();
    world.verdict(1, 11, Verdict::Up);
    assert_eq!(world.nodes[&1].services.len(), goals);
}

/// A rack fails: the whole table is not reckoned for each of its real servers.
#[test]
fn verdicts_that_come_together_change_the_table_at_once_and_once_more() {
    let octets = 11..=90;
    let server = |octet: u8| format!("{{ address = \"10.0.0.{octet}:80\" }}");
    let servers: Vec<String> = octets.clone().map(server).collect();
    let two = [11, 12].map(server).join(", ");
    let many = CONFIGURATION.replace(&two, &servers.join(", "));
    let mut world = World::with(&many, Role::Director, &ObservedServices::new());
    world.run(Duration::from_secs(1));
    let before = world.nodes[&1].services.len();
    world.hear_verdict(1, 11, down());
    assert_eq!(world.weights(1).len(), 79, "the first counts at once");
    for octet in octets.skip(1).step_by(2) {
        world.hear_verdict(1, octet, down());
    }
    assert_eq!(world.nodes[&1].services.len(), before + 1);
    world.run(Duration::from_millis(6));
    assert_eq!(world.nodes[&1].services.len(), before + 2);
    let left: Vec<(u8, u32)> = (13..=89).step_by(2).map(|octet| (octet, 1)).collect();
    assert_eq!(world.weights(1), weights(&left));
}

#[test]
fn a_changed_check_changes_no_verdict_before_it_has_spoken() {
    // The kernel held none of them at the start, as after a time in which all were down.
    let mut world = World::with(CONFIGURATION, Role::Director, &found(&[]));
    assert_eq!(world.weights(1), weights(&[]));
    world.verdict(1, 11, Verdict::Up);
    world.verdict(1, 12, down());
    world.configure(&CONFIGURATION.replace("interval = \"2s\"", "interval = \"3s\""));
    assert_eq!(world.weights(1), weights(&[(11, 1)]));
    world.verdict(1, 12, Verdict::Up);
    assert_eq!(world.weights(1), weights(&[(11, 1), (12, 1)]));
}

#[test]
fn a_real_server_that_comes_later_counts_as_up_until_it_is_probed() {
    let mut world = World::with(CONFIGURATION, Role::Director, &found(&[(11, 1), (12, 1)]));
    world.verdict(1, 11, Verdict::Up);
    world.verdict(1, 12, Verdict::Up);
    world.configure(&CONFIGURATION.replace("10.0.0.12:80", "10.0.0.13:80"));
    assert_eq!(world.weights(1), weights(&[(11, 1), (13, 1)]));
}

#[test]
fn a_new_real_server_starts_as_its_check_says_and_one_in_the_kernel_stays() {
    let careful = CONFIGURATION.replace("type = \"tcp\"", "type = \"tcp\", start = \"down\"");
    let mut world = World::with(&careful, Role::Director, &ObservedServices::new());
    assert_eq!(world.weights(1), weights(&[]));
    world.verdict(1, 12, Verdict::Up);
    assert_eq!(world.weights(1), weights(&[(12, 1)]));
    // The daemon before left them there.
    let world = World::with(&careful, Role::Director, &found(&[(11, 1)]));
    assert_eq!(world.weights(1), weights(&[(11, 1)]));
}

#[test]
fn a_real_server_is_up_while_all_of_its_checks_pass() {
    let two = CONFIGURATION.replace(
        "check = { type = \"tcp\", interval = \"2s\" }",
        "check = [{ type = \"tcp\" }, { type = \"http\" }]",
    );
    let mut world = World::with(&two, Role::Director, &ObservedServices::new());
    let targets = desired::probe_targets(&world.state.spec);
    assert_eq!(targets.len(), 4);
    for target in &targets {
        world.event(1, Event::Verdict(target.clone(), down()));
    }
    world.run(Duration::from_millis(6));
    assert_eq!(world.weights(1), weights(&[]));
    for (number, target) in targets.iter().enumerate() {
        world.event(1, Event::Verdict(target.clone(), Verdict::Up));
        world.run(Duration::from_millis(6));
        assert_eq!(world.weights(1).len(), number.div_ceil(2), "each of its two has to say so");
    }
}

/// By an operator's order, on every director, and before the next configuration.
#[test]
fn a_drained_real_server_has_weight_0_everywhere_until_the_order_is_taken_back() {
    let mut world = World::new();
    world.weigh(11, Some(0));
    for id in [1, 2] {
        assert_eq!(world.weights(id), weights(&[(11, 0), (12, 1)]));
    }
    // What probes say stands beside it.
    world.verdict(1, 11, down());
    assert_eq!(world.weights(1), weights(&[(12, 1)]));
    world.verdict(1, 11, Verdict::Up);
    assert_eq!(world.weights(1), weights(&[(11, 0), (12, 1)]));
    world.weigh(11, None);
    assert_eq!(world.weights(2), weights(&[(11, 1), (12, 1)]));
}

/// Else its connections would be lost with the restart: it would be taken for one found down.
#[test]
fn a_drained_real_server_stays_in_the_table_through_a_restart() {
    let mut world = World::new();
    world.weigh(11, Some(0));
    world.nodes.get_mut(&1).unwrap().found = found(&[(11, 0), (12, 1)]);
    world.restart(1, 10);
    assert_eq!(world.weights(1), weights(&[(11, 0), (12, 1)]));
    world.weigh(11, None);
    assert_eq!(world.weights(1), weights(&[(11, 1), (12, 1)]));
}

/// It may have applied less of the log than it had before: the table says more.
#[test]
fn a_drained_real_server_stays_in_the_table_before_the_order_is_applied_again() {
    let mut world = World::with(CONFIGURATION, Role::Director, &found(&[(11, 0), (12, 1)]));
    assert_eq!(world.weights(1), weights(&[(11, 0), (12, 1)]));
    world.weigh(11, Some(0));
    assert_eq!(world.weights(1), weights(&[(11, 0), (12, 1)]));
    world.verdict(1, 11, Verdict::Up);
    assert_eq!(world.weights(1), weights(&[(11, 0), (12, 1)]));
    world.weigh(11, None);
    assert_eq!(world.weights(1), weights(&[(11, 1), (12, 1)]));
}

/// Else all that are known to be down would be put back into service at once.
#[test]
fn a_check_of_another_port_changes_no_verdict_before_it_has_spoken() {
    let mut world = World::new();
    world.verdict(1, 11, Verdict::Up);
    world.verdict(1, 12, down());
    world.configure(&CONFIGURATION.replace("interval = \"2s\"", "port = 8080, interval = \"2s\""));
    assert_eq!(world.weights(1), weights(&[(11, 1)]));
}

/// On every director, for the time that the configuration gives it, and through a restart.
#[test]
fn a_real_server_that_leaves_the_configuration_keeps_its_connections_for_its_time() {
    let drained = format!("{CONFIGURATION}drain = \"30s\"\n");
    let mut world = World::with(&drained, Role::Director, &ObservedServices::new());
    world.configure(&drained.replace(", { address = \"10.0.0.12:80\" }", ""));
    for id in [1, 2] {
        assert_eq!(world.weights(id), weights(&[(11, 1), (12, 0)]));
    }
    world.nodes.get_mut(&1).unwrap().found = found(&[(11, 1), (12, 0)]);
    world.restart(1, 10);
    assert_eq!(world.weights(1), weights(&[(11, 1), (12, 0)]));
    world.run(Duration::from_secs(29));
    assert_eq!(world.weights(2), weights(&[(11, 1), (12, 0)]));
    world.run(Duration::from_secs(2));
    for id in [1, 2] {
        assert_eq!(world.weights(id), weights(&[(11, 1)]));
    }
}

/// It had no connections that go on.
#[test]
fn a_real_server_that_was_down_leaves_at_once() {
    let drained = format!("{CONFIGURATION}drain = \"30s\"\n");
    let mut world = World::with(&drained, Role::Director, &ObservedServices::new());
    world.verdict(1, 12, down());
    world.configure(&drained.replace(", { address = \"10.0.0.12:80\" }", ""));
    assert_eq!(world.weights(1), weights(&[(11, 1)]));
    assert_eq!(world.weights(2), weights(&[(11, 1), (12, 0)]));
}

/// Else a daemon that died just after an entry would take out what that had brought, and end its
/// connections, until it hears of the entry again.
#[test]
fn a_table_that_stands_is_left_alone_until_the_state_is_as_new_as_the_clusters() {
    let mut world = World::with(CONFIGURATION, Role::Director, &found(&[(11, 1), (12, 1)]));
    let newest = CONFIGURATION.replace("10.0.0.12:80", "10.0.0.13:80");
    world.configure(&newest);
    world.nodes.get_mut(&1).unwrap().found = found(&[(11, 1), (13, 1)]);
    // It comes back with the entry before, and hears of nobody yet.
    let (new, heard) = (world.state.clone(), world.heard.take());
    world.state.spec =
        Arc::new(crate::spec::parse(CONFIGURATION, crate::spec::Format::Toml).unwrap());
    world.state.applied = LogIndex(9);
    world.restart(1, 10);
    world.run(Duration::from_secs(4));
    assert!(world.nodes[&1].services.is_empty());
    // The leader's word comes before its entry.
    let membership = world.membership();
    world.event(1, Event::Raft { leads: false, heard, membership });
    assert!(world.nodes[&1].services.is_empty());
    world.event(1, Event::State(Arc::new(new)));
    assert_eq!(world.weights(1), weights(&[(11, 1), (13, 1)]));
    assert_eq!(world.nodes[&1].services.len(), 1);
}

/// A cluster that has no leader for long has to mend its tables all the same.
#[test]
fn a_table_is_not_left_alone_for_ever() {
    let mut world = World::with(CONFIGURATION, Role::Director, &ObservedServices::new());
    world.heard = None;
    world.nodes.get_mut(&1).unwrap().found = found(&[(11, 1), (14, 1)]);
    world.restart(1, 10);
    assert!(world.nodes[&1].services.is_empty());
    world.run(Duration::from_secs(5));
    assert_eq!(world.weights(1), weights(&[(11, 1)]));
    // One that stands empty has nothing to lose.
    world.nodes.get_mut(&2).unwrap().found = ObservedServices::new();
    world.restart(2, 11);
    assert_eq!(world.weights(2), weights(&[(11, 1), (12, 1)]));
}

/// While it waits to be current, what the probes say must not make it forget what the kernel held.
#[test]
fn what_was_draining_as_the_daemon_died_goes_on_though_probes_speak_first() {
    let drained = format!("{CONFIGURATION}drain = \"30s\"\n");
    let less = drained.replace(", { address = \"10.0.0.12:80\" }", "");
    let mut world = World::with(&drained, Role::Director, &ObservedServices::new());
    world.configure(&less);
    let (new, heard) = (world.state.clone(), world.heard.take());
    world.state.spec = Arc::new(crate::spec::parse(&drained, crate::spec::Format::Toml).unwrap());
    world.state.applied = LogIndex(9);
    world.nodes.get_mut(&1).unwrap().found = found(&[(11, 1), (12, 0)]);
    world.restart(1, 10);
    world.verdict(1, 11, Verdict::Up);
    world.verdict(1, 12, Verdict::Up);
    world.event(1, Event::State(Arc::new(new)));
    let membership = world.membership();
    world.event(1, Event::Raft { leads: false, heard, membership });
    assert_eq!(world.weights(1), weights(&[(11, 1), (12, 0)]));
}

#[test]
fn a_real_server_that_starts_slowly_rises_on_each_director_by_its_own_verdicts() {
    let heavy = |octet: u8| {
        let of = format!("{{ address = \"10.0.0.{octet}:80\"");
        (format!("{of} }}"), format!("{of}, weight = 10 }}"))
    };
    let (first, second) = (heavy(11), heavy(12));
    let slow = CONFIGURATION.replace(&first.0, &first.1).replace(&second.0, &second.1);
    let slow = slow + "slow_start = \"10s\"\n";
    let mut world = World::with(&slow, Role::Director, &found(&[(11, 10)]));
    assert_eq!(world.weights(1), weights(&[(11, 10)]), "what is inherited is left as it is");
    let goals = world.nodes[&1].services.len();
    world.verdict(1, 12, Verdict::Up);
    assert_eq!(world.weights(1), weights(&[(11, 10), (12, 1)]));
    world.run(Duration::from_secs(5));
    assert!((4..=6).contains(&world.weights(1)[1].1), "{:?}", world.weights(1));
    assert_eq!(world.director(1).view(world.now).starting.len(), 1);
    assert_eq!(world.weights(2), weights(&[(11, 10)]), "it has not seen it up");
    world.run(Duration::from_secs(6));
    assert_eq!(world.weights(1), weights(&[(11, 10), (12, 10)]));
    assert!(world.nodes[&1].services.len() - goals <= 11, "one at first, and ten steps");
    assert!(world.director(1).view(world.now).starting.is_empty());
    // An operator's order counts at once.
    world.verdict(1, 12, down());
    world.verdict(1, 12, Verdict::Up);
    assert_eq!(world.weights(1), weights(&[(11, 10), (12, 1)]));
    world.weigh(12, Some(7));
    assert_eq!(world.weights(1), weights(&[(11, 10), (12, 7)]));
}
