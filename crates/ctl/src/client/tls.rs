//! Who we are towards a remote node, and how we know it: its certificate must be issued by the
//! cluster's own CA, which the context pins. Host names count for nothing (the names inside the
//! certificates are nodes' names), time does. Tests: `tests/remote.rs`.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{AlertDescription, SignatureScheme};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore};

/// A client's certificate, with the CA that it trusts, ready for use.
#[derive(Debug, Clone)]
pub struct Identity(Arc<ClientConfig>);

/// Why texts are no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// One of them is not PEM.
    #[error("its {what} can't be read")]
    Pem {
        /// Which one.
        what: &'static str,
        /// What is wrong with it.
        source: rustls::pki_types::pem::Error,
    },
    /// The key is not the certificate's, or one of them is of a kind that is not known.
    #[error("its certificate and key can't be used")]
    Tls(#[from] rustls::Error),
}

impl Identity {
    /// The identity made of a CA, a certificate that it issued, and its key, all PEM.
    ///
    /// # Errors
    /// When they don't belong together.
    pub fn from_pem(authority: &str, certificate: &str, key: &str) -> Result<Self, IdentityError> {
        let wrong = |what| move |source| IdentityError::Pem { what, source };
        let authority =
            CertificateDer::from_pem_slice(authority.as_bytes()).map_err(wrong("authority"))?;
        let certificate =
            CertificateDer::from_pem_slice(certificate.as_bytes()).map_err(wrong("certificate"))?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(wrong("key"))?;
        let mut roots = RootCertStore::empty();
        roots.add(authority)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = PinnedAuthority { roots, provider: Arc::clone(&provider) };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_auth_cert(vec![certificate], key)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.enable_sni = false;
        Ok(Self(Arc::new(config)))
    }

    pub(super) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.0)
    }
}

/// What a failed handshake means to the person at the keyboard.
pub(super) fn explain(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "the node's certificate has expired".to_owned(),
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => "the node's certificate is not valid yet: is this machine's clock right?".to_owned(),
        rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => "it belongs to another cluster: its certificate is not issued by the CA of this \
              context"
            .to_owned(),
        rustls::Error::AlertReceived(AlertDescription::CertificateExpired) => {
            "our client certificate has expired: make the context anew on a node".to_owned()
        }
        rustls::Error::AlertReceived(alert) => {
            format!("it refused our client certificate ({alert:?})")
        }
        other => other.to_string(),
    }
}

/// Accepts whom the cluster's CA certified, under whatever name.
#[derive(Debug)]
struct PinnedAuthority {
    roots: RootCertStore,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedAuthority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &self.roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
