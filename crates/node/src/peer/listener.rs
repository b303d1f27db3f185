//! Accepting connections of peers and joiners on every link.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use quorate_model::command::Digest;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::tls::key_digest;

/// Handshakes at one time: whoever can reach the port must not be able to exhaust memory.
const HANDSHAKES_MAX: usize = 64;
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);
/// After a failed accept, such as for want of descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// Who is at the other end of a connection: every request carries it as an extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// SHA-256 of the public key of the certificate that it showed.
    pub key: Option<Digest>,
    /// Its address.
    pub remote: SocketAddr,
}

/// An accepted connection after its handshake.
#[derive(Debug)]
pub struct Accepted {
    stream: TlsStream<TcpStream>,
    caller: Caller,
}

impl Connected for Accepted {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller
    }
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Accepts on this listener and hands over what completes its handshake, until `accepted` closes.
pub async fn accept(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    accepted: mpsc::Sender<io::Result<Accepted>>,
) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    loop {
        let Ok(permit) = Arc::clone(&handshakes).acquire_owned().await else { return };
        let connection = tokio::select! {
            () = accepted.closed() => return,
            connection = listener.accept() => connection,
        };
        let (stream, remote) = match connection {
            Ok(connection) => connection,
            Err(error) => {
                tracing::warn!("can't accept a connection: {error}");
                sleep(PAUSE).await;
                continue;
            }
        };
        let acceptor = TlsAcceptor::from(Arc::clone(&config));
        let accepted = accepted.clone();
        tokio::spawn(async move {
            match handshake(acceptor, stream, remote).await {
                Ok(connection) => drop(accepted.send(Ok(connection)).await),
                Err(error) => tracing::debug!("no handshake with {remote}: {error}"),
            }
            drop(permit);
        });
    }
}

async fn handshake(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    remote: SocketAddr,
) -> io::Result<Accepted> {
    stream.set_nodelay(true)?;
    let stream = timeout(HANDSHAKE_LIMIT, acceptor.accept(stream)).await??;
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let key = certificate.map(key_digest).transpose().map_err(io::Error::other)?;
    Ok(Accepted { stream, caller: Caller { key, remote } })
}
