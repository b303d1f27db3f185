//! Probe verdicts: when a real server is probed next, and what the outcomes so far say of it.
//!
//! The meaning is the one that LVS operators know (keepalived.conf(5)): a probe each `interval`;
//! after a failed try `retry` further ones, `retry_delay` apart, before the probe has failed. `fall`
//! failed probes in a row make a real server down, `rise` good ones bring it back.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::spec::document::duration_text;
use crate::spec::{Check, CheckKind, Damp, Through};
use crate::time::Instant;

/// What is probed and how: identical checks of several services are one target.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProbeTarget {
    /// Address and port to connect to.
    pub address: SocketAddr,
    /// How.
    pub check: Arc<Check>,
    /// Over the way of clients' packets, if so.
    pub through: Option<Through>,
}

/// What probing a real server has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It answers.
    Up,
    /// It answers, and what looked at it wants it to have this weight.
    Weighs(u32),
    /// It does not, for this reason.
    Down(String),
}

/// What became of one try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// All was as it should be.
    Passed,
    /// So it was, and the real server should have this weight.
    Weighed(u32),
    /// The real server, or the way to it, failed for this reason.
    Failed(String),
    /// This director could not try, for this reason: that says nothing of the real server.
    Untried(String),
}

/// One target's probing so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    check: Arc<Check>,
    verdict: Option<Verdict>,
    /// Failed tries of the probe that is under way.
    tries: u32,
    /// Good probes in a row.
    good: u32,
    /// Failed probes in a row.
    bad: u32,
    /// When it went down lately, where the check is damped: no more of them than hold it.
    fell: VecDeque<Instant>,
    /// Until when it is held down, if it is.
    held: Option<Instant>,
    /// When it could be tried last.
    tried: Option<Instant>,
    /// Whether that is so long ago that its verdict says nothing any more.
    blind: bool,
}

impl Probe {
    /// A target that has not been probed yet.
    #[must_use]
    pub fn new(check: Arc<Check>) -> Self {
        Self {
            check,
            verdict: None,
            tries: 0,
            good: 0,
            bad: 0,
            fell: VecDeque::new(),
            held: None,
            tried: None,
            blind: false,
        }
    }

    /// Notes whether a try came about at all. Returns whether this director is blind for the target from now
    /// on, or no more, if that is new: for longer than a verdict takes it could not try.
    pub fn note_tried(&mut self, now: Instant, outcome: &Outcome) -> Option<bool> {
        let untried = matches!(outcome, Outcome::Untried(_));
        if !untried {
            self.tried = Some(now);
        }
        let last = *self.tried.get_or_insert(now);
        let blind = untried && now.since(last) >= longest_verdict(&self.check);
        (std::mem::replace(&mut self.blind, blind) != blind).then_some(blind)
    }

    /// Takes the outcome of a try that began at `started`. Returns when to try next, and the
    /// verdict if it is new.
    pub fn finished(
        &mut self,
        started: Instant,
        now: Instant,
        outcome: Outcome,
    ) -> (Instant, Option<Verdict>) {
        let regular = (started + self.check.interval).max(now);
        // What passed before its time was over counts for nothing.
        self.held.take_if(|until| started >= *until);
        match outcome {
            Outcome::Passed => (regular, self.passed(Verdict::Up)),
            Outcome::Weighed(weight) => (regular, self.passed(Verdict::Weighs(weight))),
            Outcome::Failed(reason) => {
                self.good = 0;
                self.tries = self.tries.saturating_add(1);
                let was_down = matches!(self.verdict, Some(Verdict::Down(_)));
                // Who is down already is not asked again and again.
                if !was_down && self.tries <= self.check.retry {
                    return (now + self.check.retry_delay, None);
                }
                self.tries = 0;
                self.bad = self.bad.saturating_add(1);
                let down = was_down || self.bad >= self.check.fall;
                if down && self.verdict.is_some() && !was_down {
                    self.fall(now);
                }
                let down = down.then(|| Verdict::Down(self.explained(reason)));
                (regular, down.and_then(|down| self.conclude(down)))
            }
            Outcome::Untried(_) => (regular, None),
        }
    }

    fn passed(&mut self, verdict: Verdict) -> Option<Verdict> {
        (self.tries, self.bad) = (0, 0);
        if self.held.is_some() {
            return None;
        }
        self.good = self.good.saturating_add(1);
        if self.good >= self.check.rise { self.conclude(verdict) } else { None }
    }

    /// It was up, and is down: once too often, maybe.
    fn fall(&mut self, now: Instant) {
        let Some(Damp { flaps, within, hold }) = self.check.damp else { return };
        self.fell.retain(|at| now.since(*at) < within);
        self.fell.push_back(now);
        if self.fell.len() >= usize::try_from(flaps).unwrap_or(usize::MAX) {
            self.fell.clear();
            self.held = Some(now + hold);
        }
    }

    /// Why it is down, for people.
    fn explained(&self, reason: String) -> String {
        match (self.held, self.check.damp) {
            (Some(_), Some(Damp { flaps, within, hold })) => format!(
                "{reason}; held down for {}: it went down {flaps} times within {}",
                duration_text(hold),
                duration_text(within)
            ),
            _ => reason,
        }
    }

    fn conclude(&mut self, verdict: Verdict) -> Option<Verdict> {
        if self.verdict.as_ref() == Some(&verdict) {
            return None;
        }
        self.verdict = Some(verdict.clone());
        Some(verdict)
    }
}

/// The longest that a target which changed can take to get its new verdict, up or down.
#[must_use]
pub fn longest_verdict(check: &Check) -> Duration {
    let interval = check.interval;
    // Each page has the whole time.
    let pages = match &check.kind {
        CheckKind::Http(http) => u32::try_from(http.requests.len()).unwrap_or(u32::MAX).max(1),
        _ => 1,
    };
    let timeout = check.timeout.saturating_mul(pages);
    let tries = (timeout + check.retry_delay).saturating_mul(check.retry);
    let down = (tries + interval.max(timeout)).saturating_mul(check.fall);
    let held = check.damp.map_or(Duration::ZERO, |damp| damp.hold);
    let up = interval.max(timeout).saturating_mul(check.rise) + held;
    interval + down.max(up)
}

/// Tries that are due within so much of each other begin at once, where that is no more than so small a part
/// of their interval: thousands, each at its own millisecond, would wake the daemon for each.
const TOGETHER: Duration = Duration::from_millis(10);
const TOGETHER_PART: u32 = 100;

/// When a try that is due at `next` begins: somewhat early, at a time that it shares with others.
#[must_use]
pub fn begins(next: Instant, interval: Duration) -> Instant {
    let step = TOGETHER.min(interval / TOGETHER_PART).as_nanos();
    let step = u64::try_from(step).unwrap_or(u64::MAX);
    Instant(next.0.checked_rem(step).map_or(next.0, |early| next.0 - early))
}

/// Where in its warm-up a target's first probe falls, so that not all begin at once: a fixed
/// fraction for each target (FNV-1a of its address).
#[must_use]
pub fn first_delay(target: &ProbeTarget) -> Duration {
    let text = target.address.to_string();
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let parts = u32::try_from(hash % 1_000_000).unwrap_or(0);
    target.check.warmup.mul_f64(f64::from(parts) / 1_000_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::document::Format;
    use crate::spec::parse;

    /// A check that is given in the words of the configuration.
    fn check(words: &str) -> Arc<Check> {
        let text = format!(
            "group.g = {{ interface = \"lan\", addresses = [\"192.0.2.1\"] }}\n\
             [service.s]\ngroup = \"g\"\nlisten = \"tcp/192.0.2.1:80\"\nreal_servers = []\n\
             check = {{ type = \"tcp\", {words} }}\n"
        );
        let spec = parse(&text, Format::Toml).unwrap();
        Arc::clone(&spec.services.values().next().unwrap().checks[0])
    }

    fn probe() -> Probe {
        Probe::new(check("retry = 2, retry_delay = \"1s\""))
    }

    fn seconds(s: u64) -> Instant {
        Instant(s * 1_000_000_000)
    }

    fn refused() -> Outcome {
        Outcome::Failed("connection refused".to_owned())
    }

    #[test]
    fn a_real_server_is_down_after_its_retries_failed_too() {
        let mut probe = probe();
        assert_eq!(
            probe.finished(seconds(0), seconds(0), Outcome::Passed),
            (seconds(6), Some(Verdict::Up))
        );
        assert_eq!(probe.finished(seconds(6), seconds(6), refused()), (seconds(7), None));
        assert_eq!(probe.finished(seconds(7), seconds(7), refused()), (seconds(8), None));
        let (next, verdict) = probe.finished(seconds(8), seconds(8), refused());
        assert_eq!(next, seconds(14));
        assert_eq!(verdict, Some(Verdict::Down("connection refused".to_owned())));
        assert_eq!(probe.finished(seconds(14), seconds(14), refused()), (seconds(20), None));
    }

    #[test]
    fn one_success_brings_a_real_server_back() {
        let mut probe = probe();
        for _ in 0..3 {
            probe.finished(seconds(0), seconds(0), refused());
        }
        let (_, verdict) = probe.finished(seconds(6), seconds(6), Outcome::Passed);
        assert_eq!(verdict, Some(Verdict::Up));
    }

    #[test]
    fn a_success_among_the_retries_starts_the_count_anew() {
        let mut probe = probe();
        probe.finished(seconds(0), seconds(0), refused());
        probe.finished(seconds(1), seconds(1), refused());
        probe.finished(seconds(2), seconds(2), Outcome::Passed);
        assert_eq!(probe.finished(seconds(8), seconds(8), refused()).1, None);
    }

    #[test]
    fn a_try_that_took_longer_than_the_interval_is_followed_at_once() {
        let (next, _) = probe().finished(seconds(0), seconds(9), Outcome::Passed);
        assert_eq!(next, seconds(9));
    }

    #[test]
    fn rise_and_fall_are_probes_in_a_row() {
        let mut probe = Probe::new(check("retry = 0, rise = 2, fall = 2"));
        let mut verdicts = |outcomes: &[Outcome]| -> Vec<Option<Verdict>> {
            let finished = |o: &Outcome| probe.finished(seconds(0), seconds(0), o.clone()).1;
            outcomes.iter().map(finished).collect()
        };
        let (good, bad, down) =
            (Outcome::Passed, refused(), Verdict::Down("connection refused".into()));
        let (good, bad) = (|| good.clone(), || bad.clone());
        assert_eq!(
            verdicts(&[bad(), good(), bad(), good(), good()]),
            [None, None, None, None, Some(Verdict::Up)]
        );
        assert_eq!(
            verdicts(&[bad(), good(), bad(), bad(), bad()]),
            [None, None, None, Some(down), None]
        );
        assert_eq!(
            verdicts(&[good(), bad(), good(), good()]),
            [None, None, None, Some(Verdict::Up)]
        );
    }

    const DAMPED: &str =
        "retry = 0, rise = 2, damp = { flaps = 3, within = \"1m\", hold = \"2m\" }";

    /// What a damped probe says when it is tried at these seconds, and passes or does not.
    fn damped(tries: &[(u64, bool)]) -> Vec<Option<Verdict>> {
        let mut probe = Probe::new(check(DAMPED));
        let tried = |(at, passes): &(u64, bool)| {
            let outcome = if *passes { Outcome::Passed } else { refused() };
            let said = probe.finished(seconds(*at), seconds(*at), outcome).1;
            assert!(probe.fell.len() < 3, "no more are kept than hold it");
            said
        };
        tries.iter().map(tried).collect()
    }

    /// Two good probes and a bad one, from each of these seconds on.
    fn flaps(at: &[u64]) -> Vec<(u64, bool)> {
        at.iter().flat_map(|&at| [(at, true), (at + 1, true), (at + 2, false)]).collect()
    }

    #[test]
    fn a_real_server_that_goes_down_too_often_is_held_down_and_then_has_to_rise() {
        let mut tries = flaps(&[0, 10, 20]);
        // Held from 22 to 142, whatever it answers; then two good ones in a row.
        tries.extend([(30, true), (31, true), (141, true), (142, true), (148, true)]);
        let said = damped(&tries);
        let plain = Some(Verdict::Down("connection refused".to_owned()));
        assert_eq!(
            said[..6],
            [None, Some(Verdict::Up), plain.clone(), None, Some(Verdict::Up), plain]
        );
        let held = "connection refused; held down for 2m: it went down 3 times within 60s";
        assert_eq!(said[8], Some(Verdict::Down(held.to_owned())));
        assert_eq!(said[9..], [None, None, None, None, Some(Verdict::Up)]);
    }

    #[test]
    fn going_down_seldom_or_from_nothing_known_holds_nobody() {
        let seldom = damped(&flaps(&[0, 31, 62, 93, 124]));
        assert_eq!(seldom.iter().filter(|said| **said == Some(Verdict::Up)).count(), 5);
        // The first verdict is no change, and to fail again and again is one.
        let mut tries = vec![(0, false), (1, false), (2, false)];
        tries.extend(flaps(&[3, 6]));
        tries.extend([(9, true), (10, true)]);
        assert_eq!(damped(&tries).last().unwrap(), &Some(Verdict::Up));
    }

    #[test]
    fn another_failure_while_it_is_held_is_another_reason_and_holds_no_longer() {
        let mut probe = Probe::new(check(DAMPED));
        for (at, passes) in flaps(&[0, 10, 20]) {
            let outcome = if passes { Outcome::Passed } else { refused() };
            probe.finished(seconds(at), seconds(at), outcome);
        }
        let other = || Outcome::Failed("no route".to_owned());
        let (_, said) = probe.finished(seconds(100), seconds(100), other());
        let Some(Verdict::Down(reason)) = said else { panic!("{said:?}") };
        assert!(reason.starts_with("no route; held down for 2m"), "{reason}");
        // Its time is over, and what is left is why it is down.
        let (_, said) = probe.finished(seconds(142), seconds(142), other());
        assert_eq!(said, Some(Verdict::Down("no route".to_owned())));
        assert_eq!(probe.finished(seconds(148), seconds(148), Outcome::Passed).1, None);
        assert!(probe.finished(seconds(154), seconds(154), Outcome::Passed).1.is_some());
    }

    #[test]
    fn without_damping_a_real_server_comes_and_goes() {
        let mut probe = Probe::new(check("retry = 0"));
        for at in 0..100 {
            let outcome = if at % 2 == 0 { Outcome::Passed } else { refused() };
            assert!(probe.finished(seconds(at), seconds(at), outcome).1.is_some());
        }
        assert!(probe.fell.is_empty());
    }

    #[test]
    fn what_could_not_be_tried_counts_for_nothing() {
        let mut probe = Probe::new(check("retry = 0, fall = 2"));
        let untried = || Outcome::Untried("too many open files".to_owned());
        assert_eq!(probe.finished(seconds(0), seconds(0), refused()).1, None);
        assert_eq!(probe.finished(seconds(6), seconds(6), untried()), (seconds(12), None));
        assert!(probe.finished(seconds(12), seconds(12), refused()).1.is_some());
    }

    #[test]
    fn tries_that_are_due_close_together_begin_at_once_and_a_hundredth_of_the_interval_early_at_most()
     {
        let begin = |ms: u64, interval| {
            begins(Instant(ms * 1_000_000), Duration::from_millis(interval)).0 / 1_000
        };
        assert_eq!(
            [1_003, 1_009, 1_010].map(|due| begin(due, 2_000)),
            [1_000_000, 1_000_000, 1_010_000]
        );
        assert_eq!(begin(1_003, 200), 1_002_000);
        assert_eq!(begin(1_003, 0), 1_003_000);
        // What began when it was to begin is due when others are, time after time.
        let mut probe = Probe::new(check("interval = \"2s\""));
        let late = Duration::from_millis(3);
        let (next, _) = probe.finished(seconds(4) + late, seconds(4) + late, Outcome::Passed);
        assert_eq!(begins(next, Duration::from_secs(2)), seconds(6));
    }

    #[test]
    fn who_can_not_try_for_longer_than_a_verdict_takes_is_blind_until_it_can() {
        let mut probe = Probe::new(check("interval = \"6s\", timeout = \"1s\", retry = 0"));
        let untried = || Outcome::Untried("too many open files".to_owned());
        let mut note = |at: u64, outcome: Outcome| probe.note_tried(seconds(at), &outcome);
        assert_eq!(note(0, Outcome::Passed), None);
        assert_eq!([6, 11].map(|at| note(at, untried())), [None, None]);
        assert_eq!([12, 18].map(|at| note(at, untried())), [Some(true), None]);
        assert_eq!(note(24, refused()), Some(false));
        assert_eq!([30, 36].map(|at| note(at, untried())), [None, Some(true)]);
    }

    #[test]
    fn a_check_each_50_ms_has_a_dead_real_server_down_after_its_fall_and_one_time_out_each() {
        let check = check("interval = \"50ms\", timeout = \"50ms\", retry = 0, rise = 2, fall = 3");
        let ms = |ms: u64| Instant(ms * 1_000_000);
        let mut probe = Probe::new(Arc::clone(&check));
        assert_eq!(probe.finished(ms(0), ms(0), Outcome::Passed).1, None);
        let (mut next, up) = probe.finished(ms(50), ms(50), Outcome::Passed);
        assert_eq!(up, Some(Verdict::Up));
        // It dies as soon as it has answered, and says nothing: each try takes its time-out.
        let (died, mut down) = (ms(50), None);
        while down.is_none() {
            let noticed = next + check.timeout;
            (next, down) = probe.finished(next, noticed, refused());
            assert!(noticed.since(died) <= longest_verdict(&check), "{down:?}");
            assert_eq!(down.is_some(), noticed == ms(250), "three times 50 ms, and the one before");
        }
        assert_eq!(longest_verdict(&check), Duration::from_millis(200));
    }

    #[test]
    fn first_probes_are_spread_over_the_warm_up() {
        let check = check("interval = \"6s\"");
        let delay = |n: u8| {
            let address = SocketAddr::from(([10, 0, 0, n], 80));
            first_delay(&ProbeTarget { address, check: Arc::clone(&check), through: None })
        };
        let mut delays: Vec<Duration> = (0..=255).map(delay).collect();
        delays.sort_unstable();
        let quarter = |n: u32| delays.iter().filter(|d| d.as_millis() / 1_500 == n.into()).count();
        assert_eq!((0..4).map(quarter).sum::<usize>(), 256);
        assert!((0..4).all(|n| quarter(n) > 32), "{delays:?}");
    }
}
