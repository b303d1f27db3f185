//! What the bench prints: the two parts of a page for `docs/benchmarks`. Owns the budgets, which are printed
//! and never asserted. Pure.

use std::fmt::Write as _;
use std::time::Duration;

use super::{Followed, Kind, Load, Options, Place, Results, Row, Used};
use crate::failover::bench::report::Machine;
use crate::failover::statistics::{Distribution, milliseconds};

const HOW: &str = "\
A cluster of one director probes real servers on another host, across a bridge, each in a network namespace. The
real servers are all of a /16 on that host, where a listener takes each TCP connection and closes it, or
answers a GET with a kilobyte; it counts them, and *probes* says how many of those that were due came. *Processor*
is user and system time of all processes and threads of a system, as the kernel counts it, by the time in which it was
counted: 100 % is one core. What the network stack does within the sender's own system calls is in it; on one
machine that is most of the way to the real server and back. *Memory* is that of all its processes, what they
share counted once (PSS). *A probe* is processor time by the probes that came; *ratio* is Quorate's by Keepalived's:
below 1, Quorate takes less. Keepalived is its checker alone, with the same checks, without VRRP. A daemon is started
with its configuration and left alone until all were probed and it gave back what reading the configuration took.
";

const HOST: &str = "\
## On the host's kernel

Times are true here. Where the kernel has no ip_vs, Keepalived's checkers would end at once: a preloaded library
(tests/src/probing/agrees.c) answers \"done\" to whatever it asks of IPVS, and Quorate, which needs none to probe,
programs nothing either. Neither has a table to keep, both probe as ever.
";

const IPVS: &str = "\
## Where IPVS is

An emulated machine tells how they compare, and not what they take on yours. Two emulated processors have to be
the real servers too, and may not keep up: *probes* says so.
";

const HANDED_OVER: &str = "\
### From a failed probe to the kernel

From the kernel taking in the RST that fails the probe of one real server, until the daemon's services thread sends
its first message about it to the kernel: in it are the verdict, the director's loop, what it wants of all real
servers now, and the way to that thread; not in it are that thread's comparison with the table (`cargo bench -p
quorate-tests`, \"plan one weight\") and the kernel's own work on one message. Both times are the kernel's own
(tracefs).
";

const IN_THE_TABLE: &str = "\
### From a failed probe to the table

From the kernel taking in the RST that fails the probe of one real server (tracefs), until `/proc/net/ip_vs`, which is
looked at all the time, does not list it any more.
";

/// One part of the page.
#[must_use]
pub fn part(options: Options, machine: &Machine, results: &Results) -> String {
    let host = options.place == Place::Host;
    let (title, what) = match options.place {
        Place::Host => (format!("# Probing, beside Keepalived\n\n{HOW}\n"), HOST),
        Place::Ipvs => (String::new(), IPVS),
    };
    let mut text = format!(
        "{title}{what}\nMeasured on {} with `cargo xtask bench probes{}`, over {} s each: {}.\n\n",
        machine.date(),
        if options.quick { " --quick" } else { "" },
        options.window().as_secs(),
        machine.sentence(),
    );
    if !results.rows.is_empty() {
        text.push_str(
            "| what | processor | a probe | Keepalived | a probe | ratio | memory | Keepalived | probes | \
             Keepalived |\n|---|---|---|---|---|---|---|---|---|---|\n",
        );
    }
    for row in &results.rows {
        text.push_str(&line(row));
    }
    let _infallible = write!(text, "\n{}\n", if host { HANDED_OVER } else { IN_THE_TABLE });
    text.push_str(if host {
        "| beside it | median | 99th percentile | longest | rounds |\n|---|---|---|---|---|\n"
    } else {
        "| beside it | median | longest | Keepalived | longest | ratio | rounds |\n|---|---|---|---|---|---|---|\n"
    });
    for followed in &results.followed {
        text.push_str(&line_of_verdicts(followed));
    }
    text.push_str("\n### Budgets\n\n| what | budget | measured |\n|---|---|---|\n");
    for (what, budget, measured) in budgets(results) {
        let _infallible = writeln!(text, "| {what} | {budget} | {measured} |");
    }
    text
}

fn cores(used: &Used) -> f64 {
    if used.window.is_zero() { 0.0 } else { used.cpu.as_secs_f64() / used.window.as_secs_f64() }
}

fn processor(used: &Used) -> String {
    format!("{:.1} %", cores(used) * 100.0)
}

fn kib(kib: u64) -> f64 {
    u32::try_from(kib).map_or(f64::MAX, f64::from)
}

fn mib(used: &Used) -> String {
    format!("{:.1} MiB", kib(used.memory_kib) / 1024.0)
}

fn probes(load: Load, used: &Used) -> String {
    let due = load.due_in(used.window);
    if due == 0.0 {
        return "–".to_owned();
    }
    format!("{:.1} %", u32::try_from(used.probes).map_or(f64::MAX, f64::from) / due * 100.0)
}

fn ratio(one: f64, other: f64) -> String {
    if other == 0.0 { "–".to_owned() } else { format!("{:.2}", one / other) }
}

/// Processor time of one probe, in microseconds.
fn each(used: &Used) -> f64 {
    let probes = u32::try_from(used.probes).unwrap_or(u32::MAX);
    if probes == 0 { 0.0 } else { used.cpu.as_secs_f64() * 1_000_000.0 / f64::from(probes) }
}

fn micros(used: &Used) -> String {
    if used.probes == 0 { "–".to_owned() } else { format!("{:.0} µs", each(used)) }
}

fn line(row: &Row) -> String {
    let Row { load, quorate, keepalived } = row;
    let of =
        |text: &dyn Fn(&Used) -> String| keepalived.as_ref().map_or_else(|| "–".to_owned(), text);
    format!(
        "| {load} | {} | {} | {} | {} | {} | {} | {} | {} | {} |\n",
        processor(quorate),
        micros(quorate),
        of(&processor),
        of(&micros),
        of(&|other| ratio(each(quorate), each(other))),
        mib(quorate),
        of(&mib),
        probes(*load, quorate),
        of(&|other| probes(*load, other)),
    )
}

fn ms(time: Option<Duration>) -> String {
    match time {
        // A hand-over takes less than what one decimal shows.
        Some(time) if time < Duration::from_millis(10) => {
            format!("{:.2} ms", time.as_secs_f64() * 1_000.0)
        }
        time => format!("{} ms", milliseconds(time)),
    }
}

fn seconds(times: &Distribution) -> f64 {
    times.median().unwrap_or_default().as_secs_f64()
}

fn line_of_verdicts(followed: &Followed) -> String {
    let Followed { load, quorate, keepalived } = followed;
    let rounds = quorate.count();
    let (median, longest) = (ms(quorate.median()), ms(quorate.longest()));
    let Some(other) = keepalived else {
        let high = ms(quorate.percentile(99));
        return format!("| {load} | {median} | {high} | {longest} | {rounds} |\n");
    };
    format!(
        "| {load} | {median} | {longest} | {} | {} | {} | {rounds} |\n",
        ms(other.median()),
        ms(other.longest()),
        ratio(seconds(quorate), seconds(other)),
    )
}

/// What the design allows, beside what was measured of it.
fn budgets(results: &Results) -> Vec<(String, &'static str, String)> {
    let mut budgets = Vec::new();
    let of = |kind: Kind, targets: usize| {
        results.rows.iter().find(|row| row.load.kind == kind && row.load.targets == targets)
    };
    for row in &results.rows {
        if let Some(other) = row.keepalived.as_ref().filter(|_| row.load.kind != Kind::Unchecked) {
            let ratio = ratio(each(&row.quorate), each(other));
            budgets.push((format!("{}: processor", row.load), "≤ 1 × Keepalived's", ratio));
        }
    }
    if let Some(many) = of(Kind::Tcp, 10_000) {
        let measured = processor(&many.quorate);
        budgets.push((format!("{}: processor", many.load), "< 10 % of a core", measured));
        for (than, base) in [
            ("the same real servers without checks", of(Kind::Unchecked, 10_000)),
            ("no real server", of(Kind::Unchecked, 0)),
        ] {
            let Some(base) = base else { continue };
            let more = many.quorate.memory_kib.saturating_sub(base.quorate.memory_kib);
            let each = kib(more) * 1024.0 / 10_000.0;
            let what = format!("{}: memory of each, more than {than}", many.load);
            budgets.push((what, "< 2 KiB", format!("{each:.0} bytes")));
        }
    }
    for followed in results.followed.iter().filter(|followed| followed.keepalived.is_none()) {
        let what = format!("a failed probe to the kernel, beside {}", followed.load);
        budgets.push((what, "≤ 10 ms", ms(followed.quorate.median())));
    }
    budgets
}

/// A row, as a line of progress.
#[must_use]
pub fn told(row: &Row) -> String {
    let of = |used: &Used| {
        format!("{}, {}, probes {}", processor(used), mib(used), probes(row.load, used))
    };
    let mut text = format!("{}: Quorate {}", row.load, of(&row.quorate));
    if let Some(other) = &row.keepalived {
        let _infallible = write!(text, "; Keepalived {}", of(other));
    }
    text
}

/// How soon verdicts were followed, as a line of progress.
#[must_use]
pub fn told_of_verdicts(place: Place, followed: &Followed) -> String {
    let until = match place {
        Place::Host => "the hand-over",
        Place::Ipvs => "the table",
    };
    let of = |times: &Distribution| format!("{} ({})", ms(times.median()), ms(times.longest()));
    let mut text = format!(
        "a failed probe until {until}, beside {}: Quorate {}",
        followed.load,
        of(&followed.quorate)
    );
    if let Some(other) = &followed.keepalived {
        let _infallible = write!(text, "; Keepalived {}", of(other));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(cpu_ms: u64, memory_kib: u64, probes: u64) -> Used {
        let window = Duration::from_secs(10);
        Used { cpu: Duration::from_millis(cpu_ms), window, memory_kib, probes }
    }

    #[test]
    fn a_row_says_what_each_took_and_the_ratio() {
        let load = Load::new(Kind::Tcp, 2_000, 2);
        let (quorate, keepalived) = (used(1_000, 10_240, 9_900), Some(used(2_000, 5_120, 10_000)));
        assert_eq!(
            line(&Row { load, quorate, keepalived }),
            "| 2000 TCP targets each 2s | 10.0 % | 101 µs | 20.0 % | 200 µs | 0.51 | 10.0 MiB | 5.0 MiB | \
             99.0 % | 100.0 % |\n"
        );
        assert_eq!(
            line(&Row { load, quorate, keepalived: None }),
            "| 2000 TCP targets each 2s | 10.0 % | 101 µs | – | – | – | 10.0 MiB | – | 99.0 % | – |\n"
        );
    }

    #[test]
    fn memory_of_each_target_is_what_is_more_than_without_checks() {
        let row = |kind, targets, memory| Row {
            load: Load::new(kind, targets, 10),
            quorate: used(500, memory, 0),
            keepalived: None,
        };
        let results = Results {
            rows: vec![
                row(Kind::Unchecked, 0, 10_000),
                row(Kind::Unchecked, 10_000, 20_000),
                row(Kind::Tcp, 10_000, 30_000),
            ],
            followed: Vec::new(),
        };
        let measured: Vec<String> =
            budgets(&results).into_iter().map(|(_, _, measured)| measured).collect();
        assert_eq!(measured, ["5.0 %", "1024 bytes", "2048 bytes"]);
    }
}
