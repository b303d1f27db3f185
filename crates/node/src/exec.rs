//! Running a program of a track or check: as a user of its own, by no shell, with a time limit, killed with
//! all its children, its output thrown away, one run at a time.

use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use quorate_model::silence;
use rustix::process::{Pid, Signal, getuid, kill_process_group};
use rustix::thread::clear_ambient_capability_set;
use tokio::task::{JoinError, JoinHandle};

use crate::patience::{Over, within};

/// Where a program finds others: what systemd gives its units.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const USERS: &str = "/etc/passwd";
/// Who runs a program for a daemon that is root, unless somebody is named.
const NOBODY: &str = "nobody";
const STOPPING: &str = "the daemon is stopping";
/// How long a killed program may take to be gone; past it, it hangs in the kernel.
const KILL_LIMIT: Duration = Duration::from_secs(1);

/// Longest input: what even the smallest pipe takes at once (pipe(7)).
pub(crate) const INPUT_BYTES_MAX: usize = 4_096;

/// Variables and input of a program.
type Given = (Vec<(&'static str, String)>, Option<String>);

/// Runs one program again and again.
#[derive(Debug)]
pub(crate) struct Exec {
    command: Vec<String>,
    user: Option<String>,
    variables: Vec<(&'static str, String)>,
    /// What it reads; at most what a pipe takes at once.
    input: Option<String>,
    /// A start under way: it reads the program's file, and may hang in the kernel.
    starting: Option<JoinHandle<Result<Running, String>>>,
    running: Option<Running>,
}

/// Why a program did not end by itself.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unended {
    /// It did not even start.
    Unstarted(String),
    /// It took too long, and was killed.
    Killed(String),
    /// So it was, but this daemon was too late to tell whether it took too long.
    Late(String),
}

impl Unended {
    fn into_reason(self) -> String {
        match self {
            Self::Unstarted(reason) | Self::Killed(reason) | Self::Late(reason) => reason,
        }
    }
}

/// A run under way; killed when dropped.
#[derive(Debug)]
struct Running {
    /// Its process group, which it leads.
    group: Option<Pid>,
    /// A thread that waits for it, so that no dead process is left standing there.
    ended: JoinHandle<io::Result<ExitStatus>>,
}

impl Exec {
    pub(crate) fn new(command: Vec<String>, user: Option<String>) -> Self {
        Self { command, user, variables: Vec::new(), input: None, starting: None, running: None }
    }

    /// The same with these in its environment.
    pub(crate) fn with(mut self, variables: Vec<(&'static str, String)>) -> Self {
        self.variables = variables;
        self
    }

    /// The same with this on its standard input: at most [`INPUT_BYTES_MAX`].
    pub(crate) fn reading(mut self, input: String) -> Self {
        self.input = Some(input);
        self
    }

    /// Runs it once, for its exit status to be 0.
    pub(crate) async fn run(&mut self, timeout: Duration) -> Result<(), String> {
        judge(self.end(timeout).await.map_err(Unended::into_reason)?)
    }

    /// Runs it once, to its end.
    pub(crate) async fn end(&mut self, timeout: Duration) -> Result<ExitStatus, Unended> {
        if self.running.take_if(|running| running.ended.is_finished()).is_none()
            && self.running.is_some()
        {
            let reason = "its last run was killed, and hangs in the kernel";
            return Err(Unended::Killed(reason.to_owned()));
        }
        if self.starting.take_if(|starting| starting.is_finished()).is_none()
            && self.starting.is_some()
        {
            let reason = "its last start hangs in the kernel";
            return Err(Unended::Unstarted(reason.to_owned()));
        }
        let given = (self.variables.clone(), self.input.clone());
        let starting = self.starting.insert(start(&self.command, self.user.clone(), given));
        let Ok(started) = tokio::time::timeout(timeout, starting).await else {
            let reason = format!("it was not started within {timeout:?}");
            return Err(Unended::Unstarted(reason));
        };
        self.starting = None;
        let started = started.unwrap_or_else(|_| Err(STOPPING.to_owned()));
        let running = self.running.insert(started.map_err(Unended::Unstarted)?);
        let over = match within(timeout, &mut running.ended).await {
            Ok(ended) => {
                // Dropped: what it left running would pile up, run by run.
                self.running = None;
                return waited(ended).map_err(Unended::Unstarted);
            }
            Err(over) => over,
        };
        running.kill();
        if tokio::time::timeout(KILL_LIMIT, &mut running.ended).await.is_ok() {
            self.running = None;
        }
        Err(match over {
            Over::Silent => {
                Unended::Killed(format!("it was not over within {timeout:?}, and was killed"))
            }
            Over::Late(late) => Unended::Late(silence::explained(late)),
        })
    }
}

impl Running {
    /// Kills it and all of its process group. While a member lives, the kernel gives the group's
    /// number to nobody else (`free_pid`); with none left, there is nobody to hit.
    fn kill(&self) {
        if let Some(group) = self.group {
            let _gone_already = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Starts a program, on a thread of its own. Should nobody wait for it any more by then, it is killed
/// as it is dropped.
fn start(
    command: &[String],
    user: Option<String>,
    given: Given,
) -> JoinHandle<Result<Running, String>> {
    let words = command.to_vec();
    tokio::task::spawn_blocking(move || {
        let mut child = spawn(&words, user.as_deref(), given)?;
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        Ok(Running { group, ended: tokio::task::spawn_blocking(move || child.wait()) })
    })
}

fn spawn(
    command: &[String],
    user: Option<&str>,
    (variables, input): Given,
) -> Result<Child, String> {
    let [program, arguments @ ..] = command else { return Err("it has no command".to_owned()) };
    let user = user.or(getuid().is_root().then_some(NOBODY));
    let other = match user {
        Some(name) => Some(look_up(name)?).filter(|(uid, _)| *uid != getuid().as_raw()),
        None => None,
    };
    // What systemd gave the daemon is not for its tracks. It is this thread's, and only counts
    // when a program is started.
    let _none_to_give_away = clear_ambient_capability_set();
    let mut run = Command::new(OsStr::new(program));
    run.args(arguments).env_clear().env("PATH", PATH).envs(variables).current_dir("/");
    run.stdin(stdin(input)?).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    if let Some((uid, gid)) = other {
        // The standard library drops the supplementary groups when it sets the user.
        run.uid(uid).gid(gid);
    }
    run.spawn().map_err(|error| match (error.kind(), user) {
        (io::ErrorKind::PermissionDenied, Some(user)) if other.is_some() => format!(
            "{program} can't be run as {user}: {error}; the daemon needs CAP_SETUID and \
             CAP_SETGID for it, and {user} the right to run it"
        ),
        _ => format!("{program} can't be run: {error}"),
    })
}

/// A pipe that holds the input already, so that nobody has to wait for the program to read it.
fn stdin(input: Option<String>) -> Result<Stdio, String> {
    let Some(input) = input else { return Ok(Stdio::null()) };
    if input.len() > INPUT_BYTES_MAX {
        return Err(format!("more than {INPUT_BYTES_MAX} bytes can't be given to it to read"));
    }
    let piped = io::pipe().and_then(|(reader, mut writer)| {
        writer.write_all(input.as_bytes())?;
        Ok(reader)
    });
    piped.map(Stdio::from).map_err(|error| format!("no pipe for what it reads: {error}"))
}

fn look_up(user: &str) -> Result<(u32, u32), String> {
    let users = std::fs::read_to_string(USERS)
        .map_err(|error| format!("{USERS} can't be read: {error}"))?;
    find(&users, user).ok_or_else(|| format!("there is no user {user} in {USERS}"))
}

/// User and group of a name in a passwd(5).
fn find(users: &str, name: &str) -> Option<(u32, u32)> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let found = fields.next() == Some(name);
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        found.then_some((uid, gid))
    })
}

fn waited(ended: Result<io::Result<ExitStatus>, JoinError>) -> Result<ExitStatus, String> {
    ended
        .map_err(|_| STOPPING.to_owned())?
        .map_err(|error| format!("it can't be waited for: {error}"))
}

fn judge(status: ExitStatus) -> Result<(), String> {
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => Err(format!("it ended with {code}")),
        (None, Some(signal)) => Err(format!("signal {signal} ended it")),
        (None, None) => Err("it ended in an unknown way".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn me() -> String {
        let users = std::fs::read_to_string(USERS).unwrap();
        let uid = getuid().as_raw();
        let of =
            |line: &&str| find(line, line.split(':').next().unwrap()).map(|f| f.0) == Some(uid);
        users.lines().find(of).unwrap().split(':').next().unwrap().to_owned()
    }

    fn shell(script: &str) -> Exec {
        let words = ["/bin/sh", "-c", script];
        Exec::new(words.map(str::to_owned).to_vec(), Some(me()))
    }

    #[test]
    fn a_user_is_found_by_its_whole_name() {
        let users = "root:x:0:0:root:/root:/bin/bash\n\nnobody:x:65534:65533:n:/:/bin/false\n";
        assert_eq!(find(users, "nobody"), Some((65534, 65533)));
        assert_eq!(find(users, "nobod"), None);
        assert_eq!(find(users, ""), None);
    }

    #[tokio::test]
    async fn zero_passes_and_everything_else_says_how_it_ended() {
        assert_eq!(shell("exit 0").run(LONG).await, Ok(()));
        assert_eq!(shell("exit 3").run(LONG).await, Err("it ended with 3".to_owned()));
        assert_eq!(shell("kill -9 $$").run(LONG).await, Err("signal 9 ended it".to_owned()));
        let missing = Exec::new(vec!["/no/such/program".to_owned()], None).run(LONG).await;
        assert!(missing.unwrap_err().starts_with("/no/such/program can't be run: No such file"));
        let nobody = Exec::new(vec!["/bin/true".to_owned()], Some("no-such-user".to_owned()));
        let mut nobody = nobody;
        let reason = nobody.run(LONG).await.unwrap_err();
        assert_eq!(reason, "there is no user no-such-user in /etc/passwd");
    }

    #[tokio::test]
    async fn no_shell_takes_the_words_apart_and_the_environment_is_empty() {
        let words = ["/usr/bin/test", "$HOME;exit 1", "=", "$HOME;exit 1"].map(str::to_owned);
        assert_eq!(Exec::new(words.to_vec(), None).run(LONG).await, Ok(()));
        let clean = shell("test -z \"$CARGO_PKG_NAME\" && test \"$(pwd)\" = / && test ! -t 0");
        let mut clean = clean;
        assert_eq!(clean.run(LONG).await, Ok(()));
    }

    /// Waits until it is: the signal was sent, and takes effect when the process runs next.
    async fn is_dead(process: Pid) {
        let path = format!("/proc/{process}/stat");
        while std::fs::read_to_string(&path).is_ok_and(|stat| !stat.contains(") Z")) {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_run_past_its_time_is_killed_with_its_children_and_the_next_one_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let pid = folder.path().join("pid");
        let script = format!("sleep 3600 & echo $! > {}; wait", pid.display());
        let mut exec = shell(&script);
        // Long enough for it to have written its child's number, however busy the machine.
        let mut timeout = Duration::from_millis(200);
        let child = loop {
            let reason = exec.run(timeout).await.unwrap_err();
            assert_eq!(reason, format!("it was not over within {timeout:?}, and was killed"));
            assert!(exec.running.is_none(), "it is gone, and the next may begin");
            if let Ok(child) = std::fs::read_to_string(&pid).unwrap_or_default().trim().parse() {
                break Pid::from_raw(child).unwrap();
            }
            timeout *= 2;
        };
        is_dead(child).await;
    }

    #[tokio::test]
    async fn what_a_finished_run_left_running_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let pid = folder.path().join("pid");
        let script = format!("sleep 3600 & echo $! > {}", pid.display());
        assert_eq!(shell(&script).run(LONG).await, Ok(()));
        let child = std::fs::read_to_string(&pid).unwrap();
        is_dead(Pid::from_raw(child.trim().parse().unwrap()).unwrap()).await;
    }

    #[tokio::test]
    async fn root_runs_it_as_nobody_or_whom_it_names_without_further_groups() {
        if !getuid().is_root() {
            return;
        }
        let words = ["/bin/sh", "-c", "test \"$(id -un) $(id -G)\" = \"nobody $(id -g nobody)\""];
        for user in [None, Some("nobody".to_owned())] {
            let mut exec = Exec::new(words.map(str::to_owned).to_vec(), user);
            assert_eq!(exec.run(LONG).await, Ok(()));
        }
    }
}
