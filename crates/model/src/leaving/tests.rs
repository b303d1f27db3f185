//! What leaves keeps its time, once.

use super::*;
use crate::desired::{Lost, Verdicts, services};
use crate::spec::{Format, parse};

const SOURCE: &str = "group.web = { interface = \"public\", addresses = [\"192.0.2.80\", \
    \"2001:db8::80\"] }\n[service.web]\ngroup = \"web\"\nlisten = \"tcp/192.0.2.80:80\"\n\
    scheduler = \"mh\"\ndrain = \"30s\"\nreal_servers = [{ address = \"192.0.2.16\" }, \
    { address = \"192.0.2.17\", weight = 5 }]\n";

const START: Instant = Instant(1_000_000_000);

fn after(seconds: u64) -> Instant {
    START + Duration::from_secs(seconds)
}

fn spec(source: &str) -> ClusterSpec {
    parse(source, Format::Toml).unwrap()
}

fn without_17(source: &str) -> String {
    let changed = source.replace(", { address = \"192.0.2.17\", weight = 5 }", "");
    assert_ne!(changed, source);
    changed
}

/// The table that the last configuration asks for, with all real servers up.
struct Table {
    leaving: Leaving,
    spec: ClusterSpec,
}

impl Table {
    fn new(source: &str) -> Self {
        Self { leaving: Leaving::default(), spec: spec(source) }
    }

    fn desired(&self) -> DesiredServices {
        let mut desired = services(&self.spec.services, &Verdicts::new(), &Lost::new());
        self.leaving.add_to(&mut desired);
        desired
    }

    fn configure(&mut self, now: Instant, source: &str) {
        let (table, next) = (self.desired(), spec(source));
        self.leaving.configured(now, &table, &self.spec, &next);
        self.spec = next;
    }

    /// Last octets with weights, of every service.
    fn weights(&self) -> Vec<(u8, u32)> {
        let desired = self.desired();
        let all = desired.values().flat_map(|service| &service.destinations);
        let octet =
            |server: &SocketAddr| server.ip().to_string().rsplit('.').next().unwrap().parse();
        all.map(|(server, to)| (octet(server).unwrap(), to.weight)).collect()
    }
}

#[test]
fn a_real_server_that_leaves_has_weight_0_until_its_time_is_over() {
    let mut table = Table::new(SOURCE);
    table.configure(START, &without_17(SOURCE));
    assert_eq!(table.weights(), [(16, 1), (17, 0)]);
    let settings = table.desired().into_values().next().unwrap().settings;
    assert_eq!(settings.flags.words(settings.scheduler), "mh-fallback");
    // Another configuration neither ends nor lengthens it.
    table.configure(after(10), &without_17(SOURCE).replace("16\"", "16\", weight = 2"));
    assert_eq!(table.weights(), [(16, 2), (17, 0)]);
    assert_eq!(table.leaving.next_end(), Some(after(30)));
    assert!(!table.leaving.expire(after(29)));
    assert!(table.leaving.expire(after(30)));
    assert_eq!(table.weights(), [(16, 2)]);
}

#[test]
fn what_comes_back_leaves_no_more() {
    let mut table = Table::new(SOURCE);
    table.configure(START, &without_17(SOURCE));
    table.configure(after(1), SOURCE);
    assert_eq!(table.weights(), [(16, 1), (17, 5)]);
    assert_eq!(table.leaving, Leaving::default());
}

#[test]
fn without_drain_it_leaves_at_once_and_a_drain_taken_back_ends_those_that_leave() {
    let none = SOURCE.replace("drain = \"30s\"\n", "");
    let mut table = Table::new(&none);
    table.configure(START, &without_17(&none));
    assert_eq!(table.weights(), [(16, 1)]);
    let mut table = Table::new(SOURCE);
    table.configure(START, &without_17(SOURCE));
    table.configure(after(1), &without_17(SOURCE).replace("30s", "5s"));
    assert_eq!(table.leaving.next_end(), Some(after(6)));
    table.configure(after(2), &without_17(&none));
    assert_eq!(table.weights(), [(16, 1)]);
}

#[test]
fn a_service_that_leaves_takes_no_connection_and_keeps_those_it_has() {
    let mut table = Table::new(SOURCE);
    let gone = SOURCE.split("[service.web]").next().unwrap();
    table.configure(START, gone);
    assert_eq!(table.weights(), [(16, 0), (17, 0)]);
    let leavers = table.leaving.leavers(after(10));
    assert_eq!(leavers.len(), 2);
    assert_eq!(leavers[0].left, Duration::from_secs(20));
    assert_eq!((leavers[0].service.0.as_str(), leavers[0].server.weight), ("web", 0));
    // One on another port is another service of the kernel's.
    let mut table = Table::new(SOURCE);
    table.configure(START, &SOURCE.replace("192.0.2.80:80", "192.0.2.80:81"));
    assert_eq!(table.desired().len(), 2);
    table.configure(
        after(1),
        &SOURCE.replace("192.0.2.80:80", "192.0.2.80:81").replace("30s", "0s"),
    );
    assert_eq!(table.desired().len(), 1);
    // Of two addresses, the one that is a VIP no more.
    let two = SOURCE.replace("[\"192.0.2.80\"", "[\"192.0.2.80\", \"192.0.2.81\"").replace(
        "listen = \"tcp/192.0.2.80:80\"",
        "listen = [\"tcp/192.0.2.80:80\", \"tcp/192.0.2.81:80\"]",
    );
    let mut table = Table::new(&two);
    table.configure(START, SOURCE);
    assert_eq!(table.desired().len(), 1);
    // Where the VIP goes too, nothing comes for it.
    let mut table = Table::new(SOURCE);
    table.configure(START, "");
    assert_eq!(table.weights(), []);
    let mut table = Table::new(SOURCE);
    table.configure(START, gone);
    table.configure(after(1), "");
    assert_eq!(table.weights(), []);
}

/// Its connections may be of the daemon before.
#[test]
fn what_a_starting_daemon_finds_and_does_not_know_has_its_time() {
    let found = {
        let mut found = ObservedServices::new();
        for (key, service) in services(&spec(SOURCE).services, &Verdicts::new(), &Lost::new()) {
            let observed = found.entry(key).or_default();
            for (server, to) in service.destinations {
                observed.destinations.entry(server).or_default().destination = Some(to);
            }
        }
        found
    };
    let mut table = Table::new(&without_17(SOURCE));
    table.leaving.found(START, &found, &table.spec);
    assert_eq!(table.weights(), [(16, 1), (17, 0)]);
    assert_eq!(table.leaving.next_end(), Some(after(30)));
    let mut table = Table::new(&without_17(SOURCE).replace("30s", "0s"));
    table.leaving.found(START, &found, &table.spec);
    assert_eq!(table.weights(), [(16, 1)]);
}

/// The kernel refuses to synchronise beside one (`mixed_address_family_dests`, ip_vs_ctl.c).
#[test]
fn a_kernel_that_synchronises_keeps_no_real_server_of_another_family() {
    let mixed = SOURCE
        .replace("\"192.0.2.17\"", "\"2001:db8::17\"")
        .replace("scheduler", "forward = \"TUN\"\nscheduler");
    let without = mixed.replace(", { address = \"2001:db8::17\", weight = 5 }", "");
    assert_ne!(without, mixed);
    let mut table = Table::new(&mixed);
    table.configure(START, &without);
    assert!(table.leaving.next_end().is_some());
    table.configure(after(1), &format!("cluster.sync = {{ link = \"a\", id = 1 }}\n{without}"));
    assert_eq!(table.leaving, Leaving::default());
}

#[test]
fn only_so_many_leave_in_their_time() {
    let mut servers: Vec<String> = Vec::new();
    for n in 0..=LEAVING_MAX {
        servers.push(format!("{{ address = \"10.0.{}.{}\" }}", n / 250, n % 250 + 1));
    }
    let many = without_17(SOURCE)
        .replace("[{ address = \"192.0.2.16\" }]", &format!("[{}]", servers.join(", ")));
    let mut table = Table::new(&many);
    table.configure(START, &without_17(SOURCE));
    assert_eq!(table.weights().len(), LEAVING_MAX + 1);
}
