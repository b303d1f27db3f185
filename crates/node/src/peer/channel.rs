//! Connections to the other nodes, kept and shared.
//!
//! Each purpose has a connection of its own, so that a snapshot delays no heartbeat. A connection
//! that stands but does not answer any more is given up: the next one takes whichever link
//! answers. One that is still being made is left its time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use quorate_model::id::NodeId;
use rustls::ClientConfig;
use tonic::transport::{Channel, Endpoint};

use super::dial::{DialLimits, dial};
use super::directory::PeerDirectory;
use super::tls::node_name;

/// Requests in a row without an answer, after which a connection is given up.
const SILENCE_MAX: u32 = 2;
const KEEP_ALIVE: Duration = Duration::from_secs(2);
const KEEP_ALIVE_LIMIT: Duration = Duration::from_secs(3);

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// Raft's heartbeats.
    Heartbeat,
    /// Raft's log and votes.
    Replication,
    /// Raft's snapshots.
    Snapshot,
    /// Questions and forwarded writes.
    Calls,
}

/// Connections to the other nodes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Channels {
    directory: PeerDirectory,
    tls: Arc<ClientConfig>,
    lanes: Arc<Mutex<BTreeMap<(NodeId, Purpose), Lane>>>,
}

/// One connection, which connects when it is used.
#[derive(Debug, Clone)]
pub struct Lane {
    /// For tonic's clients.
    pub channel: Channel,
    health: Arc<Health>,
}

#[derive(Debug, Default)]
struct Health {
    connected: AtomicBool,
    silent: AtomicU32,
    refused: AtomicBool,
}

impl Lane {
    /// Whether it ever connected.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.health.connected.load(Ordering::Relaxed)
    }

    /// Notes that the other side refuses this node; true the first time.
    pub(crate) fn refused(&self) -> bool {
        !self.health.refused.swap(true, Ordering::Relaxed)
    }
}

impl Channels {
    /// No connections yet.
    #[must_use]
    pub fn new(directory: PeerDirectory, tls: Arc<ClientConfig>) -> Self {
        Self { directory, tls, lanes: Arc::default() }
    }

    /// Who the peers are.
    #[must_use]
    pub fn directory(&self) -> &PeerDirectory {
        &self.directory
    }

    /// The connection to a node for this purpose.
    #[must_use]
    pub fn lane(&self, node: NodeId, purpose: Purpose) -> Lane {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || self.new_lane(node, DialLimits::default());
        lanes.entry((node, purpose)).or_insert_with(new).clone()
    }

    /// A connection that is not shared.
    #[must_use]
    pub fn new_lane(&self, node: NodeId, limits: DialLimits) -> Lane {
        let health = Arc::new(Health::default());
        let connector = {
            let (directory, tls, health) =
                (self.directory.clone(), Arc::clone(&self.tls), Arc::clone(&health));
            tower::service_fn(move |_| {
                let (links, tls, health) =
                    (directory.links(node), Arc::clone(&tls), Arc::clone(&health));
                async move {
                    let stream = dial(&links, &node_name(node)?, &tls, limits).await?;
                    health.connected.store(true, Ordering::Relaxed);
                    Ok::<_, tonic::codegen::StdError>(TokioIo::new(stream))
                }
            })
        };
        let channel = Endpoint::from_static("http://peer.quorate")
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE_LIMIT)
            .keep_alive_while_idle(true)
            .connect_with_connector_lazy(connector);
        Lane { channel, health }
    }

    /// A request on this connection was answered, even if by an error of the other side.
    pub fn answered(&self, lane: &Lane) {
        lane.health.silent.store(0, Ordering::Relaxed);
    }

    /// A request on this connection was not answered in time.
    pub fn silent(&self, node: NodeId, purpose: Purpose, lane: &Lane) {
        let silent = lane.health.silent.fetch_add(1, Ordering::Relaxed) + 1;
        if silent < SILENCE_MAX || !lane.is_connected() {
            return;
        }
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let current = lanes.get(&(node, purpose));
        if current.is_some_and(|current| Arc::ptr_eq(&current.health, &lane.health)) {
            lanes.remove(&(node, purpose));
        }
    }
}

/// An error with its causes, which is where the reason stands.
#[must_use]
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
