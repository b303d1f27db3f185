//! What the configuration may say and what it may not, with the place that each error names.

mod facts;
mod refused;
mod robust;
mod routing;
mod schema;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::desired;
use crate::spec::{
    Check, CheckKind, Engine, ForeignServices, Forward, Origin, Persistence, Sync, Thresholds,
    Timeouts, Tunnel, TunnelChecksum,
};

const EXAMPLE: &str = include_str!("../../../../../examples/web.toml");

/// A whole configuration around some lines of a service that listens on 192.0.2.80:80.
fn with_service(lines: &str) -> String {
    format!(
        "group.web = {{ interface = \"public\", addresses = [\"192.0.2.80\"] }}\n\
         [service.web]\ngroup = \"web\"\nlisten = \"tcp/192.0.2.80:80\"\n{lines}\n"
    )
}

/// Whatever is read here, the schema takes too.
fn read(source: &str) -> ClusterSpec {
    match parse(source, Format::Toml) {
        Ok(spec) => {
            assert_eq!(schema::wrong_with(source), Vec::<String>::new(), "{source}");
            spec
        }
        Err(wrong) => panic!("refused:\n{}", wrong.render("cluster.toml", source)),
    }
}

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

#[test]
fn the_example_says_what_the_demonstration_needs() {
    let spec = read(EXAMPLE);
    assert_eq!(spec.timing, None, "it would override what `init --timing` chose");
    let group = &spec.groups[&"web".parse().expect("name")];
    assert_eq!(group.addresses[0].net.to_string(), "192.168.10.180/32");
    assert_eq!(group.addresses[0].interface.as_str(), "public");
    assert_eq!(
        group.prefer.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["d1", "d2", "d3"]
    );
    assert!(group.preempt);
    assert_eq!(group.preempt_delay, Duration::from_secs(5));
    let service = &spec.services[&"web".parse().expect("name")];
    assert_eq!(service.listen[0].to_string(), "tcp/192.168.10.180:80");
    assert_eq!(service.scheduler.as_str(), "rr");
    assert_eq!(service.persistence, None);
    let check = service.checks.first().expect("a check");
    assert_eq!((check.interval, check.retry), (Duration::from_secs(2), 1));
    let servers: Vec<_> = service.real_servers.iter().map(|s| (s.address, s.forward)).collect();
    let dr = |text| (at(text), Forward::Dr);
    assert_eq!(servers, [dr("192.168.10.16:80"), dr("192.168.10.17:80")]);
}

#[test]
fn an_empty_document_configures_nothing() {
    assert_eq!(read(""), ClusterSpec::default());
    assert_eq!(parse("{}", Format::Json).expect("right"), ClusterSpec::default());
}

#[test]
fn json_says_the_same_as_toml() {
    let toml = with_service(
        "persistence = { timeout = \"1m\", prefix = 24 }\n\
         real_servers = [{ address = \"192.0.2.16\", weight = 3 }]",
    );
    let json = r#"{
      "group": { "web": { "interface": "public", "addresses": ["192.0.2.80"] } },
      "service": { "web": {
        "group": "web", "listen": "tcp/192.0.2.80:80",
        "persistence": { "timeout": "1m", "prefix": 24 },
        "real_servers": [{ "address": "192.0.2.16", "weight": 3 }] } }
    }"#;
    assert_eq!(parse(json, Format::Json).expect("right"), read(&toml));
}

#[test]
fn every_default_written_out_means_the_same_as_leaving_it_out() {
    let short = "[group.web]\ninterface = \"public\"\naddresses = [\"192.0.2.80\"]\n\
                 [service.web]\ngroup = \"web\"\nlisten = \"tcp/192.0.2.80:80\"\ncheck = \"c\"\n\
                 real_servers = [{ address = \"192.0.2.16\" }]\n[check.c]\ntype = \"https\"\n";
    let written = |keys: &crate::spec::document::TableKeys, separator: &str| {
        // Those of other types of check have a test of their own.
        let others = check::keys_of_others("https");
        let keys = keys.keys.iter().filter(|key| !others.contains(&key.name));
        let given = keys.filter_map(|key| match key.presence {
            crate::spec::document::Presence::Default(default) => {
                Some(format!("{} = {default}", key.name))
            }
            _ => None,
        });
        given.collect::<Vec<_>>().join(separator)
    };
    let long = format!(
        "[group.web]\ninterface = \"public\"\naddresses = [\"192.0.2.80\"]\n{}\n\
         [service.web]\ngroup = \"web\"\nlisten = \"tcp/192.0.2.80:80\"\ncheck = \"c\"\n{}\n\
         real_servers = [{{ address = \"192.0.2.16\", {} }}]\n[check.c]\ntype = \"https\"\n{}\n",
        written(&keys::GROUP, "\n"),
        written(&keys::SERVICE, "\n"),
        written(&keys::REAL_SERVER, ", "),
        written(&keys::CHECK, "\n"),
    );
    assert!(long.contains("retry_delay = \"3s\""), "{long}");
    assert_eq!(read(&long), read(short));
}

#[test]
fn a_check_and_a_pool_are_named_or_written_in_place() {
    let shared = "[check.web]\ntype = \"tcp\"\ninterval = \"500ms\"\n\
                  [pool.web]\nservers = [{ address = \"192.0.2.16\" }]\n";
    let named = with_service("check = \"web\"\npool = \"web\"") + shared;
    let placed = with_service(
        "check = { type = \"tcp\", interval = \"500ms\" }\n\
         real_servers = [{ address = \"192.0.2.16:80\" }]",
    );
    assert_eq!(read(&named), read(&placed));
    let checks = read(&named).services[&"web".parse().expect("name")].checks.clone();
    let s = Duration::from_secs;
    let interval = Duration::from_millis(500);
    let expected = Check {
        kind: CheckKind::Tcp,
        via: crate::spec::Via::Direct,
        address: None,
        port: None,
        origin: Origin::default(),
        interval,
        timeout: s(3),
        retry: 3,
        retry_delay: s(3),
        warmup: interval,
        rise: 1,
        fall: 1,
        starts_down: false,
        damp: None,
    };
    assert_eq!(checks, [Arc::new(expected)]);
}

/// What the only service's checks are, in the words of `diff`.
fn checks(of_service: &str) -> Vec<String> {
    let source = with_service(of_service) + "[check.web]\ntype = \"http\"\ninterval = \"1m\"\n";
    let service = read(&source).services.into_values().next().expect("a service");
    let of = |server: &crate::spec::RealServer| {
        let checks = service.checks_of(&server.address).iter();
        checks.map(ToString::to_string).collect::<Vec<_>>().join(" and ")
    };
    service.real_servers.iter().map(of).collect()
}

#[test]
fn several_checks_of_a_service_or_its_own_of_a_real_server_count() {
    let http = "http GET / status 200-299 every 60s timeout 3s retry 3 after 3s";
    let tcp = "tcp every 6s timeout 3s retry 3 after 3s";
    let shown = checks(
        "check = [\"web\", { type = \"tcp\" }]\nreal_servers = [{ address = \"192.0.2.16\" }, \
         { address = \"192.0.2.17\", check = \"web\" }, { address = \"192.0.2.18\", check = [] }]",
    );
    assert_eq!(shown, [format!("{http} and {tcp}"), http.to_owned(), String::new()]);
}

#[test]
fn the_other_checks_are_read_with_what_they_ask() {
    let shown = |check: &str| {
        let source =
            format!("check = {{ {check} }}\nreal_servers = [{{ address = \"192.0.2.16\" }}]\n");
        checks(&source).remove(0)
    };
    for (short, long, words) in [
        ("type = \"udp\"", "type = \"udp\", reply = false", "udp 0 bytes every 6s timeout 5s"),
        (
            "type = \"udp\", payload = \"ab 12\", reply = \"Cx 07\"",
            "type = \"udp\", payload = \"AB12\", reply = \"cX07\", reply_min = 0, reply_max = 255",
            "udp 2 bytes reply of 0 to 255 cx07 every",
        ),
        (
            "type = \"dns\"",
            "type = \"dns\", name = \".\", record = \"SOA\", rcode = \"NOERROR\"",
            "dns SOA . NOERROR every",
        ),
        (
            "type = \"dns\", name = \"a.example\", rcode = [\"NOERROR\", \"NXDOMAIN\"]",
            "type = \"dns\", name = \"a.example.\", rcode = [\"NOERROR\", \"NXDOMAIN\"]",
            "dns SOA a.example NOERROR,NXDOMAIN every",
        ),
        ("type = \"grpc\"", "type = \"grpc\", service = \"\", tls = false", "grpc every"),
        (
            "type = \"grpc\", tls = true, service = \"a.B\", host = \"c:1\", sni = \"d\"",
            "type = \"grpc\", tls = true, service = \"a.B\", host = \"c:1\", sni = \"d\", verify = false",
            "grpc by tls service a.B host c:1 sni d every",
        ),
        ("type = \"ping\"", "type = \"ping\", rise = 1", "ping every"),
        ("type = \"smtp\"", "type = \"smtp\", helo = \"localhost\"", "smtp helo localhost every"),
        (
            "type = \"exec\", command = [\"/bin/a\", \"b\"]",
            "type = \"exec\", command = [\"/bin/a\", \"b\"], dynamic = false",
            "exec /bin/a b every",
        ),
        (
            "type = \"file\", path = \"/run/a\"",
            "type = \"file\", path = \"/run/a\", dynamic = false",
            "file /run/a every",
        ),
        (
            "type = \"file\", path = \"/a\", dynamic = true",
            "type = \"file\", path = \"/a\", dynamic = true, fall = 1",
            "file /a dynamic every",
        ),
    ] {
        assert_eq!(shown(short), shown(long));
        assert!(shown(short).starts_with(words), "{}", shown(short));
    }
}

#[test]
fn all_that_a_check_can_say_is_read() {
    let shown = checks(
        "real_servers = [{ address = \"192.0.2.16\" }]\n[service.web.check]\ntype = \"https\"\n\
         address = \"192.0.2.99\"\nport = 8443\nsource = \"192.0.2.5\"\nsource_port = 999\n\
         interface = \"public\"\nmark = 7\nwarmup = \"0s\"\nrise = 2\nfall = 3\nstart = \"down\"\n\
         damp = { flaps = 3, within = \"2m\", hold = \"1h\" }\n\
         version = \"1.0\"\nsni = \"a.example\"\nverify = true\nca = \"/ca.pem\"\n\
         certificate = \"/own.pem\"\nkey = \"/own.key\"\n\
         urls = [{ method = \"HEAD\", path = \"/a?b\", host = \"b.example\", status = [200, \"400-499\"] }, \
         { md5 = \"9b3a0c85a887a256d6939da88aabd8cd\", body = \"ok\", body_absent = \"no\" }]\n",
    );
    let expected = "https 1.0 HEAD /a?b host b.example status 200,400-499, GET / status 200-299 md5 \
                    9b3a0c85a887a256d6939da88aabd8cd with \"ok\" without \"no\" sni a.example \
                    verified by /ca.pem as /own.pem at 192.0.2.99 port 8443 from 192.0.2.5 from port \
                    999 by public mark 7 every 6s timeout 3s retry 3 after 3s rise 2 fall 3 starts \
                    down damp 3 within 2m for 1h warmup 0s";
    assert_eq!(shown, [expected]);
}

#[test]
fn timing_is_a_profile_or_two_times() {
    let timing = |value: &str| read(&format!("cluster.timing = {value}")).timing;
    assert_eq!(timing("\"fast\""), Some(Timing::FAST));
    assert_eq!(timing("\"wan\""), Some(Timing::WAN));
    let own = Timing::new(Duration::from_millis(150), Duration::from_millis(50)).expect("timing");
    assert_eq!(timing("{ lease = \"150ms\", renew = \"50ms\" }"), Some(own));
}

#[test]
fn persistence_is_a_time_or_a_time_and_a_network() {
    let persistence = |value: &str| {
        let source = with_service(&format!("persistence = {value}\nreal_servers = []"));
        read(&source).services[&"web".parse().expect("name")].persistence
    };
    let with = |timeout_s, prefix| Some(Persistence { timeout_s, prefix, engine: None });
    assert_eq!(persistence("\"50s\""), with(50, 32));
    assert_eq!(persistence("{ timeout = \"1m\" }"), with(60, 32));
    assert_eq!(persistence("{ timeout = \"1m\", netmask = \"255.255.255.0\" }"), with(60, 24));
    assert_eq!(persistence("{ timeout = \"1m\", prefix = 16 }"), with(60, 16));
    let v6 = "group.web = { interface = \"public\", addresses = [\"2001:db8::80/64\"] }\n\
              [service.web]\ngroup = \"web\"\nlisten = \"udp/[2001:db8::80]:53\"\n\
              persistence = \"50s\"\nreal_servers = [{ address = \"[2001:db8::16]:53\" }]\n";
    assert_eq!(read(v6).services[&"web".parse().expect("name")].persistence, with(50, 128));
}

#[test]
fn one_service_may_listen_on_both_protocols_and_nat_changes_ports() {
    let source = "group.dns = { addresses = [{ address = \"192.0.2.80/24\", interface = \"in\" }] }\n\
                  [service.dns]\ngroup = \"dns\"\nforward = \"NAT\"\n\
                  listen = [\"tcp/192.0.2.80:53\", \"udp/192.0.2.80:53\"]\n\
                  real_servers = [{ address = \"192.0.2.16:5353\" }]\n";
    let spec = read(source);
    let service = &spec.services[&"dns".parse().expect("name")];
    assert_eq!(service.listen.len(), 2);
    assert_eq!(service.real_servers[0].address, at("192.0.2.16:5353"));
    assert_eq!(spec.groups[&"dns".parse().expect("name")].addresses[0].interface.as_str(), "in");
}

#[test]
fn a_real_server_may_have_a_forwarding_method_of_its_own() {
    let source = with_service(
        "real_servers = [{ address = \"192.0.2.16\" }, { address = \"192.0.2.17:8080\", forward = \"NAT\", weight = 0 }]",
    );
    let spec = read(&source);
    let servers = &spec.services[&"web".parse().expect("name")].real_servers;
    assert_eq!((servers[0].forward, servers[0].weight), (Forward::Dr, 1));
    assert_eq!((servers[1].forward, servers[1].weight), (Forward::Nat, 0));
}

#[test]
fn every_knob_of_ipvs_is_read() {
    let source = "group.web = { interface = \"public\", addresses = [\"192.0.2.80\"] }\n\
        [service.web]\ngroup = \"web\"\nlisten = \"udp/192.0.2.80:80\"\n\
        scheduler = \"mh\"\nflags = [\"fallback\", \"mh-port\"]\none_packet = true\n\
        forward = \"TUN\"\ntunnel = { type = \"gue\", port = 6080, checksum = \"remote\" }\n\
        persistence = { timeout = \"1m\", engine = \"sip\" }\n\
        real_servers = [\n\
        { address = \"192.0.2.16\", upper_threshold = 100, lower_threshold = 80 },\n\
        { address = \"2001:db8::16\", tunnel = \"gre\" },\n\
        { address = \"192.0.2.17\", tunnel = \"ipip\" },\n\
        { address = \"192.0.2.18\", tunnel = { type = \"gre\", checksum = \"full\" } },\n\
        { address = \"192.0.2.19\", forward = \"DR\" },\n]\n\
        sorry_server = { address = \"192.0.2.9\", forward = \"DR\" }\n";
    let spec = read(source);
    let service = &spec.services[&"web".parse().expect("name")];
    assert_eq!(service.scheduler.as_str(), "mh");
    assert_eq!(service.flags.words(service.scheduler), "mh-fallback,mh-port");
    assert!(service.one_packet);
    let engine = Engine::named("sip");
    assert_eq!(service.persistence, Some(Persistence { timeout_s: 60, prefix: 32, engine }));
    let gue = Tunnel::Gue { port: 6080, checksum: TunnelChecksum::Remote };
    let forwards: Vec<Forward> = service.real_servers.iter().map(|s| s.forward).collect();
    let tunnels =
        [gue, Tunnel::Gre { checksum: false }, Tunnel::Ipip, Tunnel::Gre { checksum: true }];
    let want: Vec<Forward> = tunnels.map(Forward::Tun).into_iter().chain([Forward::Dr]).collect();
    assert_eq!(forwards, want);
    assert_eq!(service.real_servers[0].thresholds, Thresholds { upper: 100, lower: 80 });
    let sorry = service.sorry_server.expect("a sorry server");
    assert_eq!((sorry.address, sorry.forward), (at("192.0.2.9:80"), Forward::Dr));
    let short = with_service("real_servers = []\nsorry_server = \"192.0.2.9\"");
    let sorry = read(&short).services[&"web".parse().expect("name")].sorry_server;
    assert_eq!(sorry.map(|s| (s.address, s.forward)), Some((at("192.0.2.9:80"), Forward::Dr)));
    let other =
        with_service("real_servers = []\nscheduler = { name = \"own\" }\nflags = [\"flag-2\"]");
    let service = read(&other).services[&"web".parse().expect("name")].clone();
    assert_eq!((service.scheduler.as_str(), service.flags.bits()), ("own", 2));
}

#[test]
fn a_mark_makes_one_service_of_many_ports() {
    let source = "group.web = { interface = \"public\", addresses = [\"192.0.2.80\", \"2001:db8::80\"] }\n\
        [service.web]\ngroup = \"web\"\nmark = 4294967295\nforward = \"TUN\"\n\
        listen = [\"tcp/192.0.2.80:80\", \"tcp/192.0.2.80:81-65535\", \"udp/[2001:db8::80]:443\"]\n\
        check = { type = \"tcp\", port = 81 }\n\
        real_servers = [{ address = \"192.0.2.16\" }, { address = \"192.0.2.17\", forward = \"TUN\" }]\n";
    let spec = read(source);
    let service = &spec.services[&"web".parse().expect("name")];
    let listen: Vec<String> = service.listen.iter().map(ToString::to_string).collect();
    assert_eq!(listen, ["tcp/192.0.2.80:80", "tcp/192.0.2.80:81-65535", "udp/[2001:db8::80]:443"]);
    let keys: Vec<String> = desired::keys(service).iter().map(ToString::to_string).collect();
    assert_eq!(keys, ["mark 4294967295 (IPv4)", "mark 4294967295 (IPv6)"]);
    assert_eq!(service.real_servers[0].address, at("192.0.2.16:0"));
    let target = desired::targets(service, &service.real_servers[0]).next().expect("a check");
    assert_eq!(target.address, at("192.0.2.16:81"));
    let marked: Vec<_> = desired::marks(&spec).into_iter().map(|rule| rule.ports).collect();
    assert_eq!(marked, [(80, 80), (81, 65_535), (443, 443)]);
}

/// By a port of its own it may be under NAT alone, which can change ports.
#[test]
fn under_nat_a_service_by_mark_may_lead_to_one_port() {
    let source = with_service(
        "mark = 1\nforward = \"NAT\"\nreal_servers = [{ address = \"192.0.2.16:8080\" }, { address = \"192.0.2.17\" }]",
    );
    let spec = read(&source);
    let servers = &spec.services[&"web".parse().expect("name")].real_servers;
    assert_eq!(
        (servers[0].address, servers[1].address),
        (at("192.0.2.16:8080"), at("192.0.2.17:0"))
    );
}

#[test]
fn connections_are_told_of_over_a_link_of_every_node() {
    let sync = |value: &str| read(&format!("cluster.sync = {{ link = \"lan\"{value} }}")).sync;
    let all = ", id = 9, group = \"ff05::51\", port = 9999, ttl = 2, maxlen = 1024, refresh = \"30s\", \
               retries = 0";
    let short = Sync {
        link: "lan".to_owned(),
        id: 1,
        group: "224.0.0.81".parse().expect("address"),
        port: 8848,
        ttl: 1,
        max_len: None,
        refresh_s: 10,
        retries: 2,
    };
    assert_eq!(sync(""), Some(short.clone()));
    let long = Sync {
        id: 9,
        group: "ff05::51".parse().expect("address"),
        port: 9999,
        ttl: 2,
        max_len: Some(1_024),
        refresh_s: 30,
        retries: 0,
        ..short
    };
    assert_eq!(sync(all), Some(long));
    let warmup = |value: &str| read(&format!("cluster.sync_warmup = \"{value}\"")).sync_warmup;
    assert_eq!((read("").sync_warmup, warmup("0s")), (WARMUP_DEFAULT, Duration::ZERO));
    let foreign = read("cluster.foreign_services = \"remove\"").foreign_services;
    assert_eq!(
        (foreign, read("").foreign_services),
        (ForeignServices::Remove, ForeignServices::Keep)
    );
}

#[test]
fn time_outs_are_given_one_by_one() {
    let timeouts = |value: &str| read(&format!("cluster.timeouts = {value}")).timeouts;
    assert_eq!(timeouts("{}"), Timeouts::default());
    let all = timeouts("{ tcp = \"15m\", tcp_fin = \"2m\", udp = \"5m\" }");
    let want = Timeouts { tcp_s: Some(900), tcp_fin_s: Some(120), udp_s: Some(300) };
    assert_eq!(all, want);
    let one = Timeouts { udp_s: Some(24 * 24 * 3600), ..Timeouts::default() };
    assert_eq!(timeouts("{ udp = \"576h\" }"), one);
}

#[test]
fn the_reference_page_states_every_key_and_default() {
    let page = include_str!("../../../../../docs/reference/configuration.md");
    let part = "The cluster's configuration";
    let wrong = crate::spec::document::page_differences(page, part, &keys::TABLES);
    assert!(wrong.is_empty(), "{wrong:#?}");
    for scheduler in crate::spec::SCHEDULERS {
        assert!(page.contains(&format!("`{scheduler}`")), "{scheduler}");
    }
    for (name, timing) in [("fast", Timing::FAST), ("lan", Timing::LAN), ("wan", Timing::WAN)] {
        let lease = format!("{:?}", timing.lease()).replace("ms", " ms").replace("3s", "3 s");
        let row = format!("| `\"{name}\"` | {lease} | {} ms |", timing.renew().as_millis());
        assert!(page.contains(&row), "{row}");
    }
}
