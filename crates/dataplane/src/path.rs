//! The packets that try a real server over the way that IPVS sends clients' packets: a TCP segment to the
//! VIP, as it is (DR) or in an IP packet to the real server (TUN); and what counts as an answer. IPv4
//! alone (RFC 791, RFC 9293 §3.1). Bytes only; nothing is sent here.

use std::net::SocketAddrV4;

use quorate_model::reply::internet_checksum;

const TCP: u8 = 6;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
/// Of each of the two headers: none has options.
const HEADER_BYTES: u8 = 20;
const WINDOW: u16 = 64_240;
/// A real server that lacks the VIP but forwards packets would send it on to who has it: then nothing
/// comes back that could be taken for its answer.
const TIME_TO_LIVE: u8 = 1;

/// From where to where: from this director to the VIP. No two tries that are under way have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ends {
    pub(crate) from: SocketAddrV4,
    pub(crate) to: SocketAddrV4,
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
    let mut header = vec![0x45, 0, 0, HEADER_BYTES * 2, 0, 0, 0x40, 0, TIME_TO_LIVE, TCP, 0, 0];
    header.extend(ends.from.ip().octets());
    header.extend(ends.to.ip().octets());
    let sum = internet_checksum(&[&header]);
    put(&mut header, 10, sum);

    let mut segment = Vec::with_capacity(HEADER_BYTES.into());
    segment.extend(ends.from.port().to_be_bytes());
    segment.extend(ends.to.port().to_be_bytes());
    segment.extend(number.to_be_bytes());
    segment.extend(acknowledged.to_be_bytes());
    segment.extend([(HEADER_BYTES / 4) << 4, flags]);
    segment.extend(WINDOW.to_be_bytes());
    segment.extend([0; 4]);
    let pseudo = [0, TCP, 0, HEADER_BYTES];
    let sum =
        internet_checksum(&[&ends.from.ip().octets(), &ends.to.ip().octets(), &pseudo, &segment]);
    put(&mut segment, 16, sum);
    header.extend(segment);
    header
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
/// packet with options in its header is none: none is expected.
pub(crate) fn is_answer([first, second]: Mark) -> [(u32, u8); 4] {
    [(28, first), (29, second), (9, TCP), (0, 0x45)]
}

/// To which ends a packet is an answer.
pub(crate) fn ends(packet: &[u8]) -> Option<Ends> {
    let address = |at: usize| -> Option<[u8; 4]> { packet.get(at..at + 4)?.try_into().ok() };
    let port = |at: usize| Some(u16::from_be_bytes(packet.get(at..at + 2)?.try_into().ok()?));
    let is_tcp = packet.first() == Some(&0x45) && packet.get(9) == Some(&TCP);
    let to = SocketAddrV4::new(address(12)?.into(), port(20)?);
    let from = SocketAddrV4::new(address(16)?.into(), port(22)?);
    is_tcp.then_some(Ends { from, to })
}

/// What such a packet says to the connection that was asked for with this number.
pub(crate) fn reply(number: u32, packet: &[u8]) -> Option<Reply> {
    let word = |at: usize| Some(u32::from_be_bytes(packet.get(at..at + 4)?.try_into().ok()?));
    let (theirs, acknowledged, flags) = (word(24)?, word(28)?, *packet.get(33)?);
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

    fn ends() -> Ends {
        let at = |text: &str| text.parse().unwrap();
        Ends { from: at("192.168.10.80:40000"), to: at("192.168.10.180:80") }
    }

    /// What the real server would answer: the ends the other way round.
    fn answer(flags: u8, numbers: (u32, u32)) -> Vec<u8> {
        segment(Ends { from: ends().to, to: ends().from }, numbers, flags)
    }

    #[test]
    fn a_segment_is_a_packet_whose_checksums_verify() {
        for packet in [syn(ends(), 7), reset(ends(), u32::MAX, 9), answer(SYN | ACK, (1, 2))] {
            assert_eq!((packet.len(), packet[3]), (40, 40));
            assert_eq!(internet_checksum(&[&packet[..20]]), 0);
            assert_eq!(internet_checksum(&[&packet[12..20], &[0, TCP, 0, 20], &packet[20..]]), 0);
        }
        #[rustfmt::skip]
        let expected = [
            0x45, 0, 0, 40, 0, 0, 0x40, 0, 1, 6, 0xe3, 0x7b, 192, 168, 10, 80, 192, 168, 10, 180,
            0x9c, 0x40, 0, 80, 0, 0, 0, 7, 0, 0, 0, 0, 0x50, 0x02, 0xfa, 0xf0,
        ];
        assert_eq!(syn(ends(), 7)[..36], expected);
    }

    #[test]
    fn only_what_answers_the_very_question_is_a_reply() {
        let said = |packet: &[u8]| {
            super::ends(packet).filter(|of| *of == ends()).and_then(|_| reply(7, packet))
        };
        assert_eq!(said(&answer(SYN | ACK, (99, 8))), Some(Reply::Accepted(99)));
        assert_eq!(said(&answer(RST | ACK, (0, 8))), Some(Reply::Refused));
        for other in [
            answer(SYN | ACK, (99, 7)),
            answer(RST, (99, 0)),
            answer(ACK, (99, 8)),
            answer(SYN, (99, 8)),
            syn(ends(), 7),
        ] {
            assert_eq!(said(&other), None);
        }
        let good = answer(SYN | ACK, (99, 8));
        for place in [0, 9, 12, 19, 20, 23] {
            let mut other = good.clone();
            other[place] ^= 1;
            assert_eq!(said(&other), None, "byte {place}");
        }
        assert!((0..34).all(|length| said(&good[..length]).is_none()), "cut short");
    }

    #[test]
    fn the_filter_takes_the_answers_to_every_number_with_its_mark_and_to_no_other() {
        let mark = [0xab, 0xcd];
        let taken = |packet: &[u8]| {
            is_answer(mark).iter().all(|(at, byte)| packet[usize::try_from(*at).unwrap()] == *byte)
        };
        for drawn in [0, 1, 0x7fff, u16::MAX - 1, u16::MAX] {
            let answered = number(mark, drawn).wrapping_add(1);
            assert!(taken(&answer(SYN | ACK, (99, answered))), "{drawn}");
            assert!(!taken(&answer(SYN | ACK, (99, answered ^ 0x1_0000))), "{drawn}");
        }
    }
}
