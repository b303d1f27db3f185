//! What operators order, as the leader takes it: evacuate, restore, pause, resume, and weights of
//! real servers.
//!
//! Nothing here waits for groups to move: whoever asks for an evacuation asks again.

use quorate_api::v1;
use quorate_model::command::{Command, GrantReason, Order, UnixMillis};
use quorate_model::director::DirectorView;
use quorate_model::id::{GroupName, NodeId, ServiceName};
use quorate_model::overrides::{self, Override};
use quorate_model::spec::{ClusterSpec, WEIGHT_MAX};
use quorate_model::state::{ClusterState, GrantRecord, Reply};
use tonic::Status;
use tracing::info;

use super::error::{Kind, error};
use super::leader::{named, not_proposed, unexpected};
use super::status::{rfc3339, why_nobody_else};
use crate::clock;
use crate::member::Member;

impl Member {
    /// Whether the order changed anything.
    async fn order(&self, command: Command) -> Result<bool, Status> {
        match self.commit(command).await? {
            Reply::Ordered { changed } => Ok(changed),
            other => Err(unexpected(&other)),
        }
    }

    pub(super) async fn evacuate(
        &self,
        caller: &str,
        request: v1::EvacuateRequest,
    ) -> Result<v1::EvacuateResponse, Status> {
        // Asked again and again while the groups move: only the first writes to the log.
        self.raft.catch_up().await.map_err(not_proposed)?;
        let state = self.state();
        let node = named(&state, &request.name)?;
        let changed = if state.is_evacuated(node) {
            false
        } else {
            let order = Order { author: caller.to_owned(), at: clock::wall() };
            self.order(Command::Evacuate { node, order: Some(order) }).await?
        };
        if changed {
            info!(name = request.name, caller, "evacuated: it gives its groups away");
        }
        let view = self.view().await?;
        Ok(left(&Left { node, changed, me: self.me, state: &self.state(), view: &view }))
    }

    pub(super) async fn restore(
        &self,
        caller: &str,
        request: v1::RestoreRequest,
    ) -> Result<v1::RestoreResponse, Status> {
        let node = named(&self.state(), &request.name)?;
        let changed = self.order(Command::Evacuate { node, order: None }).await?;
        if changed {
            info!(name = request.name, caller, "restored: it may own groups again");
        }
        Ok(v1::RestoreResponse { changed })
    }

    pub(super) async fn pause(&self, caller: &str) -> Result<v1::PauseResponse, Status> {
        let order = Order { author: caller.to_owned(), at: clock::wall() };
        let changed = self.order(Command::Pause(Some(order))).await?;
        if changed {
            info!(caller, "paused: no group moves by itself");
        }
        let paused = self.state().paused.clone();
        Ok(v1::PauseResponse {
            changed,
            paused_by: paused.as_ref().map(|order| order.author.clone()).unwrap_or_default(),
            paused_since: paused.map(|order| rfc3339(order.at)).unwrap_or_default(),
        })
    }

    pub(super) async fn resume(&self, caller: &str) -> Result<v1::ResumeResponse, Status> {
        let changed = self.order(Command::Pause(None)).await?;
        if changed {
            info!(caller, "resumed: groups move by themselves again");
        }
        Ok(v1::ResumeResponse { changed })
    }
}

impl Member {
    pub(super) async fn override_weight(
        &self,
        caller: &str,
        request: v1::OverrideWeightRequest,
    ) -> Result<v1::OverrideWeightResponse, Status> {
        // A follower of a moment ago may not know yet of what was applied before.
        self.raft.catch_up().await.map_err(not_proposed)?;
        let spec = std::sync::Arc::clone(&self.state().spec);
        let service = Some(request.service.as_str()).filter(|name| !name.is_empty());
        let servers = overrides::meant(&spec, &request.server, service)
            .map_err(|cause| error(Kind::Refused, cause.to_string()))?;
        let at = clock::wall();
        let to = match request.weight {
            None => None,
            Some(weight) => {
                if weight > WEIGHT_MAX {
                    let text = format!("{weight} is no weight: it is 0 to {WEIGHT_MAX}");
                    return Err(error(Kind::Invalid, text));
                }
                if weight == 0 {
                    heeds_weights(&spec, &servers)?;
                }
                if request.ttl_ms.is_some_and(|ttl| ttl > TTL_MAX_MS) {
                    let text = "the time after which it ends is a year at most";
                    return Err(error(Kind::Invalid, text));
                }
                let until = request.ttl_ms.map(|ttl| UnixMillis(at.0.saturating_add(ttl)));
                let order = Order { author: caller.to_owned(), at };
                Some(Override { weight, order, until })
            }
        };
        let command = Command::Override { servers: servers.clone(), to };
        let changed = self.order(command).await?;
        if changed {
            let weight = request.weight;
            info!(server = request.server, ?weight, caller, "weight of a real server ordered");
        }
        let servers = servers.into_iter().map(|(service, address)| v1::OverriddenServer {
            service: service.to_string(),
            address: address.to_string(),
        });
        Ok(v1::OverrideWeightResponse { changed, servers: servers.collect() })
    }
}

/// The longest that a weight may be overridden for, if not for good: a year.
const TTL_MAX_MS: u64 = 366 * 24 * 3_600 * 1_000;

/// Else the clients of a drained real server would be refused (`Scheduler::heeds_weights`).
fn heeds_weights(
    spec: &ClusterSpec,
    servers: &[(ServiceName, std::net::SocketAddr)],
) -> Result<(), Status> {
    let by = |name: &ServiceName| spec.services.get(name).map(|service| service.scheduler);
    let heedless = |(name, _): &&(ServiceName, _)| {
        by(name).is_some_and(|scheduler| !scheduler.heeds_weights())
    };
    let Some((name, server)) = servers.iter().find(heedless) else { return Ok(()) };
    let text = format!(
        "scheduler dh of service {name} heeds no weights, and would refuse the clients of {server}: \
         give the service another scheduler first, or take the real server out of the configuration"
    );
    Err(error(Kind::Refused, text))
}

/// What the leader knows of an evacuation.
struct Left<'a> {
    node: NodeId,
    changed: bool,
    me: NodeId,
    state: &'a ClusterState,
    view: &'a DirectorView,
}

/// What an evacuated director still has to give away, and what it keeps.
fn left(known: &Left<'_>) -> v1::EvacuateResponse {
    let mut moving = Vec::new();
    let mut staying = Vec::new();
    for (group, grant) in &known.state.grants {
        if grant.owner != known.node {
            // Granted to another already, who may not serve it yet.
            if grant.reason == GrantReason::Evacuated && !holds(known, group, grant) {
                moving.push(group.to_string());
            }
            continue;
        }
        let candidates = known.view.candidates.get(group).map(Vec::as_slice).unwrap_or_default();
        if candidates.iter().any(|&candidate| candidate != known.node) {
            moving.push(group.to_string());
        } else {
            let reason = why_nobody_else(known.state, known.view, group);
            staying.push(v1::StayingGroup { group: group.to_string(), reason });
        }
    }
    v1::EvacuateResponse { changed: known.changed, moving, staying }
}

fn holds(known: &Left<'_>, group: &GroupName, grant: &GrantRecord) -> bool {
    if grant.owner == known.me {
        known.view.held.get(group).is_some_and(|(epoch, _)| *epoch == grant.epoch)
    } else {
        known.view.heard.get(group) == Some(&grant.epoch)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;

    use quorate_model::command::{Digest, NodeDescription};
    use quorate_model::id::{Epoch, Incarnation, Role};
    use quorate_model::ownership::message::Obstacle;
    use quorate_model::spec::{Format, parse};
    use quorate_model::state::NodeRecord;

    use super::*;

    const CONFIGURATION: &str = "[group.web]\ninterface = \"public\"\n\
                                 addresses = [\"10.0.0.100/32\"]\n";

    fn web() -> GroupName {
        "web".parse().unwrap()
    }

    /// Directors n1, which leads, n2, and n3; web belongs to this one. n2 is evacuated.
    fn world(owner: u64, reason: GrantReason) -> (ClusterState, DirectorView) {
        let spec = Arc::new(parse(CONFIGURATION, Format::Toml).unwrap());
        let mut state = ClusterState { spec, ..ClusterState::default() };
        for id in (1..=3).map(NodeId) {
            let description = NodeDescription {
                name: format!("n{id}").parse().unwrap(),
                role: Role::Director,
                links: Vec::new(),
                public_key: Digest([0; 32]),
            };
            state.nodes.insert(id, NodeRecord { description, leaving: false });
        }
        let order = Order { author: "ada".to_owned(), at: UnixMillis(0) };
        state.evacuated.insert(NodeId(2), order);
        let grant = GrantRecord {
            epoch: Epoch(7),
            owner: NodeId(owner),
            incarnation: Incarnation(owner),
            reason,
            at: UnixMillis(0),
        };
        state.grants.insert(web(), grant);
        let view = DirectorView {
            candidates: BTreeMap::from([(web(), vec![NodeId(1), NodeId(3)])]),
            heard: BTreeMap::from([(web(), Epoch(7))]),
            ..DirectorView::default()
        };
        (state, view)
    }

    fn told(state: &ClusterState, view: &DirectorView) -> (Vec<String>, Vec<String>) {
        let node = NodeId(2);
        let told = left(&Left { node, changed: false, me: NodeId(1), state, view });
        let staying = told.staying.into_iter().map(|s| format!("{}: {}", s.group, s.reason));
        (told.moving, staying.collect())
    }

    #[test]
    fn a_group_moves_until_its_next_owner_holds_the_lease() {
        let moving = (vec!["web".to_owned()], vec![]);
        let (state, view) = world(2, GrantReason::First);
        assert_eq!(told(&state, &view), moving, "not granted yet");
        for next in [1, 3] {
            let (state, mut view) = world(next, GrantReason::Evacuated);
            view.heard.clear();
            assert_eq!(told(&state, &view), moving, "n{next} does not hold it yet");
            view.heard.insert(web(), Epoch(7));
            view.held.insert(web(), (Epoch(7), std::time::Duration::from_secs(1)));
            assert_eq!(told(&state, &view), (vec![], vec![]));
        }
    }

    #[test]
    fn a_group_that_nobody_else_can_take_stays_and_why_is_told_for_each_director() {
        let (state, mut view) = world(2, GrantReason::First);
        view.candidates.clear();
        let down = BTreeMap::from([(web(), BTreeSet::from([Obstacle::DeviceDown]))]);
        view.obstacles.insert(NodeId(3), down);
        let why = "web: n1 is unreachable; n3: the device is down";
        assert_eq!(told(&state, &view), (vec![], vec![why.to_owned()]));
    }
}
