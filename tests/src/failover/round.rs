//! One round: faults strike, somebody else answers or not, they are healed, all settles; and what
//! the observer saw of it. Owns the order of these steps and the waiting between them; judges only
//! what a record proves.

use std::sync::Arc;
use std::time::Duration;

use super::bed::Bed;
use super::fault::Fault;
use crate::lab::clock::{Deadline, wait_until};
use crate::lab::observer::{Answer, Director, Doubles, Observer, Record, now};
use crate::lab::{LabError, in_vm};

/// Within this time somebody else must serve, and one director alone answer once nothing is broken:
/// far past any lease and election, in the virtual machine too.
const LIMIT: Duration = Duration::from_secs(120);

/// Silences up to this are no sign of a move that is under way: an observer on a busy machine.
fn quiet() -> Duration {
    Duration::from_millis(if in_vm() { 2_000 } else { 100 })
}

/// A fault and whom it strikes.
#[derive(Debug, Clone, Copy)]
pub struct Blow {
    /// What is done.
    pub fault: Fault,
    /// To whom.
    pub victim: &'static str,
    /// How long after the one before it.
    pub after: Duration,
}

/// What the observer saw of a round.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The longest silence of any VIP.
    pub gap: Duration,
    /// Answers of two directors at once.
    pub doubles: Doubles,
    /// The fewest handovers that explain each VIP's answers.
    pub handovers: Vec<usize>,
    /// An answer of a victim later than its lease can have run.
    pub late: Option<Late>,
    /// Whether somebody else answered for each VIP that the victims had.
    pub taken_over: bool,
    /// All of it.
    pub record: Record,
}

/// An answer past a deadline.
#[derive(Debug, Clone, Copy)]
pub struct Late {
    /// Whose.
    pub victim: &'static str,
    /// The answer.
    pub answer: Answer,
    /// How long after the blow its question was sent.
    pub after: Duration,
}

/// What an observer sees, from one point on.
#[derive(Debug)]
pub struct Watch {
    observer: Arc<Observer>,
    /// What was seen so far.
    pub record: Record,
}

impl Watch {
    /// Begins now.
    #[must_use]
    pub fn start(observer: Arc<Observer>) -> Self {
        // What came before is nobody's.
        drop(observer.take());
        let record = observer.take();
        Self { observer, record }
    }

    /// Takes what was seen since; gives only that.
    pub fn refresh(&mut self) -> Record {
        let mut record = self.observer.take();
        record.forget_before(self.record.from);
        self.record.append(record.clone());
        record
    }

    /// Who answers for each VIP.
    #[must_use]
    pub fn owners(&self, vips: u16) -> Vec<Option<Director>> {
        (0..vips)
            .map(|vip| self.observer.look(|r| r.last_by(vip)).or_else(|| self.record.last_by(vip)))
            .collect()
    }

    /// Waits until somebody else than a director has answered for these VIPs.
    fn wait_for_others(&mut self, than: Director, vips: &[u16], since: u64) -> bool {
        let mut missing = vips.to_vec();
        let found = wait_until(LIMIT, || {
            let new = self.refresh();
            missing.retain(|vip| {
                !new.answers
                    .iter()
                    .any(|answer| answer.vip == *vip && answer.by != than && answer.sent > since)
            });
            missing.is_empty().then_some(())
        });
        found.is_some()
    }

    /// Waits until each VIP is answered for by one director, with no move under way.
    ///
    /// # Errors
    /// When that never is so.
    pub fn wait_until_steady(&mut self, vips: u16, window: Duration) -> Result<(), LabError> {
        let deadline = Deadline::after(LIMIT);
        loop {
            // Nothing is awaited: that nothing happens is what is to be seen.
            std::thread::sleep(window);
            let seen = self.refresh();
            let steady = |vip| {
                seen.last_by(vip).is_some()
                    && seen.handovers(vip) == 0
                    && seen.longest_silence(vip).length() < quiet()
            };
            if (0..vips).all(steady) {
                return Ok(());
            }
            if deadline.passed() {
                let what = format!("one director alone for each VIP, within {LIMIT:?}");
                let told = |vip| {
                    let (by, silence) = (seen.last_by(vip), seen.longest_silence(vip).length());
                    format!(
                        "VIP {vip}: last {by:?}, {} handovers, silent for {silence:?}",
                        seen.handovers(vip)
                    )
                };
                let text: Vec<String> = (0..vips).map(told).collect();
                return Err(LabError::Unreadable { what, text: text.join("; ") });
            }
        }
    }
}

/// Waits until a deployment is whole and steady.
///
/// # Errors
/// When it never is.
pub fn settle(bed: &mut dyn Bed, watch: &mut Watch) -> Result<(), LabError> {
    bed.settle()?;
    let window = (bed.interval() * 4).max(Duration::from_millis(300));
    watch.wait_until_steady(bed.vips(), window)
}

/// Strikes, waits until others serve where they must, holds for a while, heals, settles.
///
/// # Errors
/// When a blow can't be done, or the deployment never settles.
pub fn play(
    bed: &mut dyn Bed,
    blows: &[Blow],
    hold: Duration,
    mut watch: Watch,
) -> Result<Seen, LabError> {
    watch.refresh();
    let owners = watch.owners(bed.vips());
    let before = now();
    let mut struck = Vec::new();
    for blow in blows {
        std::thread::sleep(blow.after);
        bed.strike(blow.fault, blow.victim)?;
        struck.push(now());
    }
    let taken_over = match blows {
        // Of several, nobody can say who must take over.
        [blow] if blow.fault.moves(bed.lease()) => {
            let victim = bed.number(blow.victim);
            let owned = (0u16..).zip(&owners).filter(|(_, owner)| **owner == Some(victim));
            let owned: Vec<u16> = owned.map(|(vip, _)| vip).collect();
            watch.wait_for_others(victim, &owned, before)
        }
        _ => true,
    };
    for (blow, at) in blows.iter().zip(&struck) {
        if let Fault::Stop(time) = blow.fault {
            let since = Duration::from_nanos(now().saturating_sub(*at));
            std::thread::sleep(time.saturating_sub(since));
        }
    }
    std::thread::sleep(if blows.iter().any(|blow| stops_briefly(blow, bed.lease())) {
        Duration::ZERO
    } else {
        hold
    });
    let healing = now();
    for blow in blows {
        bed.heal(blow.fault, blow.victim)?;
    }
    settle(bed, &mut watch)?;
    let lease = bed.lease();
    let late = blows.iter().zip(&struck).filter(|(blow, _)| blow.fault.ends_renewals());
    let late = late.filter_map(|(blow, at)| {
        let bound = at + nanoseconds(lease + bed.slack());
        let answer = watch.record.given_between(bed.number(blow.victim), bound, healing)?;
        let after = Duration::from_nanos(answer.sent - at);
        Some(Late { victim: blow.victim, answer, after })
    });
    let late = late.min_by_key(|late| late.answer.sent);
    Ok(judge(watch.record, bed.vips(), late, taken_over))
}

/// Whether holding on after it would make another fault of it.
fn stops_briefly(blow: &Blow, lease: Duration) -> bool {
    matches!(blow.fault, Fault::Stop(_)) && !blow.fault.moves(lease)
}

fn judge(record: Record, vips: u16, late: Option<Late>, taken_over: bool) -> Seen {
    let mut seen = Seen { late, taken_over, ..Seen::default() };
    for vip in 0..vips {
        seen.gap = seen.gap.max(record.longest_silence(vip).length());
        seen.handovers.push(record.handovers(vip));
        let doubles = record.doubles(vip);
        seen.doubles.answers += doubles.answers;
        seen.doubles.time = seen.doubles.time.max(doubles.time);
        seen.doubles.first = seen.doubles.first.or(doubles.first);
        seen.doubles.mutual |= doubles.mutual;
    }
    seen.record = record;
    seen
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::observer::Kind;

    #[test]
    fn the_worst_of_the_vips_is_what_a_round_is_judged_by() {
        let answer = |vip, by, ms: u64| Answer {
            sent: ms * 1_000_000,
            received: ms * 1_000_000 + 10,
            vip,
            by: Director(by),
            kind: Kind::Arp,
        };
        let mut answers: Vec<Answer> = (0..100).map(|ms| answer(0, 0, ms)).collect();
        answers.extend((0..40).map(|ms| answer(1, 1, ms)));
        answers.extend((70..100).map(|ms| answer(1, u8::from(ms % 2 == 0), ms)));
        let record = Record { to: 100_000_000, answers, ..Record::default() };
        let seen = judge(record, 2, None, true);
        assert!(seen.gap > Duration::from_millis(30), "{:?}", seen.gap);
        assert_eq!(seen.handovers.first(), Some(&0));
        assert!(seen.doubles.answers > 20 && seen.handovers[1] > 20, "{:?}", seen.doubles);
    }
}
