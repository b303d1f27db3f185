//! What is refused of services, real servers and checks.

use super::super::with_service;
use super::{in_service, refused, whole};

#[test]
fn a_service_whose_vip_is_in_no_group_or_in_another() {
    refused(
        whole,
        r#"
group.a = { interface = "x", addresses = ["192.0.2.80"] }
group.b = { interface = "x", addresses = ["192.0.2.81"] }
[service.w]
group = "a"
listen = ["tcp/192.0.2.81:80", "tcp/192.0.2.82:80"]
real_servers = []
=> 5:11: service.w.listen[0]: 192.0.2.81 is an address of group b, not of a (group = "b", or listen on an address of a)
=> 5:32: service.w.listen[1]: 192.0.2.82 is an address of no group (add "192.0.2.82" to the addresses of group a)
"#,
    );
}

#[test]
fn two_services_on_one_address_and_port() {
    refused(
        whole,
        r#"
group.a = { interface = "x", addresses = ["192.0.2.80"] }
[service.v]
group = "a"
listen = "tcp/192.0.2.80:80"
real_servers = []
[service.w]
group = "a"
listen = ["udp/192.0.2.80:80", "tcp/192.0.2.80:80"]
real_servers = []
=> 8:32: service.w.listen[1]: service v already listens on tcp/192.0.2.80:80 (one service can have it)

group.a = { interface = "x", addresses = ["192.0.2.80"] }
[service.v]
group = "a"
listen = ["tcp/192.0.2.80:80", "tcp/192.0.2.80:80"]
real_servers = []
=> 4:32: service.v.listen[1]: tcp/192.0.2.80:80 stands twice (one service can have it)
"#,
    );
}

#[test]
fn firewall_marks_that_cant_be() {
    refused(
        whole,
        r#"
group.a = { interface = "x", addresses = ["192.0.2.80"] }
[service.v]
group = "a"
listen = "tcp/192.0.2.80:80-90"
real_servers = []
=> 4:10: service.v.listen: tcp/192.0.2.80:80-90 is a range of ports, and the service has no mark (mark = 1 makes one service of all its ports)

group.a = { interface = "x", addresses = ["192.0.2.80"] }
[service.v]
group = "a"
listen = ["tcp/192.0.2.80:80-90", "udp/192.0.2.80:85", "tcp/192.0.2.80:1-100", "tcp/192.0.2.80:90-91"]
mark = 1
real_servers = []
[service.w]
group = "a"
listen = ["tcp/192.0.2.80:90", "tcp/192.0.2.80:91"]
mark = 1
real_servers = []
=> 4:56: service.v.listen[2]: tcp/192.0.2.80:1-100 overlaps tcp/192.0.2.80:80-90 (one service can have it)
=> 4:80: service.v.listen[3]: tcp/192.0.2.80:90-91 overlaps tcp/192.0.2.80:80-90 (one service can have it)
=> 9:11: service.w.listen[0]: service v already listens on tcp/192.0.2.80:80-90 (one service can have it)
=> 10:8: service.w.mark: service v already has mark 1 (give each service a mark of its own)

group.a = { interface = "x", addresses = ["192.0.2.80"] }
[service.v]
group = "a"
listen = ["tcp/192.0.2.80:80-80", "tcp/192.0.2.80:80-x", "tcp/192.0.2.80:80-65536"]
mark = 0
real_servers = []
=> 4:11: service.v.listen[0]: "80" is no last port of a range from 80 (write it as "tcp/192.0.2.1:8000-8099")
=> 4:35: service.v.listen[1]: "x" is no last port of a range from 80 (write it as "tcp/192.0.2.1:8000-8099")
=> 4:58: service.v.listen[2]: "65536" is no last port of a range from 80 (write it as "tcp/192.0.2.1:8000-8099")
=> 5:8: service.v.mark: a firewall mark is 1 to 4294967295

group.a = { interface = "x", addresses = ["192.0.2.80"] }
[service.v]
group = "a"
listen = ["tcp/192.0.2.80:80", "tcp/192.0.2.80:443"]
mark = 7
check = { type = "tcp" }
real_servers = [{ address = "192.0.2.16" }]
[service.w]
group = "a"
listen = "tcp/192.0.2.80:8000-8099"
mark = 8
real_servers = [{ address = "192.0.2.16:8000" }, { address = "192.0.2.17:8000", forward = "NAT" }]
=> 6:9: service.v.check: real server 192.0.2.16 has no port to probe (check = { type = "tcp", port = 80 })
=> 12:29: service.w.real_servers[0].address: DR can't change ports: real server 192.0.2.16:8000 of service w, which has a mark, can't have port 8000 alone (address = "192.0.2.16", or forward = "NAT")
"#,
    );
}

#[test]
fn where_a_service_cant_listen() {
    refused(
        |listen| {
            format!(
                "group.a = {{ interface = \"x\", addresses = [\"192.0.2.80\"] }}\n\
             service.w = {{ group = \"a\", real_servers = [], listen = {listen} }}\n"
            )
        },
        r#"
"192.0.2.80:80"
=> 2:56: service.w.listen: "192.0.2.80:80" has no protocol (write "tcp/192.0.2.80:80" or "udp/192.0.2.80:80")

"tcp/192.0.2.80"
=> 2:56: service.w.listen: "192.0.2.80" has no port (append one: "192.0.2.80:80")

"tcp/192.0.2.80:0"
=> 2:56: service.w.listen: port 0 is not a port (use 1 to 65535)

"TCP/192.0.2.80:80"
=> 2:56: service.w.listen: unknown protocol "TCP" (did you mean "tcp"?)

"fwmark/7"
=> 2:56: service.w.listen: "fwmark" is no protocol (mark = 1 in [service.NAME], and the addresses and ports in listen)

"icmp/192.0.2.80:80"
=> 2:56: service.w.listen: unknown protocol "icmp" (known: tcp, udp, sctp)

"tcp/www:80"
=> 2:56: service.w.listen: "www:80" is not an address with port (write it as "192.0.2.1:80" or "[2001:db8::1]:80"; names are not resolved)

"tcp/192.0.2.80:65536"
=> 2:56: service.w.listen: "192.0.2.80:65536" is not an address with port (write it as "192.0.2.1:80" or "[2001:db8::1]:80"; names are not resolved)

80
=> 2:56: service.w.listen: an address to listen on is expected here, not an integer (put it in quotes: "80")

[]
=> 2:56: service.w.listen: a service listens on 1 to 1000 addresses (listen = "tcp/192.0.2.1:80")
"#,
    );
}

#[test]
fn a_real_server_that_does_not_fit_its_service() {
    refused(
        |servers| with_service(&format!("real_servers = [{servers}]")),
        r#"
{ address = "192.0.2.16:8080" }
=> 5:29: service.web.real_servers[0].address: DR can't change ports: real server 192.0.2.16:8080, service web on tcp/192.0.2.80:80 (use port 80, or forward = "NAT")

{ address = "192.0.2.16:8080", forward = "TUN" }
=> 5:29: service.web.real_servers[0].address: TUN can't change ports: real server 192.0.2.16:8080, service web on tcp/192.0.2.80:80 (use port 80, or forward = "NAT")

{ address = "192.0.2.16:0" }
=> 5:29: service.web.real_servers[0].address: port 0 is not a port (use 1 to 65535)

{ address = "2001:db8::16" }
=> 5:29: service.web.real_servers[0].address: real server 2001:db8::16 and tcp/192.0.2.80:80 of service web are not of one address family (only a tunnel carries one family in the other: forward = "TUN", or an address of the service's family)

{ address = "2001:db8::16", forward = "NAT" }
=> 5:29: service.web.real_servers[0].address: real server 2001:db8::16 and tcp/192.0.2.80:80 of service web are not of one address family (only a tunnel carries one family in the other: forward = "TUN", or an address of the service's family)

{ address = "192.0.2.16", tunnel = "gre" }
=> 5:29: service.web.real_servers[0].address: real server 192.0.2.16 has a tunnel, and is reached by DR (forward = "TUN", or leave the tunnel out)

{ address = "192.0.2.16", lower_threshold = 80 }
=> 5:61: service.web.real_servers[0].lower_threshold: lower_threshold 80 is above upper_threshold 0 (the real server takes no new connection from the upper one on, and takes some again below the lower one)

{ address = "192.0.2.16", upper_threshold = -1 }
=> 5:61: service.web.real_servers[0].upper_threshold: a number of connections is 0 to 536870911

{ address = "192.0.2.16", uthreshold = 5 }
=> 5:43: service.web.real_servers[0].uthreshold: unknown key "uthreshold" (write upper_threshold instead)

{ address = "192.0.2.80:80" }
=> 5:29: service.web.real_servers[0].address: 192.0.2.80 is a VIP, of group web: a real server has its own (use the real server's own address)

{ address = "192.0.2.16:80" }, { address = "192.0.2.16:80" }
=> 5:60: service.web.real_servers[1].address: real server 192.0.2.16:80 stands twice (remove one of the two)

{ address = "192.0.2.16" }, { address = "192.0.2.16:80" }
=> 5:57: service.web.real_servers[1].address: service web has real server 192.0.2.16:80 twice (remove one of the two)

{ address = "192.0.2.16", weight = 65536 }
=> 5:52: service.web.real_servers[0].weight: the weight of a real server is 0 to 65535

{ address = "192.0.2.16", weight = -1 }
=> 5:52: service.web.real_servers[0].weight: the weight of a real server is 0 to 65535

{ address = "192.0.2.16", weight = "1" }
=> 5:52: service.web.real_servers[0].weight: an integer is expected here, not a string (leave out the quotes: 1)

{ address = "192.0.2.16", weight = 1.5 }
=> 5:52: service.web.real_servers[0].weight: an integer is expected here, not a number with a fraction

"192.0.2.16:80"
=> 5:17: service.web.real_servers[0]: a real server is a table (write { address = "192.0.2.16:80" })

{ address = "rs1:80" }
=> 5:29: service.web.real_servers[0].address: "rs1:80" is not an address with port (write it as "192.0.2.1:80" or "[2001:db8::1]:80"; names are not resolved)

{ weight = 1 }
=> 5:17: service.web.real_servers[0].address: "address" is missing

{ adress = "192.0.2.16", wieght = 1 }
=> 5:19: service.web.real_servers[0].adress: unknown key "adress" (did you mean "address"?)
=> 5:42: service.web.real_servers[0].wieght: unknown key "wieght" (did you mean "weight"?)
"#,
    );
    refused(
        whole,
        r#"
group.a = { interface = "x", addresses = ["192.0.2.80"] }
[service.v]
group = "a"
forward = "NAT"
listen = ["tcp/192.0.2.80:80", "tcp/192.0.2.80:443"]
real_servers = [{ address = "192.0.2.16" }]
=> 6:29: service.v.real_servers[0].address: real server 192.0.2.16 has no port, and service v listens on several (append the port to the address)

group.a = { interface = "x", addresses = ["192.0.2.80"] }
pool.p.servers = [{ address = "192.0.2.16:80" }]
[service.v]
group = "a"
listen = "tcp/192.0.2.80:443"
pool = "p"
=> 2:31: pool.p.servers[0].address: DR can't change ports: real server 192.0.2.16:80, service v on tcp/192.0.2.80:443 (use port 443, or forward = "NAT")
"#,
    );
}

#[test]
fn persistence_that_the_kernel_cant_keep() {
    refused(
        in_service,
        r#"
persistence = 50
=> 5:15: service.web.persistence: a duration is expected here, not an integer (give it a unit: "50s" or "50ms")

persistence = "50"
=> 5:15: service.web.persistence: a duration needs a unit: "50s" or "50ms"

persistence = "0s"
=> 5:15: service.web.persistence: persistence is 1s to 744h, not 0s

persistence = "1500ms"
=> 5:15: service.web.persistence: persistence is in whole seconds, the kernel's unit ("1s")

persistence = "1.5s"
=> 5:15: service.web.persistence: persistence is in whole seconds, the kernel's unit ("1s")

persistence = "745h"
=> 5:15: service.web.persistence: persistence is 1s to 744h, not 745h

persistence = { timeout = "50s", netmask = "255.0.255.0" }
=> 5:44: service.web.persistence.netmask: 255.0.255.0 is not a netmask: its ones are not together (such as "255.255.255.0")

persistence = { timeout = "50s", netmask = "0.0.0.0" }
=> 5:44: service.web.persistence.netmask: a netmask of 0 makes all clients one

persistence = { timeout = "50s", netmask = "ffff::" }
=> 5:44: service.web.persistence.netmask: the service listens on IPv4 (give a netmask of that family, or prefix = ..)

persistence = { timeout = "50s", netmask = "255.255.255.0", prefix = 24 }
=> 5:70: service.web.persistence.prefix: `netmask` and `prefix` say the same (give one of the two)

persistence = { timeout = "50s", prefix = 33 }
=> 5:43: service.web.persistence.prefix: the prefix length is 1 to 32

persistence = { prefix = 24 }
=> 5:15: service.web.persistence.timeout: "timeout" is missing
"#,
    );
}

#[test]
fn what_a_scheduler_does_not_know() {
    refused(
        in_service,
        r#"
scheduler = "weighted"
=> 5:13: service.web.scheduler: unknown scheduler "weighted" (known: rr, wrr, lc, wlc, lblc, lblcr, sh, mh, dh, fo, ovf, sed, nq, twos)

scheduler = { name = "../rr" }
=> 5:22: service.web.scheduler.name: "../rr" can't be the name of a scheduler (up to 15 of a-z, 0-9, _ and -; its module is ip_vs_NAME)

flags = ["fallback"]
=> 5:9: service.web.flags: scheduler wlc has no flags (leave the key out; sh and mh have `fallback` and `port`)

scheduler = "sh"
flags = "sh-prot"
=> 6:9: service.web.flags: unknown flag "sh-prot" (did you mean "sh-port"?)

scheduler = "mh"
flags = ["flag-3"]
=> 6:10: service.web.flags[0]: unknown flag "flag-3" (did you mean "flag-1"?)

scheduler = { name = "none" }
=> 5:22: service.web.scheduler.name: "none" can't be the name of a scheduler (up to 15 of a-z, 0-9, _ and -; its module is ip_vs_NAME)

tunnel = "gre"
=> 5:10: service.web.tunnel: no real server of the service is reached by a tunnel (forward = "TUN", or leave the tunnel out)

one_packet = true
=> 5:14: service.web.one_packet: one-packet scheduling is for UDP: the service listens on tcp/192.0.2.80:80 (make a service of its own for the UDP addresses)

persistence = { timeout = "50s", engine = "sip" }
=> 5:43: service.web.persistence.engine: engine sip reads UDP: the service listens on tcp/192.0.2.80:80 (make a service of its own for the UDP addresses)

persistence = { timeout = "50s", engine = "http" }
=> 5:43: service.web.persistence.engine: unknown persistence engine "http" (known: sip)
"#,
    );
}

#[test]
fn what_one_kind_of_service_cant_have_together() {
    refused(
        whole,
        r#"
group.a = { interface = "x", addresses = ["192.0.2.80"] }
[service.v]
group = "a"
forward = "NAT"
one_packet = true
listen = "udp/192.0.2.80:53"
real_servers = [{ address = "192.0.2.16" }]
=> 5:14: service.v.one_packet: NAT needs connections, for the answers of 192.0.2.16:53 (forward = "DR" or "TUN", or one_packet = false)

group.a = { interface = "x", addresses = ["192.0.2.80", "2001:db8::80"] }
[service.v]
group = "a"
listen = ["tcp/192.0.2.80:80", "tcp/[2001:db8::80]:80"]
persistence = { timeout = "50s", prefix = 24 }
real_servers = []
=> 5:43: service.v.persistence.prefix: a prefix is another network in IPv4 than in IPv6, and the service listens on both (make a service for each, or leave it out)

group.a = { interface = "x", addresses = ["192.0.2.80", "2001:db8::80"] }
[service.v]
group = "a"
listen = ["tcp/192.0.2.80:80", "tcp/[2001:db8::80]:80"]
real_servers = [{ address = "192.0.2.16" }]
=> 5:29: service.v.real_servers[0].address: real server 192.0.2.16 and tcp/[2001:db8::80]:80 of service v are not of one address family (only a tunnel carries one family in the other: forward = "TUN", or make a service for each family)
"#,
    );
}

#[test]
fn a_time_out_that_the_kernel_cant_keep() {
    refused(
        |value| format!("cluster.timeouts = {{ {value} }}\n"),
        r#"
tcp = 900
=> 1:28: cluster.timeouts.tcp: a duration is expected here, not an integer (give it a unit: "900s" or "900ms")

tcp_fin = "0s"
=> 1:32: cluster.timeouts.tcp_fin: a time-out is 1s to 576h, not 0s

udp = "1500ms"
=> 1:28: cluster.timeouts.udp: a time-out is in whole seconds, the kernel's unit ("1s")

tcpfin = "2m"
=> 1:22: cluster.timeouts.tcpfin: unknown key "tcpfin" (write tcp_fin instead)
"#,
    );
}

#[test]
fn a_tunnel_that_the_kernel_cant_make() {
    refused(
        |tunnel| with_service(&format!("forward = \"TUN\"\nreal_servers = []\ntunnel = {tunnel}")),
        r#"
"vxlan"
=> 7:10: service.web.tunnel: unknown tunnel "vxlan" (known: ipip, gue, gre)

"gue"
=> 7:10: service.web.tunnel: a GUE tunnel needs the port that the real server decapsulates at (tunnel = { type = "gue", port = 6080 })

{ type = "gue" }
=> 7:10: service.web.tunnel: a GUE tunnel needs the port that the real server decapsulates at (tunnel = { type = "gue", port = 6080 })

{ type = "gue", port = 0 }
=> 7:33: service.web.tunnel.port: the port of a tunnel is 1 to 65535

{ type = "gre", port = 6080 }
=> 7:33: service.web.tunnel.port: a tunnel of type gre has no port (leave it out)

{ type = "gre", checksum = "remote" }
=> 7:37: service.web.tunnel.checksum: a tunnel of type gre has no such checksum (gue has none, full and remote; gre none and full; ipip none)

{ type = "ipip", checksum = "full" }
=> 7:38: service.web.tunnel.checksum: a tunnel of type ipip has no such checksum (gue has none, full and remote; gre none and full; ipip none)
"#,
    );
}

#[test]
fn a_sorry_server_that_cant_be() {
    refused(
        |sorry| {
            with_service(&format!(
                "real_servers = [{{ address = \"192.0.2.16\" }}]\nsorry_server = {sorry}"
            ))
        },
        r#"
"192.0.2.16:80"
=> 6:16: service.web.sorry_server: 192.0.2.16:80 is a real server of service web already (a sorry server answers while no real server does)

"192.0.2.80:80"
=> 6:16: service.web.sorry_server: 192.0.2.80 is a VIP, of group web: a real server has its own (use the real server's own address)

{ address = "192.0.2.9", weight = 0 }
=> 6:28: service.web.sorry_server.address: a sorry server of weight 0 takes no connection (leave the weight out, or leave the sorry server out)

"192.0.2.9"
scheduler = "dh"
=> 6:16: service.web.sorry_server: scheduler dh does not heed weights (another scheduler, such as sh or mh, or no sorry server)

"192.0.2.9"
scheduler = "ovf"
=> 6:16: service.web.sorry_server: scheduler ovf takes a weight for the number of connections: this sorry server would take one (sorry_server = { address = "..", weight = 65535 })

{ address = "192.0.2.9:8080" }
=> 6:28: service.web.sorry_server.address: DR can't change ports: real server 192.0.2.9:8080, service web on tcp/192.0.2.80:80 (use port 80, or forward = "NAT")
"#,
    );
}

#[test]
fn a_check_or_drain_that_cant_be() {
    refused(
        in_service,
        r#"
drain = "25h"
=> 5:9: service.web.drain: drain is 0s to 24h, not 25h

scheduler = "dh"
drain = "5m"
=> 6:9: service.web.drain: scheduler dh does not heed weights: clients would be refused (another scheduler, such as sh or mh, or no drain)
"#,
    );
}

#[test]
fn tunnels_into_the_other_family_beside_the_sync_daemons() {
    refused(
        whole,
        r#"
cluster.sync = { link = "lan" }
group.a = { interface = "x", addresses = ["192.0.2.80"] }
[service.w]
group = "a"
listen = "tcp/192.0.2.80:80"
forward = "TUN"
real_servers = [{ address = "2001:db8::16" }]
=> 1:16: cluster.sync: real server [2001:db8::16]:80 of service w is of another address family than the service, which the kernel does not allow beside the sync daemons (leave sync out, or give the service real servers of its family)
"#,
    );
}
