//! The rules about what gets firewall marks.

use std::num::NonZeroU32;

use quorate_dataplane::Dataplane;
use quorate_model::kernel::{MarkRule, MarkRules};
use quorate_model::spec::Protocol;

use super::{Environment, Rule};

/// Rules that need CAP_NET_ADMIN and nft(8), and no ip_vs.
pub const MARKS: &[Rule] = &[
    Rule { name: "firewall marks are set, changed and cleared", check: set },
    Rule { name: "a table of marks that somebody changed is told, and put back", check: spoilt },
    Rule { name: "many firewall marks are read back in full", check: many },
];

fn rule(address: &str, protocol: Protocol, ports: (u16, u16), mark: u32) -> MarkRule {
    let mark = NonZeroU32::new(mark).unwrap();
    MarkRule { address: address.parse().unwrap(), protocol, ports, mark }
}

fn set(dataplane: &mut dyn Dataplane, _: &mut dyn Environment) {
    let web = rule("198.51.100.1", Protocol::Tcp, (80, 80), 1);
    let next_to_it = rule("198.51.100.1", Protocol::Tcp, (81, 8_099), 1);
    let whole = rule("2001:db8:100::1", Protocol::Udp, (1, 65_535), u32::MAX);
    let other = rule("198.51.100.1", Protocol::Sctp, (80, 80), 2);
    assert_eq!(dataplane.marks(), Ok(Some(MarkRules::new())));
    for wanted in [vec![web], vec![web, next_to_it, whole, other], vec![whole], vec![], vec![]] {
        let wanted: MarkRules = wanted.into_iter().collect();
        dataplane.set_marks(&wanted).unwrap();
        assert_eq!(dataplane.marks(), Ok(Some(wanted)));
    }
}

fn spoilt(dataplane: &mut dyn Dataplane, world: &mut dyn Environment) {
    let wanted = MarkRules::from([rule("198.51.100.1", Protocol::Tcp, (80, 80), 1)]);
    dataplane.set_marks(&wanted).unwrap();
    world.spoil_marks();
    assert_eq!(dataplane.marks(), Ok(None));
    dataplane.set_marks(&wanted).unwrap();
    assert_eq!(dataplane.marks(), Ok(Some(wanted)));
    dataplane.set_marks(&MarkRules::new()).unwrap();
}

fn many(dataplane: &mut dyn Dataplane, _: &mut dyn Environment) {
    let address = |host: u32| format!("198.51.100.{}", host % 250 + 1);
    let port = |host: u32| u16::try_from(1 + host / 250 * 10).unwrap();
    let wanted: MarkRules = (0..2_000)
        .map(|n| rule(&address(n), Protocol::Tcp, (port(n), port(n) + 5), n + 1))
        .collect();
    assert_eq!(wanted.len(), 2_000);
    dataplane.set_marks(&wanted).unwrap();
    assert_eq!(dataplane.marks(), Ok(Some(wanted)));
    dataplane.set_marks(&MarkRules::new()).unwrap();
}
