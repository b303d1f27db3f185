//! What a record proves. Pure.
//!
//! An answer was given at one instant of an interval: after its question was sent, before it was
//! received. So two answers have a certain order only where their intervals do not touch. From
//! that:
//!
//! - **Handovers**: the fewest changes of the answering director that explain the record, if no two
//!   ever answered at one instant. A record that needs more of them than there were moves shows
//!   that two did. It is the least number of pieces of a timeline with one director each in which
//!   every answer finds an instant of its own, if no answer comes so late that others to later
//!   questions came before it; one that does, of a director that gave no other, may cost two more.
//! - **Double answers**: answers of one director with answers of another one certainly before and
//!   certainly after, both close by. Unless the group went there and back within that time, two
//!   directors were answering. Where each director's answers enclose some of the other's, it did
//!   not go there and back once.
//! - **Silences**: the time from one answer to the next, of whichever director.
//!
//! Its tests are below.

use std::time::Duration;

use super::record::{Answer, Director, Kind, Record};

/// How close the answers of another director must be to make one a double answer. A director that
/// gets a group and loses it again holds it longer, unless it is moved by hand.
pub const CLOSE_BY: Duration = Duration::from_millis(100);

/// A time without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Silence {
    /// When the last answer before it was received.
    pub from: u64,
    /// When the first answer after it was received.
    pub to: u64,
}

impl Silence {
    /// How long it was.
    #[must_use]
    pub fn length(self) -> Duration {
        Duration::from_nanos(self.to.saturating_sub(self.from))
    }
}

/// What was answered twice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Doubles {
    /// Answers that another director's answers enclose.
    pub answers: usize,
    /// For how long two directors answered.
    pub time: Duration,
    /// The first of them.
    pub first: Option<Answer>,
    /// Whether answers of two directors enclose each other: then no going there and back once
    /// explains it. Otherwise the grants must tell.
    pub mutual: bool,
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Record {
    /// The answers for one VIP, of these kinds.
    fn of(&self, vip: u16, kinds: &[Kind]) -> Vec<Answer> {
        let wanted = |answer: &&Answer| answer.vip == vip && kinds.contains(&answer.kind);
        self.answers.iter().filter(wanted).copied().collect()
    }

    /// The longest time in which ARP questions for a VIP had no answer: from the record's start to
    /// its end, so that a VIP that is never answered for is silent all the time.
    #[must_use]
    pub fn longest_silence(&self, vip: u16) -> Silence {
        let received = self.of(vip, &[Kind::Arp]).into_iter().map(|answer| answer.received);
        let mut longest = Silence { from: self.from, to: self.from };
        let mut last = self.from;
        for at in received.chain([self.to]) {
            let silence = Silence { from: last, to: at };
            if silence.length() > longest.length() {
                longest = silence;
            }
            last = last.max(at);
        }
        longest
    }

    /// The fewest handovers that explain the answers for a VIP.
    #[must_use]
    pub fn handovers(&self, vip: u16) -> usize {
        handovers(self.of(vip, &[Kind::Arp, Kind::Icmp, Kind::Tcp]))
    }

    /// The answers for a VIP that another director's answers enclose.
    #[must_use]
    pub fn doubles(&self, vip: u16) -> Doubles {
        doubles(&self.of(vip, &[Kind::Arp, Kind::Icmp, Kind::Tcp]))
    }

    /// An answer that a director certainly gave after an instant and before another.
    #[must_use]
    pub fn given_between(&self, by: Director, after: u64, before: u64) -> Option<Answer> {
        let given =
            |answer: &&Answer| answer.by == by && answer.sent >= after && answer.received <= before;
        self.answers.iter().find(given).copied()
    }

    /// Who answered the last question for a VIP that was answered, of those asked since the record
    /// began: not who was heard last, since answers may come late.
    #[must_use]
    pub fn last_by(&self, vip: u16) -> Option<Director> {
        let asked = |answer: &&Answer| answer.vip == vip && answer.sent >= self.from;
        let of = self.answers.iter().filter(asked);
        of.max_by_key(|answer| answer.sent).map(|answer| answer.by)
    }
}

/// Stays with a director for as long as every other's answers allow, then goes to the one whose
/// answer can wait no longer: going anywhere earlier saves no change.
fn handovers(mut answers: Vec<Answer>) -> usize {
    answers.sort_by_key(|answer| answer.received);
    let mut count = 0;
    let mut now: Option<Director> = None;
    // Until when each director has held it so far.
    let mut left: Vec<(Director, u64)> = Vec::new();
    for answer in answers {
        if now == Some(answer.by) {
            continue;
        }
        let held_until = left.iter().find(|(by, _)| *by == answer.by).map(|(_, at)| *at);
        if held_until.is_some_and(|at| answer.sent <= at) {
            continue;
        }
        if let Some(before) = now.replace(answer.by) {
            left.retain(|(by, _)| *by != before);
            left.push((before, answer.received));
            count += 1;
        }
    }
    count
}

fn doubles(answers: &[Answer]) -> Doubles {
    let close_by = nanoseconds(CLOSE_BY);
    let mut directors: Vec<Director> = answers.iter().map(|answer| answer.by).collect();
    directors.sort();
    directors.dedup();
    // Of each director: when its answers were received, and when their questions were sent.
    let times: Vec<(Director, Vec<u64>, Vec<u64>)> = directors
        .into_iter()
        .map(|by| {
            let of = |time: fn(&Answer) -> u64| {
                let mut times: Vec<u64> =
                    answers.iter().filter(|answer| answer.by == by).map(time).collect();
                times.sort_unstable();
                times
            };
            (by, of(|answer| answer.received), of(|answer| answer.sent))
        })
        .collect();
    let enclosed = |answer: &&Answer| {
        times.iter().filter(|(by, ..)| *by != answer.by).any(|(_, received, sent)| {
            let before = received.partition_point(|at| *at < answer.sent);
            let before = before.checked_sub(1).and_then(|at| received.get(at));
            let after = sent.get(sent.partition_point(|at| *at <= answer.received));
            before.is_some_and(|at| answer.sent - at <= close_by)
                && after.is_some_and(|at| at - answer.received <= close_by)
        })
    };
    let mut found: Vec<Answer> = answers.iter().filter(enclosed).copied().collect();
    found.sort_by_key(|answer| answer.sent);
    let differ = |pair: &[Answer]| matches!(pair, [one, next] if one.by != next.by && next.sent <= one.received + close_by);
    Doubles {
        answers: found.len(),
        time: Duration::from_nanos(covered(&found, close_by)),
        first: found.first().copied(),
        mutual: found.windows(2).any(differ),
    }
}

/// The time that answers cover, where no more than `apart` between two is counted in.
fn covered(answers: &[Answer], apart: u64) -> u64 {
    let mut total = 0;
    let mut span: Option<(u64, u64)> = None;
    for answer in answers {
        span = Some(match span {
            Some((from, to)) if answer.sent <= to.saturating_add(apart) => {
                (from, to.max(answer.received))
            }
            before => {
                total += before.map_or(0, |(from, to)| to - from);
                (answer.sent, answer.received)
            }
        });
    }
    total + span.map_or(0, |(from, to)| to - from)
}

#[cfg(test)]
#[path = "analysis_tests.rs"]
mod tests;
