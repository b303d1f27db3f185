//! Routes and rules of a group that are refused.

use super::*;

fn route(lines: &str) -> String {
    in_group(&format!("routes = [{{ {lines} }}]"))
}

fn rule(lines: &str) -> String {
    in_group(&format!("rules = [{{ {lines} }}]"))
}

#[test]
fn a_route_that_no_kernel_takes_or_that_says_two_things() {
    refused(
        route,
        r#"
via = "192.0.2.1"
=> 4:11: group.a.routes[0].to: "to" is missing

to = "10.0.0.1/8"
=> 4:18: group.a.routes[0].to: 10.0.0.1/8 has bits of a host set (write "10.0.0.0/8")

to = "10.0.0.0/33"
=> 4:18: group.a.routes[0].to: "10.0.0.0/33" is not a network (write it as "10.0.0.0/8" or "2001:db8::/32")

to = "everywhere"
=> 4:18: group.a.routes[0].to: "everywhere" is not a network (write it as "10.0.0.0/8" or "2001:db8::/32")

to = "10.0.0.0/8", via = "2001:db8::1"
=> 4:38: group.a.routes[0].via: "via" is of IPv6, and "to" of IPv4 (a route is of one family)

to = "default", via = "2001:db8::1", source = "192.0.2.80"
=> 4:59: group.a.routes[0].source: "source" is of IPv4, and "via" of IPv6 (a route is of one family)

to = "10.0.0.0/8", via = "127.0.0.1"
=> 4:38: group.a.routes[0].via: 127.0.0.1 is a loopback address (use the unicast address of a host)

to = "10.0.0.0/8", via = "192.0.2.80"
=> 4:38: group.a.routes[0].via: 192.0.2.80 is an address of the group itself (name the next hop, or leave out `via`)

to = "10.0.0.0/8", source = "224.0.0.1"
=> 4:41: group.a.routes[0].source: 224.0.0.1 is a multicast address (use the unicast address of a host)

to = "10.0.0.0/8", type = "blackhole", via = "192.0.2.1", mtu = 1400
=> 4:58: group.a.routes[0].via: only a route of type unicast has "via" (leave it out)
=> 4:77: group.a.routes[0].mtu: only a route of type unicast has "mtu" (leave it out)

to = "10.0.0.0/8", type = "throw"
=> 4:39: group.a.routes[0].type: unknown type of route "throw" (known: unicast, blackhole, unreachable, prohibit)

to = "10.0.0.0/8", table = 255
=> 4:40: group.a.routes[0].table: table 255 (local) is the kernel's own (use another: 254 is main, and 1 to 252 are free)

to = "10.0.0.0/8", table = 0
=> 4:40: group.a.routes[0].table: a table is 1 to 4294967295

to = "10.0.0.0/8", via = "192.0.2.1", scope = "link"
=> 4:59: group.a.routes[0].scope: what is behind a next hop is of scope global (leave out `scope`, or `via`)

to = "2001:db8::/32", scope = "link"
=> 4:43: group.a.routes[0].scope: a route of IPv6 has no scope (leave it out)

to = "2001:db8::/32", mtu = 1279
=> 4:41: group.a.routes[0].mtu: an MTU of IPv6 is 1280 or more, not 1279

to = "10.0.0.0/8", mtu = 65521
=> 4:38: group.a.routes[0].mtu: an MTU is 68 to 65520

to = "10.0.0.0/8", metric = -1
=> 4:41: group.a.routes[0].metric: a metric is 0 to 4294967295

to = "10.0.0.0/8", dev = "eth0"
=> 4:32: group.a.routes[0].dev: unknown key "dev" (write interface instead)

to = "10.0.0.0/8", interface = "no such"
=> 4:44: group.a.routes[0].interface: "no such" is not an interface name: ' ' is not allowed here: use a-z, A-Z, 0-9, and inside the name also - _ .
"#,
    );
}

#[test]
fn a_rule_that_no_kernel_takes_or_that_takes_everything() {
    refused(
        rule,
        r#"
from = "10.0.0.0/8", table = 100
=> 4:10: group.a.rules[0].priority: "priority" is missing

from = "10.0.0.0/8", priority = 1000
=> 4:10: group.a.rules[0].table: "table" is missing

from = "10.0.0.0/8", priority = 0, table = 100
=> 4:44: group.a.rules[0].priority: priority 0 is that of the lookup of the host's own addresses (use 1 to 32765 to be asked before table main, or 32768 and more after it)

from = "10.0.0.0/8", priority = 32766, table = 100
=> 4:44: group.a.rules[0].priority: priorities 32766 and 32767 are those of the kernel's own rules (use 1 to 32765 to be asked before table main, or 32768 and more after it)

from = "10.0.0.1/8", priority = 1000, table = 100
=> 4:19: group.a.rules[0].from: 10.0.0.1/8 has bits of a host set (write "10.0.0.0/8")

from = "10.0.0.0/8", to = "2001:db8::/32", priority = 1000, table = 100
=> 4:10: group.a.rules[0]: "from" and "to" are of different families (a rule is of one family: write two)

from = "10.0.0.0/8", priority = 1000, table = 255
=> 4:58: group.a.rules[0].table: table 255 (local) is the kernel's own (use another: 254 is main, and 1 to 252 are free)

from = "10.0.0.0/8", priority = 1000, table = 100, action = "prohibit"
=> 4:58: group.a.rules[0].table: only a rule that looks a route up has a table (leave out `table`, or `action`)

from = "10.0.0.0/8", priority = 1000, action = "drop"
=> 4:59: group.a.rules[0].action: unknown action "drop" (known: lookup, blackhole, unreachable, prohibit)

mask = 255, priority = 1000, table = 100
=> 4:19: group.a.rules[0].mask: a mask without a mark (add `mark`, or leave it out)

mark = 256, mask = 255, priority = 1000, table = 100
=> 4:31: group.a.rules[0].mask: no packet can have mark 256 under mask 255 (the mask has every bit of the mark)

from = "0.0.0.0/0", priority = 1000, action = "blackhole"
=> 4:10: group.a.rules[0]: this rule takes every packet of the director, those to other nodes too (say which packets: from, to, mark, incoming or outgoing)

not = true, priority = 1000, table = 100
=> 4:10: group.a.rules[0]: `not` turns a choice round, and there is none (say which packets: from, to, mark, incoming or outgoing)

fwmark = 1, priority = 1000, table = 100
=> 4:12: group.a.rules[0].fwmark: unknown key "fwmark" (write mark and mask instead)
"#,
    );
}

#[test]
fn two_in_one_place_of_a_kernel_also_of_two_groups() {
    refused(
        whole,
        r#"
group.a = { interface = "x", addresses = ["192.0.2.80"], routes = [{ to = "default" }, { to = "0.0.0.0/0", via = "192.0.2.1" }] }
=> 1:88: group.a.routes[1]: group a has a route to 0.0.0.0/0 in table 254 with metric 0 already (give one of the two another metric or table, or remove it)

group.a = { interface = "x", addresses = ["192.0.2.80"], routes = [{ to = "default", metric = 1 }] }
group.b = { interface = "x", addresses = ["192.0.2.81"], routes = [{ to = "default", metric = 1 }] }
=> 2:68: group.b.routes[0]: group a has a route to 0.0.0.0/0 in table 254 with metric 1 already (give one of the two another metric or table, or remove it)

group.a = { interface = "x", addresses = ["192.0.2.80"], rules = [{ mark = 1, table = 1, priority = 1 }, { mark = 2, table = 1, priority = 1 }] }
=> 1:106: group.a.rules[1]: group a has a rule of IPv4 with priority 1 already (give one of the two another priority: rules of one priority have no order)

group.a = { interface = "x", addresses = ["192.0.2.80", "2001:db8::80"], routes = [{ to = "default" }] }
=> 1:84: group.a.routes[0]: the group has addresses of both families (write "0.0.0.0/0" or "::/0" in place of "default")

group.a = { addresses = [{ address = "192.0.2.80", interface = "x" }], routes = [{ to = "10.0.0.0/8" }] }
=> 1:82: group.a.routes[0].interface: "interface" is missing (give it here or to the whole group)
"#,
    );
}

#[test]
fn more_routes_and_rules_than_are_added_in_no_time() {
    let wrong = |source: &str| parse(source, Format::Toml).unwrap_err().to_string();
    let routes = |count: usize| {
        let route = |n: usize| format!("{{ to = \"10.0.{}.{}\" }}", n / 256, n % 256);
        (0..count).map(route).collect::<Vec<_>>().join(", ")
    };
    let said = wrong(&in_group(&format!("routes = [{}]", routes(ROUTING_MAX + 1))));
    assert_eq!(said, "4:10: group.a.routes: 65 routes, at most 64 can be given");
    let rules: Vec<String> = (0..=ROUTING_MAX)
        .map(|n| format!("{{ mark = 1, table = 1, priority = {} }}", n + 1))
        .collect();
    let said = wrong(&in_group(&format!("rules = [{}]", rules.join(", "))));
    assert_eq!(said, "4:9: group.a.rules: 65 rules, at most 64 can be given");
    let groups = |count: usize| {
        let group = |n: usize| {
            let routes: Vec<String> = (0..ROUTING_MAX)
                .map(|route| format!("{{ to = \"10.0.0.{route}\", table = {} }}", n + 1))
                .collect();
            format!(
                "group.g{n} = {{ interface = \"x\", addresses = [\"192.0.2.{}\"], routes = [{}] }}",
                n + 1,
                routes.join(", ")
            )
        };
        (0..count).map(group).collect::<Vec<_>>().join("\n")
    };
    let all = ROUTING_TOTAL_MAX / ROUTING_MAX;
    assert!(parse(&groups(all), Format::Toml).is_ok());
    assert!(wrong(&groups(all + 1)).contains("more than 4096 routes and rules in all groups"));
}
