//! What it says of a real server that its time was over without an answer: nothing, where it was this
//! director that came late.
//!
//! A director that was stopped, or has too little of its processors, reads no answers meanwhile. When it
//! goes on, the time of its tries is over too, and what the real servers said long ago waits unread.

use std::time::Duration;

use crate::time::Instant;

/// So late a time-out is noticed on any machine that has something to do; more than that counts. Of a
/// longer time a part of it: several steps of an answer each wait as long for this director.
const LATE: Duration = Duration::from_millis(50);
const LATE_PART: u32 = 8;

/// What the end of a try's time says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silence {
    /// The real server had its time, and this director was there to hear it.
    Kept,
    /// This director came late: an answer may wait, so it listens for so much longer.
    Unheard(Duration),
    /// Then it came late again, by so much: that says nothing of the real server.
    Late(Duration),
}

/// What it says that a time which was to be over at `due`, after `timeout`, was noticed to be over at `noticed`.
/// `again` if it was already prolonged: that is done once.
#[must_use]
pub fn judge(due: Instant, noticed: Instant, timeout: Duration, again: bool) -> Silence {
    let late = noticed.since(due);
    if late <= LATE.max(timeout / LATE_PART) {
        Silence::Kept
    } else if again {
        Silence::Late(late)
    } else {
        Silence::Unheard(late.min(timeout))
    }
}

/// Why a try came to nothing that ended so late, for people.
#[must_use]
pub fn explained(late: Duration) -> String {
    format!(
        "this director was {} ms late to see that its time was over: the host has too little \
         processor time, or stood still",
        late.as_millis()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(late: u64, timeout: u64, again: bool) -> Silence {
        let due = Instant(7_000_000_000);
        judge(due, due + Duration::from_millis(late), Duration::from_millis(timeout), again)
    }

    #[test]
    fn a_time_that_was_seen_to_be_over_soon_enough_is_the_real_servers_silence() {
        for again in [false, true] {
            assert_eq!([0, 50].map(|late| judged(late, 50, again)), [Silence::Kept; 2]);
            assert_eq!([51, 375].map(|late| judged(late, 3_000, again)), [Silence::Kept; 2]);
        }
        // What was noticed before its time, by a clock of its own, is no lateness.
        assert_eq!(judge(Instant(9), Instant(8), LATE, false), Silence::Kept);
    }

    #[test]
    fn who_came_late_listens_once_more_for_as_long_as_it_was_late_and_no_longer_than_a_try() {
        assert_eq!(judged(51, 50, false), Silence::Unheard(Duration::from_millis(50)));
        assert_eq!(judged(376, 3_000, false), Silence::Unheard(Duration::from_millis(376)));
        assert_eq!(judged(60_000, 3_000, false), Silence::Unheard(Duration::from_secs(3)));
        let late = Duration::from_millis(60_000);
        assert_eq!(judged(60_000, 3_000, true), Silence::Late(late));
        assert!(explained(late).starts_with("this director was 60000 ms late"));
    }

    #[test]
    fn no_length_of_time_is_too_long() {
        let far = Instant(u64::MAX);
        assert_eq!(judge(Instant(0) + Duration::MAX, far, Duration::MAX, false), Silence::Kept);
        let Silence::Unheard(longer) = judge(Instant(0), far, LATE, false) else { panic!("late") };
        assert_eq!(longer, LATE);
    }
}
