//! What a node keeps on disk: log, vote, committed index, snapshots, and a voter's promises.
//!
//! Whatever is acknowledged is on disk first. A write that failed, or of which nobody knows
//! whether it did, ends the process ([`Store::fatal`]): the fence closes by itself. Nothing here
//! repairs what it finds damaged: such a node joins again as a new one. The tests are in
//! `store/tests.rs`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use prost::Message as _;
use quorate_api::convert::{DecodeError, FORMAT, check_format, cluster_id_bytes, decode};
use quorate_api::peer::v1 as peer;
use quorate_model::command::Command;
use quorate_model::id::NodeId;
use quorate_model::time::Timing;
use tokio::sync::{oneshot, watch};

use crate::identity::Identity;
use crate::identity::file::sync_directory;

pub(crate) mod database;
pub mod lock;
pub(crate) mod log;
pub(crate) mod offline;
pub(crate) mod replace;
pub(crate) mod snapshots;
pub(crate) mod space;
#[cfg(test)]
mod tests;
pub(crate) mod writer;

use database::{Database, Name};
use lock::{DataDirectory, LockError};
use snapshots::Snapshots;
use space::Space;
use writer::Writer;

/// Why there is no store to work with.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The data directory is in use or can't be used.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The file system refused.
    #[error("{path}: {cause}")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// What is on disk makes no sense.
    #[error(
        "the database in {path} is damaged: {cause}; it is not repaired, since a voter that forgot what it said could undo decisions: remove this node (quorate node remove, on another), move its data directory away, join again"
    )]
    Damaged {
        /// The data directory.
        path: PathBuf,
        /// What is wrong.
        cause: String,
    },
    /// The database has nothing in it, though this node is a member.
    #[error(
        "the database in {path} is empty, but this node is member {node} of cluster {cluster}: a node that lost its data can't come back under its old number. Remove it (quorate node remove {name}, on another node), move {path} away, join again"
    )]
    Emptied {
        /// The data directory.
        path: PathBuf,
        /// This node's number.
        node: NodeId,
        /// This node's name.
        name: String,
        /// The cluster's name.
        cluster: String,
    },
    /// The database is another cluster's or node's.
    #[error(
        "the database in {path} belongs to another cluster or node than the identity beside it: put the right one back, or move {path} away and join again"
    )]
    Foreign {
        /// The data directory.
        path: PathBuf,
    },
    /// The cluster was recovered without this node.
    #[error(
        "cluster {cluster} goes on without this node: {told}. What {path} holds is the lost cluster's: move it away, start quorated, and join again (quorate token create, on a member)"
    )]
    Abandoned {
        /// The data directory.
        path: PathBuf,
        /// The cluster's name.
        cluster: String,
        /// What a member said.
        told: String,
    },
    /// There is a database, but nothing says whose.
    #[error(
        "{path} holds the database of a member, but no identity file: put the identity back, or move {path} away and join again"
    )]
    Orphaned {
        /// The data directory.
        path: PathBuf,
    },
}

/// A write that failed. The process must end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("can't go on after a failed write: {0}")]
pub struct Fatal(pub Arc<str>);

/// Where a fatal error is told; the first one stays.
#[derive(Debug, Clone)]
pub struct FatalSender(Arc<watch::Sender<Option<Fatal>>>);

impl Default for FatalSender {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }
}

impl FatalSender {
    /// Tells that the process must end.
    pub fn tell(&self, what: &str) {
        self.0.send_if_modified(|current| {
            let first = current.is_none();
            if first {
                tracing::error!("the daemon must end: {what}");
                *current = Some(Fatal(what.into()));
            }
            first
        });
    }

    /// Whoever must end the process waits here.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Option<Fatal>> {
        self.0.subscribe()
    }
}

/// Completes when a write is on disk.
#[derive(Debug)]
pub struct Durable(Writing);

#[derive(Debug)]
enum Writing {
    UnderWay(oneshot::Receiver<Result<(), Fatal>>),
    /// Nothing is written before there is room.
    Held(Store, Name, Vec<u8>),
}

impl Durable {
    /// Waits until the write is on disk; on a full disk, until there is room and it is.
    ///
    /// # Errors
    ///
    /// If it failed; the process is then ending.
    pub async fn wait(self) -> Result<(), Fatal> {
        let closed = || Fatal("the store is closed".into());
        let receiver = match self.0 {
            Writing::UnderWay(receiver) => receiver,
            Writing::Held(store, name, bytes) => {
                let mut low = store.space.low();
                low.wait_for(Option::is_none).await.map_err(|_| closed())?;
                store.write(name, bytes)
            }
        };
        receiver.await.unwrap_or_else(|_| Err(closed()))
    }
}

/// The store of one node. Cheap to clone; the last clone closes it.
#[derive(Debug, Clone)]
pub struct Store {
    database: Database,
    writer: Writer,
    snapshots: Arc<Snapshots>,
    space: Space,
    fatal: FatalSender,
    /// Held as long as the store is.
    _directory: Arc<DataDirectory>,
}

impl Store {
    /// Makes the store of a node that has just founded or joined a cluster. `founding` is kept
    /// until the cluster has it in its log.
    ///
    /// # Errors
    ///
    /// If there is a store already that was used, or the file system refuses.
    pub fn create(
        directory: DataDirectory,
        identity: &Identity,
        founding: Option<&Command>,
    ) -> Result<Self, StoreError> {
        let path = directory.path().to_owned();
        let database = open_database(&path)?;
        if !database.is_unused().map_err(|cause| damaged(&path, &cause))? {
            return Err(StoreError::Orphaned { path });
        }
        let owner = owner(identity);
        let founding = founding.map(|command| peer::Command::from(command).encode_to_vec());
        let write = || {
            database.remove(Name::Founding)?;
            if let Some(founding) = &founding {
                database.put(Name::Founding, founding)?;
            }
            database.put(Name::Owner, &owner)?;
            database.sync()
        };
        write().map_err(|cause| StoreError::Io { path: path.clone(), cause })?;
        Self::start(directory, database)
    }

    /// Opens the store of a member.
    ///
    /// # Errors
    ///
    /// If it is empty, damaged, or another node's.
    pub fn open(directory: DataDirectory, identity: &Identity) -> Result<Self, StoreError> {
        let path = directory.path().to_owned();
        let database = open_database(&path)?;
        Self::check_owner(&database, &path, identity)?;
        match database.get(Name::Abandoned).map_err(|cause| damaged(&path, &cause))? {
            None => Self::start(directory, database),
            Some(told) => Err(StoreError::Abandoned {
                path,
                cluster: identity.cluster_name.clone(),
                told: String::from_utf8_lossy(&told).into_owned(),
            }),
        }
    }

    /// Whether a database is the one that belongs to the identity beside it.
    fn check_owner(
        database: &Database,
        path: &Path,
        identity: &Identity,
    ) -> Result<(), StoreError> {
        match database.get(Name::Owner).map_err(|cause| damaged(path, &cause))? {
            None => Err(StoreError::Emptied {
                path: path.to_owned(),
                node: identity.node_id,
                name: identity.node_name.clone(),
                cluster: identity.cluster_name.clone(),
            }),
            Some(found) if found == owner(identity) => Ok(()),
            Some(_) => Err(StoreError::Foreign { path: path.to_owned() }),
        }
    }

    fn start(directory: DataDirectory, database: Database) -> Result<Self, StoreError> {
        let path = directory.path();
        let fatal = FatalSender::default();
        let snapshots =
            Snapshots::open(&path.join("snapshots")).map_err(|cause| damaged(path, &cause))?;
        let failed = |cause| StoreError::Io { path: path.to_owned(), cause };
        let writer = Writer::start(database.clone(), fatal.clone()).map_err(failed)?;
        let space = Space::open(path).map_err(failed)?;
        Ok(Self {
            database,
            writer,
            snapshots: Arc::new(snapshots),
            space,
            fatal,
            _directory: Arc::new(directory),
        })
    }

    /// Whoever must end the process after a failed write waits here.
    #[must_use]
    pub fn fatal(&self) -> watch::Receiver<Option<Fatal>> {
        self.fatal.subscribe()
    }

    pub(crate) fn fatal_sender(&self) -> FatalSender {
        self.fatal.clone()
    }

    pub(crate) fn snapshots(&self) -> Arc<Snapshots> {
        Arc::clone(&self.snapshots)
    }

    /// The disk that all this is on.
    pub(crate) fn space(&self) -> Space {
        self.space.clone()
    }

    /// The command that founds the cluster, as long as its log does not have it.
    pub(crate) fn founding(&self) -> Result<Option<Command>, DecodeError> {
        match self.database.get(Name::Founding) {
            Ok(Some(bytes)) => decode::<peer::Command>("Command", &bytes)?.try_into().map(Some),
            Ok(None) | Err(_) => Ok(None),
        }
    }

    /// The cluster's log has the command that founded it.
    pub(crate) fn founded(&self) -> Result<(), io::Error> {
        self.database.remove(Name::Founding)
    }

    /// The timing that was in force when this node last ran.
    pub(crate) fn timing(&self) -> Option<Timing> {
        let bytes = self.database.get(Name::Timing).ok()??;
        decode::<peer::Timing>("Timing", &bytes).ok()?.try_into().ok()
    }

    /// Keeps the timing for the next start. Nothing depends on when it reaches the disk.
    pub(crate) fn keep_timing(&self, timing: Timing) -> Result<(), io::Error> {
        self.database.put(Name::Timing, &peer::Timing::from(timing).encode_to_vec())
    }

    /// A voter's promises, as they were last written.
    ///
    /// # Errors
    ///
    /// If they can't be read.
    pub fn promises(&self) -> Result<Option<peer::StoredPromises>, DecodeError> {
        read_promises(&self.database)
    }

    /// Writes a voter's promises, on the writer's thread: who asks is never held up by the disk. What
    /// they allow to say must wait for the answer, which on a full disk does not come before there is
    /// room.
    #[must_use]
    pub fn persist_promises(&self, promises: &peer::StoredPromises) -> Durable {
        let bytes = promises.encode_to_vec();
        Durable(if self.space.low().borrow().is_some() {
            Writing::Held(self.clone(), Name::Promises, bytes)
        } else {
            Writing::UnderWay(self.write(Name::Promises, bytes))
        })
    }

    /// The cluster was recovered without this node, says a member: it ends, and never starts from this
    /// store again. To be called within a runtime.
    pub(crate) fn abandon(&self, told: &str) {
        let durable = Durable(Writing::UnderWay(self.write(Name::Abandoned, told.into())));
        let (fatal, told) = (self.fatal.clone(), told.to_owned());
        tokio::spawn(async move {
            // A failed write ends the process as well.
            let _ = durable.wait().await;
            fatal.tell(&told);
        });
    }

    fn write(&self, name: Name, bytes: Vec<u8>) -> oneshot::Receiver<Result<(), Fatal>> {
        let (sender, receiver) = oneshot::channel();
        self.writer.put(name, bytes, writer::Completion::Tell(sender));
        receiver
    }
}

fn read_promises(database: &Database) -> Result<Option<peer::StoredPromises>, DecodeError> {
    const MESSAGE: &str = "StoredPromises";
    let bytes = match database.get(Name::Promises) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok(None),
        // A record that can't be read must not pass for one that was never written.
        Err(_) => return Err(DecodeError::Missing(MESSAGE)),
    };
    let decoded: peer::StoredPromises = decode(MESSAGE, &bytes)?;
    check_format(MESSAGE, decoded.format)?;
    Ok(Some(decoded))
}

fn owner(identity: &Identity) -> Vec<u8> {
    let mut owner = FORMAT.to_be_bytes().to_vec();
    owner.extend(cluster_id_bytes(identity.cluster_id));
    owner.extend(identity.node_id.0.to_be_bytes());
    owner
}

fn open_database(data_dir: &Path) -> Result<Database, StoreError> {
    let path = data_dir.join("db");
    let database = Database::open(&path).map_err(|cause| damaged(data_dir, &cause))?;
    sync_directory(data_dir).map_err(|cause| StoreError::Io { path, cause })?;
    Ok(database)
}

fn damaged(path: &Path, cause: &io::Error) -> StoreError {
    match cause.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::Other => {
            StoreError::Damaged { path: path.to_owned(), cause: cause.to_string() }
        }
        _ => StoreError::Io {
            path: path.to_owned(),
            cause: io::Error::new(cause.kind(), cause.to_string()),
        },
    }
}
