//! How many tests passed and failed, read from what test runners print (libtest and nextest).
//! Decides nothing. Its tests are below.

use std::ops::AddAssign;

/// Passed, failed and skipped tests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl Count {
    /// The sum over all closing lines in some output.
    pub(crate) fn read(output: &str) -> Self {
        let mut sum = Self::default();
        for line in output.lines() {
            let line = without_colours(line);
            let line = line.trim();
            // What nextest skips was filtered out; what libtest ignores was to be seen.
            let libtest = line.starts_with("test result:");
            if libtest || line.starts_with("Summary [") {
                sum += Self::read_line(line, libtest);
            }
        }
        sum
    }

    fn read_line(line: &str, with_ignored: bool) -> Self {
        let mut count = Self::default();
        let words: Vec<&str> = line.split_whitespace().collect();
        for pair in words.windows(2) {
            let [number, what] = pair else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match what.trim_matches([',', ';', ':']) {
                "passed" => count.passed += number,
                "failed" | "timed" => count.failed += number,
                "ignored" if with_ignored => count.skipped += number,
                _ => {}
            }
        }
        count
    }
}

/// A line without the escape sequences that colour it.
fn without_colours(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        plain.push_str(before);
        rest = after.split_once('m').map_or("", |(_, rest)| rest);
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(passed: u64, failed: u64, skipped: u64) -> Count {
        Count { passed, failed, skipped }
    }

    #[test]
    fn libtest_lines_are_summed() {
        let output = "running 3 tests\n\
            test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n\
            test result: FAILED. 2 passed; 1 failed; 4 ignored; 0 measured; 9 filtered out\n";
        assert_eq!(Count::read(output), count(5, 1, 4));
    }

    #[test]
    fn nextest_lines_are_read_with_their_colours() {
        let output = "\u{1b}[32;1m     Summary\u{1b}[0m [   0.1s] \u{1b}[1m9\u{1b}[0m tests run: \
            \u{1b}[1m6\u{1b}[0m \u{1b}[32;1mpassed\u{1b}[0m (1 slow), 2 failed, 1 timed out, \
            \u{1b}[1m7\u{1b}[0m skipped\n";
        assert_eq!(Count::read(output), count(6, 3, 0));
    }

    #[test]
    fn words_of_a_test_are_not_counted() {
        assert_eq!(Count::read("we saw 5 passed\n"), count(0, 0, 0));
    }
}
