//! Majorities of the voters, also while two sets of voters count (joint consensus, Raft thesis
//! §4.3).

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{LogIndex, NodeId};
use crate::time::Instant;

/// Who votes, as one node knows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Membership {
    /// The log index of the entry that says so.
    pub index: LogIndex,
    /// One set of voters, or two while a change is under way.
    pub configs: Vec<BTreeSet<NodeId>>,
    /// Every node, learners included.
    pub nodes: BTreeSet<NodeId>,
}

impl Membership {
    /// Every voter of every set.
    #[must_use]
    pub fn voters(&self) -> BTreeSet<NodeId> {
        self.configs.iter().flatten().copied().collect()
    }

    /// Whether `counts` holds for a majority of each set. Never true without voters.
    pub fn majority(&self, mut counts: impl FnMut(NodeId) -> bool) -> bool {
        !self.configs.is_empty()
            && self.configs.iter().all(|config| {
                let agreeing = config.iter().filter(|&&node| counts(node)).count();
                agreeing * 2 > config.len()
            })
    }

    /// The latest time that a majority of each set backs, given until when each voter does.
    #[must_use]
    pub fn backed_until(&self, voters: &BTreeMap<NodeId, Instant>) -> Option<Instant> {
        let mut earliest: Option<Instant> = None;
        for config in &self.configs {
            let mut times: Vec<Instant> =
                config.iter().filter_map(|node| voters.get(node).copied()).collect();
            times.sort_unstable_by(|a, b| b.cmp(a));
            let needed = config.len() / 2;
            let time = *times.get(needed)?;
            earliest = Some(earliest.map_or(time, |other| other.min(time)));
        }
        earliest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn membership(configs: &[&[u64]]) -> Membership {
        let configs: Vec<BTreeSet<NodeId>> =
            configs.iter().map(|c| c.iter().map(|&n| NodeId(n)).collect()).collect();
        let nodes = configs.iter().flatten().copied().collect();
        Membership { index: LogIndex(1), configs, nodes }
    }

    fn backing(times: &[(u64, u64)]) -> BTreeMap<NodeId, Instant> {
        times.iter().map(|&(node, time)| (NodeId(node), Instant(time))).collect()
    }

    #[test]
    fn two_of_three_back_until_the_later_of_the_best_two() {
        let three = membership(&[&[1, 2, 3]]);
        assert_eq!(three.backed_until(&backing(&[(1, 9), (2, 5), (3, 1)])), Some(Instant(5)));
        assert_eq!(three.backed_until(&backing(&[(1, 9)])), None);
        assert_eq!(three.backed_until(&backing(&[(1, 9), (7, 9)])), None, "7 is no voter");
    }

    #[test]
    fn two_of_four_are_no_majority() {
        let four = membership(&[&[1, 2, 3, 4]]);
        assert!(!four.majority(|n| n.0 <= 2));
        assert!(four.majority(|n| n.0 <= 3));
        assert_eq!(four.backed_until(&backing(&[(1, 9), (2, 9)])), None);
    }

    #[test]
    fn while_two_sets_count_both_must_back() {
        let joint = membership(&[&[1, 2, 3], &[3, 4, 5]]);
        assert!(!joint.majority(|n| n.0 <= 3));
        let times = backing(&[(1, 9), (2, 8), (3, 7), (4, 3)]);
        assert_eq!(joint.backed_until(&times), Some(Instant(3)));
    }

    #[test]
    fn nobody_is_no_majority() {
        assert!(!Membership::default().majority(|_| true));
        assert_eq!(Membership::default().backed_until(&BTreeMap::new()), None);
    }
}
