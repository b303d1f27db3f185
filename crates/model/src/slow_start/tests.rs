//! Which weights real servers have while they start slowly.

use super::*;
use crate::desired::Knowledge;
use crate::probe::Verdict;
use crate::spec::ClusterSpec;
use crate::spec::document::Format;
use crate::spec::read::parse;

/// Two real servers of weight 100, and a slow start of ten steps of a second.
const TWO: &str = "slow_start = \"10s\"\nreal_servers = [{ address = \"192.0.2.11\", weight = 100 }, \
                   { address = \"192.0.2.12\", weight = 100 }]\n";
const THREE: &str = "slow_start = \"10s\"\nreal_servers = [{ address = \"192.0.2.11\", weight = 100 }, \
                     { address = \"192.0.2.12\", weight = 100 }, \
                     { address = \"192.0.2.13\", weight = 100 }]\n";

fn spec(keys: &str) -> ClusterSpec {
    let text = format!(
        "group.web = {{ interface = \"public\", addresses = [\"192.0.2.80\"] }}\n[service.web]\n\
         group = \"web\"\nlisten = \"tcp/192.0.2.80:80\"\ncheck = {{ type = \"tcp\" }}\n{keys}\n"
    );
    parse(&text, Format::Toml).unwrap_or_else(|wrong| panic!("{wrong}"))
}

/// A director's table, half a second past a step.
struct Table {
    spec: ClusterSpec,
    verdicts: Verdicts,
    slow: SlowStart,
    now: Instant,
    services: DesiredServices,
}

impl Table {
    /// All are up.
    fn new(keys: &str) -> Self {
        let mut table = Self {
            spec: ClusterSpec::default(),
            verdicts: Verdicts::new(),
            slow: SlowStart::default(),
            now: Instant(100_500_000_000),
            services: DesiredServices::new(),
        };
        table.configure(keys);
        table
    }

    fn configure(&mut self, keys: &str) -> Vec<(u8, u32)> {
        self.spec = spec(keys);
        let before = std::mem::take(&mut self.verdicts);
        for target in desired::probe_targets(&self.spec) {
            let known = before.get(&target).cloned().unwrap_or(Knowledge::Known(Verdict::Up));
            self.verdicts.insert(target, known);
        }
        self.aim()
    }

    fn aim(&mut self) -> Vec<(u8, u32)> {
        let lost = desired::lost(&self.spec.services, &self.verdicts, &Lost::new());
        self.slow.configured(&self.spec.services);
        self.slow.follow(self.now, &self.spec.services, &self.verdicts, &lost);
        self.services = desired::services(&self.spec.services, &self.verdicts, &lost);
        self.slow.apply(self.now, &mut self.services);
        self.weights()
    }

    fn weights(&self) -> Vec<(u8, u32)> {
        let service = self.services.values().next().unwrap();
        let octet = |at: &SocketAddr| at.ip().to_string().rsplit('.').next().unwrap().parse();
        service.destinations.iter().map(|(at, to)| (octet(at).unwrap(), to.weight)).collect()
    }

    fn verdict(&mut self, octet: u8, verdict: &Verdict) -> Vec<(u8, u32)> {
        for (target, knowledge) in &mut self.verdicts {
            if target.address.ip() == std::net::IpAddr::from([192, 0, 2, octet]) {
                *knowledge = Knowledge::Known(verdict.clone());
            }
        }
        self.aim()
    }

    /// One fails, and comes back.
    fn recovers(&mut self, octet: u8) -> Vec<(u8, u32)> {
        self.verdict(octet, &Verdict::Down("refused".to_owned()));
        self.verdict(octet, &Verdict::Up)
    }

    /// The weights after each step within this time, only those that start looked at.
    fn run(&mut self, seconds: u64) -> Vec<Vec<(u8, u32)>> {
        let end = Instant(self.now.0 + seconds * 1_000_000_000);
        let mut shown = Vec::new();
        while let Some(step) = self.slow.next_step().filter(|step| *step <= end) {
            assert!(step > self.now, "no step is due twice");
            self.now = step;
            if self.slow.apply(step, &mut self.services) {
                shown.push(self.weights());
            }
        }
        self.now = end;
        shown
    }
}

#[test]
fn one_that_comes_back_rises_by_tenths_to_its_weight_and_no_other_changes() {
    let mut table = Table::new(TWO);
    assert_eq!(table.recovers(11), [(11, 1), (12, 100)]);
    let shown = table.run(60);
    let rising = (1..=10).map(|tenth| vec![(11, tenth * 10), (12, 100)]);
    assert_eq!(shown, rising.collect::<Vec<_>>());
    assert_eq!(table.slow.next_step(), None);
    assert_eq!(table.aim(), [(11, 100), (12, 100)]);
}

#[test]
fn nothing_starts_slowly_with_the_daemon_or_its_service() {
    let mut table = Table::new(TWO);
    assert_eq!(table.weights(), [(11, 100), (12, 100)]);
    // What failed before it was looked at first is a recovery all the same.
    let mut late = Table::new("real_servers = []\n");
    late.configure(&TWO.replace("10s", "0s"));
    late.verdict(11, &Verdict::Down("refused".to_owned()));
    assert_eq!(late.configure(TWO), [(12, 100)]);
    assert_eq!(late.verdict(11, &Verdict::Up), [(11, 1), (12, 100)]);
    // A slow start that is only now asked for slows nothing that serves.
    table.configure(&TWO.replace("10s", "0s"));
    assert_eq!(table.configure(TWO), [(11, 100), (12, 100)]);
}

#[test]
fn one_that_is_new_in_a_service_that_runs_rises_too() {
    let mut table = Table::new(TWO);
    assert_eq!(table.configure(THREE), [(11, 100), (12, 100), (13, 1)]);
    assert_eq!(table.run(5).last().unwrap()[2], (13, 50));
    // One that left, and comes again, is new.
    table.configure(TWO);
    assert_eq!(table.configure(THREE), [(11, 100), (12, 100), (13, 1)]);
}

#[test]
fn one_that_fails_on_its_way_begins_anew() {
    let mut table = Table::new(TWO);
    table.recovers(11);
    table.run(6);
    assert_eq!(table.weights(), [(11, 60), (12, 100)]);
    assert_eq!(table.recovers(11), [(11, 1), (12, 100)]);
    assert_eq!(table.run(6).last().unwrap()[0], (11, 60));
    // What others do is nothing to it.
    table.verdict(12, &Verdict::Down("refused".to_owned()));
    assert_eq!(table.weights(), [(11, 60)], "alone it has all of the traffic");
}

#[test]
fn another_configuration_on_its_way_counts_from_where_it_is() {
    let mut table = Table::new(TWO);
    table.recovers(11);
    table.run(5);
    let heavier = TWO.replace("11\", weight = 100", "11\", weight = 1000");
    assert_eq!(table.configure(&heavier), [(11, 500), (12, 100)]);
    let longer = heavier.replace("10s", "50s");
    assert_eq!(table.configure(&longer), [(11, 100), (12, 100)]);
    assert_eq!(table.configure(&heavier), [(11, 500), (12, 100)]);
    assert_eq!(table.configure(&heavier.replace("10s", "0s")), [(11, 1000), (12, 100)]);
    assert_eq!(table.slow.next_step(), None);
}

#[test]
fn a_drained_one_stays_so_and_an_ordered_weight_counts_at_once() {
    let mut table = Table::new(&TWO.replace("11\", weight = 100", "11\", weight = 0"));
    assert_eq!(table.recovers(11), [(11, 0), (12, 100)]);
    table.run(3);
    assert_eq!(table.weights(), [(11, 0), (12, 100)]);
    let mut table = Table::new(TWO);
    table.recovers(11);
    table.run(3);
    let service = table.spec.services.values_mut().next().unwrap();
    service.real_servers[0].weight = 70;
    service.ordered.insert(service.real_servers[0].address);
    assert_eq!(table.aim(), [(11, 70), (12, 100)]);
    assert_eq!(table.run(20), Vec::<Vec<_>>::new());
}

#[test]
fn an_inhibited_one_that_comes_back_rises_from_weight_0() {
    let mut table = Table::new(&format!("{TWO}inhibit = true\n"));
    let down = Verdict::Down("refused".to_owned());
    assert_eq!(table.verdict(11, &down), [(11, 0), (12, 100)]);
    assert_eq!(table.run(3), Vec::<Vec<_>>::new());
    assert_eq!(table.verdict(11, &Verdict::Up), [(11, 1), (12, 100)]);
}

#[test]
fn a_weight_that_a_check_gives_is_risen_to() {
    let own = "check = { type = \"file\", path = \"/w\", dynamic = true }";
    let dynamic = TWO.replace("11\", weight = 100", &format!("11\", weight = 100, {own}"));
    let mut table = Table::new(&dynamic);
    table.recovers(11);
    table.run(5);
    assert_eq!(table.weights(), [(11, 50), (12, 100)]);
    assert_eq!(table.verdict(11, &Verdict::Weighs(40)), [(11, 20), (12, 100)]);
    assert_eq!(table.run(60).last().unwrap()[0], (11, 40));
    // One that its check gives no weight takes none, however far it has come.
    assert_eq!(table.recovers(11)[0], (11, 1));
    assert_eq!(table.verdict(11, &Verdict::Weighs(0))[0], (11, 0));
}

/// Too few are never those that only start.
#[test]
fn a_quorum_counts_the_whole_weight() {
    let keys = format!("{TWO}sorry_server = \"192.0.2.9\"\nquorum = 200\n");
    let mut table = Table::new(&keys);
    let down = Verdict::Down("refused".to_owned());
    assert_eq!(table.verdict(11, &down), [(9, 1), (12, 0)]);
    assert_eq!(table.verdict(11, &Verdict::Up), [(11, 1), (12, 100)]);
    table.run(5);
    // Too few on its way: it takes none, and goes on from there.
    assert_eq!(table.verdict(12, &down), [(9, 1), (11, 0)]);
    table.run(2);
    assert_eq!(table.weights(), [(9, 1), (11, 0)]);
    assert_eq!(table.verdict(12, &Verdict::Up), [(11, 70), (12, 1)]);
}

#[test]
fn where_all_serve_since_too_few_are_up_those_have_their_whole_weight() {
    let mut table = Table::new(&format!("{THREE}min_up = 2\n"));
    let down = Verdict::Down("refused".to_owned());
    for octet in 11..=13 {
        table.verdict(octet, &down);
    }
    assert_eq!(table.verdict(11, &Verdict::Up), [(11, 100), (12, 100), (13, 100)]);
    assert_eq!(table.verdict(12, &Verdict::Up), [(11, 100), (12, 1)]);
}

/// Thousands that come up one after another change the table no more often than one does.
#[test]
fn all_that_start_take_their_steps_together() {
    let servers: Vec<String> = (0..1_000)
        .map(|n| format!("{{ address = \"10.1.{}.{}\", weight = 50 }}", n / 250, n % 250))
        .collect();
    let keys = format!("slow_start = \"10s\"\nreal_servers = [{}]\n", servers.join(", "));
    let mut table = Table::new(&keys);
    let down = Knowledge::Known(Verdict::Down("refused".to_owned()));
    table.verdicts.values_mut().for_each(|knowledge| *knowledge = down.clone());
    table.aim();
    let targets: Vec<_> = table.verdicts.keys().cloned().collect();
    for (index, target) in targets.into_iter().enumerate() {
        table.verdicts.insert(target, Knowledge::Known(Verdict::Up));
        if index % 100 == 0 {
            table.now = table.now + Duration::from_millis(30);
            table.aim();
        }
    }
    table.aim();
    let now = table.now;
    let starting = table.slow.starting(now);
    assert_eq!(starting.values().next().unwrap().len(), 1_000);
    assert!(table.run(60).len() <= 10);
    assert_eq!(table.slow.starting(table.now), AllStarting::new());
}

#[test]
fn what_is_shown_of_one_is_its_weight_and_when_it_has_all_of_it() {
    let mut table = Table::new(TWO);
    table.recovers(11);
    table.run(4);
    let starting = table.slow.starting(table.now);
    let [(_, shown)] = starting.values().next().unwrap().iter().collect::<Vec<_>>()[..] else {
        panic!("{starting:?}")
    };
    let left = Duration::from_millis(5_500);
    assert_eq!(*shown, Starting { weight: 40, whole: 100, left });
}
