//! What a director finds out about itself besides its kernel: whether it reaches an arbitration
//! address, and whether its tracks pass. When each is tried next, and what the outcomes so far say.
//!
//! Whether a group moves for it is decided in `placement`. Nothing is tried here. Tests: below.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::id::GroupName;
use crate::probe::Verdict;
use crate::spec::{ClusterSpec, Track, TrackKind};
use crate::time::{Instant, Timing};

/// Echoes in a row without an answer after which an arbitration address counts as lost.
pub const ARBITRATION_FALL: u32 = 3;
/// Answered echoes in a row after which a lost one counts as reached.
pub const ARBITRATION_RISE: u32 = 5;
/// A loss that follows another within this time makes an address distrusted when it is back: for
/// [`DISTRUST`] the first time, and twice as long each time, [`DOUBLINGS_MAX`] times at most. A
/// director takes no group on the word of an address that it distrusts, and keeps what it has: so
/// a gateway that flaps moves a group once, and not with each flap.
pub const CALM: Duration = Duration::from_secs(600);
/// How long an address is distrusted at first.
pub const DISTRUST: Duration = Duration::from_secs(1);
/// How often that doubles at most: 1 s to 64 s.
pub const DOUBLINGS_MAX: u32 = 6;

/// Something that a director tries at intervals. An interface is not among it: the kernel's
/// devices are observed all the time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Watched {
    /// Whether this address answers an ICMP echo request.
    Arbitration {
        /// Whom to ask.
        address: IpAddr,
        /// From one echo request to the next, and how long an answer may take.
        interval: Duration,
    },
    /// Whether this track passes.
    Track(Track),
}

impl Watched {
    fn steps(&self) -> (u32, u32, Duration) {
        match self {
            Self::Arbitration { interval, .. } => (ARBITRATION_RISE, ARBITRATION_FALL, *interval),
            Self::Track(track) => (track.rise, track.fall, track.interval),
        }
    }
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Arbitration { address, .. } => write!(f, "arbitration address {address}"),
            Self::Track(track) => write!(f, "track {}", track.name),
        }
    }
}

/// From one echo request to the next: four renewal intervals, and not less than 200 ms, which a
/// gateway's rate limit for ICMP allows.
#[must_use]
pub fn arbitration_interval(timing: Timing) -> Duration {
    (timing.renew() * 4).max(Duration::from_millis(200))
}

/// The arbitration addresses and tracks of those groups that this node may own.
#[must_use]
pub fn watched(
    spec: &ClusterSpec,
    timing: Timing,
    may_own: impl Fn(&GroupName) -> bool,
) -> BTreeSet<Watched> {
    let interval = arbitration_interval(timing);
    let mut all = BTreeSet::new();
    for (_, group) in spec.groups.iter().filter(|(name, _)| may_own(name)) {
        let arbitration = spec.arbitration_of(group).iter();
        all.extend(arbitration.map(|&address| Watched::Arbitration { address, interval }));
        let tried = |track: &&Track| !matches!(track.kind, TrackKind::Interface(_));
        all.extend(group.tracks.iter().filter(tried).cloned().map(Watched::Track));
    }
    all
}

/// What trying something has shown so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    rise: u32,
    fall: u32,
    interval: Duration,
    verdict: Option<Verdict>,
    /// Outcomes in a row that speak against the verdict.
    against: u32,
}

impl Watch {
    /// Something that has not been tried yet.
    #[must_use]
    pub fn new(watched: &Watched) -> Self {
        let (rise, fall, interval) = watched.steps();
        Self { rise, fall, interval, verdict: None, against: 0 }
    }

    /// Takes the outcome of a try that began at `started`. Returns when to try next, and the
    /// verdict if it is new. Before the first verdict one success is enough, and as many failures
    /// as at any time are needed: a single lost answer moves nothing.
    pub fn finished(
        &mut self,
        started: Instant,
        now: Instant,
        outcome: Result<(), String>,
    ) -> (Instant, Option<Verdict>) {
        let next = (started + self.interval).max(now);
        let is_up = self.verdict.as_ref().map(|verdict| *verdict == Verdict::Up);
        match (outcome, is_up) {
            (Ok(()), Some(true)) => {
                self.against = 0;
                (next, None)
            }
            (Ok(()), None) => (next, self.conclude(Verdict::Up)),
            (Ok(()), Some(false)) => {
                self.against += 1;
                let enough = self.against >= self.rise;
                (next, if enough { self.conclude(Verdict::Up) } else { None })
            }
            (Err(reason), Some(false)) => {
                self.against = 0;
                (next, self.conclude(Verdict::Down(reason)))
            }
            (Err(reason), Some(true) | None) => {
                self.against += 1;
                if self.against < self.fall {
                    return (next, None);
                }
                (next, self.conclude(Verdict::Down(reason)))
            }
        }
    }

    fn conclude(&mut self, verdict: Verdict) -> Option<Verdict> {
        self.against = 0;
        if self.verdict.as_ref() == Some(&verdict) {
            return None;
        }
        self.verdict = Some(verdict.clone());
        Some(verdict)
    }
}

/// What a director keeps of something that it watches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    verdict: Option<Verdict>,
    /// Since when it passes, if it does.
    up_since: Instant,
    /// Losses that each followed another within [`CALM`].
    repeated: u32,
    lost_at: Option<Instant>,
}

impl Record {
    /// The verdict, once there is one.
    #[must_use]
    pub fn verdict(&self) -> Option<&Verdict> {
        self.verdict.as_ref()
    }

    /// Takes note of another verdict.
    pub fn found(&mut self, now: Instant, verdict: Verdict) {
        let was_down = matches!(self.verdict, Some(Verdict::Down(_)));
        match &verdict {
            Verdict::Up | Verdict::Weighs(_) => self.up_since = now,
            Verdict::Down(_) if was_down => {}
            Verdict::Down(_) => {
                let lately = self.lost_at.is_some_and(|lost| now.since(lost) < CALM);
                self.repeated = if lately { self.repeated.saturating_add(1) } else { 0 };
                self.lost_at = Some(now);
            }
        }
        self.verdict = Some(verdict);
    }

    /// Whether it has passed for so long that a group may come here on its word.
    #[must_use]
    pub fn is_trusted(&self, now: Instant) -> bool {
        let Some(doublings) = self.repeated.checked_sub(1) else { return true };
        let wait = DISTRUST * (1 << doublings.min(DOUBLINGS_MAX));
        now.since(self.up_since) >= wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Format, parse};

    const MS: u64 = 1_000_000;

    fn track(rise: u32, fall: u32) -> Watched {
        let name = "t".parse().unwrap();
        let kind = TrackKind::Process("nginx".to_owned());
        let second = Duration::from_secs(1);
        Watched::Track(Track { name, kind, interval: second, timeout: second, rise, fall })
    }

    fn gateway() -> Watched {
        let interval = arbitration_interval(Timing::LAN);
        Watched::Arbitration { address: [192, 0, 2, 1].into(), interval }
    }

    /// Tries it at its interval from `now` on, and gives the tries until the verdict changed.
    fn until(watch: &mut Watch, now: &mut Instant, good: bool, most: u32) -> Option<u32> {
        for tries in 1..=most {
            let outcome = if good { Ok(()) } else { Err("no answer".to_owned()) };
            let (next, verdict) = watch.finished(*now, *now, outcome);
            assert!(next > *now);
            *now = next;
            if verdict.is_some() {
                return Some(tries);
            }
        }
        None
    }

    #[test]
    fn the_first_success_passes_and_the_first_failure_alone_does_not_fail() {
        let now = &mut Instant(MS);
        assert_eq!(until(&mut Watch::new(&gateway()), now, true, 1), Some(1));
        assert_eq!(until(&mut Watch::new(&gateway()), now, false, 9), Some(ARBITRATION_FALL));
    }

    #[test]
    fn a_track_fails_after_fall_and_passes_after_rise_looks_in_a_row() {
        let (mut watch, now) = (Watch::new(&track(3, 2)), &mut Instant(MS));
        assert_eq!(until(&mut watch, now, true, 1), Some(1));
        assert_eq!(until(&mut watch, now, false, 1), None);
        assert_eq!(until(&mut watch, now, true, 5), None);
        assert_eq!(until(&mut watch, now, false, 9), Some(2), "a good look begins the count anew");
        assert_eq!(until(&mut watch, now, true, 2), None);
        assert_eq!(until(&mut watch, now, false, 1), None);
        assert_eq!(until(&mut watch, now, true, 9), Some(3), "a bad look begins the count anew");
        for _ in 0..4 {
            assert_eq!(until(&mut watch, now, false, 9), Some(2));
            assert_eq!(until(&mut watch, now, true, 9), Some(3), "a track's rise is what it says");
        }
    }

    #[test]
    fn an_address_that_is_lost_again_and_again_is_distrusted_longer_each_time() {
        let (mut record, mut now) = (Record::default(), Instant(MS));
        record.found(now, Verdict::Up);
        assert!(record.is_trusted(now));
        let mut waits = Vec::new();
        for _ in 0..9 {
            record.found(now, Verdict::Down("no answer".to_owned()));
            record.found(now, Verdict::Up);
            let seconds = (0..100).find(|s| record.is_trusted(now + Duration::from_secs(*s)));
            waits.push(seconds.unwrap());
            now = now + Duration::from_secs(100);
        }
        assert_eq!(waits, [0, 1, 2, 4, 8, 16, 32, 64, 64]);
        now = now + CALM;
        record.found(now, Verdict::Down("no answer".to_owned()));
        record.found(now, Verdict::Up);
        assert!(record.is_trusted(now), "after a calm time it is as at first");
    }

    #[test]
    fn another_reason_for_a_loss_is_no_further_loss() {
        let (mut record, now) = (Record::default(), Instant(MS));
        for reason in ["no answer", "no route", "no answer"] {
            record.found(now, Verdict::Down(reason.to_owned()));
        }
        record.found(now, Verdict::Up);
        assert!(record.is_trusted(now));
    }

    #[test]
    fn another_reason_is_another_verdict_and_the_same_is_none() {
        let mut watch = Watch::new(&track(1, 1));
        let mut look = |why: &str| watch.finished(Instant(0), Instant(0), Err(why.to_owned())).1;
        assert_eq!(look("a"), Some(Verdict::Down("a".to_owned())));
        assert_eq!(look("a"), None);
        assert_eq!(look("b"), Some(Verdict::Down("b".to_owned())));
    }

    #[test]
    fn a_try_that_took_longer_than_the_interval_is_followed_at_once() {
        let (next, _) = Watch::new(&track(1, 1)).finished(Instant(0), Instant(9_000 * MS), Ok(()));
        assert_eq!(next, Instant(9_000 * MS));
    }

    #[test]
    fn only_what_groups_ask_for_that_this_node_may_own_is_watched() {
        let spec = parse(
            r#"
            cluster.arbitration = ["192.0.2.1"]
            track.nginx = { type = "process", name = "nginx" }
            track.uplink = { type = "interface", interface = "x" }
            track.unused = { type = "file", path = "/a" }
            [group.a]
            interface = "x"
            addresses = ["192.0.2.80"]
            track = ["nginx", "uplink"]
            [group.b]
            interface = "x"
            addresses = ["192.0.2.81"]
            arbitration = ["192.0.2.2"]
            [group.c]
            interface = "x"
            addresses = ["192.0.2.82"]
            arbitration = []
            "#,
            Format::Toml,
        )
        .unwrap();
        let of = |groups: &[&str]| -> Vec<String> {
            let all = watched(&spec, Timing::LAN, |name| groups.contains(&name.as_str()));
            all.iter().map(ToString::to_string).collect()
        };
        assert_eq!(of(&["a"]), ["arbitration address 192.0.2.1", "track nginx"]);
        assert_eq!(of(&["b", "c"]), ["arbitration address 192.0.2.2"]);
        assert_eq!(of(&["c"]), <[&str; 0]>::default());
    }

    #[test]
    fn a_gateway_is_asked_at_most_five_times_a_second() {
        for (timing, ms) in [(Timing::FAST, 200), (Timing::LAN, 200), (Timing::WAN, 1_200)] {
            assert_eq!(arbitration_interval(timing), Duration::from_millis(ms));
        }
    }
}
