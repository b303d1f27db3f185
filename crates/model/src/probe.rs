//! Probe verdicts: when a real server is probed next, and what the outcomes so far say of it.
//!
//! The meaning is the one that LVS operators know (keepalived.conf(5)): a probe each `interval`;
//! after a failed try `retry` further ones, `retry_delay` apart, before the real server counts as
//! down; one success brings it back.

use std::net::SocketAddr;
use std::time::Duration;

use crate::spec::Check;
use crate::time::Instant;

/// What is probed and how: identical checks of several services are one target.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProbeTarget {
    /// Address and port to connect to.
    pub address: SocketAddr,
    /// How.
    pub check: Check,
}

/// What probing a real server has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It answers.
    Up,
    /// It does not, for this reason.
    Down(String),
}

/// One target's probing so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    check: Check,
    verdict: Option<Verdict>,
    failures: u32,
}

impl Probe {
    /// A target that has not been probed yet.
    #[must_use]
    pub fn new(check: Check) -> Self {
        Self { check, verdict: None, failures: 0 }
    }

    /// Takes the outcome of a try that began at `started`. Returns when to try next, and the
    /// verdict if it is new.
    pub fn finished(
        &mut self,
        started: Instant,
        now: Instant,
        outcome: Result<(), String>,
    ) -> (Instant, Option<Verdict>) {
        let regular = (started + self.check.interval).max(now);
        let was_down = matches!(self.verdict, Some(Verdict::Down(_)));
        match outcome {
            Ok(()) => {
                self.failures = 0;
                (regular, self.conclude(Verdict::Up))
            }
            Err(reason) => {
                self.failures = self.failures.saturating_add(1);
                if was_down || self.failures > self.check.retry {
                    (regular, self.conclude(Verdict::Down(reason)))
                } else {
                    (now + self.check.retry_delay, None)
                }
            }
        }
    }

    fn conclude(&mut self, verdict: Verdict) -> Option<Verdict> {
        if self.verdict.as_ref() == Some(&verdict) {
            return None;
        }
        self.verdict = Some(verdict.clone());
        Some(verdict)
    }
}

/// Where in its interval a target's first probe falls, so that not all begin at once: a fixed
/// fraction of the interval for each target (FNV-1a of its address).
#[must_use]
pub fn first_delay(target: &ProbeTarget) -> Duration {
    let text = target.address.to_string();
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let spread = target.check.interval.min(Duration::from_secs(1));
    let thousandths = u32::try_from(hash % 1_000).unwrap_or(0);
    spread / 1_000 * thousandths
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::CheckKind;

    fn probe() -> Probe {
        Probe::new(Check {
            kind: CheckKind::Tcp,
            port: None,
            interval: Duration::from_secs(6),
            timeout: Duration::from_secs(3),
            retry: 2,
            retry_delay: Duration::from_secs(1),
        })
    }

    fn seconds(s: u64) -> Instant {
        Instant(s * 1_000_000_000)
    }

    fn refused() -> Result<(), String> {
        Err("connection refused".to_owned())
    }

    #[test]
    fn a_real_server_is_down_after_its_retries_failed_too() {
        let mut probe = probe();
        assert_eq!(probe.finished(seconds(0), seconds(0), Ok(())), (seconds(6), Some(Verdict::Up)));
        assert_eq!(probe.finished(seconds(6), seconds(6), refused()), (seconds(7), None));
        assert_eq!(probe.finished(seconds(7), seconds(7), refused()), (seconds(8), None));
        let (next, verdict) = probe.finished(seconds(8), seconds(8), refused());
        assert_eq!(next, seconds(14));
        assert_eq!(verdict, Some(Verdict::Down("connection refused".to_owned())));
        assert_eq!(probe.finished(seconds(14), seconds(14), refused()), (seconds(20), None));
    }

    #[test]
    fn one_success_brings_a_real_server_back() {
        let mut probe = probe();
        for _ in 0..3 {
            probe.finished(seconds(0), seconds(0), refused());
        }
        let (_, verdict) = probe.finished(seconds(6), seconds(6), Ok(()));
        assert_eq!(verdict, Some(Verdict::Up));
    }

    #[test]
    fn a_success_among_the_retries_starts_the_count_anew() {
        let mut probe = probe();
        probe.finished(seconds(0), seconds(0), refused());
        probe.finished(seconds(1), seconds(1), refused());
        probe.finished(seconds(2), seconds(2), Ok(()));
        assert_eq!(probe.finished(seconds(8), seconds(8), refused()).1, None);
    }

    #[test]
    fn a_try_that_took_longer_than_the_interval_is_followed_at_once() {
        let (next, _) = probe().finished(seconds(0), seconds(9), Ok(()));
        assert_eq!(next, seconds(9));
    }
}
