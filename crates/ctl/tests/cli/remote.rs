//! Endpoints over the network: mutual TLS with the certificates of a context.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use quorate_api::v1::admin_server::AdminServer;
use quorate_ctl::context::pem;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    SubjectPublicKeyInfo, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;

use super::fake::{Cluster, Fault, Service, State, runtime};
use super::run::{Ran, file, with_input};

/// A cluster's CA.
pub(crate) struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority")
    }
}

fn named(name: &str, years: (i32, i32), purpose: ExtendedKeyUsagePurpose) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(years.0, 1, 1);
    params.not_after = date_time_ymd(years.1, 1, 1);
    params.extended_key_usages = vec![purpose];
    params
}

/// Certificates that are valid whenever this test is run, and some that are long past.
const VALID: (i32, i32) = (2020, 4000);
const PAST: (i32, i32) = (2020, 2021);

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "quorate CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("a certificate");
        Self { certificate: certificate.der().clone(), issuer: Issuer::new(params, key) }
    }

    pub(crate) fn der(&self) -> Vec<u8> {
        self.certificate.to_vec()
    }

    /// A client's certificate for a key that only the client has.
    pub(crate) fn client(&self, name: &str, public_key: &[u8]) -> Vec<u8> {
        let key = SubjectPublicKeyInfo::from_der(public_key).expect("a public key");
        let params = named(name, VALID, ExtendedKeyUsagePurpose::ClientAuth);
        params.signed_by(&key, &self.issuer).expect("a certificate").der().to_vec()
    }

    fn signed(&self, params: &CertificateParams) -> (CertificateDer<'static>, KeyPair) {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate.der().clone(), key)
    }

    /// The `config.toml` of a client of this cluster.
    fn context(&self, endpoint: &str, years: (i32, i32)) -> String {
        let (certificate, key) =
            self.signed(&named("ada", years, ExtendedKeyUsagePurpose::ClientAuth));
        format!(
            "current = \"prod\"\n[context.prod]\nendpoints = [\"{endpoint}\"]\n\
             authority = '''\n{}'''\ncertificate = '''\n{}'''\nkey = '''\n{}'''\n",
            pem("CERTIFICATE", &self.certificate),
            pem("CERTIFICATE", &certificate),
            key.serialize_pem()
        )
    }
}

/// A node that listens on the network.
pub(crate) struct Remote {
    pub(crate) address: String,
    _runtime: Runtime,
}

impl Remote {
    pub(crate) fn start(cluster: &Cluster, authority: &Authority) -> Self {
        let usual = named("lb1", VALID, ExtendedKeyUsagePurpose::ServerAuth);
        Self::with(cluster, authority, &usual)
    }

    fn with(cluster: &Cluster, authority: &Authority, certificate: &CertificateParams) -> Self {
        let runtime = runtime();
        let acceptor = acceptor(authority, certificate);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        listener.set_nonblocking(true).expect("a socket");
        let service = Service { cluster: Arc::clone(cluster), fault: Fault::None };
        let (send, receive) = tokio::sync::mpsc::channel(8);
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            while let Ok((stream, _)) = listener.accept().await {
                // A client that is refused, or refuses us, is no reason to stop.
                if let Ok(stream) = acceptor.accept(stream).await {
                    send.send(Ok::<_, std::io::Error>(Secure(stream))).await.expect("a server");
                }
            }
        });
        runtime.spawn(
            tonic::transport::Server::builder()
                .add_service(AdminServer::new(service))
                .serve_with_incoming(ReceiverStream::new(receive)),
        );
        Self { address, _runtime: runtime }
    }
}

fn acceptor(authority: &Authority, certificate: &CertificateParams) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate.clone()).expect("a CA");
    let clients =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .expect("a verifier");
    let (certificate, key) = authority.signed(certificate);
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_client_cert_verifier(clients)
        .with_single_cert(vec![certificate], key)
        .expect("a certificate");
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

/// tonic knows how to serve its own TLS streams only.
struct Secure(TlsStream<TcpStream>);

impl tonic::transport::server::Connected for Secure {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl AsyncRead for Secure {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Secure {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, buffer)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

/// Runs `quorate token create` as a user whose contexts are these.
fn as_user_of(contexts: &str) -> Ran {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("quorate")).unwrap();
    file(&home.path().join("quorate"), "config.toml", contexts);
    let home = home.path().to_str().unwrap().to_owned();
    with_input(&["token", "create"], &[("XDG_CONFIG_HOME", &home)], "")
}

fn cluster() -> Cluster {
    let state = State { token: "qt1.secret".to_owned(), ..State::default() };
    Arc::new(std::sync::Mutex::new(state))
}

#[test]
fn a_node_is_known_by_its_cluster_and_not_by_its_address() {
    let authority = Authority::new();
    let node = Remote::start(&cluster(), &authority);
    let ran = as_user_of(&authority.context(&node.address, VALID)).ends(0);
    assert_eq!(ran.stdout, "qt1.secret\n");
    let by_name = node.address.replace("127.0.0.1", "localhost");
    as_user_of(&authority.context(&by_name, VALID)).ends(0);
}

#[test]
fn a_node_of_another_cluster_is_refused() {
    let node = Remote::start(&cluster(), &Authority::new());
    let ran = as_user_of(&Authority::new().context(&node.address, VALID)).ends(4);
    let line = format!("  {}: it belongs to another cluster", node.address);
    assert!(ran.stderr.contains(&line), "{ran:#?}");
}

#[test]
fn a_node_whose_certificate_has_expired_is_refused() {
    let authority = Authority::new();
    let expired = named("lb1", PAST, ExtendedKeyUsagePurpose::ServerAuth);
    let node = Remote::with(&cluster(), &authority, &expired);
    let ran = as_user_of(&authority.context(&node.address, VALID)).ends(4);
    let line = format!("  {}: the node's certificate has expired", node.address);
    assert!(ran.stderr.contains(&line), "{ran:#?}");
}

#[test]
fn a_client_can_not_pose_as_a_node() {
    let authority = Authority::new();
    let client = named("eve", VALID, ExtendedKeyUsagePurpose::ClientAuth);
    let node = Remote::with(&cluster(), &authority, &client);
    as_user_of(&authority.context(&node.address, VALID)).ends(4);
}

#[test]
fn a_refused_client_certificate_is_said_and_changes_nothing() {
    let authority = Authority::new();
    let node = Remote::start(&cluster(), &authority);
    let ran = as_user_of(&authority.context(&node.address, PAST)).ends(4);
    assert!(ran.stderr.contains("our client certificate has expired"), "{ran:#?}");
}

#[test]
fn a_context_that_can_not_be_used_is_named() {
    let authority = Authority::new();
    let broken = authority.context("127.0.0.1:1", VALID).replace("BEGIN PRIVATE", "BEGIN PRIVY");
    let ran = as_user_of(&broken).ends(1);
    assert!(ran.stderr.contains("cannot use context prod"), "{ran:#?}");
}
