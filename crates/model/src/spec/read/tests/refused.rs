//! Every refusal, with line and column.
//!
//! A case is the lines that stand in the document, and after `=>` what is said of them:
//! `line:column: path: message (help)`, all of it. Cases are parted by an empty line.

mod checks;
mod facts;
mod hooks;
mod routing;
mod services;

use super::super::*;
use super::with_service;

fn refused(document: fn(&str) -> String, cases: &str) {
    let mut count = 0;
    for case in cases.trim().split("\n\n") {
        let (said, lines): (Vec<_>, Vec<_>) =
            case.lines().partition(|line| line.starts_with("=> "));
        let source = document(&lines.join("\n"));
        let wrong = match parse(&source, Format::Toml) {
            Ok(spec) => panic!("accepted: {source}{spec:#?}"),
            Err(wrong) => wrong.to_string(),
        };
        let said: Vec<_> = said.iter().map(|line| line.trim_start_matches("=> ")).collect();
        assert_eq!(wrong, said.join("\n"), "{source}");
        count += 1;
    }
    assert!(count > 0);
}

fn whole(lines: &str) -> String {
    format!("{lines}\n")
}

fn in_group(lines: &str) -> String {
    format!("[group.a]\ninterface = \"x\"\naddresses = [\"192.0.2.80\"]\n{lines}\n")
}

fn in_service(lines: &str) -> String {
    let servers = if lines.contains("pool =") { "" } else { "\nreal_servers = []" };
    with_service(&format!("{lines}{servers}"))
}

#[test]
fn an_address_that_no_host_has() {
    refused(
        |address| format!("group.a = {{ interface = \"x\", addresses = [\"{address}\"] }}\n"),
        r#"
0.0.0.0
=> 1:43: group.a.addresses[0]: 0.0.0.0 is the unspecified address (use the unicast address of a host)

0.1.2.3
=> 1:43: group.a.addresses[0]: 0.1.2.3 is an address of "this network" (RFC 791) (use the unicast address of a host)

127.0.0.1
=> 1:43: group.a.addresses[0]: 127.0.0.1 is a loopback address (use the unicast address of a host)

224.0.0.5
=> 1:43: group.a.addresses[0]: 224.0.0.5 is a multicast address (use the unicast address of a host)

255.255.255.255
=> 1:43: group.a.addresses[0]: 255.255.255.255 is the broadcast address (use the unicast address of a host)

250.0.0.1
=> 1:43: group.a.addresses[0]: 250.0.0.1 is a reserved address (RFC 1112) (use the unicast address of a host)

169.254.1.1
=> 1:43: group.a.addresses[0]: 169.254.1.1 is a link-local address, which means something else on each link (use the unicast address of a host)

::
=> 1:43: group.a.addresses[0]: :: is the unspecified address (use the unicast address of a host)

::1
=> 1:43: group.a.addresses[0]: ::1 is a loopback address (use the unicast address of a host)

ff02::1
=> 1:43: group.a.addresses[0]: ff02::1 is a multicast address (use the unicast address of a host)

fe80::1
=> 1:43: group.a.addresses[0]: fe80::1 is a link-local address, which means something else on each link (use the unicast address of a host)

::ffff:192.0.2.1
=> 1:43: group.a.addresses[0]: ::ffff:192.0.2.1 is an IPv4 address in IPv6 form, which never stands in a packet (use the unicast address of a host)

192.0.2.0/24
=> 1:43: group.a.addresses[0]: 192.0.2.0/24 is the network's own address (use an address inside it, or "192.0.2.0/32")

192.0.2.255/24
=> 1:43: group.a.addresses[0]: 192.0.2.255/24 is the network's broadcast address (use an address inside it, or "192.0.2.255/32")

192.0.2.1/0
=> 1:43: group.a.addresses[0]: 192.0.2.1/0 has prefix length 0, which is every address (use an address inside it, or "192.0.2.1/32")

2001:db8::/64
=> 1:43: group.a.addresses[0]: 2001:db8::/64 is the subnet-router anycast address (RFC 4291 §2.6.1) (use an address inside it, or "2001:db8::/128")

192.0.2.1/33
=> 1:43: group.a.addresses[0]: "33" is not a prefix length of 192.0.2.1 (use 1 to 32)

192.0.2.1:80
=> 1:43: group.a.addresses[0]: "192.0.2.1:80" has a port, a VIP has none (ports stand in the listen key of [service.NAME])

www.example.org
=> 1:43: group.a.addresses[0]: "www.example.org" is not an address (write it as "192.0.2.1/32" or "2001:db8::1/128")
"#,
    );
}

#[test]
fn a_real_server_that_no_host_has() {
    refused(
        |servers| with_service(&format!("real_servers = [{servers}]")),
        r#"
{ address = "127.0.0.1:80" }
=> 5:29: service.web.real_servers[0].address: 127.0.0.1 is a loopback address (use the unicast address of a host)

{ address = "224.0.0.5:80" }
=> 5:29: service.web.real_servers[0].address: 224.0.0.5 is a multicast address (use the unicast address of a host)

{ address = "255.255.255.255:80" }
=> 5:29: service.web.real_servers[0].address: 255.255.255.255 is the broadcast address (use the unicast address of a host)

{ address = "0.0.0.0:80" }
=> 5:29: service.web.real_servers[0].address: 0.0.0.0 is the unspecified address (use the unicast address of a host)

{ address = "[::1]:80" }
=> 5:29: service.web.real_servers[0].address: ::1 is a loopback address (use the unicast address of a host)
"#,
    );
}

#[test]
fn an_address_twice() {
    refused(
        whole,
        r#"
group.a = { interface = "x", addresses = ["192.0.2.80/24", "192.0.2.80"] }
=> 1:60: group.a.addresses[1]: 192.0.2.80 stands twice in group a (remove one of the two)

group.a = { interface = "x", addresses = ["192.0.2.80"] }
group.b = { interface = "x", addresses = ["192.0.2.80/24"] }
=> 2:43: group.b.addresses[0]: 192.0.2.80 is already an address of group a (remove one of the two)
"#,
    );
}

#[test]
fn a_group_that_nobody_can_own_or_that_holds_nothing() {
    refused(
        whole,
        r#"
[group.a]
interface = "x"
addresses = []
=> 3:13: group.a.addresses: a group needs an address (addresses = ["192.0.2.1/32"])

[group.a]
interface = "x"
=> 1:1: group.a.addresses: "addresses" is missing

[group.a]
addresses = ["192.0.2.80"]
=> 2:14: group.a.addresses[0]: no interface is given for this address (give the group an interface = "public", or write { address = .., interface = .. })

[group.a]
addresses = [{ address = "192.0.2.80" }]
=> 2:14: group.a.addresses[0].interface: "interface" is missing (give it here or to the whole group)

[group."a b"]
interface = "x"
addresses = ["192.0.2.80"]
=> 1:8: group."a b": "a b" is not the name of a group: ' ' is not allowed here: use a-z, A-Z, 0-9, and inside the name also - _ .
"#,
    );
    refused(
        in_group,
        r#"
only = []
=> 4:8: group.a.only: no director may own this group (name one, or leave out `only`)

prefer = ["d1", "d2", "d1"]
=> 4:23: group.a.prefer[2]: d1 stands twice (remove one of the two)

only = ["d1", "d1"]
=> 4:15: group.a.only[1]: d1 stands twice (remove one of the two)

prefer = ["d1", "d2"]
only = ["d1"]
=> 4:10: group.a.prefer: d2 is preferred, but `only` leaves it out (add it to `only`, or remove it from `prefer`)

prefer = ["d 1"]
=> 4:11: group.a.prefer[0]: "d 1" is not the name of a node: ' ' is not allowed here: use a-z, A-Z, 0-9, and inside the name also - _ .

prefer = "d1"
=> 4:10: group.a.prefer: a list is expected here, not a string (put it in brackets: [..])

preempt = "false"
=> 4:11: group.a.preempt: true or false is expected here, not a string (leave out the quotes: false)

preempt_delay = 60
=> 4:17: group.a.preempt_delay: a duration is expected here, not an integer (give it a unit: "60s" or "60ms")

preempt_delay = "25h"
=> 4:17: group.a.preempt_delay: preempt_delay is 0s to 24h, not 25h

evacuate_on_disagreement = "yes"
=> 4:28: group.a.evacuate_on_disagreement: true or false is expected here, not a string

disagreement_delay = "50ms"
=> 4:22: group.a.disagreement_delay: disagreement_delay is 100ms to 1h, not 50ms

routes = "default"
=> 4:10: group.a.routes: a list is expected here, not a string (put it in brackets: [..])

rotes = []
=> 4:1: group.a.rotes: unknown key "rotes" (did you mean "routes"?)
"#,
    );
}

#[test]
fn an_unknown_word() {
    refused(
        in_service,
        r#"
scheduler = "rrr"
=> 5:13: service.web.scheduler: unknown scheduler "rrr" (did you mean "rr"?)

scheduler = "loadbalance"
=> 5:13: service.web.scheduler: unknown scheduler "loadbalance" (known: rr, wrr, lc, wlc, lblc, lblcr, sh, mh, dh, fo, ovf, sed, nq, twos)

forward = "dr"
=> 5:11: service.web.forward: unknown forwarding method "dr" (did you mean "DR"?)

forward = "masq"
=> 5:11: service.web.forward: unknown forwarding method "masq" (did you mean "NAT"?)

schedular = "rr"
=> 5:1: service.web.schedular: unknown key "schedular" (did you mean "scheduler"?)

lb_algo = "rr"
=> 5:1: service.web.lb_algo: unknown key "lb_algo" (write scheduler instead)

lb_kind = "DR"
=> 5:1: service.web.lb_kind: unknown key "lb_kind" (write forward instead)

delay_loop = 6
=> 5:1: service.web.delay_loop: unknown key "delay_loop" (write interval in check = {..} instead)

persistence_timeout = 50
=> 5:1: service.web.persistence_timeout: unknown key "persistence_timeout" (write persistence instead)

evacuate_on_disagreement = true
=> 5:1: service.web.evacuate_on_disagreement: unknown key "evacuate_on_disagreement" (write it into [group.NAME] instead)
"#,
    );
    refused(
        whole,
        r#"
[cluster]
evacuate_on_disagreement = true
=> 2:1: cluster.evacuate_on_disagreement: unknown key "evacuate_on_disagreement" (write it into [group.NAME] instead)

[cluster]
lvs_sync_daemon = "eth1"
=> 2:1: cluster.lvs_sync_daemon: unknown key "lvs_sync_daemon" (write sync = { link = "lan" } instead)

[cluster]
sync = { group = "192.0.2.1", id = 256, port = 0, ttl = 0, maxlen = 10, refresh = "1500ms", retries = 4 }
sync_warmup = "25h"
foreign_services = "drop"
=> 2:8: cluster.sync.link: "link" is missing
=> 2:18: cluster.sync.group: 192.0.2.1 is no multicast group (such as "224.0.0.81" or "ff05::224:0:0:81")
=> 2:36: cluster.sync.id: the id of the daemons is 1 to 255
=> 2:48: cluster.sync.port: the port of the group is 1 to 65535
=> 2:57: cluster.sync.ttl: the number of hops is 1 to 255
=> 2:69: cluster.sync.maxlen: the length of a message is 1024 to 65487
=> 2:83: cluster.sync.refresh: a refresh is in whole seconds, the kernel's unit ("1s")
=> 2:103: cluster.sync.retries: the number of repetitions is 0 to 3
=> 3:15: cluster.sync_warmup: the warm-up is 0s to 24h, not 25h
=> 4:20: cluster.foreign_services: unknown foreign services "drop" (known: keep, remove)

[cluster]
timing = "lna"
=> 2:10: cluster.timing: unknown timing "lna" (did you mean "lan"?)

[groups.web]
=> 1:2: groups: unknown key "groups" (write [group.NAME] instead)

[virtual_server.web]
=> 1:2: virtual_server: unknown key "virtual_server" (write [service.NAME] instead)
"#,
    );
    refused(
        in_group,
        r#"
notify = "/etc/notify"
=> 4:1: group.a.notify: unknown key "notify" (write [hook.NAME] with on = "owner_changed" and groups instead)

track_script = ["nginx"]
=> 4:1: group.a.track_script: unknown key "track_script" (write track = [..] and a [track.NAME] with type = "exec" instead)

nopreempt = true
=> 4:1: group.a.nopreempt: unknown key "nopreempt" (write preempt = false instead)
"#,
    );
}

#[test]
fn a_name_that_nothing_has() {
    refused(
        whole,
        r#"
group.web = { interface = "x", addresses = ["192.0.2.80"] }
check.http.type = "tcp"
pool.web.servers = []
[service.w]
group = "wbe"
listen = "tcp/192.0.2.80:80"
check = "htpt"
pool = "db"
=> 5:9: service.w.group: there is no group "wbe" (did you mean "web"?)
=> 7:9: service.w.check: there is no check "htpt" (did you mean "http"?)
=> 8:8: service.w.pool: there is no pool "db" (add [pool.NAME])
"#,
    );
    refused(
        in_service,
        r#"
pool = "web"
=> 5:8: service.web.pool: there is no pool "web" (add [pool.NAME])
"#,
    );
}

#[test]
fn timing_out_of_bounds() {
    refused(
        whole,
        r#"
cluster.timing = { lease = "50ms", renew = "10ms" }
=> 1:18: cluster.timing: a lease lasts 100ms to 40s, not 50ms

cluster.timing = { lease = "2m", renew = "1s" }
=> 1:18: cluster.timing: a lease lasts 100ms to 40s, not 120s

cluster.timing = { lease = "1s", renew = "500ms" }
=> 1:18: cluster.timing: a lease of 1s needs a renewal interval of 1ms to 333.333333ms, a third of it, not 500ms

cluster.timing = { lease = "1s" }
=> 1:18: cluster.timing.renew: "renew" is missing

cluster.timing = 500
=> 1:18: cluster.timing: timing is a profile or a table ("fast", "lan", "wan" or { lease = .., renew = .. })

cluster.timing = { lease = 500, renew = "50ms" }
=> 1:28: cluster.timing.lease: a duration is expected here, not an integer (give it a unit: "500s" or "500ms")
"#,
    );
}
