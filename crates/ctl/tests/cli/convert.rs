//! `connections`, `export`, `import` and `services clear`.

use std::fs;

use quorate_api::v1::Health;

use super::fake::{Node, State};
use super::run::{quorate, with_input};
use super::status::answered;

const EXAMPLE: &str = include_str!("../../../../examples/web.toml");

fn node() -> Node {
    let source = EXAMPLE.to_owned();
    Node::start(State { status: answered(Health::Ok), source, revision: 7, ..State::default() })
}

#[test]
fn connections_have_the_shape_of_ipvsadm() {
    let node = node();
    let ran = node.quorate(&["connections", "web"]).ends(0);
    assert_eq!(
        ran.stdout,
        "PROT  EXPIRES  STATE        CLIENT                TO                 REAL SERVER       ORIGIN\n\
         TCP   14:59    ESTABLISHED  192.168.10.100:42428  192.168.10.180:80  192.168.10.16:80  synced\n\
         1 connection on lb1\n"
    );
    let more = node.quorate(&["connections", "web", "--limit", "1"]).ends(0);
    assert!(more.stdout.ends_with("The first 1 on lb1; there are more: --limit\n"), "{more:#?}");
    let json = node.quorate(&["connections", "web", "-o", "json"]).ends(0).json();
    assert_eq!(json["connections"][0]["real_server"], "192.168.10.16:80");
    assert_eq!((json["node"].as_str(), json["more"].as_bool()), (Some("lb1"), Some(false)));
    node.quorate(&["connections", "other"]).ends(1);
    node.quorate(&["connections", "web", "--limit", "0"]).ends(2);
}

#[test]
fn the_configuration_in_force_is_printed_as_it_was_applied_and_for_ipvsadm() {
    let node = node();
    assert_eq!(node.quorate(&["export", "config"]).ends(0).stdout.trim(), EXAMPLE.trim());
    assert_eq!(
        node.quorate(&["export", "ipvsadm"]).ends(0).stdout,
        "-A -t 192.168.10.180:80 -s rr\n\
         -a -t 192.168.10.180:80 -r 192.168.10.16:80 -g -w 1\n\
         -a -t 192.168.10.180:80 -r 192.168.10.17:80 -g -w 1\n"
    );
}

#[test]
fn a_directors_keepalived_conf_is_of_the_configuration_in_force_or_of_a_file() {
    let node = node();
    let several = node.quorate(&["export", "keepalived"]).ends(2);
    assert!(several.stderr.contains("--node, such as d1, d2, d3"), "{several:#?}");
    let arguments = ["export", "keepalived", "--node", "d2", "--device", "public=eth0"];
    let ran = node.quorate(&arguments).ends(0);
    for part in [
        "    router_id d2\n",
        "vrrp_instance web {\n    state BACKUP\n    interface eth0\n",
        "    priority 140\n",
        "    preempt_delay 5\n",
        "        192.168.10.180/32 dev eth0\n",
        "virtual_server 192.168.10.180 80 {\n    lvs_sched rr\n    lvs_method DR\n    protocol TCP\n",
        "        TCP_CHECK {\n            delay_loop 2\n            connect_timeout 1\n            retry 1\n",
    ] {
        assert!(ran.stdout.contains(part), "{part}: {}", ran.stdout);
    }
    assert!(ran.stderr.contains("0 warnings"), "{ran:#?}");
    let json = node.quorate(&[&arguments[..], &["-o", "json"]].concat()).ends(0).json();
    assert_eq!(json["revision"], 7);
    assert_eq!(json["text"].as_str().unwrap().trim_end(), ran.stdout.trim_end());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("web.toml");
    fs::write(&path, EXAMPLE).unwrap();
    let file = path.to_str().unwrap();
    let offline =
        quorate(&[&arguments[..], &["-f", file, "--router-id", "web=51"]].concat()).ends(0);
    assert!(offline.stdout.contains("    virtual_router_id 51\n"), "{offline:#?}");
    quorate(&["export", "keepalived", "-f", file, "--node", "d1", "--router-id", "web=0"]).ends(2);
    let unknown =
        quorate(&["export", "keepalived", "-f", file, "--node", "d1", "--router-id", "x=1"])
            .ends(2);
    assert!(unknown.stderr.contains("no group"), "{unknown:#?}");
    fs::write(&path, "[group.web]\n").unwrap();
    quorate(&["export", "keepalived", "-f", file]).ends(1);
}

#[test]
fn a_saved_table_becomes_a_configuration_or_says_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("saved");
    let file = path.to_str().unwrap();
    fs::write(&path, "-A -t 192.0.2.80:80 -s rr\n-a -t 192.0.2.80:80 -r 192.0.2.16:80 -g -w 1\n")
        .unwrap();
    let ran = quorate(&["import", "ipvsadm", file, "--group", "web"]).ends(0);
    assert!(
        ran.stdout.contains("[group.web]\ninterface = \"public\"\naddresses = [\"192.0.2.80\"]"),
        "{ran:#?}"
    );
    assert!(ran.stderr.contains("1 services, 1 real servers"), "{ran:#?}");
    // What IPVS took and would not carry: DR changes no port.
    fs::write(&path, "-A -t 192.0.2.80:80 -s rr\n-a -t 192.0.2.80:80 -r 192.0.2.16:81 -g -w 1\n")
        .unwrap();
    let ran = quorate(&["import", "ipvsadm", file]).ends(1);
    assert!(ran.stderr.contains("DR can't change ports"), "{ran:#?}");
    fs::write(&path, "-A -f 7 -s rr\n").unwrap();
    let ran = quorate(&["import", "ipvsadm", file]).ends(1);
    assert!(ran.stderr.contains("--mark 7=tcp/ADDRESS:PORT") && ran.stdout.is_empty(), "{ran:#?}");
    let marked = quorate(&["import", "ipvsadm", file, "--mark", "7=tcp/192.0.2.80:80-90"]).ends(0);
    assert!(marked.stdout.contains("mark = 7"), "{marked:#?}");
    quorate(&["import", "ipvsadm", file, "--mark", "seven"]).ends(2);
}

#[test]
fn a_keepalived_conf_becomes_a_configuration_on_stdout_or_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (file, out) = (path("k.conf"), path("out.toml"));
    let instance = "vrrp_instance V {\n interface eth0\n virtual_ipaddress {\n  192.0.2.1\n }\n}\n";
    fs::write(&file, instance).unwrap();
    let ran = quorate(&["import", "keepalived", &file]).ends(0);
    assert!(
        ran.stdout.contains("[group.V]\ninterface = \"eth0\"\naddresses = [\"192.0.2.1/32\"]"),
        "{ran:#?}"
    );
    assert!(ran.stderr.contains("1 groups, 0 services, 0 real servers; 2 warnings"), "{ran:#?}");
    let ran = quorate(&["import", "keepalived", &file, "-o", &out]).ends(0);
    assert!(ran.stdout.is_empty() && ran.stderr.contains("Next: quorate diff"), "{ran:#?}");
    assert!(fs::read_to_string(&out).unwrap().contains("[group.V]"));
    let json = quorate(&["import", "keepalived", &file, "-o", "json"]).ends(0).json();
    assert_eq!((json["groups"].as_u64(), json["services"].as_u64()), (Some(1), Some(0)));
    assert!(json["findings"][0]["place"].as_str().unwrap().ends_with("k.conf:1"));
    let piped = with_input(&["import", "keepalived", "-"], &[], instance).ends(0);
    assert!(
        piped.stdout.contains("#   <stdin> (director lb1)\n") && piped.stdout.contains("[group.V]")
    );
    quorate(&["import", "keepalived", &file, "--output", &file]).ends(2);
    quorate(&["import", "keepalived", &file, "--name", "other=lb1"]).ends(2);
    quorate(&["import", "keepalived", &path("none")]).ends(1);
}

#[test]
fn an_error_of_keepalived_conf_leaves_nothing_written_unless_it_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (file, out) = (path("k.conf"), path("out.toml"));
    let text = "vrrp_instance V {\n interface eth0\n use_ipvlan\n virtual_ipaddress {\n  192.0.2.1\n }\n}\n";
    fs::write(&file, text).unwrap();
    let ran = quorate(&["import", "keepalived", &file, "-o", &out]).ends(1);
    assert!(ran.stderr.contains("k.conf:3:2\n3 |  use_ipvlan\n  |  ^^^^^^^^^^\n"), "{ran:#?}");
    assert!(ran.stderr.contains("--keep-going") && !fs::exists(&out).unwrap(), "{ran:#?}");
    let ran = quorate(&["import", "keepalived", &file, "-o", &out, "--keep-going"]).ends(3);
    assert!(ran.stderr.contains("1 errors, whose lines are left out"), "{ran:#?}");
    assert!(fs::read_to_string(&out).unwrap().contains("[group.V]"));
}

#[test]
fn services_are_cleared_and_groups_stay() {
    let node = node();
    let ran = node.quorate(&["services", "clear"]).ends(2);
    assert!(ran.stderr.contains("deletes all 1 services"), "{ran:#?}");
    node.quorate(&["services", "clear", "--yes"]).ends(0);
    let left = node.state().source.clone();
    assert!(left.contains("[group.web]") && !left.contains("service"), "{left}");
    let again = node.quorate(&["services", "clear", "--yes"]).ends(0);
    assert!(again.stderr.contains("has no service"), "{again:#?}");
}
