//! Names of the lab's namespaces, and the removal of what a dead run left behind. A name carries
//! the run that made it (process id and start time), so nothing of a live run, and nothing that
//! the lab did not make, is ever touched. Its tests are below.

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::{LabError, command};

const PREFIX: &str = "quorate-lab-";
const LIMIT: Duration = Duration::from_secs(60);

/// A prefix for the namespaces of one deployment: never the same twice on a machine.
pub(super) fn fresh_prefix() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let id = std::process::id();
    format!("{PREFIX}{id}-{}-{count}-", start_time(id).unwrap_or(0))
}

/// Removes a namespace and ends what still runs in it. One that is gone is no error.
pub(super) fn remove(name: &str) -> Result<(), LabError> {
    let gone = || !std::path::Path::new("/run/netns").join(name).exists();
    if gone() {
        return Ok(());
    }
    let mut pids = Command::new("ip");
    pids.args(["netns", "pids", name]);
    let listed = command::run(&mut pids, LIMIT)?.stdout;
    for pid in listed.split_whitespace().filter_map(|word| word.parse().ok()) {
        if let Some(pid) = Pid::from_raw(pid) {
            // It may just have ended by itself.
            let _gone = kill_process(pid, Signal::KILL);
        }
    }
    let mut delete = Command::new("ip");
    match command::run_ok(delete.args(["netns", "del", name]), LIMIT) {
        // Another run swept at the same time.
        Err(_) if gone() => Ok(()),
        other => other.map(drop),
    }
}

/// Removes the namespaces of runs that have ended without doing so.
pub(super) fn sweep() -> Result<(), LabError> {
    let Ok(entries) = fs::read_dir("/run/netns") else {
        return Ok(());
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_left_behind(&name, &start_time) {
            remove(&name)?;
        }
    }
    Ok(())
}

fn is_left_behind(name: &str, start_time: &dyn Fn(u32) -> Option<u64>) -> bool {
    let mut parts = name.strip_prefix(PREFIX).unwrap_or_default().split('-');
    let id = parts.next().and_then(|part| part.parse().ok());
    let start = parts.next().and_then(|part| part.parse().ok());
    match (id, start) {
        (Some(id), Some(start)) => start_time(id) != Some(start),
        _ => false,
    }
}

/// When a process started, in the kernel's ticks; none when there is no such process.
fn start_time(id: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name may hold spaces and brackets; field 22 is the 20th after its last bracket.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_dead_runs_leave_something_behind() {
        let alive = |id| (id == 7).then_some(100);
        assert!(!is_left_behind("quorate-lab-7-100-0-d1", &alive));
        assert!(is_left_behind("quorate-lab-7-99-0-d1", &alive), "another process has its id");
        assert!(is_left_behind("quorate-lab-8-100-0-d1", &alive));
        assert!(!is_left_behind("quorate-lab-mine", &alive));
        assert!(!is_left_behind("somebody-8-100-0-d1", &alive));
    }

    #[test]
    fn prefixes_differ_and_name_this_run() {
        let (first, second) = (fresh_prefix(), fresh_prefix());
        assert_ne!(first, second);
        assert!(!is_left_behind(&format!("{first}d1"), &start_time));
    }
}
