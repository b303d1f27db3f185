//! How a run's cluster begins, and the configurations that it gets.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use quorate_model::command::{
    CertificateAuthority, Command, Configure, Digest, LinkAddress, NodeDescription, RequestId,
    UnixMillis,
};
use quorate_model::director::DirectorConfig;
use quorate_model::id::{DeviceName, Incarnation, NodeId, Role};
use quorate_model::spec::Format;
use quorate_model::time::Timing;

use super::random::Random;

/// The VIPs of every run.
#[must_use]
pub fn addresses() -> Vec<IpAddr> {
    (11..=14).map(|host| IpAddr::V4(Ipv4Addr::new(10, 0, 0, host))).collect()
}

/// The device that carries them on every node.
#[must_use]
pub fn device() -> DeviceName {
    "eth0".parse().unwrap()
}

/// A start of a node's daemon.
#[must_use]
pub fn director_config(me: NodeId, incarnation: u64) -> DirectorConfig {
    DirectorConfig {
        me,
        role: Role::Director,
        incarnation: Incarnation(incarnation),
        devices: BTreeMap::from([("public".parse().unwrap(), device())]),
    }
}

fn description(id: NodeId) -> NodeDescription {
    NodeDescription {
        name: format!("n{id}").parse().unwrap(),
        role: Role::Director,
        links: vec![LinkAddress {
            name: "lan".to_owned(),
            listen: format!("192.168.7.{id}:7400").parse().unwrap(),
        }],
        public_key: Digest([0; 32]),
    }
}

/// The commands that found a cluster of these nodes: 1 and so on.
#[must_use]
pub fn founding(nodes: &BTreeSet<NodeId>) -> Vec<Command> {
    let secret = |id: NodeId| Digest([u8::try_from(id.0).unwrap(); 32]);
    let at = UnixMillis(0);
    let mut commands = vec![Command::Found {
        cluster_id: 1,
        name: "simulated".to_owned(),
        timing: Timing::LAN,
        authority: CertificateAuthority { certificate: Vec::new(), private_key: Vec::new() },
        node: description(NodeId(1)),
    }];
    for &id in nodes.iter().skip(1) {
        commands.push(Command::AddToken { secret: secret(id), at, expires: UnixMillis(1) });
        commands.push(Command::Admit { secret: secret(id), at, node: description(id) });
    }
    commands
}

/// Some configuration: the addresses in up to three groups, some timing.
pub fn configure(random: &mut Random, nodes: &BTreeSet<NodeId>) -> Command {
    let timings = [
        "\"fast\"",
        "\"lan\"",
        "{ lease = \"150ms\", renew = \"50ms\" }",
        "{ lease = \"1s\", renew = \"100ms\" }",
    ];
    let mut text = String::new();
    let timing = random.pick(&timings).unwrap_or(timings[0]);
    writeln!(text, "[cluster]\ntiming = {timing}").unwrap();
    let mut groups: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for address in addresses() {
        groups.entry(random.between(1, 3)).or_default().push(format!("\"{address}/32\""));
    }
    let ids: Vec<NodeId> = nodes.iter().copied().collect();
    let mut services = String::new();
    let inhibit = random.chance(500);
    for (group, addresses) in groups {
        let listen: Vec<String> =
            addresses.iter().map(|a| a.replace("/32", ":80").replacen('"', "\"tcp/", 1)).collect();
        let servers: Vec<String> = (1..=3)
            .map(|host| {
                let weight = u8::from(random.chance(700));
                format!("{{ address = \"10.1.{group}.{host}:80\", weight = {weight} }}")
            })
            .collect();
        let check = if random.chance(700) { "check = { type = \"tcp\" }\n" } else { "" };
        services += &format!(
            "[service.s{group}]\ngroup = \"g{group}\"\nlisten = [{}]\nscheduler = \"rr\"\n\
             forward = \"NAT\"\ninhibit = {inhibit}\n{check}real_servers = [{}]\n",
            listen.join(", "),
            servers.join(", ")
        );
        let prefer = random.pick(&ids).unwrap_or(NodeId(1));
        let delay = random.pick(&["0s", "100ms", "60s"]).unwrap_or("60s");
        let list = addresses.join(", ");
        writeln!(text, "[group.g{group}]\ninterface = \"public\"\naddresses = [{list}]").unwrap();
        writeln!(text, "prefer = [\"n{prefer}\"]\npreempt_delay = \"{delay}\"").unwrap();
    }
    text += &services;
    Command::Configure(Configure {
        request: RequestId(u128::from(random.number())),
        author: "simulator".to_owned(),
        at: UnixMillis(0),
        expected: None,
        source: text,
        format: Format::Toml,
        message: String::new(),
        confirm_until: None,
    })
}
