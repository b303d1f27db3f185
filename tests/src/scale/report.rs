//! What the bench prints: a page for `docs/benchmarks`. Owns the budgets of the design, which are
//! printed and never asserted. Pure.

use std::fmt::Write as _;

use super::{Failover, Memory, Options, Results, Row};
use crate::failover::bench::report::Machine;
use crate::failover::statistics::{Distribution, milliseconds};

const HOW: &str = "\
One host with one network namespace; a cluster of one director under `wan`, Keepalived's checker alone, and
`ipvsadm` fill its IPVS table, one after the other, with the same rules: one VIP, a port for each service, `wlc`,
direct routing, no health checks. A time ends when `ipvsadm` lists the whole table, at which it looks each
50 ms. Times are medians, in brackets the longest; *ratio* is Quorate's median by the other's: below 1, Quorate is the faster.
An emulated machine tells how they compare, and not how long it takes on yours.
";

/// The page.
#[must_use]
pub fn page(options: Options, machine: &Machine, results: &Results) -> String {
    let mut text = format!(
        "# IPVS at scale, beside Keepalived and ipvsadm\n\nMeasured on {} with `cargo xtask bench ipvs \
         --rounds {}{}`: {}.\n\n{HOW}\n## Times\n\n\
         | what | Quorate | Keepalived | ratio | `ipvsadm` | ratio |\n|---|---|---|---|---|---|\n",
        machine.date(),
        options.rounds,
        if options.quick { " --quick" } else { "" },
        machine.sentence(),
    );
    for row in &results.rows {
        text.push_str(&line(row));
    }
    if !results.failovers.is_empty() {
        text.push_str(
            "\n## Failovers\n\nThree directors; the longest silence of the VIP, asked for by ARP each \
             millisecond.\n\n| what was done to the owner | 2 real servers | 10,000 | ratio |\n\
             |---|---|---|---|\n",
        );
    }
    for Failover { fault, few, many } in &results.failovers {
        let ratio = ratio(many, few);
        let _infallible = writeln!(text, "| {fault} | {} | {} | {ratio} |", both(few), both(many));
    }
    text.push_str(
        "\n## Memory\n\n| table | quorated, resident | at most | Keepalived's checker | configuration | \
         data directory |\n|---|---|---|---|---|---|\n",
    );
    for memory in &results.memory {
        let mib = |kib: u64| format!("{}.{} MiB", kib / 1024, kib % 1024 * 10 / 1024);
        let _infallible = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} |",
            memory.shape,
            mib(memory.daemon_kib),
            mib(memory.peak_kib),
            mib(memory.keepalived_kib),
            mib(memory.text_bytes / 1024),
            mib(memory.data_bytes / 1024),
        );
    }
    text
}

fn both(times: &Distribution) -> String {
    format!("{} ({}) ms", milliseconds(times.median()), milliseconds(times.longest()))
}

fn ratio(times: &Distribution, beside: &Distribution) -> String {
    match (times.median(), beside.median()) {
        (Some(time), Some(beside)) if !beside.is_zero() => {
            format!("{:.2}", time.as_secs_f64() / beside.as_secs_f64())
        }
        _ => "–".to_owned(),
    }
}

fn beside(row: &Row, other: Option<&Distribution>) -> String {
    other.map_or_else(
        || "– | –".to_owned(),
        |other| format!("{} | {}", both(other), ratio(&row.quorate, other)),
    )
}

fn line(row: &Row) -> String {
    let (keepalived, ipvsadm) = (row.keepalived.as_ref(), row.ipvsadm.as_ref());
    format!(
        "| {} | {} | {} | {} |\n",
        row.what,
        both(&row.quorate),
        beside(row, keepalived),
        beside(row, ipvsadm)
    )
}

/// A row, as a line of progress.
#[must_use]
pub fn told(row: &Row) -> String {
    let mut text = format!("{}: Quorate {}", row.what, both(&row.quorate));
    for (name, other) in [("Keepalived", &row.keepalived), ("ipvsadm", &row.ipvsadm)] {
        if let Some(other) = other {
            let ratio = ratio(&row.quorate, other);
            let _infallible = write!(text, "; {name} {} (ratio {ratio})", both(other));
        }
    }
    text
}

/// What memory it took, as a line of progress.
#[must_use]
pub fn taken(memory: &Memory) -> String {
    format!(
        "{}: quorated {} KiB (at most {}), Keepalived's checker {} KiB; configuration {} bytes, data {} \
         bytes",
        memory.shape,
        memory.daemon_kib,
        memory.peak_kib,
        memory.keepalived_kib,
        memory.text_bytes,
        memory.data_bytes
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn ratios_are_of_medians_and_quorates_by_the_others() {
        let of = |ms: &[u64]| {
            let mut times = Distribution::default();
            ms.iter().for_each(|ms| times.add(Duration::from_millis(*ms)));
            times
        };
        let row = Row {
            what: "x".to_owned(),
            quorate: of(&[100, 300, 200]),
            keepalived: Some(of(&[400, 400, 900])),
            ipvsadm: None,
        };
        assert_eq!(line(&row), "| x | 200 (300) ms | 400 (900) ms | 0.50 | – | – |\n");
        assert_eq!(told(&row), "x: Quorate 200 (300) ms; Keepalived 400 (900) ms (ratio 0.50)");
        assert_eq!(ratio(&row.quorate, &Distribution::default()), "–");
    }
}
