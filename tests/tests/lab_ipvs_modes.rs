//! What IPVS can be asked for besides direct routing of TCP over IPv4, each with real traffic: a
//! firewall mark over several ports, UDP, IPv6, tunnels of three kinds across a routed hop, a sorry server, weights
//! ordered at run time. One director is enough. NAT is in `lab_ipvs_connections`. Needs root and
//! ip_vs; on hosts without ip_vs `cargo xtask test` runs it in the virtual machine.
#![forbid(unsafe_code)]
#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test that can't go on ends")]

use std::io::{Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use quorate_tests::lab::client;
use quorate_tests::lab::deployment::{Deployment, VIP, example_hosts};
use quorate_tests::lab::in_vm;
use quorate_tests::lab::network::{Host, INTERFACE};
use serde_json::Value;

/// An emulated machine takes its time.
const LIMIT: Duration = Duration::from_secs(300);
const VIP6: &str = "2001:db8:10::180";
const ROUTER: &str = "192.168.10.1";

/// Every real server listens on all ports, so that none is refused for another reason; of the sorry
/// server's service, 7100, none.
const CONFIGURATION: &str = r#"
[group.web]
interface = "public"
addresses = ["192.168.10.180/32", "2001:db8:10::180/128"]

[check.tcp]
type = "tcp"
interval = "2s"
timeout = "2s"
retry = 1
retry_delay = "1s"

[pool.near]
servers = [{ address = "192.168.10.16" }, { address = "192.168.10.17" }]

[service.marked]
group = "web"
listen = ["tcp/192.168.10.180:8000", "tcp/192.168.10.180:8100-8109"]
mark = 7
scheduler = "rr"
persistence = "50s"
check = { type = "tcp", port = 8000 }
pool = "near"

[service.datagrams]
group = "web"
listen = "udp/192.168.10.180:5300"
scheduler = "rr"
one_packet = true
pool = "near"

[service.six]
group = "web"
listen = "tcp/[2001:db8:10::180]:8000"
scheduler = "rr"
check = "tcp"
real_servers = [{ address = "2001:db8:10::16" }, { address = "2001:db8:10::17" }]

[service.far]
group = "web"
listen = "tcp/192.168.10.180:7000"
scheduler = "rr"
forward = "TUN"
check = "tcp"
real_servers = [{ address = "10.10.0.16" }, { address = "10.10.0.17" }]

[service.wrapped]
group = "web"
listen = "tcp/192.168.10.180:7001"
scheduler = "rr"
forward = "TUN"
check = "tcp"
real_servers = [
  { address = "10.10.0.16", tunnel = { type = "gue", port = 6080 } },
  { address = "10.10.0.17", tunnel = "gre" },
]

[service.sorry]
group = "web"
listen = "tcp/192.168.10.180:7100"
check = "tcp"
real_servers = [{ address = "192.168.10.16" }]
sorry_server = "192.168.10.17"
"#;

fn deployment() -> Deployment {
    let mut hosts = example_hosts().unwrap();
    hosts.retain(|host| !matches!(host.name.as_str(), "d2" | "d3"));
    for host in &mut hosts {
        let last = match host.name.as_str() {
            "d1" => 80,
            "rs1" => 16,
            "rs2" => 17,
            _ => 100,
        };
        host.addresses.push(format!("2001:db8:10::{last}/64").parse().unwrap());
    }
    hosts.push(Host::new("router", format!("{ROUTER}/24").parse().unwrap()));
    for name in ["rs3", "rs4"] {
        hosts.push(Host { name: name.to_owned(), addresses: Vec::new(), loopback: Vec::new() });
    }
    let mut deployment = Deployment::new("lab_ipvs_modes", &hosts).unwrap();
    let far = [("router", "10.10.0.1/24"), ("rs3", "10.10.0.16/24"), ("rs4", "10.10.0.17/24")];
    deployment.join_inside(&far).unwrap();
    let on = |host: &str| deployment.network().namespace(host).unwrap();
    on("router").set_parameter("net/ipv4/ip_forward", "1").unwrap();
    // The answers of the real servers behind it come from the VIP, which is in front of it.
    for place in ["all", "eth1"] {
        on("router").set_parameter(&format!("net/ipv4/conf/{place}/rp_filter"), "0").unwrap();
    }
    on("d1").run_ok(&format!("ip route add 10.10.0.0/24 via {ROUTER}"), LIMIT).unwrap();
    for host in ["rs3", "rs4"] {
        on(host).run_ok("ip route add default via 10.10.0.1", LIMIT).unwrap();
    }
    for host in ["rs1", "rs2"] {
        let setup = ["realserver", "setup", "--vip", VIP, "--vip", VIP6, "--mode", "DR"];
        deployment.quorate_on(host, &setup).unwrap();
        for at in ["0.0.0.0:8000", "0.0.0.0:8105", "[2001:db8:10::180]:8000", "192.168.10.180:5300"]
        {
            deployment.serve_echo(host, at, host).unwrap();
        }
    }
    for (host, own) in [("rs1", "2001:db8:10::16"), ("rs2", "2001:db8:10::17")] {
        deployment.serve_echo(host, &format!("[{own}]:8000"), host).unwrap();
    }
    deployment.serve_echo("rs2", "0.0.0.0:7100", "rs2").unwrap();
    for host in ["rs3", "rs4"] {
        let setup = ["realserver", "setup", "--vip", VIP, "--mode", "TUN"];
        deployment.quorate_on(host, &setup).unwrap();
        deployment.serve_echo(host, "0.0.0.0:7000", host).unwrap();
        deployment.serve_echo(host, "0.0.0.0:7001", host).unwrap();
    }
    // Other tunnels are the administrator's own: one unpacks GUE, the other GRE.
    let on = |host: &str| deployment.network().namespace(host).unwrap();
    for line in ["modprobe fou", "ip fou add port 6080 gue"] {
        on("rs3").run_ok(line, LIMIT).unwrap();
    }
    for line in ["modprobe ip_gre", "ip link set gre0 up"] {
        on("rs4").run_ok(line, LIMIT).unwrap();
    }
    on("rs4").set_parameter("net/ipv4/conf/gre0/rp_filter", "0").unwrap();
    deployment.add_director("d1", "192.168.10.80").unwrap();
    deployment.form(&["d1"], if in_vm() { "wan" } else { "lan" }).unwrap();
    deployment.apply("d1", CONFIGURATION).unwrap();
    deployment
        .wait_for("d1 to own the group, and every service to be as it will be", LIMIT, |d| {
            let known = |service: &str, up: usize| {
                let servers = servers(d, service);
                servers.iter().filter(|server| server["state"] == "up").count() == up
            };
            let whole =
                ["marked", "six", "far", "wrapped", "datagrams"].iter().all(|name| known(name, 2));
            let sorry = servers(d, "sorry").iter().all(|server| server["state"] == "down");
            Ok(d.owner("d1", "web").is_some() && whole && sorry)
        })
        .unwrap();
    deployment
}

fn service(deployment: &Deployment, name: &str) -> Value {
    let status = deployment.status("d1").unwrap_or_default();
    let services = status["services"].as_array().cloned().unwrap_or_default();
    services.into_iter().find(|service| service["name"] == name).unwrap_or_default()
}

fn servers(deployment: &Deployment, name: &str) -> Vec<Value> {
    service(deployment, name)["real_servers"].as_array().cloned().unwrap_or_default()
}

/// How many connections each real server of a service has been given.
fn given(deployment: &Deployment, name: &str) -> Vec<u64> {
    let count = |server: &Value| server["counters"]["connections"].as_u64().unwrap();
    servers(deployment, name).iter().map(count).collect()
}

/// The kernel sums its counters every two seconds (`estimation_timer`, ip_vs_est.c).
fn wait_until_given(deployment: &Deployment, name: &str, wanted: &[u64]) {
    let what = format!("{name}'s real servers to have been given {wanted:?} connections");
    deployment.wait_for(&what, LIMIT, |d| Ok(given(d, name) == wanted)).unwrap();
}

/// Sends so many bytes over a connection of its own, and wants them back.
fn echo(deployment: &Deployment, to: &str, bytes: usize) {
    let to: SocketAddr = to.parse().unwrap();
    let client = deployment.network().namespace("client").unwrap();
    let mut stream = client::connect(client, to, LIMIT).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let sent: Vec<u8> = (0..bytes).map(|n| u8::try_from(n % 251).unwrap()).collect();
    let mut came = vec![0; bytes];
    let mut writer = stream.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| writer.write_all(&sent).unwrap());
        stream.read_exact(&mut came).unwrap();
    });
    assert!(came == sent, "{to} did not send back what it was sent");
}

/// Who answers a datagram, from a port of its own.
fn datagram(deployment: &Deployment, to: &str) -> String {
    let client = deployment.network().namespace("client").unwrap();
    let socket = client.enter(|| UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket.connect(to).unwrap();
    socket.send(b"who?").unwrap();
    let mut buffer = [0; 64];
    let count = socket.recv(&mut buffer).unwrap();
    String::from_utf8_lossy(&buffer[..count]).into_owned()
}

#[test]
fn every_way_that_ipvs_has_carries_traffic() {
    let mut deployment = deployment();
    a_mark_makes_one_service_of_its_ports(&deployment);
    datagrams_are_spread_one_by_one(&deployment);
    ipv6_is_routed_directly(&deployment);
    tunnels_reach_across_a_router(&deployment);
    a_sorry_server_answers_while_nobody_else_does(&deployment);
    a_drained_real_server_gets_no_new_connection(&deployment);
    connections_are_listed(&deployment);
    ipvsadm_restores_what_is_exported(&deployment);
    what_leaves_the_configuration_keeps_its_connections(&deployment);
    a_daemon_that_dies_just_after_an_apply_keeps_what_it_brought(&mut deployment);
}

/// Persistence holds across the ports: all go where the first went.
fn a_mark_makes_one_service_of_its_ports(deployment: &Deployment) {
    for port in [8000, 8105, 8000, 8105] {
        echo(deployment, &format!("{VIP}:{port}"), 100);
    }
    let one = |d: &Deployment| {
        let given = given(d, "marked");
        assert!(given.contains(&0), "persistence holds across ports: {given:?}");
        Ok(given.contains(&4))
    };
    deployment.wait_for("one real server to have been given all four", LIMIT, one).unwrap();
    let client = deployment.network().namespace("client").unwrap();
    let unmarked = format!("{VIP}:8110").parse().unwrap();
    let refused = client::connect(client, unmarked, Duration::from_secs(5));
    assert!(refused.is_err(), "a port that is not the service's is not balanced");
}

fn datagrams_are_spread_one_by_one(deployment: &Deployment) {
    let mut answers: Vec<String> =
        (0..4).map(|_| datagram(deployment, &format!("{VIP}:5300"))).collect();
    answers.sort();
    assert_eq!(answers, ["rs1", "rs1", "rs2", "rs2"]);
}

fn ipv6_is_routed_directly(deployment: &Deployment) {
    for _ in 0..4 {
        echo(deployment, &format!("[{VIP6}]:8000"), 100);
    }
    wait_until_given(deployment, "six", &[2, 2]);
}

/// A packet that fills a frame does not fit the tunnel: the client is told, and sends smaller ones.
fn tunnels_reach_across_a_router(deployment: &Deployment) {
    for _ in 0..4 {
        echo(deployment, &format!("{VIP}:7000"), 200_000);
    }
    wait_until_given(deployment, "far", &[2, 2]);
    // Before any such packet: the real server told it in its first answer (12 bytes are timestamps).
    let client = deployment.network().namespace("client").unwrap();
    let to = format!("{VIP}:7000").parse().unwrap();
    client.run_ok("ip route flush cache", LIMIT).unwrap();
    let open = client::connect(client, to, LIMIT).unwrap();
    let told = client.run_ok(&format!("ss -tinH dst {VIP}"), LIMIT).unwrap();
    assert!(told.contains(" mss:1428 "), "{told}");
    drop(open);
    for _ in 0..4 {
        echo(deployment, &format!("{VIP}:7001"), 200_000);
    }
    wait_until_given(deployment, "wrapped", &[2, 2]);
    let d1 = deployment.network().namespace("d1").unwrap();
    let route = d1.run_ok("ip route get 10.10.0.16", LIMIT).unwrap();
    assert!(route.contains(&format!("via {ROUTER} dev {INTERFACE}")), "{route}");
}

fn a_sorry_server_answers_while_nobody_else_does(deployment: &Deployment) {
    echo(deployment, &format!("{VIP}:7100"), 100);
    let answered = |d: &Deployment| {
        let sorry = service(d, "sorry")["sorry_server"].clone();
        Ok(sorry["counters"]["connections"] == 1 && sorry["effective_weight"] == 1)
    };
    deployment.wait_for("the sorry server to have been given it", LIMIT, answered).unwrap();
}

/// The wait lasts as long as a connection does, which goes on undisturbed.
fn a_drained_real_server_gets_no_new_connection(deployment: &Deployment) {
    let client = deployment.network().namespace("client").unwrap();
    let to = format!("[{VIP6}]:8000").parse().unwrap();
    let mut open = [(); 2].map(|()| client::connect(client, to, LIMIT).unwrap());
    let one_each =
        |d: &Deployment| Ok(servers(d, "six").iter().all(|server| server["active"] == 1));
    deployment.wait_for("a connection to each real server", LIMIT, one_each).unwrap();
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let drained = scope.spawn(|| {
            let drain = ["realserver", "drain", "2001:db8:10::16", "--wait=4m"];
            let drained = deployment.quorate("d1", &drain).unwrap();
            assert!(ended.load(Ordering::SeqCst), "it did not wait: {drained:?}");
            assert!(drained.status.success(), "{drained:?}");
        });
        let draining = |d: &Deployment| {
            let server = &servers(d, "six")[0];
            Ok(server["state"] == "draining" && server["kernel_weight"] == 0)
        };
        deployment.wait_for("the real server to be drained", LIMIT, draining).unwrap();
        for stream in &mut open {
            stream.set_read_timeout(Some(LIMIT)).unwrap();
            stream.write_all(b"still?").unwrap();
            let mut came = [0; 6];
            stream.read_exact(&mut came).unwrap();
        }
        ended.store(true, Ordering::SeqCst);
        drop(open);
        drained.join().unwrap();
    });
    for _ in 0..4 {
        echo(deployment, &format!("[{VIP6}]:8000"), 100);
    }
    wait_until_given(deployment, "six", &[3, 7]);
    assert_eq!(servers(deployment, "six")[0]["state"], "draining");
    deployment.quorate_ok("d1", &["realserver", "enable", "2001:db8:10::16"]).unwrap();
    let enabled = |d: &Deployment| Ok(servers(d, "six")[0]["state"] == "up");
    deployment.wait_for("the real server to be enabled", LIMIT, enabled).unwrap();
    for _ in 0..2 {
        echo(deployment, &format!("[{VIP6}]:8000"), 100);
    }
    let again = |d: &Deployment| Ok(given(d, "six")[0] > 3);
    deployment.wait_for("the real server to be given connections again", LIMIT, again).unwrap();
}

/// As long as `drain` says, here until that is taken back; the last, since it changes the configuration.
fn what_leaves_the_configuration_keeps_its_connections(deployment: &Deployment) {
    let with = |drain: &str, servers: &str| {
        let six = format!("[service.six]\ndrain = \"{drain}\"");
        let both = "{ address = \"2001:db8:10::16\" }, { address = \"2001:db8:10::17\" }";
        CONFIGURATION.replace("[service.six]", &six).replace(both, servers)
    };
    let one = "{ address = \"2001:db8:10::17\" }";
    let client = deployment.network().namespace("client").unwrap();
    let to = format!("[{VIP6}]:8000").parse().unwrap();
    let before = given(deployment, "six");
    let mut open = [(); 2].map(|()| client::connect(client, to, LIMIT).unwrap());
    let one_each =
        |d: &Deployment| Ok(servers(d, "six").iter().all(|server| server["active"] == 1));
    deployment.wait_for("a connection to each real server", LIMIT, one_each).unwrap();
    deployment.apply("d1", &with("1h", one)).unwrap();
    let leaving = |d: &Deployment| {
        let six = servers(d, "six");
        let [stays, leaves] = &six[..] else { return Ok(false) };
        let reason = leaves["reason"].as_str().unwrap_or_default();
        let told = reason.starts_with("left the configuration, deleted in ");
        Ok(stays["kernel_weight"] == 1 && leaves["kernel_weight"] == 0 && told)
    };
    deployment.wait_for("one real server to be leaving", LIMIT, leaving).unwrap();
    for stream in &mut open {
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(b"still?").unwrap();
        stream.read_exact(&mut [0; 6]).unwrap();
    }
    for _ in 0..4 {
        echo(deployment, &format!("[{VIP6}]:8000"), 100);
    }
    // One each for those that stay open.
    wait_until_given(deployment, "six", &[before[1] + 1 + 4, before[0] + 1]);
    deployment.apply("d1", &with("0s", one)).unwrap();
    let gone = |d: &Deployment| Ok(servers(d, "six").len() == 1);
    deployment.wait_for("its time to be taken back", LIMIT, gone).unwrap();
    let d1 = deployment.network().namespace("d1").unwrap();
    let table = d1.run_ok("ipvsadm -Sn", LIMIT).unwrap();
    let has = |host: &str| table.contains(&format!("[2001:db8:10::{host}]:8000"));
    assert_eq!((has("16"), has("17")), (false, true), "{table}");
}

/// It may not have written yet that the entry counts, and starts from the one before.
fn a_daemon_that_dies_just_after_an_apply_keeps_what_it_brought(deployment: &mut Deployment) {
    let has_it = |d: &Deployment| {
        let d1 = d.network().namespace("d1").unwrap();
        let table = d1.run_ok("ipvsadm -Sn", LIMIT).unwrap();
        table.contains("-r [2001:db8:10::16]:8000")
    };
    assert!(!has_it(deployment));
    deployment.apply("d1", CONFIGURATION).unwrap();
    deployment.wait_for("the table to be as applied", LIMIT, |d| Ok(has_it(d))).unwrap();
    deployment.kill("d1").unwrap();
    deployment.launch("d1").unwrap();
    let serves = |d: &Deployment| {
        assert!(has_it(d), "what was applied was taken out");
        Ok(d.owner("d1", "web").is_some())
    };
    deployment.wait_for("d1 to own the group again", LIMIT, serves).unwrap();
    assert!(has_it(deployment));
}

fn connections_are_listed(deployment: &Deployment) {
    let client = deployment.network().namespace("client").unwrap();
    let to = format!("{VIP}:8000").parse().unwrap();
    let open = client::connect(client, to, LIMIT).unwrap();
    let listed = deployment.quorate_ok("d1", &["connections", "marked", "-o", "json"]).unwrap();
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let connections = listed["connections"].as_array().unwrap();
    let mine = format!("192.168.10.100:{}", open.local_addr().unwrap().port());
    let found = connections.iter().find(|connection| connection["client"] == mine.as_str());
    assert_eq!(found.unwrap()["state"], "ESTABLISHED", "{listed}");
    assert!(connections.iter().any(|c| c["to"] == "0.0.0.7:0"), "no template: {listed}");
    assert_eq!(listed["node"], "d1");
}

/// Into the empty table of another host.
fn ipvsadm_restores_what_is_exported(deployment: &Deployment) {
    let exported = deployment.quorate_ok("d1", &["export", "ipvsadm"]).unwrap();
    let router = deployment.network().namespace("router").unwrap();
    for line in exported.lines() {
        router.run_ok(&format!("ipvsadm {line}"), LIMIT).unwrap();
    }
    let sorted = |text: &str| {
        // In which order it writes its options is ipvsadm's own.
        let words = |line: &str| {
            let mut words: Vec<&str> = line.split_whitespace().collect();
            words.sort_unstable();
            words.join(" ")
        };
        let mut lines: Vec<String> = text.lines().map(words).collect();
        lines.sort();
        lines
    };
    let saved = router.run_ok("ipvsadm -Sn", LIMIT).unwrap();
    assert_eq!(sorted(&saved), sorted(&exported));
}
