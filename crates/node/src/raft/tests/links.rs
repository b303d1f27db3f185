//! Links that are cut and heal, or are slow: each stands behind a relay that can be told to forward
//! nothing, or late.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use quorate_api::peer::v1::datagram::Message;
use quorate_model::id::NodeId;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::datagrams::{beat, exchange, report, wait_up};
use super::member::{LIMIT, Member, leader, profile, write_until_taken};
use crate::raft::config::SNAPSHOT_EVERY;

/// How a line is.
#[derive(Debug, Clone, Copy, Default)]
struct Line {
    /// What is sent is swallowed, and connections stay up: nobody is told.
    cut: bool,
    /// How late it arrives.
    delay: Duration,
}

/// Carries connections and datagrams for a link.
struct Relay {
    runtime: Arc<tokio::runtime::Runtime>,
    line: watch::Sender<Line>,
    /// Connections that were made.
    accepted: Arc<AtomicUsize>,
}

impl Relay {
    fn start(runtime: &Arc<tokio::runtime::Runtime>, at: SocketAddr, to: SocketAddr) -> Self {
        let (line, how) = watch::channel(Line::default());
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        runtime.spawn(carry_datagrams(at, to, how.clone()));
        runtime.spawn(async move {
            let listener = TcpListener::bind(at).await.unwrap();
            loop {
                let (from, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(carry(from, to, how.clone()));
            }
        });
        Self { runtime: Arc::clone(runtime), line, accepted }
    }

    fn set(&self, change: impl FnOnce(&mut Line)) {
        let _context = self.runtime.enter();
        self.line.send_modify(change);
    }
}

async fn carry(from: TcpStream, to: SocketAddr, line: watch::Receiver<Line>) {
    let Ok(to) = TcpStream::connect(to).await else { return };
    let (from_read, from_write) = from.into_split();
    let (to_read, to_write) = to.into_split();
    tokio::join!(
        forward(from_read, to_write, line.clone()),
        forward(to_read, from_write, line.clone()),
    );
}

async fn forward(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    line: watch::Receiver<Line>,
) {
    let (on_its_way, mut arriving) = mpsc::channel::<(Instant, Vec<u8>)>(1_024);
    let sending = async move {
        let mut buffer = vec![0; 16 * 1024];
        let mut swallowed = false;
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            let Line { cut, delay } = *line.borrow();
            swallowed |= cut;
            // A stream with a hole in it is of no use any more, even after the cut has healed.
            if !swallowed {
                let part = (Instant::now() + delay, buffer[..length].to_vec());
                if on_its_way.send(part).await.is_err() {
                    return;
                }
            }
        }
    };
    let taking = async {
        while let Some((at, bytes)) = arriving.recv().await {
            sleep_until(at).await;
            if to.write_all(&bytes).await.is_err() {
                // What is sent fails from now on.
                arriving.close();
                return;
            }
        }
    };
    tokio::join!(sending, taking);
}

/// Between whoever sends here and the link, both ways.
async fn carry_datagrams(at: SocketAddr, to: SocketAddr, line: watch::Receiver<Line>) {
    let here = Arc::new(UdpSocket::bind(at).await.unwrap());
    let mut ways: BTreeMap<SocketAddr, Arc<UdpSocket>> = BTreeMap::new();
    let mut buffer = vec![0; 2_048];
    loop {
        let (length, from) = here.recv_from(&mut buffer).await.unwrap();
        if let Entry::Vacant(unknown) = ways.entry(from) {
            let way = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            way.connect(to).await.unwrap();
            let way = Arc::new(way);
            tokio::spawn(return_datagrams(
                Arc::clone(&way),
                (Arc::clone(&here), from),
                line.clone(),
            ));
            unknown.insert(way);
        }
        let (way, bytes) = (Arc::clone(&ways[&from]), buffer[..length].to_vec());
        // Refused while the node does not run.
        arrive(&line, async move { drop(way.send(&bytes).await) });
    }
}

async fn return_datagrams(
    way: Arc<UdpSocket>,
    (here, to): (Arc<UdpSocket>, SocketAddr),
    line: watch::Receiver<Line>,
) {
    let mut buffer = vec![0; 2_048];
    loop {
        let Ok(length) = way.recv(&mut buffer).await else { continue };
        let (here, bytes) = (Arc::clone(&here), buffer[..length].to_vec());
        arrive(&line, async move { drop(here.send_to(&bytes, to).await) });
    }
}

/// Lets a datagram arrive as the line is.
fn arrive(line: &watch::Receiver<Line>, sending: impl Future<Output = ()> + Send + 'static) {
    let Line { cut, delay } = *line.borrow();
    let at = Instant::now() + delay;
    if !cut {
        tokio::spawn(async move {
            sleep_until(at).await;
            sending.await;
        });
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
        self.relays[member][link].set(|line| line.cut = cut);
    }

    /// The first and the last member send to each other until that is aborted.
    fn beats(&self) -> [JoinHandle<()>; 2] {
        [(0, LAST), (LAST, 0)].map(|(from, to)| {
            let to = self.members[to].id();
            beat(&self.members[from], to, Duration::from_millis(5), report)
        })
    }

    fn slow(&self, delay: Duration) {
        self.relays.iter().flatten().for_each(|relay| relay.set(|line| line.delay = delay));
    }

    /// Connections that were made so far.
    fn connections(&self) -> usize {
        self.relays.iter().flatten().map(|relay| relay.accepted.load(Ordering::Relaxed)).sum()
    }
}

#[test]
fn one_link_of_two_is_enough() {
    let wired = wired();
    leader(&wired.members).add_client("before");
    for member in 0..3 {
        wired.cut(member, 0, true);
    }
    write_until_taken(&wired.members, "first link cut");
    for member in &wired.members {
        member.wait_client("first link cut");
    }
    for member in 0..3 {
        wired.cut(member, 0, false);
        wired.cut(member, 1, true);
    }
    write_until_taken(&wired.members, "second link cut");
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
    write_until_taken(&wired.members, "meanwhile");
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
    let beats = wired.beats();
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
    beats.iter().for_each(JoinHandle::abort);
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
    let _beats = wired.beats();
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

/// Under these times Raft gives an append 45 ms, and a vote 150 ms.
#[test]
fn answers_that_come_late_cost_no_connection() {
    let wired = wired();
    leader(&wired.members).add_client("before");
    wired.slow(Duration::from_millis(35));
    let mut round = 0;
    let begin = Instant::now();
    loop {
        let before = wired.connections();
        for number in 0..20 {
            write_until_taken(&wired.members, &format!("c{round}-{number}"));
        }
        if wired.connections() == before {
            break;
        }
        assert!(begin.elapsed() < LIMIT, "connections are still made: {before} before this round");
        round += 1;
    }
    wired.slow(Duration::ZERO);
    write_until_taken(&wired.members, "after");
}

/// It is heard later than after the silence at which a connection is given up.
#[test]
fn a_slow_node_is_not_dialled_over_and_over() {
    let mut wired = wired();
    let ids: Vec<_> = wired.members.iter().map(Member::id).collect();
    let _beats = wired.beats();
    wait_up(&wired.members[0], ids[LAST], &[true, true]);
    wired.slow(Duration::from_millis(150));
    let begin = Instant::now();
    loop {
        let before = wired.members[0].node().transport().handshakes();
        for _ in 0..300 {
            wired.members[LAST].delivery();
        }
        let now = wired.members[0].node().transport().handshakes();
        if now == before {
            break;
        }
        assert!(begin.elapsed() < LIMIT, "it is still dialled: {before} times, then {now}");
    }
}
