//! The state machine: the replicated state in memory, published after every apply.
//!
//! It decides nothing: `ClusterState::apply` does. A state that this node can't compute ends the
//! process.

use std::io;
use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use prost::Message as _;
use quorate_api::convert::decode;
use quorate_api::peer::v1 as peer;
use quorate_model::id::LogIndex;
use quorate_model::state::{ApplyError, ClusterState, Reply};
use tokio::sync::watch;

use super::reader::Reader;
use super::store::database::invalid;
use super::store::snapshots::Snapshots;
use super::store::space::Space;
use super::store::{FatalSender, Store};
use super::types::{LogId, Snapshot, SnapshotBytes, SnapshotMeta, StoredMembership, TypeConfig};

/// The replicated state, and which entries of the log it is made of.
#[derive(Debug, Clone, Default)]
pub(crate) struct Applied {
    pub(crate) state: ClusterState,
    pub(crate) last: Option<LogId>,
    pub(crate) membership: StoredMembership,
}

impl Applied {
    /// The state of a snapshot.
    pub(crate) fn from_snapshot(meta: &SnapshotMeta, data: &[u8]) -> io::Result<Self> {
        let state = decode::<peer::State>("State", data)
            .and_then(ClusterState::try_from)
            .map_err(|error| invalid(&error.to_string()))?;
        Ok(Self { state, last: meta.last_log_id, membership: meta.last_membership.clone() })
    }

    /// Applies the next entry.
    pub(crate) fn apply(
        &mut self,
        log_id: LogId,
        payload: EntryPayload<quorate_model::command::Command, u64, super::types::Member>,
        reader: &Reader,
    ) -> Result<Reply, ApplyError> {
        let index = LogIndex(log_id.index);
        self.last = Some(log_id);
        match payload {
            EntryPayload::Blank => self.state.skip(index),
            EntryPayload::Membership(membership) => {
                self.state.skip(index);
                self.membership = StoredMembership::new(Some(log_id), membership);
            }
            EntryPayload::Normal(command) => {
                let read = |source: &str, format| reader.read(source, format);
                return self.state.apply_reading(index, &command, &read);
            }
        }
        Ok(Reply::Done)
    }
}

/// The replicated state, and where it is published.
#[derive(Debug)]
pub struct StateMachine {
    applied: Applied,
    reader: Arc<Reader>,
    published: watch::Sender<Arc<ClusterState>>,
    snapshots: Arc<Snapshots>,
    space: Space,
    fatal: FatalSender,
}

impl StateMachine {
    /// An empty state; openraft installs the last snapshot and applies what follows it.
    pub(crate) fn new(store: &Store) -> (Self, watch::Receiver<Arc<ClusterState>>) {
        let (published, receiver) = watch::channel(Arc::default());
        let machine = Self {
            applied: Applied::default(),
            reader: Arc::default(),
            published,
            snapshots: store.snapshots(),
            space: store.space(),
            fatal: store.fatal_sender(),
        };
        (machine, receiver)
    }

    /// What it reads configurations with.
    pub(crate) fn reader(&self) -> Arc<Reader> {
        Arc::clone(&self.reader)
    }

    fn publish(&self) {
        self.published.send_replace(Arc::new(self.applied.state.clone()));
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotBytes;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.applied.last, self.applied.membership.clone()))
    }

    /// Whoever waits for an answer finds the state published already.
    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        let mut replies = Vec::new();
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            let reply = self.applied.apply(entry.log_id, entry.payload, &self.reader);
            let reply = reply.map_err(|error| {
                self.fatal.tell(&error.to_string());
                io::Error::other(error)
            })?;
            replies.extend(responder.map(|responder| (responder, reply)));
        }
        self.publish();
        for (responder, reply) in replies {
            responder.send(reply);
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            state: self.applied.state.clone(),
            meta: SnapshotMeta {
                last_log_id: self.applied.last,
                last_membership: self.applied.membership.clone(),
            },
            snapshots: Arc::clone(&self.snapshots),
            fatal: self.fatal.clone(),
        }
    }

    /// On a full disk the log stays as it is until there is room: it takes no entries either.
    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<Builder> {
        if !force && self.space.low().borrow().is_some() {
            return None;
        }
        Some(self.get_snapshot_builder().await)
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotBytes,
    ) -> io::Result<()> {
        let applied = Applied::from_snapshot(meta, &snapshot);
        let applied = applied.inspect_err(|error| self.fatal.tell(&error.to_string()))?;
        let saved = self.snapshots.save(meta.clone(), Arc::new(snapshot)).await;
        saved
            .inspect_err(|error| self.fatal.tell(&format!("a snapshot can't be kept: {error}")))?;
        self.applied = applied;
        self.publish();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        Ok(self.snapshots.current())
    }
}

/// Writes one snapshot while the state machine goes on.
#[derive(Debug)]
pub struct Builder {
    state: ClusterState,
    meta: SnapshotMeta,
    snapshots: Arc<Snapshots>,
    fatal: FatalSender,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotBytes;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let data = Arc::new(peer::State::from(&self.state).encode_to_vec());
        let saved = self.snapshots.save(self.meta.clone(), Arc::clone(&data)).await;
        saved
            .inspect_err(|error| self.fatal.tell(&format!("a snapshot can't be kept: {error}")))?;
        Ok(Snapshot { meta: self.meta.clone(), snapshot: data.as_ref().clone() })
    }
}
