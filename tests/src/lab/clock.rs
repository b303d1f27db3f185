//! Time for tests: limits and measured durations on CLOCK_BOOTTIME. Never decides an assertion.
//! Used everywhere in the lab; its test is below.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Time since boot.
pub fn now() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanoseconds)
}

/// Measures how long something took.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch {
    start: Duration,
}

impl Stopwatch {
    /// Starts now.
    pub fn start() -> Self {
        Self { start: now() }
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        now().saturating_sub(self.start)
    }
}

/// A point in time after which something is given up.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    at: Duration,
}

impl Deadline {
    /// A deadline so far from now.
    pub fn after(limit: Duration) -> Self {
        Self { at: now().saturating_add(limit) }
    }

    /// What is left; zero once it has passed.
    pub fn remaining(&self) -> Duration {
        self.at.saturating_sub(now())
    }

    /// Whether it has passed.
    pub fn passed(&self) -> bool {
        self.remaining().is_zero()
    }
}

/// Asks again and again, a little apart, until there is an answer or the limit has passed. For
/// what cannot be awaited: that a host across the network has come to answer.
pub fn wait_until<T>(limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    const PAUSE: Duration = Duration::from_millis(20);
    let deadline = Deadline::after(limit);
    loop {
        let answer = ask();
        if answer.is_some() || deadline.passed() {
            return answer;
        }
        std::thread::sleep(PAUSE.min(deadline.remaining()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_passes_once_nothing_remains() {
        assert!(Deadline::after(Duration::ZERO).passed());
        let far = Deadline::after(Duration::from_secs(3600));
        assert!(!far.passed());
        assert!(far.remaining() > Duration::from_secs(3000));
    }

    #[test]
    fn asking_ends_with_an_answer_or_the_limit() {
        let mut asked = 0;
        let answer = wait_until(Duration::from_secs(60), || {
            asked += 1;
            (asked == 3).then_some("yes")
        });
        assert_eq!((answer, asked), (Some("yes"), 3));
        assert_eq!(wait_until(Duration::from_millis(1), || None::<()>), None);
    }
}
