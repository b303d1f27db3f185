//! What only the Raft leader can do: the writes of the API. A follower forwards them here. Those
//! that operators order about the cluster's directors are in `orders`, configurations in `revisions`.

use std::sync::Arc;
use std::time::Duration;

use quorate_api::peer::v1::forward_request::Request;
use quorate_api::peer::v1::forward_response::Response;
use quorate_api::v1;
use quorate_model::command::Command;
use quorate_model::id::{GroupName, NodeId};
use quorate_model::state::{ClusterState, Refused, Reply};
use tonic::Status;
use tracing::info;

use super::error::{Kind, detailed, error};
use super::status::rfc3339;
use crate::clock;
use crate::identity::authority::{self, Holder};
use crate::member::Member;
use crate::raft::handle::ProposeError;

/// How long a write may take to be committed.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a transfer may take until the new owner's lease runs.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a removal may take: two changes of the membership, with the longest spacing between.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(180);
/// How often a long operation looks whether it is done.
const LOOK_EVERY: Duration = Duration::from_millis(50);

impl Member {
    /// Does a write, as the leader, for `caller`.
    pub(crate) async fn write(&self, caller: &str, request: Request) -> Result<Response, Status> {
        Ok(match request {
            Request::Apply(apply) => Response::Apply(self.apply(caller, apply).await?),
            Request::Confirm(confirm) => Response::Confirm(self.confirm(caller, confirm).await?),
            Request::Abort(abort) => Response::Abort(self.abort(caller, abort).await?),
            Request::CreateToken(_) => Response::CreateToken(self.create_token(caller).await?),
            Request::Transfer(transfer) => {
                Response::Transfer(self.transfer(caller, transfer).await?)
            }
            Request::Evacuate(evacuate) => {
                Response::Evacuate(self.evacuate(caller, evacuate).await?)
            }
            Request::Restore(restore) => Response::Restore(self.restore(caller, restore).await?),
            Request::Pause(_) => Response::Pause(self.pause(caller).await?),
            Request::Resume(_) => Response::Resume(self.resume(caller).await?),
            Request::OverrideWeight(weight) => {
                Response::OverrideWeight(self.override_weight(caller, weight).await?)
            }
            Request::RemoveNode(remove) => {
                Response::RemoveNode(self.remove_node(caller, remove).await?)
            }
            Request::CreateClient(create) => {
                Response::CreateClient(self.create_client(caller, create).await?)
            }
        })
    }

    pub(super) async fn commit(&self, command: Command) -> Result<Reply, Status> {
        let proposal = self.raft.propose(command);
        match tokio::time::timeout(COMMIT_TIMEOUT, proposal).await {
            Ok(Ok(Reply::Refused(refused))) => Err(refusal(&refused)),
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(cause)) => Err(not_proposed(cause)),
            Err(_) => Err(not_proposed(ProposeError::Unknown(COMMIT_TIMEOUT))),
        }
    }

    async fn create_token(&self, caller: &str) -> Result<v1::CreateTokenResponse, Status> {
        let state = self.state();
        let made = crate::identity::token::create(&state, clock::wall())
            .map_err(|cause| error(Kind::Refused, cause.to_string()))?;
        let Some((token, command)) = made else {
            return Err(error(Kind::NotMember, "the cluster is not founded yet"));
        };
        let expires = match &command {
            Command::AddToken { expires, .. } => rfc3339(*expires),
            _ => String::new(),
        };
        self.commit(command).await?;
        info!(caller, "join token made");
        Ok(v1::CreateTokenResponse { token: token.to_string(), expires })
    }

    async fn transfer(
        &self,
        caller: &str,
        request: v1::TransferRequest,
    ) -> Result<v1::TransferResponse, Status> {
        let group: GroupName = request
            .group
            .parse()
            .map_err(|cause| error(Kind::Invalid, format!("group {:?}: {cause}", request.group)))?;
        let state = self.state();
        if !state.spec.groups.contains_key(&group) {
            return Err(refusal(&Refused::NoSuchGroup(group)));
        }
        let before = state.grants.get(&group).map(|grant| grant.owner);
        if request.auto {
            let pinned = state.pins.contains_key(&group);
            self.commit(Command::Pin { group: group.clone(), node: None }).await?;
            info!(%group, caller, "placement is automatic again");
            let response = self.transferred(&group, before);
            return Ok(v1::TransferResponse { changed: pinned, ..response });
        }
        let target = self.target(&state, &group, &request.to, before).await?;
        self.commit(Command::Pin { group: group.clone(), node: Some(target) }).await?;
        info!(%group, to = %target, caller, "transfer asked for");
        let moved = async {
            while !self.is_held_by(&group, target).await {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        if tokio::time::timeout(TRANSFER_TIMEOUT, moved).await.is_err() {
            return Err(error(
                Kind::UnknownOutcome,
                format!(
                    "{group} is pinned to the new owner, whose lease does not run after \
                     {TRANSFER_TIMEOUT:?}: see `quorate status`; `quorate transfer {group} --auto` undoes it"
                ),
            ));
        }
        Ok(self.transferred(&group, before))
    }

    /// The node that a transfer moves a group to.
    async fn target(
        &self,
        state: &ClusterState,
        group: &GroupName,
        to: &str,
        owner: Option<NodeId>,
    ) -> Result<NodeId, Status> {
        let view = self.view().await?;
        let candidates = view.candidates.get(group).cloned().unwrap_or_default();
        if to.is_empty() {
            return candidates.into_iter().find(|&node| Some(node) != owner).ok_or_else(|| {
                error(
                    Kind::Refused,
                    format!("no other director can take {group} now: see `quorate status`"),
                )
            });
        }
        let node = named(state, to)?;
        if state.is_evacuated(node)
            && let Some(record) = state.nodes.get(&node)
        {
            return Err(refusal(&Refused::Evacuated(record.description.name.clone())));
        }
        if candidates.contains(&node) {
            return Ok(node);
        }
        let reasons = match view.obstacles.get(&node) {
            None => "it is unreachable".to_owned(),
            Some(_) if !state.may_own(node, group) => {
                "it is a witness, is leaving, or `only` excludes it".to_owned()
            }
            Some(groups) => {
                let of_group = groups.get(group).into_iter().flatten();
                let of_group: Vec<String> = of_group.map(ToString::to_string).collect();
                match of_group.as_slice() {
                    // What each is, all by themselves, is no obstacle.
                    [] => "another director sees more of its real servers".to_owned(),
                    reasons => reasons.join("; "),
                }
            }
        };
        Err(error(Kind::Refused, format!("{to} can't own {group} now: {reasons}")))
    }

    pub(super) async fn is_held_by(&self, group: &GroupName, node: NodeId) -> bool {
        let state = self.state();
        let Some(grant) = state.grants.get(group).filter(|grant| grant.owner == node) else {
            return false;
        };
        match self.view().await {
            Ok(view) if node == self.me => view.held.contains_key(group),
            Ok(view) => view.heard.get(group) == Some(&grant.epoch),
            Err(_) => false,
        }
    }

    fn transferred(&self, group: &GroupName, before: Option<NodeId>) -> v1::TransferResponse {
        let state = self.state();
        let grant = state.grants.get(group);
        let owner = grant.map(|grant| grant.owner);
        let name = owner.and_then(|owner| state.nodes.get(&owner));
        v1::TransferResponse {
            owner: name.map(|record| record.description.name.to_string()).unwrap_or_default(),
            epoch: grant.map_or(0, |grant| grant.epoch.0),
            changed: owner != before,
        }
    }

    async fn remove_node(
        &self,
        caller: &str,
        request: v1::RemoveNodeRequest,
    ) -> Result<v1::RemoveNodeResponse, Status> {
        let state = self.state();
        let node = named(&state, &request.name)?;
        self.commit(Command::Leave(node)).await?;
        info!(name = request.name, caller, "node is being removed");
        let mut watch = self.raft.state();
        let gone = watch.wait_for(|state| !state.nodes.contains_key(&node));
        match tokio::time::timeout(REMOVAL_TIMEOUT, gone).await {
            Ok(Ok(_)) => Ok(v1::RemoveNodeResponse {}),
            Ok(Err(_)) | Err(_) => Err(error(
                Kind::UnknownOutcome,
                format!("{} is leaving, but still a member: see `quorate node list`", request.name),
            )),
        }
    }

    async fn create_client(
        &self,
        caller: &str,
        request: v1::CreateClientRequest,
    ) -> Result<v1::CreateClientResponse, Status> {
        let state = self.state();
        let Some(authority) = &state.authority else {
            return Err(error(Kind::NotMember, "the cluster has no certificate authority yet"));
        };
        let certificate =
            authority::sign(authority, Holder::Client, &request.name, &request.public_key)
                .map_err(|cause| error(Kind::Invalid, cause.to_string()))?;
        let public_key = authority::sha256(&request.public_key);
        let endpoints = self.api_endpoints().await;
        if endpoints.is_empty() {
            return Err(error(
                Kind::Refused,
                "no node has an `api` address in its node.toml, so nothing could be reached with \
                 the certificate: add `api = \"ADDRESS:7401\"` and restart quorated",
            ));
        }
        self.commit(Command::AddClient { name: request.name.clone(), public_key }).await?;
        info!(name = request.name, caller, "client certificate made");
        let authority = authority.certificate.clone();
        Ok(v1::CreateClientResponse { certificate, authority, endpoints })
    }

    pub(crate) fn state(&self) -> Arc<ClusterState> {
        Arc::clone(&self.raft.state().borrow())
    }
}

/// Why Raft did not take a command, or does not say what became of it.
pub(super) fn not_proposed(cause: ProposeError) -> Status {
    match cause {
        // Nothing was written, and it may pass in a moment.
        ProposeError::NotLeader { .. } | ProposeError::NoQuorum | ProposeError::DiskFull(_) => {
            error(Kind::NotLeader, cause.to_string())
        }
        ProposeError::Stopped(cause) => error(Kind::UnknownOutcome, cause),
        ProposeError::Unknown(_) => error(
            Kind::UnknownOutcome,
            "no majority of the voters confirmed the write in time; it may still be applied: \
             see `quorate status`, and send the same request again",
        ),
    }
}

/// The node of this name.
pub(super) fn named(state: &ClusterState, name: &str) -> Result<NodeId, Status> {
    state.node_named(name).map(|(node, _)| node).ok_or_else(|| {
        let names = state.nodes.values().map(|record| record.description.name.to_string());
        let names = names.collect::<Vec<_>>().join(", ");
        error(Kind::Refused, format!("the cluster has no node {name:?}; it has {names}"))
    })
}

fn refusal(refused: &Refused) -> Status {
    let kind = match refused {
        Refused::Conflict { .. } => Kind::Conflict,
        Refused::NotUnconfirmed { .. } => Kind::Settled,
        Refused::Unconfirmed(_) => Kind::Unconfirmed,
        Refused::Configuration(_) => Kind::Invalid,
        Refused::Founding
        | Refused::Token
        | Refused::Full { .. }
        | Refused::DuplicateName(_)
        | Refused::DuplicateAddress { .. }
        | Refused::NoSuchNode(_)
        | Refused::NoSuchGroup(_)
        | Refused::NoSuchServer { .. }
        | Refused::LastNode
        | Refused::Evacuated(_)
        | Refused::Witness(_)
        | Refused::NotADirector(_) => Kind::Refused,
    };
    let revision = match refused {
        Refused::Conflict { current, .. }
        | Refused::NotUnconfirmed { current, .. }
        | Refused::Unconfirmed(current) => Some(current.0),
        _ => None,
    };
    detailed(kind, refused.to_string(), v1::ErrorDetail { revision, ..Default::default() })
}

pub(super) fn unexpected(reply: &Reply) -> Status {
    error(Kind::UnknownOutcome, format!("the log answered with {reply:?}: report this as a bug"))
}
