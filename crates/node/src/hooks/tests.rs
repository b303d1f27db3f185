//! Which hooks run, in which order, and within which bounds.

use std::fs;
use std::path::Path;

use quorate_model::id::GroupName;
use quorate_model::spec::{Format, parse};
use rustix::process::getuid;
use tempfile::TempDir;

use super::*;
use crate::journal::Journal;

/// A director's hooks in a folder that whoever runs them may write.
struct Place {
    folder: TempDir,
    teller: Teller,
    journal: Journal,
    state: watch::Sender<Arc<ClusterState>>,
    hooks: Hooks,
}

/// The user of this process, by number: a test need not be root, and root would run it as nobody.
fn me() -> String {
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let uid = getuid().as_raw().to_string();
    let of_me = |line: &&str| line.split(':').nth(2) == Some(uid.as_str());
    users.lines().find(of_me).unwrap().split(':').next().unwrap().to_owned()
}

fn configured(hooks: &str) -> Arc<ClusterState> {
    let source =
        format!("group.web = {{ interface = \"x\", addresses = [\"192.0.2.80\"] }}\n{hooks}");
    let spec = Arc::new(parse(&source, Format::Toml).unwrap());
    Arc::new(ClusterState { spec, ..ClusterState::default() })
}

impl Place {
    /// With these hooks; `FOLDER` stands for the folder.
    fn with(hooks: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (journal, teller) = Journal::start("lb1");
        let text = hooks.replace("FOLDER", folder.path().to_str().unwrap());
        let (state, receiver) = watch::channel(configured(&text));
        let hooks = Hooks::start(journal.reader(), receiver, teller.clone());
        Self { folder, teller, journal, state, hooks }
    }

    fn configure(&self, hooks: &str) {
        let text = hooks.replace("FOLDER", self.path().to_str().unwrap());
        self.state.send_replace(configured(&text));
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn tell(&self, reason: &str, mine: bool) {
        let group: GroupName = "web".parse().unwrap();
        let mut occurrence = Occurrence::of_group(
            Kind::GroupUp,
            &ClusterState::default(),
            &group,
            reason.to_owned(),
        );
        occurrence.owner = Some("lb1".to_owned());
        self.teller.tell([Told { occurrence, mine }]);
    }

    fn lines(&self, file: &str) -> Vec<String> {
        let text = fs::read_to_string(self.path().join(file)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

fn hook(name: &str, script: &str, lines: &str) -> String {
    format!(
        "[hook.{name}]\non = \"group_up\"\nuser = \"{}\"\ncommand = [\"/bin/sh\", \"-c\", '''{script}''']\n\
         {lines}\n",
        me()
    )
}

const NOTE: &str = "echo \"$QUORATE_REASON\" >> FOLDER/log";

#[tokio::test]
async fn a_hook_runs_for_each_event_of_its_kind_in_order_and_is_told_what_happened() {
    let script = "cat >> FOLDER/json; env | grep ^QUORATE_ | sort > FOLDER/env; \
                  echo \"$QUORATE_REASON\" >> FOLDER/log";
    let place = Place::with(&hook("h", script, ""));
    (1..=5).for_each(|n| place.tell(&format!("r{n}"), true));
    place.hooks.settle().await;
    assert_eq!(place.lines("log"), ["r1", "r2", "r3", "r4", "r5"]);
    let env = place.lines("env");
    let named: Vec<&str> = env.iter().filter_map(|line| line.split('=').next()).collect();
    let mut known: Vec<&str> =
        variables(&Event::default()).into_iter().map(|(name, _)| name).collect();
    known.sort_unstable();
    assert_eq!(named, known, "all of them, whatever they concern");
    for line in
        ["QUORATE_EVENT=group_up", "QUORATE_GROUP=web", "QUORATE_OWNER=lb1", "QUORATE_SERVICE="]
    {
        assert!(env.contains(&line.to_owned()), "{line} is missing: {env:#?}");
    }
    let last = place.lines("json").pop().unwrap();
    let entry = place.journal.reader().take(64).entries[4].clone();
    assert_eq!(last, json_line(&entry.event).unwrap());
}

#[tokio::test]
async fn only_the_one_to_act_runs_an_owners_hook_and_each_one_that_is_for_all() {
    let all = hook("all", "echo \"$QUORATE_REASON\" >> FOLDER/all", "run_on = \"all\"");
    let place = Place::with(&(hook("owner", NOTE, "") + &all));
    place.tell("mine", true);
    place.tell("another's", false);
    place.hooks.settle().await;
    assert_eq!(place.lines("log"), ["mine"]);
    assert_eq!(place.lines("all"), ["mine", "another's"]);
}

#[tokio::test]
async fn another_configuration_runs_nothing_again_and_the_next_event_runs_the_new_hook() {
    let place = Place::with(&hook("h", NOTE, ""));
    place.tell("a", true);
    place.hooks.settle().await;
    let other = hook("h", "echo \"new $QUORATE_REASON\" >> FOLDER/log", "");
    place.configure(&(other + &hook("more", "echo more >> FOLDER/log", "groups = \"web\"")));
    place.hooks.settle().await;
    assert_eq!(place.lines("log"), ["a"]);
    place.configure(&hook("h", "echo \"new $QUORATE_REASON\" >> FOLDER/log", ""));
    place.tell("b", true);
    place.hooks.settle().await;
    assert_eq!(place.lines("log"), ["a", "new b"]);
    place.configure("");
    place.tell("c", true);
    place.hooks.settle().await;
    assert_eq!(place.lines("log"), ["a", "new b"]);
}

/// Waits until it is: the signal was sent, and takes effect when the process runs next.
async fn is_dead(process: &str) {
    let path = format!("/proc/{process}/stat");
    while fs::read_to_string(&path).is_ok_and(|stat| !stat.contains(") Z")) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_hook_past_its_time_is_killed_with_its_children_and_the_next_run_begins() {
    // The second time it ends at once.
    let script = "test -e FOLDER/pid && exec touch FOLDER/second; sleep 3600 & echo $! > FOLDER/new; \
                  mv FOLDER/new FOLDER/pid; wait";
    let place = Place::with(&hook("slow", script, "timeout = \"2s\""));
    place.tell("a", true);
    place.hooks.settle().await;
    let problems = place.hooks.problems();
    assert_eq!(problems.len(), 1);
    assert!(problems[0].starts_with("hook slow failed: it was not over within 2s"), "{problems:?}");
    is_dead(place.lines("pid").first().unwrap()).await;
    place.tell("b", true);
    place.hooks.settle().await;
    assert!(place.path().join("second").exists());
    assert_eq!(place.hooks.problems(), <[String; 0]>::default());
}

#[tokio::test]
async fn a_hook_that_fails_is_an_event_that_runs_no_hook() {
    let place = Place::with(&hook("bad", "echo x >> FOLDER/log; exit 3", "run_on = \"all\""));
    place.tell("a", true);
    place.hooks.settle().await;
    place.teller.flush().await.unwrap();
    place.hooks.settle().await;
    let taken = place.journal.reader().take(64);
    let failed = &taken.entries[1].event;
    assert_eq!((failed.kind.as_str(), failed.subject.as_deref()), ("hook_failed", Some("bad")));
    assert!(failed.reason.ends_with("it ended with 3"), "{failed:?}");
    assert_eq!((taken.entries.len(), place.lines("log").len()), (2, 1));
    assert_eq!(place.hooks.problems(), ["hook bad failed: it ended with 3"]);
}

#[tokio::test]
async fn of_more_runs_than_may_wait_the_oldest_is_dropped_and_that_is_said() {
    // It holds its first run up until it is let go.
    let script =
        "while ! test -e FOLDER/go; do sleep 0.01; done; echo \"$QUORATE_REASON\" >> FOLDER/log";
    let place = Place::with(&hook("h", script, "timeout = \"60s\""));
    place.tell("first", true);
    // Until that run is under way.
    let running = || {
        let runners = place.hooks.with(|runners| runners.values().cloned().collect::<Vec<_>>());
        runners.iter().any(|runner| runner.with(|state| state.running))
    };
    while !running() {
        tokio::task::yield_now().await;
    }
    (0..PENDING_MAX + 3).for_each(|n| place.tell(&n.to_string(), true));
    let told = place.teller.flush().await.unwrap();
    let mut attended = place.hooks.attended.clone();
    attended.wait_for(|at| *at >= told).await.unwrap();
    assert_eq!(
        place.hooks.problems(),
        [format!("hook h: 3 runs were dropped, the oldest first: at most {PENDING_MAX} wait")]
    );
    fs::write(place.path().join("go"), "").unwrap();
    place.hooks.settle().await;
    let log = place.lines("log");
    assert_eq!((log.len(), log[0].as_str(), log[1].as_str()), (PENDING_MAX + 1, "first", "3"));
}

#[tokio::test]
async fn so_many_hooks_run_at_once_and_no_more() {
    let script = "echo x >> FOLDER/began; while ! test -e FOLDER/go; do sleep 0.01; done";
    let hooks: String =
        (0..RUNNING_MAX + 2).map(|n| hook(&format!("h{n}"), script, "timeout = \"60s\"")).collect();
    let place = Place::with(&hooks);
    place.tell("a", true);
    while place.lines("began").len() < RUNNING_MAX {
        tokio::task::yield_now().await;
    }
    let running = place.hooks.with(|runners| {
        runners.values().filter(|runner| runner.with(|state| state.running)).count()
    });
    assert_eq!(running, RUNNING_MAX);
    fs::write(place.path().join("go"), "").unwrap();
    place.hooks.settle().await;
    assert_eq!(place.lines("began").len(), RUNNING_MAX + 2);
}
