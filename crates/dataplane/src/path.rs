//! The packets that try a real server over the way that IPVS sends clients' packets: a TCP segment to the
//! VIP, as it is (DR) or in an IP packet to the real server (TUN); and what counts as an answer (RFC
//! 791, RFC 8200, RFC 9293 §3.1). Bytes only; nothing is sent here.

use std::net::{IpAddr, SocketAddr};

use quorate_model::kernel::Family;
use quorate_model::reply::internet_checksum;

const TCP: u8 = 6;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
/// Of a header of TCP or IPv4: none has options.
const HEADER_BYTES: u8 = 20;
const WINDOW: u16 = 64_240;
/// A real server that lacks the VIP but forwards packets would send it on to who has it: then nothing
/// comes back that could be taken for its answer.
const TIME_TO_LIVE: u8 = 1;

/// From where to where: from this director to the VIP. No two tries that are under way have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ends {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
}

/// What the real server said to the connection that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// It takes it. The number that it goes on with.
    Accepted(u32),
    /// It refuses it: nothing listens.
    Refused,
}

/// Asks for a connection; its numbers begin with this one.
pub(crate) fn syn(ends: Ends, number: u32) -> Vec<u8> {
    segment(ends, (number, 0), SYN)
}

/// Takes back what was asked for, once it was granted: the real server forgets the connection.
pub(crate) fn reset(ends: Ends, number: u32, acknowledged: u32) -> Vec<u8> {
    segment(ends, (number.wrapping_add(1), acknowledged.wrapping_add(1)), RST | ACK)
}

fn segment(ends: Ends, (number, acknowledged): (u32, u32), flags: u8) -> Vec<u8> {
    let (from, to) = (octets(ends.from.ip()), octets(ends.to.ip()));
    let mut segment = Vec::with_capacity(HEADER_BYTES.into());
    segment.extend(ends.from.port().to_be_bytes());
    segment.extend(ends.to.port().to_be_bytes());
    segment.extend(number.to_be_bytes());
    segment.extend(acknowledged.to_be_bytes());
    segment.extend([(HEADER_BYTES / 4) << 4, flags]);
    segment.extend(WINDOW.to_be_bytes());
    segment.extend([0; 4]);
    // That of IPv6 has wider fields, and the same sum.
    let pseudo = [0, TCP, 0, HEADER_BYTES];
    let sum = internet_checksum(&[&from, &to, &pseudo, &segment]);
    put(&mut segment, 16, sum);

    let mut packet = if ends.to.is_ipv4() {
        let mut header = vec![0x45, 0, 0, HEADER_BYTES * 2, 0, 0, 0x40, 0, TIME_TO_LIVE, TCP, 0, 0];
        header.extend([from, to].concat());
        let sum = internet_checksum(&[&header]);
        put(&mut header, 10, sum);
        header
    } else {
        let mut header = vec![0x60, 0, 0, 0, 0, HEADER_BYTES, TCP, TIME_TO_LIVE];
        header.extend([from, to].concat());
        header
    };
    packet.extend(segment);
    packet
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn put(bytes: &mut [u8], at: usize, value: u16) {
    for (place, byte) in bytes.iter_mut().skip(at).zip(value.to_be_bytes()) {
        *place = byte;
    }
}

/// The first half of the numbers of all tries that one socket hears for: by it the kernel tells what is for
/// them, and only one packet in 65,536 that is not.
pub type Mark = [u8; 2];

/// What a connection's numbers begin with: marked, and then something that nobody guesses.
pub(crate) fn number(mark: Mark, drawn: u16) -> u32 {
    // What is acknowledged is one more, and marked still.
    u32::from(u16::from_be_bytes(mark)) << 16 | u32::from(drawn.min(u16::MAX - 1))
}

/// The bytes of a packet that make it an answer to one of the tries with this mark, each with its place. A
/// packet of IPv4 with options in its header is none, nor one of IPv6 with further headers: none is expected.
pub(crate) fn is_answer([first, second]: Mark, family: Family) -> Vec<(u32, u8)> {
    match family {
        Family::V4 => vec![(28, first), (29, second), (9, TCP), (0, 0x45)],
        Family::V6 => vec![(48, first), (49, second), (6, TCP)],
    }
}

/// The bytes from this place on, if there are as many.
fn bytes<const N: usize>(packet: &[u8], at: usize) -> Option<[u8; N]> {
    packet.get(at..)?.first_chunk().copied()
}

/// Where the segment of TCP in a packet begins, if there is one.
fn segment_of(packet: &[u8]) -> Option<&[u8]> {
    match (*packet.first()?, *packet.get(6)?, *packet.get(9)?) {
        (0x45, _, TCP) => packet.get(20..),
        (0x60..=0x6f, TCP, _) => packet.get(40..),
        _ => None,
    }
}

/// To which ends a packet is an answer.
pub(crate) fn ends(packet: &[u8]) -> Option<Ends> {
    let segment = segment_of(packet)?;
    let port = |at| Some(u16::from_be_bytes(bytes(segment, at)?));
    let (to, from): (IpAddr, IpAddr) = if packet.first() == Some(&0x45) {
        (bytes::<4>(packet, 12)?.into(), bytes::<4>(packet, 16)?.into())
    } else {
        (bytes::<16>(packet, 8)?.into(), bytes::<16>(packet, 24)?.into())
    };
    Some(Ends { from: SocketAddr::new(from, port(2)?), to: SocketAddr::new(to, port(0)?) })
}

/// What such a packet says to the connection that was asked for with this number.
pub(crate) fn reply(number: u32, packet: &[u8]) -> Option<Reply> {
    let segment = segment_of(packet)?;
    let word = |at| Some(u32::from_be_bytes(bytes(segment, at)?));
    let (theirs, acknowledged, flags) = (word(4)?, word(8)?, *segment.get(13)?);
    if flags & ACK == 0 || acknowledged != number.wrapping_add(1) {
        return None;
    }
    match (flags & RST != 0, flags & SYN != 0) {
        (true, _) => Some(Reply::Refused),
        (false, true) => Some(Reply::Accepted(theirs)),
        (false, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends_of(from: &str, to: &str) -> Ends {
        Ends { from: from.parse().unwrap(), to: to.parse().unwrap() }
    }

    fn v4() -> Ends {
        ends_of("192.168.10.80:40000", "192.168.10.180:80")
    }

    fn v6() -> Ends {
        ends_of("[2001:db8::80]:40000", "[2001:db8::180]:80")
    }

    /// What the real server would answer: the ends the other way round.
    fn answer(of: Ends, flags: u8, numbers: (u32, u32)) -> Vec<u8> {
        segment(Ends { from: of.to, to: of.from }, numbers, flags)
    }

    #[test]
    fn a_segment_is_a_packet_whose_checksums_verify() {
        for (of, header) in [(v4(), 20), (v6(), 40)] {
            let answered = answer(of, SYN | ACK, (1, 2));
            for packet in [syn(of, 7), reset(of, u32::MAX, 9), answered] {
                assert_eq!(packet.len(), header + 20);
                let addresses = if header == 20 { 12..20 } else { 8..40 };
                let pseudo: [&[u8]; 3] = [&packet[addresses], &[0, TCP, 0, 20], &packet[header..]];
                assert_eq!(internet_checksum(&pseudo), 0);
            }
        }
        assert_eq!(internet_checksum(&[&syn(v4(), 7)[..20]]), 0);
        #[rustfmt::skip]
        let expected = [
            0x45, 0, 0, 40, 0, 0, 0x40, 0, 1, 6, 0xe3, 0x7b, 192, 168, 10, 80, 192, 168, 10, 180,
            0x9c, 0x40, 0, 80, 0, 0, 0, 7, 0, 0, 0, 0, 0x50, 0x02, 0xfa, 0xf0,
        ];
        assert_eq!(syn(v4(), 7)[..36], expected);
        // Version 6, 20 bytes of TCP, one hop.
        assert_eq!(syn(v6(), 7)[..8], [0x60, 0, 0, 0, 0, 20, TCP, 1]);
    }

    #[test]
    fn only_what_answers_the_very_question_is_a_reply() {
        for (of, at) in [(v4(), [0, 9, 12, 19, 20, 23]), (v6(), [0, 6, 8, 39, 40, 43])] {
            let said =
                |packet: &[u8]| ends(packet).filter(|to| *to == of).and_then(|_| reply(7, packet));
            assert_eq!(said(&answer(of, SYN | ACK, (99, 8))), Some(Reply::Accepted(99)));
            assert_eq!(said(&answer(of, RST | ACK, (0, 8))), Some(Reply::Refused));
            for other in [
                answer(of, SYN | ACK, (99, 7)),
                answer(of, RST, (99, 0)),
                answer(of, ACK, (99, 8)),
                answer(of, SYN, (99, 8)),
                syn(of, 7),
            ] {
                assert_eq!(said(&other), None);
            }
            let good = answer(of, SYN | ACK, (99, 8));
            for place in at {
                let mut other = good.clone();
                other[place] ^= if place == 0 { 0x11 } else { 1 };
                assert_eq!(said(&other), None, "byte {place}");
            }
            assert!((0..good.len() - 6).all(|length| said(&good[..length]).is_none()), "cut short");
        }
    }

    #[test]
    fn the_filter_takes_the_answers_to_every_number_with_its_mark_and_to_no_other() {
        let mark = [0xab, 0xcd];
        for (of, family) in [(v4(), Family::V4), (v6(), Family::V6)] {
            let taken = |packet: &[u8]| {
                let wanted = is_answer(mark, family);
                wanted.iter().all(|(at, byte)| packet[usize::try_from(*at).unwrap()] == *byte)
            };
            for drawn in [0, 1, 0x7fff, u16::MAX - 1, u16::MAX] {
                let answered = number(mark, drawn).wrapping_add(1);
                assert!(taken(&answer(of, SYN | ACK, (99, answered))), "{drawn}");
                assert!(!taken(&answer(of, SYN | ACK, (99, answered ^ 0x1_0000))), "{drawn}");
            }
        }
    }
}
