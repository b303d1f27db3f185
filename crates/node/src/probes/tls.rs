//! What probes by TLS need: read from the files that a check names, kept for a while, shared by all
//! targets of the check.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use quorate_model::spec::Tls;
use quorate_model::time::Instant;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio::sync::Mutex;

use crate::clock;
use crate::peer::tls::provider;

/// For how long files count as read: a renewed certificate is taken up within this time.
const FRESH: Duration = Duration::from_secs(60);

/// A client, or why there is none.
type Made = Result<Arc<ClientConfig>, String>;

/// What is spoken by TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Protocol {
    /// HTTP/1, which servers take for granted.
    Http1,
    /// HTTP/2, which has to be asked for (ALPN, RFC 9113, section 3.2).
    Http2,
}

/// Which files a client is made of, whether it looks at certificates, and what it speaks.
type Files = (bool, Option<String>, Option<(String, String)>, Protocol);

/// TLS clients by what was configured. While one is made, who else needs one waits, so that many probes
/// that begin together read the same files once.
#[derive(Debug, Default)]
pub(super) struct Clients(Mutex<BTreeMap<Files, (Instant, Made)>>);

impl Clients {
    /// The client for these settings; the reason where this director can't make one.
    pub(super) async fn of(&self, tls: &Tls, protocol: Protocol) -> Made {
        let mut all = self.0.lock().await;
        let now = clock::now();
        // Those of former configurations go by the same way.
        all.retain(|_, (at, _)| now.since(*at) < FRESH);
        let files: Files = (tls.verify, tls.ca.clone(), tls.identity.clone(), protocol);
        if let Some((_, made)) = all.get(&files) {
            return made.clone();
        }
        let settings = tls.clone();
        let make = move || client(&settings, protocol).map(Arc::new);
        let made = tokio::task::spawn_blocking(make)
            .await
            .unwrap_or_else(|_| Err("the daemon is stopping".to_owned()));
        all.insert(files, (now, made.clone()));
        made
    }
}

fn client(tls: &Tls, protocol: Protocol) -> Result<ClientConfig, String> {
    let mut client = of_files(tls)?;
    if protocol == Protocol::Http2 {
        client.alpn_protocols = vec![b"h2".to_vec()];
    }
    Ok(client)
}

fn of_files(tls: &Tls) -> Result<ClientConfig, String> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS: {error}"))?;
    let builder = match tls.verify {
        true => builder.with_root_certificates(roots(tls.ca.as_deref())?),
        false => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyServer(provider())))
        }
    };
    let Some((certificate, key)) = &tls.identity else { return Ok(builder.with_no_client_auth()) };
    let chain = certificates(certificate)?;
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| format!("key {key} can't be read: {error}"))?;
    builder
        .with_client_auth_cert(chain, private)
        .map_err(|error| format!("certificate {certificate} and key {key}: {error}"))
}

fn roots(ca: Option<&str>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(file) => {
            for certificate in certificates(file)? {
                roots
                    .add(certificate)
                    .map_err(|error| format!("authority of {file} can't be used: {error}"))?;
            }
        }
        None => {
            // One that can't be used among the system's hundreds is no reason to trust none.
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
            if roots.is_empty() {
                return Err(format!(
                    "the system has no authorities to trust: install ca-certificates, or give the \
                     check a ca ({} files could not be read)",
                    found.errors.len()
                ));
            }
        }
    }
    Ok(roots)
}

fn certificates(file: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let failed = |error| format!("certificate {file} can't be read: {error}");
    let all: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(Path::new(file)).map_err(failed)?.collect();
    let all = all.map_err(failed)?;
    if all.is_empty() {
        return Err(format!("there is no certificate in {file}"));
    }
    Ok(all)
}

/// Whoever answers: a check without `verify` asks whether a server works, not who it is. So its
/// signature says nothing either, and certificates that rustls can't read do.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
