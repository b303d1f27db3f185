//! What came from one node: copies over other links are told by their number and dropped, parts
//! are joined. Pure: time is an argument. Everything is bounded, whatever the node sends.

use std::collections::BTreeMap;
use std::time::Duration;

use prost::bytes::Bytes;
use quorate_api::peer::v1 as peer;
use tokio::time::Instant;

use super::cut::{BODY_BYTES, PARTS_MAX};

/// Messages of which some parts came: a node sends two or three in a renewal interval.
const PARTIAL_MAX: usize = 8;

/// What came from one start of one node's daemon.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    start: u64,
    seen: Window,
    partial: BTreeMap<u64, Partial>,
}

/// The numbers that came of the last 128: older ones count as seen.
#[derive(Debug, Default, Clone, Copy)]
struct Window {
    /// One more than the highest.
    next: u64,
    /// Bit 0 is the highest.
    bits: u128,
}

impl Window {
    fn has(&self, number: u64) -> bool {
        match self.next.checked_sub(number) {
            None | Some(0) => false,
            Some(age @ 1..=128) => self.bits >> (age - 1) & 1 == 1,
            Some(_) => true,
        }
    }

    fn note(&mut self, number: u64) {
        if number >= self.next {
            let ahead = number.saturating_sub(self.next).saturating_add(1);
            let shift = u32::try_from(ahead).unwrap_or(u32::MAX);
            self.bits = self.bits.checked_shl(shift).unwrap_or(0);
            self.next = number.saturating_add(1);
        }
        if let age @ 1..=128 = self.next - number {
            self.bits |= 1 << (age - 1);
        }
    }
}

/// A message of which some parts came.
#[derive(Debug)]
struct Partial {
    divisible: bool,
    came: Vec<bool>,
    missing: usize,
    /// Those that were not handed on yet.
    kept: BTreeMap<u32, Bytes>,
    /// When the first of those came.
    since: Instant,
}

impl Partial {
    fn take_kept(&mut self) -> Option<Vec<u8>> {
        let kept = std::mem::take(&mut self.kept);
        (!kept.is_empty()).then(|| kept.values().flatten().copied().collect())
    }
}

impl Inbox {
    /// Takes a frame; what is complete now comes back, each an encoded `Datagram`.
    pub(super) fn take(&mut self, frame: peer::Frame, now: Instant) -> Vec<Bytes> {
        if frame.start != self.start {
            *self = Self { start: frame.start, ..Self::default() };
        }
        if self.seen.has(frame.sequence) {
            return Vec::new();
        }
        if frame.count <= 1 {
            self.seen.note(frame.sequence);
            return vec![frame.body];
        }
        let (count, index) = (frame.count as usize, frame.index as usize);
        if count > PARTS_MAX || index >= count || frame.body.len() > BODY_BYTES {
            return Vec::new();
        }
        let partial = self.partial.entry(frame.sequence).or_insert_with(|| Partial {
            divisible: frame.divisible,
            came: vec![false; count],
            missing: count,
            kept: BTreeMap::new(),
            since: now,
        });
        let fits = partial.came.len() == count && partial.divisible == frame.divisible;
        if !fits || partial.came.get(index) != Some(&false) {
            return Vec::new();
        }
        if partial.kept.is_empty() {
            partial.since = now;
        }
        if let Some(came) = partial.came.get_mut(index) {
            *came = true;
        }
        partial.missing -= 1;
        partial.kept.insert(frame.index, frame.body);
        let mut whole = Vec::new();
        if partial.missing == 0 {
            whole.extend(self.end(frame.sequence, true));
        } else if self.partial.len() > PARTIAL_MAX
            && let Some((&oldest, _)) = self.partial.first_key_value()
        {
            whole.extend(self.end(oldest, false));
        }
        whole
    }

    /// Forgets a message: nothing more of it is taken. Comes back what of it is of use.
    fn end(&mut self, sequence: u64, complete: bool) -> Option<Bytes> {
        self.seen.note(sequence);
        let mut partial = self.partial.remove(&sequence)?;
        let of_use = complete || partial.divisible;
        of_use.then(|| partial.take_kept()).flatten().map(Bytes::from)
    }

    /// Hands on the parts that have waited this long for the rest and mean something without it.
    pub(super) fn flush(&mut self, now: Instant, patience: Duration) -> Vec<Bytes> {
        let waited = |p: &&mut Partial| p.divisible && now >= p.since + patience;
        let partial = self.partial.values_mut().filter(waited);
        partial.filter_map(Partial::take_kept).map(Bytes::from).collect()
    }

    /// When [`Self::flush`] has something to do next.
    pub(super) fn flush_at(&self, patience: Duration) -> Option<Instant> {
        let waiting = self.partial.values().filter(|p| p.divisible && !p.kept.is_empty());
        waiting.map(|p| p.since + patience).min()
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::super::cut::tests::{renew, report};
    use super::super::cut::{Parts, cut};
    use super::*;
    use peer::datagram::Message;

    const PATIENCE: Duration = Duration::from_millis(5);

    fn frames(message: Message, sequence: u64) -> Vec<peer::Frame> {
        let Parts { bodies, divisible } = cut(message).unwrap();
        let count = u32::try_from(bodies.len()).unwrap();
        let frame = |(index, body)| peer::Frame {
            route: None,
            start: 1,
            sequence,
            index,
            count,
            divisible,
            body,
        };
        (0..).zip(bodies).map(frame).collect()
    }

    fn decoded(body: &Bytes) -> Message {
        peer::Datagram::decode(body.clone()).unwrap().message.unwrap()
    }

    fn take_all(inbox: &mut Inbox, frames: impl IntoIterator<Item = peer::Frame>) -> Vec<Message> {
        let now = Instant::now();
        let bodies = frames.into_iter().flat_map(|frame| inbox.take(frame, now));
        bodies.map(|body| decoded(&body)).collect()
    }

    #[tokio::test]
    async fn a_message_arrives_once_however_many_links_carry_it() {
        for groups in [1, 500, 4_000] {
            for message in [renew(groups, 1), report(groups)] {
                let mut inbox = Inbox::default();
                let copies = frames(message.clone(), 7);
                let mut both = copies.clone();
                both.extend(copies);
                assert_eq!(take_all(&mut inbox, both), [message]);
            }
        }
    }

    #[tokio::test]
    async fn what_one_link_loses_the_other_brings() {
        for message in [renew(500, 1), report(500)] {
            let mut inbox = Inbox::default();
            let (even, odd): (Vec<_>, Vec<_>) =
                frames(message.clone(), 7).into_iter().partition(|f| f.index % 2 == 0);
            // The second link is the slower one, and turns the order round.
            let came = take_all(&mut inbox, even.into_iter().chain(odd.into_iter().rev()));
            let [Message::Renew(_) | Message::Report(_)] = came.as_slice() else {
                panic!("{} messages", came.len())
            };
            assert_eq!(came, [message]);
        }
    }

    #[tokio::test]
    async fn the_parts_of_a_renewal_that_came_are_handed_on_without_the_rest() {
        let mut inbox = Inbox::default();
        let mut all = frames(renew(500, 1), 7);
        let late = all.remove(3);
        let now = Instant::now();
        assert!(all.into_iter().all(|frame| inbox.take(frame, now).is_empty()));
        assert_eq!(inbox.flush_at(PATIENCE), Some(now + PATIENCE));
        assert!(inbox.flush(now, PATIENCE).is_empty());
        let groups = |bodies: &[Bytes]| match bodies.iter().map(decoded).collect::<Vec<_>>()[..] {
            [Message::Renew(ref renew)] => renew.groups.len(),
            _ => 0,
        };
        let first = inbox.flush(now + PATIENCE, PATIENCE);
        assert!(inbox.flush(now + PATIENCE, PATIENCE).is_empty(), "handed on once");
        assert_eq!(inbox.flush_at(PATIENCE), None);
        // What comes after all is handed on, too, and then it is done.
        let second = inbox.take(late.clone(), now + PATIENCE);
        assert_eq!(groups(&first) + groups(&second), 500);
        assert!(inbox.take(late, now + PATIENCE).is_empty());
    }

    #[tokio::test]
    async fn a_report_counts_only_as_a_whole() {
        let mut inbox = Inbox::default();
        let mut all = frames(report(500), 7);
        all.pop();
        let now = Instant::now();
        assert!(all.into_iter().all(|frame| inbox.take(frame, now).is_empty()));
        assert_eq!(inbox.flush_at(PATIENCE), None);
        assert!(inbox.flush(now + PATIENCE * 100, PATIENCE).is_empty());
    }

    #[tokio::test]
    async fn what_is_kept_of_incomplete_messages_is_bounded() {
        let mut inbox = Inbox::default();
        let now = Instant::now();
        let mut evicted = 0;
        for sequence in 0..100 {
            let mut all = frames(renew(100, 1), sequence);
            evicted += inbox.take(all.remove(0), now).len();
            assert!(inbox.partial.len() <= PARTIAL_MAX);
        }
        assert_eq!(evicted, 100 - PARTIAL_MAX, "what is of use is handed on");
        let lie = |count, index| peer::Frame { count, index, sequence: 200, ..Default::default() };
        for (count, index) in [(u32::MAX, 0), (2, 2), (2, u32::MAX)] {
            inbox = Inbox::default();
            assert!(inbox.take(lie(count, index), now).is_empty() && inbox.partial.is_empty());
        }
    }

    #[tokio::test]
    async fn parts_of_different_cuts_are_never_joined() {
        let mut inbox = Inbox::default();
        let now = Instant::now();
        let part = |index, count| peer::Frame {
            start: 1,
            sequence: 1,
            index,
            count,
            ..Default::default()
        };
        assert!(inbox.take(part(0, 3), now).is_empty());
        assert!(inbox.take(part(1, 2), now).is_empty());
        assert_eq!(inbox.partial.values().map(|p| p.missing).collect::<Vec<_>>(), [2]);
    }

    #[tokio::test]
    async fn a_restarted_daemon_begins_its_numbers_anew() {
        let mut inbox = Inbox::default();
        assert_eq!(take_all(&mut inbox, frames(renew(1, 1), 900)).len(), 1);
        let again = frames(renew(1, 1), 1).into_iter().map(|f| peer::Frame { start: 2, ..f });
        assert_eq!(take_all(&mut inbox, again).len(), 1);
    }

    #[test]
    fn a_window_knows_the_last_128_numbers_and_takes_older_ones_for_seen() {
        let mut window = Window::default();
        assert!(!window.has(0));
        for number in [5, 3, 130] {
            assert!(!window.has(number));
            window.note(number);
            assert!(window.has(number));
        }
        assert!(!window.has(4) && window.has(3) && window.has(5) && window.has(2));
        window.note(u64::MAX - 1);
        assert!(window.has(130) && !window.has(u64::MAX - 2));
        window.note(u64::MAX);
        assert!(window.has(0));
    }
}
