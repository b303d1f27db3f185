//! What a kernel shall hold by a configuration and by verdicts.

use super::*;
use crate::spec::Through;
use crate::spec::document::Format;
use crate::spec::read::parse;

const SOURCE: &str = "group.web = { interface = \"public\", addresses = [\"192.0.2.80\"] }\n\
    [service.web]\ngroup = \"web\"\nlisten = \"tcp/192.0.2.80:80\"\nscheduler = \"mh\"\n\
    persistence = \"50s\"\nflags = \"port\"\ncheck = { type = \"tcp\" }\nsorry_server = \"192.0.2.9\"\n\
    real_servers = [{ address = \"192.0.2.16\", upper_threshold = 9 }, \
    { address = \"192.0.2.17\", weight = 0 }]\n";

fn desired(source: &str, up: bool) -> DesiredService {
    let spec = parse(source, Format::Toml).unwrap();
    let knowledge = || match up {
        true => Knowledge::Known(Verdict::Up),
        false => Knowledge::Known(Verdict::Down("no answer".to_owned())),
    };
    let verdicts = probe_targets(&spec).into_iter().map(|t| (t, knowledge())).collect();
    services(&spec.services, &verdicts, &Lost::new()).into_values().next().unwrap()
}

fn weights(service: &DesiredService) -> Vec<(String, u32)> {
    let weight = |(at, to): (&std::net::SocketAddr, &Destination)| (at.to_string(), to.weight);
    service.destinations.iter().map(weight).collect()
}

#[test]
fn what_the_configuration_says_reaches_the_kernel() {
    let service = desired(SOURCE, true);
    let settings = service.settings;
    assert_eq!(settings.flags.words(settings.scheduler), "mh-fallback,mh-port");
    assert_eq!(settings.persistence.map(|persistence| persistence.prefix), Some(32));
    let first = service.destinations.values().next().unwrap();
    assert_eq!(first.thresholds.upper, 9);
}

/// One prefix stands for all addresses: what no network of IPv4 has would never read back.
#[test]
fn a_service_of_both_families_has_a_prefix_of_each() {
    let both = SOURCE.replace("addresses = [", "addresses = [\"2001:db8::80\", ").replace(
        "listen = \"tcp/192.0.2.80:80\"",
        "listen = [\"tcp/192.0.2.80:80\", \
                  \"tcp/[2001:db8::80]:80\"]\nforward = \"TUN\"",
    );
    let spec = parse(&both, Format::Toml).unwrap();
    let prefixes: Vec<_> = services(&spec.services, &Verdicts::new(), &Lost::new())
        .into_iter()
        .map(|(key, service)| (key.family(), service.settings.persistence))
        .map(|(family, persistence)| (family, persistence.unwrap().prefix))
        .collect();
    assert_eq!(prefixes, [(Family::V4, 32), (Family::V6, 128)]);
}

/// They choose it for some clients whatever its weight, and refuse those.
#[test]
fn a_hashing_scheduler_falls_back_while_a_real_server_is_drained() {
    let words = |source: &str, up| {
        let settings = desired(source, up).settings;
        settings.flags.words(settings.scheduler)
    };
    let drained = |source: &str| words(source, true);
    assert_eq!(drained(SOURCE), "mh-fallback,mh-port");
    assert_eq!(drained(&SOURCE.replace("weight = 0", "weight = 1")), "mh-port");
    assert_eq!(drained(&SOURCE.replace("\"mh\"", "\"wlc\"").replace("flags = \"port\"\n", "")), "");
    let inhibit = SOURCE.replace("flags", "inhibit = true\nflags");
    assert_eq!(words(&inhibit, false), "mh-fallback,mh-port");
}

/// Which real servers have a share while so many of five are up, each of weight 1; and whether the
/// sorry server, `9`, answers.
fn of_five(keys: &str, ups: &[usize]) -> Vec<Vec<(u8, u32)>> {
    let servers: Vec<String> =
        (11..16).map(|n| format!("{{ address = \"192.0.2.{n}\" }}")).collect();
    let source = format!(
        "group.web = {{ interface = \"public\", addresses = [\"192.0.2.80\"] }}\n[service.web]\n\
         group = \"web\"\nlisten = \"tcp/192.0.2.80:80\"\ncheck = {{ type = \"tcp\" }}\n{keys}\n\
         real_servers = [{}]\n",
        servers.join(", ")
    );
    let spec = parse(&source, Format::Toml).unwrap();
    let mut before = Lost::new();
    let mut of = |up: &usize| {
        let down = || Knowledge::Known(Verdict::Down("no answer".to_owned()));
        let verdict =
            |(n, target)| (target, if n < *up { Knowledge::Known(Verdict::Up) } else { down() });
        let verdicts = probe_targets(&spec).into_iter().enumerate().map(verdict).collect();
        before = lost(&spec.services, &verdicts, &before);
        let web = services(&spec.services, &verdicts, &before).into_values().next().unwrap();
        let octet =
            |at: &SocketAddr| at.ip().to_string().rsplit('.').next().unwrap().parse().unwrap();
        web.destinations.iter().map(|(at, to)| (octet(at), to.weight)).collect()
    };
    ups.iter().map(&mut of).collect()
}

#[test]
fn below_its_quorum_the_sorry_server_answers_and_above_it_by_the_hysteresis_no_more() {
    let keys = "sorry_server = \"192.0.2.9\"\nquorum = 3\nhysteresis = 1";
    let shown = of_five(keys, &[3, 2, 1, 2, 3, 4, 2]);
    let serving = |of: &Vec<(u8, u32)>| {
        of.iter().filter(|(_, weight)| *weight > 0).map(|(n, _)| *n).collect::<Vec<_>>()
    };
    let serving: Vec<Vec<u8>> = shown.iter().map(serving).collect();
    assert_eq!(
        serving,
        [
            vec![11, 12, 13],
            vec![11, 12],
            vec![9],
            vec![9],
            vec![9],
            vec![11, 12, 13, 14],
            vec![11, 12]
        ]
    );
    // What was up keeps its connections meanwhile.
    assert_eq!(shown[3], [(9, 1), (11, 0), (12, 0)]);
    // Without a sorry server those that are up serve on.
    assert_eq!(of_five("quorum = 3", &[1]), [[(11, 1)]]);
}

#[test]
fn below_min_up_all_serve_rather_than_too_few() {
    let shown = of_five("min_up = 2", &[2, 1, 0]);
    let all: Vec<(u8, u32)> = (11..16).map(|n| (n, 1)).collect();
    assert_eq!(shown, [vec![(11, 1), (12, 1)], all.clone(), all]);
}

#[test]
fn checks_may_change_a_weight_but_not_that_of_a_drained_real_server() {
    let source = SOURCE
        .replace(
            "check = { type = \"tcp\" }",
            "check = [{ type = \"tcp\" }, \
        { type = \"exec\", command = [\"/bin/a\"], dynamic = true }, \
        { type = \"exec\", command = [\"/bin/b\"], dynamic = true }]",
        )
        .replace("upper_threshold = 9", "weight = 10");
    let mut spec = parse(&source, Format::Toml).unwrap();
    let mut shown = |said: [u32; 2], ordered: bool| {
        let service = spec.services.values_mut().next().unwrap();
        let address = service.real_servers[0].address;
        service.ordered = ordered.then_some(address).into_iter().collect();
        let mut said = said.into_iter().cycle();
        let verdict = |target: ProbeTarget| match target.check.kind {
            crate::spec::CheckKind::Exec(_) => {
                (target, Knowledge::Known(Verdict::Weighs(said.next().unwrap())))
            }
            _ => (target, Knowledge::Known(Verdict::Up)),
        };
        let verdicts = probe_targets(&spec).into_iter().map(verdict).collect();
        weights(&services(&spec.services, &verdicts, &Lost::new()).into_values().next().unwrap())
            .into_iter()
            .map(|(_, weight)| weight)
            .collect::<Vec<_>>()
    };
    assert_eq!(shown([10, 30], false), [30, 0]);
    assert_eq!(shown([12, 11], false), [13, 0]);
    assert_eq!(shown([0, 0], false), [1, 0, 0], "and the sorry server's");
    assert_eq!(shown([12, 11], true), [10, 0], "an operator's order stands");
}

#[test]
fn a_sorry_server_takes_connections_only_while_no_real_server_does() {
    let at = |host: u8, weight| (format!("192.0.2.{host}:80"), weight);
    assert_eq!(weights(&desired(SOURCE, true)), [at(16, 1), at(17, 0)]);
    assert_eq!(weights(&desired(SOURCE, false)), [at(9, 1)]);
    // What stays with weight 0 takes none, either: failed ones, and those that are drained.
    let inhibit = SOURCE.replace("flags", "inhibit = true\nflags");
    assert_eq!(weights(&desired(&inhibit, false)), [at(9, 1), at(16, 0), at(17, 0)]);
    let drained = SOURCE.replace("upper_threshold = 9", "weight = 0");
    assert_eq!(weights(&desired(&drained, true)), [at(9, 1), at(16, 0), at(17, 0)]);
    let none = SOURCE.replace("sorry_server = \"192.0.2.9\"\n", "");
    assert_eq!(weights(&desired(&none, false)), []);
}

#[test]
fn the_way_of_clients_packets_leads_to_the_first_address_where_they_come() {
    let source = SOURCE.replace("{ type = \"tcp\" }", "{ type = \"tcp\", via = \"forwarding\" }");
    let through = |source: &str| -> Vec<Through> {
        let targets = probe_targets(&parse(source, Format::Toml).unwrap());
        targets.into_iter().filter_map(|target| target.through).collect()
    };
    let vip = "192.0.2.80:80".parse().unwrap();
    assert_eq!(through(SOURCE), []);
    assert_eq!(through(&source), [Through { vip, tunnelled: false }; 2]);
    let tunnel = source.replace("[service.web]", "[service.web]\nforward = \"TUN\"");
    assert_eq!(through(&tunnel), [Through { vip, tunnelled: true }; 2]);
    let refused = |source: &str| parse(source, Format::Toml).unwrap_err().to_string();
    for other in ["forward = \"NAT\"", "forward = \"TUN\"\ntunnel = \"gre\""] {
        let other = source.replace("[service.web]", &format!("[service.web]\n{other}"));
        assert!(refused(&other).contains("can't be tried on the way of clients' packets"));
    }
    let datagrams = source.replace("tcp/192", "udp/192");
    assert!(refused(&datagrams).contains("real server 192.0.2.16 can't be tried on the way"));
}
