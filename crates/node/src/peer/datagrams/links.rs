//! What is known of each link to each other node: its connections, when it was heard last, its loss
//! and round trip.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use prost::bytes::Bytes;
use quinn::{Connection, VarInt};
use quorate_model::id::NodeId;
use tokio::time::Instant;

/// Connections of one pair of links: those that a node makes while it looks for a way, and the one
/// before.
const HELD_MAX: usize = 8;
/// Loss is that of the last so many samples, one a second.
const SAMPLES: usize = 10;
/// Below this many packets, loss says nothing.
const PACKETS_LEAST: u64 = 20;

/// A link to another node, as this one sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct LinkView {
    /// The other node.
    pub node: NodeId,
    /// This node's link.
    pub link: String,
    /// Whether anything was heard over it lately.
    pub up: bool,
    /// Of a million packets sent lately, how many were lost.
    pub loss_ppm: Option<u32>,
    /// The round trip.
    pub round_trip: Option<Duration>,
}

/// A pair of links: another node, and the position of this node's link.
pub(super) type Pair = (NodeId, usize);

/// All links to all other nodes.
#[derive(Debug, Default)]
pub(super) struct Links {
    slots: BTreeMap<Pair, Slot>,
    sequences: BTreeMap<NodeId, u64>,
}

#[derive(Debug, Default)]
struct Slot {
    /// The last one is used: what was heard over last, or what this node dialled last.
    held: Vec<Held>,
    heard: Option<Instant>,
    sent: Counts,
    samples: VecDeque<Counts>,
    /// What the log says of it.
    said_up: Option<bool>,
}

#[derive(Debug)]
struct Held {
    connection: Connection,
    /// Whether this node made it.
    dialled: bool,
    counted: Counts,
    /// What `datagram_send_buffer_space` says when nothing waits.
    room: usize,
}

/// Packets.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counts {
    sent: u64,
    lost: u64,
}

impl Counts {
    fn since(self, earlier: Self) -> Self {
        let since = |now: u64, then: u64| now.saturating_sub(then);
        Self { sent: since(self.sent, earlier.sent), lost: since(self.lost, earlier.lost) }
    }
}

impl Slot {
    fn count(&mut self) {
        for held in &mut self.held {
            let path = held.connection.stats().path;
            let now = Counts { sent: path.sent_packets, lost: path.lost_packets };
            let new = now.since(held.counted);
            self.sent.sent += new.sent;
            self.sent.lost += new.lost;
            held.counted = now;
        }
    }

    fn sample(&mut self) {
        self.count();
        self.samples.push_back(self.sent);
        if self.samples.len() > SAMPLES {
            self.samples.pop_front();
        }
    }

    fn is_up(&self, now: Instant, silence: Duration) -> bool {
        self.heard.is_some_and(|at| now.saturating_duration_since(at) <= silence)
    }
}

/// Of a million, from the oldest to the newest of these samples.
fn loss_ppm(samples: &VecDeque<Counts>) -> Option<u32> {
    let lately = samples.back()?.since(*samples.front()?);
    if lately.sent < PACKETS_LEAST {
        return None;
    }
    u32::try_from(lately.lost.min(lately.sent) * 1_000_000 / lately.sent).ok()
}

/// How often each part of a message is sent that is of use only as a whole: a report of 500 groups
/// has some twenty, of which at 20 % loss hardly ever all arrive at once.
fn copies(loss_ppm: Option<u32>) -> usize {
    match loss_ppm.unwrap_or(0) {
        0..10_000 => 1,
        10_000..100_000 => 2,
        _ => 3,
    }
}

impl Links {
    /// There are these pairs of links; what is known of others is forgotten.
    pub(super) fn keep(&mut self, pairs: &BTreeSet<Pair>) {
        for (pair, slot) in &mut self.slots {
            if !pairs.contains(pair) {
                slot.held.iter().for_each(|held| held.connection.close(VarInt::from_u32(0), b""));
            }
        }
        self.slots.retain(|pair, _| pairs.contains(pair));
        self.sequences.retain(|node, _| pairs.iter().any(|(other, _)| other == node));
        for &pair in pairs {
            self.slots.entry(pair).or_default();
        }
    }

    /// A connection that this node made: it is used from now on. What is on its way over the one
    /// before is still taken; nobody sends on that any more, so it ends by its silence.
    pub(super) fn dialled(&mut self, pair: Pair, connection: Connection) {
        let slot = self.slots.entry(pair).or_default();
        slot.count();
        for held in slot.held.drain(..slot.held.len().saturating_sub(1)) {
            held.connection.close(VarInt::from_u32(0), b"another one is used");
        }
        slot.held.push(Held::new(connection, true));
    }

    /// A connection that the other node made: used once something is heard over it.
    pub(super) fn accepted(&mut self, pair: Pair, connection: Connection) {
        let slot = self.slots.entry(pair).or_default();
        slot.count();
        slot.held.insert(0, Held::new(connection, false));
        if slot.held.len() > HELD_MAX {
            // The one that was not heard for longest.
            slot.held.remove(1).connection.close(VarInt::from_u32(0), b"too many");
        }
    }

    /// A connection ended.
    pub(super) fn ended(&mut self, pair: Pair, id: usize) {
        if let Some(slot) = self.slots.get_mut(&pair) {
            slot.count();
            slot.held.retain(|held| held.connection.stable_id() != id);
        }
    }

    /// Something came from the other node over this connection.
    pub(super) fn heard(&mut self, pair: Pair, id: usize, now: Instant) {
        let Some(slot) = self.slots.get_mut(&pair) else { return };
        slot.heard = Some(now);
        // What this node dialled last it watches, so it sends on that.
        let stays = |held: &Held| held.dialled || held.connection.stable_id() == id;
        if !slot.held.last().is_some_and(stays)
            && let Some(at) = slot.held.iter().position(|h| h.connection.stable_id() == id)
        {
            let held = slot.held.remove(at);
            slot.held.push(held);
        }
    }

    /// The number of the next message to a node.
    pub(super) fn next_sequence(&mut self, to: NodeId) -> u64 {
        let sequence = self.sequences.entry(to).or_default();
        *sequence += 1;
        *sequence
    }

    /// Sends these frames over every link to a node; none is waited for. Where they are of use only
    /// as a whole, a link that loses packets carries them more than once.
    pub(super) fn send(&self, to: NodeId, frames: &[Bytes], whole: bool) {
        for (_, slot) in self.slots.range((to, 0)..=(to, usize::MAX)) {
            let Some(held) = slot.held.last() else { continue };
            let copies = if whole { copies(loss_ppm(&slot.samples)) } else { 1 };
            for frame in frames.iter().cycle().take(frames.len() * copies) {
                if held.connection.send_datagram(frame.clone()).is_err() {
                    // It is closed: what keeps it will notice.
                    break;
                }
            }
        }
    }

    /// Whether anything waits to be taken by a socket.
    pub(super) fn is_sending(&self) -> bool {
        let mut held = self.slots.values().flat_map(|slot| &slot.held);
        held.any(|held| {
            held.connection.close_reason().is_none()
                && held.connection.datagram_send_buffer_space() < held.room
        })
    }

    /// Counts what was sent and lost, once a second; comes back each link that went up or down
    /// since the last time, or was up or down when first looked at.
    pub(super) fn sample(&mut self, now: Instant, silence: Duration) -> Vec<(Pair, bool)> {
        let mut changes = Vec::new();
        for (pair, slot) in &mut self.slots {
            slot.sample();
            let up = slot.is_up(now, silence);
            // A link that has just been heard of is not down yet.
            if slot.said_up.replace(up).is_some_and(|said| said != up) {
                changes.push((*pair, up));
            }
        }
        changes
    }

    /// What is known of each link; `names` are this node's links.
    pub(super) fn view(&self, now: Instant, silence: Duration, names: &[String]) -> Vec<LinkView> {
        let view = |(&(node, link), slot): (&Pair, &Slot)| {
            let up = slot.is_up(now, silence);
            Some(LinkView {
                node,
                link: names.get(link)?.clone(),
                up,
                loss_ppm: loss_ppm(&slot.samples).filter(|_| up),
                round_trip: slot.held.last().map(|held| held.connection.rtt()).filter(|_| up),
            })
        };
        self.slots.iter().filter_map(view).collect()
    }

    /// The links to this node that are up.
    pub(super) fn up(&self, to: NodeId, now: Instant, silence: Duration) -> Vec<usize> {
        let slots = self.slots.range((to, 0)..=(to, usize::MAX));
        slots.filter(|(_, slot)| slot.is_up(now, silence)).map(|(&(_, link), _)| link).collect()
    }
}

impl Held {
    fn new(connection: Connection, dialled: bool) -> Self {
        let room = connection.datagram_send_buffer_space();
        Self { connection, dialled, counted: Counts::default(), room }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(samples: &[(u64, u64)]) -> VecDeque<Counts> {
        samples.iter().map(|&(sent, lost)| Counts { sent, lost }).collect()
    }

    #[test]
    fn loss_is_that_of_the_packets_sent_lately() {
        assert_eq!(loss_ppm(&samples(&[])), None);
        assert_eq!(loss_ppm(&samples(&[(1_000, 900), (1_019, 901)])), None, "too few to tell");
        assert_eq!(loss_ppm(&samples(&[(1_000, 900), (1_100, 900)])), Some(0));
        assert_eq!(loss_ppm(&samples(&[(1_000, 900), (1_050, 905), (1_100, 925)])), Some(250_000));
        // A loss is noticed later than the packet was sent.
        assert_eq!(loss_ppm(&samples(&[(1_000, 0), (1_020, 30)])), Some(1_000_000));
    }

    #[test]
    fn what_counts_only_as_a_whole_is_repeated_where_packets_are_lost() {
        let lossy = [None, Some(9_999), Some(10_000), Some(200_000), Some(1_000_000)];
        assert_eq!(lossy.map(copies), [1, 1, 2, 3, 3]);
    }

    #[test]
    fn a_link_is_up_while_something_is_heard() {
        let now = Instant::now();
        let silence = Duration::from_millis(450);
        let mut links = Links::default();
        let pair = (NodeId(2), 0);
        links.keep(&[pair].into());
        assert!(!links.view(now, silence, &["lan".to_owned()])[0].up, "nothing was heard yet");
        assert!(links.sample(now, silence).is_empty(), "that is how it begins");
        links.heard(pair, 1, now);
        assert_eq!(links.sample(now + silence, silence), [(pair, true)]);
        let later = now + silence + Duration::from_millis(1);
        assert_eq!(links.sample(later, silence), [(pair, false)]);
        assert!(links.up(NodeId(2), later, silence).is_empty());
        assert_eq!(links.up(NodeId(2), now, silence), [0]);
    }
}
