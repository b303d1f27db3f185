//! Join tokens: one line of text with which a node is admitted, once.
//!
//! A token is `quorate1.` and base64url of: version (1), cluster id (16), SHA-256 of the CA's
//! certificate (32), secret (32), the number of addresses (1), the addresses (family 4 or 6,
//! address, port), and the first 4 bytes of SHA-256 of all before. The checksum tells a text that
//! was cut short from one that the cluster refuses.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use quorate_model::command::{Command, Digest, UnixMillis};
use quorate_model::state::ClusterState;

use super::authority::{AuthorityError, random, sha256};

/// How long a token can be used.
pub const TOKEN_VALID: Duration = Duration::from_secs(15 * 60);

const PREFIX: &str = "quorate1.";
const VERSION: u8 = 1;
const CHECKSUM_BYTES: usize = 4;
const ADDRESSES_MAX: usize = 64;

/// What a token says.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The cluster.
    pub cluster_id: u128,
    /// SHA-256 of the CA's certificate (DER): whoever answers must show that one.
    pub authority: Digest,
    /// What proves that the bearer may join. Only its hash is replicated.
    pub secret: [u8; 32],
    /// Where the members listen.
    pub addresses: Vec<SocketAddr>,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token")
            .field("cluster_id", &self.cluster_id)
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

/// Why a text is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It does not begin as one.
    #[error("this is no join token: a token begins with quorate1.")]
    Prefix,
    /// It is not whole.
    #[error(
        "this join token is damaged or cut short: copy the whole line that quorate token create printed"
    )]
    Damaged,
}

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut bytes = vec![VERSION];
        bytes.extend(self.cluster_id.to_be_bytes());
        bytes.extend(self.authority.0);
        bytes.extend(self.secret);
        let addresses = self.addresses.iter().take(ADDRESSES_MAX);
        bytes.push(u8::try_from(addresses.len()).unwrap_or(u8::MAX));
        for address in addresses {
            match address.ip() {
                IpAddr::V4(ip) => {
                    bytes.push(4);
                    bytes.extend(ip.octets());
                }
                IpAddr::V6(ip) => {
                    bytes.push(6);
                    bytes.extend(ip.octets());
                }
            }
            bytes.extend(address.port().to_be_bytes());
        }
        let checksum = sha256(&bytes);
        bytes.extend(&checksum.0[..CHECKSUM_BYTES]);
        write!(f, "{PREFIX}{}", BASE64URL_NOPAD.encode(&bytes))
    }
}

impl std::str::FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text = text.trim().strip_prefix(PREFIX).ok_or(TokenError::Prefix)?;
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| TokenError::Damaged)?;
        parse(&bytes).ok_or(TokenError::Damaged)
    }
}

fn parse(bytes: &[u8]) -> Option<Token> {
    let (body, checksum) = bytes.split_at_checked(bytes.len().checked_sub(CHECKSUM_BYTES)?)?;
    if sha256(body).0[..CHECKSUM_BYTES] != *checksum {
        return None;
    }
    let mut rest = body;
    let [version] = take(&mut rest)?;
    if version != VERSION {
        return None;
    }
    let cluster_id = u128::from_be_bytes(take(&mut rest)?);
    let authority = Digest(take(&mut rest)?);
    let secret = take(&mut rest)?;
    let [count] = take(&mut rest)?;
    let mut addresses = Vec::new();
    for _ in 0..count {
        let ip = match take(&mut rest)? {
            [4] => IpAddr::from(take::<4>(&mut rest)?),
            [6] => IpAddr::from(take::<16>(&mut rest)?),
            _ => return None,
        };
        addresses.push(SocketAddr::new(ip, u16::from_be_bytes(take(&mut rest)?)));
    }
    rest.is_empty().then_some(Token { cluster_id, authority, secret, addresses })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = rest.split_at_checked(N)?;
    *rest = left;
    taken.try_into().ok()
}

/// Makes a new token, and the command that makes it valid; `None` before the cluster is founded.
///
/// # Errors
///
/// If the system gives no random bytes.
pub fn create(
    state: &ClusterState,
    at: UnixMillis,
) -> Result<Option<(Token, Command)>, AuthorityError> {
    let Some(authority) = &state.authority else { return Ok(None) };
    let secret = random()?;
    let staying = state.nodes.values().filter(|record| !record.leaving);
    let token = Token {
        cluster_id: state.cluster_id,
        authority: sha256(&authority.certificate),
        secret,
        addresses: staying
            .flat_map(|record| record.description.links.iter().map(|link| link.listen))
            .collect(),
    };
    let valid = u64::try_from(TOKEN_VALID.as_millis()).unwrap_or(u64::MAX);
    let command = Command::AddToken {
        secret: sha256(&secret),
        at,
        expires: UnixMillis(at.0.saturating_add(valid)),
    };
    Ok(Some((token, command)))
}
