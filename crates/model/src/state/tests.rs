//! What every node computes from the log: one rule a test.

use std::time::Duration;

use super::*;
use crate::command::{Configure, Grant, LinkAddress};

mod configuration;
mod orders;

const WEB: &str = "[group.web]\ninterface = \"public\"\naddresses = [\"10.0.0.100/32\"]\n";
const DB: &str = "[group.db]\ninterface = \"public\"\naddresses = [\"10.0.0.101/32\"]\n";

fn name(text: &str) -> GroupName {
    text.parse().unwrap()
}

fn web() -> GroupName {
    name("web")
}

fn secret(number: u8) -> Digest {
    Digest([number; 32])
}

fn node(number: u8, role: Role) -> NodeDescription {
    NodeDescription {
        name: format!("n{number}").parse().unwrap(),
        role,
        links: vec![LinkAddress {
            name: "a".to_owned(),
            listen: ([10, 0, 0, number], 7400).into(),
        }],
        public_key: secret(number),
    }
}

fn found(timing: Timing) -> Command {
    Command::Found {
        cluster_id: 77,
        name: "test".to_owned(),
        timing,
        authority: CertificateAuthority { certificate: vec![1], private_key: vec![2] },
        node: node(1, Role::Director),
    }
}

fn configure(request: u128, expected: Option<u64>, source: &str) -> Command {
    Command::Configure(Configure {
        request: RequestId(request),
        author: "tester".to_owned(),
        at: UnixMillis(5),
        expected: expected.map(Revision),
        source: source.to_owned(),
        format: Format::Toml,
        message: String::new(),
        confirm_until: None,
    })
}

fn grant_for(group: &str, previous: u64, owner: u64, reason: GrantReason) -> Command {
    let grant = Grant {
        group: name(group),
        previous: Epoch(previous),
        owner: NodeId(owner),
        incarnation: Incarnation(owner),
        reason,
    };
    Command::Grant { at: UnixMillis(6), grants: vec![grant] }
}

fn grant(previous: u64, owner: u64) -> Command {
    grant_for("web", previous, owner, GrantReason::First)
}

fn pin(group: &str, node: Option<u64>) -> Command {
    Command::Pin { group: name(group), node: node.map(NodeId) }
}

fn token(number: u8, at: u64, expires: u64) -> Command {
    Command::AddToken { secret: secret(number), at: UnixMillis(at), expires: UnixMillis(expires) }
}

fn admit(number: u8, at: u64, node: NodeDescription) -> Command {
    Command::Admit { secret: secret(number), at: UnixMillis(at), node }
}

/// A state with the log that made it.
struct Cluster {
    state: ClusterState,
    next: u64,
    log: Vec<Command>,
}

impl Cluster {
    /// Directors n1 and n2, witness n3, no configuration.
    fn new() -> Self {
        let mut cluster = Self { state: ClusterState::default(), next: 1, log: Vec::new() };
        cluster.done(found(Timing::LAN));
        cluster.join(2, Role::Director);
        cluster.join(3, Role::Witness);
        cluster
    }

    /// The same with the group web.
    fn with_web() -> Self {
        let mut cluster = Self::new();
        cluster.done(configure(1, None, WEB));
        cluster
    }

    fn join(&mut self, number: u8, role: Role) -> Reply {
        self.done(token(number, 0, 10));
        self.done(admit(number, 0, node(number, role)))
    }

    fn apply(&mut self, command: Command) -> Result<Reply, ApplyError> {
        let reply = self.state.apply(LogIndex(self.next), &command);
        self.log.push(command);
        self.next += 1;
        reply
    }

    /// Applies what must be applied.
    fn done(&mut self, command: Command) -> Reply {
        let reply = self.apply(command).unwrap();
        assert!(!matches!(reply, Reply::Refused(_)), "{reply:?}");
        reply
    }

    /// Applies what must be refused and must change nothing.
    fn refused(&mut self, command: Command) -> Refused {
        let before = self.state.clone();
        let Reply::Refused(refused) = self.apply(command).unwrap() else { panic!("not refused") };
        assert_eq!(self.state, ClusterState { applied: self.state.applied, ..before });
        refused
    }

    /// The groups that a grant was applied for.
    fn granted(&mut self, command: Command) -> Vec<GroupName> {
        let reply = self.done(command);
        let Reply::Granted(groups) = reply else { panic!("{reply:?}") };
        groups
    }

    /// The revision that a configuration got, and whether it changed anything.
    fn configured(&mut self, command: Command) -> (u64, bool) {
        let reply = self.done(command);
        let Reply::Configured { revision, changed } = reply else { panic!("{reply:?}") };
        (revision.0, changed)
    }

    fn epoch(&self, group: &str) -> Option<u64> {
        self.state.grants.get(&name(group)).map(|grant| grant.epoch.0)
    }

    fn pinned(&self) -> Option<u64> {
        self.state.pins.get(&web()).map(|node| node.0)
    }
}

#[test]
fn the_log_begins_with_a_founding_and_holds_no_second_one() {
    let mut cluster = Cluster::new();
    assert_eq!(cluster.refused(found(Timing::WAN)), Refused::Founding);
}

#[test]
fn a_configuration_made_from_another_revision_is_a_conflict() {
    let mut cluster = Cluster::new();
    assert_eq!(cluster.configured(configure(1, Some(0), WEB)), (1, true));
    let conflict = Refused::Conflict { current: Revision(1), expected: Revision(0) };
    assert_eq!(cluster.refused(configure(2, Some(0), DB)), conflict);
    assert_eq!(cluster.configured(configure(3, Some(1), DB)), (2, true));
}

#[test]
fn a_request_is_applied_once_though_it_comes_again_after_others() {
    let mut cluster = Cluster::new();
    let first = configure(1, Some(0), WEB);
    cluster.done(first.clone());
    cluster.done(configure(2, Some(1), DB));
    // The revision moved on, which is no conflict: the answer of then is given again.
    assert_eq!(cluster.configured(first), (1, true));
    assert_eq!(cluster.state.revision(), Revision(2));
    assert!(cluster.state.spec.groups.contains_key(&name("db")));
}

#[test]
fn a_refused_request_may_come_again_and_be_applied() {
    let mut cluster = Cluster::with_web();
    cluster.refused(configure(2, Some(0), DB));
    assert_eq!(cluster.configured(configure(2, Some(1), DB)), (2, true));
}

#[test]
fn only_so_many_requests_are_remembered_and_the_oldest_is_forgotten_first() {
    let mut cluster = Cluster::new();
    for request in 0..=1_000 {
        cluster.done(configure(request, None, WEB));
    }
    assert_eq!(cluster.state.requests.len(), REQUESTS_MAX);
    assert_eq!(cluster.state.requests.front().map(|taken| taken.request), Some(RequestId(1)));
}

#[test]
fn the_same_configuration_again_keeps_its_revision_and_says_unchanged() {
    let mut cluster = Cluster::with_web();
    let before = cluster.state.configuration.clone();
    let same = format!("# a comment says nothing\n{WEB}");
    assert_eq!(cluster.configured(configure(2, Some(1), &same)), (1, false));
    assert_eq!(cluster.state.configuration, before);
}

#[test]
fn the_first_configuration_counts_though_it_is_empty() {
    let mut cluster = Cluster::new();
    assert_eq!(cluster.configured(configure(1, None, "")), (1, true));
    assert_eq!(cluster.configured(configure(2, None, "")), (1, false));
}

#[test]
fn a_grant_whose_previous_epoch_is_over_changes_nothing() {
    let mut cluster = Cluster::with_web();
    let index = cluster.next;
    assert_eq!(cluster.granted(grant(0, 1)), [web()]);
    assert_eq!(cluster.epoch("web"), Some(index), "an epoch is the log index of its grant");
    for stale in [0, index - 1, index + 1] {
        assert_eq!(cluster.granted(grant(stale, 2)), []);
    }
    assert_eq!(cluster.epoch("web"), Some(index));
    let second = cluster.next;
    assert_eq!(cluster.granted(grant(index, 2)), [web()]);
    assert_eq!(cluster.epoch("web"), Some(second));
}

#[test]
fn several_groups_are_granted_each_by_itself() {
    let mut cluster = Cluster::new();
    cluster.done(configure(1, None, &format!("{WEB}{DB}")));
    cluster.done(grant(0, 1));
    let of = |command| match command {
        Command::Grant { grants, .. } => grants,
        _ => Vec::new(),
    };
    let mut grants = of(grant(0, 2));
    grants.extend(of(grant_for("db", 0, 2, GrantReason::First)));
    assert_eq!(cluster.granted(Command::Grant { at: UnixMillis(7), grants }), [name("db")]);
}

#[test]
fn an_epoch_never_falls_though_its_group_is_deleted_and_made_anew() {
    let mut cluster = Cluster::with_web();
    cluster.done(grant(0, 1));
    let old = cluster.epoch("web").unwrap();
    cluster.done(configure(2, None, DB));
    assert_eq!(cluster.epoch("web"), None, "the owner is gone with the group");
    cluster.done(configure(3, None, WEB));
    assert_eq!(cluster.granted(grant(old, 2)), [], "a grant on the old group's epoch");
    assert_eq!(cluster.granted(grant(0, 2)), [web()]);
    assert!(cluster.epoch("web").unwrap() > old);
}

#[test]
fn a_witness_is_granted_nothing() {
    assert_eq!(Cluster::with_web().granted(grant(0, 3)), []);
}

#[test]
fn a_director_that_leaves_or_is_unknown_is_granted_nothing() {
    let mut cluster = Cluster::with_web();
    cluster.done(Command::Leave(NodeId(2)));
    assert_eq!(cluster.granted(grant(0, 2)), []);
    assert_eq!(cluster.granted(grant(0, 9)), []);
    assert_eq!(cluster.granted(grant(0, 1)), [web()]);
}

#[test]
fn a_director_that_only_excludes_is_granted_nothing() {
    let mut cluster = Cluster::new();
    cluster.done(configure(1, None, &format!("{WEB}only = [\"n2\"]\n")));
    assert_eq!(cluster.granted(grant(0, 1)), []);
    assert_eq!(cluster.granted(grant(0, 2)), [web()]);
}

#[test]
fn a_token_admits_one_node() {
    let mut cluster = Cluster::new();
    cluster.done(token(4, 0, 10));
    assert_eq!(cluster.done(admit(4, 0, node(4, Role::Director))), Reply::Admitted(NodeId(4)));
    assert_eq!(cluster.refused(admit(4, 0, node(5, Role::Director))), Refused::Token);
}

#[test]
fn a_token_admits_until_its_time_and_not_later() {
    let mut cluster = Cluster::new();
    cluster.done(token(4, 0, 10));
    assert_eq!(cluster.refused(admit(4, 11, node(4, Role::Director))), Refused::Token);
    assert_eq!(cluster.done(admit(4, 10, node(4, Role::Director))), Reply::Admitted(NodeId(4)));
}

#[test]
fn tokens_that_have_ended_are_dropped_when_one_is_made() {
    let mut cluster = Cluster::new();
    cluster.done(token(4, 0, 10));
    cluster.done(token(5, 11, 20));
    assert_eq!(cluster.state.tokens.keys().collect::<Vec<_>>(), [&secret(5)]);
}

#[test]
fn the_same_node_asking_again_gets_the_same_id_and_uses_no_token() {
    let mut cluster = Cluster::new();
    let first = cluster.join(4, Role::Director);
    assert_eq!(cluster.done(admit(4, 99, node(4, Role::Director))), first);
    cluster.done(token(5, 0, 10));
    assert_eq!(cluster.done(admit(5, 0, node(4, Role::Director))), first);
    assert_eq!(cluster.state.tokens.len(), 1);
}

#[test]
fn a_name_or_an_address_that_is_taken_admits_nobody_and_spares_the_token() {
    let mut cluster = Cluster::new();
    cluster.done(token(4, 0, 10));
    let named = NodeDescription { name: "n2".parse().unwrap(), ..node(4, Role::Director) };
    assert_eq!(cluster.refused(admit(4, 0, named)), Refused::DuplicateName("n2".parse().unwrap()));
    let mut placed = node(4, Role::Director);
    placed.links[0].listen = ([10, 0, 0, 3], 7400).into();
    let node = "n3".parse().unwrap();
    let address = placed.links[0].listen;
    assert_eq!(cluster.refused(admit(4, 0, placed)), Refused::DuplicateAddress { node, address });
}

#[test]
fn an_id_is_never_given_again() {
    let mut cluster = Cluster::new();
    assert_eq!(cluster.join(4, Role::Director), Reply::Admitted(NodeId(4)));
    cluster.done(Command::Leave(NodeId(4)));
    cluster.done(Command::Forget(NodeId(4)));
    // The same node, even: a wiped store never rejoins under its old id.
    assert_eq!(cluster.join(4, Role::Director), Reply::Admitted(NodeId(5)));
}

#[test]
fn a_node_that_leaves_is_not_admitted_again_before_it_is_forgotten() {
    let mut cluster = Cluster::new();
    cluster.done(Command::Leave(NodeId(2)));
    cluster.done(token(4, 0, 10));
    assert_eq!(
        cluster.refused(admit(4, 0, node(2, Role::Director))),
        Refused::DuplicateName("n2".parse().unwrap())
    );
}

#[test]
fn the_last_node_that_stays_cannot_leave() {
    let mut cluster = Cluster::new();
    cluster.done(Command::Leave(NodeId(2)));
    cluster.done(Command::Leave(NodeId(1)));
    assert_eq!(cluster.refused(Command::Leave(NodeId(3))), Refused::LastNode);
    assert_eq!(cluster.refused(Command::Leave(NodeId(9))), Refused::NoSuchNode(NodeId(9)));
}

#[test]
fn a_pin_goes_with_its_group() {
    let mut cluster = Cluster::with_web();
    cluster.done(pin("web", Some(2)));
    cluster.done(configure(2, None, DB));
    cluster.done(configure(3, None, WEB));
    assert_eq!(cluster.pinned(), None);
}

#[test]
fn a_pin_goes_with_its_node() {
    let mut cluster = Cluster::with_web();
    cluster.done(pin("web", Some(2)));
    cluster.done(Command::Leave(NodeId(1)));
    assert_eq!(cluster.pinned(), Some(2));
    let mut cluster = Cluster::with_web();
    cluster.done(pin("web", Some(2)));
    cluster.done(Command::Leave(NodeId(2)));
    assert_eq!(cluster.pinned(), None);
}

#[test]
fn a_pin_holds_until_its_owner_fails() {
    use GrantReason::{OwnerDeaf, OwnerSilent, OwnerUnfit, Restarted, Transfer};
    let after = |owner: u64, reason: GrantReason| {
        let mut cluster = Cluster::with_web();
        cluster.done(grant(0, 2));
        cluster.done(pin("web", Some(2)));
        let epoch = cluster.epoch("web").unwrap();
        cluster.done(grant_for("web", epoch, owner, reason));
        cluster.pinned()
    };
    for failure in [OwnerSilent, OwnerDeaf, OwnerUnfit] {
        assert_eq!(after(1, failure), None, "{failure}");
    }
    assert_eq!(after(2, Restarted), Some(2));
    assert_eq!(after(1, Transfer), Some(2), "on its way to where it is pinned");
}

#[test]
fn only_a_known_group_is_pinned_and_only_to_a_director_that_may_own_it() {
    let mut cluster = Cluster::with_web();
    assert_eq!(cluster.refused(pin("db", Some(1))), Refused::NoSuchGroup(name("db")));
    assert_eq!(cluster.refused(pin("web", Some(9))), Refused::NoSuchNode(NodeId(9)));
    assert_eq!(cluster.refused(pin("web", Some(3))), Refused::NotADirector("n3".parse().unwrap()));
    cluster.done(pin("web", Some(1)));
    cluster.done(pin("web", None));
    assert_eq!(cluster.pinned(), None);
}

#[test]
fn a_configuration_without_timing_keeps_what_there_is_and_the_longest_lease_never_falls() {
    let mut cluster = Cluster::with_web();
    let times = |cluster: &Cluster| (cluster.state.timing, cluster.state.longest_lease);
    let (lan, wan) = (Duration::from_millis(500), Duration::from_secs(3));
    assert_eq!(times(&cluster), (Timing::LAN, lan));
    cluster.done(configure(2, None, &format!("{WEB}[cluster]\ntiming = \"wan\"\n")));
    assert_eq!(times(&cluster), (Timing::WAN, wan));
    cluster.done(configure(3, None, DB));
    assert_eq!(times(&cluster), (Timing::WAN, wan));
    cluster.done(configure(4, None, &format!("{WEB}[cluster]\ntiming = \"fast\"\n")));
    assert_eq!(times(&cluster), (Timing::FAST, wan));
    assert_eq!(cluster.state.longest_promise(), promise(wan));
}

#[test]
fn a_configuration_that_this_version_cannot_read_stops_the_node() {
    let mut cluster = Cluster::with_web();
    let of_tomorrow = cluster.apply(configure(2, None, "[tomorrow]\n"));
    assert!(matches!(of_tomorrow, Err(ApplyError::ConfigurationNotReadable(_))), "{of_tomorrow:?}");
}

#[test]
fn a_configuration_that_does_not_fit_the_nodes_is_refused() {
    let mut cluster = Cluster::with_web();
    let source = format!(
        "{WEB}[service.web]\ngroup = \"web\"\nlisten = \"tcp/10.0.0.100:80\"\nforward = \"DR\"\n\
         real_servers = [{{ address = \"10.0.0.2:80\" }}]\n"
    );
    let refused = cluster.refused(configure(2, None, &source));
    let Refused::Configuration(text) = refused else { panic!("{refused:?}") };
    assert!(text.contains("10.0.0.2:80 is director n2"), "{text}");
}

#[test]
fn what_is_full_takes_no_more() {
    let mut cluster = Cluster::new();
    for number in 4..=32 {
        cluster.join(number, Role::Director);
    }
    cluster.done(token(33, 0, 10));
    let full = Refused::Full { what: "nodes", max: NODES_MAX };
    assert_eq!(cluster.refused(admit(33, 0, node(33, Role::Director))), full);
}

#[test]
fn an_entry_without_a_command_moves_the_index_alone() {
    let mut state = Cluster::with_web().state;
    let before = state.clone();
    state.skip(LogIndex(900));
    assert_eq!(state, ClusterState { applied: LogIndex(900), ..before });
}

#[test]
fn replicas_that_applied_the_same_log_are_equal() {
    let mut cluster = Cluster::with_web();
    cluster.done(grant(0, 2));
    cluster.done(pin("web", Some(2)));
    cluster.refused(configure(2, Some(0), DB));
    cluster.done(configure(3, None, &format!("{WEB}{DB}")));
    cluster.done(grant_for("db", 0, 1, GrantReason::First));
    cluster.done(Command::AddClient { name: "laptop".to_owned(), public_key: secret(9) });
    cluster.done(Command::Leave(NodeId(2)));
    cluster.refused(admit(3, 99, node(8, Role::Director)));
    cluster.done(Command::Forget(NodeId(2)));
    let mut replica = ClusterState::default();
    for (index, command) in (1..).map(LogIndex).zip(&cluster.log) {
        replica.apply(index, command).unwrap();
    }
    assert_eq!(replica, cluster.state);
}
