//! What becomes of routes and rules, line by line.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::super::{Imported, Options, import};
use super::*;
use quorate_model::spec::{self, Format};

/// What becomes of one instance with these lines.
fn of(routes: &str, rules: &str) -> Imported {
    let text = format!(
        "vrrp_instance V {{\n interface eth0\n virtual_ipaddress {{\n 192.0.2.1/24\n 2001:db8::1/64\n }}\n \
         virtual_routes {{\n{routes}\n }}\n virtual_rules {{\n{rules}\n }}\n}}\n"
    );
    let files = BTreeMap::from([("k.conf".to_owned(), text.into_bytes())]);
    import(&files, &["k.conf".to_owned()], &Options::default())
}

/// What the one line becomes, with what is said; nothing if it is left out.
fn one(block: &str, line: &str) -> (Option<String>, String) {
    let imported = if block == "virtual_routes" { of(line, "") } else { of("", line) };
    let said = imported.report.render();
    assert_eq!(imported.report.errors(), 0, "{line}: {said}");
    let source = imported.source.unwrap_or_default();
    assert!(spec::parse(&source, Format::Toml).is_ok(), "{line}: {source}");
    let key = block.trim_start_matches("virtual_");
    let written = source
        .split_once(&format!("\n{key} = [\n  "))
        .and_then(|(_, rest)| rest.split_once(",\n]"))
        .map(|(list, _)| list.to_owned());
    (written, said)
}

#[test]
fn each_form_of_a_route_is_carried_over() {
    for (line, written) in [
        ("default via 192.0.2.254", r#"to = "default", via = "192.0.2.254""#),
        ("to default via inet6 fe80::1", r#"to = "default", via = "fe80::1""#),
        ("default dev eth1", r#"to = "0.0.0.0/0", interface = "eth1""#),
        ("inet6 default oif eth1", r#"to = "::/0", interface = "eth1""#),
        ("10.0.0.0/8 gw 192.0.2.9", r#"to = "10.0.0.0/8", via = "192.0.2.9""#),
        ("10.0.0.0/255.0.0.0 dev eth0", r#"to = "10.0.0.0/8""#),
        ("10.0.0.1 dev eth1.7", r#"to = "10.0.0.1/32", interface = "eth1.7""#),
        (
            "src 192.0.2.1 to 10.0.0.0/8 via 192.0.2.9 dev eth2 table 100 metric 7 mtu 1400",
            r#"to = "10.0.0.0/8", via = "192.0.2.9", interface = "eth2", source = "192.0.2.1", table = 100, metric = 7, mtu = 1400"#,
        ),
        ("10.0.0.0/8 dev eth0 table main", r#"to = "10.0.0.0/8""#),
        ("10.0.0.0/8 dev eth0 table default", r#"to = "10.0.0.0/8", table = 253"#),
        ("10.0.0.0/8 dev eth0 preference 0x10", r#"to = "10.0.0.0/8", metric = 16"#),
        ("10.0.0.0/8 dev eth0 scope host", r#"to = "10.0.0.0/8", scope = "host""#),
        ("blackhole 10.0.0.0/8", r#"to = "10.0.0.0/8", type = "blackhole""#),
        (
            "unreachable 2001:db8:1::/48 metric 9",
            r#"to = "2001:db8:1::/48", type = "unreachable", metric = 9"#,
        ),
        ("prohibit default", r#"to = "0.0.0.0/0", type = "prohibit""#),
    ] {
        let (route, said) = one("virtual_routes", line);
        assert_eq!(route, Some(format!("{{ {written} }}")), "{line}: {said}");
    }
}

#[test]
fn what_a_route_can_do_without_is_told_and_dropped() {
    for (line, written, reason) in [
        ("10.1.2.3/8 dev eth0", r#"to = "10.0.0.0/8""#, "10.1.2.3/8 has bits of a host"),
        ("2001:db8:1::1/48 dev eth0", r#"to = "2001:db8:1::/48""#, "becomes 2001:db8:1::/48"),
        (
            "10.0.0.0/8 via 192.0.2.9 dev eth0 onlink",
            r#"to = "10.0.0.0/8", via = "192.0.2.9""#,
            "onlink: ",
        ),
        ("10.0.0.0/8 dev eth0 realms 7/8 protocol bird", r#"to = "10.0.0.0/8""#, "realms: "),
        ("10.0.0.0/8 dev eth0 ssthresh lock 107 rtt 5", r#"to = "10.0.0.0/8""#, "ssthresh: TCP"),
        ("10.0.0.0/8 dev eth0 features ecn", r#"to = "10.0.0.0/8""#, "features: "),
        ("10.0.0.0/8 dev eth0 mtu lock 1400", r#"to = "10.0.0.0/8", mtu = 1400"#, "lock: "),
        ("10.0.0.0/8 dev eth0 mtu 20", r#"to = "10.0.0.0/8""#, "mtu: an MTU is 68 to 65520"),
        ("2001:db8:1::/48 dev eth0 mtu 1000", r#"to = "2001:db8:1::/48""#, "mtu: an MTU is 1280"),
        ("10.0.0.0/8 dev eth0 scope site", r#"to = "10.0.0.0/8""#, "scope: "),
        ("2001:db8:1::/48 dev eth0 scope link", r#"to = "2001:db8:1::/48""#, "no scope"),
        (
            "10.0.0.0/8 via 192.0.2.9 scope link",
            r#"to = "10.0.0.0/8", via = "192.0.2.9""#,
            "of scope global",
        ),
        ("blackhole 10.0.0.0/8 dev eth0", r#"to = "10.0.0.0/8", type = "blackhole""#, "dev: only"),
        ("10.0.0.0/8 via 192.0.2.9", r#"to = "10.0.0.0/8", via = "192.0.2.9""#, "it names no dev"),
    ] {
        let (route, said) = one("virtual_routes", line);
        assert_eq!(route, Some(format!("{{ {written} }}")), "{line}: {said}");
        assert!(said.contains(reason) && said.contains("k.conf:8: "), "{line}: {said}");
    }
}

#[test]
fn a_route_that_would_be_another_is_left_out_with_the_reason() {
    for (line, reason) in [
        ("10.0.0.0/8 via 192.0.2.9 or 192.0.2.10", "one next hop"),
        ("10.0.0.0/8 nexthop via 192.0.2.9 nexthop via 192.0.2.10", "one next hop"),
        ("10.0.0.0/8 dev eth0 table small", "rt_tables"),
        ("10.0.0.0/8 dev eth0 table local", "table 255 (local)"),
        ("10.0.0.0/8 dev eth0 table 0", "a table is 1 or more"),
        ("10.0.0.0/8 dev eth0 tos 4", "every TOS"),
        ("10.0.0.0/8 dev eth0 vrf blue", "VRF"),
        ("throw 10.0.0.0/8", "unicast, blackhole"),
        ("10.0.0.0/8 via 2001:db8::9", "both families"),
        ("10.0.0.0/8 via 192.0.2.1", "an address of the group itself"),
        ("10.0.0.0/8 via 169.254.0.1", "a link-local address"),
        ("10.0.0.0/8 via x", "\"x\" is not an address"),
        ("10.0.0.0/8 dev eth0 src 127.0.0.1", "a loopback address"),
        ("10.0.0.0/33 dev eth0", "is not a network"),
        ("10.0.0.0/8 dev eth0 bogus 7", "no option of a route"),
        ("10.0.0.0/8 dev eth0 metric x", "is not a number"),
        ("10.0.0.0/8 dev", "a device is missing"),
        ("dev eth0", "no destination"),
    ] {
        let (route, said) = one("virtual_routes", line);
        assert_eq!(route, None, "{line}");
        let told = said.contains(reason) && said.contains("it is left out");
        assert!(told && said.contains("k.conf:8: virtual_routes: "), "{line}: {said}");
    }
}

#[test]
fn each_form_of_a_rule_is_carried_over() {
    for (line, written) in [
        ("from 192.0.2.1 table 5 priority 9", r#"priority = 9, from = "192.0.2.1/32", table = 5"#),
        (
            "not to 2001:db8::/32 lookup main preference 9",
            r#"priority = 9, not = true, to = "2001:db8::/32", table = 254"#,
        ),
        (
            "dev eth1 oif eth2 table default order 9",
            r#"priority = 9, from = "0.0.0.0/0", incoming = "eth1", outgoing = "eth2", table = 253"#,
        ),
        (
            "inet6 iif eth1 table 5 priority 9",
            r#"priority = 9, from = "::/0", incoming = "eth1", table = 5"#,
        ),
        (
            "fwmark 0x10/0xf0 table 5 priority 9",
            r#"priority = 9, from = "0.0.0.0/0", mark = 16, mask = 240, table = 5"#,
        ),
        ("from all table 5 priority 9", r#"priority = 9, from = "0.0.0.0/0", table = 5"#),
        (
            "to 10.0.0.4 prohibit priority 9",
            r#"priority = 9, to = "10.0.0.4/32", action = "prohibit""#,
        ),
        (
            "to 10.0.0.4/8 blackhole priority 9",
            r#"priority = 9, to = "10.0.0.0/8", action = "blackhole""#,
        ),
        (
            "from 10.0.0.1 table 5 realms 7 protocol 3 no_track priority 9",
            r#"priority = 9, from = "10.0.0.1/32", table = 5"#,
        ),
    ] {
        let (rule, said) = one("virtual_rules", line);
        assert_eq!(rule, Some(format!("{{ {written} }}")), "{line}: {said}");
    }
}

#[test]
fn a_rule_that_would_take_other_packets_is_left_out_with_the_reason() {
    for (line, reason) in [
        ("from 10.0.0.1 tos 4 table 5", "takes more packets"),
        ("from 10.0.0.1 ip_proto udp table 5", "takes more packets"),
        ("from 10.0.0.1 goto 7", "looks up a table or drops"),
        ("from 10.0.0.1 table 5 blackhole", "says twice"),
        ("from 10.0.0.1", "neither a table"),
        ("from 10.0.0.1 table small", "rt_tables"),
        ("from 10.0.0.1 to 2001:db8::1 table 5", "both families"),
        ("from 10.0.0.1 table 5 priority 32766", "kernel's own"),
        ("from 10.0.0.1 table 5 priority 0", "kernel's own"),
        ("from 10.0.0.1 table 5 pref 9", "no option of a rule"),
        ("fwmark 24/12 table 5", "no packet can have"),
        ("fwmark 0/12 table 5", "have no mark"),
        ("fwmark x table 5", "is not a mark"),
        ("not table 5", "every packet"),
        ("blackhole", "every packet"),
        ("to 192.168.200./24 table 2", "is not a network"),
    ] {
        let (rule, said) = one("virtual_rules", line);
        assert_eq!(rule, None, "{line}");
        let told = said.contains(reason) && said.contains("it is left out");
        assert!(told && said.contains("k.conf:11: virtual_rules: "), "{line}: {said}");
    }
}

#[test]
fn rules_without_a_priority_have_keepalived_s_and_none_that_another_has() {
    let rules = "from 10.0.0.1 table 5\nfrom 10.0.0.2 table 5\nfrom 10.0.0.3 table 5 priority 16383\n\
                 from 10.0.0.4 table 5\nfrom 2001:db8::1 table 5";
    let (written, said) = one("virtual_rules", rules);
    let written = written.unwrap();
    let got: Vec<&str> =
        written.split("priority = ").skip(1).map(|rule| rule.split_once(',').unwrap().0).collect();
    assert_eq!(got, ["16384", "16382", "16383", "16381", "16384"], "{written}");
    assert!(said.contains("it has 16384, as Keepalived counts"), "{said}");
    assert!(said.contains("(also in line 15)"), "{said}");
}

#[test]
fn what_a_kernel_holds_once_is_taken_once() {
    let routes = "10.0.0.0/8 dev eth0\n10.0.0.0/8 dev eth1 metric 0\n2001:db8:1::/48 dev eth0\n\
                  2001:db8:1::/48 dev eth0 metric 1024\n10.0.0.0/8 dev eth0 metric 5";
    let (written, said) = one("virtual_routes", routes);
    assert_eq!(written.unwrap().lines().count(), 3, "{said}");
    for line in [9, 11] {
        assert!(
            said.contains(&format!("k.conf:{line}: virtual_routes: k.conf:{}", line - 1)),
            "{said}"
        );
    }
    let rules = "from 10.0.0.1 table 5 priority 9\nto 10.0.0.1 table 5 priority 9\n\
                 from 2001:db8::1 table 5 priority 9";
    let (written, said) = one("virtual_rules", rules);
    assert_eq!(written.unwrap().lines().count(), 2, "{said}");
    assert!(
        said.contains("k.conf:12: virtual_rules: k.conf:11 has a rule with priority 9"),
        "{said}"
    );
}

#[test]
fn a_group_has_as_many_as_a_configuration_can_have() {
    let routes: Vec<String> = (0..70).map(|n| format!("10.{n}.0.0/16 dev eth0")).collect();
    let (written, said) = one("virtual_routes", &routes.join("\n"));
    assert_eq!(written.unwrap().lines().count(), ROUTING_MAX);
    assert!(said.contains("a group has 64 of them at most: it is left out"), "{said}");
    let rules: Vec<String> = (0..70).map(|n| format!("from 10.{n}.0.0/16 table 5")).collect();
    let (written, _) = one("virtual_rules", &rules.join("\n"));
    assert_eq!(written.unwrap().lines().count(), ROUTING_MAX);
}

#[test]
fn all_groups_together_have_as_many_as_a_configuration_can_have() {
    let mut text = String::new();
    for group in 0..70 {
        let _ = write!(
            text,
            "vrrp_instance V{group} {{\n interface eth0\n virtual_ipaddress {{\n 192.0.2.{}\n }}\n \
             virtual_routes {{\n",
            group + 1
        );
        for route in 0..60 {
            let _ = writeln!(text, "10.{group}.{route}.0/24 dev eth0");
        }
        text.push_str(" }\n}\n");
    }
    let files = BTreeMap::from([("k.conf".to_owned(), text.into_bytes())]);
    let imported = import(&files, &["k.conf".to_owned()], &Options::default());
    let source = imported.source.unwrap();
    assert!(spec::parse(&source, Format::Toml).is_ok());
    assert_eq!(source.matches("  { to = ").count(), 4_096);
    assert!(imported.report.render().contains("4096 routes and rules in all groups at most"));
}
