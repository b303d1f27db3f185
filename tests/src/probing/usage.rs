//! What processes took of the machine, as the kernel counts it: processor time and memory. Decides
//! nothing. Its test is below.

use std::fs;
use std::time::Duration;

use crate::lab::LabError;

/// USER_HZ: in what `/proc/PID/stat` counts, on every architecture that Quorate is built for.
const TICKS_PER_SECOND: u32 = 100;

/// Processor time of processes since they began, all their threads included, those that have ended too.
pub(super) fn cpu(processes: &[u32]) -> Result<Duration, LabError> {
    processes
        .iter()
        .map(|id| {
            let path = format!("/proc/{id}/stat");
            let text = fs::read_to_string(&path).map_err(LabError::io(format!("read {path}")))?;
            ticks(&text).ok_or(LabError::Unreadable { what: path, text })
        })
        .try_fold(Duration::ZERO, |sum, ticks| {
            Ok(sum + Duration::from_secs(1) * ticks? / TICKS_PER_SECOND)
        })
}

/// User and system time in a `/proc/PID/stat` (proc_pid_stat(5)); the name before them may hold anything.
fn ticks(stat: &str) -> Option<u32> {
    let mut after_name = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u32 = after_name.next()?.parse().ok()?;
    let system: u32 = after_name.next()?.parse().ok()?;
    user.checked_add(system)
}

/// Memory of processes in KiB, what several share being shared among them (PSS).
pub(super) fn memory_kib(processes: &[u32]) -> Result<u64, LabError> {
    processes
        .iter()
        .map(|id| {
            let path = format!("/proc/{id}/smaps_rollup");
            let text = fs::read_to_string(&path).map_err(LabError::io(format!("read {path}")))?;
            let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
            let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
            number.ok_or(LabError::Unreadable { what: path, text })
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_whatever_name() {
        let stat = "7 (a ) (b) S 1 7 7 0 -1 4194304 1 2 3 4 250 50 9 9 20 0 1 0 100 0 0";
        assert_eq!(ticks(stat), Some(300));
        assert_eq!(ticks("7 (a) S 1"), None);
    }

    #[test]
    fn this_process_has_used_time_and_memory() {
        let me = [std::process::id()];
        assert!(cpu(&me).is_ok() && memory_kib(&me).unwrap() > 100);
        assert!(cpu(&[u32::MAX]).is_err() && memory_kib(&[u32::MAX]).is_err());
    }
}
