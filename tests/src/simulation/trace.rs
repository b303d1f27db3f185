//! What happened in a run: a hash of every step, to see that two runs are the same, and the last
//! few things worth telling when one fails.

use std::collections::VecDeque;

use super::clock::{MS, Real};

const LINES_MAX: usize = 80;

/// The trace of a run.
#[derive(Debug, Clone)]
pub struct Trace {
    hash: u64,
    lines: VecDeque<String>,
    most: usize,
}

impl Default for Trace {
    fn default() -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, lines: VecDeque::new(), most: LINES_MAX }
    }
}

impl Trace {
    /// A trace that keeps every line.
    #[must_use]
    pub fn whole() -> Self {
        Self { most: usize::MAX, ..Self::default() }
    }

    /// Takes numbers that say what happened into the hash (FNV-1a).
    pub fn note(&mut self, numbers: &[u64]) {
        for byte in numbers.iter().flat_map(|number| number.to_le_bytes()) {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// Tells of something.
    pub fn tell(&mut self, at: Real, line: &str) {
        self.note(&[at]);
        for byte in line.bytes() {
            self.note(&[u64::from(byte)]);
        }
        if self.lines.len() >= self.most {
            self.lines.pop_front();
        }
        self.lines.push_back(format!("{:>6}.{:03} ms  {line}", at / MS, at % MS / 1_000));
    }

    /// The hash so far.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The last lines.
    #[must_use]
    pub fn story(&self) -> String {
        self.lines.iter().map(|line| format!("{line}\n")).collect()
    }
}
