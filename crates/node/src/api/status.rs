//! What `status` shows, composed from what this node knows and what the others answered. Pure:
//! whoever asks gathers first. Tests: `status/tests.rs`.

use std::collections::{BTreeMap, BTreeSet};

use quorate_api::peer::v1::{ObserveResponse, ObservedLink};
use quorate_api::v1::{
    ClusterStatus, GroupReach, GroupStatus, Health, IneligibleDirector, LinkStatus, NodeState,
    NodeStatus, OtherView, RaftRole, RealServerState, RealServerStatus, ServiceStatus,
    StatusResponse,
};
use quorate_model::command::UnixMillis;
use quorate_model::director::DirectorView;
use quorate_model::id::{GroupName, NodeId, Role};
use quorate_model::membership::Membership;
use quorate_model::reach::Reach;
use quorate_model::state::{ClusterState, GrantRecord, NodeRecord};

#[cfg(test)]
mod tests;

/// What is known when `status` is asked.
#[derive(Debug)]
pub(crate) struct Knowledge<'a> {
    /// This node.
    pub(crate) me: NodeId,
    /// Its wall clock.
    pub(crate) now: UnixMillis,
    /// The replicated state as applied here.
    pub(crate) state: &'a ClusterState,
    /// Who votes, as this node knows it.
    pub(crate) membership: &'a Membership,
    /// The Raft leader as this node knows it.
    pub(crate) leader: Option<NodeId>,
    /// Raft's term.
    pub(crate) term: u64,
    /// The last entry known to be committed.
    pub(crate) committed: u64,
    /// This node's director.
    pub(crate) view: &'a DirectorView,
    /// What each node said of itself, this one included; those that did not answer are missing.
    pub(crate) answers: &'a BTreeMap<NodeId, ObserveResponse>,
}

/// The answer to `status`.
pub(crate) fn compose(known: &Knowledge<'_>) -> StatusResponse {
    let groups: Vec<GroupStatus> =
        known.state.spec.groups.keys().map(|group| known.group(group)).collect();
    let nodes: Vec<NodeStatus> =
        known.state.nodes.iter().map(|(id, record)| known.node(*id, record, &groups)).collect();
    StatusResponse {
        member: true,
        cluster: Some(known.cluster(&nodes, &groups)),
        services: known.services(),
        answered_by: known.name(known.me).unwrap_or_default(),
        nodes,
        groups,
    }
}

impl Knowledge<'_> {
    fn name(&self, node: NodeId) -> Option<String> {
        self.state.nodes.get(&node).map(|record| record.description.name.to_string())
    }

    /// The node that holds a group's lease, if a live one is known: what that node itself says
    /// counts before what was heard of it.
    fn holder(&self, group: &GroupName) -> Option<(NodeId, &GrantRecord)> {
        let grant = self.state.grants.get(group)?;
        let says_so = self.held_by_answer(group, grant).is_some();
        let heard = self.view.heard.get(group) == Some(&grant.epoch);
        // A cut-off node names nobody: what it heard may be long over elsewhere.
        (says_so || (heard && self.view.quorate)).then_some((grant.owner, grant))
    }

    fn held_by_answer(&self, group: &GroupName, grant: &GrantRecord) -> Option<u64> {
        let answer = self.answers.get(&grant.owner)?;
        let held = answer.held.iter().find(|held| held.group == group.as_str())?;
        (held.epoch == grant.epoch.0).then_some(held.lease_remaining_ms)
    }

    fn group(&self, group: &GroupName) -> GroupStatus {
        let settings = self.state.spec.groups.get(group);
        let grant = self.state.grants.get(group);
        let holder = self.holder(group).map(|(node, _)| node);
        let candidates = self.view.candidates.get(group).map(Vec::as_slice).unwrap_or_default();
        let standby = candidates.iter().filter(|&&node| Some(node) != holder);
        GroupStatus {
            name: group.to_string(),
            addresses: settings
                .map(|s| s.addresses.iter().map(|vip| vip.net.to_string()).collect())
                .unwrap_or_default(),
            owner: holder.and_then(|node| self.name(node)),
            epoch: grant.map_or(0, |grant| grant.epoch.0),
            lease_remaining_ms: grant.and_then(|grant| self.held_by_answer(group, grant)),
            since: grant.map(|grant| rfc3339(grant.at)),
            standby: standby.filter_map(|&node| self.name(node)).collect(),
            reason: self.group_reason(group, grant, holder.is_some()),
            reach: self.reach(group),
            ineligible: ineligible(self.state, self.view, group)
                .into_iter()
                .map(|Ineligible { node, reason, .. }| IneligibleDirector { node, reason })
                .collect(),
        }
    }

    fn reach(&self, group: &GroupName) -> Vec<GroupReach> {
        let reach = |(node, groups): (&NodeId, &BTreeMap<GroupName, Reach>)| {
            let &Reach { up, down, all, .. } = groups.get(group)?;
            Some(GroupReach { node: self.name(*node)?, up, down, all })
        };
        self.view.reach.iter().filter_map(reach).collect()
    }

    /// Why the owner is who it is, or why there is none.
    fn group_reason(&self, group: &GroupName, grant: Option<&GrantRecord>, held: bool) -> String {
        let pin = self.pin(group);
        let paused = self.state.paused.is_some();
        match grant {
            Some(grant) if held => format!("{}{pin}{}", grant.reason, self.stays(group, grant)),
            _ if !self.view.quorate => {
                "no quorum: fewer than half of the voters are heard of here".to_owned()
            }
            Some(grant) => {
                let owner = self.name(grant.owner).unwrap_or_else(|| "a removed node".to_owned());
                let paused =
                    if paused { "; the cluster is paused: nothing moves by itself" } else { "" };
                format!(
                    "granted to {owner} ({}), whose lease does not run{pin}{paused}",
                    grant.reason
                )
            }
            None if paused => format!(
                "the cluster is paused, so nobody is granted it: `quorate transfer {group}`, or \
                 `quorate resume`"
            ),
            None => {
                let why = why_nobody_else(self.state, self.view, group);
                format!("no director is eligible: {why}")
            }
        }
    }

    fn pin(&self, group: &GroupName) -> String {
        let Some(&node) = self.state.pins.get(group) else { return String::new() };
        let name = self.name(node).unwrap_or_else(|| "a removed node".to_owned());
        let evacuated = if self.state.is_evacuated(node) { ", which is evacuated" } else { "" };
        format!("; pinned to {name}{evacuated}")
    }

    /// Why an evacuated owner still has the group, if it will keep it.
    fn stays(&self, group: &GroupName, grant: &GrantRecord) -> String {
        let candidates = self.view.candidates.get(group).map(Vec::as_slice).unwrap_or_default();
        if !self.state.is_evacuated(grant.owner) || !candidates.is_empty() {
            return String::new();
        }
        let why = why_nobody_else(self.state, self.view, group);
        format!("; its owner is evacuated, and no other director is eligible: {why}")
    }

    fn node(&self, id: NodeId, record: &NodeRecord, groups: &[GroupStatus]) -> NodeStatus {
        let name = record.description.name.to_string();
        let answer = self.answers.get(&id);
        let reachable = self.is_reachable(id);
        let voter = self.membership.voters().contains(&id);
        let state = match (reachable, voter) {
            (false, _) => NodeState::Unreachable,
            (true, false) => NodeState::Joining,
            (true, true) if self.state.is_evacuated(id) => NodeState::Evacuated,
            (true, true) => NodeState::Ready,
        };
        let raft = match (reachable, voter) {
            _ if self.leader == Some(id) => RaftRole::Leader,
            (false, _) => RaftRole::Unknown,
            (true, true) => RaftRole::Follower,
            (true, false) => RaftRole::Learner,
        };
        let owns = groups.iter().filter(|group| group.owner.as_ref() == Some(&name));
        let mut problems: Vec<String> = answer.map(|a| a.problems.clone()).unwrap_or_default();
        let down = self.links_down(id).map(|(link, to)| format!("link {link} to {to} is down"));
        problems.extend(down);
        if record.leaving {
            problems.push("is being removed from the cluster".to_owned());
        }
        if let Some(order) = self.state.evacuated.get(&id) {
            let (author, since) = (&order.author, rfc3339(order.at));
            problems.push(format!(
                "evacuated by {author} since {since}: `quorate restore {name}` ends it"
            ));
        }
        NodeStatus {
            owns: owns.map(|group| group.name.clone()).collect(),
            name,
            id: id.0,
            role: record.description.role.to_string(),
            raft: raft.into(),
            state: state.into(),
            version: answer.map(|a| a.version.clone()).unwrap_or_default(),
            problems,
            links: self.links(id),
            sync: answer.and_then(|answer| answer.sync.clone()),
            revision: answer.and_then(|answer| answer.revision),
            programmed_revision: answer.and_then(|answer| answer.programmed_revision),
        }
    }

    fn is_reachable(&self, node: NodeId) -> bool {
        node == self.me || self.view.reachable.contains(&node) || self.answers.contains_key(&node)
    }

    /// The links of a node as it sees them.
    fn links(&self, id: NodeId) -> Vec<LinkStatus> {
        let links = self.answers.get(&id).map(|a| a.links.as_slice()).unwrap_or_default();
        let status = |link: &ObservedLink| {
            Some(LinkStatus {
                name: link.name.clone(),
                to: self.name(NodeId(link.to))?,
                up: link.up,
                loss_ppm: link.loss_ppm,
                round_trip_us: link.round_trip_us,
            })
        };
        links.iter().filter_map(status).collect()
    }

    /// The links of a node that are down though the node at the other end is not: those to a dead
    /// one say nothing new.
    fn links_down(&self, id: NodeId) -> impl Iterator<Item = (&str, String)> {
        let links = self.answers.get(&id).map(|a| a.links.as_slice()).unwrap_or_default();
        let down = links.iter().filter(|link| !link.up && self.is_reachable(NodeId(link.to)));
        down.filter_map(|link| Some((link.name.as_str(), self.name(NodeId(link.to))?)))
    }

    fn has_full_disk(&self, node: NodeId) -> bool {
        self.answers.get(&node).is_some_and(|answer| answer.disk_full)
    }

    fn cluster(&self, nodes: &[NodeStatus], groups: &[GroupStatus]) -> ClusterStatus {
        let voters = self.membership.voters();
        let reachable: BTreeSet<NodeId> = voters
            .iter()
            .copied()
            .filter(|node| *node == self.me || self.view.reachable.contains(node))
            .collect();
        let quorate = self.view.quorate && self.leader.is_some();
        let whole = nodes.iter().all(|node| node.state == NodeState::Ready as i32)
            && groups.iter().all(|group| group.owner.is_some())
            && self.state.paused.is_none()
            && self.no_director_hindered()
            && self.view.disagreed.is_empty()
            && !self.state.nodes.keys().any(|&node| self.has_full_disk(node))
            && self.state.nodes.keys().all(|&node| self.links_down(node).next().is_none());
        let health = match (quorate, whole) {
            (false, _) => Health::NoQuorum,
            (true, false) => Health::Degraded,
            (true, true) => Health::Ok,
        };
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        // Who can't take a grant is no help once another one is lost.
        let able = reachable.iter().filter(|&&node| !self.has_full_disk(node)).count();
        let unconfirmed = self.state.unconfirmed.as_ref();
        let tolerated = able.saturating_sub(voters.len() / 2 + 1);
        ClusterStatus {
            id: format!("{:032x}", self.state.cluster_id),
            name: self.state.name.clone(),
            health: health.into(),
            leader: self.leader.and_then(|leader| self.name(leader)),
            term: self.term,
            commit_index: self.committed,
            revision: self.state.revision().0,
            unconfirmed_until: unconfirmed.map(|unconfirmed| rfc3339(unconfirmed.until)),
            unconfirmed_left_ms: unconfirmed.map(|unconfirmed| {
                u64::try_from(unconfirmed.left(self.now).as_millis()).unwrap_or(u64::MAX)
            }),
            voters: count(voters.len()),
            voters_reachable: count(reachable.len()),
            failures_tolerated: count(tolerated),
            paused: self.state.paused.is_some(),
            paused_by: self.state.paused.as_ref().map(|order| order.author.clone()),
            paused_since: self.state.paused.as_ref().map(|order| rfc3339(order.at)),
        }
    }

    fn no_director_hindered(&self) -> bool {
        let directors = self
            .state
            .nodes
            .iter()
            .filter(|(_, record)| record.description.role == Role::Director && !record.leaving);
        directors
            .filter_map(|(id, _)| self.view.obstacles.get(id))
            .all(|groups| groups.values().all(BTreeSet::is_empty))
    }

    /// Each service as its group's owner sees it, or as this node does where no owner answers.
    fn services(&self) -> Vec<ServiceStatus> {
        // There may be ten thousand.
        let by_name = |answer: &'_ ObserveResponse| -> BTreeMap<String, usize> {
            answer.services.iter().enumerate().map(|(at, s)| (s.name.clone(), at)).collect()
        };
        let places: BTreeMap<NodeId, _> =
            self.answers.iter().map(|(node, answer)| (*node, by_name(answer))).collect();
        let found = |node: NodeId, name: &str| {
            self.answers.get(&node)?.services.get(*places.get(&node)?.get(name)?)
        };
        let of = |node: NodeId, name: &str| {
            let mut service = found(node, name)?.clone();
            service.seen_by = self.name(node).unwrap_or_default();
            for other in self.answers.keys().filter(|other| **other != node) {
                if let (Some(seen), Some(by)) = (found(*other, name), self.name(*other)) {
                    see_otherwise(&mut service, seen, &by);
                }
            }
            Some(service)
        };
        let mut names: BTreeMap<&str, &str> = BTreeMap::new();
        // Services that left the configuration, and keep their connections for a while.
        for service in self.answers.values().flat_map(|answer| &answer.services) {
            names.insert(&service.name, &service.group);
        }
        for (name, service) in &self.state.spec.services {
            names.insert(name.as_str(), service.group.as_str());
        }
        names
            .into_iter()
            .filter_map(|(name, group)| {
                let group: Option<GroupName> = group.parse().ok();
                let owner = group.and_then(|group| self.holder(&group)).map(|(id, _)| id);
                let seen = owner.and_then(|owner| of(owner, name)).or_else(|| of(self.me, name));
                // One that left may be known to others only: to directors, and to those that did not
                // start meanwhile.
                seen.or_else(|| self.answers.keys().find_map(|node| of(*node, name)))
            })
            .collect()
    }
}

/// Notes what another director sees otherwise of a service's real servers.
fn see_otherwise(service: &mut ServiceStatus, seen: &ServiceStatus, by: &str) {
    use RealServerState::{Down, Up};
    let others: BTreeMap<&str, &RealServerStatus> =
        seen.real_servers.iter().map(|server| (server.address.as_str(), server)).collect();
    for server in &mut service.real_servers {
        let Some(other) = others.get(server.address.as_str()) else { continue };
        if matches!((server.state(), other.state()), (Up, Down) | (Down, Up)) {
            server.otherwise.push(OtherView {
                node: by.to_owned(),
                state: other.state,
                reason: other.reason.clone(),
            });
        }
    }
}

/// A director that can't be granted a group.
struct Ineligible {
    node: String,
    /// `evacuated`, `unreachable`, or an obstacle that it tells of itself.
    reason: String,
    obstacle: bool,
}

impl Ineligible {
    fn sentence(&self) -> String {
        let Self { node, reason, obstacle } = self;
        if *obstacle { format!("{node}: {reason}") } else { format!("{node} is {reason}") }
    }
}

/// What keeps each director from being granted a group, but for the one that was.
fn ineligible(state: &ClusterState, view: &DirectorView, group: &GroupName) -> Vec<Ineligible> {
    let owner = state.grants.get(group).map(|grant| grant.owner);
    let mut found = Vec::new();
    for (id, record) in &state.nodes {
        if !state.may_own(*id, group) || Some(*id) == owner {
            continue;
        }
        let node = record.description.name.to_string();
        let mut out = |reason: String, obstacle| {
            found.push(Ineligible { node: node.clone(), reason, obstacle });
        };
        match view.obstacles.get(id) {
            _ if state.is_evacuated(*id) => out("evacuated".to_owned(), false),
            None => out("unreachable".to_owned(), false),
            Some(obstacles) => {
                let obstacles = obstacles.get(group).into_iter().flatten();
                obstacles.for_each(|obstacle| out(obstacle.to_string(), true));
            }
        }
    }
    found
}

/// The same in a line.
pub(crate) fn why_nobody_else(
    state: &ClusterState,
    view: &DirectorView,
    group: &GroupName,
) -> String {
    let reasons: Vec<String> =
        ineligible(state, view, group).iter().map(Ineligible::sentence).collect();
    match state.grants.get(group) {
        _ if !reasons.is_empty() => reasons.join("; "),
        None => "none is allowed to own it".to_owned(),
        Some(_) => "no other one is allowed to own it".to_owned(),
    }
}

/// A time as people and programs read it.
pub(crate) fn rfc3339(time: UnixMillis) -> String {
    i64::try_from(time.0)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .map(|timestamp| timestamp.to_string())
        .unwrap_or_default()
}
