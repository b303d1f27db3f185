//! The only place that reads clocks: the lease clock, and the wall clock for people.

use quorate_model::command::UnixMillis;
use quorate_model::time::Instant;
use rustix::time::{ClockId, Timespec, clock_gettime};

/// The lease clock, CLOCK_BOOTTIME: it counts suspend, and wall-clock steps don't touch it.
#[must_use]
pub fn now() -> Instant {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(tv_nsec).unwrap_or(0);
    Instant(seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds))
}

/// The wall clock. It decides nothing but when a join token, an overridden weight or the time to confirm a
/// configuration ends.
#[must_use]
pub fn wall() -> UnixMillis {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::Realtime);
    let seconds = u64::try_from(tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(tv_nsec).unwrap_or(0);
    UnixMillis(seconds.saturating_mul(1_000).saturating_add(nanoseconds / 1_000_000))
}
