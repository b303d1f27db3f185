//! The rules about what Quorate has the packet filter do.

use std::num::NonZeroU32;

use quorate_dataplane::Dataplane;
use quorate_model::kernel::{MarkRule, PacketRules};
use quorate_model::spec::Protocol;
use quorate_model::sync::SyncFilter;

use super::{Environment, Rule};

/// Rules that need CAP_NET_ADMIN and nft(8), and no ip_vs.
pub const RULES: &[Rule] = &[
    Rule { name: "firewall marks are set, changed and cleared", check: set },
    Rule { name: "the senders of sync messages are set, changed and cleared", check: senders },
    Rule { name: "a table that somebody changed is told, and put back", check: spoilt },
    Rule { name: "many firewall marks are read back in full", check: many },
];

fn rule(address: &str, protocol: Protocol, ports: (u16, u16), mark: u32) -> MarkRule {
    let mark = NonZeroU32::new(mark).unwrap();
    MarkRule { address: address.parse().unwrap(), protocol, ports, mark }
}

fn marks(of: &[MarkRule]) -> PacketRules {
    PacketRules { marks: of.iter().copied().collect(), sync: None }
}

fn reached(dataplane: &mut dyn Dataplane, rules: &PacketRules) {
    dataplane.set_rules(rules).unwrap();
    assert_eq!(dataplane.rules().unwrap().as_ref(), Some(rules));
}

fn set(dataplane: &mut dyn Dataplane, _: &mut dyn Environment) {
    let web = rule("198.51.100.1", Protocol::Tcp, (80, 80), 1);
    let next_to_it = rule("198.51.100.1", Protocol::Tcp, (81, 8_099), 1);
    let whole = rule("2001:db8:100::1", Protocol::Udp, (1, 65_535), u32::MAX);
    let other = rule("198.51.100.1", Protocol::Sctp, (80, 80), 2);
    assert_eq!(dataplane.rules(), Ok(Some(PacketRules::default())));
    for wanted in [&[web][..], &[web, next_to_it, whole, other], &[whole], &[], &[]] {
        reached(dataplane, &marks(wanted));
    }
}

fn senders(dataplane: &mut dyn Dataplane, _: &mut dyn Environment) {
    let filter = |group: &str, port, members: &[&str]| SyncFilter {
        group: group.parse().unwrap(),
        port,
        members: members.iter().map(|member| member.parse().unwrap()).collect(),
    };
    let web = rule("198.51.100.1", Protocol::Tcp, (80, 80), 1);
    for sync in [
        filter("224.0.0.81", 8848, &["192.0.2.1"]),
        filter("224.0.0.82", 1, &["192.0.2.1", "192.0.2.2", "192.0.2.9"]),
        filter("ff05::51", 65_535, &["2001:db8::1", "2001:db8::2"]),
    ] {
        reached(dataplane, &PacketRules { sync: Some(sync.clone()), ..marks(&[web]) });
        reached(dataplane, &PacketRules { sync: Some(sync), ..marks(&[]) });
    }
    reached(dataplane, &PacketRules::default());
}

fn spoilt(dataplane: &mut dyn Dataplane, world: &mut dyn Environment) {
    let wanted = marks(&[rule("198.51.100.1", Protocol::Tcp, (80, 80), 1)]);
    dataplane.set_rules(&wanted).unwrap();
    world.spoil_rules();
    assert_eq!(dataplane.rules(), Ok(None));
    reached(dataplane, &wanted);
    reached(dataplane, &PacketRules::default());
}

fn many(dataplane: &mut dyn Dataplane, _: &mut dyn Environment) {
    let address = |host: u32| format!("198.51.100.{}", host % 250 + 1);
    let port = |host: u32| u16::try_from(1 + host / 250 * 10).unwrap();
    let all: Vec<MarkRule> = (0..2_000)
        .map(|n| rule(&address(n), Protocol::Tcp, (port(n), port(n) + 5), n + 1))
        .collect();
    assert_eq!(all.len(), 2_000);
    reached(dataplane, &marks(&all));
    reached(dataplane, &PacketRules::default());
}
