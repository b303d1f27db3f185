//! What was written and what is found afterwards, and whether the two go together. Pure: it runs
//! nothing and reads no clock. Its tests, with forged histories, are in `history/tests.rs`.

use std::collections::BTreeMap;
use std::time::Duration;

#[cfg(test)]
mod tests;

/// How an `apply` ended for whoever asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was acknowledged.
    Acknowledged {
        /// The revision that it made.
        revision: u64,
        /// Whether the cluster says that it changed something.
        changed: bool,
    },
    /// Another revision was in force than was expected.
    Conflict,
    /// The cluster did not take it: refused, no quorum, nobody reached.
    NotTaken,
    /// Nobody knows.
    Unknown,
}

/// One `apply`. Its configuration carries a mark that no other carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attempt {
    /// The mark.
    pub(super) mark: u64,
    /// The revision that had to be in force, if any had to.
    pub(super) expected: Option<u64>,
    /// When it was begun.
    pub(super) began: Duration,
    /// When its outcome was known.
    pub(super) ended: Duration,
    /// Its outcome.
    pub(super) outcome: Outcome,
}

/// What a node says afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// Its name.
    pub(super) node: String,
    /// The revision in force there.
    pub(super) revision: u64,
    /// The mark that each part of the configuration carries; all the same unless two are mixed.
    pub(super) marks: BTreeMap<String, u64>,
    /// The epoch of each group.
    pub(super) epochs: BTreeMap<String, u64>,
}

/// What is known to be in force, from check to check.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ledger {
    revision: u64,
    mark: u64,
    epochs: BTreeMap<String, u64>,
}

/// A configuration that a cluster may be in: revision and mark.
type Content = (u64, u64);

impl Ledger {
    /// A cluster in which this revision with this mark is in force.
    #[must_use]
    pub(super) fn new(revision: u64, mark: u64) -> Self {
        Self { revision, mark, epochs: BTreeMap::new() }
    }

    /// Compares what was written since the last check with what every node says now. Gives what
    /// is wrong, one line each; where nothing is, the next check starts from here.
    ///
    /// An outcome that was unknown is settled by then: a write that turns up still later is wrong.
    pub(super) fn judge(&mut self, attempts: &[Attempt], nodes: &[Seen]) -> Vec<String> {
        let mut wrong = self.acknowledgements(attempts);
        for seen in nodes {
            wrong.extend(self.content(attempts, seen));
            wrong.extend(self.epochs(seen));
        }
        for pair in nodes.windows(2) {
            if let [one, other] = pair
                && (one.revision, &one.marks, &one.epochs)
                    != (other.revision, &other.marks, &other.epochs)
            {
                wrong.push(format!("two nodes disagree: {one:?}, {other:?}"));
            }
        }
        if let (true, Some(seen)) = (wrong.is_empty(), nodes.first()) {
            self.revision = seen.revision;
            self.mark = seen.marks.values().next().copied().unwrap_or_default();
            self.epochs.clone_from(&seen.epochs);
        }
        wrong
    }

    /// What is wrong among the acknowledgements alone.
    fn acknowledgements(&self, attempts: &[Attempt]) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut made: BTreeMap<u64, &Attempt> = BTreeMap::new();
        for (attempt, revision, changed) in acknowledged(attempts) {
            if !changed {
                wrong.push(format!("a change is acknowledged as none: {attempt:?}"));
            }
            if revision <= self.revision {
                let known = self.revision;
                wrong.push(format!("revision {known} was in force already before {attempt:?}"));
            }
            if attempt.expected.is_some_and(|expected| expected + 1 != revision) {
                wrong.push(format!("a write was taken over another revision: {attempt:?}"));
            }
            if let Some(other) = made.insert(revision, attempt) {
                wrong.push(format!("one revision, made twice: {other:?}, {attempt:?}"));
            }
        }
        // Whatever was begun after an acknowledgement made a later revision.
        let made: Vec<(u64, &Attempt)> = made.into_iter().collect();
        for (at, (_, later)) in made.iter().enumerate() {
            for (_, earlier) in &made[..at] {
                if later.ended < earlier.began {
                    wrong.push(format!("in the wrong order: {later:?}, {earlier:?}"));
                }
            }
        }
        wrong
    }

    /// What is wrong with the configuration that a node says is in force.
    fn content(&self, attempts: &[Attempt], seen: &Seen) -> Vec<String> {
        let node = &seen.node;
        let mut marks: Vec<u64> = seen.marks.values().copied().collect();
        marks.dedup();
        let &[mark] = marks.as_slice() else {
            return vec![format!("{node} has a mixture of configurations: {seen:?}")];
        };
        let made = acknowledged(attempts).map(|(attempt, revision, _)| (revision, attempt.mark));
        let newest: Content = made.chain([(self.revision, self.mark)]).max().unwrap_or_default();
        let found: Content = (seen.revision, mark);
        if found == newest {
            return self.unexplained(attempts, node, seen.revision);
        }
        if seen.revision < newest.0 {
            return vec![format!(
                "{node} lost an acknowledged write: has {found:?}, not {newest:?}"
            )];
        }
        let unknown = |attempt: &&Attempt| attempt.outcome == Outcome::Unknown;
        let possible = attempts.iter().filter(unknown).any(|attempt| {
            let over = attempt.expected.is_none_or(|expected| expected + 1 == seen.revision);
            seen.revision > newest.0 && attempt.mark == mark && over
        });
        if !possible {
            return vec![format!(
                "{node} has {found:?} (revision and mark), which is neither the newest \
                 acknowledged, {newest:?}, nor of a write that may have followed it"
            )];
        }
        self.unexplained(attempts, node, seen.revision)
    }

    /// Each revision was made by a write that was acknowledged or may have happened.
    fn unexplained(&self, attempts: &[Attempt], node: &str, revision: u64) -> Vec<String> {
        let unknown = attempts.iter().filter(|attempt| attempt.outcome == Outcome::Unknown).count();
        let explained = (acknowledged(attempts).count() + unknown) as u64;
        let new = revision.saturating_sub(self.revision);
        if new <= explained {
            return Vec::new();
        }
        vec![format!("{node} has {new} new revisions, of which {explained} can be explained")]
    }

    fn epochs(&self, seen: &Seen) -> Vec<String> {
        let back = self.epochs.iter().filter(|(group, was)| {
            let now = seen.epochs.get(*group);
            now.is_none_or(|now| now < *was)
        });
        back.map(|(group, was)| format!("the epoch of {group} was {was} and went back: {seen:?}"))
            .collect()
    }
}

/// The acknowledged writes, with revision and whether they changed something.
fn acknowledged(attempts: &[Attempt]) -> impl Iterator<Item = (&Attempt, u64, bool)> {
    attempts.iter().filter_map(|attempt| match attempt.outcome {
        Outcome::Acknowledged { revision, changed } => Some((attempt, revision, changed)),
        Outcome::Conflict | Outcome::NotTaken | Outcome::Unknown => None,
    })
}
