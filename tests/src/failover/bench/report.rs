//! What the bench prints: a page for `docs/benchmarks`, or JSON. Owns the budgets of the design, which
//! are printed and never asserted. Pure but for what the machine says of itself.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Measured, Options, Row, Section};
use crate::failover::fault::Fault;
use crate::failover::quorate::Timing;
use crate::failover::statistics::{Distribution, milliseconds};

/// The name of the row in which the owner was the leader too.
pub const LEADER: &str = "cut off behind its switch, being the Raft leader too";
/// The name of the row with many groups.
pub const MANY: &str = "cut off behind its switch, owning 500 groups";

/// The machine, as it says of itself.
#[derive(Debug, Clone)]
pub struct Machine {
    date: String,
    processor: String,
    cores: usize,
    kernel: String,
    keepalived: String,
    load: String,
    build: &'static str,
}

impl Machine {
    /// This machine, now.
    #[must_use]
    pub fn here() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let first_line = |program: &str, argument: &str| {
            let output = Command::new(program).arg(argument).output().ok();
            // keepalived writes its version to standard error.
            let text = output.map(|output| [output.stdout, output.stderr].concat());
            let text = String::from_utf8_lossy(&text.unwrap_or_default()).into_owned();
            text.lines().next().unwrap_or("unknown").trim().to_owned()
        };
        let cpu = read("/proc/cpuinfo");
        let model = cpu.lines().find(|line| line.starts_with("model name"));
        let model = model.and_then(|line| line.split_once(':')).map_or("unknown", |(_, name)| name);
        Self {
            date: first_line("date", "+%F"),
            processor: model.trim().to_owned(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            keepalived: first_line("keepalived", "--version"),
            load: read("/proc/loadavg").split_whitespace().take(3).collect::<Vec<_>>().join(" "),
            build: if cfg!(debug_assertions) { "debug build" } else { "release build" },
        }
    }

    /// Today.
    #[must_use]
    pub fn date(&self) -> &str {
        &self.date
    }

    /// What it is, for a page.
    #[must_use]
    pub fn sentence(&self) -> String {
        format!(
            "{} with {} cores, Linux {}, {}, {}; load when it began: {}",
            self.processor, self.cores, self.kernel, self.keepalived, self.build, self.load
        )
    }
}

/// A line of the design's budgets, with what was measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// What it is about.
    pub what: String,
    /// What it may be.
    pub limit: String,
    /// What it is.
    pub measured: String,
    /// Whether it is met.
    pub met: bool,
}

/// The page.
#[must_use]
pub fn page(options: &Options, machine: &Machine, sections: &[Section]) -> String {
    let mut text = format!(
        "# Failover, beside Keepalived\n\nMeasured on {} with `cargo xtask bench failover --rounds {} \
         --seed {}`: {}.\n\n",
        machine.date,
        options.rounds,
        options.seed,
        machine.sentence()
    );
    text.push_str(HOW);
    for section in sections {
        let _infallible = write!(text, "\n## {}\n\n{HEAD}", capital(section.pair.name));
        for row in &section.rows {
            text.push_str(&line(row));
        }
    }
    text.push_str("\n## Budgets\n\n| what | budget | measured | met |\n|---|---|---|---|\n");
    for budget in budgets(sections) {
        let Budget { what, limit, measured, met } = budget;
        let met = if met { "yes" } else { "**no**" };
        let _infallible = writeln!(text, "| {what} | {limit} | {measured} | {met} |");
    }
    text
}

const HOW: &str = "\
Three directors each, in network namespaces on one bridge, one VIP without a service. A fourth host asks
for the VIP by ARP each millisecond, and each director by ICMP each 10 ms and by TCP each 40 ms. The owner
is struck at a random phase, the two systems by turns. Quorate's owner is not its Raft leader, but in the row
that says so: some ten seconds after the last move the lead goes to a director that owns nothing. *Gap*: the longest time between two ARP answers, of
whichever director, until all is healed and steady again. *Two answered*: rounds in which answers of one
director lay certainly between answers of another (at most 100 ms to either side), and for how long at most.
Keepalived: VRRP version 3, no preemption, priorities 100 (its default), 99 and 98. Who backs up waits for three
intervals and (256 - priority) / 256 of one; with the highest priorities, measured too, that is 30 ms less at an
interval of 50 ms. Its gap means little where two answered: the old owner never stopped. *Ratio*: Quorate's gap by
Keepalived's, at the median and at the 99th percentile.
";

const HEAD: &str = "\
| what was done to the owner | Quorate: gap p50 / p99 / max | two answered | Keepalived: gap p50 / p99 / max | two answered | ratio p50 / p99 |
|---|---|---|---|---|---|
";

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn line(row: &Row) -> String {
    let gap = |gaps: &Distribution| {
        let ms = [gaps.median(), gaps.percentile(99), gaps.longest()].map(milliseconds);
        format!("{} ms", ms.join(" / "))
    };
    let two = |measured: &Measured| match measured.double {
        0 => format!("0 of {}", measured.gaps.count()),
        double => format!(
            "{double} of {}, up to {} ms",
            measured.gaps.count(),
            milliseconds(Some(measured.double_time))
        ),
    };
    let (other, other_two, ratios) = match &row.keepalived {
        Some(keepalived) => {
            let of = |percent| ratio(&row.quorate.gaps, &keepalived.gaps, percent);
            let ratios = format!("{} / {}", shown(of(50)), shown(of(99)));
            (gap(&keepalived.gaps), two(keepalived), ratios)
        }
        None => ("–".to_owned(), "–".to_owned(), "–".to_owned()),
    };
    let (gaps, doubles) = (gap(&row.quorate.gaps), two(&row.quorate));
    format!("| {} | {gaps} | {doubles} | {other} | {other_two} | {ratios} |\n", row.fault)
}

fn ratio(ours: &Distribution, theirs: &Distribution, percent: usize) -> Option<f64> {
    let (ours, theirs) = (ours.percentile(percent)?, theirs.percentile(percent)?);
    (!theirs.is_zero()).then(|| ours.as_secs_f64() / theirs.as_secs_f64())
}

fn shown(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"))
}

/// The budgets of design §10, as far as these sections tell of them.
#[must_use]
pub fn budgets(sections: &[Section]) -> Vec<Budget> {
    let mut budgets = Vec::new();
    for section in sections {
        let row = |name: &str| section.rows.iter().find(|row| row.fault == name);
        let cuts = [Fault::CutLink, Fault::CutSilently];
        let timing = section.pair.timing;
        let profile = [(Timing::FAST, "`fast`", 300), (Timing::LAN, "`lan`", 600)];
        for (_, name, limit) in profile.iter().filter(|(profile, ..)| *profile == timing) {
            for cut in cuts {
                budgets.extend(row(cut.name()).map(|row| {
                    within(&format!("{name}, {}: p99", row.fault), &row.quorate.gaps, 99, *limit)
                }));
            }
        }
        if timing == Timing::FAST {
            budgets.extend(row(LEADER).map(|row| {
                within(&format!("`fast`, {}: p99", row.fault), &row.quorate.gaps, 99, 450)
            }));
            budgets.extend(many(row(Fault::CutSilently.name()), row(MANY)));
        }
        let name = section.pair.name.split(':').next().unwrap_or_default();
        if timing == Timing::of(150, 50) {
            for row in cuts.iter().filter_map(|cut| row(cut.name())) {
                budgets.extend(row.keepalived.as_ref().and_then(|keepalived| {
                    let what = format!("{name}, {}: median, by Keepalived's", row.fault);
                    at_most(what, ratio(&row.quorate.gaps, &keepalived.gaps, 50)?, 1.0)
                }));
            }
        }
        budgets.extend(row(Fault::Move.name()).map(|row| {
            within(&format!("{name}, planned move: median"), &row.quorate.gaps, 50, 10)
        }));
        let count =
            |of: fn(&Measured) -> u32| section.rows.iter().map(|r| of(&r.quorate)).sum::<u32>();
        for (what, count) in [
            ("rounds in which two directors answered", count(|measured| measured.double)),
            ("rounds with an answer past the lease", count(|measured| measured.late)),
        ] {
            budgets.push(Budget {
                what: format!("{name}: {what}"),
                limit: "0".to_owned(),
                measured: count.to_string(),
                met: count == 0,
            });
        }
    }
    budgets
}

fn within(what: &str, gaps: &Distribution, percent: usize, limit: u64) -> Budget {
    let measured = gaps.percentile(percent);
    Budget {
        what: what.to_owned(),
        limit: format!("≤ {limit} ms"),
        measured: format!("{} ms", milliseconds(measured)),
        met: measured.is_some_and(|measured| measured <= Duration::from_millis(limit)),
    }
}

fn at_most(what: String, measured: f64, limit: f64) -> Option<Budget> {
    let (measured_text, limit_text) = (format!("{measured:.2}"), format!("≤ {limit:.1}"));
    Some(Budget { what, limit: limit_text, measured: measured_text, met: measured <= limit })
}

fn many(one: Option<&Row>, many: Option<&Row>) -> Option<Budget> {
    let ratio = ratio(&many?.quorate.gaps, &one?.quorate.gaps, 50)?;
    at_most("`fast`, cut off with 500 groups: median, by that of one".to_owned(), ratio, 1.3)
}

/// All of it, for programs; times in milliseconds.
#[must_use]
pub fn document(options: &Options, machine: &Machine, sections: &[Section]) -> Value {
    let ms = |duration: Option<Duration>| duration.map(|duration| duration.as_secs_f64() * 1_000.0);
    let measured = |measured: &Measured| {
        json!({
            "rounds": measured.gaps.count(),
            "gap_p50_ms": ms(measured.gaps.median()),
            "gap_p99_ms": ms(measured.gaps.percentile(99)),
            "gap_max_ms": ms(measured.gaps.longest()),
            "rounds_two_answered": measured.double,
            "two_answered_max_ms": ms(Some(measured.double_time)),
            "rounds_past_lease": measured.late,
            "rounds_nobody_took_over": measured.lost,
            "observer_blind_max_ms": ms(Some(measured.blind)),
        })
    };
    let row = |row: &Row| {
        let ratios = |percent| {
            row.keepalived.as_ref().and_then(|k| ratio(&row.quorate.gaps, &k.gaps, percent))
        };
        json!({
            "fault": row.fault,
            "quorate": measured(&row.quorate),
            "keepalived": row.keepalived.as_ref().map(measured),
            "ratio_p50": ratios(50),
            "ratio_p99": ratios(99),
        })
    };
    let section = |section: &Section| {
        json!({
            "name": section.pair.name,
            "lease_ms": ms(Some(section.pair.timing.lease)),
            "renew_ms": ms(Some(section.pair.timing.renew)),
            "advert_int_ms": ms(section.pair.keepalived.map(|(interval, _)| interval)),
            "keepalived_priority": section.pair.keepalived.map(|(_, priority)| priority),
            "faults": section.rows.iter().map(row).collect::<Vec<_>>(),
        })
    };
    let budget = |budget: Budget| {
        let Budget { what, limit, measured, met } = budget;
        json!({ "what": what, "budget": limit, "measured": measured, "met": met })
    };
    json!({
        "rounds": options.rounds,
        "seed": options.seed,
        "machine": {
            "date": machine.date,
            "processor": machine.processor,
            "cores": machine.cores,
            "kernel": machine.kernel,
            "keepalived": machine.keepalived,
            "load": machine.load,
            "build": machine.build,
        },
        "pairs": sections.iter().map(section).collect::<Vec<_>>(),
        "budgets": budgets(sections).into_iter().map(budget).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::PAIRS;
    use super::*;

    fn measured(ms: u64) -> Measured {
        let mut measured = Measured::default();
        for _ in 0..3 {
            measured.gaps.add(Duration::from_millis(ms));
        }
        measured
    }

    fn section(pair: usize, rows: Vec<(&str, u64, Option<u64>)>) -> Section {
        let row = |(fault, ours, theirs): (&str, u64, Option<u64>)| Row {
            fault: fault.to_owned(),
            quorate: measured(ours),
            keepalived: theirs.map(measured),
        };
        Section { pair: PAIRS[pair], rows: rows.into_iter().map(row).collect() }
    }

    fn unmet(sections: &[Section]) -> Vec<String> {
        let unmet = budgets(sections).into_iter().filter(|budget| !budget.met);
        unmet.map(|budget| budget.what).collect()
    }

    #[test]
    fn budgets_are_met_at_their_limit_and_not_above() {
        let fast = |cut, leader, many| {
            let rows = vec![
                (Fault::CutSilently.name(), cut, None),
                (LEADER, leader, None),
                (MANY, many, None),
                (Fault::Move.name(), 10, None),
            ];
            [section(3, rows)]
        };
        assert_eq!(unmet(&fast(300, 450, 390)), Vec::<String>::new());
        assert_eq!(unmet(&fast(301, 451, 400)).len(), 3);
        let beside = |ours| [section(0, vec![(Fault::CutLink.name(), ours, Some(160))])];
        assert_eq!(unmet(&beside(160)), Vec::<String>::new());
        assert_eq!(unmet(&beside(161)).len(), 1);
        let mut double = fast(100, 100, 100);
        double[0].rows[0].quorate.double = 1;
        assert_eq!(unmet(&double).len(), 1);
    }

    #[test]
    fn the_page_shows_both_and_their_ratio() {
        let options = Options { rounds: 3, seed: 7, quick: true, many: false };
        let mut sections = [section(0, vec![(Fault::CutLink.name(), 80, Some(160))])];
        if let Some(keepalived) = &mut sections[0].rows[0].keepalived {
            keepalived.double = 3;
            keepalived.double_time = Duration::from_millis(2_700);
        }
        let text = page(&options, &Machine::here(), &sections);
        let row = "| link cut | 80.0 / 80.0 / 80.0 ms | 0 of 3 | 160 / 160 / 160 ms | 3 of 3, up to \
                   2700 ms | 0.50 / 0.50 |";
        assert!(text.contains(row), "{text}");
        assert!(text.contains("--rounds 3 --seed 7"), "{text}");
        let document = document(&options, &Machine::here(), &sections);
        assert_eq!(document["pairs"][0]["faults"][0]["ratio_p50"], 0.5);
    }
}
