//! What routes and rules of a group may say, and what stands for what is left out.

use super::*;

/// The routes and rules of a group that has `addresses`.
fn routing(addresses: &str, lines: &str) -> Vec<String> {
    let source = format!("[group.a]\ninterface = \"x\"\naddresses = [{addresses}]\n{lines}\n");
    let group = read(&source).groups.into_values().next().expect("a group");
    group.routing.iter().map(ToString::to_string).collect()
}

fn routes(lines: &str) -> Vec<String> {
    routing("\"192.0.2.80\"", &format!("routes = [{lines}]"))
}

fn rules(lines: &str) -> Vec<String> {
    routing("\"192.0.2.80\"", &format!("rules = [{lines}]"))
}

#[test]
fn a_route_has_the_groups_interface_and_the_values_of_the_kernel() {
    assert_eq!(routing("\"192.0.2.80\"", ""), <[&str; 0]>::default());
    assert_eq!(
        routes(r#"{ to = "default", via = "192.0.2.1" }"#),
        ["route unicast 0.0.0.0/0 via 192.0.2.1 on x table 254 metric 0 scope global"]
    );
    assert_eq!(
        routes(r#"{ to = "10.0.0.0/8" }"#),
        ["route unicast 10.0.0.0/8 on x table 254 metric 0 scope link"]
    );
    assert_eq!(
        routes(r#"{ to = "2001:db8::1", via = "fe80::1" }"#),
        ["route unicast 2001:db8::1/128 via fe80::1 on x table 254 metric 1024 scope global"]
    );
    assert_eq!(
        routes(
            r#"{ to = "10.0.0.0/8", via = "192.0.2.1", source = "192.0.2.80", interface = "inside",
                table = 4294967295, metric = 7, scope = "global", mtu = 1400 }"#
                .replace('\n', " ")
                .as_str()
        ),
        ["route unicast 10.0.0.0/8 via 192.0.2.1 on inside source 192.0.2.80 table 4294967295 \
          metric 7 scope global mtu 1400"]
    );
    assert_eq!(
        routes(r#"{ to = "10.0.0.0/8", type = "blackhole" }, { to = "::/0", type = "prohibit" }"#),
        [
            "route blackhole 10.0.0.0/8 table 254 metric 0 scope global",
            "route prohibit ::/0 table 254 metric 1024 scope global",
        ]
    );
}

#[test]
fn a_default_route_is_of_the_family_that_all_else_says() {
    let family = |addresses: &str, line: &str| {
        routing(addresses, &format!("routes = [{{ to = \"default\"{line} }}]")).join("")
    };
    assert!(family("\"2001:db8::80\"", "").contains(" ::/0 on x"));
    assert!(family("\"192.0.2.80\"", "").contains(" 0.0.0.0/0 on x"));
    assert!(family("\"192.0.2.80\"", ", via = \"2001:db8::1\"").contains(" ::/0 via"));
}

#[test]
fn a_rule_says_which_packets_and_where_their_route_is_looked_for() {
    assert_eq!(
        rules(r#"{ from = "10.0.0.0/8", table = 100, priority = 1000 }"#),
        ["rule IPv4 1000 from 10.0.0.0/8 lookup 100"]
    );
    assert_eq!(
        rules(
            r#"{ not = true, from = "2001:db8::/32", to = "2001:db8:1::/48", mark = 1, mask = 255, incoming = "i", outgoing = "o", action = "unreachable", priority = 1 }"#
        ),
        [
            "rule IPv6 1 not from 2001:db8::/32 to 2001:db8:1::/48 mark 1/255 incoming i outgoing o unreachable"
        ]
    );
    // Every address is no choice, and says only of which family the rule is.
    assert_eq!(
        rules(r#"{ from = "::/0", mark = 7, table = 1, priority = 40000 }"#),
        ["rule IPv6 40000 mark 7/4294967295 lookup 1"]
    );
}

#[test]
fn a_rule_without_addresses_is_of_the_families_that_the_group_has() {
    let of = |addresses: &str| {
        routing(addresses, r#"rules = [{ mark = 7, table = 100, priority = 1000 }]"#)
    };
    let (four, six) = (
        "rule IPv4 1000 mark 7/4294967295 lookup 100",
        "rule IPv6 1000 mark 7/4294967295 lookup 100",
    );
    assert_eq!(of("\"192.0.2.80\""), [four]);
    assert_eq!(of("\"2001:db8::80\""), [six]);
    assert_eq!(of("\"192.0.2.80\", \"2001:db8::80\""), [four, six]);
}
