//! The tasks that make, take and read connections. One dials for each pair of links whose other
//! node has a higher id, one takes what comes for each link of this node, one reads each
//! connection, and one starts and ends the others as members come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use quinn::{Connection, ConnectionStats, Incoming, VarInt};
use quorate_model::command::Digest;
use quorate_model::id::NodeId;
use rustls::pki_types::CertificateDer;
use tokio::sync::{Semaphore, watch};
use tokio::task::{AbortHandle, JoinSet, coop};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};

use super::links::Pair;
use super::{Shared, locked};
use crate::peer::tls::{key_digest, node_name};
use crate::raft::status::RaftStatus;

/// Handshakes at one time: whoever can reach the port must not be able to exhaust memory.
const HANDSHAKES_MAX: usize = 64;
/// How long a handshake may take on the side that is dialled; on the other, four renewal intervals if
/// those are more.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(2);
/// An attempt to connect is followed by the next after a renewal interval, and not sooner than
/// this, whatever became of it: the first packet after a cut heals must not be far.
const DIAL_AFTER: Duration = Duration::from_millis(50);
/// Each next one waits twice as long, up to this. The other side completes the handshake of every
/// attempt that reaches it, on the thread of its renewals: a node that is slow because its processors
/// are busy would be kept so by attempts that come faster than it can answer.
const DIAL_EVERY: Duration = Duration::from_millis(400);
/// How many attempts of one pair are under way at most.
const DIALS_MAX: usize = 8;
/// A connection is never given up sooner than this: a busy processor is no cut link.
const SILENCE_LEAST: Duration = Duration::from_millis(60);
/// After a connection that was given up sooner than this, the next is given up after twice the
/// silence, for the same reason, and so on.
const LASTING: Duration = Duration::from_secs(1);
/// That often. Past it, QUIC itself finds a connection dead.
const DOUBLINGS_MAX: u32 = 4;
/// After an endpoint failed.
const PAUSE: Duration = Duration::from_millis(100);
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// Keeps the right tasks running until it is aborted; what it started ends with it.
pub(super) async fn run(shared: Arc<Shared>, mut raft: watch::Receiver<Arc<RaftStatus>>) {
    let mut tasks = JoinSet::new();
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    for link in 0..shared.sockets.len() {
        tasks.spawn(accept(Arc::clone(&shared), link, Arc::clone(&handshakes)));
    }
    let mut state = shared.state.clone();
    let mut dialling: BTreeMap<Pair, (SocketAddr, AbortHandle)> = BTreeMap::new();
    let mut others = BTreeSet::new();
    let mut timing = shared.timing();
    let mut tick = interval(SAMPLE_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        let now_others = shared.directory.others();
        if now_others != others {
            others = now_others;
            shared.keep(&others);
        }
        follow(&shared, &others, &mut dialling, &mut tasks);
        tokio::select! {
            Ok(()) = state.changed() => {}
            Ok(()) = raft.changed() => {}
            _ = tick.tick() => {
                sample(&shared);
                if timing != shared.timing() {
                    timing = shared.timing();
                    for endpoint in &shared.endpoints {
                        let accepting = shared.quic.accepting(timing);
                        locked(endpoint).set_server_config(Some(accepting));
                    }
                }
            }
        }
        // What has ended is taken out, or the set would grow.
        while tasks.try_join_next().is_some() {}
    }
}

/// Starts dialling where nobody does, and ends it where it is over.
fn follow(
    shared: &Arc<Shared>,
    others: &BTreeSet<NodeId>,
    dialling: &mut BTreeMap<Pair, (SocketAddr, AbortHandle)>,
    tasks: &mut JoinSet<()>,
) {
    let mut wanted = BTreeMap::new();
    for &node in others.iter().filter(|&&node| node > shared.directory.me()) {
        for (link, address) in shared.pairs_with(node) {
            wanted.insert((node, link), address);
        }
    }
    dialling.retain(|pair, (address, task)| {
        let stays = wanted.get(pair) == Some(address);
        if !stays {
            task.abort();
        }
        stays
    });
    for (pair, address) in wanted {
        dialling.entry(pair).or_insert_with(|| {
            let lane = Lane { shared: Arc::clone(shared), pair, address };
            (address, tasks.spawn(lane.run()))
        });
    }
}

fn sample(shared: &Shared) {
    let silence = shared.silence();
    let changes = shared.links().sample(Instant::now(), silence);
    for ((node, link), up) in changes {
        let name = shared.sockets.get(link).map_or("", |socket| socket.link.name.as_str());
        if up {
            tracing::info!(%node, link = name, "link is up");
        } else {
            tracing::warn!(%node, link = name, "link is down: nothing heard for {silence:?}");
        }
    }
}

/// What keeps one connection to another node.
struct Lane {
    shared: Arc<Shared>,
    pair: Pair,
    address: SocketAddr,
}

impl Lane {
    /// Until it is aborted. The connection before is used until there is another.
    async fn run(self) {
        let mut readers = JoinSet::new();
        let mut doublings: u32 = 0;
        let mut pause = DIAL_AFTER;
        loop {
            let connection = self.dial().await;
            self.shared.links().dialled(self.pair, connection.clone());
            if let Some(key) = key_of(&connection) {
                let shared = Arc::clone(&self.shared);
                readers.spawn(read(shared, self.pair, key, connection.clone()));
            }
            match self.watch(&connection, doublings).await {
                End::Lasted => {
                    doublings = doublings.saturating_sub(1);
                    pause = DIAL_AFTER;
                }
                End::Silent => doublings = (doublings + 1).min(DOUBLINGS_MAX),
                // Such as by a node that knows this one no more.
                End::Closed => {
                    sleep(pause).await;
                    pause = (pause * 2).min(DIAL_EVERY);
                }
            }
            while readers.try_join_next().is_some() {}
        }
    }

    async fn dial(&self) -> Connection {
        let renew = self.shared.timing().renew();
        let mut spacing = renew.max(DIAL_AFTER);
        let mut next = Instant::now();
        let mut attempts = FuturesUnordered::new();
        loop {
            tokio::select! {
                Some(outcome) = attempts.next() => match outcome {
                    Ok(Ok(connection)) => return connection,
                    Ok(Err(error)) => {
                        tracing::debug!(node = %self.pair.0, "no way to {}: {error}", self.address);
                    }
                    Err(_) => {}
                },
                () = sleep_until(next) => {
                    if attempts.len() < DIALS_MAX && let Some(attempt) = self.attempt() {
                        attempts.push(timeout(HANDSHAKE_LIMIT.max(renew * 4), attempt));
                    }
                    next = Instant::now() + spacing;
                    spacing = (spacing * 2).min(renew.max(DIAL_EVERY));
                }
            }
        }
    }

    fn attempt(&self) -> Option<quinn::Connecting> {
        let config = self.shared.quic.dialling(self.shared.timing());
        let name = node_name(self.pair.0).ok()?;
        let endpoint = self.shared.endpoint(self.pair.1)?;
        match endpoint.connect_with(config, self.address, &name.to_str()) {
            Ok(connecting) => Some(connecting),
            Err(error) => {
                tracing::debug!(node = %self.pair.0, "can't dial {}: {error}", self.address);
                None
            }
        }
    }

    /// Returns when the connection is closed, or when what was sent over it has been unanswered for
    /// two and a half renewal intervals, doubled so often. The looks are counted, and not the time: where this node itself stood still,
    /// what came meanwhile is read first.
    async fn watch(&self, connection: &Connection, doublings: u32) -> End {
        let begin = Instant::now();
        let mut heard = Progress::of(&connection.stats());
        let mut lasted = false;
        let mut silent = Duration::ZERO;
        loop {
            let renew = self.shared.timing().renew();
            let patience = (renew * 5 / 2).max(SILENCE_LEAST) * 2_u32.pow(doublings);
            tokio::select! {
                _ = connection.closed() => return if lasted { End::Lasted } else { End::Closed },
                () = sleep(renew / 2) => {}
            }
            let now = Progress::of(&connection.stats());
            if now.came != heard.came || now.went == heard.went {
                lasted |= now.came != heard.came && begin.elapsed() >= LASTING;
                (heard, silent) = (now, Duration::ZERO);
            } else {
                silent += renew / 2;
                if silent > patience {
                    return if lasted { End::Lasted } else { End::Silent };
                }
            }
        }
    }
}

/// How a connection ended.
enum End {
    /// However: it had served for a while.
    Lasted,
    /// Nothing was heard over it.
    Silent,
    /// Soon, by the other side.
    Closed,
}

/// What went and came over a connection.
struct Progress {
    went: u64,
    came: u64,
}

impl Progress {
    fn of(stats: &ConnectionStats) -> Self {
        let (went, came) = (&stats.frame_tx, &stats.frame_rx);
        Self { went: went.datagram, came: came.datagram + came.acks }
    }
}

/// Takes what comes for a link of this node, until it is aborted or the node stops.
async fn accept(shared: Arc<Shared>, link: usize, handshakes: Arc<Semaphore>) {
    let mut tasks = JoinSet::new();
    while let Some(endpoint) = shared.endpoint(link) {
        let Ok(permit) = Arc::clone(&handshakes).acquire_owned().await else { return };
        let Some(incoming) = endpoint.accept().await else {
            if shared.stopping.load(Ordering::Relaxed) {
                return;
            }
            sleep(PAUSE).await;
            renew_endpoint(&shared, link);
            continue;
        };
        let shared = Arc::clone(&shared);
        tasks.spawn(async move {
            let taken = take(&shared, link, incoming).await;
            drop(permit);
            if let Some((node, key, connection)) = taken {
                read(shared, (node, link), key, connection).await;
            }
        });
        while tasks.try_join_next().is_some() {}
    }
}

/// An endpoint ends only when its socket fails.
fn renew_endpoint(shared: &Shared, link: usize) {
    let (Some(socket), Some(endpoint)) = (shared.sockets.get(link), shared.endpoints.get(link))
    else {
        return;
    };
    tracing::warn!("link {}: its socket failed, so it is used anew", socket.link.name);
    match shared.quic.endpoint(socket, shared.timing(), &shared.runtime) {
        Ok(fresh) => *locked(endpoint) = fresh,
        Err(error) => tracing::warn!("link {}: can't be used: {error}", socket.link.name),
    }
}

async fn take(
    shared: &Shared,
    link: usize,
    incoming: Incoming,
) -> Option<(NodeId, Digest, Connection)> {
    let remote = incoming.remote_address();
    let connection = match timeout(HANDSHAKE_LIMIT, incoming.accept().ok()?).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            tracing::debug!("no handshake with {remote}: {error}");
            return None;
        }
        Err(_) => return None,
    };
    let known = key_of(&connection)
        .and_then(|key| shared.directory.who(&key).map(|node| (node, key)))
        .filter(|&(node, _)| node != shared.directory.me());
    let Some((node, key)) = known else {
        connection.close(VarInt::from_u32(1), b"no member of this cluster has this key");
        return None;
    };
    shared.links().accepted((node, link), connection.clone());
    Some((node, key, connection))
}

fn key_of(connection: &Connection) -> Option<Digest> {
    let identity = connection.peer_identity()?;
    let chain = identity.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    key_digest(chain.first()?).ok()
}

/// Reads a connection to its end.
async fn read(shared: Arc<Shared>, pair: Pair, key: Digest, connection: Connection) {
    let (node, link) = pair;
    let id = connection.stable_id();
    let mut flush: Option<Instant> = None;
    loop {
        coop::consume_budget().await;
        let due = async {
            match flush {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let bytes = tokio::select! {
            biased;
            read = connection.read_datagram() => match read {
                Ok(bytes) => bytes,
                Err(_) => break,
            },
            () = due => {
                flush = shared.flush(node);
                continue;
            }
        };
        match shared.receive(link, (key, id), bytes) {
            Ok(next) => flush = next,
            Err(refusal) => {
                tracing::debug!(%node, "a datagram is refused: {refusal}");
                connection.close(VarInt::from_u32(1), refusal.to_string().as_bytes());
                break;
            }
        }
    }
    shared.links().ended(pair, id);
}
