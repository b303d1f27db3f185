//! The client's key, which is made here and never leaves this machine, and PEM text.

use data_encoding::BASE64;
use rcgen::{KeyPair, PublicKeyData as _};

use crate::exit::{Exit, Failure};

/// A new key.
pub struct Key(KeyPair);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    /// Makes one (ECDSA on P-256).
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn generate() -> Result<Self, Failure> {
        KeyPair::generate()
            .map(Self)
            .map_err(|error| Failure::new(Exit::Failed, format!("cannot make a key: {error}")))
    }

    /// Its public half, as DER SubjectPublicKeyInfo.
    #[must_use]
    pub fn public(&self) -> Vec<u8> {
        self.0.subject_public_key_info()
    }

    /// The key itself, as PEM.
    #[must_use]
    pub fn secret_pem(&self) -> String {
        self.0.serialize_pem()
    }
}

/// DER as PEM text (RFC 7468).
#[must_use]
pub fn pem(label: &str, der: &[u8]) -> String {
    // 48 bytes are a line of 64 characters.
    let lines: Vec<String> = der.chunks(48).map(|line| BASE64.encode(line)).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;

    use super::*;

    #[test]
    fn pem_is_read_back_by_the_library_that_will_read_it() {
        let der: Vec<u8> = (0..=200).collect();
        let text = pem("CERTIFICATE", &der);
        assert!(text.lines().all(|line| line.len() <= 64));
        assert_eq!(CertificateDer::from_pem_slice(text.as_bytes()).unwrap().as_ref(), der);
    }
}
