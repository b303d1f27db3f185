//! Connecting to a node over whichever of its links answers first.
//!
//! A segment that is lost while a line is cut is repeated by the kernel after a second and more. So an
//! attempt that is unanswered is joined by further ones: the first that gets through counts, soon
//! after the line has healed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How long the next link waits for the one before it.
const STAGGER: Duration = Duration::from_millis(50);

/// How soon an unanswered attempt is joined by another on the same link; each next one waits twice as
/// long, so that a node that is slow because it is busy is not kept so by handshakes.
const AGAIN: Duration = Duration::from_millis(200);
/// Attempts that join the first on one link: with the default limits no more begin while it may last.
const ATTEMPTS_MAX: usize = 4;

/// What is said of one that shows a certificate of another CA.
pub(crate) const FOREIGN_AUTHORITY: &str = "its certificate is another cluster's";

/// How long each part of connecting may take. A lost first segment is repeated only after a
/// second by the kernel, so it is better to dial anew.
#[derive(Debug, Clone, Copy)]
pub struct DialLimits {
    /// For TCP.
    pub connect: Duration,
    /// For TLS, which needs the processor of both.
    pub handshake: Duration,
}

impl Default for DialLimits {
    fn default() -> Self {
        Self { connect: Duration::from_millis(500), handshake: Duration::from_secs(2) }
    }
}

/// No address answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialError {
    /// Each address that was tried, and what it said.
    pub tried: Vec<(SocketAddr, String)>,
}

impl std::fmt::Display for DialError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.tried.is_empty() {
            return f.write_str("no address is known");
        }
        let tried: Vec<_> =
            self.tried.iter().map(|(address, cause)| format!("{address}: {cause}")).collect();
        f.write_str(&tried.join("; "))
    }
}

impl std::error::Error for DialError {}

/// Connects to the first of these addresses that completes a handshake.
///
/// # Errors
///
/// If none does within the limits.
pub async fn dial(
    addresses: &[SocketAddr],
    name: &ServerName<'static>,
    config: &Arc<ClientConfig>,
    limits: DialLimits,
) -> Result<TlsStream<TcpStream>, DialError> {
    let mut attempts = FuturesUnordered::new();
    let mut wait = Duration::ZERO;
    for &address in addresses {
        let before = wait;
        wait += STAGGER;
        attempts.push(async move {
            sleep(before).await;
            (address, persistently(address, name, config, limits).await)
        });
    }
    let mut tried = Vec::new();
    while let Some((address, result)) = attempts.next().await {
        match result {
            Ok(stream) => return Ok(stream),
            Err(cause) => tried.push((address, cause)),
        }
    }
    Err(DialError { tried })
}

/// Connects by whichever attempt is answered; the first one's failure is that of all.
async fn persistently(
    address: SocketAddr,
    name: &ServerName<'static>,
    config: &Arc<ClientConfig>,
    limits: DialLimits,
) -> Result<TlsStream<TcpStream>, String> {
    let attempt = || one(address, name.clone(), Arc::clone(config), limits);
    let first = attempt();
    tokio::pin!(first);
    let mut further = FuturesUnordered::new();
    let mut wait = AGAIN;
    let mut next = Instant::now() + wait;
    loop {
        tokio::select! {
            outcome = &mut first => return outcome,
            Some(outcome) = further.next() => if let Ok(stream) = outcome {
                return Ok(stream);
            },
            () = sleep_until(next), if further.len() < ATTEMPTS_MAX => {
                further.push(attempt());
                wait *= 2;
                next = Instant::now() + wait;
            }
        }
    }
}

async fn one(
    address: SocketAddr,
    name: ServerName<'static>,
    config: Arc<ClientConfig>,
    limits: DialLimits,
) -> Result<TlsStream<TcpStream>, String> {
    let stream = timeout(limits.connect, TcpStream::connect(address))
        .await
        .map_err(|_| "no answer".to_owned())?
        .map_err(|error| error.to_string())?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    timeout(limits.handshake, TlsConnector::from(config).connect(name, stream))
        .await
        .map_err(|_| "no TLS handshake".to_owned())?
        .map_err(|error| tls_cause(&error))
}

/// What an operator can do something with.
fn tls_cause(error: &std::io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            FOREIGN_AUTHORITY.to_owned()
        }
        Some(rustls::Error::InvalidCertificate(
            CertificateError::ApplicationVerificationFailure,
        )) => "its key is not the one that is pinned for this node".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use quorate_model::time::Timing;
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::identity::authority::{NODE_TLS_NAME, sha256};
    use crate::identity::{Identity, NodeProfile, found};
    use crate::peer::tls;

    fn identity() -> Identity {
        let profile = NodeProfile {
            name: "lb1".parse().unwrap(),
            role: quorate_model::id::Role::Director,
            links: Vec::new(),
        };
        found("prod", Timing::LAN, &profile).unwrap().0
    }

    fn name() -> ServerName<'static> {
        NODE_TLS_NAME.try_into().unwrap()
    }

    /// A link that takes connections and never says a word, and one that works.
    #[tokio::test]
    async fn a_mute_link_does_not_hold_up_the_other() {
        let identity = identity();
        let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let works = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = [mute.local_addr().unwrap(), works.local_addr().unwrap()];
        let acceptor = TlsAcceptor::from(tls::server(&identity).unwrap());
        let answering = tokio::spawn(async move {
            let (stream, _) = works.accept().await.unwrap();
            acceptor.accept(stream).await.unwrap()
        });
        let config = tls::joiner(sha256(&identity.authority)).unwrap();
        let limits = DialLimits { handshake: Duration::from_secs(600), ..DialLimits::default() };
        let stream = dial(&addresses, &name(), &config, limits).await.unwrap();
        assert_eq!(stream.get_ref().0.peer_addr().unwrap(), addresses[1]);
        answering.await.unwrap();
    }

    /// What was sent while the line was cut is lost; what is sent afterwards is not.
    #[tokio::test]
    async fn a_hung_handshake_does_not_hold_up_a_healed_link() {
        let identity = identity();
        let link = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = link.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(tls::server(&identity).unwrap());
        let answering = tokio::spawn(async move {
            let (hung, _) = link.accept().await.unwrap();
            let (stream, _) = link.accept().await.unwrap();
            (hung, acceptor.accept(stream).await.unwrap())
        });
        let config = tls::joiner(sha256(&identity.authority)).unwrap();
        let limits = DialLimits { handshake: Duration::from_secs(600), ..DialLimits::default() };
        dial(&[address], &name(), &config, limits).await.unwrap();
        answering.await.unwrap();
    }

    /// It may only be busy: it would have to complete the handshake of every attempt.
    #[tokio::test]
    async fn a_mute_node_is_not_stormed() {
        let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = [mute.local_addr().unwrap()];
        let config = tls::joiner(sha256(b"any CA")).unwrap();
        let mut attempts = Vec::new();
        let name = name();
        let dialling = dial(&addresses, &name, &config, DialLimits::default());
        tokio::pin!(dialling);
        let error = loop {
            tokio::select! {
                outcome = &mut dialling => break outcome.unwrap_err(),
                accepted = mute.accept() => attempts.push(accepted.unwrap()),
            }
        };
        assert_eq!(error.to_string(), format!("{}: no TLS handshake", addresses[0]));
        // At once, and after 200, 600 and 1,400 ms; fewer where this machine is slow.
        assert!((1..=4).contains(&attempts.len()), "{}", attempts.len());
    }

    #[tokio::test]
    async fn every_address_is_named_with_its_cause() {
        let identity = identity();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(tls::server(&identity).unwrap());
        let answering = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            acceptor.accept(stream).await.map(drop)
        });
        let config = tls::joiner(sha256(b"another CA")).unwrap();
        let error = dial(&[address], &name(), &config, DialLimits::default()).await.unwrap_err();
        assert_eq!(error.to_string(), format!("{address}: {FOREIGN_AUTHORITY}"));
        assert!(answering.await.unwrap().is_err());
        let error = dial(&[], &name(), &config, DialLimits::default()).await.unwrap_err();
        assert_eq!(error.to_string(), "no address is known");
    }
}
