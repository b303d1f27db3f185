//! Cutting a message into parts that fit one frame each. Pure.
//!
//! A renewal, an answer and a release are cut between groups, so that each part means something by
//! itself: the loss of one costs its groups a round, and not every group (with 500 groups a
//! renewal has some twenty parts, and at 20 % loss hardly one would ever arrive whole). A report
//! replaces the one before it, so it counts only as a whole; it is cut anywhere, as is the message
//! with a group that no frame holds.

use peer::datagram::Message;
use prost::Message as _;
use prost::bytes::Bytes;
use quorate_api::peer::v1 as peer;

/// Bytes of a message in one frame. Every path carries UDP payloads of 1,200 bytes; QUIC leaves
/// 1,162 of them, and the header of a frame takes at most 79.
pub(super) const BODY_BYTES: usize = 1_080;
/// Parts of one message: 10,000 groups with long names and several addresses each have fewer.
pub(super) const PARTS_MAX: usize = 4_096;
/// What the lengths in front of a part and of its inner message grow by with its groups.
const LENGTHS: usize = 4;
/// The tag and length in front of a group.
const GROUP_HEAD: usize = 3;

/// A message in parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parts {
    /// The parts; joined, they are one `Datagram`.
    pub(super) bodies: Vec<Bytes>,
    /// Whether each is a `Datagram` by itself.
    pub(super) divisible: bool,
}

fn encode(message: Message) -> Vec<u8> {
    peer::Datagram { message: Some(message) }.encode_to_vec()
}

/// Cuts a message; `None` if it is larger than any that a cluster has.
pub(super) fn cut(message: Message) -> Option<Parts> {
    let whole = peer::Datagram { message: Some(message) };
    if whole.encoded_len() <= BODY_BYTES {
        return Some(Parts { bodies: vec![whole.encode_to_vec().into()], divisible: true });
    }
    let divided = match whole.message? {
        Message::Renew(peer::Renew { incarnation, round, membership, lease_ns, groups }) => {
            divide(groups, |groups| {
                Message::Renew(peer::Renew { incarnation, round, membership, lease_ns, groups })
            })
        }
        Message::RenewReply(peer::RenewReply { incarnation, round, results }) => {
            divide(results, |results| {
                Message::RenewReply(peer::RenewReply { incarnation, round, results })
            })
        }
        Message::Released(peer::Released { groups }) => {
            divide(groups, |groups| Message::Released(peer::Released { groups }))
        }
        report @ Message::Report(_) => Err(report),
    };
    let parts = match divided {
        Ok(bodies) => Parts { bodies, divisible: true },
        Err(message) => {
            let whole = Bytes::from(encode(message));
            let starts = (0..whole.len()).step_by(BODY_BYTES);
            let slice = |start| whole.slice(start..whole.len().min(start + BODY_BYTES));
            Parts { bodies: starts.map(slice).collect(), divisible: false }
        }
    };
    (parts.bodies.len() <= PARTS_MAX).then_some(parts)
}

/// Parts with as many groups as fit; the message as it was if some group fits into none.
fn divide<G: prost::Message>(
    groups: Vec<G>,
    message: impl Fn(Vec<G>) -> Message,
) -> Result<Vec<Bytes>, Message> {
    let head = encode(message(Vec::new())).len() + LENGTHS;
    let size = |group: &G| group.encoded_len() + GROUP_HEAD;
    if groups.iter().any(|group| head + size(group) > BODY_BYTES) {
        return Err(message(groups));
    }
    let mut bodies = Vec::new();
    let mut part = Vec::new();
    let mut bytes = head;
    for group in groups {
        if bytes + size(&group) > BODY_BYTES {
            bodies.push(encode(message(std::mem::take(&mut part))).into());
            bytes = head;
        }
        bytes += size(&group);
        part.push(group);
    }
    bodies.push(encode(message(part)).into());
    Ok(bodies)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn renew(groups: usize, addresses: usize) -> Message {
        let group = |number: usize| peer::RenewGroup {
            group: format!("group-{number}"),
            epoch: 1_000 + number as u64,
            addresses: vec![vec![7; 16]; addresses],
            holding: true,
        };
        Message::Renew(peer::Renew {
            incarnation: u64::MAX,
            round: 1 << 40,
            membership: 12,
            lease_ns: 250_000_000,
            groups: (0..groups).map(group).collect(),
        })
    }

    pub(in super::super) fn report(groups: usize) -> Message {
        let heard = |number: usize| peer::HeardGroup {
            group: format!("group-{number}"),
            epoch: 1_000 + number as u64,
            silent_ns: 25_000_000,
            deaf_ns: None,
        };
        let fitness = |number: usize| peer::Fitness {
            group: format!("group-{number}"),
            obstacles: Vec::new(),
            reach: None,
        };
        Message::Report(peer::Report {
            incarnation: 1,
            sequence: 2,
            heard: (0..groups).map(heard).collect(),
            fitness: (0..groups).map(fitness).collect(),
            cold: false,
        })
    }

    fn joined(parts: &Parts) -> Message {
        let bytes = parts.bodies.concat();
        peer::Datagram::decode(bytes.as_slice()).unwrap().message.unwrap()
    }

    fn answer(groups: usize) -> Message {
        let result = |number: usize| peer::RenewResult {
            group: format!("group-{number}"),
            epoch: u64::MAX,
            outcome: 5,
            remaining_ns: u64::MAX,
        };
        Message::RenewReply(peer::RenewReply {
            incarnation: 1,
            round: 2,
            results: (0..groups).map(result).collect(),
        })
    }

    fn released(groups: usize) -> Message {
        let group =
            |number: usize| peer::ReleasedGroup { group: "x".repeat(63), epoch: number as u64 };
        Message::Released(peer::Released { groups: (0..groups).map(group).collect() })
    }

    #[test]
    fn whatever_its_size_a_message_is_its_parts_joined_and_each_fits() {
        for groups in [0, 1, 15, 16, 17, 18, 500, 4_000, 10_000] {
            for message in [renew(groups, 2), answer(groups), released(groups), report(groups)] {
                let parts = cut(message.clone()).unwrap();
                assert!(parts.bodies.iter().all(|body| body.len() <= BODY_BYTES));
                assert_eq!(joined(&parts), message);
            }
        }
    }

    #[test]
    fn each_part_of_a_renewal_asks_for_its_groups_by_itself() {
        let parts = cut(renew(500, 1)).unwrap();
        assert!(parts.divisible && parts.bodies.len() > 10, "{}", parts.bodies.len());
        let mut groups = 0;
        for body in &parts.bodies {
            let Some(Message::Renew(part)) = peer::Datagram::decode(body.clone()).unwrap().message
            else {
                panic!("no renewal")
            };
            assert_eq!((part.round, part.lease_ns), (1 << 40, 250_000_000));
            groups += part.groups.len();
        }
        assert_eq!(groups, 500);
    }

    #[test]
    fn a_report_and_a_group_that_no_frame_holds_are_cut_anywhere() {
        assert!(!cut(report(500)).unwrap().divisible);
        // A group's addresses are promised together, so they must arrive together.
        let large = renew(2, 100);
        let parts = cut(large.clone()).unwrap();
        assert!(!parts.divisible);
        assert_eq!(joined(&parts), large);
    }

    #[test]
    fn a_message_larger_than_any_cluster_has_is_not_sent() {
        assert_eq!(cut(renew(10_000, 40)), None);
    }
}
