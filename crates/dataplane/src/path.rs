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

/// From where to where: from this director to the VIP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ends {
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

/// The bytes of a packet that make it one from the VIP to this director, each with its place, those
/// first that others have the least. A packet with options in its header is none: none is expected.
pub(crate) fn is_for(ends: Ends) -> Vec<(u32, u8)> {
    let places = |at: u32, bytes: &[u8]| (at..).zip(bytes.to_vec()).collect::<Vec<_>>();
    let mut wanted = places(22, &ends.from.port().to_be_bytes());
    wanted.extend(places(12, &ends.to.ip().octets()));
    wanted.extend(places(16, &ends.from.ip().octets()));
    wanted.extend(places(20, &ends.to.port().to_be_bytes()));
    wanted.extend([(9, TCP), (0, 0x45)]);
    wanted
}

/// What a packet says to the connection that was asked for with this number.
pub(crate) fn reply(ends: Ends, number: u32, packet: &[u8]) -> Option<Reply> {
    let is_for = |&(at, value): &(u32, u8)| {
        usize::try_from(at).ok().and_then(|at| packet.get(at)) == Some(&value)
    };
    if !self::is_for(ends).iter().all(is_for) {
        return None;
    }
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
        let said = |packet: &[u8]| reply(ends(), 7, packet);
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
}
