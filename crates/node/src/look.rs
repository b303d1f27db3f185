//! Looking at files and processes, for tracks and checks. A file system may hang, so each look is on a
//! thread of its own, and no second one is begun while the first has not come back.

use std::fs;
use std::io;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use quorate_model::silence;
use quorate_model::spec::FileRule;
use rustix::fs::OFlags;
use rustix::io::Errno;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::patience::{Over, within};

/// Longest file that can be equal to a track's content, and then some.
const CONTENT_BYTES_MAX: u64 = 8_192;
/// What is read of a file that holds a number.
const TEXT_BYTES_MAX: u64 = 4_096;
/// Longest name that /proc/PID/comm holds (TASK_COMM_LEN - 1, include/linux/sched.h).
const COMM_BYTES_MAX: usize = 15;
/// What is read of /proc/PID/cmdline.
const COMMAND_BYTES_MAX: u64 = 4_096;

/// How one thing is looked at, on a thread that may hang.
type Sight<T> = Arc<dyn Fn() -> Result<T, Unseen> + Send + Sync>;

/// Why nothing good was seen.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unseen {
    /// What was looked at is not as it has to be.
    Wrong(String),
    /// This director could not look: that says nothing of it.
    Here(String),
}

impl Unseen {
    pub(crate) fn into_reason(self) -> String {
        match self {
            Self::Wrong(reason) | Self::Here(reason) => reason,
        }
    }

    fn stopping() -> Self {
        Self::Here("the daemon is stopping".to_owned())
    }
}

/// Looks at one thing.
pub(crate) struct Look<T = ()> {
    sight: Sight<T>,
    /// What limits how many look at once, those that hang included.
    slots: Option<Arc<Semaphore>>,
    under_way: Option<JoinHandle<Result<T, Unseen>>>,
}

impl Look {
    /// Whether a process of this name runs.
    pub(crate) fn process(name: String) -> Self {
        Self::at(None, move || process(Path::new("/proc"), &name).map_err(Unseen::Wrong))
    }

    /// Whether a file is as it has to be.
    pub(crate) fn file(path: String, rule: FileRule) -> Self {
        Self::at(None, move || file(Path::new(&path), &rule).map_err(Unseen::Wrong))
    }
}

impl Look<String> {
    /// What a file says; no more of them at once than there are slots.
    pub(crate) fn text(path: String, slots: Arc<Semaphore>) -> Self {
        Self::at(Some(slots), move || text(Path::new(&path)))
    }
}

impl<T: Send + 'static> Look<T> {
    fn at(
        slots: Option<Arc<Semaphore>>,
        sight: impl Fn() -> Result<T, Unseen> + Send + Sync + 'static,
    ) -> Self {
        Self { sight: Arc::new(sight), slots, under_way: None }
    }

    /// Looks once.
    pub(crate) async fn look(&mut self, timeout: Duration) -> Result<T, Unseen> {
        match within(timeout, self.seen()).await {
            Ok(outcome) => {
                self.under_way = None;
                outcome
            }
            // The thread that looks stood still too, and may have seen nothing yet.
            Err(Over::Late(late)) => Err(Unseen::Here(silence::explained(late))),
            Err(Over::Silent) if self.under_way.is_none() => {
                let reason = format!("looks at other files hang: none ended within {timeout:?}");
                Err(Unseen::Here(reason))
            }
            Err(Over::Silent) => {
                Err(Unseen::Wrong(format!("no answer from the kernel within {timeout:?}")))
            }
        }
    }

    async fn seen(&mut self) -> Result<T, Unseen> {
        let look = match &mut self.under_way {
            Some(look) => look,
            none => {
                let slot = match &self.slots {
                    Some(slots) => Some(Arc::clone(slots).acquire_owned().await),
                    None => None,
                };
                let slot = slot.transpose().map_err(|_| Unseen::stopping())?;
                let sight = Arc::clone(&self.sight);
                none.insert(tokio::task::spawn_blocking(move || {
                    let _slot = slot;
                    sight()
                }))
            }
        };
        look.await.unwrap_or_else(|_| Err(Unseen::stopping()))
    }
}

fn text(path: &Path) -> Result<String, Unseen> {
    let shown = path.display();
    let said = content(path, TEXT_BYTES_MAX).map_err(|error| {
        let reason = format!("{shown} can't be read: {error}");
        match Errno::from_io_error(&error) {
            Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM) => Unseen::Here(reason),
            _ => Unseen::Wrong(reason),
        }
    })?;
    if u64::try_from(said.len()).is_ok_and(|length| length >= TEXT_BYTES_MAX) {
        let reason = format!("{shown} has {TEXT_BYTES_MAX} bytes or more: no number");
        return Err(Unseen::Wrong(reason));
    }
    Ok(String::from_utf8_lossy(&said).into_owned())
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
            let said = content(path, CONTENT_BYTES_MAX)
                .map_err(|why| format!("{shown} can't be read: {why}"))?;
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

/// A named pipe would keep the reader waiting, and a device may do anything: it is looked at before it
/// is opened, and, since it may have been put there in between, opened without waiting and looked at
/// again.
fn content(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let no_file = || io::Error::other("it is no file");
    if !fs::metadata(path)?.is_file() {
        return Err(no_file());
    }
    let waits_not = (OFlags::NONBLOCK | OFlags::NOCTTY).bits();
    let flags = i32::try_from(waits_not).map_err(io::Error::other)?;
    let opened = fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !opened.metadata()?.is_file() {
        return Err(no_file());
    }
    all_of(opened, most)
}

fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    all_of(fs::File::open(path)?, most)
}

fn all_of(file: fs::File, most: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    file.take(most).read_to_end(&mut content)?;
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

    #[test]
    fn the_text_of_a_file_is_short_and_nothing_else_than_a_file_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weight");
        let text = |path: &Path| text(path).map_err(Unseen::into_reason);
        assert!(text(&path).unwrap_err().contains("weight can't be read: No such file"));
        fs::write(&path, "7\n").unwrap();
        assert_eq!(text(&path), Ok("7\n".to_owned()));
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(text(&link), Ok("7\n".to_owned()));
        fs::write(&path, vec![b' '; 4_095]).unwrap();
        assert!(text(&path).is_ok());
        fs::write(&path, vec![b' '; 4_096]).unwrap();
        assert!(text(&path).unwrap_err().contains("has 4096 bytes or more"));
        assert!(text(folder.path()).unwrap_err().ends_with("it is no file"));
        assert!(text(Path::new("/dev/zero")).unwrap_err().ends_with("it is no file"));
        // Nobody writes to it: a reader would wait for ever.
        let pipe = folder.path().join("pipe");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert!(text(&pipe).unwrap_err().ends_with("it is no file"));
    }

    #[tokio::test]
    async fn looks_that_hang_take_no_more_threads_than_there_are_slots() {
        let slots = Arc::new(Semaphore::new(1));
        let (release, hangs) = std::sync::mpsc::sync_channel::<()>(0);
        let hangs = std::sync::Mutex::new(hangs);
        let mut first = Look::at(Some(Arc::clone(&slots)), move || {
            hangs.lock().unwrap().recv().map_err(|_| Unseen::Wrong("released".to_owned()))
        });
        let mut second = Look::at(Some(slots), || Ok(()));
        let short = Duration::from_millis(1);
        let hung = first.look(short).await;
        assert_eq!(hung, Err(Unseen::Wrong("no answer from the kernel within 1ms".to_owned())));
        // That says nothing of what the other would have seen.
        let Err(Unseen::Here(reason)) = second.look(short).await else { panic!("it looked") };
        assert_eq!(reason, "looks at other files hang: none ended within 1ms");
        drop(release);
        assert_eq!(second.look(Duration::from_secs(60)).await, Ok(()));
    }

    #[tokio::test]
    async fn a_look_that_hangs_is_given_up_and_not_begun_a_second_time() {
        let (release, hangs) = std::sync::mpsc::sync_channel::<()>(0);
        let mut look = Look::process("nginx".to_owned());
        look.under_way = Some(tokio::task::spawn_blocking(move || {
            hangs.recv().map_err(|_| Unseen::Wrong("released".to_owned()))
        }));
        let short = Duration::from_millis(1);
        for _ in 0..2 {
            let reason = look.look(short).await.unwrap_err().into_reason();
            assert_eq!(reason, "no answer from the kernel within 1ms");
        }
        drop(release);
        let reason = look.look(Duration::from_secs(60)).await.unwrap_err().into_reason();
        assert_eq!(reason, "released", "it is the first one's outcome");
    }
}
