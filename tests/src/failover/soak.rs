//! The soak of failover: fault after fault at random points, with an observer that asks all the
//! while. At no instant may two directors answer, and none may answer past its lease.
//!
//! Owns which faults are thrown, and the sum. The test is `tests/tests/lab_host_failover.rs`; by hand,
//! `cargo xtask soak failover`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::bed::{Bed, others};
use super::fault::Fault;
use super::quorate::{Quorate, Setup, Timing};
use super::round::{Blow, Seen, Watch, play, settle};
use super::statistics::{Distribution, milliseconds};
use crate::dice::Dice;
use crate::lab::clock::Stopwatch;
use crate::lab::disk::DiskWatch;
use crate::lab::observer::Director;
use crate::lab::{LabError, artefacts_dir};

/// A sync that takes longer is told of: nothing is committed while the disk stands still.
const STOOD_STILL: Duration = Duration::from_millis(500);

/// What to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many rounds of faults, over all deployments.
    pub faults: u32,
    /// Whose dice are thrown.
    pub seed: u64,
    /// The folder of the logs, among the artefacts.
    pub name: String,
    /// The deployments, by directors and times; each gets its share.
    pub deployments: Vec<(usize, Timing)>,
    /// Whether a daemon may be stopped for up to a minute.
    pub long_stops: bool,
}

/// What was done and seen.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Rounds.
    pub faults: u32,
    /// Rounds in which two directors answered at once.
    pub double: u32,
    /// Rounds in which a director answered past its lease.
    pub late: u32,
    /// Rounds with another thing that must not be.
    pub other: u32,
    /// Answers that were seen.
    pub answers: usize,
    /// The gaps by kind of fault.
    pub gaps: BTreeMap<&'static str, Distribution>,
}

impl Summary {
    /// Whether nothing was seen that must not be.
    #[must_use]
    pub fn held(&self) -> bool {
        self.double + self.late + self.other == 0
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "{:<36} {:>6} {:>9} {:>9} {:>9}",
            "fault to an owner", "rounds", "gap p50", "p99", "max"
        )?;
        for (kind, gaps) in &self.gaps {
            let ms = |duration| format!("{} ms", milliseconds(duration));
            writeln!(
                f,
                "{kind:<36} {:>6} {:>9} {:>9} {:>9}",
                gaps.count(),
                ms(gaps.median()),
                ms(gaps.percentile(99)),
                ms(gaps.longest())
            )?;
        }
        write!(
            f,
            "{} faults, {} answers; rounds with two directors answering: {}; with answers past a \
             deadline: {}; with something else that is wrong: {}",
            self.faults, self.answers, self.double, self.late, self.other
        )
    }
}

/// Runs the soak; `say` gets one line after the other.
///
/// # Errors
/// When the lab can't be set up, or a deployment never settles again.
pub fn run(options: &Options, say: &mut dyn FnMut(&str)) -> Result<Summary, LabError> {
    let mut dice = Dice::new(options.seed);
    let mut summary = Summary::default();
    let watch = Stopwatch::start();
    let disk = DiskWatch::start(&artefacts_dir().join(&options.name))?;
    let shares = u32::try_from(options.deployments.len()).unwrap_or(1).max(1);
    for (share, (directors, timing)) in (0u32..).zip(&options.deployments) {
        let count = (options.faults + shares - 1 - share) / shares;
        let name = format!("{}_{share}", options.name);
        say(&format!(
            "seed {}: {count} faults on {directors} directors, lease {:?}; logs in {}",
            options.seed,
            timing.lease,
            artefacts_dir().join(&name).display()
        ));
        let mut bed = Quorate::new(setup(&name, *directors, *timing))?;
        for _ in 0..count {
            let played = round(&mut bed, options, &mut dice, &mut summary, say);
            let stood = disk.take();
            if stood > STOOD_STILL {
                say(&format!("  this machine's disk took {stood:?} for one sync meanwhile"));
            }
            played?;
        }
    }
    say(&format!("{summary}\n{:.0} s (seed {})", watch.elapsed().as_secs_f64(), options.seed));
    Ok(summary)
}

/// Three groups; two return to a preferred director, so that there is more to go wrong.
fn setup(name: &str, directors: usize, timing: Timing) -> Setup {
    Setup {
        groups: 3,
        observed: vec![0, 1, 2],
        keys: "prefer = [\"d1\", \"d2\"]\npreempt_delay = \"2s\"".to_owned(),
        ..Setup::one_group(name, directors, timing)
    }
}

fn round(
    bed: &mut Quorate,
    options: &Options,
    dice: &mut Dice,
    summary: &mut Summary,
    say: &mut dyn FnMut(&str),
) -> Result<(), LabError> {
    let mut watch = Watch::start(bed.observer());
    settle(bed, &mut watch)?;
    let epochs = bed.epochs();
    let mut watch = Watch::start(bed.observer());
    std::thread::sleep(dice.time_below(bed.interval() * 10));
    watch.refresh();
    let owners = watch.owners(bed.vips());
    let blows = throw(bed, &owners, options, dice);
    let told: Vec<String> =
        blows.iter().map(|blow| format!("{} {}", blow.victim, blow.fault)).collect();
    let told = told.join(", ");
    let hold = dice.time_below(Duration::from_millis(600));
    let seen = play(bed, &blows, hold, watch)?;
    let grants = epochs.and_then(|before| Some(grants(&before, &bed.epochs()?)));
    summary.faults += 1;
    summary.answers += seen.record.answers.len();
    let owns = |blow: &Blow| owners.contains(&Some(bed.number(blow.victim)));
    let kind = match blows.as_slice() {
        [blow] if owns(blow) => blow.fault.name(),
        [_] => "any of these, to a standby",
        _ => "two of these at once",
    };
    summary.gaps.entry(kind).or_default().add(seen.gap);
    let wrong = wrong(&seen, grants.as_deref(), summary);
    say(&format!(
        "fault {:4}: {told}: gap {} ms, {:?} handovers{}",
        summary.faults,
        milliseconds(Some(seen.gap)),
        seen.handovers,
        if seen.record.blind > Duration::from_millis(20) {
            format!(" (did not ask for {:?})", seen.record.blind)
        } else {
            String::new()
        }
    ));
    if !wrong.is_empty() {
        let path = keep(options, summary.faults, &told, &wrong, &seen)?;
        say(&format!("  WRONG: {}; kept in {}", wrong.join("; "), path.display()));
    }
    Ok(())
}

/// The grants made for each VIP between two looks: each has an epoch of its own.
fn grants(before: &[u64], after: &[u64]) -> Vec<u64> {
    before.iter().zip(after).map(|(before, after)| after.saturating_sub(*before)).collect()
}

/// What is wrong with a round; counts it. Without knowledge of the grants, going there and back at
/// once counts as wrong too.
fn wrong(seen: &Seen, grants: Option<&[u64]>, summary: &mut Summary) -> Vec<String> {
    let mut wrong = Vec::new();
    let granted = |grants: &[u64]| {
        let handovers =
            seen.handovers.iter().map(|count| u64::try_from(*count).unwrap_or(u64::MAX));
        grants.len() == seen.handovers.len() && handovers.zip(grants).all(|(seen, of)| seen <= *of)
    };
    if seen.doubles.answers > 0 && (seen.doubles.mutual || !grants.is_some_and(granted)) {
        summary.double += 1;
        wrong.push(format!(
            "two directors answered for {:?} ({} answers; grants {grants:?})",
            seen.doubles.time, seen.doubles.answers
        ));
    } else if grants.is_some_and(|grants| !granted(grants)) {
        summary.double += 1;
        wrong.push(format!("more handovers than the grants explain ({grants:?})"));
    }
    if let Some(late) = seen.late {
        summary.late += 1;
        wrong.push(format!("{} answered {:?} after it was struck", late.victim, late.after));
    }
    let count = wrong.len();
    if !seen.taken_over {
        wrong.push("nobody took over".to_owned());
    }
    if seen.record.answers.iter().any(|answer| answer.by == Director::STRANGER) {
        wrong.push("somebody answered who is no director".to_owned());
    }
    if seen.record.lost > 0 {
        wrong.push(format!("{} answers were not recorded", seen.record.lost));
    }
    summary.other += u32::from(wrong.len() > count);
    wrong
}

/// Whom to strike, and how; mostly an owner, now and then two directors at once.
fn throw(
    bed: &Quorate,
    owners: &[Option<Director>],
    options: &Options,
    dice: &mut Dice,
) -> Vec<Blow> {
    let mut directors = bed.directors().to_vec();
    dice.shuffle(&mut directors);
    let owner = owners.get(dice.below(owners.len())).copied().flatten();
    let owner = owner.and_then(|owner| bed.name(owner));
    let first = match owner {
        Some(owner) if !dice.one_in(4) => owner,
        _ => directors.first().copied().unwrap_or("d1"),
    };
    let mut blows =
        vec![Blow { fault: fault(options, dice), victim: first, after: Duration::ZERO }];
    let second = others(&directors, first).first().copied();
    if let Some(victim) = second.filter(|_| dice.one_in(5)) {
        // A move needs a cluster that can carry it out.
        let after = dice.time_below(bed.lease());
        let fault = fault(options, dice);
        blows.push(Blow { fault, victim, after });
        blows.retain(|blow| !matches!(blow.fault, Fault::Move));
    }
    if blows.is_empty() {
        blows.push(Blow { fault: Fault::Kill, victim: first, after: Duration::ZERO });
    }
    blows
}

fn fault(options: &Options, dice: &mut Dice) -> Fault {
    let stop = |dice: &mut Dice| {
        let limit = match dice.below(10) {
            0..3 => Duration::from_millis(100),
            3..7 => Duration::from_secs(1),
            _ if options.long_stops && dice.one_in(30) => Duration::from_secs(60),
            _ => Duration::from_secs(3),
        };
        Fault::Stop(Duration::from_millis(10) + dice.time_below(limit))
    };
    match dice.below(13) {
        0..2 => Fault::Kill,
        2 => Fault::Restart,
        3..7 => stop(dice),
        7 => Fault::CutLink,
        8 => Fault::CutSilently,
        9 => Fault::Isolate,
        10 => {
            if dice.one_in(2) {
                Fault::Mute
            } else {
                Fault::Deafen
            }
        }
        11 => Fault::Terminate,
        _ => Fault::Move,
    }
}

/// Keeps the answers of a round in which something is wrong, for who looks into it.
fn keep(
    options: &Options,
    number: u32,
    told: &str,
    wrong: &[String],
    seen: &Seen,
) -> Result<PathBuf, LabError> {
    let at = seen.late.map(|late| late.answer).or(seen.doubles.first);
    let mut text = format!(
        "seed {}, fault {number}: {told}\n{}\nlook at {at:?}\nkind, VIP, director, asked and \
         answered in ns of CLOCK_BOOTTIME\n",
        options.seed,
        wrong.join("\n")
    );
    for answer in &seen.record.answers {
        let _infallible = writeln!(
            text,
            "{:?} {} {} {} {}",
            answer.kind, answer.vip, answer.by.0, answer.sent, answer.received
        );
    }
    let folder = artefacts_dir().join(&options.name);
    fs::create_dir_all(&folder).map_err(LabError::io("make a folder for what is wrong"))?;
    let path = folder.join(format!("fault-{number}.txt"));
    fs::write(&path, text).map_err(LabError::io("write what is wrong"))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::observer::Doubles;

    #[test]
    fn each_thing_that_must_not_be_breaks_the_soak() {
        let held = |seen: &Seen, grants: Option<&[u64]>| {
            let mut summary = Summary::default();
            let wrong = wrong(seen, grants, &mut summary);
            assert_eq!(wrong.is_empty(), summary.held());
            summary.held()
        };
        let good = || Seen { taken_over: true, handovers: vec![1, 0], ..Seen::default() };
        assert!(held(&good(), None));
        assert!(held(&good(), Some(&[1, 0])));
        assert!(!held(&good(), Some(&[0, 1])), "a handover without a grant");
        // Two handovers may enclose a short stay; each needs a grant of its own.
        let doubles = Doubles { answers: 1, ..Doubles::default() };
        let back = || Seen { doubles, handovers: vec![2, 0], ..good() };
        assert!(held(&back(), Some(&[2, 0])));
        assert!(!held(&back(), Some(&[1, 3])), "one grant, and two handovers");
        assert!(!held(&back(), None), "nobody knows the grants");
        let doubles = Doubles { mutual: true, ..doubles };
        assert!(!held(&Seen { doubles, ..back() }, Some(&[9, 9])), "each among the other's");
        assert!(!held(&Seen { taken_over: false, ..good() }, None));
        let mut lost = good();
        lost.record.lost = 1;
        assert!(!held(&lost, None));
    }

    #[test]
    fn the_dice_throw_every_fault() {
        let options = Options {
            faults: 0,
            seed: 1,
            name: String::new(),
            deployments: Vec::new(),
            long_stops: true,
        };
        let mut dice = Dice::new(1);
        let mut names: Vec<&str> = (0..500).map(|_| fault(&options, &mut dice).name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 10, "{names:?}");
    }
}
