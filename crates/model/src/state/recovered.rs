//! Break-glass: the state of a new cluster that is made of what one node of a lost one has.
//!
//! The only member is that node. Whoever else was one has to join anew. Tests: at the end of this
//! file.

use std::collections::BTreeMap;

use super::{ClusterState, GrantRecord, NodeRecord};
use crate::id::{GroupName, LogIndex, NodeId};

/// How far the log of a recovered cluster begins above the last entry that the survivor has. The
/// lost majority may have gone on without it, but not for four thousand million entries: every
/// epoch of the new cluster is above every one of the old.
pub const EPOCH_GAP: u64 = 1 << 32;

/// The state of a recovered cluster, and what is not in it any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// The state that the new cluster begins with.
    pub state: ClusterState,
    /// The nodes that are no members any more.
    pub dropped: BTreeMap<NodeId, NodeRecord>,
    /// The owners as the survivor knows them. Nobody owns a group of the new cluster: its first
    /// owner is granted anew, and asks for the addresses on the wire before it claims them.
    pub owners: BTreeMap<GroupName, GrantRecord>,
    /// How many join tokens end: they name the old cluster.
    pub tokens: usize,
    /// Groups that the survivor may not own, so that nobody serves them until others have joined.
    pub unowned: Vec<GroupName>,
}

impl ClusterState {
    /// The state of a new cluster with this id, whose only node is `me`, as of `begin` in its log.
    /// The configuration with its revision, the certificate authority, client certificates, answers to
    /// requests, the longest lease and the count of node ids go on, and so does the deadline of an unconfirmed
    /// configuration; a pause and evacuations end. `None` if
    /// this state does not know the node.
    #[must_use]
    pub fn recovered(&self, me: NodeId, cluster_id: u128, begin: LogIndex) -> Option<Recovered> {
        let mut state = self.clone();
        let mut mine = state.nodes.remove(&me)?;
        // Whoever told it to leave is gone.
        mine.leaving = false;
        let dropped = std::mem::replace(&mut state.nodes, BTreeMap::from([(me, mine)]));
        let tokens = std::mem::take(&mut state.tokens).len();
        let owners = std::mem::take(&mut state.grants);
        state.pins.retain(|_, node| *node == me);
        // An order not to move anything would keep its first owner from every group.
        state.evacuated.clear();
        state.paused = None;
        state.applied = begin;
        state.cluster_id = cluster_id;
        let unowned = state.spec.groups.keys().filter(|group| !state.may_own(me, group));
        let unowned = unowned.cloned().collect();
        Some(Recovered { state, dropped, owners, tokens, unowned })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::command::{
        CertificateAuthority, Command, Configure, Digest, Grant, GrantReason, LinkAddress,
        NodeDescription, Order, RequestId, UnixMillis,
    };
    use crate::id::{Incarnation, Revision, Role};
    use crate::spec::Format;
    use crate::state::Reply;
    use crate::time::Timing;

    const SPEC: &str = r#"
[cluster]
timing = "wan"
[group.all]
interface = "public"
addresses = ["192.0.2.1/32"]
[group.first]
interface = "public"
addresses = ["192.0.2.2/32"]
only = ["lb1"]
"#;

    fn node(number: u8) -> NodeDescription {
        NodeDescription {
            name: format!("lb{number}").parse().unwrap(),
            role: Role::Director,
            links: vec![LinkAddress {
                name: "lan".to_owned(),
                listen: ([10, 0, 0, number], 7400).into(),
            }],
            public_key: Digest([number; 32]),
        }
    }

    /// lb1, lb2 and lb3; lb1 owns both groups, "all" is pinned to it; an open token.
    fn state() -> ClusterState {
        let mut state = ClusterState::default();
        let mut index = 0;
        let mut apply = |command: Command| {
            index += 1;
            let reply = state.apply(LogIndex(index), &command).unwrap();
            assert!(!matches!(reply, Reply::Refused(_)), "{reply:?}");
        };
        apply(Command::Found {
            cluster_id: 7,
            name: "prod".to_owned(),
            timing: Timing::LAN,
            authority: CertificateAuthority { certificate: vec![1], private_key: vec![2] },
            node: node(1),
        });
        let at = UnixMillis(1);
        for number in [2, 3, 4] {
            let secret = Digest([100 + number; 32]);
            apply(Command::AddToken { secret, at, expires: UnixMillis(9) });
            if number < 4 {
                apply(Command::Admit { secret, at, node: node(number) });
            }
        }
        apply(Command::AddClient { name: "ops".to_owned(), public_key: Digest([9; 32]) });
        let mut configure = |request, source: &str| {
            apply(Command::Configure(Configure {
                request: RequestId(request),
                author: "ops".to_owned(),
                at,
                expected: None,
                source: source.to_owned(),
                format: Format::Toml,
                message: String::new(),
                confirm_until: None,
            }));
        };
        configure(1, SPEC);
        configure(2, &SPEC.replace("\"wan\"", "\"lan\""));
        for group in ["all", "first"] {
            let group: GroupName = group.parse().unwrap();
            let grants = vec![Grant {
                group: group.clone(),
                previous: crate::id::Epoch(0),
                owner: NodeId(1),
                incarnation: Incarnation(5),
                reason: GrantReason::First,
            }];
            apply(Command::Grant { at, grants });
        }
        apply(Command::Pin { group: "all".parse().unwrap(), node: Some(NodeId(1)) });
        apply(Command::Leave(NodeId(3)));
        let order = |by: &str| Order { at, author: by.to_owned() };
        state.paused = Some(order("ops"));
        state.evacuated.insert(NodeId(2), order("ops"));
        state
    }

    #[test]
    fn the_survivor_is_the_only_member_and_stays() {
        let recovered = state().recovered(NodeId(3), 8, LogIndex(1 << 40)).unwrap();
        let nodes: Vec<NodeId> = recovered.state.nodes.keys().copied().collect();
        assert_eq!(nodes, [NodeId(3)]);
        assert!(!recovered.state.nodes[&NodeId(3)].leaving);
        assert_eq!(recovered.dropped.keys().copied().collect::<Vec<_>>(), [NodeId(1), NodeId(2)]);
        assert_eq!(recovered.state.cluster_id, 8);
        assert_eq!(recovered.state.applied, LogIndex(1 << 40));
    }

    #[test]
    fn configuration_clients_and_the_longest_lease_go_on_and_no_id_is_used_again() {
        let old = state();
        let new = old.recovered(NodeId(2), 8, LogIndex(1 << 40)).unwrap().state;
        assert_eq!(new.revision(), Revision(2));
        assert_eq!((&new.configuration, &new.spec), (&old.configuration, &old.spec));
        assert_eq!((&new.clients, &new.authority), (&old.clients, &old.authority));
        assert_eq!(new.longest_lease, Duration::from_secs(3));
        assert_eq!(new.timing, Timing::LAN);
        assert_eq!(new.next_node, 4);
        assert_eq!(new.requests, old.requests);
    }

    #[test]
    fn nobody_owns_a_group_of_a_recovered_cluster_and_no_token_opens_it() {
        let recovered = state().recovered(NodeId(2), 8, LogIndex(1 << 40)).unwrap();
        assert_eq!(recovered.owners.len(), 2);
        assert_eq!(recovered.tokens, 1);
        assert_eq!(recovered.unowned, ["first".parse().unwrap()]);
        let new = recovered.state;
        assert!(new.grants.is_empty() && new.tokens.is_empty() && new.pins.is_empty());
    }

    #[test]
    fn no_order_keeps_the_survivor_from_owning() {
        let mut new = state().recovered(NodeId(2), 8, LogIndex(1 << 40)).unwrap().state;
        let group: GroupName = "all".parse().unwrap();
        let grant = Grant {
            group: group.clone(),
            previous: crate::id::Epoch(0),
            owner: NodeId(2),
            incarnation: Incarnation(5),
            reason: GrantReason::First,
        };
        let command = Command::Grant { at: UnixMillis(2), grants: vec![grant] };
        let reply = new.apply(LogIndex((1 << 40) + 1), &command).unwrap();
        assert_eq!(reply, Reply::Granted(vec![group]));
    }

    #[test]
    fn a_pin_to_the_survivor_holds() {
        let new = state().recovered(NodeId(1), 8, LogIndex(1 << 40)).unwrap().state;
        assert_eq!(new.pins.len(), 1);
    }

    #[test]
    fn a_node_that_the_state_does_not_know_recovers_nothing() {
        assert_eq!(state().recovered(NodeId(9), 8, LogIndex(1 << 40)), None);
    }
}
