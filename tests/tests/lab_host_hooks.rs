//! Hooks, the FIFO and `quorate events` on three directors with the real daemon: who runs what, how
//! often, and what it is told. Needs root. Run by `cargo xtask test`.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that can't go on ends")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use quorate_tests::lab::bin_dir;
use quorate_tests::lab::deployment::Deployment;
use serde_json::Value;

const DIRECTORS: [&str; 3] = ["d1", "d2", "d3"];
const LIMIT: Duration = Duration::from_secs(60);
/// What a hook's program is told, each in a line: the hook, who runs it, and the variables that are the
/// same on every director.
const SCRIPT: &str = "read -r line; echo \"$1 $QUORATE_NODE $QUORATE_EVENT $QUORATE_GROUP,$QUORATE_SERVICE,\
$QUORATE_REAL_SERVER,$QUORATE_OWNER,$QUORATE_PREVIOUS_OWNER,$QUORATE_EPOCH\" >> \"$0\"; \
echo \"$line\" >> \"$0.json\"";

/// The lines of a file.
fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// Who ran a hook for a kind of event, and what they were told, after a line that is in the file.
fn runs(all: &[String], hook: &str, kind: &str) -> Vec<(String, String)> {
    let split = |line: &String| {
        let words: Vec<String> = line.splitn(4, ' ').map(str::to_owned).collect();
        let [name, node, event, what] = <[String; 4]>::try_from(words).unwrap();
        (name == hook && event == kind).then_some((node, what))
    };
    all.iter().filter_map(split).collect()
}

fn wait_for(deployment: &Deployment, what: &str, mut so: impl FnMut() -> bool) {
    deployment.wait_for(what, LIMIT, |_| Ok(so())).unwrap();
}

fn hook(name: &str, log: &Path, on: &str, run_on: &str) -> String {
    format!(
        "[hook.{name}]\non = {on}\nrun_on = \"{run_on}\"\nuser = \"nobody\"\n\
         command = [\"/bin/sh\", \"-c\", '{SCRIPT}', \"{}\", \"{name}\"]\n",
        log.display()
    )
}

/// A kernel without ip_vs can't come to own a group with services; one that owns it keeps it while the
/// cluster is paused.
const SERVICE: &str = "[service.web]\ngroup = \"web\"\nlisten = \"tcp/192.168.10.180:80\"\n\
    forward = \"NAT\"\nreal_servers = [{ address = \"192.168.10.16:8001\" }]\n\
    check = { type = \"tcp\", interval = \"200ms\", timeout = \"500ms\", retry = 0 }\n";

fn configuration(log: &Path) -> String {
    let mut configuration = String::from(
        "[group.web]\ninterface = \"public\"\naddresses = [\"192.168.10.180/32\"]\n\
         prefer = [\"d1\", \"d2\", \"d3\"]\npreempt = false\n",
    );
    let kinds = "[\"owner_changed\", \"group_up\", \"real_server_up\", \"real_server_down\", \
                 \"quorum_up\", \"quorum_down\"]";
    configuration += &hook("owner", log, kinds, "owner");
    configuration += &hook("all", log, kinds, "all");
    configuration
}

/// Events of a node as they come.
struct Followed {
    child: std::process::Child,
    lines: mpsc::Receiver<Value>,
}

impl Followed {
    fn of(deployment: &Deployment, node: &str) -> Self {
        let socket = deployment.folder_of(node).unwrap().join("quorate.sock");
        let mut child = Command::new(bin_dir().unwrap().join("quorate"))
            .arg("--socket")
            .arg(socket)
            .args(["events", "-f", "--since", "1h", "-o", "json"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::sync_channel(1_000);
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(serde_json::from_str(&line).unwrap()).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    fn wait_for(&self, kind: &str, so: impl Fn(&Value) -> bool) -> Value {
        loop {
            let event = self.lines.recv_timeout(LIMIT).unwrap();
            if event["event"] == kind && so(&event) {
                return event;
            }
        }
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// That the real server is down: d1 ran the owner's hook, each director the other, told the same.
fn assert_owner_alone_acted(all: &[String]) {
    for kind in ["real_server_down", "quorum_down"] {
        let by_owner = runs(all, "owner", kind);
        assert_eq!(by_owner.iter().map(|(node, _)| node.as_str()).collect::<Vec<_>>(), ["d1"]);
        let by_all: BTreeMap<String, String> = runs(all, "all", kind).into_iter().collect();
        assert_eq!(by_all.keys().collect::<Vec<_>>(), DIRECTORS.iter().collect::<Vec<_>>());
        assert!(by_all.values().all(|told| *told == by_owner[0].1), "{by_all:#?}");
    }
}

#[test]
fn only_the_owner_runs_a_hook_once_and_all_are_told_the_same() {
    let mut deployment = Deployment::of_three("lab_host_hooks", "lan", 1).unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let log = folder.path().join("log");
    deployment.serve_pages("rs1", 8001, "page").unwrap();
    let text = configuration(&log);
    deployment.apply("d1", &text).unwrap();

    // The first owner: told by all, acted on by itself.
    wait_for(&deployment, "d1 serves, and each has told it", || {
        let all = lines(&log);
        runs(&all, "owner", "group_up").len() == 1 && runs(&all, "all", "owner_changed").len() == 3
    });
    let all = lines(&log);
    assert_eq!(runs(&all, "owner", "owner_changed").len(), 1, "{all:#?}");
    assert_eq!(runs(&all, "owner", "owner_changed")[0].0, "d1");
    let followed = Followed::of(&deployment, "d2");
    followed.wait_for("owner_changed", |event| event["owner"] == "d1");

    // The real server dies: each director finds that out, the owner alone acts.
    deployment.quorate_ok("d1", &["pause"]).unwrap();
    deployment.apply("d1", &(text.clone() + SERVICE)).unwrap();
    wait_for(&deployment, "each director knows that the real server is up", || {
        DIRECTORS.iter().all(|director| {
            let told = deployment.quorate(director, &["services", "-o", "json"]).unwrap();
            let told: Value = serde_json::from_str(&told.stdout).unwrap_or_default();
            told["services"][0]["real_servers"][0]["state"] == "up"
        })
    });
    deployment.stop_pages("rs1").unwrap();
    wait_for(&deployment, "each director knows that the real server is down", || {
        let all = lines(&log);
        runs(&all, "all", "real_server_down").len() == 3
            && runs(&all, "all", "quorum_down").len() == 3
            && runs(&all, "owner", "quorum_down").len() == 1
    });
    let down = followed.wait_for("real_server_down", |event| event["service"] == "web");
    assert_eq!(
        (down["real_server"].as_str(), down["node"].as_str()),
        (Some("192.168.10.16:8001"), Some("d2"))
    );
    assert!(down["reason"].as_str().unwrap().starts_with("connection refused"), "{down}");
    let all = lines(&log);
    assert_eq!(runs(&all, "all", "real_server_up"), [], "what is new and up is no news");
    assert_owner_alone_acted(&all);

    // The same configuration with another hook runs nothing again, and neither does a restart.
    let before = lines(&log).len();
    deployment.apply("d1", &(text + &hook("more", &log, "\"cluster_paused\"", "all"))).unwrap();
    deployment.quorate_ok("d1", &["resume"]).unwrap();
    deployment.terminate("d3").unwrap();
    deployment.start("d3").unwrap();
    deployment.quorate_ok("d1", &["status", "--wait=60s"]).unwrap();
    deployment.quorate_ok("d1", &["pause"]).unwrap();
    wait_for(&deployment, "each director was told of the pause", || {
        runs(&lines(&log), "more", "cluster_paused").len() == 3
    });
    deployment.quorate_ok("d1", &["resume"]).unwrap();
    let since = lines(&log).split_off(before);
    assert_eq!(since.len(), 3, "{since:#?}");

    // The owner is killed: its successor acts, once.
    deployment.kill("d1").unwrap();
    wait_for(&deployment, "d2 serves, and the others have told it", || {
        let since = lines(&log).split_off(before);
        runs(&since, "owner", "group_up").len() == 1
            && runs(&since, "all", "owner_changed").len() == 2
    });
    let since = lines(&log).split_off(before);
    let moved = runs(&since, "owner", "owner_changed");
    assert_eq!(moved.len(), 1, "{since:#?}");
    assert_eq!(moved[0].0, "d2");
    assert!(moved[0].1.starts_with("web,,,d2,d1,"), "{moved:?}");
    let all: BTreeMap<_, _> = runs(&since, "all", "owner_changed").into_iter().collect();
    assert_eq!(all.keys().collect::<Vec<_>>(), ["d2", "d3"]);
    assert!(all.values().all(|told| *told == moved[0].1), "{all:#?}");
    assert_eq!(runs(&since, "owner", "real_server_down"), [], "it was down before");
    followed.wait_for("group_up", |event| event["node"] == "d2" && event["owner"] == "d2");
    // What a hook reads is what the stream says.
    let read: Vec<Value> = lines(&log.with_extension("json"))
        .iter()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    assert!(
        read.iter().any(|e| e["event"] == "owner_changed" && e["previous_owner"] == "d1"),
        "{read:#?}"
    );
}

/// A FIFO that a test reads as far as it was written.
struct Fifo {
    file: fs::File,
    text: String,
}

impl Fifo {
    /// Whoever opens it so waits for no writer, and is a reader from now on.
    fn open(path: &Path) -> Self {
        let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let file = fs::OpenOptions::new().read(true).custom_flags(flags).open(path).unwrap();
        Self { file, text: String::new() }
    }

    fn events(&mut self) -> Vec<Value> {
        let mut bytes = Vec::new();
        // With nothing in it, it is at its end, or would have to wait.
        let _ = self.file.read_to_end(&mut bytes);
        self.text += std::str::from_utf8(&bytes).unwrap();
        let whole = self.text.rfind('\n').map_or("", |end| &self.text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

#[test]
fn the_fifo_says_what_events_say_and_a_restart_leaves_an_unknown_number_behind() {
    let mut deployment = Deployment::of_three("lab_host_hooks_fifo", "lan", 1).unwrap();
    let before = Followed::of(&deployment, "d3");
    deployment.quorate_ok("d1", &["pause"]).unwrap();
    let paused = before.wait_for("cluster_paused", |event| event["node"] == "d3");
    deployment.quorate_ok("d1", &["resume"]).unwrap();
    drop(before);

    let folder = deployment.folder_of("d3").unwrap().to_owned();
    let (config, path) = (folder.join("node.toml"), folder.join("events"));
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("events_fifo = {path:?}\n{text}")).unwrap();
    deployment.terminate("d3").unwrap();
    deployment.start("d3").unwrap();
    deployment.quorate_ok("d3", &["status", "--wait=60s"]).unwrap();
    // Who goes on where the daemon before was is told that there is a gap, and no number.
    let after = paused["sequence"].to_string();
    let told = deployment.quorate_ok("d3", &["events", "--after", &after, "-o", "json"]).unwrap();
    let first: Value = serde_json::from_str(told.lines().next().unwrap()).unwrap();
    assert_eq!((first["event"].as_str(), &first["lost"]), (Some("events_lost"), &Value::Null));
    assert!(
        first["reason"].as_str().unwrap().starts_with("the daemon was started again"),
        "{first}"
    );

    let mut fifo = Fifo::open(&path);
    let followed = Followed::of(&deployment, "d3");
    deployment.quorate_ok("d1", &["pause"]).unwrap();
    let again = followed.wait_for("cluster_paused", |event| event["node"] == "d3");
    wait_for(&deployment, "the FIFO says the same", || fifo.events().contains(&again));
    let kinds = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert!(kinds == 0o640 || kinds == 0o600, "{kinds:o}");
    // Without a reader nothing waits, and the next one is told what it missed.
    drop(fifo);
    deployment.quorate_ok("d1", &["resume"]).unwrap();
    followed.wait_for("cluster_resumed", |event| event["node"] == "d3");
    let mut fifo = Fifo::open(&path);
    deployment.quorate_ok("d1", &["pause"]).unwrap();
    let third = followed.wait_for("cluster_paused", |event| event["sequence"] != again["sequence"]);
    let mut events = Vec::new();
    wait_for(&deployment, "the FIFO goes on", || {
        events = fifo.events();
        events.contains(&third)
    });
    assert_eq!(events[0]["event"], "events_lost", "{events:#?}");
    assert!(events[0]["lost"].as_u64().is_some_and(|lost| lost >= 1), "{events:#?}");
    assert!(!events.iter().any(|event| event["event"] == "cluster_resumed"), "{events:#?}");
}
