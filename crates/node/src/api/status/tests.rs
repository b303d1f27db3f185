//! What `status` says, and when it rather says nothing.

use std::sync::Arc;

use quorate_api::peer::v1::{HeldGroup, ObservedLink};
use quorate_api::v1::{RealServerState, RealServerStatus};
use quorate_model::command::{Digest, GrantReason, NodeDescription, Order};
use quorate_model::id::{Epoch, Incarnation};
use quorate_model::ownership::message::Obstacle;
use quorate_model::spec::{Format, parse};

use super::*;

const CONFIGURATION: &str = r#"
[group.web]
interface = "public"
addresses = ["10.0.0.100/32"]

[service.web]
group = "web"
listen = "tcp/10.0.0.100:80"
forward = "DR"
real_servers = [{ address = "10.0.0.11:80" }]
"#;

fn web() -> GroupName {
    "web".parse().unwrap()
}

/// Everything that a node knows when it is asked.
struct World {
    state: ClusterState,
    membership: Membership,
    leader: Option<NodeId>,
    view: DirectorView,
    answers: BTreeMap<NodeId, ObserveResponse>,
}

impl World {
    /// Nodes n1 to this many, all directors and voters, all reachable; n1 answers and leads.
    fn of(nodes: u64) -> Self {
        let ids: Vec<NodeId> = (1..=nodes).map(NodeId).collect();
        let description = |id: &NodeId| NodeDescription {
            name: format!("n{id}").parse().unwrap(),
            role: Role::Director,
            links: Vec::new(),
            public_key: Digest([0; 32]),
        };
        let nodes = ids.iter().map(|id| (*id, description(id)));
        let records =
            nodes.clone().map(|(id, d)| (id, NodeRecord { description: d, leaving: false }));
        Self {
            state: ClusterState {
                cluster_id: 0xabc,
                spec: Arc::new(parse(CONFIGURATION, Format::Toml).unwrap()),
                nodes: records.collect(),
                ..ClusterState::default()
            },
            membership: Membership {
                configs: vec![ids.iter().copied().collect()],
                nodes: nodes.collect(),
            },
            leader: Some(NodeId(1)),
            view: DirectorView {
                quorate: true,
                reachable: ids.iter().copied().collect(),
                obstacles: ids.iter().map(|id| (*id, BTreeMap::new())).collect(),
                candidates: BTreeMap::from([(web(), ids.clone())]),
                ..DirectorView::default()
            },
            answers: ids.iter().map(|id| (*id, ObserveResponse::default())).collect(),
        }
    }

    /// Three nodes; this one was granted web at epoch 7 and says that it holds it.
    fn owned_by(owner: u64) -> Self {
        let mut world = Self::of(3);
        let grant = GrantRecord {
            epoch: Epoch(7),
            owner: NodeId(owner),
            incarnation: Incarnation(owner),
            reason: GrantReason::OwnerSilent,
            at: UnixMillis(1_000),
        };
        world.state.grants.insert(web(), grant);
        world.view.heard.insert(web(), Epoch(7));
        world.says_it_holds(owner, 7);
        world
    }

    fn says_it_holds(&mut self, node: u64, epoch: u64) {
        let held = HeldGroup { group: "web".to_owned(), epoch, lease_remaining_ms: 400 };
        self.answers.get_mut(&NodeId(node)).unwrap().held = vec![held];
    }

    /// A node neither reports nor answers.
    fn lose(&mut self, node: u64) {
        let node = NodeId(node);
        self.view.reachable.remove(&node);
        self.view.obstacles.remove(&node);
        self.answers.remove(&node);
        if let Some(candidates) = self.view.candidates.get_mut(&web()) {
            candidates.retain(|candidate| *candidate != node);
        }
        self.view.quorate = self.view.reachable.len() * 2 > self.state.nodes.len();
    }

    fn compose(&self) -> StatusResponse {
        compose(&Knowledge {
            me: NodeId(1),
            now: UnixMillis(4_000),
            state: &self.state,
            membership: &self.membership,
            leader: self.leader,
            term: 4,
            committed: 9,
            view: &self.view,
            answers: &self.answers,
        })
    }

    fn group(&self) -> GroupStatus {
        self.compose().groups.remove(0)
    }

    fn cluster(&self) -> ClusterStatus {
        self.compose().cluster.unwrap()
    }

    fn node(&self, number: usize) -> NodeStatus {
        self.compose().nodes.remove(number - 1)
    }
}

#[test]
fn the_owner_is_who_says_that_it_holds_the_granted_epoch() {
    let group = World::owned_by(2).group();
    assert_eq!(group.owner.as_deref(), Some("n2"));
    assert_eq!(group.lease_remaining_ms, Some(400));
    assert_eq!((group.epoch, group.reason.as_str()), (7, "owner silent"));
    assert_eq!(group.since.as_deref(), Some("1970-01-01T00:00:01Z"));
    assert_eq!(group.addresses, ["10.0.0.100/32"]);
    assert_eq!(group.standby, ["n1", "n3"]);
    assert_eq!(World::owned_by(2).node(2).owns, ["web"]);
}

#[test]
fn an_owner_that_does_not_answer_but_is_heard_is_still_named() {
    let mut world = World::owned_by(2);
    world.answers.remove(&NodeId(2));
    let group = world.group();
    assert_eq!(group.owner.as_deref(), Some("n2"));
    assert_eq!(group.lease_remaining_ms, None, "only the owner knows");
}

#[test]
fn a_cut_off_node_names_no_owner() {
    let mut world = World::owned_by(2);
    world.lose(2);
    world.lose(3);
    let group = world.group();
    assert_eq!(group.owner, None, "what it heard may be over elsewhere");
    assert!(group.reason.starts_with("no quorum"), "{}", group.reason);
    assert_eq!(world.node(2).owns, [""; 0]);
}

#[test]
fn a_node_that_says_it_holds_an_epoch_that_is_over_is_no_owner() {
    let mut world = World::owned_by(2);
    world.view.heard.clear();
    world.says_it_holds(2, 6);
    let group = world.group();
    assert_eq!((group.owner, group.lease_remaining_ms), (None, None));
    assert_eq!(group.reason, "granted to n2 (owner silent), whose lease does not run");
}

#[test]
fn a_pin_is_told() {
    let mut world = World::owned_by(2);
    world.state.pins.insert(web(), NodeId(2));
    assert_eq!(world.group().reason, "owner silent; pinned to n2");
}

#[test]
fn why_nobody_is_granted_a_group_is_told_for_each_director() {
    let mut world = World::of(3);
    let obstacles = BTreeMap::from([(web(), BTreeSet::from([Obstacle::NoIpvs]))]);
    world.view.obstacles.insert(NodeId(2), obstacles);
    world.lose(3);
    world.view.quorate = true;
    assert_eq!(
        world.group().reason,
        "no director is eligible: n2: the kernel has no ip_vs; n3 is unreachable"
    );
    let each: Vec<_> =
        world.group().ineligible.into_iter().map(|out| (out.node, out.reason)).collect();
    let each: Vec<(&str, &str)> = each.iter().map(|(n, r)| (n.as_str(), r.as_str())).collect();
    assert_eq!(each, [("n2", "the kernel has no ip_vs"), ("n3", "unreachable")]);
    let mut world = World::of(1);
    world.state.nodes.get_mut(&NodeId(1)).unwrap().leaving = true;
    assert_eq!(world.group().reason, "no director is eligible: none is allowed to own it");
}

#[test]
fn as_many_failures_are_tolerated_as_voters_may_go_before_the_quorum_does() {
    let cases = [(3, 3, 1), (3, 2, 0), (5, 5, 2), (5, 4, 1), (4, 4, 1), (1, 1, 0), (3, 1, 0)];
    for (voters, reachable, tolerated) in cases {
        let mut world = World::of(voters);
        for node in reachable + 1..=voters {
            world.lose(node);
        }
        let cluster = world.cluster();
        assert_eq!(u64::from(cluster.voters), voters);
        assert_eq!(u64::from(cluster.voters_reachable), reachable);
        assert_eq!(cluster.failures_tolerated, tolerated, "{reachable} of {voters}");
    }
}

#[test]
fn health_is_ok_only_while_nothing_is_missing() {
    assert_eq!(World::owned_by(2).cluster().health(), Health::Ok);

    let mut world = World::owned_by(2);
    world.lose(3);
    assert_eq!(world.cluster().health(), Health::Degraded, "a node is gone");

    assert_eq!(World::of(3).cluster().health(), Health::Degraded, "a group has no owner");

    let mut world = World::owned_by(2);
    let obstacles = BTreeMap::from([(web(), BTreeSet::from([Obstacle::DeviceDown]))]);
    world.view.obstacles.insert(NodeId(3), obstacles);
    assert_eq!(world.cluster().health(), Health::Degraded, "a standby could not take over");

    let mut world = World::owned_by(2);
    world.membership.configs[0].remove(&NodeId(3));
    assert_eq!(world.cluster().health(), Health::Degraded, "a node does not vote yet");

    let mut world = World::owned_by(2);
    world.answers.entry(NodeId(3)).or_default().disk_full = true;
    let cluster = world.cluster();
    assert_eq!(cluster.health(), Health::Degraded, "a node takes no entries");
    assert_eq!(cluster.failures_tolerated, 0, "the two others are needed for every grant");
}

#[test]
fn without_a_quorum_or_a_leader_health_says_no_quorum() {
    let mut world = World::owned_by(2);
    world.lose(2);
    world.lose(3);
    assert_eq!(world.cluster().health(), Health::NoQuorum);
    let mut world = World::owned_by(2);
    world.leader = None;
    let cluster = world.cluster();
    assert_eq!((cluster.health(), cluster.leader), (Health::NoQuorum, None));
}

#[test]
fn a_node_is_unreachable_joining_or_ready() {
    let mut world = World::of(4);
    world.lose(2);
    world.membership.configs[0].remove(&NodeId(3));
    let states: Vec<_> = (1..=4).map(|n| (world.node(n).state(), world.node(n).raft())).collect();
    assert_eq!(
        states,
        [
            (NodeState::Ready, RaftRole::Leader),
            (NodeState::Unreachable, RaftRole::Unknown),
            (NodeState::Joining, RaftRole::Learner),
            (NodeState::Ready, RaftRole::Follower),
        ]
    );
}

#[test]
fn a_node_that_answers_is_reachable_though_it_reported_nothing_lately() {
    let mut world = World::of(3);
    world.view.reachable.remove(&NodeId(2));
    assert_eq!(world.node(2).state(), NodeState::Ready);
}

#[test]
fn a_nodes_problems_are_its_own_and_that_it_leaves() {
    let mut world = World::of(3);
    world.answers.get_mut(&NodeId(2)).unwrap().problems = vec!["no ip_vs".to_owned()];
    world.state.nodes.get_mut(&NodeId(2)).unwrap().leaving = true;
    assert_eq!(world.node(2).problems, ["no ip_vs", "is being removed from the cluster"]);
}

/// Web as a node sees it.
fn service(active: u64, state: RealServerState) -> Vec<ServiceStatus> {
    let server = RealServerStatus { active, state: state.into(), ..RealServerStatus::default() };
    let name = "web".to_owned();
    vec![ServiceStatus { name, real_servers: vec![server], ..ServiceStatus::default() }]
}

#[test]
fn services_are_shown_as_the_owner_sees_them() {
    let mut world = World::owned_by(2);
    let own = service(0, RealServerState::Up);
    let owners = service(12, RealServerState::Down);
    world.answers.get_mut(&NodeId(1)).unwrap().services = own.clone();
    world.answers.get_mut(&NodeId(2)).unwrap().services = owners.clone();
    let seen_by = |services: Vec<ServiceStatus>, name: &str| {
        let of = |service| ServiceStatus { seen_by: name.to_owned(), ..service };
        services.into_iter().map(of).collect::<Vec<_>>()
    };
    let mut shown = world.compose().services;
    for server in shown.iter_mut().flat_map(|service| &mut service.real_servers) {
        assert_eq!(server.otherwise.iter().map(|o| o.node.as_str()).collect::<Vec<_>>(), ["n1"]);
        server.otherwise.clear();
    }
    assert_eq!(shown, seen_by(owners, "n2"));
    world.answers.remove(&NodeId(2));
    assert_eq!(world.compose().services, seen_by(own, "n1"), "the owner does not answer");
}

#[test]
fn the_cluster_is_told_as_this_node_knows_it() {
    let status = World::owned_by(2).compose();
    let cluster = status.cluster.unwrap();
    assert_eq!(cluster.id, format!("{:0>32}", "abc"));
    assert_eq!(cluster.leader.as_deref(), Some("n1"));
    assert_eq!((cluster.term, cluster.commit_index), (4, 9));
    assert_eq!((status.answered_by.as_str(), status.member), ("n1", true));
}

fn order() -> Order {
    Order { author: "client ada".to_owned(), at: UnixMillis(1_000) }
}

#[test]
fn an_evacuated_node_says_who_ordered_it_and_how_it_ends_and_its_cluster_is_degraded() {
    let mut world = World::owned_by(1);
    world.state.evacuated.insert(NodeId(2), order());
    let node = world.node(2);
    assert_eq!(node.state(), NodeState::Evacuated);
    assert_eq!(
        node.problems,
        ["evacuated by client ada since 1970-01-01T00:00:01Z: `quorate restore n2` ends it"]
    );
    assert_eq!(world.cluster().health(), Health::Degraded);
    world.lose(2);
    assert_eq!(world.node(2).state(), NodeState::Unreachable, "which is worse");
}

#[test]
fn why_a_group_stays_on_an_evacuated_owner_is_told() {
    let mut world = World::owned_by(2);
    world.state.evacuated.insert(NodeId(2), order());
    assert_eq!(world.group().reason, "owner silent", "it is about to move");
    world.view.candidates.clear();
    world.state.evacuated.insert(NodeId(3), order());
    world.lose(1);
    assert_eq!(
        world.group().reason,
        "owner silent; its owner is evacuated, and no other director is eligible: n1 is \
         unreachable; n3 is evacuated"
    );
    let only = CONFIGURATION.replace("interface", "only = [\"n2\"]\ninterface");
    world.state.spec = Arc::new(parse(&only, Format::Toml).unwrap());
    assert!(world.group().reason.ends_with("eligible: no other one is allowed to own it"));
}

#[test]
fn a_pin_to_an_evacuated_director_says_that_it_waits() {
    let mut world = World::owned_by(2);
    world.state.pins.insert(web(), NodeId(3));
    world.state.evacuated.insert(NodeId(3), order());
    assert_eq!(world.group().reason, "owner silent; pinned to n3, which is evacuated");
}

#[test]
fn a_paused_cluster_is_degraded_and_says_by_whom_and_what_it_costs() {
    let mut world = World::owned_by(2);
    let cluster = world.cluster();
    assert_eq!((cluster.paused, cluster.paused_by, cluster.paused_since), (false, None, None));
    world.state.paused = Some(order());
    let cluster = world.cluster();
    assert_eq!((cluster.paused, cluster.health()), (true, Health::Degraded));
    assert_eq!(cluster.paused_by.as_deref(), Some("client ada"));
    assert_eq!(cluster.paused_since.as_deref(), Some("1970-01-01T00:00:01Z"));
    world.answers.get_mut(&NodeId(2)).unwrap().held.clear();
    world.view.heard.clear();
    let reason = world.group().reason;
    assert!(reason.ends_with("the cluster is paused: nothing moves by itself"), "{reason}");
    let mut world = World::of(3);
    world.state.paused = Some(order());
    assert!(world.group().reason.contains("`quorate transfer web`"), "{}", world.group().reason);
}

#[test]
fn an_unconfirmed_revision_says_until_when_and_how_long_that_is() {
    let mut world = World::owned_by(2);
    let cluster = world.cluster();
    assert_eq!((cluster.unconfirmed_until, cluster.unconfirmed_left_ms), (None, None));
    world.state.unconfirmed = Some(quorate_model::state::Unconfirmed {
        since: UnixMillis(3_000),
        until: UnixMillis(6_500),
        timing: quorate_model::time::Timing::LAN,
        pins: BTreeMap::new(),
        overrides: quorate_model::overrides::Overrides::default(),
    });
    let cluster = world.cluster();
    assert_eq!(cluster.unconfirmed_until.as_deref(), Some("1970-01-01T00:00:06.5Z"));
    assert_eq!(cluster.unconfirmed_left_ms, Some(2_500));
    assert_eq!(cluster.health(), Health::Ok, "it serves as it shall");
}

#[test]
fn a_link_that_is_down_between_two_nodes_that_are_not_is_a_problem_and_degrades() {
    let link = |to, up| ObservedLink {
        name: "heartbeat".to_owned(),
        to,
        up,
        loss_ppm: up.then_some(0),
        round_trip_us: up.then_some(310),
    };
    let mut world = World::owned_by(1);
    let links = &mut world.answers.get_mut(&NodeId(1)).unwrap().links;
    *links = vec![link(2, true), link(3, true)];
    assert_eq!(world.cluster().health(), Health::Ok);
    let shown = world.node(1);
    let to: Vec<&str> = shown.links.iter().map(|link| link.to.as_str()).collect();
    assert_eq!((to, shown.problems), (vec!["n2", "n3"], Vec::new()));
    world.answers.get_mut(&NodeId(1)).unwrap().links[1].up = false;
    assert_eq!(world.cluster().health(), Health::Degraded);
    assert_eq!(world.node(1).problems, ["link heartbeat to n3 is down"]);
    // A dead node's links are no news.
    world.lose(3);
    assert!(world.node(1).problems.is_empty());
    assert_eq!(world.node(3).links, []);
}

#[test]
fn who_sees_a_real_server_otherwise_than_the_owner_is_told() {
    let mut world = World::owned_by(2);
    let server = |address: &str, state: RealServerState, reason: &str| RealServerStatus {
        address: address.to_owned(),
        state: state.into(),
        reason: reason.to_owned(),
        ..RealServerStatus::default()
    };
    use RealServerState::{Down, Unknown, Up};
    let views = [(1, Up, Up, ""), (2, Down, Up, "no route"), (3, Unknown, Down, "reset")];
    for (node, first, second, reason) in views {
        let mut service = ServiceStatus { name: "web".to_owned(), ..ServiceStatus::default() };
        service.real_servers = vec![server("a", first, reason), server("b", second, reason)];
        world.answers.get_mut(&NodeId(node)).unwrap().services = vec![service];
    }
    let service = world.compose().services.remove(0);
    assert_eq!(service.seen_by, "n2");
    let otherwise: Vec<Vec<(&str, RealServerState, &str)>> = service
        .real_servers
        .iter()
        .map(|s| s.otherwise.iter().map(|o| (o.node.as_str(), o.state(), o.reason.as_str())))
        .map(Iterator::collect)
        .collect();
    assert_eq!(otherwise, [vec![("n1", Up, "")], vec![("n3", Down, "reset")]]);
}

#[test]
fn how_many_real_servers_each_director_sees_is_told_and_a_disagreement_degrades_the_cluster() {
    let mut world = World::owned_by(2);
    for (node, up) in [(1, 3), (2, 1)] {
        let reach = Reach { revision: quorate_model::id::Revision(1), up, down: 3 - up, all: 3 };
        world.view.reach.insert(NodeId(node), BTreeMap::from([(web(), reach)]));
    }
    let told: Vec<(String, u32, u32, u32)> =
        world.group().reach.into_iter().map(|r| (r.node, r.up, r.down, r.all)).collect();
    assert_eq!(told, [("n1".to_owned(), 3, 0, 3), ("n2".to_owned(), 1, 2, 3)]);
    assert_eq!(world.cluster().health(), Health::Ok);
    world.view.disagreed.insert(web());
    assert_eq!(world.cluster().health(), Health::Degraded);
}
