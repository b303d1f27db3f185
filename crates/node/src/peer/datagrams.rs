//! Renewals, their answers, releases and reports: small messages that may be lost, as QUIC DATAGRAM
//! frames over every link at once.
//!
//! For every other node and every pair of links (`pairs`) there is one connection, which both sides
//! send on. The node with the lower id dials it. So one side alone judges that a connection is dead
//! and makes the next, and acknowledgements ride on the datagrams of the other direction; with a
//! connection for each direction there would be twice as many, and under a cut in one direction
//! neither could be made. The side that is dialled uses the connection over which it heard last. It
//! need not judge: a dialler that is alive and unheard dials anew, and one that was restarted does
//! so at once. Where the dialled side was restarted, its reset key, which it derives from its
//! private key, tells the dialler with the first datagram (`quic`).
//!
//! Every message goes over every link that there is a connection on. It is cut into parts that fit
//! a frame (`cut`); the receiver drops copies by their number and joins parts, whichever links they
//! came by (`inbox`). Every frame is authorised by itself against the member list of that moment:
//! its route, and the key of the connection that it came over.
//!
//! All of it runs on the runtime that it was given. Sending takes a lock for as long as it takes to
//! queue some frames, and wakes the connection's task; nothing is waited for. The tests are beside
//! the parts, and in `raft/tests`, where nodes run.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prost::Message as _;
use prost::bytes::Bytes;
use quinn::{Endpoint, VarInt};
use quorate_api::convert::{cluster_id, cluster_id_bytes};
use quorate_api::peer::v1 as peer;
use quorate_model::command::{Digest, LinkAddress};
use quorate_model::id::NodeId;
use quorate_model::state::ClusterState;
use quorate_model::time::Timing;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};

use super::directory::{PeerDirectory, Refusal};
use super::server::Delivery;
use crate::raft::status::RaftStatus;

mod cut;
mod inbox;
mod lanes;
mod links;
mod pairs;
mod quic;

use cut::{Parts, cut};
use inbox::Inbox;
pub use links::LinkView;
use links::{Links, Pair};
pub use quic::LinkSocket;

/// How long a stopping node lets its last datagrams leave.
const STOP_LIMIT: Duration = Duration::from_millis(50);
/// Parts of a message wait for the rest a tenth of a renewal interval, and not less than this.
const PATIENCE_LEAST: Duration = Duration::from_millis(2);

/// Sends small messages, each of which may be lost.
pub trait PeerTransport: Send + Sync + 'static {
    /// Sends a message to other nodes. It never waits: what can't be sent is dropped.
    fn send(&self, to: &[NodeId], message: peer::datagram::Message);
}

/// What datagrams need of the rest of the node.
pub(crate) struct Around {
    pub(crate) directory: PeerDirectory,
    pub(crate) state: watch::Receiver<Arc<ClusterState>>,
    pub(crate) raft: watch::Receiver<Arc<RaftStatus>>,
    /// Full: what comes is dropped, as a network may do.
    pub(crate) deliveries: mpsc::Sender<Delivery>,
    /// One for each link.
    pub(crate) sockets: Vec<LinkSocket>,
    /// What all of it runs on.
    pub(crate) runtime: Handle,
}

/// Datagrams over every link at once.
#[derive(Debug)]
pub struct DatagramTransport {
    shared: Arc<Shared>,
    tasks: AbortHandle,
}

/// What is known of the links to other nodes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LinkKnowledge(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    directory: PeerDirectory,
    state: watch::Receiver<Arc<ClusterState>>,
    deliveries: mpsc::Sender<Delivery>,
    sockets: Vec<LinkSocket>,
    endpoints: Vec<Mutex<Endpoint>>,
    quic: quic::Quic,
    runtime: Handle,
    /// Tells this start from others.
    start: u64,
    stopping: AtomicBool,
    links: Mutex<Links>,
    inboxes: Mutex<BTreeMap<NodeId, Inbox>>,
}

impl DatagramTransport {
    /// Listens and dials from now on. The random bytes are of this start.
    pub(crate) fn start(
        around: Around,
        identity: &crate::identity::Identity,
        (server, client): (&rustls::ServerConfig, &rustls::ClientConfig),
        random: [u8; 40],
    ) -> io::Result<Self> {
        let (start, ids) = random.split_at(8);
        let start = start.iter().fold(0, |number, &byte| number << 8 | u64::from(byte));
        let ids = ids.try_into().map_err(io::Error::other)?;
        let quic = quic::Quic::new(identity, server, client, ids).map_err(io::Error::other)?;
        let Around { directory, state, raft, deliveries, sockets, runtime } = around;
        let timing = state.borrow().timing;
        let endpoints: io::Result<Vec<_>> = sockets
            .iter()
            .map(|socket| quic.endpoint(socket, timing, &runtime).map(Mutex::new))
            .collect();
        let shared = Arc::new(Shared {
            directory,
            state,
            deliveries,
            sockets,
            endpoints: endpoints?,
            quic,
            runtime: runtime.clone(),
            start,
            stopping: AtomicBool::new(false),
            links: Mutex::default(),
            inboxes: Mutex::default(),
        });
        let tasks = runtime.spawn(lanes::run(Arc::clone(&shared), raft)).abort_handle();
        Ok(Self { shared, tasks })
    }

    /// What is known of the links.
    #[must_use]
    pub fn links(&self) -> LinkKnowledge {
        LinkKnowledge(Arc::clone(&self.shared))
    }

    /// Handshakes that this node has begun.
    #[cfg(test)]
    pub(crate) fn handshakes(&self) -> u64 {
        let endpoints =
            (0..self.shared.endpoints.len()).filter_map(|link| self.shared.endpoint(link));
        endpoints.map(|endpoint| endpoint.stats().outgoing_handshakes).sum()
    }

    /// Lets what was sent leave, and says goodbye.
    pub(crate) async fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        let left = async {
            while self.shared.links().is_sending() {
                sleep(Duration::from_millis(1)).await;
            }
        };
        // Where a socket takes nothing, nothing can be done.
        let _ = timeout(STOP_LIMIT, left).await;
        let endpoints =
            (0..self.shared.endpoints.len()).filter_map(|link| self.shared.endpoint(link));
        let endpoints: Vec<Endpoint> = endpoints.collect();
        for endpoint in &endpoints {
            endpoint.close(VarInt::from_u32(0), b"stopping");
        }
        let gone = futures::future::join_all(endpoints.iter().map(Endpoint::wait_idle));
        let _ = timeout(STOP_LIMIT, gone).await;
        self.tasks.abort();
    }
}

impl Drop for DatagramTransport {
    fn drop(&mut self) {
        self.tasks.abort();
    }
}

impl PeerTransport for DatagramTransport {
    fn send(&self, to: &[NodeId], message: peer::datagram::Message) {
        let Some(parts) = cut(message) else {
            tracing::error!("a message to {to:?} is larger than any of a cluster: not sent");
            return;
        };
        let whole = !parts.divisible && parts.bodies.len() > 1;
        let mut links = self.shared.links();
        for &to in to {
            let sequence = links.next_sequence(to);
            links.send(to, &self.shared.frames(to, sequence, &parts), whole);
        }
    }
}

impl LinkKnowledge {
    /// Each link to each other node.
    #[must_use]
    pub fn view(&self) -> Vec<LinkView> {
        let shared = &self.0;
        let names: Vec<String> = shared.sockets.iter().map(|s| s.link.name.clone()).collect();
        shared.links().view(Instant::now(), shared.silence(), &names)
    }

    /// Where a node listens on the links to it that are up.
    #[must_use]
    pub fn up(&self, node: NodeId) -> Vec<SocketAddr> {
        let up = self.0.links().up(node, Instant::now(), self.0.silence());
        let pairs = self.0.pairs_with(node).into_iter();
        pairs.filter(|(link, _)| up.contains(link)).map(|(_, address)| address).collect()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn links(&self) -> MutexGuard<'_, Links> {
        locked(&self.links)
    }

    fn timing(&self) -> Timing {
        self.state.borrow().timing
    }

    /// A node or link that was not heard for so long is down.
    fn silence(&self) -> Duration {
        self.timing().suspicion()
    }

    fn patience(&self) -> Duration {
        (self.timing().renew() / 10).max(PATIENCE_LEAST)
    }

    fn endpoint(&self, link: usize) -> Option<Endpoint> {
        self.endpoints.get(link).map(|endpoint| locked(endpoint).clone())
    }

    /// The links of this node that meet one of another node's, and where that listens.
    fn pairs_with(&self, node: NodeId) -> Vec<(usize, SocketAddr)> {
        let mine: Vec<LinkAddress> = self.sockets.iter().map(|s| s.link.clone()).collect();
        self.directory.node(node).map_or_else(Vec::new, |n| pairs::pairs(&mine, &n.links))
    }

    fn frames(&self, to: NodeId, sequence: u64, parts: &Parts) -> Vec<Bytes> {
        let &Parts { ref bodies, divisible } = parts;
        let route = peer::Route {
            cluster_id: cluster_id_bytes(self.directory.cluster_id()),
            to: to.0,
            from: self.directory.me().0,
        };
        let count = u32::try_from(bodies.len()).unwrap_or(u32::MAX);
        let mut frame = peer::Frame {
            route: Some(route),
            start: self.start,
            sequence,
            index: 0,
            count,
            divisible,
            body: Bytes::new(),
        };
        let mut frames = Vec::with_capacity(bodies.len());
        for (index, body) in (0..).zip(bodies) {
            (frame.index, frame.body) = (index, body.clone());
            frames.push(frame.encode_to_vec().into());
        }
        frames
    }

    /// Takes a frame that came over a connection whose other end has this key. Comes back when
    /// [`Self::flush`] is to be called for that node, if it is.
    ///
    /// # Errors
    ///
    /// If its sender is no member now, or it was meant for another node.
    fn receive(
        &self,
        link: usize,
        (key, connection): (Digest, usize),
        bytes: Bytes,
    ) -> Result<Option<Instant>, Refusal> {
        let Ok(frame) = peer::Frame::decode(bytes) else { return Ok(None) };
        let Some(route) = &frame.route else { return Ok(None) };
        let Ok(cluster) = cluster_id(&route.cluster_id) else { return Ok(None) };
        let from = NodeId(route.from);
        self.directory.authorise(cluster, NodeId(route.to), from, Some(key))?;
        let now = Instant::now();
        self.links().heard((from, link), connection, now);
        let mut inboxes = locked(&self.inboxes);
        let inbox = inboxes.entry(from).or_default();
        let whole = inbox.take(frame, now);
        let flush_at = inbox.flush_at(self.patience());
        drop(inboxes);
        self.deliver(from, whole);
        Ok(flush_at)
    }

    /// Hands on what waited long enough for the rest; comes back when the next is due.
    fn flush(&self, from: NodeId) -> Option<Instant> {
        let (now, patience) = (Instant::now(), self.patience());
        let mut inboxes = locked(&self.inboxes);
        let inbox = inboxes.get_mut(&from)?;
        let parts = inbox.flush(now, patience);
        let next = inbox.flush_at(patience);
        drop(inboxes);
        self.deliver(from, parts);
        next
    }

    fn deliver(&self, from: NodeId, bodies: Vec<Bytes>) {
        for body in bodies {
            match peer::Datagram::decode(body) {
                Ok(peer::Datagram { message: Some(message) }) => {
                    // Dropped where the director does not keep up: the next round repeats it.
                    let _ = self.deliveries.try_send(Delivery { from, message });
                }
                Ok(_) | Err(_) => tracing::debug!("a datagram of node {from} says nothing"),
            }
        }
    }

    /// There are these nodes besides this one; what is known of others is forgotten.
    fn keep(&self, others: &BTreeSet<NodeId>) {
        let pairs = others.iter().flat_map(|&node| {
            self.pairs_with(node).into_iter().map(move |(link, _)| -> Pair { (node, link) })
        });
        self.links().keep(&pairs.collect());
        locked(&self.inboxes).retain(|node, _| others.contains(node));
    }
}

/// The bytes of the largest frame that there can be.
#[cfg(test)]
fn largest_frame() -> usize {
    let id = u64::MAX;
    let route = peer::Route { cluster_id: vec![255; 16], to: id, from: id };
    let frame = peer::Frame {
        route: Some(route),
        start: id,
        sequence: id,
        index: u32::MAX,
        count: u32::MAX,
        divisible: true,
        body: vec![255; cut::BODY_BYTES].into(),
    };
    frame.encoded_len()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_header_of_a_frame_takes_what_is_reckoned_with() {
        assert_eq!(super::largest_frame(), super::cut::BODY_BYTES + 79);
    }
}
