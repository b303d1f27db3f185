//! When a node's disk counts as full, before it is (design §7).
//!
//! What has begun to be written must still reach the disk, or the daemon has to end. So a node stops
//! to begin anything new while there is room left: see [`Room::low_mark`].

/// Below this, a disk of any size counts as full.
const LOW_MARK_MAX: u64 = 64 * 1024 * 1024;
/// A small file system may be used to all but this part of it.
const LOW_MARK_PART: u64 = 10;
/// The part of the low mark that the database file has for itself.
const RESERVE_PART: u64 = 4;
/// Files that can still be made, below which a disk counts as full too: a snapshot and its like are
/// new files.
const INODES_LOW: u64 = 16;

/// The room on a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// What may still be written, in bytes.
    pub free: u64,
    /// Its size, in bytes.
    pub total: u64,
    /// How many files may still be made; `None` where the file system has no such limit.
    pub inodes: Option<u64>,
}

impl Room {
    /// The free space below which nothing new is begun: 64 MiB, or a tenth of a small file system.
    #[must_use]
    pub fn low_mark(self) -> u64 {
        LOW_MARK_MAX.min(self.total / LOW_MARK_PART)
    }

    /// The free space from which on a full disk does not count as full any more.
    #[must_use]
    pub fn needed(self) -> u64 {
        self.low_mark().saturating_mul(2)
    }

    /// What the database file has beyond its end, whoever fills the file system: a quarter of the
    /// low mark. `None` while taking it would make the disk count as full.
    #[must_use]
    pub fn reserve(self) -> Option<u64> {
        let reserve = self.low_mark() / RESERVE_PART;
        (reserve > 0 && self.free >= self.needed()).then_some(reserve)
    }

    /// Whether the disk counts as full, given whether it did before: once it does, it takes twice
    /// as much until it does not, so that a node does not come and go.
    #[must_use]
    pub fn is_low(self, was: bool) -> bool {
        let (bytes, inodes) =
            if was { (self.needed(), INODES_LOW * 2) } else { (self.low_mark(), INODES_LOW) };
        self.free < bytes || self.inodes.is_some_and(|left| left < inodes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    fn large(free: u64) -> Room {
        Room { free: free * MIB, total: 100_000 * MIB, inodes: Some(1_000) }
    }

    #[test]
    fn a_disk_is_full_below_the_mark_until_it_has_twice_as_much() {
        assert!(!large(64).is_low(false));
        assert!(large(63).is_low(false));
        assert!(large(127).is_low(true));
        assert!(!large(128).is_low(true));
        assert_eq!(large(0).needed(), 128 * MIB);
    }

    #[test]
    fn a_disk_that_takes_no_more_files_is_full_too() {
        let files = |left| Room { inodes: Some(left), ..large(1_000) };
        assert!(files(15).is_low(false) && !files(16).is_low(false));
        assert!(files(31).is_low(true) && !files(32).is_low(true));
        assert!(!Room { inodes: None, ..large(1_000) }.is_low(true));
    }

    #[test]
    fn a_small_file_system_can_be_used_and_has_its_reserve_below_the_mark() {
        let small = Room { free: 30 * MIB, total: 100 * MIB, inodes: None };
        assert_eq!(small.low_mark(), 10 * MIB);
        assert!(!small.is_low(false) && !small.is_low(true));
        assert!(small.reserve().is_some_and(|reserve| reserve < small.low_mark()));
        let none = Room { free: 0, total: 0, inodes: None };
        assert!(!none.is_low(false), "what says nothing of itself is not held full");
    }

    #[test]
    fn to_keep_a_reserve_makes_no_disk_full() {
        assert_eq!(large(127).reserve(), None);
        assert_eq!(large(128).reserve(), Some(16 * MIB));
    }
}
