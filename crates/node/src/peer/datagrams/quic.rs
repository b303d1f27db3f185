//! QUIC as renewals need it. quinn's defaults are for bulk transfer over the Internet: they would
//! wait a third of a second before they repeat a lost handshake, hold datagrams back after a loss,
//! and leave a peer of a restarted node waiting for half a minute.

use std::any::Any;
use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quinn::congestion::{Controller, ControllerFactory};
use quinn::crypto::rustls::{NoInitialCipherSuite, QuicClientConfig, QuicServerConfig};
use quinn::{
    ClientConfig, ConnectionId, ConnectionIdGenerator, Endpoint, EndpointConfig, IdleTimeout,
    ServerConfig, TokioRuntime, TransportConfig, VarInt,
};
use quorate_model::command::LinkAddress;
use quorate_model::time::Timing;
use ring::hmac;
use rustix::net::sockopt;
use tokio::runtime::Handle;

use super::cut::{BODY_BYTES, PARTS_MAX};
use crate::identity::Identity;
use crate::peer::tls;

/// What QUIC sends in one UDP datagram: every path carries this much, so nothing is probed.
const PAYLOAD_BYTES: u16 = 1_200;
/// Room for the largest message that is sent. It stays empty but for what the socket does not take.
const QUEUE_BYTES: usize = PARTS_MAX * (BODY_BYTES + 256);
/// A round of a few thousand groups comes in one burst from each node.
const SOCKET_BYTES: usize = 4 * 1024 * 1024;
/// Connections that are being made towards one link of this node.
const INCOMING_MAX: usize = 64;
/// Bytes of theirs that wait for that, for one and for all.
const INCOMING_BYTES: u64 = 16 * 1024;
/// After a restart each peer learns by a reset that its connection is gone. Who sends rubbish gets
/// one, too, so they are not sent without limit.
const RESET_INTERVAL: Duration = Duration::from_millis(1);
/// A silent connection is forgotten after so many leases, and not sooner than `IDLE_LEAST`.
const IDLE_LEASES: u32 = 4;
const IDLE_LEAST: Duration = Duration::from_secs(1);

/// The UDP side of a link.
#[derive(Debug)]
pub struct LinkSocket {
    pub(super) link: LinkAddress,
    pub(super) socket: UdpSocket,
}

impl LinkSocket {
    /// Listens where the link does.
    ///
    /// # Errors
    ///
    /// If the address is not this machine's, or taken.
    pub fn bind(link: LinkAddress) -> io::Result<Self> {
        let socket = UdpSocket::bind(link.listen)?;
        socket.set_nonblocking(true)?;
        // Past the system's limit where that is allowed; else as far as it goes.
        if sockopt::set_socket_recv_buffer_size_force(&socket, SOCKET_BYTES).is_err() {
            sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BYTES)?;
        }
        if sockopt::set_socket_send_buffer_size(&socket, SOCKET_BYTES).is_err() {
            tracing::debug!("link {}: the socket keeps its send buffer", link.name);
        }
        Ok(Self { link, socket })
    }
}

/// Makes endpoints and their configurations.
pub(super) struct Quic {
    server: Arc<QuicServerConfig>,
    client: Arc<QuicClientConfig>,
    reset_key: Arc<hmac::Key>,
    ids: hmac::Key,
    endpoints: AtomicU64,
}

impl std::fmt::Debug for Quic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Quic")
    }
}

impl Quic {
    /// With this pair of TLS configurations, which speak for this node, and random bytes of this
    /// start.
    pub(super) fn new(
        identity: &Identity,
        server: &rustls::ServerConfig,
        client: &rustls::ClientConfig,
        ids: [u8; 32],
    ) -> Result<Self, rustls::Error> {
        let cipher = |error: NoInitialCipherSuite| rustls::Error::General(error.to_string());
        let (server, client) = tls::for_datagrams(server, client);
        // Derived, so that it outlives the daemon: the next one says of the connections of this one
        // that they are gone, with what only this node can know.
        let secret = hmac::Key::new(hmac::HMAC_SHA256, &identity.private_key);
        let reset_key = hmac::sign(&secret, b"quorate datagrams: stateless resets");
        Ok(Self {
            server: Arc::new(QuicServerConfig::try_from(server).map_err(cipher)?),
            client: Arc::new(QuicClientConfig::try_from(client).map_err(cipher)?),
            reset_key: Arc::new(hmac::Key::new(hmac::HMAC_SHA256, reset_key.as_ref())),
            ids: hmac::Key::new(hmac::HMAC_SHA256, &ids),
            endpoints: AtomicU64::new(0),
        })
    }

    /// An endpoint on this socket, which is not consumed, so that another can take its place.
    pub(super) fn endpoint(
        &self,
        socket: &LinkSocket,
        timing: Timing,
        runtime: &Handle,
    ) -> io::Result<Endpoint> {
        let mut config = EndpointConfig::new(self.reset_key.clone());
        let (key, endpoint) = (self.ids.clone(), self.endpoints.fetch_add(1, Ordering::Relaxed));
        config.cid_generator(move || Box::new(Ids { key: key.clone(), endpoint, next: 0 }));
        config.min_reset_interval(RESET_INTERVAL);
        config.max_udp_payload_size(PAYLOAD_BYTES).map_err(io::Error::other)?;
        let socket = socket.socket.try_clone()?;
        let _context = runtime.enter();
        Endpoint::new(config, Some(self.accepting(timing)), socket, Arc::new(TokioRuntime))
    }

    /// How connections are taken.
    pub(super) fn accepting(&self, timing: Timing) -> ServerConfig {
        let mut config = ServerConfig::with_crypto(self.server.clone());
        config
            .transport_config(Arc::new(transport(timing)))
            .migration(false)
            .max_incoming(INCOMING_MAX)
            .incoming_buffer_size(INCOMING_BYTES)
            .incoming_buffer_size_total(INCOMING_BYTES * INCOMING_MAX as u64);
        config
    }

    /// How connections are made.
    pub(super) fn dialling(&self, timing: Timing) -> ClientConfig {
        let mut config = ClientConfig::new(self.client.clone());
        config.transport_config(Arc::new(transport(timing)));
        config
    }
}

/// Connection ids that nobody can guess. quinn's own generator takes those of the daemon before for
/// rubbish, and a peer would never learn that its connection is gone.
#[derive(Debug)]
struct Ids {
    key: hmac::Key,
    endpoint: u64,
    next: u64,
}

const ID_BYTES: usize = 8;

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        self.next += 1;
        let number = [self.endpoint.to_be_bytes(), self.next.to_be_bytes()].concat();
        let id = hmac::sign(&self.key, &number);
        ConnectionId::new(id.as_ref().get(..ID_BYTES).unwrap_or_default())
    }

    fn cid_len(&self) -> usize {
        ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

fn transport(timing: Timing) -> TransportConfig {
    let idle = (timing.lease() * IDLE_LEASES).max(IDLE_LEAST);
    let millis = u32::try_from(idle.as_millis()).unwrap_or(u32::MAX);
    let round_trip =
        (timing.renew() / 10).clamp(Duration::from_millis(1), Duration::from_millis(30));
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(millis))))
        .initial_rtt(round_trip)
        .initial_mtu(PAYLOAD_BYTES)
        .mtu_discovery_config(None)
        .datagram_receive_buffer_size(Some(QUEUE_BYTES))
        .datagram_send_buffer_size(QUEUE_BYTES)
        .congestion_controller_factory(Arc::new(Constant))
        .allow_spin(false);
    transport
}

/// Sends whenever there is something to send: a renewal that waits is worth nothing, and what is
/// sent is bounded by the renewal interval. A lost datagram slows nothing down, and what was not
/// acknowledged while a link was cut does not hold up what is sent when it heals.
#[derive(Debug, Clone, Copy)]
struct Constant;

/// Past 32 bits quinn does not pace, either.
const WINDOW: u64 = 1 << 40;

impl ControllerFactory for Constant {
    fn build(self: Arc<Self>, _now: std::time::Instant, _mtu: u16) -> Box<dyn Controller> {
        Box::new(*self)
    }
}

impl Controller for Constant {
    fn on_congestion_event(
        &mut self,
        _now: std::time::Instant,
        _sent: std::time::Instant,
        _persistent: bool,
        _lost: u64,
    ) {
    }

    fn on_mtu_update(&mut self, _mtu: u16) {}

    fn window(&self) -> u64 {
        WINDOW
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(*self)
    }

    fn initial_window(&self) -> u64 {
        WINDOW
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use quinn::{Connection, ConnectionError};
    use quorate_model::id::{NodeId, Role};
    use tokio::sync::watch;

    use super::*;
    use crate::identity::{NodeProfile, found};
    use crate::peer::directory::PeerDirectory;
    use crate::peer::tls::node_name;

    fn identity() -> Identity {
        let name = "lb1".parse().unwrap();
        let profile = NodeProfile { name, role: Role::Director, links: Vec::new() };
        found("prod", Timing::LAN, &profile).unwrap().0
    }

    /// One start of a daemon: it dials itself.
    fn quic(identity: &Identity, start: u8) -> Quic {
        let (state, raft) = (watch::channel(Arc::default()).1, watch::channel(Arc::default()).1);
        let directory = PeerDirectory::new(Arc::new(identity.clone()), state, raft);
        let server = tls::server(identity).unwrap();
        let client = tls::client(identity, directory).unwrap();
        Quic::new(identity, &server, &client, [start; 32]).unwrap()
    }

    fn socket() -> LinkSocket {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        LinkSocket::bind(LinkAddress { name: "lan".to_owned(), listen }).unwrap()
    }

    async fn connect(quic: &Quic, from: &Endpoint, to: &Endpoint) -> (Connection, Connection) {
        let name = node_name(NodeId(1)).unwrap();
        let (config, address) = (quic.dialling(Timing::LAN), to.local_addr().unwrap());
        let dialling = from.connect_with(config, address, &name.to_str()).unwrap();
        let taking = async { to.accept().await.unwrap().await.unwrap() };
        let (dialled, taken) = tokio::join!(dialling, taking);
        (dialled.unwrap(), taken)
    }

    #[tokio::test]
    async fn a_frame_with_a_full_part_fits_a_datagram() {
        let identity = identity();
        let quic = quic(&identity, 1);
        let (a, b) = (socket(), socket());
        let runtime = Handle::current();
        let a = quic.endpoint(&a, Timing::FAST, &runtime).unwrap();
        let b = quic.endpoint(&b, Timing::FAST, &runtime).unwrap();
        let (dialled, taken) = connect(&quic, &a, &b).await;
        let largest = vec![7; crate::peer::datagrams::largest_frame()];
        for (from, to) in [(&dialled, &taken), (&taken, &dialled)] {
            from.send_datagram(largest.clone().into()).unwrap();
            assert_eq!(to.read_datagram().await.unwrap(), largest);
        }
    }

    #[test]
    fn a_restarted_node_says_at_once_that_its_connections_are_gone() {
        let identity = identity();
        let mine = tokio::runtime::Runtime::new().unwrap();
        let first = tokio::runtime::Runtime::new().unwrap();
        let (here, there) = (socket(), socket());
        let quic_here = quic(&identity, 1);
        let here = quic_here.endpoint(&here, Timing::WAN, mine.handle()).unwrap();
        let before = quic(&identity, 2).endpoint(&there, Timing::WAN, first.handle()).unwrap();
        let (connection, _taken) = mine.block_on(connect(&quic_here, &here, &before));
        // Without a word.
        first.shutdown_timeout(Duration::from_secs(60));
        let after = quic(&identity, 3).endpoint(&there, Timing::WAN, mine.handle());
        let closed = mine.block_on(async {
            // A keep-alive may have brought it out already.
            let _lost_already = connection.send_datagram(vec![0; 100].into());
            connection.closed().await
        });
        assert_eq!(closed, ConnectionError::Reset);
        drop(after);
    }
}
