//! When a served address is announced: at once and at 100 ms, 1.1 s, 2.2 s and 5 s, then every
//! 60 s (design §5). Both ARP forms with more than a second between some of them reach neighbours
//! that ignore one form or lock an entry for a while (reference: ipvs-netlink.md §5).

use std::time::Duration;

use crate::time::Instant;

const FIRST: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(100),
    Duration::from_millis(1_100),
    Duration::from_millis(2_200),
    Duration::from_secs(5),
];
/// How often a served address is announced in the long run.
pub const ANNOUNCE_EVERY: Duration = Duration::from_secs(60);

/// The announcements of one address since it was last opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announcements {
    opened: Instant,
    done: usize,
    last: Instant,
}

impl Announcements {
    /// The address was opened at `now`: the first announcement is due.
    #[must_use]
    pub fn opened(now: Instant) -> Self {
        Self { opened: now, done: 0, last: now }
    }

    /// When the next announcement is due.
    #[must_use]
    pub fn due(&self) -> Instant {
        match FIRST.get(self.done) {
            Some(&after) => self.opened + after,
            None => self.last + ANNOUNCE_EVERY,
        }
    }

    /// An announcement was sent at `now`; those that it made late are left out.
    pub fn sent(&mut self, now: Instant) {
        self.last = now;
        self.done += 1;
        while FIRST.get(self.done).is_some_and(|&after| self.opened + after <= now) {
            self.done += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_opened_address_is_announced_five_times_in_five_seconds_then_each_minute() {
        let start = Instant(1_000_000_000);
        let mut announcements = Announcements::opened(start);
        let mut times = Vec::new();
        for _ in 0..7 {
            let due = announcements.due();
            times.push(due.since(start).as_millis());
            announcements.sent(due);
        }
        assert_eq!(times, [0, 100, 1_100, 2_200, 5_000, 65_000, 125_000]);
    }

    #[test]
    fn a_late_announcement_stands_for_those_it_missed() {
        let start = Instant(0);
        let mut announcements = Announcements::opened(start);
        announcements.sent(start + Duration::from_millis(1_500));
        assert_eq!(announcements.due(), start + Duration::from_millis(2_200));
    }
}
