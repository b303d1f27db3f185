//! Reaches one endpoint: unix socket, or TCP and mutual TLS. The connection stands before the
//! first request is sent, so that whatever fails here can be said exactly, and is known to have
//! changed nothing.

use std::io;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tonic::transport::Channel;

use super::target::{Endpoint, Target};
use super::tls;

/// How long an endpoint may take to be connected; another may be waiting for its turn.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

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
) -> Result<Channel, ConnectError> {
    let limit = timeout.min(CONNECT_TIMEOUT);
    let stream = tokio::time::timeout(limit, open(endpoint, target))
        .await
        .map_err(|_| ConnectError::TimedOut(limit))??;
    over(stream).await
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
            Ok(Box::new(TlsConnector::from(identity.config()).connect(name, stream).await?))
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
async fn over(stream: Box<dyn Stream>) -> Result<Channel, ConnectError> {
    let once = Mutex::new(Some(TokioIo::new(stream)));
    let connector = tower::service_fn(move |_| {
        let taken = once.lock().ok().and_then(|mut stream| stream.take());
        async move { taken.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)) }
    });
    // The URI is the :authority of every request; no server looks at it.
    tonic::transport::Endpoint::from_static("http://quorate")
        .connect_with_connector(connector)
        .await
        .map_err(ConnectError::Http)
}
