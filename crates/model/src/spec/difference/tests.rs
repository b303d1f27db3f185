//! What is said of a change.

use super::super::document::Format;
use super::super::read::parse;
use super::*;

const EXAMPLE: &str = include_str!("../../../../../examples/web.toml");

fn spec(source: &str) -> ClusterSpec {
    parse(source, Format::Toml).expect("a right configuration")
}

fn said(old: &str, new: &str) -> String {
    let changes = difference(&spec(old), &spec(new));
    changes.iter().map(|change| format!("{change}\n")).collect()
}

#[test]
fn nothing_changes_between_equals() {
    assert_eq!(difference(&spec(EXAMPLE), &spec(EXAMPLE)), []);
}

#[test]
fn a_hook_is_shown_whole() {
    let hook = |command: &str| {
        format!("{EXAMPLE}\n[hook.page]\non = \"quorum_down\"\ncommand = [\"{command}\"]\n")
    };
    assert_eq!(said(EXAMPLE, &hook("/a")), "+ hook page\n");
    assert_eq!(
        said(&hook("/a"), &hook("/b")),
        "~ hook page\n    ~ hook /a on quorum_down timeout 10s run_on owner -> /b on quorum_down \
         timeout 10s run_on owner  (in place, connections kept)\n"
    );
}

#[test]
fn each_field_says_what_it_was_and_what_it_will_be() {
    let new = EXAMPLE
        .replace("\"rr\"", "\"wlc\"\npersistence = \"50s\"")
        .replace("{ address = \"192.168.10.17:80\" }", "{ address = \"192.168.10.18:80\" }")
        .replace(".16:80\"", ".16:80\", weight = 3")
        .replace("retry = 1", "retry = 2")
        .replace("\"d1\", \"d2\"", "\"d2\", \"d1\"")
        .replace("180/32\"]", "180/32\", \"192.168.10.181\"]");
    assert_eq!(
        said(EXAMPLE, &format!("cluster.timing = \"fast\"\n{new}")),
        "~ cluster\n    \
         + timing fast\n\
         ~ group web\n    \
         + address 192.168.10.181/32 on public\n    \
         ~ prefer [d1, d2, d3] -> [d2, d1, d3]  (in place, connections kept)\n\
         ~ service web\n    \
         ~ scheduler rr -> wlc  (in place, connections kept)\n    \
         + persistence 50s per /32\n    \
         ~ check tcp every 2s timeout 1s retry 1 after 1s -> tcp every 2s timeout 1s retry 2 \
         after 1s  (in place, connections kept)\n    \
         ~ real_server 192.168.10.16:80 weight 1 DR -> weight 3 DR  (in place, connections \
         kept)\n    \
         - real_server 192.168.10.17:80 weight 1 DR  (ends its connections)\n    \
         + real_server 192.168.10.18:80 weight 1 DR\n"
    );
}

#[test]
fn what_a_director_has_to_reach_and_see_ends_no_connection() {
    let old = format!("track.a = {{ type = \"process\", name = \"nginx\" }}\n{EXAMPLE}")
        .replace("[group.web]", "[group.web]\ntrack = \"a\"\narbitration = [\"192.0.2.9\"]");
    let new = format!(
        "cluster.arbitration = [\"192.0.2.1\"]\n\
         track.b = {{ type = \"file\", path = \"/run/off\", exists = false }}\n{EXAMPLE}"
    )
    .replace("[group.web]", "[group.web]\ntrack = \"b\"");
    assert_eq!(
        said(&old, &new),
        "~ cluster\n    \
         ~ arbitration [] -> [192.0.2.1]  (in place, connections kept)\n\
         ~ group web\n    \
         - arbitration [192.0.2.9]\n    \
         - track a: process nginx every 1s timeout 1s rise 2 fall 2\n    \
         + track b: no file /run/off every 1s timeout 1s rise 2 fall 2\n"
    );
}

#[test]
fn whole_objects_come_and_go() {
    let come = "+ group web 192.168.10.180/32\n+ service web tcp/192.168.10.180:80\n";
    let go = "- group web 192.168.10.180/32\n- service web tcp/192.168.10.180:80\n";
    assert_eq!(said("", EXAMPLE), come);
    assert_eq!(said(EXAMPLE, ""), go);
    assert!(!difference(&spec(EXAMPLE), &ClusterSpec::default())[0].in_place());
}

#[test]
fn a_timing_left_out_is_no_change_and_another_order_is_one() {
    let timed = format!("cluster.timing = \"lan\"\n{EXAMPLE}");
    assert_eq!(said(&timed, EXAMPLE), "");
    let other = EXAMPLE.replace(".16:80", ".15:80").replace(".17:80", ".16:80");
    let other = other.replace(".15:80", ".17:80");
    assert_eq!(
        said(EXAMPLE, &other),
        "~ service web\n    ~ real_servers [192.168.10.16:80, 192.168.10.17:80] -> \
         [192.168.10.17:80, 192.168.10.16:80]  (in place, connections kept)\n"
    );
}

/// IPVS keeps the service, and finds a connection before it looks for a service.
#[test]
fn ports_of_a_service_by_mark_come_and_go_in_place() {
    let marked = EXAMPLE
        .replace("\"tcp/192.168.10.180:80\"", "[\"tcp/192.168.10.180:80-90\"]\nmark = 7")
        .replace(".16:80\"", ".16\"")
        .replace(".17:80\"", ".17\"")
        .replace("type = \"tcp\"", "type = \"tcp\", port = 80");
    assert_eq!(
        said(&marked, &marked.replace(":80-90", ":80-91")),
        "~ service web\n    - listen tcp/192.168.10.180:80-90\n    + listen \
         tcp/192.168.10.180:80-91\n"
    );
}

#[test]
fn what_drains_ends_no_connections() {
    let told = |drain: &str| {
        let with = EXAMPLE.replacen("[service.web]\n", &format!("[service.web]\n{drain}"), 1);
        let less = with.replace("  { address = \"192.168.10.17:80\" },\n", "");
        assert_ne!(with, less);
        let changes = difference(&spec(&with), &spec(&less));
        let removed = changes.iter().flat_map(|change| &change.fields).next().unwrap();
        (removed.to_string(), removed.in_place)
    };
    let (text, kept) = told("drain = \"5m\"\n");
    assert!(kept && text.ends_with("(drains for 5m)"), "{text}");
    let (text, kept) = told("");
    assert!(!kept && text.ends_with("(ends its connections)"), "{text}");
}

#[test]
fn routes_and_rules_of_a_group_come_and_go() {
    let with = |lines: &str| {
        EXAMPLE.replacen("interface = \"public\"", &format!("interface = \"public\"\n{lines}"), 1)
    };
    let old = with("routes = [{ to = \"10.0.0.0/8\", via = \"192.168.10.1\" }]");
    let new = with(
        "routes = [{ to = \"10.0.0.0/8\", via = \"192.168.10.2\" }]\n\
         rules = [{ from = \"10.0.0.0/8\", table = 100, priority = 1000 }]",
    );
    assert_eq!(
        said(&old, &new),
        "~ group web\n    \
         - route unicast 10.0.0.0/8 via 192.168.10.1 on public table 254 metric 0 scope global\n    \
         + route unicast 10.0.0.0/8 via 192.168.10.2 on public table 254 metric 0 scope global\n    \
         + rule IPv4 1000 from 10.0.0.0/8 lookup 100\n"
    );
}
