//! The joiner's side of admission.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use quorate_api::convert::{DecodeError, cluster_id_bytes};
use quorate_api::peer::v1 as peer;
use quorate_model::command::Digest;
use quorate_model::id::NodeId;
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::Endpoint;
use tonic::{Code, Status};

use super::admission::LEADER_HINT;
use super::channel::with_causes;
use super::dial::{DialLimits, FOREIGN_AUTHORITY, dial};
use super::tls::{joiner, key_digest};
use crate::identity::authority::{AuthorityError, NODE_TLS_NAME, sha256};
use crate::identity::token::Token;
use crate::identity::{Identity, NodeKey, NodeProfile};

/// How long a joiner tries, since the cluster may be electing a leader.
pub const JOIN_LIMIT: Duration = Duration::from_secs(30);
const REQUEST_LIMIT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(200);

/// Why a node was not admitted.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The cluster refused, for a reason that trying again does not change.
    #[error("the cluster refused: {0}")]
    Refused(String),
    /// Whoever answers at the token's addresses is not the cluster that made it.
    #[error("the token is for another cluster than the one that answers at {}: nothing secret was sent; make a new token on a member (quorate token create)", list(.0))]
    WrongCluster(Vec<SocketAddr>),
    /// No member that could admit this node was reached.
    #[error("no member of the cluster could admit this node within {JOIN_LIMIT:?}: {}", causes(.0))]
    Unreachable(Vec<(SocketAddr, String)>),
    /// The answer makes no sense.
    #[error("the cluster's answer can't be read: {0}")]
    Answer(#[from] DecodeError),
    /// No key could be made.
    #[error(transparent)]
    Key(#[from] AuthorityError),
    /// TLS can't be set up.
    #[error("TLS can't be set up: {0}")]
    Tls(#[from] rustls::Error),
}

fn list(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn causes(tried: &[(SocketAddr, String)]) -> String {
    tried.iter().map(|(at, cause)| format!("{at}: {cause}")).collect::<Vec<_>>().join("; ")
}

enum Attempt {
    Admitted {
        answer: peer::AdmitResponse,
        authority: Vec<u8>,
    },
    /// Trying again does not help.
    Refused(String),
    Foreign,
    /// The leader is there.
    Elsewhere(Vec<SocketAddr>),
    Failed(String),
}

/// Asks the cluster that made the token to admit this node.
///
/// # Errors
///
/// If it refuses, or can't be reached for [`JOIN_LIMIT`].
pub async fn join(token: &Token, profile: &NodeProfile) -> Result<Identity, JoinError> {
    join_within(token, profile, JOIN_LIMIT).await
}

pub(crate) async fn join_within(
    token: &Token,
    profile: &NodeProfile,
    limit: Duration,
) -> Result<Identity, JoinError> {
    let key = NodeKey::generate()?;
    let config = joiner(token.authority)?;
    let request = peer::AdmitRequest {
        cluster_id: cluster_id_bytes(token.cluster_id),
        secret: token.secret.to_vec(),
        node: Some((&profile.with_key(key.digest())).into()),
        public_key: key.public_key().to_vec(),
    };
    let deadline = Instant::now() + limit;
    let mut hint: Vec<SocketAddr> = Vec::new();
    loop {
        let mut failures: BTreeMap<SocketAddr, String> = BTreeMap::new();
        let mut foreign = Vec::new();
        let mut addresses = std::mem::take(&mut hint);
        for &address in &token.addresses {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        for address in addresses {
            match attempt(address, token.authority, &config, request.clone()).await {
                Attempt::Admitted { answer, authority } => {
                    return identity(token, profile, &key, answer, authority);
                }
                Attempt::Refused(why) => return Err(JoinError::Refused(why)),
                Attempt::Foreign => {
                    foreign.push(address);
                    failures.insert(address, FOREIGN_AUTHORITY.to_owned());
                }
                Attempt::Elsewhere(leader) => {
                    failures.insert(address, "not the leader".to_owned());
                    hint = leader;
                    break;
                }
                Attempt::Failed(cause) => {
                    failures.insert(address, cause);
                }
            }
        }
        if !foreign.is_empty() && foreign.len() == failures.len() {
            return Err(JoinError::WrongCluster(foreign));
        }
        if Instant::now() >= deadline {
            return Err(JoinError::Unreachable(failures.into_iter().collect()));
        }
        sleep(PAUSE).await;
    }
}

async fn attempt(
    address: SocketAddr,
    authority: Digest,
    config: &Arc<ClientConfig>,
    request: peer::AdmitRequest,
) -> Attempt {
    let Ok(name) = ServerName::try_from(NODE_TLS_NAME) else {
        return Attempt::Failed("no TLS name".to_owned());
    };
    let stream = match dial(&[address], &name, config, DialLimits::default()).await {
        Ok(stream) => stream,
        Err(error) => {
            let cause = error.tried.into_iter().map(|(_, cause)| cause).next().unwrap_or_default();
            let foreign = cause == FOREIGN_AUTHORITY;
            return if foreign { Attempt::Foreign } else { Attempt::Failed(cause) };
        }
    };
    // The handshake has checked that one of these is the CA of the token.
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let known = chain.iter().find(|certificate| sha256(certificate) == authority);
    let Some(authority) = known.map(|certificate| certificate.to_vec()) else {
        return Attempt::Foreign;
    };
    let mut stream = Some(TokioIo::new(stream));
    let connector = tower::service_fn(move |_| {
        let stream = stream.take().ok_or_else(|| std::io::Error::other("connection lost"));
        std::future::ready(stream)
    });
    let asking = async {
        let channel = Endpoint::from_static("http://peer.quorate")
            .connect_with_connector(connector)
            .await
            .map_err(|error| Status::unavailable(with_causes(&error)))?;
        peer::admission_client::AdmissionClient::new(channel).admit(request).await
    };
    match timeout(REQUEST_LIMIT, asking).await {
        Err(_) => Attempt::Failed("no answer".to_owned()),
        Ok(Err(status)) => refused(&status),
        Ok(Ok(answer)) => Attempt::Admitted { answer: answer.into_inner(), authority },
    }
}

fn refused(status: &Status) -> Attempt {
    match status.code() {
        Code::PermissionDenied
        | Code::AlreadyExists
        | Code::InvalidArgument
        | Code::ResourceExhausted => Attempt::Refused(status.message().to_owned()),
        Code::FailedPrecondition => {
            let hint = status.metadata().get(LEADER_HINT).and_then(|hint| hint.to_str().ok());
            let leader = hint.unwrap_or_default().split(',').filter_map(|a| a.parse().ok());
            Attempt::Elsewhere(leader.collect())
        }
        _ => Attempt::Failed(with_causes(status)),
    }
}

fn identity(
    token: &Token,
    profile: &NodeProfile,
    key: &NodeKey,
    answer: peer::AdmitResponse,
    authority: Vec<u8>,
) -> Result<Identity, JoinError> {
    // The certificate must be for the key that was made here.
    let certificate = CertificateDer::from(answer.certificate);
    if key_digest(&certificate)? != key.digest() {
        return Err(DecodeError::Missing("the certificate of this node's key").into());
    }
    let mut members = BTreeMap::new();
    for member in answer.members {
        let node = member.node.ok_or(DecodeError::Missing("Member.node"))?;
        members.insert(NodeId(member.id), node.try_into()?);
    }
    Ok(Identity {
        cluster_id: token.cluster_id,
        cluster_name: answer.cluster_name,
        node_id: NodeId(answer.node_id),
        node_name: profile.name.as_str().to_owned(),
        private_key: key.private_key().to_vec(),
        certificate: certificate.to_vec(),
        authority,
        members,
        timing: answer.timing.map(TryInto::try_into).transpose()?.unwrap_or_default(),
        recovered_without: BTreeSet::new(),
    })
}
