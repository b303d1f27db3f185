//! Real time, which only the simulator knows, and the lease clock of each node, which runs up to
//! one percent fast or slow and starts anywhere.

use quorate_model::time::Instant;

/// Nanoseconds of real time since the run began.
pub type Real = u64;

/// One millisecond of real time.
pub const MS: Real = 1_000_000;

const MILLION: u128 = 1_000_000;

/// A node's lease clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Clock {
    /// When its machine was started.
    pub since: Real,
    /// What it showed then.
    pub offset: u64,
    /// Its ticks in a million real ones: 990 000 to 1 010 000.
    pub rate: u64,
}

impl Clock {
    /// What the clock shows at a real time.
    #[must_use]
    pub fn at(&self, real: Real) -> Instant {
        let ticks = u128::from(real.saturating_sub(self.since)) * u128::from(self.rate) / MILLION;
        Instant(self.offset + u64::try_from(ticks).unwrap_or(u64::MAX))
    }

    /// The first real time at which the clock shows this or more.
    #[must_use]
    pub fn real(&self, local: Instant) -> Real {
        let ticks = u128::from(local.0.saturating_sub(self.offset));
        let real = (ticks * MILLION).div_ceil(u128::from(self.rate)) + u128::from(self.since);
        u64::try_from(real).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_shows_a_time_from_the_real_time_of_it_on() {
        for rate in [990_000, 1_000_000, 1_009_999] {
            let clock = Clock { since: 5, offset: 77, rate };
            for local in [77, 78, 1_000_000_077, 123_456_789] {
                let real = clock.real(Instant(local));
                assert!(clock.at(real) >= Instant(local));
                assert!(real <= 5 || clock.at(real - 1) < Instant(local));
            }
        }
    }
}
