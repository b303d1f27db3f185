//! The lab's own network on the host's kernel: what cut, heal and partition claim is what happens.
//! Needs root. Run by `cargo xtask test`.
#![forbid(unsafe_code)]
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "what a test relies on fails the test"
)]

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use ipnet::IpNet;
use quorate_tests::lab::client::{arp_owner, get};
use quorate_tests::lab::clock::wait_until;
use quorate_tests::lab::network::{Host, INTERFACE, Network};
use quorate_tests::lab::observer::{Director, Kind, Observer, Plan, Record};
use quorate_tests::lab::process::Process;
use quorate_tests::lab::{artefacts_dir, bin_dir};

const LIMIT: Duration = Duration::from_secs(60);
/// How long an answer may take where one is expected.
const ANSWER: Duration = Duration::from_secs(20);
/// How long to wait where none is expected.
const SILENCE: Duration = Duration::from_millis(600);

fn hosts() -> Vec<Host> {
    let host = |name, address: &str| Host::new(name, address.parse().unwrap());
    let b = host("b", "192.168.10.2/24").with_loopback("192.168.10.180/32".parse().unwrap());
    vec![host("a", "192.168.10.1/24"), b, host("c", "192.168.10.3/24")]
}

/// Serves a host's name as its page until dropped.
fn page_server(network: &Network, host: &str) -> Process {
    let mut server = Command::new(bin_dir().unwrap().join("page-server"));
    server.args(["0.0.0.0:80", host]);
    let log = artefacts_dir().join(format!("lab_host_network/{host}.log"));
    network.spawn(host, &mut server, &log).unwrap()
}

fn address(host: &str) -> SocketAddr {
    let last = match host {
        "a" => 1,
        "b" => 2,
        _ => 3,
    };
    SocketAddr::from(([192, 168, 10, last], 80))
}

/// Whether a request from one host reaches another, and its answer comes back.
fn reaches(network: &Network, from: &str, to: &str) -> bool {
    get(network.namespace(from).unwrap(), address(to), SILENCE).is_ok()
}

/// Until a page comes: a link that has just come up takes its time.
fn wait_for(network: &Network, from: &str, to: &str) {
    let namespace = network.namespace(from).unwrap();
    let page = wait_until(ANSWER, || get(namespace, address(to), SILENCE).ok());
    assert!(page.is_some(), "{from} never reached {to}");
}

#[test]
fn cuts_and_partitions_do_what_they_say() {
    let network = Network::new(&hosts()).unwrap();
    let _servers = ["a", "b", "c"].map(|host| page_server(&network, host));
    wait_for(&network, "a", "b");
    wait_for(&network, "a", "c");
    wait_for(&network, "b", "c");

    network.partition("a", &["b"]).unwrap();
    assert!(!reaches(&network, "a", "b") && !reaches(&network, "b", "a"));
    assert!(reaches(&network, "a", "c") && reaches(&network, "c", "b"));
    network.heal_partitions().unwrap();
    wait_for(&network, "a", "b");

    network.partition_one_way("a", &["b", "c"]).unwrap();
    assert!(!reaches(&network, "a", "b") && !reaches(&network, "c", "a"));
    assert!(reaches(&network, "b", "c"));
    network.heal_partitions().unwrap();

    for cut in [Network::cut, Network::cut_silently, Network::take_interface_down] {
        cut(&network, "b").unwrap();
        assert!(!reaches(&network, "a", "b") && !reaches(&network, "b", "c"));
        assert!(reaches(&network, "a", "c"));
        network.heal("b").unwrap();
        wait_for(&network, "a", "b");
        wait_for(&network, "b", "c");
    }
}

#[test]
fn a_cut_takes_the_carrier_and_a_silent_one_leaves_it() {
    let network = Network::new(&hosts()).unwrap();
    let carrier = || {
        let show = format!("ip -br link show dev {INTERFACE}");
        network.namespace("b").unwrap().run_ok(&show, LIMIT).unwrap().contains("LOWER_UP")
    };
    network.cut_silently("b").unwrap();
    assert!(carrier());
    network.cut("b").unwrap();
    assert!(!carrier());
    network.heal("b").unwrap();
    assert!(carrier());
}

#[test]
fn every_owner_of_an_address_is_seen_by_arp() {
    let network = Network::new(&hosts()).unwrap();
    let owners = |address: &str| {
        let wait = Duration::from_secs(1);
        arp_owner(network.namespace("a").unwrap(), INTERFACE, address.parse().unwrap(), wait)
    };
    // A link that has just come up takes its time.
    let wait_for_owners = |address: &str, expected: &BTreeSet<String>| {
        let deadline = quorate_tests::lab::clock::Deadline::after(ANSWER);
        loop {
            let found = owners(address).unwrap();
            if found == *expected {
                return;
            }
            assert!(!deadline.passed(), "{address}: {found:?} answer, not {expected:?}");
        }
    };
    let (b, c) = (network.mac("b").unwrap(), network.mac("c").unwrap());
    let only = |owner: &str| BTreeSet::from([owner.to_owned()]);
    assert!(owners("192.168.10.99").unwrap().is_empty());
    let vip = "192.168.10.180".to_owned();
    // On lo, answered for nevertheless, as long as nothing is done against it.
    wait_for_owners(&vip, &only(&b));
    network.add_address("c", INTERFACE, &format!("{vip}/32").parse().unwrap()).unwrap();
    wait_for_owners(&vip, &BTreeSet::from([b.clone(), c.clone()]));
    network.namespace("b").unwrap().set_parameter("net/ipv4/conf/all/arp_ignore", "1").unwrap();
    wait_for_owners(&vip, &only(&c));
    network.delete_address("c", INTERFACE, &format!("{vip}/32").parse().unwrap()).unwrap();
    assert!(owners(&vip).unwrap().is_empty(), "{b} is to be silent");
}

#[test]
fn processes_stop_resume_and_die_on_command() {
    let network = Network::new(&hosts()).unwrap();
    let mut server = page_server(&network, "b");
    wait_for(&network, "a", "b");
    server.stop().unwrap();
    assert!(!reaches(&network, "a", "b"));
    server.resume().unwrap();
    wait_for(&network, "a", "b");
    assert!(server.is_running().unwrap());
    let ended = server.terminate(LIMIT).unwrap();
    assert!(!ended.success() && !server.is_running().unwrap());
    assert!(server.log().contains("listening on 0.0.0.0:80"), "{}", server.log());

    let mut again = page_server(&network, "b");
    wait_for(&network, "a", "b");
    assert!(!again.kill().unwrap().success());
    assert!(!reaches(&network, "a", "b"));
}

#[test]
fn nothing_stays_behind() {
    let mut network = Network::new(&hosts()).unwrap();
    let mut server = page_server(&network, "b");
    let names: Vec<String> =
        ["a", "b"].iter().map(|host| network.namespace(host).unwrap().name().to_owned()).collect();
    let there = |name: &String| std::path::Path::new("/run/netns").join(name).exists();
    assert!(names.iter().all(there));
    network.remove_host("b").unwrap();
    assert!(!there(&names[1]) && network.namespace("b").is_err());
    assert!(!server.wait(LIMIT).unwrap().success(), "it ends with its host");
    drop(network);
    assert!(!names.iter().any(there));
}

/// Until what the observer saw since the last look says so.
fn wait_to_see(observer: &Observer, seen: impl Fn(&Record) -> bool) -> Record {
    let mut record = observer.take();
    wait_until(ANSWER, || {
        record.append(observer.take());
        seen(&record).then_some(())
    })
    .expect("the observer never saw it");
    record
}

fn answered(record: &Record, by: Director) -> BTreeSet<Kind> {
    record.answers.iter().filter(|answer| answer.by == by).map(|answer| answer.kind).collect()
}

#[test]
fn an_observer_sees_who_answers_and_when_two_do() {
    let network = Network::new(&hosts()).unwrap();
    let vip: IpNet = "192.168.10.181/32".parse().unwrap();
    let [b, c] = [0, 1].map(Director);
    let IpAddr::V4(address) = vip.addr() else { panic!("{vip}") };
    let from = ("a", Ipv4Addr::new(192, 168, 10, 1));
    let observer = Observer::start(
        network.namespace("a").unwrap(),
        Plan::new(&network, from, &["b", "c"], &[address]).unwrap(),
    )
    .unwrap();
    let asked = wait_to_see(&observer, |record| record.ticks > 50);
    assert_eq!(asked.answers, [], "nobody has it yet");
    assert!(asked.longest_silence(0).length() >= Duration::from_nanos(asked.to - asked.from));

    let all = [Kind::Arp, Kind::Icmp, Kind::Tcp].into();
    network.add_address("b", INTERFACE, &vip).unwrap();
    let one =
        wait_to_see(&observer, |record| answered(record, b) == all && record.answers.len() > 100);
    assert_eq!(answered(&one, c), BTreeSet::new());
    assert_eq!((one.handovers(0), one.doubles(0).answers, one.last_by(0)), (0, 0, Some(b)));

    network.add_address("c", INTERFACE, &vip).unwrap();
    let two = wait_to_see(&observer, |record| {
        answered(record, c) == all && record.doubles(0).answers > 50
    });
    assert!(two.handovers(0) > 10 && two.doubles(0).time > Duration::ZERO, "{:?}", two.doubles(0));

    network.delete_address("b", INTERFACE, &vip).unwrap();
    // Its last answers may still be on their way.
    wait_to_see(&observer, |record| record.ticks > 20);
    let other = wait_to_see(&observer, |record| record.answers.len() > 50);
    assert_eq!((other.handovers(0), other.doubles(0).answers, other.last_by(0)), (0, 0, Some(c)));
    assert_eq!(other.lost, 0);
}
