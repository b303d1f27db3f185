//! Room on the disk: looked at before anything new is begun, and kept for what has begun.
//!
//! A write that fails ends the process, and with it every lease of this node (design §7). So the node
//! stops to begin anything new before the disk is full: it takes no entries of the log, leads no
//! more, and gives no promise that it would have to write. Its leases and the promises given go on,
//! which takes no disk. When a disk counts as full is decided in `quorate_model::space`.
//!
//! For what is under way, and votes, which are small, the database file has some space beyond its end
//! that nobody else can take (fallocate(2), `FALLOC_FL_KEEP_SIZE`), where the file system can do that.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quorate_model::space::Room;
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use tokio::sync::watch;

use crate::clock;

/// What was found so lately is taken for what is.
const FRESH: Duration = Duration::from_millis(20);
/// What `st_blocks` counts in (stat(2)).
const BLOCK_BYTES: u64 = 512;

/// The disk of the data directory. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Space(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    /// The database file.
    file: File,
    /// When it was looked last, in nanoseconds of the clock; 0: never.
    looked: AtomicU64,
    low: watch::Sender<Option<LowSpace>>,
    #[cfg(test)]
    pretended: std::sync::Mutex<Option<Room>>,
}

/// The disk counts as full.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the disk of {directory} is full ({left}): this node keeps what it serves, and takes no change, no \
     new group and no lead until {needed_mib} MiB are free there"
)]
pub struct LowSpace {
    directory: String,
    left: String,
    needed_mib: u64,
}

impl LowSpace {
    fn new(directory: &Path, room: Room) -> Self {
        let mib = room.free >> 20;
        let left = match room.inodes {
            Some(inodes) if room.free >= room.needed() => {
                format!("{mib} MiB left, but only {inodes} inodes: too many small files")
            }
            Some(_) | None => format!("{mib} MiB left"),
        };
        Self { directory: directory.display().to_string(), left, needed_mib: room.needed() >> 20 }
    }
}

impl Space {
    /// The disk under a data directory whose database exists.
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        let space = Self(Arc::new(Inner {
            directory: directory.to_owned(),
            file: OpenOptions::new().write(true).open(directory.join("db").join("db"))?,
            looked: AtomicU64::new(0),
            low: watch::Sender::new(None),
            #[cfg(test)]
            pretended: std::sync::Mutex::new(None),
        }));
        space.tend();
        Ok(space)
    }

    /// Looks at the disk, unless that was done just now.
    ///
    /// # Errors
    ///
    /// If it counts as full.
    pub(crate) fn look(&self) -> Result<(), LowSpace> {
        let fresh = u64::try_from(FRESH.as_nanos()).unwrap_or(u64::MAX);
        if clock::now().0.saturating_sub(self.0.looked.load(Ordering::Relaxed)) > fresh {
            self.look_now();
        }
        self.0.low.borrow().clone().map_or(Ok(()), Err)
    }

    /// Looks at the disk, and sees that the database has its reserve; may take its time.
    pub(crate) fn tend(&self) {
        if let Some(room) = self.look_now() {
            self.keep_reserve(room);
        }
    }

    /// Why the disk counts as full, as it was found last; `None` while it does not.
    pub(crate) fn low(&self) -> watch::Receiver<Option<LowSpace>> {
        self.0.low.subscribe()
    }

    /// The room that was found; `None` from a file system that does not say: it stays what it was.
    fn look_now(&self) -> Option<Room> {
        let room = self.room().ok()?;
        self.0.looked.store(clock::now().0, Ordering::Relaxed);
        self.0.low.send_if_modified(|low| {
            let was = low.is_some();
            let found = room.is_low(was).then(|| LowSpace::new(&self.0.directory, room));
            match &found {
                Some(found) if !was => tracing::warn!("{found}"),
                None if was => {
                    tracing::info!("there is room again in {}", self.0.directory.display());
                }
                Some(_) | None => {}
            }
            let changed = *low != found;
            *low = found;
            changed
        });
        Some(room)
    }

    fn room(&self) -> io::Result<Room> {
        #[cfg(test)]
        if let Some(room) =
            *self.0.pretended.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
        {
            return Ok(room);
        }
        let found = statvfs(&self.0.directory)?;
        Ok(Room {
            free: found.f_bavail.saturating_mul(found.f_frsize),
            total: found.f_blocks.saturating_mul(found.f_frsize),
            // Some file systems have no such number.
            inodes: (found.f_files > 0).then_some(found.f_favail),
        })
    }

    /// Sees that the database file has its reserve beyond its end, or half of it: the file grows into
    /// it, and gives it back whenever sled shortens the file.
    fn keep_reserve(&self, room: Room) {
        let (Some(bytes), Ok(metadata)) = (room.reserve(), self.0.file.metadata()) else { return };
        let end = metadata.len();
        let kept = metadata.blocks().saturating_mul(BLOCK_BYTES).saturating_sub(end);
        if kept < bytes / 2
            && let Err(error) = fallocate(&self.0.file, FallocateFlags::KEEP_SIZE, end, bytes)
        {
            tracing::debug!("no space can be kept for the database: {error}");
        }
    }

    /// The disk as a test has it; `None` for the real one.
    #[cfg(test)]
    pub(crate) fn pretend(&self, room: Option<Room>) {
        *self.0.pretended.lock().unwrap() = room;
        self.look_now();
    }

    /// A test's disk has no room left.
    #[cfg(test)]
    pub(crate) fn fill(&self) {
        self.pretend(Some(Room { free: 0, total: 1 << 40, inodes: None }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(database: &[u8]) -> (tempfile::TempDir, PathBuf, Space) {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("db")).unwrap();
        let path = directory.path().join("db").join("db");
        std::fs::write(&path, database).unwrap();
        let space = Space::open(directory.path()).unwrap();
        (directory, path, space)
    }

    #[test]
    fn the_database_has_space_beyond_its_end_also_after_it_was_shortened() {
        let (_directory, path, space) = space(&[7; 8192]);
        let room = space.room().unwrap();
        let reserve = room.reserve().expect("this test needs some room on the disk");
        let kept = || {
            let metadata = std::fs::metadata(&path).unwrap();
            metadata.blocks() * BLOCK_BYTES - metadata.len()
        };
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 8192);
        assert!(kept() >= reserve, "{}", kept());
        OpenOptions::new().write(true).open(&path).unwrap().set_len(4096).unwrap();
        assert!(kept() < reserve, "to shorten a file gives back what it has beyond its end");
        space.tend();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 4096);
        assert!(kept() >= reserve, "{}", kept());
        assert_eq!(space.look(), Ok(()));
    }

    #[test]
    fn a_full_disk_is_told_of_with_its_place_what_is_left_and_what_is_needed() {
        let (directory, _, space) = space(b"");
        let low = space.low();
        let told = |free: u64, inodes| {
            space.pretend(Some(Room { free: free << 20, total: 100 << 30, inodes }));
            low.borrow().as_ref().map(ToString::to_string).unwrap_or_default()
        };
        let text = told(3, None);
        for part in
            [&directory.path().display().to_string(), "3 MiB left", "until 128 MiB are free"]
        {
            assert!(text.contains(part), "{text}");
        }
        assert!(told(2, None).contains("2 MiB left"), "what is left is kept up to date");
        assert!(told(900, Some(3)).contains("only 3 inodes"));
        space.pretend(None);
        assert_eq!(*low.borrow(), None);
    }
}
