//! What the kernel saw happen, and when: an instance of tracefs with a few events, which disturbs no other.
//! Its times are of CLOCK_BOOTTIME, as the lab's own. Its test is below.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::lab::{LabError, command};

/// Where tracefs stands by custom.
const TRACEFS: &str = "/sys/kernel/tracing";
const LIMIT: Duration = Duration::from_secs(60);

/// Events that are recorded until it is dropped.
#[derive(Debug)]
pub(super) struct Trace {
    instance: PathBuf,
    /// Whether it was mounted for this.
    mounted: bool,
}

/// An event, by the name that it is recorded under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) at: Duration,
    pub(super) name: String,
}

impl Trace {
    /// Records these events, each where its filter holds.
    pub(super) fn start(events: &[(&str, String)]) -> Result<Self, LabError> {
        let mounted = !Path::new(TRACEFS).join("instances").exists();
        if mounted {
            let mut mount = Command::new("mount");
            mount.args(["-t", "tracefs", "nodev", TRACEFS]);
            command::run_ok(&mut mount, LIMIT)?;
        }
        let name = format!("quorate-bench-{}", std::process::id());
        let trace = Self { instance: Path::new(TRACEFS).join("instances").join(name), mounted };
        // From here on, an early return drops it, which removes what there is.
        fs::create_dir(&trace.instance).map_err(LabError::io("make an instance of tracefs"))?;
        trace.write("trace_clock", "boot")?;
        for (event, filter) in events {
            trace.write(&format!("events/{event}/filter"), filter)?;
            trace.write(&format!("events/{event}/enable"), "1")?;
        }
        Ok(trace)
    }

    fn write(&self, file: &str, text: &str) -> Result<(), LabError> {
        let path = self.instance.join(file);
        fs::write(&path, text).map_err(LabError::io(format!("write {text} to {}", path.display())))
    }

    /// Forgets what was seen so far.
    pub(super) fn clear(&self) -> Result<(), LabError> {
        self.write("trace", "")
    }

    /// What was seen since it was cleared, in order.
    pub(super) fn seen(&self) -> Result<Vec<Seen>, LabError> {
        let path = self.instance.join("trace");
        let text = fs::read_to_string(&path).map_err(LabError::io("read a trace"))?;
        Ok(text.lines().filter_map(seen).collect())
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        // What is left harms nothing, and the next run finds tracefs mounted.
        let _left = fs::remove_dir(&self.instance);
        if self.mounted {
            let mut umount = Command::new("umount");
            let _left = command::run_ok(umount.arg(TRACEFS), LIMIT);
        }
    }
}

/// `name-pid [cpu] flags seconds.micros: event: …`, or `event(…` for a system call.
fn seen(line: &str) -> Option<Seen> {
    let (_, rest) = line.split_once("] ")?;
    let mut words = rest.split_whitespace().skip(1);
    let (seconds, micros) = words.next()?.strip_suffix(':')?.split_once('.')?;
    let at = Duration::from_secs(seconds.parse().ok()?);
    let at = at + Duration::from_micros(micros.parse().ok()?);
    let name = words.next()?.split([':', '(']).next()?.to_owned();
    Some(Seen { at, name })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_when_and_what() {
        let of = |line| seen(line).map(|seen| (seen.at.as_micros(), seen.name));
        let reset =
            "          <idle>-0       [001] ..s2.    98.000321: tcp_receive_reset: family=AF_INET";
        assert_eq!(of(reset), Some((98_000_321, "tcp_receive_reset".to_owned())));
        let call = "        services-812     [000] .....  1198.100000: sys_sendto(fd: 9, buff: 7f)";
        assert_eq!(of(call), Some((1_198_100_000, "sys_sendto".to_owned())));
        assert_eq!(of("# tracer: nop"), None);
    }
}
