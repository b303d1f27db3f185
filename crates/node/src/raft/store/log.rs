//! The Raft log and vote on the database, as openraft wants them.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};

use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use prost::Message as _;
use quorate_api::convert::{DecodeError, decode};
use quorate_api::peer::v1 as peer;
use tokio::sync::oneshot;

use super::database::{Changes, Database, Name, invalid};
use super::writer::Completion;
use super::{Durable, Store, Writing};
use crate::raft::types::{Entry, LogId, TypeConfig, Vote};
use crate::raft::wire;

/// The log and the vote. Every error is final: the process ends.
#[derive(Debug, Clone)]
pub(crate) struct LogStore(Store);

fn decoded<T>(result: Result<T, DecodeError>) -> io::Result<T> {
    result.map_err(|error| invalid(&error.to_string()))
}

impl LogStore {
    /// # Errors
    ///
    /// If what is on disk can't be read.
    pub(crate) fn new(store: Store) -> io::Result<Self> {
        let log = Self(store);
        // A purge that was cut off by a crash is finished now.
        if let Some(purged) = read_id(&log.0.database, Name::Purged)? {
            log.0.database.remove_entries(0, purged.index)?;
        }
        Ok(log)
    }

    /// Tells the one who must end the process about a failed write.
    fn write<T>(&self, result: io::Result<T>) -> io::Result<T> {
        result.inspect_err(|error| self.0.fatal.tell(&format!("the log can't be written: {error}")))
    }

    async fn synced(&self) -> io::Result<()> {
        let (sender, receiver) = oneshot::channel();
        self.0.writer.sync(Completion::Tell(sender));
        Durable(Writing::UnderWay(receiver)).wait().await.map_err(io::Error::other)
    }
}

pub(super) fn read_id(database: &Database, name: Name) -> io::Result<Option<LogId>> {
    let Some(bytes) = database.get(name)? else { return Ok(None) };
    let id: peer::LogId = decoded(decode("LogId", &bytes))?;
    Ok(Some(wire::read_log_id(&id)))
}

pub(super) fn read_vote(database: &Database) -> io::Result<Option<Vote>> {
    let Some(bytes) = database.get(Name::Vote)? else { return Ok(None) };
    let vote: peer::StoredVote = decoded(decode("StoredVote", &bytes))?;
    decoded(wire::read_stored_vote(&vote)).map(Some)
}

/// The entries of a range, none missing in between.
pub(super) fn read_entries(
    database: &Database,
    range: impl RangeBounds<u64>,
) -> io::Result<Vec<Entry>> {
    let first = match range.start_bound() {
        Bound::Included(&first) => first,
        Bound::Excluded(&before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let last = match range.end_bound() {
        Bound::Included(&last) => last,
        Bound::Excluded(0) => return Ok(Vec::new()),
        Bound::Excluded(&after) => after - 1,
        Bound::Unbounded => u64::MAX,
    };
    let mut entries: Vec<Entry> = Vec::new();
    if first > last {
        return Ok(entries);
    }
    database.entries(first, last, |index, bytes| {
        let entry: peer::Entry = decoded(decode("Entry", &bytes))?;
        let entry = decoded(wire::read_entry(entry))?;
        let expected = entries.last().map_or(index, |before| before.log_id.index + 1);
        if entry.log_id.index != index || index != expected {
            return Err(invalid("an entry of the log is missing or at the wrong place"));
        }
        entries.push(entry);
        Ok(())
    })?;
    Ok(entries)
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> io::Result<Vec<Entry>> {
        read_entries(&self.0.database, range)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        read_vote(&self.0.database)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let purged = read_id(&self.0.database, Name::Purged)?;
        let last = match self.0.database.last_entry()? {
            None => purged,
            Some(index) => {
                read_entries(&self.0.database, index..=index)?.pop().map(|entry| entry.log_id)
            }
        };
        Ok(LogState { last_purged_log_id: purged, last_log_id: last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let bytes = wire::stored_vote(vote).encode_to_vec();
        self.write(self.0.database.put(Name::Vote, &bytes))?;
        self.synced().await
    }

    /// Not synced: it only shortens a restart, and is never ahead of the entries, which were
    /// written before it.
    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        let result = match committed {
            None => self.0.database.remove(Name::Committed),
            Some(id) => self.0.database.put(Name::Committed, &wire::log_id(&id).encode_to_vec()),
        };
        self.write(result)
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        read_id(&self.0.database, Name::Committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut changes = Changes::default();
        for entry in entries {
            let bytes = wire::entry(&entry).encode_to_vec();
            self.write(changes.put_entry(entry.log_id.index, &bytes))?;
        }
        self.write(self.0.database.apply(changes))?;
        self.0.writer.sync(Completion::Raft(callback));
        Ok(())
    }

    /// Not synced: the next append is, and nothing overtakes.
    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let first = last.map_or(0, |id| id.index.saturating_add(1));
        self.write(self.0.database.remove_entries(first, u64::MAX))
    }

    /// The mark first: after a crash in between, the rest is purged at the next start.
    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        let bytes = wire::log_id(&upto).encode_to_vec();
        self.write(self.0.database.put(Name::Purged, &bytes))?;
        self.write(self.0.database.remove_entries(0, upto.index))
    }
}
