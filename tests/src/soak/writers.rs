//! The write load: several writers that apply one changed configuration after the other through
//! random nodes, as fast as the cluster acknowledges. Owns the configuration and its mark. Judges
//! nothing: `history` does. Seen to work by `tests/tests/lab_host_soak.rs`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::history::{Attempt, Outcome};
use crate::dice::Dice;
use crate::lab::clock::{self, Deadline};
use crate::lab::{LabError, bin_dir, command};

/// How long one `apply` may take, all its repetitions included.
const COMMAND_LIMIT: Duration = Duration::from_secs(180);
/// What the writer asks `quorate` to wait for each answer.
const TIMEOUT: &str = "10s";

/// The configuration with this mark: in each group, so that a mixture shows.
#[must_use]
pub(super) fn configuration(mark: u64) -> String {
    // Milliseconds of a setting that moves nothing by itself. Two groups on two directors.
    format!(
        "[group.web]\ninterface = \"public\"\naddresses = [\"192.168.10.180/32\"]\n\
         prefer = [\"d1\", \"d2\", \"d3\"]\npreempt_delay = \"{mark}ms\"\n\n\
         [group.side]\ninterface = \"public\"\naddresses = [\"192.168.10.181/32\"]\n\
         prefer = [\"d3\", \"d2\", \"d1\"]\npreempt_delay = \"{mark}ms\"\n"
    )
}

/// The mark behind a `preempt_delay` as `quorate diff` prints it.
#[must_use]
pub(super) fn mark_of(delay: &str) -> Option<u64> {
    let digits = delay.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit: u64 = match &delay[digits.len()..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let part: u64 = match part {
        "" => 0,
        // Milliseconds: at most three digits of a second.
        part if unit == 1_000 => format!("{part:0<3}").parse().ok()?,
        _ => return None,
    };
    Some(whole.parse::<u64>().ok()? * unit + part)
}

/// What the writers share with who kills daemons.
#[derive(Debug)]
pub(super) struct Load {
    sockets: Vec<PathBuf>,
    folder: PathBuf,
    next_mark: AtomicU64,
    /// The newest revision that any writer knows of.
    newest: AtomicU64,
    acknowledged: Mutex<u64>,
    one_more: Condvar,
    stop: AtomicBool,
}

impl Load {
    /// A load on the daemons behind these sockets; configurations are written to the folder.
    #[must_use]
    pub(super) fn new(sockets: Vec<PathBuf>, folder: PathBuf, revision: u64, mark: u64) -> Self {
        Self {
            sockets,
            folder,
            next_mark: AtomicU64::new(mark + 1),
            newest: AtomicU64::new(revision),
            acknowledged: Mutex::new(0),
            one_more: Condvar::new(),
            stop: AtomicBool::new(false),
        }
    }

    /// Lets writers begin (again).
    pub(super) fn open(&self) {
        self.stop.store(false, Ordering::SeqCst);
    }

    /// Has every writer end after the `apply` that it is at.
    pub(super) fn close(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    /// Waits until so many more are acknowledged; false if that took too long.
    #[must_use]
    pub(super) fn wait_for_more(&self, count: u64, limit: Duration) -> bool {
        let deadline = Deadline::after(limit);
        let mut acknowledged = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        let target = *acknowledged + count;
        while *acknowledged < target {
            if deadline.passed() {
                return false;
            }
            let waited = self.one_more.wait_timeout(acknowledged, deadline.remaining());
            acknowledged = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// One writer: applies until the load is closed.
    ///
    /// # Errors
    /// When `quorate` can't be run or says what it must not say.
    pub(super) fn write(&self, name: usize, mut dice: Dice) -> Result<Vec<Attempt>, LabError> {
        let mut attempts = Vec::new();
        let file = self.folder.join(format!("writer-{name}.toml"));
        while !self.stop.load(Ordering::SeqCst) {
            let mark = self.next_mark.fetch_add(1, Ordering::SeqCst);
            fs::write(&file, configuration(mark)).map_err(LabError::io("write a configuration"))?;
            let expected = dice.one_in(2).then(|| self.newest.load(Ordering::SeqCst));
            let node = dice.below(self.sockets.len());
            let mut apply = Command::new(bin_dir()?.join("quorate"));
            apply.arg("--socket").arg(&self.sockets[node]);
            apply
                .args(["-o", "json", "--timeout", TIMEOUT, "apply", "--yes", "--no-wait"])
                .arg(&file);
            if let Some(expected) = expected {
                apply.args(["--expect-revision", &expected.to_string()]);
            }
            let began = clock::now();
            let finished = command::run(&mut apply, COMMAND_LIMIT)?;
            let ended = clock::now();
            let outcome = outcome(finished.status.code(), &finished.stdout).ok_or_else(|| {
                let what = format!("quorate apply ({})", finished.status);
                LabError::Unreadable { what, text: finished.stderr + &finished.stdout }
            })?;
            attempts.push(Attempt { mark, expected, began, ended, outcome });
            if let Outcome::Acknowledged { revision, .. } = outcome {
                self.newest.fetch_max(revision, Ordering::SeqCst);
                *self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner) += 1;
                self.one_more.notify_all();
            }
        }
        Ok(attempts)
    }
}

/// What an exit code of `quorate apply` promises (design §6).
fn outcome(code: Option<i32>, stdout: &str) -> Option<Outcome> {
    match code? {
        0 => {
            let answer: serde_json::Value = serde_json::from_str(stdout).ok()?;
            let revision = answer.get("revision")?.as_u64()?;
            Some(Outcome::Acknowledged { revision, changed: answer.get("changed")?.as_bool()? })
        }
        1 | 4 | 5 => Some(Outcome::NotTaken),
        6 => Some(Outcome::Conflict),
        7 => Some(Outcome::Unknown),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_back_in_every_unit() {
        for (text, mark) in [
            ("0s", 0),
            ("7ms", 7),
            ("3s", 3_000),
            ("12.345s", 12_345),
            ("12.3s", 12_300),
            ("2m", 120_000),
            ("1h", 3_600_000),
        ] {
            assert_eq!(mark_of(text), Some(mark), "{text}");
        }
        for text in ["", "5", "soon", "1.5m", "1.5ms"] {
            assert_eq!(mark_of(text), None, "{text}");
        }
    }

    #[test]
    fn each_exit_code_is_what_it_promises() {
        let answer = r#"{"revision": 7, "changed": true}"#;
        let taken = Outcome::Acknowledged { revision: 7, changed: true };
        assert_eq!(outcome(Some(0), answer), Some(taken));
        assert_eq!(outcome(Some(6), ""), Some(Outcome::Conflict));
        assert_eq!(outcome(Some(7), ""), Some(Outcome::Unknown));
        assert_eq!(outcome(Some(5), ""), Some(Outcome::NotTaken));
        // Wrong usage, or no promise at all: the soak itself is wrong.
        assert_eq!((outcome(Some(2), ""), outcome(Some(0), "{}")), (None, None));
    }
}
