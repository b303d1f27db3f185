//! The public API over mutual TLS, for `quorate` on other machines: whoever shows a certificate
//! that the cluster made for a client (`quorate context create`).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status};

use super::admin::Caller;
use super::error::{Kind, error};
use super::served::router;
use crate::node::Node;
use crate::peer::directory::PeerDirectory;
use crate::peer::listener;

/// Connections that wait to be served.
const WAITING_MAX: usize = 16;

/// Starts serving an address. Ends with the daemon.
///
/// # Errors
///
/// If the address can't be listened on.
pub(crate) async fn start(
    address: SocketAddr,
    tls: Arc<rustls::ServerConfig>,
    directory: PeerDirectory,
    node: Arc<Node>,
) -> io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    let (sender, accepted) = mpsc::channel(WAITING_MAX);
    tokio::spawn(listener::accept(listener, tls, sender));
    let services = router(node, move |request: Request<()>| identify(&directory, request));
    let served = services.serve_with_incoming(ReceiverStream::new(accepted));
    tokio::spawn(async move {
        if let Err(cause) = served.await {
            tracing::error!(%address, %cause, "the remote API ended");
        }
    });
    Ok(())
}

fn identify(directory: &PeerDirectory, mut request: Request<()>) -> Result<Request<()>, Status> {
    let shown = request.extensions().get::<listener::Caller>().and_then(|caller| caller.key);
    let name = shown.and_then(|key| directory.client(&key));
    let Some(name) = name else {
        return Err(error(
            Kind::Forbidden,
            "no client certificate of this cluster was shown: make one on a node (quorate context create NAME)",
        ));
    };
    request.extensions_mut().insert(Caller::Remote { name });
    Ok(request)
}
