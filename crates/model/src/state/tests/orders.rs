//! What operators order, and what it does to grants and pins: one rule a test.

use std::net::SocketAddr;

use super::*;
use crate::id::ServiceName;
use crate::overrides::Override;
use GrantReason::{
    Evacuated, First, OwnerDeaf, OwnerSilent, OwnerUnfit, Preempt, Restarted, Transfer,
};

fn order(author: &str) -> Order {
    Order { author: author.to_owned(), at: UnixMillis(7) }
}

fn evacuate(node: u64) -> Command {
    Command::Evacuate { node: NodeId(node), order: Some(order("ada")) }
}

fn restore(node: u64) -> Command {
    Command::Evacuate { node: NodeId(node), order: None }
}

fn pause() -> Command {
    Command::Pause(Some(order("ada")))
}

const CHANGED: Reply = Reply::Ordered { changed: true };
const UNCHANGED: Reply = Reply::Ordered { changed: false };

impl Cluster {
    /// Directors n1, n2 and n4; web is n1's.
    fn owned() -> Self {
        let mut cluster = Self::with_web();
        cluster.join(4, Role::Director);
        cluster.done(grant(0, 1));
        cluster
    }

    /// Whether a grant of web to this node, of this moment, is applied.
    fn takes(&mut self, owner: u64, reason: GrantReason) -> bool {
        let previous = self.epoch("web").unwrap_or(0);
        !self.granted(grant_for("web", previous, owner, reason)).is_empty()
    }
}

#[test]
fn an_order_given_twice_changes_nothing_and_keeps_who_gave_it_first() {
    let mut cluster = Cluster::owned();
    let again = |author: &str| (Some(order(author)), NodeId(1));
    assert_eq!(cluster.done(evacuate(1)), CHANGED);
    let (order, node) = again("bob");
    assert_eq!(cluster.done(Command::Evacuate { node, order: order.clone() }), UNCHANGED);
    assert_eq!(cluster.state.evacuated[&node].author, "ada");
    assert_eq!(cluster.done(restore(1)), CHANGED);
    assert_eq!(cluster.done(restore(1)), UNCHANGED);
    assert!(!cluster.state.is_evacuated(node));

    assert_eq!(cluster.done(pause()), CHANGED);
    assert_eq!(cluster.done(Command::Pause(order)), UNCHANGED);
    assert_eq!(cluster.state.paused.as_ref().map(|order| order.author.as_str()), Some("ada"));
    assert_eq!(cluster.done(Command::Pause(None)), CHANGED);
    assert_eq!(cluster.done(Command::Pause(None)), UNCHANGED);
    assert_eq!(cluster.state.paused, None);
}

#[test]
fn only_a_director_that_is_there_can_be_evacuated() {
    let mut cluster = Cluster::owned();
    assert_eq!(cluster.refused(evacuate(9)), Refused::NoSuchNode(NodeId(9)));
    assert_eq!(cluster.refused(restore(9)), Refused::NoSuchNode(NodeId(9)));
    assert_eq!(cluster.refused(evacuate(3)), Refused::Witness("n3".parse().unwrap()));
}

#[test]
fn an_evacuation_ends_with_its_node() {
    let mut cluster = Cluster::owned();
    cluster.done(evacuate(2));
    cluster.done(Command::Leave(NodeId(2)));
    cluster.done(Command::Forget(NodeId(2)));
    assert!(cluster.state.evacuated.is_empty());
}

#[test]
fn an_evacuated_director_is_granted_nothing_that_it_does_not_own() {
    let mut cluster = Cluster::owned();
    cluster.done(evacuate(2));
    for reason in [First, OwnerSilent, OwnerUnfit, Preempt, Transfer] {
        assert!(!cluster.takes(2, reason), "{reason}");
    }
    // What nobody else could take is its own still, and stays so when its daemon restarts.
    cluster.done(evacuate(1));
    assert!(cluster.takes(1, Restarted));
    assert!(cluster.takes(4, Evacuated));
    cluster.done(restore(2));
    assert!(cluster.takes(2, Preempt));
}

#[test]
fn a_paused_cluster_grants_only_what_was_ordered_and_what_moves_nothing() {
    for (reason, owner, taken) in [
        (OwnerSilent, 2, false),
        (OwnerDeaf, 2, false),
        (OwnerUnfit, 2, false),
        (Preempt, 2, false),
        (Restarted, 2, false),
        (Restarted, 1, true),
        (Transfer, 2, true),
        (Evacuated, 2, true),
    ] {
        let mut cluster = Cluster::owned();
        cluster.done(pause());
        assert_eq!(cluster.takes(owner, reason), taken, "{reason} to n{owner}");
        cluster.done(Command::Pause(None));
        assert!(cluster.takes(2, reason), "{reason} after the pause");
    }
    let mut cluster = Cluster::with_web();
    cluster.done(pause());
    assert!(!cluster.takes(1, First), "a new group waits, too");
}

#[test]
fn an_evacuated_director_gets_no_pin_and_keeps_those_that_it_has() {
    let mut cluster = Cluster::owned();
    cluster.done(pin("web", Some(1)));
    cluster.done(evacuate(1));
    assert_eq!(cluster.pinned(), Some(1));
    assert_eq!(cluster.refused(pin("web", Some(1))), Refused::Evacuated("n1".parse().unwrap()));
    assert!(cluster.takes(2, Evacuated));
    assert_eq!(cluster.pinned(), Some(1), "it holds again after the restore");
    // That n2 fails is no failure of n1.
    assert!(cluster.takes(4, OwnerSilent));
    assert!(cluster.takes(2, Preempt));
    assert_eq!(cluster.pinned(), Some(1));
}

#[test]
fn a_pin_ends_when_its_evacuated_owner_fails_before_it_has_given_the_group_away() {
    for reason in [OwnerSilent, OwnerDeaf, OwnerUnfit] {
        let mut cluster = Cluster::owned();
        cluster.done(pin("web", Some(1)));
        cluster.done(evacuate(1));
        assert!(cluster.takes(2, reason));
        assert_eq!(cluster.pinned(), None, "{reason}");
    }
}

/// With two real servers.
const SERVED: &str = "[group.web]\ninterface = \"public\"\naddresses = [\"10.0.0.100/32\"]\n\
    [service.web]\ngroup = \"web\"\nlisten = \"tcp/10.0.0.100:80\"\nreal_servers = \
    [{ address = \"192.168.10.16:80\" }, { address = \"192.168.10.17:80\" }]\n";

fn served() -> Cluster {
    let mut cluster = Cluster::owned();
    cluster.done(configure(2, None, SERVED));
    cluster
}

fn to(weight: u32, until: Option<u64>) -> Override {
    Override { weight, order: order("ada"), until: until.map(UnixMillis) }
}

fn server(host: u8) -> (ServiceName, SocketAddr) {
    ("web".parse().unwrap(), ([192, 168, 10, host], 80).into())
}

fn weigh(hosts: &[u8], to: Option<Override>) -> Command {
    Command::Override { servers: hosts.iter().map(|&host| server(host)).collect(), to }
}

#[test]
fn a_weight_is_overridden_until_it_is_taken_back() {
    let mut cluster = served();
    assert_eq!(cluster.done(weigh(&[16, 17], Some(to(0, None)))), CHANGED);
    assert_eq!(cluster.done(weigh(&[16], Some(to(0, None)))), UNCHANGED);
    assert_eq!(cluster.done(weigh(&[16], Some(to(5, None)))), CHANGED);
    let (web, at) = server(16);
    assert_eq!(cluster.state.overrides.get(&web, &at).map(|to| to.weight), Some(5));
    assert_eq!(cluster.done(weigh(&[16], None)), CHANGED);
    assert_eq!(cluster.done(weigh(&[16], None)), UNCHANGED);
    assert_eq!(cluster.state.overrides.len(), 1);
}

/// Another configuration may have come between: nothing is done by halves.
#[test]
fn an_order_for_a_real_server_that_is_gone_changes_nothing() {
    let mut cluster = served();
    let (service, at) = server(99);
    let refused = cluster.refused(weigh(&[16, 99], Some(to(0, None))));
    assert_eq!(refused, Refused::NoSuchServer { service, server: at });
    assert!(cluster.state.overrides.is_empty());
}

#[test]
fn an_override_ends_when_its_time_is_over_and_no_other_does() {
    let mut cluster = served();
    cluster.done(weigh(&[16], Some(to(0, Some(100)))));
    cluster.done(weigh(&[17], Some(to(0, None))));
    assert_eq!(cluster.done(Command::EndOverrides(UnixMillis(99))), UNCHANGED);
    assert_eq!(cluster.done(Command::EndOverrides(UnixMillis(100))), CHANGED);
    let (web, at) = server(17);
    assert!(cluster.state.overrides.len() == 1 && cluster.state.overrides.get(&web, &at).is_some());
}

#[test]
fn an_override_goes_with_its_real_server_and_stays_through_other_changes() {
    let mut cluster = served();
    cluster.done(weigh(&[16, 17], Some(to(0, None))));
    cluster.done(configure(3, None, &SERVED.replace(".17:80", ".18:80")));
    let (web, at) = server(16);
    assert!(cluster.state.overrides.len() == 1 && cluster.state.overrides.get(&web, &at).is_some());
}
