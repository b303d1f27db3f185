//! Small messages between nodes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use quorate_api::peer::v1 as peer;
use quorate_api::peer::v1::datagram::Message;
use quorate_model::command::{Command, LinkAddress};
use quorate_model::id::NodeId;
use quorate_model::state::Reply;
use quorate_model::time::Timing;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::member::{LIMIT, Member, free_address, leader, profile, three};
use crate::identity::{Identity, authority, found};
use crate::peer::datagrams::{Around, DatagramTransport, LinkSocket, PeerTransport as _};
use crate::peer::directory::PeerDirectory;
use crate::peer::tls;
use crate::raft::config::SNAPSHOT_EVERY;

const BEAT: Duration = Duration::from_millis(5);

pub(super) fn report(sequence: u64) -> Message {
    Message::Report(peer::Report { sequence, ..Default::default() })
}

fn number(message: &Message) -> u64 {
    match message {
        Message::Report(report) => report.sequence,
        _ => 0,
    }
}

/// Sends numbered reports until it is aborted.
pub(super) fn beat(
    from: &Member,
    to: NodeId,
    every: Duration,
    message: impl Fn(u64) -> Message + Send + 'static,
) -> JoinHandle<()> {
    let transport = from.node().transport();
    from.spawn(async move {
        let mut tick = tokio::time::interval(every);
        for sequence in 1.. {
            tick.tick().await;
            transport.send(&[to], message(sequence));
        }
    })
}

/// Sends until one arrives: each may be lost.
pub(super) fn exchange(from: &Member, to: &mut Member) -> Message {
    let sending = beat(from, to.id(), BEAT, report);
    let delivery = to.delivery();
    sending.abort();
    assert_eq!(delivery.from, from.id());
    delivery.message
}

/// Waits until a member sees all its links to another up; both must be sending.
pub(super) fn wait_up(member: &Member, to: NodeId, links: &[bool]) {
    let knowledge = member.node().links();
    let seen = || {
        let view = knowledge.view();
        view.iter().filter(|link| link.node == to).map(|link| link.up).collect::<Vec<_>>()
    };
    let reached = member.block_on(async {
        let mut look = tokio::time::interval(BEAT);
        let reaching = async {
            while seen() != links {
                look.tick().await;
            }
        };
        tokio::time::timeout(LIMIT, reaching).await
    });
    assert!(reached.is_ok(), "{} sees {:?}, not {links:?}", member.id(), knowledge.view());
}

#[test]
fn datagrams_arrive_in_both_directions_and_again_after_a_restart() {
    let mut first = Member::founder("prod", "n1", SNAPSHOT_EVERY);
    let token = first.token();
    let mut second = Member::joiner(&token, profile("n2"), SNAPSHOT_EVERY).unwrap();
    first.wait_voters(2);
    assert!(matches!(exchange(&first, &mut second), Message::Report(_)));
    assert!(matches!(exchange(&second, &mut first), Message::Report(_)));
    // The one that is dialled, then the one that dials.
    second.kill();
    second.restart();
    exchange(&first, &mut second);
    first.kill();
    first.restart();
    exchange(&second, &mut first);
}

#[test]
fn both_links_are_used_and_what_is_known_of_them_is_told() {
    let first = Member::founder("prod", "n1", SNAPSHOT_EVERY);
    let second = Member::joiner(&first.token(), profile("n2"), SNAPSHOT_EVERY).unwrap();
    first.wait_voters(2);
    let beats = [beat(&first, second.id(), BEAT, report), beat(&second, first.id(), BEAT, report)];
    wait_up(&first, second.id(), &[true, true]);
    wait_up(&second, first.id(), &[true, true]);
    let view = first.node().links().view();
    let names: Vec<&str> = view.iter().map(|link| link.link.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    assert!(view.iter().all(|link| link.round_trip.is_some_and(|time| time > Duration::ZERO)));
    // Silence is what makes a link down.
    beats.iter().for_each(JoinHandle::abort);
    wait_up(&first, second.id(), &[false, false]);
}

#[test]
fn messages_of_500_and_4000_groups_arrive_whole_and_once() {
    let first = Member::founder("prod", "n1", SNAPSHOT_EVERY);
    let mut second = Member::joiner(&first.token(), profile("n2"), SNAPSHOT_EVERY).unwrap();
    first.wait_voters(2);
    let beats = [beat(&first, second.id(), BEAT, report), beat(&second, first.id(), BEAT, report)];
    wait_up(&first, second.id(), &[true, true]);
    wait_up(&second, first.id(), &[true, true]);
    beats.iter().for_each(JoinHandle::abort);
    while second.delivered_already().is_some() {}
    for groups in [500, 4_000] {
        let message = move |round| {
            let group = |number| peer::RenewGroup {
                group: format!("group-{number}"),
                epoch: 7,
                addresses: vec![vec![10, 0, 0, 1]],
                holding: true,
            };
            let groups = (0..groups).map(group).collect();
            Message::Renew(peer::Renew { round, groups, ..Default::default() })
        };
        let sending = beat(&first, second.id(), Duration::from_millis(50), message);
        let mut rounds = BTreeSet::new();
        while rounds.len() < 10 {
            let Message::Renew(renew) = second.delivery().message else { continue };
            if renew.groups.len() == groups {
                assert!(rounds.insert(renew.round), "round {} came twice", renew.round);
            }
        }
        sending.abort();
    }
}

#[test]
fn a_removed_members_datagrams_change_nothing() {
    let mut members = three(SNAPSHOT_EVERY);
    let gone = members.iter().position(|member| !member.leads()).unwrap();
    let leading = members.iter().position(Member::leads).unwrap();
    let other = 3 - gone - leading;
    let ids: Vec<NodeId> = members.iter().map(Member::id).collect();
    let _late = beat(&members[gone], ids[leading], BEAT, report);
    while members[leading].delivery().from != ids[gone] {}
    let _steady = beat(&members[other], ids[leading], BEAT, report);
    assert_eq!(leader(&members).propose(Command::Leave(ids[gone])), Reply::Done);
    let forgotten = ids[gone];
    members[leading].wait_state("the removal", |s| !s.nodes.contains_key(&forgotten));
    members[leading].wait_voters(2);
    while members[leading].delivered_already().is_some() {}
    let mut came = 0;
    while came < 50 {
        let delivery = members[leading].delivery();
        // The other may hear later than the leader that somebody is gone, but is a member itself.
        assert_ne!(delivery.from, forgotten, "a removed member is heard");
        came += 1;
    }
}

/// One that has this identity, and a key that is not the pinned one.
fn impostor(of: &Member, towards: &Member) -> (Identity, DatagramTransport) {
    let mut identity = found("prod", Timing::LAN, &of.profile).unwrap().0;
    let target = towards.node().directory();
    identity.cluster_id = target.cluster_id();
    identity.node_id = of.id();
    identity.members = [(target.me(), target.node(target.me()).unwrap())].into();
    let (state, raft) = (watch::channel(Arc::default()).1, watch::channel(Arc::default()).1);
    let directory = PeerDirectory::new(Arc::new(identity.clone()), state.clone(), raft.clone());
    let sockets = of.profile.links.iter().map(|link| {
        LinkSocket::bind(LinkAddress { listen: free_address(), ..link.clone() }).unwrap()
    });
    let around = Around {
        directory: directory.clone(),
        state,
        raft,
        deliveries: mpsc::channel(1).0,
        sockets: sockets.collect(),
        runtime: tokio::runtime::Handle::current(),
    };
    let server = tls::server(&identity).unwrap();
    let client = tls::client(&identity, directory).unwrap();
    let random = authority::random().unwrap();
    let transport =
        DatagramTransport::start(around, &identity, (&server, &client), random).unwrap();
    (identity, transport)
}

#[test]
fn a_strangers_datagrams_change_nothing() {
    let first = Member::founder("prod", "n1", SNAPSHOT_EVERY);
    let mut second = Member::joiner(&first.token(), profile("n2"), SNAPSHOT_EVERY).unwrap();
    first.wait_voters(2);
    let to = second.id();
    let (_, transport) = first.block_on(async { impostor(&first, &second) });
    let lying = first.spawn(async move {
        let mut tick = tokio::time::interval(BEAT);
        loop {
            tick.tick().await;
            transport.send(&[to], report(u64::MAX));
        }
    });
    let _honest = beat(&first, to, BEAT, report);
    for _ in 0..100 {
        let delivery = second.delivery();
        assert_ne!(number(&delivery.message), u64::MAX, "a stranger is heard");
    }
    lying.abort();
}
