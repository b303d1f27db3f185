//! The only file that knows sled: one tree of records, and what "on disk" means.
//!
//! sled 0.34's `flush` is no fsync on Linux (it calls sync_file_range), so the database file is
//! synced here through a descriptor of our own. What it writes in pieces above 128 KiB goes to files
//! that nobody syncs; such a piece may be a whole leaf of its tree, which is split by the number of
//! its records alone (17, and a few more after a merge). So whatever is larger than [`PART_BYTES`]
//! is split over several records, in one atomic batch. sled applies batches of one tree in the order in which they were made, and after a crash
//! what is there is a prefix of them.
//!
//! Keys: `0`, a name, a part (named records); `1`, an index, a part (log entries). A part begins
//! with the number of all parts.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::identity::file::sync_directory;

/// Most bytes in one record: 24 of them stay below 128 KiB.
const PART_BYTES: usize = 4 * 1024;

/// Memory for sled's cache: the log is read soon after it was written, or not at all.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;

/// A record with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Name {
    /// Which node of which cluster this is.
    Owner,
    /// The command that founds the cluster, until the log has it.
    Founding,
    /// Raft's vote.
    Vote,
    /// The last entry that was purged from the log.
    Purged,
    /// The last entry known to be committed.
    Committed,
    /// A voter's promises.
    Promises,
    /// The timing in force.
    Timing,
    /// What a member said when the cluster was recovered without this node.
    Abandoned,
}

impl Name {
    fn key(self, part: u16) -> [u8; 4] {
        let name = match self {
            Self::Owner => 1,
            Self::Founding => 2,
            Self::Vote => 3,
            Self::Purged => 4,
            Self::Committed => 5,
            Self::Promises => 6,
            Self::Timing => 7,
            Self::Abandoned => 8,
        };
        let [high, low] = part.to_be_bytes();
        [0, name, high, low]
    }
}

fn entry_key(index: u64, part: u16) -> [u8; 11] {
    let mut key = [0; 11];
    key[0] = 1;
    key[1..9].copy_from_slice(&index.to_be_bytes());
    key[9..].copy_from_slice(&part.to_be_bytes());
    key
}

fn entry_index(key: &[u8]) -> io::Result<u64> {
    let index = key.get(1..9).and_then(|bytes| bytes.try_into().ok());
    index.map(u64::from_be_bytes).ok_or_else(|| invalid("a key of the log is too short"))
}

/// Several changes that happen together or not at all.
#[derive(Debug, Default)]
pub(crate) struct Changes(sled::Batch);

impl Changes {
    pub(crate) fn put_entry(&mut self, index: u64, bytes: &[u8]) -> io::Result<()> {
        self.put_parts(|part| entry_key(index, part).to_vec(), bytes)
    }

    pub(crate) fn put(&mut self, name: Name, bytes: &[u8]) -> io::Result<()> {
        self.put_parts(|part| name.key(part).to_vec(), bytes)
    }

    fn put_parts(&mut self, key: impl Fn(u16) -> Vec<u8>, bytes: &[u8]) -> io::Result<()> {
        let count = bytes.len().div_ceil(PART_BYTES).max(1);
        let count = u16::try_from(count).map_err(|_| invalid("a record is larger than 256 MiB"))?;
        let mut parts = bytes.chunks(PART_BYTES);
        for part in 0..count {
            let mut value = count.to_be_bytes().to_vec();
            value.extend(parts.next().unwrap_or_default());
            self.0.insert(key(part), value);
        }
        Ok(())
    }
}

/// The database. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    tree: sled::Tree,
    db: sled::Db,
    /// The database file: fsync works on the file, whichever descriptor it is asked through.
    file: Arc<File>,
}

impl Database {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        remove_unfinished(path)?;
        let db = sled::Config::new()
            .path(path)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(None)
            .open()
            .map_err(io_error)?;
        let tree = db.open_tree("quorate").map_err(io_error)?;
        db.flush().map_err(io_error)?;
        let file = File::open(path.join("db"))?;
        file.sync_all()?;
        sync_directory(path)?;
        Ok(Self { tree, db, file: Arc::new(file) })
    }

    /// A database whose file can't be synced: fsync of /dev/null fails.
    #[cfg(test)]
    pub(crate) fn with_broken_sync(self) -> Self {
        Self { file: Arc::new(File::open("/dev/null").unwrap()), ..self }
    }

    /// Puts everything that was changed before on disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.db.flush().map_err(io_error)?;
        self.file.sync_data()
    }

    /// Whether no node ever voted or wrote a log here.
    pub(crate) fn is_unused(&self) -> io::Result<bool> {
        let vote = self.get(Name::Vote)?;
        Ok(vote.is_none() && self.get(Name::Purged)?.is_none() && self.last_entry()?.is_none())
    }

    pub(crate) fn apply(&self, changes: Changes) -> io::Result<()> {
        self.tree.apply_batch(changes.0).map_err(io_error)
    }

    pub(crate) fn put(&self, name: Name, bytes: &[u8]) -> io::Result<()> {
        let mut changes = Changes::default();
        changes.put(name, bytes)?;
        self.apply(changes)
    }

    pub(crate) fn get(&self, name: Name) -> io::Result<Option<Vec<u8>>> {
        let Some(first) = self.tree.get(name.key(0)).map_err(io_error)? else { return Ok(None) };
        let mut parts = Parts::begin(&first)?;
        while let Some(part) = parts.next_part() {
            match self.tree.get(name.key(part)).map_err(io_error)? {
                Some(value) => parts.add(&value)?,
                None => return Err(invalid("a record is not whole")),
            }
        }
        Ok(Some(parts.bytes))
    }

    pub(crate) fn remove(&self, name: Name) -> io::Result<()> {
        let mut batch = sled::Batch::default();
        for item in self.tree.range(name.key(0)..=name.key(u16::MAX)) {
            let (key, _) = item.map_err(io_error)?;
            batch.remove(key);
        }
        self.tree.apply_batch(batch).map_err(io_error)
    }

    /// The entries of a range of indexes, in order; the caller checks that none is missing.
    pub(crate) fn entries(
        &self,
        first: u64,
        last: u64,
        mut take: impl FnMut(u64, Vec<u8>) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut current: Option<(u64, Parts)> = None;
        for item in self.tree.range(entry_key(first, 0)..=entry_key(last, u16::MAX)) {
            let (key, value) = item.map_err(io_error)?;
            let index = entry_index(&key)?;
            match &mut current {
                Some((of, parts)) if *of == index => parts.add(&value)?,
                _ => current = Some((index, Parts::begin(&value)?)),
            }
            if let Some((index, parts)) = current.take_if(|(_, parts)| parts.next_part().is_none())
            {
                take(index, parts.bytes)?;
            }
        }
        if current.is_some() { Err(invalid("an entry of the log is not whole")) } else { Ok(()) }
    }

    /// The last index of the log.
    pub(crate) fn last_entry(&self) -> io::Result<Option<u64>> {
        match self.tree.range(entry_key(0, 0)..).next_back() {
            None => Ok(None),
            Some(item) => Ok(Some(entry_index(&item.map_err(io_error)?.0)?)),
        }
    }

    /// Removes a range of entries, together or not at all.
    pub(crate) fn remove_entries(&self, first: u64, last: u64) -> io::Result<()> {
        let mut batch = sled::Batch::default();
        for item in self.tree.range(entry_key(first, 0)..=entry_key(last, u16::MAX)) {
            let (key, _) = item.map_err(io_error)?;
            batch.remove(key);
        }
        self.tree.apply_batch(batch).map_err(io_error)
    }
}

/// At a start sled notes where it has read to, in a file that it renames once it is whole; it takes one
/// that was not renamed, because the disk was full or the process ended, for a damaged database.
fn remove_unfinished(path: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "generating") {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

struct Parts {
    bytes: Vec<u8>,
    count: u16,
    next: u16,
}

impl Parts {
    fn begin(first: &[u8]) -> io::Result<Self> {
        let mut parts = Self { bytes: Vec::new(), count: 0, next: 0 };
        let (count, _) = first.split_first_chunk().ok_or_else(|| invalid("a record is empty"))?;
        parts.count = u16::from_be_bytes(*count);
        parts.add(first)?;
        Ok(parts)
    }

    fn add(&mut self, value: &[u8]) -> io::Result<()> {
        let (count, bytes) =
            value.split_first_chunk().ok_or_else(|| invalid("a record is empty"))?;
        if u16::from_be_bytes(*count) != self.count {
            return Err(invalid("the parts of a record don't belong together"));
        }
        self.bytes.extend_from_slice(bytes);
        self.next += 1;
        Ok(())
    }

    fn next_part(&self) -> Option<u16> {
        (self.next < self.count).then_some(self.next)
    }
}

pub(crate) fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

fn io_error(error: sled::Error) -> io::Error {
    match error {
        sled::Error::Io(error) => error,
        error => io::Error::new(io::ErrorKind::InvalidData, error.to_string()),
    }
}
