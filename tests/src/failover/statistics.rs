//! Percentiles of durations. Pure.

use std::time::Duration;

/// Durations of one kind.
#[derive(Debug, Clone, Default)]
pub struct Distribution {
    sorted: Vec<Duration>,
}

impl Distribution {
    /// Adds one.
    pub fn add(&mut self, duration: Duration) {
        let place = self.sorted.partition_point(|other| *other <= duration);
        self.sorted.insert(place, duration);
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.sorted.len()
    }

    /// The smallest that so many hundredths of all do not exceed (nearest rank); none of none.
    #[must_use]
    pub fn percentile(&self, hundredths: usize) -> Option<Duration> {
        let rank = (self.sorted.len() * hundredths).div_ceil(100).max(1);
        self.sorted.get(rank - 1).copied()
    }

    /// The median.
    #[must_use]
    pub fn median(&self) -> Option<Duration> {
        self.percentile(50)
    }

    /// The longest.
    #[must_use]
    pub fn longest(&self) -> Option<Duration> {
        self.sorted.last().copied()
    }
}

/// Milliseconds for people: one decimal below a hundred.
#[must_use]
pub fn milliseconds(duration: Option<Duration>) -> String {
    match duration.map(|duration| duration.as_secs_f64() * 1_000.0) {
        None => "–".to_owned(),
        Some(ms) if ms < 100.0 => format!("{ms:.1}"),
        Some(ms) => format!("{ms:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let mut distribution = Distribution::default();
        assert_eq!((distribution.median(), distribution.longest()), (None, None));
        for ms in (1..=100).rev() {
            distribution.add(Duration::from_millis(ms));
        }
        let percentile = |of| distribution.percentile(of).map(|d| d.as_millis());
        assert_eq!([50, 99, 100].map(percentile), [Some(50), Some(99), Some(100)]);
        assert_eq!(distribution.longest(), Some(Duration::from_millis(100)));
        let mut few = Distribution::default();
        few.add(Duration::from_millis(7));
        assert_eq!((few.percentile(99), few.median()), (few.longest(), few.longest()));
    }

    #[test]
    fn short_times_have_a_decimal() {
        let text = |micros| milliseconds(Some(Duration::from_micros(micros)));
        assert_eq!([text(3_240), text(159_400), milliseconds(None)], ["3.2", "159", "–"]);
    }
}
