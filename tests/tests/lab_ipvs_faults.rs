//! Faults on real IPVS: a bad network (netem), steps of the wall clock, a daemon that stops, and what
//! an ex-owner still sends for connections that it forwarded. Needs root and ip_vs; on hosts
//! without ip_vs `cargo xtask test` runs it in the virtual machine. Emulated, its times mean
//! nothing: only who answers is judged.
#![forbid(unsafe_code)]
#![allow(
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test that can't go on ends; gaps are printed, and never asserted"
)]

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::process::Command;
use std::time::Duration;

use quorate_tests::failover::bed::Bed;
use quorate_tests::failover::fault::Fault;
use quorate_tests::failover::quorate::{Quorate, Setup, Timing};
use quorate_tests::failover::round::{Blow, Seen, Watch, play, settle};
use quorate_tests::failover::{CLIENT, DIRECTORS};
use quorate_tests::lab::client;
use quorate_tests::lab::clock::wait_until;
use quorate_tests::lab::deployment::{Deployment, VIP};
use quorate_tests::lab::network::INTERFACE;
use quorate_tests::lab::observer::Plan;
use quorate_tests::lab::{in_vm, workspace_dir};

const NODES: [&str; 3] = ["d1", "d2", "d3"];
/// An emulated machine takes its time.
const LIMIT: Duration = Duration::from_secs(300);
/// How long it is watched that nothing comes: several retransmissions.
const WHILE: Duration = Duration::from_secs(6);
const NAT_PORT: u16 = 8080;

fn timing() -> Timing {
    if in_vm() { Timing::WAN } else { Timing::LAN }
}

/// The example's deployment, without moves that nothing forces.
fn bed(name: &str, service: &str) -> Quorate {
    let deployment = Deployment::of_three_by_dr(name, if in_vm() { "wan" } else { "lan" }).unwrap();
    let example = fs::read_to_string(workspace_dir().join("examples/web.toml")).unwrap();
    let stays = example.replace("preempt = true", "preempt = false");
    assert_ne!(stays, example);
    deployment.apply("d2", &(stays + service)).unwrap();
    let vip: Ipv4Addr = VIP.parse().unwrap();
    let mut plan = Plan::new(deployment.network(), CLIENT, &NODES, &[vip]).unwrap();
    // A director forwards a connection with one hop less; a standby that routed it on would spend
    // that hop.
    plan.tcp_ttl = 2;
    if in_vm() {
        plan.every = Duration::from_millis(20);
        (plan.icmp_every, plan.tcp_every) = (3, 10);
    }
    Quorate::observing(deployment, Setup::one_group(name, 3, timing()), plan).unwrap()
}

fn strike_owner(bed: &mut Quorate, fault: Fault) -> Seen {
    let mut watch = Watch::start(bed.observer());
    settle(bed, &mut watch).unwrap();
    let victim = watch.owners(1)[0].and_then(|owner| bed.name(owner)).unwrap();
    let blow = Blow { fault, victim, after: Duration::ZERO };
    let watch = Watch::start(bed.observer());
    let seen = play(bed, &[blow], Duration::from_secs(1), watch).unwrap();
    println!("{victim} {fault}: gap {:?}, {:?} handovers", seen.gap, seen.handovers);
    seen
}

#[track_caller]
fn assert_one(seen: &Seen, handovers: usize) {
    assert_eq!(seen.doubles.answers, 0, "two directors answered: {:?}", seen.doubles);
    assert!(seen.late.is_none(), "past its lease: {:?}", seen.late);
    let pairs = seen.record.answers.windows(2).filter(|pair| pair[0].by != pair[1].by);
    let told: Vec<_> = pairs.take(4).collect();
    assert!(seen.handovers[0] <= handovers, "{:?} handovers: {told:?}", seen.handovers);
    assert!(seen.taken_over, "nobody took over");
}

fn on(bed: &Quorate, host: &str, line: &str) -> String {
    bed.network().namespace(host).unwrap().run_ok(line, LIMIT).unwrap()
}

#[test]
fn a_bad_network_and_a_stepped_clock_never_make_two_directors_answer() {
    let mut bed = bed("lab_ipvs_faults", "");
    assert_one(&strike_owner(&mut bed, Fault::Stop(Duration::from_secs(12))), 1);
    assert_one(&strike_owner(&mut bed, Fault::Isolate), 1);

    let bad = "loss 10% delay 20ms 15ms duplicate 5% reorder 25% 50%";
    for node in NODES {
        on(&bed, node, &format!("tc qdisc add dev {INTERFACE} root netem {bad}"));
    }
    // On a bad network a lease may lapse, and be granted elsewhere: more moves, never two owners.
    for fault in [Fault::Stop(Duration::from_secs(12)), Fault::Kill] {
        assert_one(&strike_owner(&mut bed, fault), usize::MAX);
    }
    for node in NODES {
        on(&bed, node, &format!("tc qdisc del dev {INTERFACE} root"));
    }

    if !in_vm() {
        println!("steps of the wall clock are left to the virtual machine: it is this host's own");
        return;
    }
    let mut watch = Watch::start(bed.observer());
    settle(&mut bed, &mut watch).unwrap();
    let mut watch = Watch::start(bed.observer());
    for step in ["+1 hour", "-2 hours", "+10 minutes", "+50 minutes"] {
        let set = format!("date -s \"{step}\"");
        let mut date = Command::new("sh");
        assert!(date.args(["-c", &set]).status().unwrap().success());
        watch.wait_until_steady(1, timing().lease).unwrap();
    }
    settle(&mut bed, &mut watch).unwrap();
    assert_eq!((watch.record.handovers(0), watch.record.doubles(0).answers), (0, 0));
    assert_one(&strike_owner(&mut bed, Fault::Kill), 1);
}

/// Counts, at the bridge, the packets that match one of these.
fn count_from_now(bed: &Quorate, table: &str, matches: &[String]) {
    let mut rules = vec![
        format!("add table bridge {table}"),
        format!("add chain bridge {table} in {{ type filter hook prerouting priority 0; }}"),
    ];
    rules.extend(matches.iter().map(|m| format!("add rule bridge {table} in {m} counter")));
    let mut nft = Command::new("nft");
    let added = bed.network().run("bridge", nft.arg(rules.join("; ")), LIMIT).unwrap();
    assert!(added.status.success(), "{}", added.stderr);
}

fn counted(bed: &Quorate, table: &str) -> u64 {
    let listed = on(bed, "bridge", &format!("nft list table bridge {table}"));
    let counts = listed.lines().filter_map(|line| {
        let mut words = line.split_whitespace().skip_while(|word| *word != "packets");
        words.nth(1)?.parse::<u64>().ok()
    });
    counts.sum()
}

/// A connection by NAT comes back through the director: its replies carry the VIP as their source,
/// long after the director has lost it, unless the fence stops them.
#[test]
fn no_packet_from_the_vip_leaves_a_director_that_lost_it() {
    let nat = format!(
        "\n[service.nat]\ngroup = \"web\"\nlisten = \"tcp/{VIP}:{NAT_PORT}\"\nscheduler = \"rr\"\n\
         forward = \"NAT\"\nreal_servers = [ {{ address = \"192.168.10.16:{NAT_PORT}\" }} ]\n"
    );
    let mut bed = bed("lab_ipvs_faults_nat", &nat);
    let mut watch = Watch::start(bed.observer());
    settle(&mut bed, &mut watch).unwrap();
    let owner = watch.owners(1)[0].and_then(|owner| bed.name(owner)).unwrap();
    let (_, gateway) = DIRECTORS.iter().find(|(name, _)| *name == owner).unwrap();
    on(&bed, "rs1", &format!("ip route add {}/32 via {gateway}", CLIENT.1));
    on(&bed, "rs1", "sysctl -qw net.ipv4.conf.all.accept_redirects=0");
    on(&bed, "rs1", &format!("sysctl -qw net.ipv4.conf.{INTERFACE}.accept_redirects=0"));
    let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), NAT_PORT);
    let network = bed.network();
    let server = network.namespace("rs1").unwrap();
    let listener = server.enter(|| TcpListener::bind(any)).unwrap().unwrap();
    let address = SocketAddr::new(VIP.parse().unwrap(), NAT_PORT);
    let from = network.namespace(CLIENT.0).unwrap();
    let connect = || client::connect(from, address, Duration::from_secs(5)).ok();
    let mut connected = wait_until(LIMIT, connect).unwrap();
    let (mut accepted, _) = listener.accept().unwrap();
    accepted.write_all(b"x").unwrap();
    connected.read_exact(&mut [0]).unwrap();

    // What leaves the owner with the VIP as its source: IP, and ARP for it; and what the real server
    // sends it for the client.
    let as_vip = [format!("ip saddr {VIP}"), format!("arp saddr ip {VIP}")]
        .map(|from_vip| format!("iifname {owner} {from_vip}"));
    count_from_now(&bed, "replies", &as_vip);
    count_from_now(&bed, "served", &[format!("iifname rs1 tcp sport {NAT_PORT}")]);
    accepted.write_all(b"x").unwrap();
    connected.read_exact(&mut [0]).unwrap();
    assert!(counted(&bed, "replies") > 0, "what the owner sends is not seen");

    bed.stop(owner).unwrap();
    std::thread::sleep(bed.lease() + bed.slack());
    let before = ["replies", "served"].map(|table| counted(&bed, table));
    // The real server goes on sending, and repeats it, through the director that it knows; the
    // observer goes on asking that director by ARP, ICMP and TCP.
    accepted.write_all(b"late").unwrap();
    std::thread::sleep(WHILE);
    let after = ["replies", "served"].map(|table| counted(&bed, table));
    assert_eq!(after[0], before[0], "{}", on(&bed, "bridge", "nft list table bridge replies"));
    assert!(after[1] > before[1] + 1, "the real server sent nothing");
    connected.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    assert!(connected.read_exact(&mut [0; 4]).is_err(), "what was sent late came through");
    bed.resume(owner).unwrap();
    settle(&mut bed, &mut watch).unwrap();
    assert_eq!(watch.record.doubles(0).answers, 0, "{:?}", watch.record.doubles(0));
}
