//! What keeps the renewal thread from being held up: real-time priority, and memory that is not
//! paged out. Both need rights that a daemon may lack; it works without them, later under load.
//! Tests: below.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::mm::{MlockAllFlags, mlockall, munlockall};
use rustix::process::{Resource, getrlimit};
use rustix::thread::{CapabilitySet, capabilities};

use crate::sys;

/// The lowest real-time priority: above every ordinary thread, below the kernel's own.
const PRIORITY: i32 = 1;

/// Whether this process's memory is locked.
static LOCKED: AtomicBool = AtomicBool::new(false);

/// Gives the calling thread real-time priority (SCHED_RR, sched(7)).
///
/// # Errors
/// With the reason and what to do, for a person.
pub fn prioritise() -> Result<(), String> {
    sys::schedule_round_robin(PRIORITY).map_err(|error| {
        format!(
            "no real-time priority: {error}; give the unit LimitRTPRIO=1 or AmbientCapabilities=CAP_SYS_NICE"
        )
    })
}

/// Keeps every page of this process in memory once it was used (mlockall(2), MCL_ONFAULT).
///
/// # Errors
/// With the reason and what to do, for a person. Nothing is locked then.
pub fn lock_memory() -> Result<(), String> {
    let advice = "give the unit LimitMEMLOCK=infinity or AmbientCapabilities=CAP_IPC_LOCK";
    // Under a limit a later allocation would fail, which is worse than a page that is read back.
    let unlimited = getrlimit(Resource::Memlock).current.is_none();
    let capable =
        capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK));
    if !unlimited && !capable {
        return Err(format!("memory is not locked: RLIMIT_MEMLOCK is too low; {advice}"));
    }
    let flags = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    mlockall(flags)
        .map_err(|error| format!("memory is not locked: {}; {advice}", io::Error::from(error)))?;
    LOCKED.store(true, Ordering::SeqCst);
    Ok(())
}

/// Gives the system back what was allocated once, and is free now (malloc_trim(3)). For that,
/// memory is unlocked for some milliseconds: locked pages refuse madvise(2). Where each page in use
/// is needed all the while, nothing is read back, since none was written out.
///
/// # Errors
/// With the reason and what to do, for a person, where memory can't be locked again.
pub fn give_memory_back() -> Result<(), String> {
    let locked = LOCKED.load(Ordering::SeqCst);
    if locked {
        munlockall().map_err(|error| format!("munlockall: {}", io::Error::from(error)))?;
    }
    sys::trim_heap();
    if locked { lock_memory() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// proc_pid_status(5).
    fn resident_bytes() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1024
    }

    #[test]
    fn what_a_thread_no_longer_uses_is_given_back_though_memory_is_locked() {
        const CHUNKS: usize = 200_000;
        const BYTES: usize = 500;
        // Where there is no right to lock memory there is less to do, and it has to be given back too.
        let locked = lock_memory();
        let kept: Vec<Vec<u8>> = std::thread::spawn(|| {
            let chunks: Vec<Vec<u8>> = (0..CHUNKS).map(|_| vec![1; BYTES]).collect();
            // What stays at the end keeps the allocator from giving back all before it by itself.
            chunks.into_iter().skip(CHUNKS - 1).collect()
        })
        .join()
        .unwrap();
        let before = resident_bytes();
        give_memory_back().unwrap();
        let given = before.saturating_sub(resident_bytes());
        assert!(given > CHUNKS * BYTES / 2, "{given} bytes of {before}, locked: {locked:?}");
        assert_eq!(kept.len(), 1);
        assert_eq!(LOCKED.load(Ordering::SeqCst), locked.is_ok());
    }

    #[test]
    fn a_thread_gets_real_time_priority_or_a_reason_that_says_what_to_do() {
        let policy = || {
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            // Field 41 of proc_pid_stat(5): 2 is SCHED_RR. The name in brackets may hold spaces.
            let rest = stat.rsplit_once(')').unwrap().1.to_owned();
            rest.split_whitespace().nth(38).unwrap().to_owned()
        };
        std::thread::spawn(move || match prioritise() {
            // SCHED_RESET_ON_FORK is a flag of its own.
            Ok(()) => assert_eq!(policy(), "2"),
            Err(reason) => {
                assert!(reason.contains("LimitRTPRIO"), "{reason}");
                assert_eq!(policy(), "0");
            }
        })
        .join()
        .unwrap();
    }
}
