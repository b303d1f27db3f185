//! Renewals, their answers, releases and reports: small messages that may be lost.
//!
//! They ride on a stream of the service `Peer` to each node. A stream over which nothing comes back
//! for a few renewal intervals is given up for a new one, so that renewals flow soon after a
//! healed cut: TCP itself would wait for seconds.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quorate_api::peer::v1 as peer;
use quorate_model::id::NodeId;
use quorate_model::state::ClusterState;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_stream::wrappers::ReceiverStream;

use super::channel::{Channels, with_causes};
use super::dial::DialLimits;
use super::network::{client, route};

/// Messages to one node that wait: more are older than a lease.
const QUEUE: usize = 32;
/// Renewal intervals without a word from the other node, after which its stream is given up.
const SILENCE_INTERVALS: u32 = 4;
/// Never sooner than this: a busy processor is no cut link.
const SILENCE_LEAST: Duration = Duration::from_millis(150);

/// Sends small messages, each of which may be lost.
pub trait PeerTransport: Send + Sync + 'static {
    /// Sends a message to another node. It never waits: what can't be sent is dropped.
    fn send(&self, to: NodeId, message: peer::datagram::Message);
}

/// When each node was last heard. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Heard(Arc<Mutex<BTreeMap<NodeId, Instant>>>);

impl Heard {
    pub(crate) fn note(&self, node: NodeId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(node, Instant::now());
    }

    fn last(&self, node: NodeId) -> Option<Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&node).copied()
    }
}

/// Datagrams over streams.
#[derive(Debug)]
pub struct StreamTransport {
    channels: Channels,
    heard: Heard,
    state: watch::Receiver<Arc<ClusterState>>,
    runtime: tokio::runtime::Handle,
    queues: Mutex<BTreeMap<NodeId, mpsc::Sender<peer::datagram::Message>>>,
}

impl StreamTransport {
    /// Streams are made on this runtime when they are needed.
    pub(crate) fn new(
        channels: Channels,
        heard: Heard,
        state: watch::Receiver<Arc<ClusterState>>,
        runtime: tokio::runtime::Handle,
    ) -> Self {
        Self { channels, heard, state, runtime, queues: Mutex::default() }
    }
}

impl PeerTransport for StreamTransport {
    fn send(&self, to: NodeId, message: peer::datagram::Message) {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        if queues.get(&to).is_none_or(mpsc::Sender::is_closed) {
            let (sender, messages) = mpsc::channel(QUEUE);
            let stream = Stream {
                to,
                channels: self.channels.clone(),
                heard: self.heard.clone(),
                state: self.state.clone(),
                messages,
            };
            self.runtime.spawn(stream.run());
            queues.insert(to, sender);
        }
        if let Some(queue) = queues.get(&to) {
            // Full: the other side does not take anything; this one is lost, as it may be.
            let _ = queue.try_send(message);
        }
    }
}

/// The stream to one node.
struct Stream {
    to: NodeId,
    channels: Channels,
    heard: Heard,
    state: watch::Receiver<Arc<ClusterState>>,
    messages: mpsc::Receiver<peer::datagram::Message>,
}

/// What became of a stream.
enum End {
    /// Nobody sends any more, or the node is no member any more.
    Done,
    /// It must be made anew.
    Broken,
}

impl Stream {
    async fn run(mut self) {
        while let End::Broken = self.once().await {
            if self.channels.directory().node(self.to).is_none() {
                return;
            }
            // What waited is old now.
            while self.messages.try_recv().is_ok() {}
            sleep(self.renew()).await;
        }
    }

    fn renew(&self) -> Duration {
        self.state.borrow().timing.renew()
    }

    fn patience(&self) -> Duration {
        (self.renew() * SILENCE_INTERVALS).max(SILENCE_LEAST)
    }

    async fn once(&mut self) -> End {
        let limits = DialLimits { connect: self.patience(), ..DialLimits::default() };
        let lane = self.channels.new_lane(self.to, limits);
        let (sender, receiver) = mpsc::channel(QUEUE);
        let mut client = client(&lane);
        let call = client.deliver(ReceiverStream::new(receiver));
        tokio::pin!(call);
        // Counted from when the stream stands: connecting has limits of its own.
        let mut standing: Option<Instant> = None;
        let mut check = Instant::now() + self.renew();
        loop {
            tokio::select! {
                ended = &mut call => {
                    if let Err(status) = ended {
                        tracing::debug!("stream to node {}: {}", self.to, with_causes(&status));
                    }
                    return End::Broken;
                }
                message = self.messages.recv() => {
                    let Some(message) = message else { return End::Done };
                    let route = Some(route(&self.channels, self.to));
                    let _ = sender.try_send(peer::Datagram { route, message: Some(message) });
                }
                () = sleep_until(check) => {
                    let now = Instant::now();
                    check = now + self.renew();
                    if standing.is_none() && lane.is_connected() {
                        standing = Some(now);
                    }
                    let Some(standing) = standing else { continue };
                    let last = self.heard.last(self.to).map_or(standing, |at| at.max(standing));
                    if now.saturating_duration_since(last) > self.patience() {
                        return End::Broken;
                    }
                }
            }
        }
    }
}
