//! What `cargo xtask` says: each step as it begins and ends, the closing table, the sum. The only
//! module that writes to the terminal by itself. Its tests are below.

use std::io::{self, Write};
use std::time::Duration;

use crate::count::Count;

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passed,
    Failed,
    Skipped(&'static str),
}

/// One step of `cargo xtask test`.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) name: String,
    pub(crate) outcome: Outcome,
    pub(crate) count: Count,
    pub(crate) took: Duration,
    /// What it printed, repeated at the end where it failed.
    pub(crate) output: String,
}

/// How much of a failed step's output the end of a run repeats: a log that is cut at its front
/// still says why.
const REPEATED_LINES: usize = 60;

impl Step {
    /// The end of its output; of libtest's, the part that tells of the failures.
    fn last_words(&self) -> String {
        let lines: Vec<&str> = self.output.lines().collect();
        let told = lines.iter().position(|line| line.trim_end() == "failures:");
        let from = told.unwrap_or_else(|| lines.len().saturating_sub(REPEATED_LINES));
        let words = lines.iter().skip(from).take(REPEATED_LINES);
        words.map(|line| format!("{line}\n")).collect()
    }

    /// What it adds to the sum: its tests; one where it is itself the check, or where it failed
    /// and no test of it did.
    fn counted(&self) -> Count {
        let mut count = self.count;
        match self.outcome {
            Outcome::Passed if count.passed == 0 => count.passed = 1,
            Outcome::Failed if count.failed == 0 => count.failed = 1,
            Outcome::Skipped(_) => count.skipped += 1,
            _ => {}
        }
        count
    }
}

/// All steps so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    steps: Vec<Step>,
}

impl Report {
    /// Adds a step and says how it ended.
    pub(crate) fn add(&mut self, step: Step) {
        say(&format!("=== {} {}", step.name, describe(&step)));
        self.steps.push(step);
    }

    /// Whether everything that had to pass did; where nobody is to see a skip, one is a failure.
    pub(crate) fn succeeded(&self, skips_count: bool) -> bool {
        self.steps.iter().all(|step| match step.outcome {
            Outcome::Passed => step.count.failed == 0 && !(skips_count && step.count.skipped > 0),
            Outcome::Failed => false,
            Outcome::Skipped(_) => !skips_count,
        })
    }

    /// Why what failed did, the closing table, and the sum alone on the last line.
    pub(crate) fn table(&self, skips_count: bool) -> String {
        let width = self.steps.iter().map(|step| step.name.len()).max().unwrap_or(0);
        let mut sum = Count::default();
        let mut table = String::new();
        for step in self.steps.iter().filter(|step| step.outcome == Outcome::Failed) {
            table.push_str(&format!("=== why {} failed\n{}\n", step.name, step.last_words()));
        }
        for step in &self.steps {
            sum += step.counted();
            table.push_str(&format!("{:width$}  {}\n", step.name, describe(step)));
        }
        if skips_count && sum.skipped > 0 {
            table.push_str("CI=true: a skipped test fails the run\n");
        }
        table.push_str(&format!("{} passed, {} failed", sum.passed, sum.failed));
        if sum.skipped > 0 {
            table.push_str(&format!(", {} skipped", sum.skipped));
        }
        table
    }
}

fn describe(step: &Step) -> String {
    let took = format!("{:7.1} s", step.took.as_secs_f64());
    let tests = match step.count {
        Count { passed: 0, failed: 0, skipped: 0 } => String::new(),
        Count { passed, failed: 0, skipped: 0 } => format!(" ({passed} tests)"),
        Count { passed, failed, skipped } => {
            format!(" ({passed} passed, {failed} failed, {skipped} skipped)")
        }
    };
    match step.outcome {
        Outcome::Passed => format!("passed  {took}{tests}"),
        Outcome::Failed => format!("FAILED  {took}{tests}"),
        Outcome::Skipped(reason) => format!("skipped           {reason}"),
    }
}

/// A line to standard output.
pub(crate) fn say(line: &str) {
    let mut stdout = io::stdout().lock();
    // A closed standard output is the reader's wish.
    let _closed = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

/// A line to standard error.
pub(crate) fn complain(line: &str) {
    // Nobody is left to hear it when standard error is closed.
    let _closed = writeln!(io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(outcome: Outcome, passed: u64, failed: u64) -> Step {
        let count = Count { passed, failed, skipped: 0 };
        Step { name: "step".into(), outcome, count, took: Duration::ZERO, output: String::new() }
    }

    fn last_line(steps: Vec<Step>) -> String {
        Report { steps }.table(false).lines().last().unwrap_or_default().to_owned()
    }

    #[test]
    fn a_check_counts_as_one_and_a_suite_as_its_tests() {
        let steps = vec![step(Outcome::Passed, 0, 0), step(Outcome::Passed, 7, 0)];
        assert_eq!(last_line(steps), "8 passed, 0 failed");
    }

    #[test]
    fn a_failed_step_is_never_a_sum_without_failures() {
        let steps = vec![step(Outcome::Failed, 3, 0), step(Outcome::Failed, 1, 2)];
        assert_eq!(last_line(steps), "4 passed, 3 failed");
    }

    #[test]
    fn the_end_tells_why_a_step_failed() {
        let mut failed = step(Outcome::Failed, 0, 1);
        failed.output = "test a ... FAILED\n\nfailures:\n\n---- a stdout ----\nnobody\n".into();
        let mut long = step(Outcome::Failed, 0, 1);
        long.output = (0..=REPEATED_LINES).map(|line| format!("line {line}\n")).collect();
        let table = Report { steps: vec![failed, long] }.table(true);
        assert!(table.starts_with("=== why step failed\nfailures:\n\n---- a stdout"), "{table}");
        assert!(table.contains("nobody") && !table.contains("test a ..."), "{table}");
        assert!(table.contains("line 1\n") && table.contains("line 60"), "{table}");
        assert!(!table.contains("line 0\n"), "{table}");
    }

    #[test]
    fn a_skip_is_counted_and_fails_where_nobody_would_see_it() {
        let report = Report { steps: vec![step(Outcome::Skipped("no root"), 0, 0)] };
        assert!(report.succeeded(false) && !report.succeeded(true));
        assert!(report.table(true).ends_with("0 passed, 0 failed, 1 skipped"));
    }
}
