//! The bench of failover: Quorate and Keepalived side by side on the same hosts, in one run, by
//! turns; each fault at a random phase, and equal intervals of their heartbeats.
//!
//! Owns what is compared, and the rounds. Asserts nothing: `report` prints what was measured beside
//! the budgets of the design. By hand, `cargo xtask bench failover`.

pub mod report;

use std::time::Duration;

use super::bed::Bed;
use super::fault::Fault;
use super::keepalived::{DEFAULT_PRIORITY, HIGHEST_PRIORITY, Keepalived};
use super::quorate::{Quorate, Setup, Timing};
use super::round::{Blow, Seen, Watch, play, settle};
use super::statistics::{Distribution, milliseconds};
use crate::dice::Dice;
use crate::lab::LabError;
use crate::lab::observer::Director;

/// What to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// How often each fault strikes each system.
    pub rounds: u32,
    /// Whose dice are thrown.
    pub seed: u64,
    /// One pair only, without the many groups.
    pub quick: bool,
    /// Only the many groups, and one beside them.
    pub many: bool,
}

/// What stands side by side.
#[derive(Debug, Clone, Copy)]
pub struct Pair {
    /// Its name in the report.
    pub name: &'static str,
    /// Quorate's times.
    pub timing: Timing,
    /// Keepalived's advertisement interval and first priority, where there is something to compare
    /// with.
    pub keepalived: Option<(Duration, u8)>,
}

/// The pairs of a whole run.
pub const PAIRS: [Pair; 5] = [
    Pair {
        name: "50 ms heartbeat: lease 150 ms, renewed every 50 ms; advert_int 0.05",
        timing: Timing::of(150, 50),
        keepalived: Some((Duration::from_millis(50), DEFAULT_PRIORITY)),
    },
    Pair {
        name: "50 ms, priorities 254 to 252: lease 150 ms, renewed every 50 ms; advert_int 0.05",
        timing: Timing::of(150, 50),
        keepalived: Some((Duration::from_millis(50), HIGHEST_PRIORITY)),
    },
    Pair {
        name: "100 ms heartbeat: lease 300 ms, renewed every 100 ms; advert_int 0.1",
        timing: Timing::of(300, 100),
        keepalived: Some((Duration::from_millis(100), DEFAULT_PRIORITY)),
    },
    Pair {
        name: "`fast`: lease 250 ms, renewed every 25 ms",
        timing: Timing::FAST,
        keepalived: None,
    },
    Pair {
        name: "the defaults of both: `lan` (lease 500 ms, renewed every 50 ms); advert_int 1",
        timing: Timing::LAN,
        keepalived: Some((Duration::from_secs(1), DEFAULT_PRIORITY)),
    },
];

/// The faults that strike both.
const FAULTS: [Fault; 6] = [
    Fault::CutLink,
    Fault::CutSilently,
    Fault::Isolate,
    Fault::Kill,
    Fault::Stop(Duration::from_secs(3)),
    Fault::Terminate,
];
/// Groups on one director, against one.
const MANY: usize = 500;
/// How many of them are asked for: all would be too many questions a millisecond.
const SAMPLE: usize = 10;
/// How often an owner is tried to be made the leader too, for one round.
const TRIES: u32 = 10;

/// What was measured of one system under one fault.
#[derive(Debug, Clone, Default)]
pub struct Measured {
    /// The gaps.
    pub gaps: Distribution,
    /// Rounds in which two directors answered at once.
    pub double: u32,
    /// For how long at most.
    pub double_time: Duration,
    /// Rounds in which the victim answered past its lease.
    pub late: u32,
    /// Rounds in which nobody took over.
    pub lost: u32,
    /// The longest time in which the observer did not ask.
    pub blind: Duration,
}

impl Measured {
    fn add(&mut self, seen: &Seen) {
        self.gaps.add(seen.gap);
        self.double += u32::from(seen.doubles.answers > 0);
        self.double_time = self.double_time.max(seen.doubles.time);
        self.late += u32::from(seen.late.is_some());
        self.lost += u32::from(!seen.taken_over);
        self.blind = self.blind.max(seen.record.blind);
    }
}

/// One row of the report.
#[derive(Debug, Clone)]
pub struct Row {
    /// What was done.
    pub fault: String,
    /// Quorate.
    pub quorate: Measured,
    /// Keepalived, where it was measured.
    pub keepalived: Option<Measured>,
}

impl Row {
    fn new(fault: &str) -> Self {
        Self { fault: fault.to_owned(), quorate: Measured::default(), keepalived: None }
    }
}

/// One pair's rows.
#[derive(Debug, Clone)]
pub struct Section {
    /// What was compared.
    pub pair: Pair,
    /// The rows.
    pub rows: Vec<Row>,
}

/// Runs the bench; `say` gets one line after the other.
///
/// # Errors
/// When the lab can't be set up, or a deployment never settles again.
pub fn run(options: &Options, say: &mut dyn FnMut(&str)) -> Result<Vec<Section>, LabError> {
    let pairs = if options.quick { &PAIRS[..1] } else { &PAIRS[..] };
    let mut dice = Dice::new(options.seed);
    let mut sections = Vec::new();
    for (number, pair) in pairs.iter().enumerate() {
        if options.many && pair.timing != Timing::FAST {
            continue;
        }
        say(&format!("=== {}", pair.name));
        sections.push(section(options, number, *pair, &mut dice, say)?);
    }
    Ok(sections)
}

fn section(
    options: &Options,
    number: usize,
    pair: Pair,
    dice: &mut Dice,
    say: &mut dyn FnMut(&str),
) -> Result<Section, LabError> {
    let logs = |system: &str| format!("bench_failover_{system}_{number}");
    let mut quorate = Quorate::new(Setup::one_group(&logs("quorate"), 3, pair.timing))?;
    let mut keepalived = match pair.keepalived {
        Some((interval, priority)) => {
            Some(Keepalived::new(&logs("keepalived"), 3, interval, priority)?)
        }
        None => None,
    };
    let mut rows = Vec::new();
    let faults = if options.many { &[Fault::CutSilently][..] } else { &FAULTS };
    for &fault in faults {
        let mut row = Row::new(&fault.to_string());
        row.keepalived = keepalived.as_ref().map(|_| Measured::default());
        for _ in 0..options.rounds {
            row.quorate.add(&strike_owner(&mut quorate, fault, dice)?);
            if let (Some(bed), Some(measured)) = (&mut keepalived, &mut row.keepalived) {
                measured.add(&strike_owner(bed, fault, dice)?);
            }
        }
        finish(&mut rows, row, say);
    }
    drop(keepalived);
    if !options.many {
        rows.extend(of_quorate_alone(options, &mut quorate, dice, say)?);
    }
    drop(quorate);
    if pair.timing == Timing::FAST {
        say(&format!("forming a cluster with {MANY} groups"));
        let setup = many(&logs("many"), pair.timing, dice);
        let mut quorate = Quorate::new(setup)?;
        let mut row = Row::new(report::MANY);
        for _ in 0..options.rounds {
            gather(&mut quorate)?;
            row.quorate.add(&strike_owner(&mut quorate, Fault::CutSilently, dice)?);
        }
        finish(&mut rows, row, say);
    }
    Ok(Section { pair, rows })
}

/// What Keepalived has no counterpart of.
fn of_quorate_alone(
    options: &Options,
    quorate: &mut Quorate,
    dice: &mut Dice,
    say: &mut dyn FnMut(&str),
) -> Result<Vec<Row>, LabError> {
    let mut rows = Vec::new();
    let mut row = Row::new(report::LEADER);
    for _ in 0..options.rounds {
        if let Some(seen) = strike_leading_owner(quorate, dice)? {
            row.quorate.add(&seen);
        }
    }
    finish(&mut rows, row, say);
    let mut row = Row::new(Fault::Move.name());
    for _ in 0..options.rounds {
        row.quorate.add(&strike_owner(quorate, Fault::Move, dice)?);
    }
    finish(&mut rows, row, say);
    Ok(rows)
}

fn finish(rows: &mut Vec<Row>, row: Row, say: &mut dyn FnMut(&str)) {
    let told = |measured: &Measured| {
        format!(
            "p50 {} p99 {} max {} ms, {} of {} with two answering",
            milliseconds(measured.gaps.median()),
            milliseconds(measured.gaps.percentile(99)),
            milliseconds(measured.gaps.longest()),
            measured.double,
            measured.gaps.count()
        )
    };
    say(&format!("{}: Quorate {}", row.fault, told(&row.quorate)));
    if let Some(keepalived) = &row.keepalived {
        say(&format!("{}: Keepalived {}", row.fault, told(keepalived)));
    }
    rows.push(row);
}

fn many(name: &str, timing: Timing, dice: &mut Dice) -> Setup {
    // The first and the last, and some between.
    let mut observed = vec![0, MANY - 1];
    while observed.len() < SAMPLE {
        let number = dice.below(MANY);
        if !observed.contains(&number) {
            observed.push(number);
        }
    }
    Setup {
        groups: MANY,
        observed,
        keys: "prefer = [\"d1\", \"d2\", \"d3\"]\npreempt_delay = \"1s\"".to_owned(),
        ..Setup::one_group(name, 3, timing)
    }
}

/// Waits until every group is back at the director that all prefer.
fn gather(bed: &mut Quorate) -> Result<(), LabError> {
    let mut watch = Watch::start(bed.observer());
    let first = bed.number(bed.directors().first().copied().unwrap_or_default());
    let deadline = crate::lab::clock::Deadline::after(Duration::from_secs(120));
    while watch.owners(bed.vips()).iter().any(|owner| *owner != Some(first)) {
        if deadline.passed() {
            return Err(LabError::Unreadable {
                what: "all groups at one director".to_owned(),
                text: format!("{:?}", watch.owners(bed.vips())),
            });
        }
        settle(bed, &mut watch)?;
    }
    Ok(())
}

/// One round, on who answers for the first VIP.
///
/// # Errors
/// When the deployment never settles.
pub fn strike_owner(bed: &mut dyn Bed, fault: Fault, dice: &mut Dice) -> Result<Seen, LabError> {
    let mut watch = Watch::start(bed.observer());
    settle(bed, &mut watch)?;
    bed.calm_down()?;
    settle(bed, &mut watch)?;
    strike_now(bed, fault, dice)
}

fn strike_now(bed: &mut dyn Bed, fault: Fault, dice: &mut Dice) -> Result<Seen, LabError> {
    let mut watch = Watch::start(bed.observer());
    // A random phase of both heartbeats.
    std::thread::sleep(Duration::from_millis(20) + dice.time_below(bed.interval() * 4));
    watch.refresh();
    let owner = watch.owners(1).first().copied().flatten();
    let Some(victim) = owner.and_then(|owner: Director| bed.name(owner)) else {
        let what = "who answers for the VIP".to_owned();
        return Err(LabError::Unreadable { what, text: format!("{owner:?}") });
    };
    // Long enough to see two answer.
    let hold = (bed.interval() * 4).max(Duration::from_millis(300));
    play(bed, &[Blow { fault, victim, after: Duration::ZERO }], hold, watch)
}

/// One round, on an owner that is the Raft leader too; none where that can't be had.
fn strike_leading_owner(bed: &mut Quorate, dice: &mut Dice) -> Result<Option<Seen>, LabError> {
    for _ in 0..TRIES {
        let mut watch = Watch::start(bed.observer());
        settle(bed, &mut watch)?;
        let Some(leader) = bed.leader() else { continue };
        let number = bed.number(&leader);
        if watch.owners(1) != [Some(number)] {
            bed.transfer(&leader)?;
            watch.wait_until_steady(1, Duration::from_millis(100))?;
        }
        if bed.leader().as_ref() == Some(&leader) && watch.owners(1) == [Some(number)] {
            return strike_now(bed, Fault::CutSilently, dice).map(Some);
        }
    }
    Ok(None)
}
