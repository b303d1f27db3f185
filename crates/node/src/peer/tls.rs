//! The pair of TLS configurations, and who is believed to be whom.
//!
//! TLS 1.3 only. The dialling side expects the pinned key of the node that it dials: the name in
//! the handshake says which. The answering side takes any client certificate whose holder has the
//! key, and none too: every request is authorised by itself. Dates are not looked at. The same pair
//! serves TCP and, under a protocol name of its own, QUIC.

use std::sync::Arc;

use quorate_model::command::Digest;
use quorate_model::id::NodeId;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    ServerConfig, SignatureScheme,
};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::directory::PeerDirectory;
use crate::identity::Identity;
use crate::identity::authority::sha256;

const SUFFIX: &str = ".quorate";
const HTTP_2: &[u8] = b"h2";
const DATAGRAM: &[u8] = b"quorate-datagram/1";

/// The cryptography, set explicitly: no process-wide default is relied on.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// SHA-256 of the public key in a certificate: what is pinned.
///
/// # Errors
///
/// If it is no certificate.
pub fn key_digest(certificate: &CertificateDer<'_>) -> Result<Digest, Error> {
    let (_, parsed) = X509Certificate::from_der(certificate)
        .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
    Ok(sha256(parsed.public_key().raw))
}

/// The name in the handshake with a node.
///
/// # Errors
///
/// Never, in practice.
pub fn node_name(node: NodeId) -> Result<ServerName<'static>, Error> {
    ServerName::try_from(format!("n{node}{SUFFIX}"))
        .map_err(|error| Error::General(error.to_string()))
}

fn named_node(name: &ServerName<'_>) -> Option<NodeId> {
    let name = name.to_str();
    name.strip_prefix('n')?.strip_suffix(SUFFIX)?.parse().ok().map(NodeId)
}

fn own(identity: &Identity) -> (Vec<CertificateDer<'static>>, PrivatePkcs8KeyDer<'static>) {
    // The CA's certificate goes with it: a joiner has only its hash.
    let chain = [&identity.certificate, &identity.authority];
    let chain = chain.map(|certificate| CertificateDer::from(certificate.clone())).to_vec();
    (chain, PrivatePkcs8KeyDer::from(identity.private_key.clone()))
}

/// The side that answers.
///
/// # Errors
///
/// If the identity's key or certificate is damaged.
pub fn server(identity: &Identity) -> Result<Arc<ServerConfig>, Error> {
    let (chain, key) = own(identity);
    let provider = provider();
    let verifier = Arc::new(AnyHolder(Arc::clone(&provider)));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key.into())?;
    config.alpn_protocols = vec![HTTP_2.to_vec()];
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// The side that dials other nodes.
///
/// # Errors
///
/// If the identity's key or certificate is damaged.
pub fn client(identity: &Identity, directory: PeerDirectory) -> Result<Arc<ClientConfig>, Error> {
    let (chain, key) = own(identity);
    let provider = provider();
    let verifier = Arc::new(PinnedNode { provider: Arc::clone(&provider), directory });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(chain, key.into())?;
    finish(&mut config);
    Ok(Arc::new(config))
}

/// The side that dials a member of a cluster of which only the CA's hash is known.
///
/// # Errors
///
/// Never, in practice.
pub fn joiner(authority: Digest) -> Result<Arc<ClientConfig>, Error> {
    let provider = provider();
    let verifier = Arc::new(KnownAuthority { provider: Arc::clone(&provider), authority });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    finish(&mut config);
    Ok(Arc::new(config))
}

/// The pair for datagrams: the same keys, the same checks, another protocol.
#[must_use]
pub fn for_datagrams(server: &ServerConfig, client: &ClientConfig) -> (ServerConfig, ClientConfig) {
    let (mut server, mut client) = (server.clone(), client.clone());
    server.alpn_protocols = vec![DATAGRAM.to_vec()];
    client.alpn_protocols = vec![DATAGRAM.to_vec()];
    (server, client)
}

fn finish(config: &mut ClientConfig) {
    config.alpn_protocols = vec![HTTP_2.to_vec()];
    config.enable_sni = false;
    config.resumption = rustls::client::Resumption::disabled();
}

/// Expects the pinned key of the node that is dialled.
#[derive(Debug)]
struct PinnedNode {
    provider: Arc<CryptoProvider>,
    directory: PeerDirectory,
}

impl ServerCertVerifier for PinnedNode {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let pin = named_node(server_name).and_then(|node| self.directory.pin(node));
        if pin.is_some() && pin == Some(key_digest(end_entity)?) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Expects a certificate that the CA with the known hash signed.
#[derive(Debug)]
struct KnownAuthority {
    provider: Arc<CryptoProvider>,
    authority: Digest,
}

impl ServerCertVerifier for KnownAuthority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let known = intermediates.iter().find(|certificate| sha256(certificate) == self.authority);
        let Some(authority) = known else {
            return Err(Error::InvalidCertificate(CertificateError::UnknownIssuer));
        };
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let provider = Arc::clone(&self.provider);
        let verifier =
            rustls::client::WebPkiServerVerifier::builder_with_provider(roots.into(), provider)
                .build()
                .map_err(|error| Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, &[], server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Takes whoever holds the key of the certificate that it shows.
#[derive(Debug)]
struct AnyHolder(Arc<CryptoProvider>);

impl ClientCertVerifier for AnyHolder {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        key_digest(end_entity).map(|_| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
