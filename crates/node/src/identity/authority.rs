//! Keys and certificates: ECDSA P-256, made by `rcgen` with `ring`.
//!
//! What authorises a peer is its pinned key, never a date: certificates are made without an end.

use quorate_model::command::{CertificateAuthority, Digest};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData as _, SubjectPublicKeyInfo,
};
use ring::rand::SecureRandom as _;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

/// The name in every node's certificate, by which a joiner checks it: which node it is follows
/// from its key.
pub const NODE_TLS_NAME: &str = "node.quorate";

/// Why no key or certificate was made.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The system has no randomness.
    #[error("the system gave no random bytes")]
    Random,
    /// A key or certificate can't be made or read.
    #[error("a key or certificate can't be made: {0}")]
    Certificate(#[from] rcgen::Error),
}

/// Random bytes, fit for secrets.
///
/// # Errors
///
/// If the system gives none.
pub fn random<const N: usize>() -> Result<[u8; N], AuthorityError> {
    let mut bytes = [0; N];
    ring::rand::SystemRandom::new().fill(&mut bytes).map_err(|_| AuthorityError::Random)?;
    Ok(bytes)
}

/// SHA-256.
#[must_use]
pub fn sha256(bytes: &[u8]) -> Digest {
    let mut digest = [0; 32];
    digest.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
    Digest(digest)
}

/// A node's own key.
#[derive(Debug)]
pub struct NodeKey {
    private_key: Vec<u8>,
    public_key: Vec<u8>,
}

impl NodeKey {
    /// A new key.
    ///
    /// # Errors
    ///
    /// If the system gives no random bytes.
    pub fn generate() -> Result<Self, AuthorityError> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        Ok(Self { private_key: pair.serialize_der(), public_key: pair.subject_public_key_info() })
    }

    /// PKCS #8, DER.
    #[must_use]
    pub fn private_key(&self) -> &[u8] {
        &self.private_key
    }

    /// DER SubjectPublicKeyInfo.
    #[must_use]
    pub fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    /// What others pin.
    #[must_use]
    pub fn digest(&self) -> Digest {
        sha256(&self.public_key)
    }
}

fn parameters(common_name: &str, names: Vec<String>) -> Result<CertificateParams, AuthorityError> {
    let mut parameters = CertificateParams::new(names)?;
    parameters.distinguished_name.push(DnType::CommonName, common_name);
    Ok(parameters)
}

/// A new cluster's certificate authority.
///
/// # Errors
///
/// If no key or certificate can be made.
pub fn create(cluster_name: &str) -> Result<CertificateAuthority, AuthorityError> {
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut parameters = parameters(&format!("quorate cluster {cluster_name}"), Vec::new())?;
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let certificate = parameters.self_signed(&pair)?;
    Ok(CertificateAuthority {
        certificate: certificate.der().to_vec(),
        private_key: pair.serialize_der(),
    })
}

/// What the holder of a certificate may be. A client must not pass for a node: its certificate
/// can't be shown by a server (RFC 5280 §4.2.1.12).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// A node: it answers, and it asks other nodes.
    Node,
    /// A client: it only asks.
    Client,
}

/// A certificate for the holder of this public key (DER SubjectPublicKeyInfo), DER.
///
/// # Errors
///
/// If the key is none, or the authority's is damaged.
pub fn sign(
    authority: &CertificateAuthority,
    holder: Holder,
    common_name: &str,
    public_key: &[u8],
) -> Result<Vec<u8>, AuthorityError> {
    let key = PrivatePkcs8KeyDer::from(authority.private_key.as_slice());
    let pair = KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ECDSA_P256_SHA256)?;
    let certificate = CertificateDer::from(authority.certificate.as_slice());
    let issuer = Issuer::from_ca_cert_der(&certificate, pair)?;
    let public_key = SubjectPublicKeyInfo::from_der(public_key)?;
    let (names, purposes) = match holder {
        Holder::Node => (
            vec![NODE_TLS_NAME.to_owned()],
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
        ),
        Holder::Client => (Vec::new(), vec![ExtendedKeyUsagePurpose::ClientAuth]),
    };
    let mut parameters = parameters(common_name, names)?;
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = purposes;
    Ok(parameters.signed_by(&public_key, &issuer)?.der().to_vec())
}
