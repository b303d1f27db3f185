//! `via = "forwarding"`: real servers that three directors try over the way of their clients' packets, by IPv4
//! and IPv6; on real IPVS: lab_ipvs_probes. Needs root. Run by `cargo xtask test`.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test that can't go on ends")]

use std::fmt::Write as _;
use std::time::Duration;

use quorate_tests::lab::deployment::Deployment;
use quorate_tests::lab::network::INTERFACE;
use serde_json::Value;

const DIRECTORS: [&str; 3] = ["d1", "d2", "d3"];
const LIMIT: Duration = Duration::from_secs(60);

/// Real servers by DR whose program answers at every address, one of which loses the VIP. A director that
/// has the VIP itself, as its owner has, sees the same.
#[test]
fn a_real_server_without_the_vip_is_down_by_the_way_of_its_clients() {
    const VIP: &str = "192.168.10.180";
    let mut deployment = Deployment::of_three("lab_host_probes_via", "lan", 1).unwrap();
    for host in ["rs1", "rs2"] {
        deployment.serve_pages(host, 80, host).unwrap();
    }
    let on = |host: &str, command: &str| {
        deployment.network().namespace(host).unwrap().run_ok(command, LIMIT).unwrap();
    };
    for host in ["rs1", "rs2"] {
        deployment.quorate_on(host, &["realserver", "setup", "--vip", VIP]).unwrap();
    }
    // d1 has it as its owner does.
    on("d1", "ip address add 192.168.10.180/32 dev lo");
    let configuration = "group.web = { interface = \"public\", addresses = [\"192.168.10.180/32\"] }\n\
         [service.web]\ngroup = \"web\"\nlisten = \"tcp/192.168.10.180:80\"\nforward = \"DR\"\n\
         real_servers = [{ address = \"192.168.10.16:80\" }, { address = \"192.168.10.17:80\" }]\n\
         [service.web.check]\ntype = \"tcp\"\nvia = \"forwarding\"\ninterval = \"200ms\"\n\
         timeout = \"300ms\"\nretry = 1\nretry_delay = \"100ms\"\n";
    deployment.apply("d1", configuration).unwrap();
    wait_for_servers(&deployment, &[("192.168.10.16", "up", ""), ("192.168.10.17", "up", "")]);

    // It would send on what is not for it, to d1, which has the VIP.
    on("rs1", "sysctl -qw net.ipv4.ip_forward=1");
    on("rs1", &format!("ip address del {VIP}/32 dev lo"));
    let lost = format!(
        "by DR it does not answer a connection to {VIP}:80 within 300ms: it may lack the VIP"
    );
    wait_for_servers(&deployment, &[("192.168.10.16", "down", &lost), ("192.168.10.17", "up", "")]);
    on("rs1", &format!("ip address add {VIP}/32 dev lo"));
    wait_for_servers(&deployment, &[("192.168.10.16", "up", ""), ("192.168.10.17", "up", "")]);

    deployment.stop_pages("rs2").unwrap();
    let refused = format!("by DR it refuses a connection to {VIP}:80: nothing listens there");
    wait_for_servers(
        &deployment,
        &[("192.168.10.16", "up", ""), ("192.168.10.17", "down", &refused)],
    );
    // By a tunnel that nobody takes apart there is no answer (one that somebody does: lab_ipvs_probes).
    deployment.apply("d1", &configuration.replace("\"DR\"", "\"TUN\"")).unwrap();
    let broken = format!("by TUN it does not answer a connection to {VIP}:80");
    wait_for_servers(
        &deployment,
        &[("192.168.10.16", "down", &broken), ("192.168.10.17", "down", &broken)],
    );
}

/// The same by IPv6, and one that is not there at all.
#[test]
fn by_ipv6_too_a_real_server_without_the_vip_is_down_and_so_is_one_that_is_no_neighbour() {
    const VIP: &str = "2001:db8:10::180";
    let mut deployment = Deployment::of_three("lab_host_probes_via6", "lan", 1).unwrap();
    for (host, last) in [("d1", 80), ("d2", 23), ("d3", 24), ("rs1", 16), ("rs2", 17)] {
        let own = format!("2001:db8:10::{last}/64").parse().unwrap();
        deployment.network().add_address(host, INTERFACE, &own).unwrap();
    }
    for host in ["rs1", "rs2"] {
        deployment.serve_echo(host, "[::]:80", host).unwrap();
        deployment.quorate_on(host, &["realserver", "setup", "--vip", VIP]).unwrap();
    }
    let on = |host: &str, command: &str| {
        deployment.network().namespace(host).unwrap().run_ok(command, LIMIT).unwrap();
    };
    // d1 has it as its owner does.
    on("d1", &format!("ip address add {VIP}/128 dev lo"));
    let configuration = format!(
        "group.web = {{ interface = \"public\", addresses = [\"{VIP}/128\"] }}\n\
         [service.web]\ngroup = \"web\"\nlisten = \"tcp/[{VIP}]:80\"\nforward = \"DR\"\n\
         real_servers = [{{ address = \"[2001:db8:10::16]:80\" }}, \
         {{ address = \"[2001:db8:10::17]:80\" }}, {{ address = \"[2001:db8:10::18]:80\" }}]\n\
         [service.web.check]\ntype = \"tcp\"\nvia = \"forwarding\"\ninterval = \"200ms\"\n\
         timeout = \"300ms\"\nretry = 1\nretry_delay = \"100ms\"\n"
    );
    deployment.apply("d1", &configuration).unwrap();
    let nobody = format!(
        "by DR no connection to [{VIP}]:80 can be asked for: it does not answer neighbour solicitations"
    );
    let [first, second] = ["[2001:db8:10::16]", "[2001:db8:10::17]"];
    wait_for_servers(
        &deployment,
        &[(first, "up", ""), (second, "up", ""), ("[2001:db8:10::18]", "down", &nobody)],
    );
    // It would send on what is not for it, to d1, which has the VIP.
    on("rs1", "sysctl -qw net.ipv6.conf.all.forwarding=1");
    on("rs1", &format!("ip address del {VIP}/128 dev lo"));
    let lost = format!("by DR it does not answer a connection to [{VIP}]:80 within 300ms: it may");
    wait_for_servers(&deployment, &[(first, "down", &lost), (second, "up", "")]);
    on("rs1", &format!("ip address add {VIP}/128 dev lo"));
    wait_for_servers(&deployment, &[(first, "up", ""), (second, "up", "")]);
    deployment.stop_pages("rs2").unwrap();
    let refused = format!("by DR it refuses a connection to [{VIP}]:80: nothing listens there");
    wait_for_servers(&deployment, &[(first, "up", ""), (second, "down", &refused)]);
    deployment.apply("d1", &configuration.replace("\"DR\"", "\"TUN\"")).unwrap();
    let broken = format!("by TUN it does not answer a connection to [{VIP}]:80");
    wait_for_servers(&deployment, &[(first, "down", &broken), (second, "down", &broken)]);
}

/// Hundreds of real servers that say nothing, each for longer than this test takes, and behind them one that
/// answers.
#[test]
fn tries_by_the_way_of_clients_that_wait_for_nothing_hold_up_no_other() {
    const VIP: &str = "192.168.10.180";
    let mut deployment = Deployment::of_three("lab_host_probes_many", "lan", 1).unwrap();
    deployment.serve_pages("rs2", 80, "page").unwrap();
    deployment.quorate_on("rs2", &["realserver", "setup", "--vip", VIP]).unwrap();
    for director in DIRECTORS {
        // rs1 has no VIP, and sends nothing on.
        let route = "ip route add 10.1.0.0/16 via 192.168.10.16";
        deployment.network().namespace(director).unwrap().run_ok(route, LIMIT).unwrap();
    }
    let mut configuration = String::from(
        "group.web = { interface = \"public\", addresses = [\"192.168.10.180/32\"] }\n\
         [service.web]\ngroup = \"web\"\nlisten = \"tcp/192.168.10.180:80\"\nforward = \"DR\"\n\
         check = { type = \"tcp\", via = \"forwarding\", interval = \"5m\", timeout = \"5m\", \
         warmup = \"0s\" }\nreal_servers = [\n",
    );
    for number in 0..400 {
        let (high, low) = (number / 200, number % 200 + 1);
        writeln!(configuration, "  {{ address = \"10.1.{high}.{low}:80\" }},").unwrap();
    }
    configuration += "  { address = \"192.168.10.17:80\" },\n]\n";
    deployment.apply("d1", &configuration).unwrap();
    wait_for_servers(&deployment, &[("192.168.10.17", "up", "")]);
}

/// What each real server, by its address, has to be seen as by every director.
fn wait_for_servers(deployment: &Deployment, expected: &[(&str, &str, &str)]) {
    let waited = deployment.wait_for("each real server is seen as it is", LIMIT, |deployment| {
        Ok(DIRECTORS.iter().all(|director| {
            let told = deployment.quorate(director, &["services", "-o", "json"]);
            let told: Value = told
                .map_or(Value::Null, |told| serde_json::from_str(&told.stdout).unwrap_or_default());
            let servers = told["services"][0]["real_servers"].as_array().cloned();
            let servers = servers.unwrap_or_default();
            expected.iter().all(|(address, state, reason)| {
                servers.iter().any(|server| {
                    let text = |key: &str| server[key].as_str().unwrap_or_default().to_owned();
                    text("address") == format!("{address}:80")
                        && text("state") == *state
                        && text("reason").starts_with(reason)
                })
            })
        }))
    });
    let seen = || DIRECTORS.map(|director| deployment.quorate(director, &["services"]));
    assert!(waited.is_ok(), "{waited:?}: {:#?}", seen());
}
