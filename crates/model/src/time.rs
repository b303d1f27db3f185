//! Time as a plain value. There is no clock here: every decision gets `now` as an argument.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

/// A point on one node's lease clock: nanoseconds of CLOCK_BOOTTIME (clock_gettime(2)), which
/// counts suspend and never steps. Points of two nodes can't be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(pub u64);

impl Instant {
    /// The time since `earlier`, or zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanoseconds(duration)))
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(nanoseconds(duration)))
    }
}

/// Shortest lease that a cluster may have (design §3).
pub const LEASE_MIN: Duration = Duration::from_millis(100);
/// Longest lease that a cluster may have. Past 49 s, a promise by a clock that is 1 % fast would end
/// before a lease by one that is 1 % slow: L / 0.99 > (L × 1.02 + 10 ms) / 1.01.
pub const LEASE_MAX: Duration = Duration::from_secs(40);

/// The times of a cluster: how long a lease runs and how often it is renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timing {
    lease: Duration,
    renew: Duration,
}

/// Why two durations are no timing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimingError {
    /// The lease is out of range.
    #[error("a lease lasts {LEASE_MIN:?} to {LEASE_MAX:?}, not {0:?}")]
    Lease(Duration),
    /// The renewal interval does not fit the lease.
    #[error(
        "a lease of {lease:?} needs a renewal interval of 1ms to {max:?}, a third of it, not {renew:?}"
    )]
    Renew {
        /// The lease asked for.
        lease: Duration,
        /// The interval asked for.
        renew: Duration,
        /// The longest interval for this lease.
        max: Duration,
    },
}

impl Timing {
    /// Lease 250 ms, renewed every 25 ms.
    pub const FAST: Self =
        Self { lease: Duration::from_millis(250), renew: Duration::from_millis(25) };
    /// Lease 500 ms, renewed every 50 ms: the default.
    pub const LAN: Self =
        Self { lease: Duration::from_millis(500), renew: Duration::from_millis(50) };
    /// Lease 3 s, renewed every 300 ms.
    pub const WAN: Self = Self { lease: Duration::from_secs(3), renew: Duration::from_millis(300) };

    /// A timing of the operator's own.
    ///
    /// # Errors
    ///
    /// If the lease is out of range, or less than three renewal intervals.
    pub fn new(lease: Duration, renew: Duration) -> Result<Self, TimingError> {
        if lease < LEASE_MIN || lease > LEASE_MAX {
            return Err(TimingError::Lease(lease));
        }
        let max = lease / 3;
        if renew < Duration::from_millis(1) || renew > max {
            return Err(TimingError::Renew { lease, renew, max });
        }
        Ok(Self { lease, renew })
    }

    /// The profile of this name: `fast`, `lan` or `wan`.
    #[must_use]
    pub fn profile(name: &str) -> Option<Self> {
        match name {
            "fast" => Some(Self::FAST),
            "lan" => Some(Self::LAN),
            "wan" => Some(Self::WAN),
            _ => None,
        }
    }

    /// How long a lease runs from the send time of an acked renewal (L).
    #[must_use]
    pub fn lease(self) -> Duration {
        self.lease
    }

    /// How often a lease is renewed (R).
    #[must_use]
    pub fn renew(self) -> Duration {
        self.renew
    }

    /// The silence after which a node that should have renewed is suspected: max(2.5 R, L - R).
    /// Earlier gains nothing, since the promises still hold (design §3).
    #[must_use]
    pub fn suspicion(self) -> Duration {
        (self.renew * 5 / 2).max(self.lease.saturating_sub(self.renew))
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self::LAN
    }
}

impl fmt::Display for Timing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::FAST => f.pad("fast"),
            Self::LAN => f.pad("lan"),
            Self::WAN => f.pad("wan"),
            Self { lease, renew } => write!(f, "lease {lease:?}, renew {renew:?}"),
        }
    }
}

/// How long a voter promises not to support another owner, for a renewal that asks for `lease`:
/// L × 1.02 + 10 ms. Clock rates may differ by 1 % each way (design §3).
#[must_use]
pub fn promise(lease: Duration) -> Duration {
    lease + lease / 50 + Duration::from_millis(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_outlasts_its_lease_by_two_percent_and_ten_milliseconds() {
        assert_eq!(promise(Duration::from_millis(500)), Duration::from_millis(520));
    }

    #[test]
    fn a_promise_outlasts_every_lease_though_the_clocks_drift_apart() {
        for lease in [LEASE_MIN, Timing::LAN.lease(), LEASE_MAX] {
            let lease_at_most = lease.as_nanos() * 100 / 99;
            let promise_at_least = promise(lease).as_nanos() * 100 / 101;
            assert!(promise_at_least > lease_at_most, "{lease:?}");
        }
    }

    #[test]
    fn a_lease_holds_at_least_three_renewals() {
        let ms = Duration::from_millis;
        assert!(Timing::new(ms(150), ms(50)).is_ok());
        assert!(Timing::new(ms(150), ms(51)).is_err());
        assert!(Timing::new(ms(99), ms(10)).is_err());
        for timing in [Timing::FAST, Timing::LAN, Timing::WAN] {
            assert_eq!(Timing::new(timing.lease(), timing.renew()), Ok(timing));
        }
    }
}
