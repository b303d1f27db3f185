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

/// The room on a file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// What may still be written.
    pub free: u64,
    /// Its size.
    pub total: u64,
}

impl Room {
    /// The free space below which nothing new is begun: 64 MiB, or a tenth of a small file system.
    #[must_use]
    pub fn low_mark(self) -> u64 {
        LOW_MARK_MAX.min(self.total / LOW_MARK_PART)
    }

    /// What the database file has beyond its end, whoever fills the file system: a quarter of the
    /// low mark.
    #[must_use]
    pub fn reserve(self) -> u64 {
        self.low_mark() / RESERVE_PART
    }

    /// Whether the disk counts as full, given whether it did before: once it does, it takes twice
    /// the low mark until it does not, so that a node does not come and go.
    #[must_use]
    pub fn is_low(self, was: bool) -> bool {
        let mark = if was { self.low_mark().saturating_mul(2) } else { self.low_mark() };
        self.free < mark
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn a_disk_is_full_below_the_mark_until_it_has_twice_as_much() {
        let room = |free| Room { free: free * MIB, total: 100_000 * MIB };
        assert!(!room(64).is_low(false));
        assert!(room(63).is_low(false));
        assert!(room(127).is_low(true));
        assert!(!room(128).is_low(true));
    }

    #[test]
    fn a_small_file_system_can_be_used_and_has_its_reserve_below_the_mark() {
        let small = Room { free: 30 * MIB, total: 100 * MIB };
        assert_eq!(small.low_mark(), 10 * MIB);
        assert!(!small.is_low(false) && !small.is_low(true));
        assert!(small.reserve() > 0 && small.reserve() < small.low_mark());
        let none = Room { free: 0, total: 0 };
        assert!(!none.is_low(false), "what says nothing of itself is not held full");
    }
}
