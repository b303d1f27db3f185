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
use quorate_model::state::{ClusterState, Reply};
use tokio::sync::watch;

use super::store::database::invalid;
use super::store::snapshots::Snapshots;
use super::store::{FatalSender, Store};
use super::types::{LogId, Snapshot, SnapshotBytes, SnapshotMeta, StoredMembership, TypeConfig};

/// The replicated state, and where it is published.
#[derive(Debug)]
pub struct StateMachine {
    state: ClusterState,
    applied: Option<LogId>,
    membership: StoredMembership,
    published: watch::Sender<Arc<ClusterState>>,
    snapshots: Arc<Snapshots>,
    fatal: FatalSender,
}

impl StateMachine {
    /// An empty state; openraft installs the last snapshot and applies what follows it.
    pub(crate) fn new(store: &Store) -> (Self, watch::Receiver<Arc<ClusterState>>) {
        let (published, receiver) = watch::channel(Arc::default());
        let machine = Self {
            state: ClusterState::default(),
            applied: None,
            membership: StoredMembership::default(),
            published,
            snapshots: store.snapshots(),
            fatal: store.fatal_sender(),
        };
        (machine, receiver)
    }

    fn apply_one(
        &mut self,
        log_id: LogId,
        payload: EntryPayload<quorate_model::command::Command, u64, super::types::Member>,
    ) -> io::Result<Reply> {
        let index = LogIndex(log_id.index);
        self.applied = Some(log_id);
        match payload {
            EntryPayload::Blank => {
                self.state.skip(index);
                Ok(Reply::Done)
            }
            EntryPayload::Membership(membership) => {
                self.state.skip(index);
                self.membership = StoredMembership::new(Some(log_id), membership);
                Ok(Reply::Done)
            }
            EntryPayload::Normal(command) => self.state.apply(index, &command).map_err(|error| {
                self.fatal.tell(&error.to_string());
                io::Error::other(error)
            }),
        }
    }

    fn publish(&self) {
        self.published.send_replace(Arc::new(self.state.clone()));
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotBytes;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.applied, self.membership.clone()))
    }

    /// Whoever waits for an answer finds the state published already.
    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        let mut replies = Vec::new();
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            let reply = self.apply_one(entry.log_id, entry.payload)?;
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
            state: self.state.clone(),
            meta: SnapshotMeta {
                last_log_id: self.applied,
                last_membership: self.membership.clone(),
            },
            snapshots: Arc::clone(&self.snapshots),
            fatal: self.fatal.clone(),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotBytes,
    ) -> io::Result<()> {
        let state = decode::<peer::State>("State", &snapshot)
            .and_then(ClusterState::try_from)
            .map_err(|error| invalid(&error.to_string()));
        let state = state.inspect_err(|error| self.fatal.tell(&error.to_string()))?;
        let saved = self.snapshots.save(meta.clone(), Arc::new(snapshot)).await;
        saved
            .inspect_err(|error| self.fatal.tell(&format!("a snapshot can't be kept: {error}")))?;
        self.state = state;
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
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
