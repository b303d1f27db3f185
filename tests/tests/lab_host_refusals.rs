//! Bad input to real daemons, and machines that lack something: refused or said in plain words, at
//! once and in full, and nothing else suffers. On the host's kernel; needs root. Run by
//! `cargo xtask test`.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "what a test relies on fails the test")]

use std::fs;
use std::process::Command;
use std::time::Duration;

use ipnet::IpNet;
use quorate_tests::lab::deployment::{Deployment, VIP, example_hosts};
use quorate_tests::lab::network::INTERFACE;
use quorate_tests::lab::{bin_dir, command, host_has_ipvs};
use serde_json::Value;

/// Far past whatever a daemon waits for.
const SECONDS: Duration = Duration::from_secs(60);
const DIRECTORS: [(&str, &str); 3] =
    [("d1", "192.168.10.80"), ("d2", "192.168.10.23"), ("d3", "192.168.10.24")];

const PLAIN: &str = r#"
[group.plain]
interface = "public"
addresses = ["192.168.10.180/32"]
prefer = ["d3", "d2", "d1"]
preempt_delay = "0s"
"#;

/// Directors that are not started yet.
fn directors(name: &str) -> Deployment {
    let mut deployment = Deployment::new(name, &example_hosts().unwrap()).unwrap();
    for (name, address) in DIRECTORS {
        deployment.add_director(name, address).unwrap();
    }
    deployment
}

fn three_directors(name: &str) -> Deployment {
    let mut deployment = directors(name);
    deployment.form(&DIRECTORS.map(|(name, _)| name), "lan").unwrap();
    deployment
}

/// Runs `quorate`, which must end so; gives what it printed.
fn ends_with(deployment: &Deployment, node: &str, arguments: &[&str], code: i32) -> String {
    let finished = deployment.quorate(node, arguments).unwrap();
    let text = finished.stderr + &finished.stdout;
    assert_eq!(finished.status.code(), Some(code), "quorate {}: {text}", arguments.join(" "));
    text
}

fn assert_says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
}

fn group(status: &Value, name: &str) -> Value {
    let groups = status["groups"].as_array().unwrap();
    groups.iter().find(|group| group["name"] == name).unwrap().clone()
}

fn node(status: &Value, name: &str) -> Value {
    let nodes = status["nodes"].as_array().unwrap();
    nodes.iter().find(|node| node["name"] == name).unwrap().clone()
}

fn wait_for_owner(deployment: &Deployment, asked: &str, group: &str, owner: &str) {
    let what = format!("{owner} as the owner of {group} that {asked} names");
    deployment
        .wait_for(&what, SECONDS, |d| Ok(d.owner(asked, group).as_deref() == Some(owner)))
        .unwrap();
}

/// Starts a daemon that must not start; gives what it wrote.
fn does_not_start(deployment: &mut Deployment, name: &str) -> String {
    let before = deployment.log(name).unwrap().len();
    assert!(deployment.start(name).is_err(), "{name} started");
    deployment.log(name).unwrap().split_off(before)
}

#[test]
fn a_wrong_node_toml_is_refused_with_every_error_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.toml");
    let wrong = "name = \"d 1\"\nrole = \"master\"\ndata_dir = \"data\"\nsokcet = \"/run/q\"\n\n\
                 [[link]]\nname = \"lan\"\nlisten = \"0.0.0.0:7400\"\n";
    fs::write(&path, wrong).unwrap();
    for check in [true, false] {
        let mut daemon = Command::new(bin_dir().unwrap().join("quorated"));
        daemon.arg("--config").arg(&path).args(check.then_some("--check"));
        let finished = command::run(&mut daemon, SECONDS).unwrap();
        assert_eq!(finished.status.code(), Some(78), "EX_CONFIG keeps systemd from trying again");
        let places = ["1:8", "2:8", "3:12", "4:1", "8:10"];
        let places = places.map(|place| format!("--> {}:{place} ", path.display()));
        assert_says(&finished.stderr, &places.each_ref().map(String::as_str));
        // The line itself, what is wrong underlined, and what would be right.
        let shown = "1 | name = \"d 1\"\n  |        ^^^^^";
        let help = ["did you mean \"director\"?", "did you mean \"socket\"?"];
        assert_says(&finished.stderr, &[shown, help[0], help[1]]);
    }
    // Nothing was made.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_wrong_cluster_file_is_refused_and_nothing_is_applied() {
    let mut deployment = directors("lab_host_refusals_apply");
    deployment.form(&["d1"], "lan").unwrap();
    deployment.apply("d1", PLAIN).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let refused = |name: &str, text: &str, says: &[&str]| {
        let path = folder.path().join(name).display().to_string();
        fs::write(&path, text).unwrap();
        for verb in [["apply", "--yes"].as_slice(), &["apply", "--dry-run"], &["diff"]] {
            let arguments = [verb, &[path.as_str()]].concat();
            assert_says(&ends_with(&deployment, "d1", &arguments, 1), says);
        }
        let status = deployment.status("d1").unwrap();
        assert_eq!(status["cluster"]["revision"], 1, "something was applied");
    };
    let services = r#"
[service.one]
group = "plain"
listen = "tcp/192.168.10.180:80"
scheduler = "rrr"
forward = "DR"
real_servers = [{ address = "192.168.10.16:8080" }]

[service.two]
group = "plain"
listen = "tcp/192.168.10.181:80"
scheduler = "rr"
forward = "NAT"
real_servers = [{ address = "224.0.0.1:80" }]
"#;
    let says = [
        "wrong.toml:11:13 ",
        "unknown scheduler \"rrr\"",
        "did you mean \"rr\"?",
        "wrong.toml:13:",
        "DR can't change ports",
        "wrong.toml:17:10 ",
        "wrong.toml:20:",
    ];
    refused("wrong.toml", &format!("{PLAIN}{services}"), &says);
    let twins = services.replace("rrr", "rr").replace("8080", "80").replace(".181", ".180");
    let twins = twins.replace("224.0.0.1", "192.168.10.17");
    refused("twins.toml", &format!("{PLAIN}{twins}"), &["twins.toml:17:10 "]);
    // Right in itself, and wrong for this cluster: it is the cluster that says so.
    let nobody = PLAIN.replace("prefer = [\"d3\", \"d2\", \"d1\"]", "only = [\"nobody\"]");
    refused("nobody.toml", &nobody, &["no director of this cluster may own this group"]);
}

#[test]
fn a_second_daemon_on_one_data_directory_is_refused() {
    let mut deployment = directors("lab_host_refusals_second");
    deployment.start("d1").unwrap();
    let folder = deployment.folder_of("d1").unwrap().to_owned();
    let pid = fs::read_to_string(folder.join("data/lock")).unwrap();
    let running = fs::read_to_string(format!("/proc/{}/comm", pid.trim())).unwrap();
    assert_eq!(running.trim(), "quorated");
    let mut second = Command::new(bin_dir().unwrap().join("quorated"));
    second.arg("--config").arg(folder.join("node.toml"));
    let finished = deployment.network().run("d1", &mut second, SECONDS).unwrap();
    assert_eq!(finished.status.code(), Some(1));
    assert_says(&finished.stderr, &["another quorated", &format!("pid {}", pid.trim())]);
    // The first one did not notice.
    ends_with(&deployment, "d1", &["status"], 3);
}

#[test]
fn a_token_or_a_name_serves_once_and_a_member_joins_nothing_else() {
    let mut deployment = directors("lab_host_refusals_join");
    deployment.form(&["d1"], "lan").unwrap();
    let token = deployment.quorate_ok("d1", &["token", "create"]).unwrap();
    let token = token.trim();
    deployment.start("d2").unwrap();
    let wrong = ends_with(&deployment, "d2", &["join", "nonsense"], 1);
    assert_says(&wrong, &["token"]);
    deployment.quorate_ok("d2", &["join", token]).unwrap();

    // Used once, it is worth nothing.
    deployment.start("d3").unwrap();
    let used = ends_with(&deployment, "d3", &["join", token], 1);
    assert_says(&used, &["already used", "quorate token create"]);

    // A name that is taken, on a machine of its own.
    deployment.terminate("d3").unwrap();
    let path = deployment.folder_of("d3").unwrap().join("node.toml");
    let right = fs::read_to_string(&path).unwrap();
    fs::write(&path, right.replace("name = \"d3\"", "name = \"d2\"")).unwrap();
    deployment.start("d3").unwrap();
    let fresh = deployment.quorate_ok("d1", &["token", "create"]).unwrap();
    let taken = ends_with(&deployment, "d3", &["join", fresh.trim()], 1);
    assert_says(&taken, &["already has a node named d2", "change `name` in node.toml"]);

    // Under its own name it founds a cluster of its own, and nobody of the first can join that.
    deployment.terminate("d3").unwrap();
    fs::write(&path, right).unwrap();
    deployment.start("d3").unwrap();
    deployment.quorate_ok("d3", &["init", "--name", "other"]).unwrap();
    let others = deployment.quorate_ok("d3", &["token", "create"]).unwrap();
    for member in ["d1", "d2"] {
        let joined = ends_with(&deployment, member, &["join", others.trim()], 1);
        assert_says(&joined, &["already a member of cluster lab", "quorate node remove"]);
        let founded = ends_with(&deployment, member, &["init", "--name", "again"], 1);
        assert_says(&founded, &["already a member of cluster lab"]);
    }
    let status = deployment.status("d1").unwrap();
    assert_eq!(status["nodes"].as_array().unwrap().len(), 2);
    assert_eq!(deployment.status("d3").unwrap()["nodes"].as_array().unwrap().len(), 1);
}

#[test]
fn a_foreign_or_wiped_node_is_kept_out() {
    let mut deployment = three_directors("lab_host_refusals_foreign");
    deployment.apply("d1", PLAIN).unwrap();
    wait_for_owner(&deployment, "d1", "plain", "d3");
    deployment.terminate("d3").unwrap();
    let folder = deployment.folder_of("d3").unwrap().to_owned();
    let (data, aside) = (folder.join("data"), folder.join("aside"));

    // Where a member was, the node of another cluster answers: it stays a stranger.
    fs::rename(&data, &aside).unwrap();
    deployment.start("d3").unwrap();
    deployment.quorate_ok("d3", &["init", "--name", "other"]).unwrap();
    wait_for_owner(&deployment, "d1", "plain", "d2");
    for member in ["d1", "d2"] {
        let what = format!("{member} to find no d3 where d3 was");
        deployment
            .wait_for(&what, SECONDS, |deployment| {
                let status = deployment.status(member).unwrap();
                Ok(node(&status, "d3")["state"] == "unreachable"
                    && status["cluster"]["voters_reachable"] == 2)
            })
            .unwrap();
    }
    let foreign = deployment.status("d3").unwrap();
    assert_eq!(
        (&foreign["cluster"]["name"], &foreign["cluster"]["voters"]),
        (&"other".into(), &1.into())
    );
    deployment.terminate("d3").unwrap();
    fs::remove_dir_all(&data).unwrap();

    // With its own data it is a member again.
    fs::rename(&aside, &data).unwrap();
    deployment.start("d3").unwrap();
    wait_for_owner(&deployment, "d1", "plain", "d3");
    deployment.terminate("d3").unwrap();

    // It kept its identity and lost what it promised: it may not come back under its number.
    for entry in fs::read_dir(&data).unwrap().map(Result::unwrap) {
        match entry.file_name().to_str() {
            Some("identity") => {}
            _ if entry.path().is_dir() => fs::remove_dir_all(entry.path()).unwrap(),
            _ => fs::remove_file(entry.path()).unwrap(),
        }
    }
    let log = does_not_start(&mut deployment, "d3");
    let says = ["can't come back under its old number", "quorate node remove d3", "join again"];
    assert_says(&log, &says);
}

#[test]
fn a_director_that_lacks_something_says_so_and_stays_a_voter() {
    let mut deployment = directors("lab_host_refusals_kernel");
    deployment.form(&["d1", "d2"], "lan").unwrap();
    deployment.start_without("d3", "net_admin").unwrap();
    let token = deployment.quorate_ok("d1", &["token", "create"]).unwrap();
    deployment.quorate_ok("d3", &["join", token.trim()]).unwrap();
    let lacks_ipvs = !host_has_ipvs();
    let service = r#"
[group.served]
interface = "public"
addresses = ["192.168.10.181/32"]
only = ["d3"]

[service.one]
group = "served"
listen = "tcp/192.168.10.181:80"
scheduler = "rr"
forward = "DR"
real_servers = [{ address = "192.168.10.16:80" }]
"#;
    deployment.apply("d2", &format!("{PLAIN}{service}")).unwrap();

    // d3 is preferred, and may not: the next one owns the group.
    wait_for_owner(&deployment, "d1", "plain", "d2");
    deployment
        .wait_for("a reason for having no owner", SECONDS, |deployment| {
            let status = deployment.status("d1").unwrap();
            let reason = group(&status, "served")["reason"].to_string();
            Ok(reason.contains("d3: no CAP_NET_ADMIN"))
        })
        .unwrap();
    let status = deployment.status("d1").unwrap();
    assert_eq!(group(&status, "served")["owner"], Value::Null);
    assert_eq!(status["cluster"]["voters"], 3);
    assert_eq!(status["cluster"]["voters_reachable"], 3);
    let lacking = node(&status, "d3");
    assert_eq!((&lacking["state"], &lacking["raft"]), (&"ready".into(), &"follower".into()));
    assert_says(&lacking["problems"].to_string(), &["CAP_NET_ADMIN is missing"]);
    assert_says(&deployment.log("d3").unwrap(), &["CAP_NET_ADMIN is missing"]);
    // The others have it, and say what their kernel lacks.
    for other in ["d1", "d2"] {
        let problems = node(&status, other)["problems"].to_string();
        assert!(!problems.contains("CAP_NET_ADMIN is missing"), "{problems}");
        assert_eq!(problems.contains("this kernel has no ip_vs"), lacks_ipvs, "{problems}");
        let log = deployment.log(other).unwrap();
        assert_eq!(log.contains("this kernel has no ip_vs"), lacks_ipvs, "{log}");
    }
    // One that owned a group before, and lost the right since, starts and votes as well.
    deployment.terminate("d2").unwrap();
    wait_for_owner(&deployment, "d3", "plain", "d1");
    deployment.start_without("d2", "net_admin").unwrap();
    deployment
        .wait_for("three voters", SECONDS, |deployment| {
            Ok(deployment.status("d1").unwrap()["cluster"]["voters_reachable"] == 3)
        })
        .unwrap();
    // With d2 gone, d1 serves only by the votes of d3.
    deployment.kill("d2").unwrap();
    wait_for_owner(&deployment, "d3", "plain", "d1");
    assert_eq!(deployment.carriers(&["d1", "d3"], VIP).unwrap(), ["d1"]);
}

#[test]
fn without_ip_vs_only_groups_with_services_have_no_owner() {
    if host_has_ipvs() {
        println!("this kernel has ip_vs: there is nothing to lack");
        return;
    }
    let mut deployment = directors("lab_host_refusals_ipvs");
    deployment.form(&["d1"], "lan").unwrap();
    let service = r#"
[group.served]
interface = "public"
addresses = ["192.168.10.181/32"]

[service.one]
group = "served"
listen = "tcp/192.168.10.181:80"
scheduler = "rr"
forward = "DR"
real_servers = [{ address = "192.168.10.16:80" }]
"#;
    deployment.apply("d1", &format!("{PLAIN}{service}")).unwrap();
    wait_for_owner(&deployment, "d1", "plain", "d1");
    let status = deployment.status("d1").unwrap();
    let served = group(&status, "served");
    assert_eq!(served["owner"], Value::Null);
    assert_says(&served["reason"].to_string(), &["d1: the kernel has no ip_vs"]);
    let problems = node(&status, "d1")["problems"].to_string();
    assert_says(&problems, &["this kernel has no ip_vs", "modprobe ip_vs"]);
    assert!(!deployment.carries("d1", "192.168.10.181").unwrap());
    ends_with(&deployment, "d1", &["status"], 3);
}

#[test]
fn who_reaches_nobody_says_so_and_names_no_owner() {
    let mut deployment = three_directors("lab_host_refusals_alone");
    deployment.apply("d1", PLAIN).unwrap();
    wait_for_owner(&deployment, "d1", "plain", "d3");
    deployment.network().cut_silently("d3").unwrap();
    deployment
        .wait_for("d3 to know that it is alone", SECONDS, |deployment| {
            Ok(deployment.quorate("d3", &["status"])?.status.code() == Some(5))
        })
        .unwrap();
    let status = deployment.status("d3").unwrap();
    assert_eq!(group(&status, "plain")["owner"], Value::Null);
    assert_says(&group(&status, "plain")["reason"].to_string(), &["no quorum"]);
    assert_eq!(status["cluster"]["health"], "no_quorum");

    // No endpoint: each is named, with its cause.
    deployment.kill("d1").unwrap();
    let socket = deployment.folder_of("d1").unwrap().join("quorate.sock");
    let endpoints = format!("unix:{},unix:/nowhere/quorate.sock", socket.display());
    let mut asked = Command::new(bin_dir().unwrap().join("quorate"));
    asked.args(["--endpoint", &endpoints, "status"]);
    let finished = command::run(&mut asked, SECONDS).unwrap();
    assert_eq!(finished.status.code(), Some(4));
    let named = [format!("{}: ", socket.display()), "/nowhere/quorate.sock: ".to_owned()];
    assert_says(&finished.stderr, &named.each_ref().map(String::as_str));
}

#[test]
fn a_vip_that_a_dead_daemon_left_goes_before_anything_else() {
    let mut deployment = three_directors("lab_host_refusals_left");
    deployment.apply("d1", PLAIN).unwrap();
    wait_for_owner(&deployment, "d1", "plain", "d3");
    for (name, _) in DIRECTORS {
        deployment.kill(name).unwrap();
    }
    // The VIP ends by itself with its lease; here it stays, as where that failed.
    let vip: IpNet = format!("{VIP}/32").parse().unwrap();
    deployment
        .wait_for("the VIP to end with its lease", SECONDS, |d| Ok(!d.carries("d3", VIP)?))
        .unwrap();
    deployment.network().add_address("d3", INTERFACE, &vip).unwrap();
    let before = deployment.log("d3").unwrap().len();
    // Alone, it can own nothing: what is not removed at its start would stay.
    deployment.start("d3").unwrap();
    assert!(!deployment.carries("d3", VIP).unwrap());
    let log = deployment.log("d3").unwrap().split_off(before);
    let removed = log.find("removed a VIP of a former daemon");
    let member = log.find("member of the cluster");
    assert!(removed.is_some() && removed < member, "{log}");
}
