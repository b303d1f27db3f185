//! Links that are cut and heal: each stands behind a relay that can be told to forward nothing.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use quorate_api::peer::v1::datagram::Message;
use quorate_model::id::NodeId;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;

use super::datagrams::{beat, exchange, report, wait_up};
use super::member::{LIMIT, Member, leader, profile};
use crate::raft::config::SNAPSHOT_EVERY;

/// Carries connections and datagrams for a link. While it is cut, what is sent is swallowed and
/// connections stay up: nobody is told.
struct Relay {
    runtime: Arc<tokio::runtime::Runtime>,
    cut: watch::Sender<bool>,
}

impl Relay {
    fn start(runtime: &Arc<tokio::runtime::Runtime>, at: SocketAddr, to: SocketAddr) -> Self {
        let (cut, is_cut) = watch::channel(false);
        runtime.spawn(carry_datagrams(at, to, is_cut.clone()));
        runtime.spawn(async move {
            let listener = TcpListener::bind(at).await.unwrap();
            loop {
                let (from, _) = listener.accept().await.unwrap();
                tokio::spawn(carry(from, to, is_cut.clone()));
            }
        });
        Self { runtime: Arc::clone(runtime), cut }
    }

    fn set_cut(&self, cut: bool) {
        let _context = self.runtime.enter();
        self.cut.send_replace(cut);
    }
}

async fn carry(from: TcpStream, to: SocketAddr, cut: watch::Receiver<bool>) {
    let Ok(to) = TcpStream::connect(to).await else { return };
    let (from_read, from_write) = from.into_split();
    let (to_read, to_write) = to.into_split();
    tokio::join!(
        forward(from_read, to_write, cut.clone()),
        forward(to_read, from_write, cut.clone()),
    );
}

async fn forward(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    cut: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 16 * 1024];
    let mut swallowed = false;
    loop {
        let Ok(length @ 1..) = from.read(&mut buffer).await else { return };
        swallowed |= *cut.borrow();
        // A stream with a hole in it is of no use any more, even after the cut has healed.
        if !swallowed && to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

/// Between whoever sends here and the link, both ways.
async fn carry_datagrams(at: SocketAddr, to: SocketAddr, cut: watch::Receiver<bool>) {
    let here = Arc::new(UdpSocket::bind(at).await.unwrap());
    let mut ways: BTreeMap<SocketAddr, Arc<UdpSocket>> = BTreeMap::new();
    let mut buffer = vec![0; 2_048];
    loop {
        let (length, from) = here.recv_from(&mut buffer).await.unwrap();
        if *cut.borrow() {
            continue;
        }
        if let Entry::Vacant(unknown) = ways.entry(from) {
            let way = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            way.connect(to).await.unwrap();
            let way = Arc::new(way);
            tokio::spawn(return_datagrams(
                Arc::clone(&way),
                (Arc::clone(&here), from),
                cut.clone(),
            ));
            unknown.insert(way);
        }
        // Refused while the node does not run.
        let _ = ways[&from].send(&buffer[..length]).await;
    }
}

async fn return_datagrams(
    way: Arc<UdpSocket>,
    (here, to): (Arc<UdpSocket>, SocketAddr),
    cut: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 2_048];
    loop {
        let Ok(length) = way.recv(&mut buffer).await else { continue };
        if !*cut.borrow() {
            here.send_to(&buffer[..length], to).await.unwrap();
        }
    }
}

struct Wired {
    members: Vec<Member>,
    /// Of each member, one for each link.
    relays: Vec<Vec<Relay>>,
}

/// Three voters, whose links stand behind relays.
fn wired() -> Wired {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let runtime = Arc::new(runtime);
    let mut wired = Wired { members: Vec::new(), relays: Vec::new() };
    for name in ["n1", "n2", "n3"] {
        let listening = profile(name);
        let advertised = profile(name);
        let pairs = advertised.links.iter().zip(&listening.links);
        wired.relays.push(pairs.map(|(a, l)| Relay::start(&runtime, a.listen, l.listen)).collect());
        let listen = listening.links.iter().map(|link| link.listen).collect();
        let member = match wired.members.first() {
            None => Member::founder_at("prod", advertised, listen, SNAPSHOT_EVERY),
            Some(first) => {
                let token = first.token();
                Member::joiner_at(&token, advertised, listen, SNAPSHOT_EVERY).unwrap()
            }
        };
        wired.members.push(member);
        wired.members[0].wait_voters(wired.members.len());
    }
    wired
}

impl Wired {
    fn cut(&self, member: usize, link: usize, cut: bool) {
        self.relays[member][link].set_cut(cut);
    }
}

#[test]
fn one_link_of_two_is_enough() {
    let wired = wired();
    leader(&wired.members).add_client("before");
    for member in 0..3 {
        wired.cut(member, 0, true);
    }
    leader(&wired.members).propose_until_taken("first link cut");
    for member in &wired.members {
        member.wait_client("first link cut");
    }
    for member in 0..3 {
        wired.cut(member, 0, false);
        wired.cut(member, 1, true);
    }
    leader(&wired.members).propose_until_taken("second link cut");
    for member in &wired.members {
        member.wait_client("second link cut");
    }
}

#[test]
fn a_node_that_was_cut_off_follows_again_and_its_datagrams_flow() {
    let mut wired = wired();
    let leading = leader(&wired.members).id();
    let position = wired.members.iter().position(|m| m.id() != leading).unwrap();
    let other = wired.members.iter().position(|m| m.id() == leading).unwrap();
    // Its own connections to the others stand behind their relays: only what they send is cut.
    for link in 0..2 {
        wired.cut(position, link, true);
    }
    leader(&wired.members).propose_until_taken("meanwhile");
    for link in 0..2 {
        wired.cut(position, link, false);
    }
    wired.members[position].wait_client("meanwhile");
    let [from, to] = wired.members.get_disjoint_mut([other, position]).unwrap();
    exchange(from, to);
    exchange(to, from);
}

/// The last member is dialled by both others, so that its relays carry all of its datagrams.
const LAST: usize = 2;

#[test]
fn a_cut_link_of_two_loses_no_datagram_and_is_seen() {
    let mut wired = wired();
    let ids: Vec<_> = wired.members.iter().map(Member::id).collect();
    let beats = [
        beat(&wired.members[0], ids[LAST], Duration::from_millis(5), report),
        beat(&wired.members[LAST], ids[0], Duration::from_millis(5), report),
    ];
    for link in [0, 1] {
        wait_up(&wired.members[0], ids[LAST], &[true, true]);
        wait_up(&wired.members[LAST], ids[0], &[true, true]);
        while wired.members[LAST].delivered_already().is_some() {}
        wired.cut(LAST, link, true);
        let mut came = BTreeSet::new();
        for _ in 0..200 {
            let Message::Report(report) = wired.members[LAST].delivery().message else { continue };
            assert!(came.insert(report.sequence), "{} came twice", report.sequence);
        }
        let (first, last) = (came.first().unwrap(), came.last().unwrap());
        assert_eq!(last - first + 1, 200, "some were lost: {came:?}");
        let seen = [link != 0, link != 1];
        wait_up(&wired.members[0], ids[LAST], &seen);
        wired.cut(LAST, link, false);
    }
    beats.iter().for_each(tokio::task::JoinHandle::abort);
}

/// Waits until the leader's heartbeats are answered over every link.
fn wait_heartbeats(leading: &Member, ids: &[NodeId]) {
    let answered = || {
        let mut others = ids.iter().filter(|&&id| id != leading.id());
        others.all(|&id| leading.node().heartbeats_answered(id))
    };
    let reached = leading.block_on(async {
        let mut look = tokio::time::interval(Duration::from_millis(5));
        let reaching = async {
            while !answered() {
                look.tick().await;
            }
        };
        tokio::time::timeout(LIMIT, reaching).await
    });
    assert!(reached.is_ok(), "heartbeats are not answered over every link");
}

#[test]
fn a_cut_link_of_two_costs_no_election() {
    let wired = wired();
    let leading = leader(&wired.members).id();
    leader(&wired.members).add_client("before");
    let term = leader(&wired.members).handle().status().borrow().term;
    let ids: Vec<_> = wired.members.iter().map(Member::id).collect();
    let _beats = [
        beat(&wired.members[0], ids[LAST], Duration::from_millis(5), report),
        beat(&wired.members[LAST], ids[0], Duration::from_millis(5), report),
    ];
    for link in [0, 1] {
        wait_up(&wired.members[0], ids[LAST], &[true, true]);
        wait_heartbeats(leader(&wired.members), &ids);
        for member in 0..3 {
            wired.cut(member, link, true);
        }
        for number in 0..10 {
            leader(&wired.members).add_client(&format!("c{link}-{number}"));
        }
        // That takes longer than an election would.
        wait_up(&wired.members[0], ids[LAST], &[link != 0, link != 1]);
        leader(&wired.members).add_client(&format!("c{link}"));
        for member in 0..3 {
            wired.cut(member, link, false);
        }
    }
    let status = leader(&wired.members).handle().status().borrow().clone();
    assert_eq!((status.leader, status.term), (Some(leading), term));
}
