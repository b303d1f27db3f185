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
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quorate_model::space::Room;
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use tokio::sync::watch;

/// The disk of the data directory. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Space(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    /// The database file.
    file: File,
    /// Up to where the database file has its space.
    reserved: AtomicU64,
    low: watch::Sender<Option<LowSpace>>,
    #[cfg(test)]
    pretended: std::sync::Mutex<Option<Room>>,
}

/// The disk counts as full.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the disk of {directory} is full ({} MiB left, {} MiB are kept in reserve): this node keeps what it \
     serves, and takes no change, no new group and no lead until there is room: free some there",
    .room.free >> 20, .room.low_mark() >> 20
)]
pub struct LowSpace {
    directory: String,
    room: Room,
}

impl Space {
    /// The disk under a data directory whose database exists.
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        let space = Self(Arc::new(Inner {
            directory: directory.to_owned(),
            file: OpenOptions::new().write(true).open(directory.join("db").join("db"))?,
            reserved: AtomicU64::new(0),
            low: watch::Sender::new(None),
            #[cfg(test)]
            pretended: std::sync::Mutex::new(None),
        }));
        // A full disk is told of when somebody asks, and keeps nobody from starting.
        let _ = space.look();
        Ok(space)
    }

    /// Looks at the disk.
    ///
    /// # Errors
    ///
    /// If it counts as full.
    pub(crate) fn look(&self) -> Result<(), LowSpace> {
        let Ok(room) = self.room() else {
            // A file system that does not say stays what it was.
            return self.0.low.borrow().clone().map_or(Ok(()), Err);
        };
        let was = self.0.low.borrow().is_some();
        let low = room.is_low(was);
        let directory = self.0.directory.display().to_string();
        let found = low.then_some(LowSpace { directory, room });
        if was != low {
            match &found {
                Some(low) => tracing::warn!("{low}"),
                None => tracing::info!("there is room again in {}", self.0.directory.display()),
            }
            self.0.low.send_replace(found.clone());
        }
        if !low {
            self.keep_reserve(room.reserve());
        }
        found.map_or(Ok(()), Err)
    }

    /// Whether the disk counts as full, as it was found last.
    pub(crate) fn low(&self) -> watch::Receiver<Option<LowSpace>> {
        self.0.low.subscribe()
    }

    fn room(&self) -> io::Result<Room> {
        #[cfg(test)]
        if let Some(room) =
            *self.0.pretended.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
        {
            return Ok(room);
        }
        let found = statvfs(&self.0.directory)?;
        // Without a free inode no file can be made, whatever is free besides. Some file systems have
        // no such number.
        let inodes_out = found.f_files > 0 && found.f_favail == 0;
        Ok(Room {
            free: if inodes_out { 0 } else { found.f_bavail.saturating_mul(found.f_frsize) },
            total: found.f_blocks.saturating_mul(found.f_frsize),
        })
    }

    /// Sees that the database file has so many bytes for itself beyond its end, or half of them.
    fn keep_reserve(&self, bytes: u64) {
        let Ok(metadata) = self.0.file.metadata() else { return };
        let end = metadata.len();
        if bytes == 0 || self.0.reserved.load(Ordering::Relaxed) >= end.saturating_add(bytes / 2) {
            return;
        }
        match fallocate(&self.0.file, FallocateFlags::KEEP_SIZE, end, bytes) {
            Ok(()) => {}
            Err(error) => tracing::debug!("no space can be kept for the database: {error}"),
        }
        // Where it can't be done, it is tried again only when the file has grown.
        self.0.reserved.store(end.saturating_add(bytes), Ordering::Relaxed);
    }

    /// The disk as a test has it; `None` for the real one.
    #[cfg(test)]
    pub(crate) fn pretend(&self, room: Option<Room>) {
        *self.0.pretended.lock().unwrap() = room;
        let _ = self.look();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn the_database_has_space_beyond_its_end_and_stays_as_long_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("db")).unwrap();
        let path = directory.path().join("db").join("db");
        std::fs::write(&path, [7; 4096]).unwrap();
        let space = Space::open(directory.path()).unwrap();
        let room = space.room().unwrap();
        assert!(room.free > room.low_mark() * 2, "this test needs some room on the disk: {room:?}");
        let metadata = std::fs::metadata(&path).unwrap();
        assert_eq!(metadata.len(), 4096);
        assert!(metadata.blocks() * 512 >= 4096 + room.reserve(), "{metadata:?}");
        assert_eq!(space.look(), Ok(()));
    }

    #[test]
    fn a_full_disk_is_told_of_with_its_place_and_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("db")).unwrap();
        std::fs::write(directory.path().join("db").join("db"), "").unwrap();
        let space = Space::open(directory.path()).unwrap();
        let low = space.low();
        space.pretend(Some(Room { free: 3 << 20, total: 100 << 30 }));
        let told = low.borrow().clone().unwrap();
        assert_eq!(space.look(), Err(told.clone()));
        let text = told.to_string();
        for part in [&directory.path().display().to_string(), "3 MiB left", "free some"] {
            assert!(text.contains(part), "{text}");
        }
        space.pretend(None);
        assert_eq!(*low.borrow(), None);
    }
}
