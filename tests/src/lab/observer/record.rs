//! What an observer has recorded: its answers, each with when it can have been given, and how well
//! it asked. Owns no judgement (`analysis`). Bounded: a full record says so, and is no evidence.

use std::time::Duration;

/// So many answers are kept between two looks; some fifty megabytes.
pub(super) const ANSWERS_AT_MOST: usize = 2_000_000;

/// How a VIP was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// An ARP request, to everybody.
    Arp,
    /// An echo request, to each director's hardware address.
    Icmp,
    /// A TCP SYN, to each director's hardware address.
    Tcp,
}

/// A director that answers, by its place in the observer's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Director(pub u8);

impl Director {
    /// Somebody with a hardware address that the observer was not told of.
    pub const STRANGER: Self = Self(u8::MAX);
}

/// One answer. It was given at some instant from `sent` to `received`, both on this machine's
/// CLOCK_BOOTTIME, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// Before its question was sent.
    pub sent: u64,
    /// After it was received.
    pub received: u64,
    /// For which of the observer's VIPs.
    pub vip: u16,
    /// Who gave it.
    pub by: Director,
    /// To what kind of question.
    pub kind: Kind,
}

/// What was seen between two looks.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// When it begins.
    pub from: u64,
    /// When it ends.
    pub to: u64,
    /// The answers, in the order in which they were received.
    pub answers: Vec<Answer>,
    /// Ticks at which the VIPs were asked for.
    pub ticks: u64,
    /// The longest time without a question: silences up to that are the observer's own.
    pub blind: Duration,
    /// Answers that were not kept, or whose question was no longer known.
    pub lost: u64,
}

impl Record {
    /// An empty record that begins now.
    pub(super) fn starting(now: u64) -> Self {
        Self { from: now, to: now, ..Self::default() }
    }

    /// Adds an answer while there is room.
    pub(super) fn push(&mut self, answer: Answer) {
        if self.answers.len() < ANSWERS_AT_MOST {
            self.answers.push(answer);
        } else {
            self.lost += 1;
        }
    }

    /// Forgets the answers to what was asked before this instant: they may have been given before it,
    /// and come late. A real server repeats its answer to a SYN for a minute where the end of that
    /// connection got lost, as in a failover.
    pub fn forget_before(&mut self, instant: u64) {
        self.answers.retain(|answer| answer.sent >= instant);
    }

    /// Puts a later record behind this one.
    pub fn append(&mut self, later: Self) {
        self.to = later.to;
        self.ticks += later.ticks;
        self.blind = self.blind.max(later.blind);
        self.lost += later.lost;
        for answer in later.answers {
            self.push(answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_before_is_no_evidence_of_what_came_after() {
        let answer =
            |sent, received| Answer { sent, received, vip: 0, by: Director(0), kind: Kind::Tcp };
        let answers = vec![answer(10, 11), answer(1, 12), answer(13, 14)];
        let mut record = Record { answers, ..Record::default() };
        record.forget_before(10);
        assert_eq!(record.answers, [answer(10, 11), answer(13, 14)]);
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let answer = Answer { sent: 1, received: 2, vip: 0, by: Director(0), kind: Kind::Arp };
        let mut record = Record { answers: vec![answer; ANSWERS_AT_MOST - 1], ..Record::default() };
        let later = Record { answers: vec![answer; 3], lost: 4, ..Record::default() };
        record.append(later);
        assert_eq!((record.answers.len(), record.lost), (ANSWERS_AT_MOST, 6));
    }
}
