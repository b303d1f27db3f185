//! Connections to the other nodes, kept and shared.
//!
//! Each purpose has connections of its own, so that a snapshot delays no heartbeat: what Raft's
//! elections hang on, one over each link; the rest, one over whichever link answers first. A
//! connection that stands but does not answer any more is given up for a new one. One that is still
//! being made is left its time, and one whose answers come late is kept: Raft's limits are a few tens
//! of milliseconds, and making connections anew whenever one is missed would keep a busy machine
//! from ever meeting them again.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use quorate_model::id::NodeId;
use rustls::ClientConfig;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};

use super::datagrams::LinkKnowledge;
use super::dial::{DialLimits, dial};
use super::directory::PeerDirectory;
use super::tls::node_name;

/// How long nothing is answered on a connection, after the time that a caller gave a request, before
/// it is given up: longer than Linux's TCP takes to send again what was lost (RFC 6298; 200 ms more
/// than the round trip).
const PATIENCE: Duration = Duration::from_millis(400);
/// It doubles so often, once for each connection in a row on which nothing was answered.
const DOUBLINGS_MAX: u32 = 3;
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
    links: Option<LinkKnowledge>,
    lanes: Arc<Mutex<BTreeMap<LaneKey, Lane>>>,
    answers: Arc<AtomicU64>,
}

/// The other node, what for, and over which of its links; over any, if none is named.
type LaneKey = (NodeId, Purpose, Option<SocketAddr>);

/// One connection, which connects when it is used.
#[derive(Debug, Clone)]
pub struct Lane {
    /// For tonic's clients.
    pub channel: Channel,
    key: LaneKey,
    health: Arc<Health>,
}

#[derive(Debug, Default)]
struct Health {
    /// Where it is connected to, or was last; none while it is being made.
    connected: Mutex<Option<SocketAddr>>,
    /// Connections that were made so far: tonic makes another where one breaks.
    made: AtomicU64,
    /// Whether an answer is overdue.
    late: AtomicBool,
    refused: AtomicBool,
    /// The number of its last answer, of all answers.
    answered: AtomicU64,
    /// How often its patience is doubled.
    doublings: AtomicU32,
}

/// How a connection stood when a request was sent on it.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    at: Instant,
    /// Which of its connections stood, if one did.
    connection: Option<u64>,
    answered: u64,
}

impl Lane {
    /// Where it is connected to, or was last; none while it is being made.
    fn connected(&self) -> Option<SocketAddr> {
        *locked(&self.health.connected)
    }

    /// How it stands, before a request is sent on it.
    #[must_use]
    pub fn asked(&self) -> Asked {
        let answered = self.health.answered.load(Ordering::Relaxed);
        Asked { at: Instant::now(), connection: self.connection(), answered }
    }

    /// How long to wait for an answer after its caller does not any more, before
    /// [`Channels::silent`] is called.
    #[must_use]
    pub fn patience(&self) -> Duration {
        PATIENCE * 2_u32.pow(self.health.doublings.load(Ordering::Relaxed).min(DOUBLINGS_MAX))
    }

    fn connection(&self) -> Option<u64> {
        self.connected().map(|_| self.health.made.load(Ordering::Relaxed))
    }

    /// A request on it is not answered in the time that its caller gave it, and may still be.
    pub fn late(&self) {
        self.health.late.store(true, Ordering::Relaxed);
    }

    /// Whether it answered, and no answer is overdue.
    #[cfg(test)]
    pub(crate) fn answers(&self) -> bool {
        let Health { late, answered, .. } = &*self.health;
        !late.load(Ordering::Relaxed) && answered.load(Ordering::Relaxed) > 0
    }

    /// Notes that the other side refuses this node; true the first time.
    pub(crate) fn refused(&self) -> bool {
        !self.health.refused.swap(true, Ordering::Relaxed)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Channels {
    /// No connections yet. Where it is known which links are up, those are taken first.
    #[must_use]
    pub fn new(
        directory: PeerDirectory,
        tls: Arc<ClientConfig>,
        links: Option<LinkKnowledge>,
    ) -> Self {
        Self { directory, tls, links, lanes: Arc::default(), answers: Arc::default() }
    }

    /// Who the peers are.
    #[must_use]
    pub fn directory(&self) -> &PeerDirectory {
        &self.directory
    }

    fn up(&self, node: NodeId) -> Vec<SocketAddr> {
        self.links.as_ref().map(|links| links.up(node)).unwrap_or_default()
    }

    /// The connection to a node for this purpose, over whichever link answers first. One over a
    /// link that is down is given up where another link is up.
    #[must_use]
    pub fn lane(&self, node: NodeId, purpose: Purpose) -> Lane {
        let up = self.up(node);
        let mut lanes = locked(&self.lanes);
        let key = (node, purpose, None);
        let at = lanes.get(&key).and_then(Lane::connected);
        if at.is_some_and(|at| !up.is_empty() && !up.contains(&at)) {
            lanes.remove(&key);
        }
        lanes.entry(key).or_insert_with(|| self.new_lane(key, Health::default())).clone()
    }

    /// A connection over each link of a node, best first: one on which no answer is overdue, and of
    /// those the one that answered last.
    #[must_use]
    pub fn lanes(&self, node: NodeId, purpose: Purpose) -> Vec<Lane> {
        let links = self.directory.links(node);
        let mut lanes = locked(&self.lanes);
        // What leads to a link that the node has no more.
        lanes.retain(|(to, what, at), _| {
            (*to, *what) != (node, purpose) || at.is_none_or(|at| links.contains(&at))
        });
        let mut found: Vec<Lane> = links
            .into_iter()
            .map(|link| {
                let key = (node, purpose, Some(link));
                lanes.entry(key).or_insert_with(|| self.new_lane(key, Health::default())).clone()
            })
            .collect();
        found.sort_by_key(|lane| {
            let late = lane.health.late.load(Ordering::Relaxed);
            (late, Reverse(lane.health.answered.load(Ordering::Relaxed)))
        });
        found
    }

    fn new_lane(&self, key: LaneKey, health: Health) -> Lane {
        let (node, _, link) = key;
        let health = Arc::new(health);
        let connector = {
            let (channels, health) = (self.clone(), Arc::clone(&health));
            tower::service_fn(move |_| {
                let (channels, health) = (channels.clone(), Arc::clone(&health));
                async move {
                    *locked(&health.connected) = None;
                    let mut links = channels.directory.links(node);
                    links.retain(|&at| link.is_none_or(|link| link == at));
                    let up = channels.up(node);
                    links.sort_by_key(|at| !up.contains(at));
                    let name = node_name(node)?;
                    let stream = dial(&links, &name, &channels.tls, DialLimits::default()).await?;
                    let at = stream.get_ref().0.peer_addr()?;
                    health.made.fetch_add(1, Ordering::Relaxed);
                    *locked(&health.connected) = Some(at);
                    Ok::<_, tonic::codegen::StdError>(TokioIo::new(stream))
                }
            })
        };
        let channel = Endpoint::from_static("http://peer.quorate")
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE_LIMIT)
            .keep_alive_while_idle(true)
            .connect_with_connector_lazy(connector);
        Lane { channel, key, health }
    }

    /// A request on this connection was answered, even if late, or by an error of the other side.
    pub fn answered(&self, lane: &Lane, asked: Asked) {
        lane.health.late.store(false, Ordering::Relaxed);
        if asked.at.elapsed() <= PATIENCE {
            lane.health.doublings.store(0, Ordering::Relaxed);
        }
        let number = self.answers.fetch_add(1, Ordering::Relaxed) + 1;
        lane.health.answered.store(number, Ordering::Relaxed);
    }

    /// A request on this connection was not answered within its patience. If nothing else was
    /// answered on it meanwhile, it is given up.
    pub fn silent(&self, lane: &Lane, asked: Asked) {
        let health = &lane.health;
        let answered = health.answered.load(Ordering::Relaxed);
        if answered != asked.answered {
            return;
        }
        health.late.store(true, Ordering::Relaxed);
        if asked.connection.is_none() || asked.connection != lane.connection() {
            return;
        }
        let mut lanes = locked(&self.lanes);
        let current = lanes.get(&lane.key);
        if current.is_some_and(|current| Arc::ptr_eq(&current.health, health)) {
            let before = health.doublings.load(Ordering::Relaxed);
            let doublings = if answered > 0 { 0 } else { (before + 1).min(DOUBLINGS_MAX) };
            let doublings = AtomicU32::new(doublings);
            // The next one is not taken for a good one before it has answered.
            let fresh = Health { late: AtomicBool::new(true), doublings, ..Health::default() };
            lanes.insert(lane.key, self.new_lane(lane.key, fresh));
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
