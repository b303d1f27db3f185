//! Looking at files and processes. A file system may hang, so each look is on a thread of its own,
//! and no second one is begun while the first has not come back.

use std::fs;
use std::io;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use quorate_model::spec::FileRule;
use tokio::task::JoinHandle;

/// Longest file that can be equal to a track's content, and then some.
const CONTENT_BYTES_MAX: u64 = 8_192;
/// Longest name that /proc/PID/comm holds (TASK_COMM_LEN - 1, include/linux/sched.h).
const COMM_BYTES_MAX: usize = 15;
/// What is read of /proc/PID/cmdline.
const COMMAND_BYTES_MAX: u64 = 4_096;

#[derive(Debug, Clone)]
enum What {
    Process(String),
    File(String, FileRule),
}

/// Looks at one thing.
#[derive(Debug)]
pub(super) struct Look {
    what: What,
    under_way: Option<JoinHandle<Result<(), String>>>,
}

impl Look {
    pub(super) fn process(name: String) -> Self {
        Self { what: What::Process(name), under_way: None }
    }

    pub(super) fn file(path: String, rule: FileRule) -> Self {
        Self { what: What::File(path, rule), under_way: None }
    }

    /// Looks once.
    pub(super) async fn look(&mut self, timeout: Duration) -> Result<(), String> {
        let what = self.what.clone();
        let look = self.under_way.get_or_insert_with(|| {
            tokio::task::spawn_blocking(move || match what {
                What::Process(name) => process(Path::new("/proc"), &name),
                What::File(path, rule) => file(Path::new(&path), &rule),
            })
        });
        let outcome = match tokio::time::timeout(timeout, look).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err("the daemon is stopping".to_owned()),
            Err(_) => return Err(format!("no answer from the kernel within {timeout:?}")),
        };
        self.under_way = None;
        outcome
    }
}

fn file(path: &Path, rule: &FileRule) -> Result<(), String> {
    let shown = path.display();
    let found = match fs::symlink_metadata(path) {
        Ok(_) => true,
        Err(error) if is_absent(&error) => false,
        Err(error) => return Err(format!("{shown} can't be looked at: {error}")),
    };
    match (rule, found) {
        (FileRule::Exists, true) | (FileRule::Absent, false) => Ok(()),
        (FileRule::Absent, true) => Err(format!("{shown} is there")),
        (FileRule::Exists | FileRule::Says(_), false) => Err(format!("{shown} is not there")),
        (FileRule::Says(wanted), true) => {
            let said = content(path).map_err(|why| format!("{shown} can't be read: {why}"))?;
            let said = String::from_utf8_lossy(&said);
            if said.trim() == wanted {
                return Ok(());
            }
            let shortened: String = said.trim().chars().take(60).collect();
            Err(format!("{shown} says {shortened:?}, not {wanted:?}"))
        }
    }
}

/// ENOTDIR too: where a part of the path is a file, what it names is not there.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// A named pipe would keep the reader waiting, and a device may do anything.
fn content(path: &Path) -> Result<Vec<u8>, String> {
    let text = |error: io::Error| error.to_string();
    if !fs::metadata(path).map_err(text)?.is_file() {
        return Err("it is no file".to_owned());
    }
    read(path, CONTENT_BYTES_MAX).map_err(text)
}

fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    fs::File::open(path)?.take(most).read_to_end(&mut content)?;
    Ok(content)
}

fn process(proc: &Path, name: &str) -> Result<(), String> {
    let entries = fs::read_dir(proc).map_err(|error| format!("/proc can't be read: {error}"))?;
    for entry in entries.flatten() {
        let is_process = entry.file_name().to_str().is_some_and(|n| n.parse::<u32>().is_ok());
        // What has gone since the list was read is not running.
        if is_process && is_named(&entry.path(), name) && !is_dead(&entry.path()) {
            return Ok(());
        }
    }
    Err(format!("no process named {name} runs"))
}

/// By the kernel's name of it, which is cut after 15 bytes; then also by the program's file name.
fn is_named(process: &Path, name: &str) -> bool {
    let Ok(comm) = read(&process.join("comm"), COMMAND_BYTES_MAX) else { return false };
    let comm = comm.strip_suffix(b"\n").unwrap_or(&comm);
    if name.len() <= COMM_BYTES_MAX {
        return comm == name.as_bytes();
    }
    let Ok(command) = read(&process.join("cmdline"), COMMAND_BYTES_MAX) else { return false };
    let program = command.split(|byte| *byte == 0).next().unwrap_or_default();
    let file = program.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    name.as_bytes().starts_with(comm) && file == name.as_bytes()
}

/// Ended, and not yet waited for by its parent: the state behind the name in /proc/PID/stat.
fn is_dead(process: &Path) -> bool {
    let Ok(stat) = read(&process.join("stat"), COMMAND_BYTES_MAX) else { return true };
    let behind_name = stat.iter().rposition(|byte| *byte == b')').unwrap_or(0);
    matches!(stat.get(behind_name + 2), None | Some(b'Z' | b'X'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_there_or_not_or_says_something() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("flag");
        let says = |text: &str| FileRule::Says(text.to_owned());
        assert_eq!(file(&path, &FileRule::Absent), Ok(()));
        assert!(file(&path, &FileRule::Exists).unwrap_err().ends_with("flag is not there"));
        assert!(file(&path, &says("up")).unwrap_err().ends_with("flag is not there"));
        assert_eq!(file(&path.join("below"), &FileRule::Absent), Ok(()));
        fs::write(&path, " up\n").unwrap();
        assert_eq!(file(&path, &FileRule::Exists), Ok(()));
        assert_eq!(file(&path, &says("up")), Ok(()));
        assert!(file(&path, &says("down")).unwrap_err().ends_with("says \"up\", not \"down\""));
        assert!(file(&path, &FileRule::Absent).unwrap_err().ends_with("flag is there"));
        assert_eq!(file(&path.join("below"), &FileRule::Absent), Ok(()));
        assert!(file(folder.path(), &says("")).unwrap_err().ends_with("it is no file"));
        // A link that leads nowhere is something that somebody put there.
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/nowhere", &link).unwrap();
        assert_eq!(file(&link, &FileRule::Exists), Ok(()));
    }

    /// A /proc with one process.
    fn proc(comm: &str, command: &str, state: char) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let process = folder.path().join("77");
        fs::create_dir(&process).unwrap();
        fs::write(process.join("comm"), format!("{comm}\n")).unwrap();
        fs::write(process.join("cmdline"), command).unwrap();
        fs::write(process.join("stat"), format!("77 ({comm}) {state} 1 77")).unwrap();
        folder
    }

    #[test]
    fn a_process_is_known_by_its_name_whatever_its_length() {
        let runs = |comm: &str, command: &str, name: &str| {
            process(proc(comm, command, 'S').path(), name).is_ok()
        };
        assert!(runs("nginx", "nginx: master process\0", "nginx"));
        assert!(!runs("nginx", "nginx: master process\0", "ngin"));
        assert!(!runs("python3", "python3\0nginx\0", "nginx"));
        assert!(runs("systemd-resolve", "/usr/lib/systemd-resolved\0-x\0", "systemd-resolved"));
        assert!(!runs("systemd-resolve", "/usr/lib/systemd-resolvec\0", "systemd-resolved"));
        assert!(!runs("other", "/usr/lib/systemd-resolved\0", "systemd-resolved"));
    }

    #[test]
    fn a_process_that_has_ended_does_not_run() {
        let dead = proc("nginx", "", 'Z');
        assert_eq!(process(dead.path(), "nginx"), Err("no process named nginx runs".to_owned()));
        // The name may hold what looks like a state.
        assert!(process(proc("a) Z b", "", 'S').path(), "a) Z b").is_ok());
    }

    #[test]
    fn this_very_process_runs() {
        let comm = fs::read_to_string("/proc/self/comm").unwrap();
        assert_eq!(process(Path::new("/proc"), comm.trim_end()), Ok(()));
    }

    #[tokio::test]
    async fn a_look_that_hangs_is_given_up_and_not_begun_a_second_time() {
        let (release, hangs) = std::sync::mpsc::sync_channel::<()>(0);
        let mut look = Look::process("nginx".to_owned());
        look.under_way = Some(tokio::task::spawn_blocking(move || {
            hangs.recv().map_err(|_| "released".to_owned())
        }));
        let short = Duration::from_millis(1);
        for _ in 0..2 {
            let reason = look.look(short).await.unwrap_err();
            assert_eq!(reason, "no answer from the kernel within 1ms");
        }
        drop(release);
        let reason = look.look(Duration::from_secs(60)).await.unwrap_err();
        assert_eq!(reason, "released", "it is the first one's outcome");
    }
}
