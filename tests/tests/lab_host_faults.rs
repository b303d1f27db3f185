//! Faults on the host's kernel with true timing, a plain VIP, and an observer that asks by ARP, ICMP
//! and TCP all the while: at no instant do two directors answer, none answers past its lease, and
//! once the faults are over one does. Needs root. Run by `cargo xtask test`; random ones, and
//! daemons stopped for up to a minute, are `cargo xtask soak failover`'s.
#![forbid(unsafe_code)]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test that can't go on ends; gaps are printed, and never asserted"
)]

use std::fmt::Write as _;
use std::process::Command;
use std::time::Duration;

use quorate_tests::failover::bed::Bed;
use quorate_tests::failover::fault::Fault;
use quorate_tests::failover::quorate::{Quorate, Setup, Timing};
use quorate_tests::failover::round::{Blow, Seen, Watch, play, settle};
use quorate_tests::failover::vip;
use quorate_tests::lab::clock::{Stopwatch, wait_until};
use quorate_tests::lab::network::INTERFACE;
use quorate_tests::lab::observer::{Director, now};

/// Far past any lease, promise and election.
const LIMIT: Duration = Duration::from_secs(60);
/// How long it is watched that nothing happens.
const WHILE: Duration = Duration::from_millis(300);

struct Scene {
    bed: Quorate,
}

impl Scene {
    fn new(name: &str, directors: usize, timing: Timing) -> Self {
        let name = format!("lab_host_faults_{name}");
        Self { bed: Quorate::new(Setup::one_group(&name, directors, timing)).unwrap() }
    }

    /// A watch from when all is settled, and the owner then.
    fn watch(&mut self) -> (Watch, &'static str) {
        let mut watch = Watch::start(self.bed.observer());
        settle(&mut self.bed, &mut watch).unwrap();
        let owner = watch.owners(1)[0].and_then(|owner| self.bed.name(owner)).unwrap();
        (Watch::start(self.bed.observer()), owner)
    }

    /// Strikes the owner; afterwards one director answers.
    fn strike(&mut self, fault: Fault) -> Seen {
        let (watch, owner) = self.watch();
        let blow = Blow { fault, victim: owner, after: Duration::ZERO };
        let seen = play(&mut self.bed, &[blow], WHILE, watch).unwrap();
        println!("{owner} {fault}: gap {:?}, {:?} handovers", seen.gap, seen.handovers);
        seen
    }

    /// Runs a line on a director.
    fn on(&self, director: &str, line: &str) -> String {
        self.bed.network().namespace(director).unwrap().run_ok(line, LIMIT).unwrap()
    }

    /// Waits until all is as it should be; then at most so many handovers may have been.
    fn settles(&mut self, mut watch: Watch, handovers: usize) -> Watch {
        settle(&mut self.bed, &mut watch).unwrap();
        let seen = assert_single(&watch);
        assert!(seen <= handovers, "{seen} handovers");
        watch
    }
}

/// Never two at once, however often it changed hands; the number of handovers.
#[track_caller]
fn assert_single(watch: &Watch) -> usize {
    let (seen, doubles) = (watch.record.handovers(0), watch.record.doubles(0));
    let gap = watch.record.longest_silence(0).length();
    println!("gap {gap:?}, {seen} handovers");
    assert_eq!(doubles.answers, 0, "{doubles:?}");
    assert_eq!(watch.record.lost, 0);
    seen
}

#[track_caller]
fn assert_one(seen: &Seen, handovers: usize) {
    assert_eq!(seen.doubles.answers, 0, "two directors answered: {:?}", seen.doubles);
    assert!(seen.late.is_none(), "past its lease: {:?}", seen.late);
    assert!(seen.handovers[0] <= handovers, "{:?} handovers", seen.handovers);
    assert!(seen.taken_over, "nobody took over");
    assert_eq!(seen.record.lost, 0);
}

fn others(scene: &Scene, one: &str) -> Vec<&'static str> {
    scene.bed.directors().iter().copied().filter(|other| *other != one).collect()
}

#[test]
fn a_killed_owner_and_its_successor_never_both_answer() {
    let mut scene = Scene::new("kill", 3, Timing::FAST);
    for _ in 0..3 {
        assert_one(&scene.strike(Fault::Kill), 1);
    }
    assert_one(&scene.strike(Fault::Terminate), 1);
    // Restarts in a row: it may be granted anew, or another may have it.
    for _ in 0..4 {
        assert_one(&scene.strike(Fault::Restart), 2);
    }
}

#[test]
fn an_owner_that_stops_for_any_time_answers_no_longer_than_its_lease() {
    let mut scene = Scene::new("stop", 3, Timing::FAST);
    for millis in [10, 100, 240, 260, 400, 1_000, 5_000] {
        assert_one(&scene.strike(Fault::Stop(Duration::from_millis(millis))), 1);
    }
}

#[test]
fn an_owner_that_is_cut_off_in_any_way_answers_no_longer_than_its_lease() {
    let mut scene = Scene::new("cut", 3, Timing::FAST);
    for fault in [Fault::CutLink, Fault::CutSilently, Fault::Isolate, Fault::Mute, Fault::Deafen] {
        assert_one(&scene.strike(fault), 1);
    }
}

/// Every way to divide things among parts, each thing's part given by its number.
fn partitions(things: usize) -> Vec<Vec<usize>> {
    let mut all = vec![Vec::new()];
    for _ in 0..things {
        all = all
            .into_iter()
            .flat_map(|parts: Vec<usize>| {
                let next = parts.iter().max().map_or(0, |max| max + 1);
                (0..=next).map(move |part| [parts.as_slice(), &[part]].concat())
            })
            .collect();
    }
    all
}

/// Divides the directors; clients go on reaching all of them. The part with a majority has the
/// owner; where there is none, nobody answers.
fn divide(scene: &mut Scene, parts: &[usize]) {
    let (mut watch, owner) = scene.watch();
    let directors = scene.bed.directors().to_vec();
    let part = |name: &str| parts[directors.iter().position(|other| *other == name).unwrap()];
    for director in &directors {
        let apart: Vec<&str> =
            directors.iter().copied().filter(|other| part(other) != part(director)).collect();
        if !apart.is_empty() {
            scene.bed.network().partition(director, &apart).unwrap();
        }
    }
    let divided = now();
    let size = |of: usize| parts.iter().filter(|part| **part == of).count();
    let majority = parts.iter().copied().find(|part| size(*part) * 2 > parts.len());
    let as_it_must_be = wait_until(LIMIT, || {
        std::thread::sleep(WHILE);
        let seen = watch.refresh();
        match majority {
            None => seen.answers.is_empty().then_some(()),
            Some(majority) => {
                let inside = |by: Director| scene.bed.name(by).is_some_and(|n| part(n) == majority);
                (seen.answers.len() > 100 && seen.answers.iter().all(|a| inside(a.by)))
                    .then_some(())
            }
        }
    });
    assert!(as_it_must_be.is_some(), "{parts:?}: {:?}", watch.owners(1));
    if majority != Some(part(owner)) {
        let lease = u64::try_from((scene.bed.lease() + scene.bed.slack()).as_nanos()).unwrap();
        let late = watch.record.given_between(scene.bed.number(owner), divided + lease, u64::MAX);
        assert!(late.is_none(), "{parts:?}: past its lease: {late:?}");
    }
    println!("{parts:?} from {owner}");
    scene.bed.network().heal_partitions().unwrap();
    scene.settles(watch, 2);
}

#[test]
fn in_every_partition_of_three_at_most_one_director_answers() {
    let mut scene = Scene::new("three", 3, Timing::FAST);
    let all = partitions(3);
    assert_eq!(all.len(), 5);
    for parts in all {
        divide(&mut scene, &parts);
    }
    // One pair alone does not hear each other, and both hear the third.
    for (one, other) in [("d1", "d2"), ("d2", "d3"), ("d1", "d3")] {
        let (mut watch, _) = scene.watch();
        scene.bed.network().partition(one, &[other]).unwrap();
        watch.wait_until_steady(1, WHILE).unwrap();
        scene.bed.network().heal_partitions().unwrap();
        scene.settles(watch, 2);
    }
}

#[test]
fn in_every_partition_of_five_at_most_one_director_answers() {
    let mut scene = Scene::new("five", 5, Timing::FAST);
    let all = partitions(5);
    assert_eq!(all.len(), 52);
    for parts in all {
        divide(&mut scene, &parts);
    }
}

#[test]
fn without_a_majority_nobody_answers_and_with_one_again_one_does() {
    let mut scene = Scene::new("quorum", 3, Timing::FAST);
    let (mut watch, owner) = scene.watch();
    let others = others(&scene, owner);
    for other in &others {
        scene.bed.kill(other).unwrap();
    }
    wait_for_silence(&mut watch);
    for other in &others {
        scene.bed.start(other).unwrap();
    }
    scene.settles(watch, 1);
}

#[test]
fn all_daemons_killed_at_once_leave_nobody_answering() {
    let mut scene = Scene::new("all", 3, Timing::FAST);
    let (mut watch, _) = scene.watch();
    let directors = scene.bed.directors().to_vec();
    for director in &directors {
        scene.bed.kill(director).unwrap();
    }
    wait_for_silence(&mut watch);
    for director in &directors {
        scene.bed.start(director).unwrap();
    }
    scene.settles(watch, 1);
}

fn wait_for_silence(watch: &mut Watch) {
    let silent = wait_until(LIMIT, || {
        std::thread::sleep(WHILE);
        watch.refresh().answers.is_empty().then_some(())
    });
    assert!(silent.is_some(), "somebody answers without a majority");
}

#[test]
fn filters_that_somebody_removes_are_put_back_before_they_are_needed() {
    let mut scene = Scene::new("filters", 3, Timing::FAST);
    let (watch, owner) = scene.watch();
    for director in scene.bed.directors().to_vec() {
        scene.on(director, &format!("tc qdisc del dev {INTERFACE} clsact"));
        let filtered = || {
            let sides = ["ingress", "egress"]
                .map(|side| scene.on(director, &format!("tc filter show dev {INTERFACE} {side}")));
            sides.iter().all(|shown| shown.contains("bpf")).then_some(())
        };
        wait_until(LIMIT, filtered).expect("the filters are put back");
    }
    let watch = scene.settles(watch, 0);
    drop(watch);
    println!("filters of all put back; now {owner} stops");
    assert_one(&scene.strike(Fault::Stop(Duration::from_secs(2))), 1);
}

/// A ruleset's flush takes nothing that we rely on, and its load delays no renewal past the lease
/// without the fence closing.
#[test]
fn a_flush_and_a_large_load_of_nftables_open_nothing() {
    const ELEMENTS: u32 = 40_000;
    let mut scene = Scene::new("nft", 3, Timing::FAST);
    let mut rules = String::from("add table ip load\nadd set ip load big { type ipv4_addr; }\n");
    for chunk in 0..ELEMENTS / 1_000 {
        let elements: Vec<String> = (0..1_000)
            .map(|number| chunk * 1_000 + number)
            .map(|n| format!("10.{}.{}.{}", n >> 16, (n >> 8) & 255, n & 255))
            .collect();
        writeln!(rules, "add element ip load big {{ {} }}", elements.join(", ")).unwrap();
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), rules).unwrap();
    let (mut watch, owner) = scene.watch();
    let load = || {
        let namespace = scene.bed.network().namespace(owner).unwrap();
        let busy = Stopwatch::start();
        let mut loads = 0;
        while busy.elapsed() < Duration::from_secs(5) {
            namespace.run_ok("nft flush ruleset", LIMIT).unwrap();
            let mut nft = Command::new("nft");
            let loaded = namespace.run(nft.arg("-f").arg(file.path()), LIMIT).unwrap();
            assert!(loaded.status.success(), "{}", loaded.stderr);
            loads += 1;
        }
        println!("{loads} loads of {ELEMENTS} elements on {owner}");
    };
    load();
    // Its handovers are not limited: all directors share this kernel, and while it loads, a
    // processor may run no thread, of whatever priority, for longer than a lease.
    settle(&mut scene.bed, &mut watch).unwrap();
    assert_single(&watch);
    assert_one(&scene.strike(Fault::Stop(Duration::from_secs(1))), 1);
}

#[test]
fn a_vip_removed_by_hand_comes_back_and_one_added_by_hand_elsewhere_is_not_answered_for() {
    let mut scene = Scene::new("hand", 3, Timing::FAST);
    let (watch, owner) = scene.watch();
    scene.on(owner, &format!("ip address del {}/32 dev {INTERFACE}", vip(0)));
    let watch = scene.settles(watch, 1);
    drop(watch);

    let (mut watch, owner) = scene.watch();
    let standby = others(&scene, owner)[0];
    // Permanently, as a distribution's network file does.
    scene.on(standby, &format!("ip address add {}/32 dev {INTERFACE}", vip(0)));
    watch.wait_until_steady(1, WHILE).unwrap();
    scene.settles(watch, 0);
    assert_one(&scene.strike(Fault::Kill), 1);
}
