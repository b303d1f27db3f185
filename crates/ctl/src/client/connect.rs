//! Reaches one endpoint: unix socket, or TCP and mutual TLS. The connection stands before the
//! first request is sent, so that whatever fails here can be said exactly, and is known to have
//! changed nothing.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::Channel;

use super::target::{Endpoint, Target};
use super::tls;

/// How long an endpoint may take to be connected; another may be waiting for its turn.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection that stands.
pub(super) struct Connection {
    pub(super) channel: Channel,
    /// Set if it broke before a request was handed to it.
    pub(super) unused: Arc<AtomicBool>,
}

/// Why an endpoint could not be reached.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("there is no such socket: is quorated running, and is this its socket?")]
    NoSocket,
    #[error("nobody listens there: is quorated running?")]
    Refused,
    #[error("permission denied: only root and the group quorate may ask this daemon")]
    Permission,
    #[error("no connection within {} s", .0.as_secs_f32())]
    TimedOut(Duration),
    #[error("{}", tls::explain(.0))]
    Tls(rustls::Error),
    #[error("it needs a client certificate, and there is no context")]
    NoIdentity,
    #[error("{0}")]
    Other(io::Error),
    #[error("it is no node of this kind: {0}")]
    Http(tonic::transport::Error),
}

impl From<io::Error> for ConnectError {
    fn from(error: io::Error) -> Self {
        // tokio-rustls wraps what rustls says into an I/O error.
        match error.downcast::<rustls::Error>() {
            Ok(tls) => Self::Tls(tls),
            Err(error) => match error.kind() {
                io::ErrorKind::ConnectionRefused => Self::Refused,
                io::ErrorKind::PermissionDenied => Self::Permission,
                io::ErrorKind::NotFound => Self::NoSocket,
                _ => Self::Other(error),
            },
        }
    }
}

/// Connects to one endpoint of a target.
pub(super) async fn connect(
    endpoint: &Endpoint,
    target: &Target,
    timeout: Duration,
) -> Result<Connection, ConnectError> {
    let limit = timeout.min(CONNECT_TIMEOUT);
    let stream = tokio::time::timeout(limit, open(endpoint, target))
        .await
        .map_err(|_| ConnectError::TimedOut(limit))??;
    let unused = Arc::new(AtomicBool::new(false));
    let channel = over(stream, Arc::clone(&unused)).await?;
    Ok(Connection { channel, unused })
}

async fn open(endpoint: &Endpoint, target: &Target) -> Result<Box<dyn Stream>, ConnectError> {
    match endpoint {
        Endpoint::Socket(path) => Ok(Box::new(open_socket(path).await?)),
        Endpoint::Remote { host, port } => {
            let identity = target.identity.as_ref().ok_or(ConnectError::NoIdentity)?;
            let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(resolving)?;
            stream.set_nodelay(true)?;
            // Nobody looks at this name: certificates carry nodes' names, not hosts'.
            let name = ServerName::try_from("quorate").map_err(io::Error::other)?;
            let stream = TlsConnector::from(identity.config()).connect(name, stream).await?;
            Ok(Box::new(Greeted::wait(stream).await?))
        }
    }
}

async fn open_socket(path: &Path) -> io::Result<UnixStream> {
    UnixStream::connect(path).await
}

/// A name that can't be resolved is no missing socket.
fn resolving(error: io::Error) -> ConnectError {
    match error.kind() {
        io::ErrorKind::NotFound => ConnectError::Other(error),
        _ => error.into(),
    }
}

/// Speaks HTTP/2 over a stream that is open already. It is used once: whoever wants to reconnect
/// has to know that the first connection broke.
async fn over(stream: Box<dyn Stream>, unused: Arc<AtomicBool>) -> Result<Channel, ConnectError> {
    let once = Mutex::new(Some(TokioIo::new(stream)));
    let connector = tower::service_fn(move |_| {
        let taken = once.lock().ok().and_then(|mut stream| stream.take());
        // A second connection is wanted only for a request that the first never took.
        unused.store(taken.is_none(), Ordering::Relaxed);
        async move { taken.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)) }
    });
    // The URI is the :authority of every request; no server looks at it.
    tonic::transport::Endpoint::from_static("http://quorate")
        .connect_with_connector(connector)
        .await
        .map_err(ConnectError::Http)
}

/// A TLS stream on which the server has spoken.
///
/// TLS 1.3 lets a server refuse our certificate only when we think that we are connected. But an
/// HTTP/2 server speaks first (RFC 9113 §3.4) and does so only when it took the certificate: its
/// first bytes are waited for, so that a refusal is a refusal and never a request that was lost.
struct Greeted {
    greeting: Vec<u8>,
    stream: TlsStream<TcpStream>,
}

impl Greeted {
    async fn wait(mut stream: TlsStream<TcpStream>) -> io::Result<Self> {
        let mut greeting = vec![0; 256];
        let length = stream.read(&mut greeting).await?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        greeting.truncate(length);
        Ok(Self { greeting, stream })
    }
}

impl AsyncRead for Greeted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.greeting.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let length = self.greeting.len().min(buffer.remaining());
        let first: Vec<u8> = self.greeting.drain(..length).collect();
        buffer.put_slice(&first);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Greeted {
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
