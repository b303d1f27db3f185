//! What is refused of checks.

use super::{in_service, refused, whole};

#[test]
fn checks_that_are_none() {
    refused(
        in_service,
        r#"
check = { }
=> 5:9: service.web.check.type: "type" is missing (type = "tcp")

check = { type = "bfd" }
=> 5:18: service.web.check.type: there are no checks of type "bfd": a quick probe finds out as soon, and of the program too (type = "tcp", interval = "50ms", timeout = "50ms", fall = 3)

check = { type = "grpc", service = "a b" }
=> 5:36: service.web.check.service: the name of a service has 1 to 4095 visible ASCII characters

check = { type = "grpc", host = "a/b" }
=> 5:33: service.web.check.host: "a/b" is not a name or address, nor with a port (host = "www.example.com:8443")

check = { type = "grpc", verify = true }
=> 5:35: service.web.check.verify: the server is not spoken to by TLS (tls = true)

check = { type = "grpc", tls = true, ca = "/ca.pem" }
=> 5:43: service.web.check.ca: the server's certificate is not looked at (verify = true)

check = { type = "file" }
=> 5:9: service.web.check.path: "path" is missing

check = { type = "file", path = "state" }
=> 5:33: service.web.check.path: "state" is not the absolute path of a file

check = { type = "file", path = "/run/a", address = "192.0.2.99" }
=> 5:53: service.web.check.address: a check of type file has no "address" (leave it out)

check = { type = "file", path = "/run/a", weight = 2 }
=> 5:43: service.web.check.weight: unknown key "weight" (write the weight itself into the file, with dynamic = true, instead)

check = { type = "grpc", path = "/" }
=> 5:33: service.web.check.path: a check of type grpc has no "path" (leave it out)

check = { type = "ping", via = "forwarding" }
=> 5:32: service.web.check.via: a check of type ping can't go the way of clients' packets (a second check does: check = [.., { type = "tcp", via = "forwarding" }])

check = { type = "tcp", via = "forwarding", port = 80 }
=> 5:52: service.web.check.port: its packets go to the VIP at the real server: the service says where (leave it out, or via = "direct")

check = { type = "ping", port = 80 }
=> 5:33: service.web.check.port: a check of type ping has no "port" (leave it out)

check = { type = "exec", command = ["/bin/a"], mark = 1 }
=> 5:55: service.web.check.mark: a check of type exec has no "mark" (leave it out)

check = { type = "exec" }
=> 5:9: service.web.check.command: "command" is missing

check = { type = "udp", payload = "abc" }
=> 5:35: service.web.check.payload: 0 to 1024 bytes are two hexadecimal digits each: "ab 12 0f"

check = { type = "udp", payload = "Ab12f 3" }
=> 5:35: service.web.check.payload: 0 to 1024 bytes are two hexadecimal digits each: "ab 12 0f"

check = { type = "udp", payload = "ax" }
=> 5:35: service.web.check.payload: 0 to 1024 bytes are two hexadecimal digits each: "ab 12 0f"

check = { type = "udp", reply_min = 3 }
=> 5:37: service.web.check.reply_min: no reply is waited for (reply = true)

check = { type = "udp", reply = true, reply_min = 3, reply_max = 2 }
=> 5:51: service.web.check.reply_min: no reply has at least 3 and at most 2 bytes

check = { type = "dns", name = "a..example" }
=> 5:32: service.web.check.name: not a name in DNS: parts of 1 to 63 characters, 253 in all (name = "www.example.com", or ".")

check = { type = "dns", record = "ANY" }
=> 5:34: service.web.check.record: unknown type of record "ANY" (known: SOA, A, AAAA, NS, CNAME, PTR, MX, TXT, SRV)

check = { type = "dns", rcode = [] }
=> 5:33: service.web.check.rcode: no response code is good (rcode = "NOERROR")

"#,
    );
}

#[test]
fn what_all_checks_have_and_is_wrong() {
    refused(
        in_service,
        r#"
check = { type = "tpc" }
=> 5:18: service.web.check.type: unknown type of check "tpc" (did you mean "tcp"?)

check = { type = "tcp", interval = "10ms" }
=> 5:36: service.web.check.interval: the interval of a check is 50ms to 1h, not 10ms

check = { type = "tcp", timeout = "0s" }
=> 5:35: service.web.check.timeout: the timeout of a check is 1ms to 1h, not 0s

check = { type = "tcp", timeout = "2h" }
=> 5:35: service.web.check.timeout: the timeout of a check is 1ms to 1h, not 2h

check = { type = "tcp", retry_delay = "0s" }
=> 5:39: service.web.check.retry_delay: the retry_delay of a check is 1ms to 1h, not 0s

check = { type = "tcp", retry = -1 }
=> 5:33: service.web.check.retry: the number of further tries is 0 to 100

check = { type = "tcp", rise = 0, fall = 101 }
=> 5:32: service.web.check.rise: the rise of a check is 1 to 100
=> 5:42: service.web.check.fall: the fall of a check is 1 to 100

check = { type = "tcp", damp = { flaps = 0, within = "500ms", hold = "2h", after = 3 } }
=> 5:42: service.web.check.damp.flaps: the flaps of a damped check is 1 to 20
=> 5:54: service.web.check.damp.within: the within of a damped check is 1s to 1h, not 500ms
=> 5:70: service.web.check.damp.hold: the hold of a damped check is 1s to 1h, not 2h
=> 5:76: service.web.check.damp.after: unknown key "after" (damp takes: flaps, within, hold)

check = { type = "tcp", start = "alpha" }
=> 5:33: service.web.check.start: unknown start "alpha" (known: up, down)

check = { type = "tcp", address = "192.0.2.16", source = "2001:db8::1" }
=> 5:58: service.web.check.source: 2001:db8::1 can't be the source of what goes to 192.0.2.16 (give both of one family)

check = { type = "tcp", path = "/" }
=> 5:32: service.web.check.path: a check of type tcp has no "path" (leave it out)

check = { type = "http", path = "/", sni = "www.example.com" }
=> 5:44: service.web.check.sni: a check of type http has no "sni" (leave it out)

check = [{ type = "tcp" }, { type = "tcp" }]
=> 5:28: service.web.check[1]: this check stands twice (remove one of the two)

check = { type = "tcp", nb_get_retry = 3, delay_loop = 6 }
=> 5:25: service.web.check.nb_get_retry: unknown key "nb_get_retry" (write retry instead)
=> 5:43: service.web.check.delay_loop: unknown key "delay_loop" (write interval instead)

check = 5
=> 5:9: service.web.check: a check, or the name of one, is expected here, not an integer (put it in quotes: "5")
"#,
    );
}

#[test]
fn http_checks_that_ask_for_what_is_none() {
    refused(
        in_service,
        r#"
check = { type = "http", path = "health" }
=> 5:33: service.web.check.path: "health" does not begin with / (path = "/health?full=1"; a name goes into host)

check = { type = "http", path = "/a b" }
=> 5:33: service.web.check.path: a path has 1 to 4095 visible ASCII characters

check = { type = "http", path = "/?q={1}" }
=> 5:33: service.web.check.path: a path has none of "<>\^`{|} as they are (RFC 3986) (write them as %22, %3C, %3E, %5C, %5E, %60, %7B, %7C, %7D)

check = { type = "http", path = "/#top" }
=> 5:33: service.web.check.path: a server is never told what follows # (leave it out)

check = { type = "http", host = "a\r\nb: c" }
=> 5:33: service.web.check.host: a host has 1 to 4095 visible ASCII characters

check = { type = "http", status = "299-200" }
=> 5:35: service.web.check.status: "299-200" is not a status code, 100 to 999, or a range (status = [200, "300-399"])

check = { type = "http", status = [200, 99] }
=> 5:41: service.web.check.status[1]: a status code is 100 to 999

check = { type = "http", status = [] }
=> 5:35: service.web.check.status: 1 to 32 status codes or ranges of them

check = { type = "http", md5 = "9b3a" }
=> 5:32: service.web.check.md5: an MD5 digest has 32 hexadecimal digits

check = { type = "http", body = "(" }
=> 5:33: service.web.check.body: no regular expression: unclosed group

check = { type = "http", method = "HEAD", body = "ok" }
=> 5:50: service.web.check.body: an answer to HEAD has no body (method = "GET")

check = { type = "http", method = "POST" }
=> 5:35: service.web.check.method: unknown method "POST" (known: GET, HEAD, OPTIONS)

check = { type = "http", urls = [] }
=> 5:33: service.web.check.urls: a check asks for 1 to 32 urls

check = { type = "http", path = "/", urls = [{ path = "/b" }] }
=> 5:33: service.web.check.path: there are urls, and this is of one of them (write it into each of the urls)

check = { type = "http", urls = [{ digest = "9b3a" }] }
=> 5:36: service.web.check.urls[0].digest: unknown key "digest" (write md5, or sha256 instead)

check = { type = "https", sni = "192.0.2.16" }
=> 5:33: service.web.check.sni: "192.0.2.16" is not the name of a server

check = { type = "https", ca = "/etc/ca.pem" }
=> 5:32: service.web.check.ca: the server's certificate is not looked at (verify = true)

check = { type = "https", verify = true, ca = "ca.pem" }
=> 5:47: service.web.check.ca: "ca.pem" is not the absolute path of a file

check = { type = "https", certificate = "/etc/own.pem" }
=> 5:41: service.web.check.certificate: a certificate needs its key (key = "/etc/quorate/check.pem")
"#,
    );
}

#[test]
fn numbers_of_real_servers_that_do_not_go_together() {
    refused(
        in_service,
        r#"
quorum = 0
=> 5:10: service.web.quorum: the quorum of a service is 1 to 2000000000

quorum = 2
hysteresis = 2
=> 6:14: service.web.hysteresis: a quorum of 2 could never be lost by more than 2 (a hysteresis below the quorum)

slow_start = "500ms"
=> 5:14: service.web.slow_start: no slow start is shorter than 1s, in which weights rise by tenths ("1s" or longer, or "0s" for none)

slow_start = "2h"
=> 5:14: service.web.slow_start: slow_start is 0s to 1h, not 2h

min_up = 1
sorry_server = "192.0.2.9"
=> 5:10: service.web.min_up: there is a sorry server: while few are up, either it answers or all do (leave one of the two out)
"#,
    );
}

#[test]
fn a_source_of_another_address_family_than_the_real_server() {
    refused(
        whole,
        r#"
group.a = { interface = "x", addresses = ["192.0.2.80"] }
[service.v]
group = "a"
listen = "tcp/192.0.2.80:80"
check = { type = "tcp", source = "2001:db8::1" }
real_servers = [{ address = "192.0.2.16" }]
=> 5:9: service.v.check: 2001:db8::1 can't be the source of what goes to real server 192.0.2.16 (a source of its address family)
"#,
    );
}

#[test]
fn a_slow_start_that_changes_nothing() {
    refused(
        whole,
        r#"
group.a = { interface = "x", addresses = ["192.0.2.80"] }
[service.v]
group = "a"
listen = "tcp/192.0.2.80:80"
slow_start = "30s"
real_servers = [{ address = "192.0.2.16" }, { address = "192.0.2.17", weight = 0 }]
=> 5:14: service.v.slow_start: no real server has a weight above 1, and there is none below 1 (give the real servers weight = 100)

group.a = { interface = "x", addresses = ["192.0.2.80"] }
[service.v]
group = "a"
listen = "tcp/192.0.2.80:80"
scheduler = "rr"
slow_start = "30s"
real_servers = [{ address = "192.0.2.16", weight = 9 }]
=> 6:14: service.v.slow_start: scheduler rr does not go by weights (scheduler = "wrr" or "wlc", or no slow_start)
"#,
    );
}
