//! Frames of the observer: the questions that it sends and the answers that it can read. Pure.
//!
//! Every answer names its question: each tick's ARP question has a hardware address of its own as
//! sender (answers to all of them come back over the same bridge port), the tick stands in the
//! sequence number of an ICMP echo, and in the sequence number of a TCP SYN. Its tests are below.

use std::net::Ipv4Addr;

/// A hardware address.
pub type Mac = [u8; 6];

const BROADCAST: Mac = [0xff; 6];
/// Locally administered; the last two bytes are the tick.
const ASKER: [u8; 4] = [0x02, 0x0b, 0x5e, 0x00];
/// Ticks in a hardware address: so many entries in the bridge's table, and no more.
pub(super) const ARP_TICKS: u64 = 4096;
/// Ticks in an ICMP or TCP sequence number.
pub(super) const IP_TICKS: u64 = 1 << 16;
/// Marks our ICMP identifiers; the low byte is the director that was asked.
const IDENTIFIER: u8 = 0x5a;
/// Our TCP ports: below the kernel's ephemeral ones, one for each director.
const FIRST_PORT: u16 = 20_480;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// Reads a hardware address as `ip link` shows it.
pub(super) fn mac(text: &str) -> Option<Mac> {
    let bytes: Option<Vec<u8>> =
        text.split(':').map(|part| u8::from_str_radix(part, 16).ok()).collect();
    bytes?.try_into().ok()
}

/// Who asks: an address that is the client's own, and one that nobody has, for ARP.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asker {
    /// The hardware address of the client's interface.
    pub(super) mac: Mac,
    /// The address of the client's interface.
    pub(super) address: Ipv4Addr,
    /// The sender's address in ARP questions. Not the client's own: who answers notes the sender,
    /// and each question has another hardware address.
    pub(super) arp_address: Ipv4Addr,
    /// The time to live of TCP questions. Just enough for a director, so that none that was asked
    /// forwards the question to another.
    pub(super) tcp_ttl: u8,
    /// The port that TCP questions are for.
    pub(super) tcp_port: u16,
}

/// What a frame says, if it is an answer about a VIP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// An ARP answer to the question of a tick (modulo [`ARP_TICKS`]).
    Arp { vip: Ipv4Addr, from: Mac, tick: u64 },
    /// An echo reply to the question of a tick (modulo [`IP_TICKS`]).
    Icmp { vip: Ipv4Addr, from: Mac, tick: u64 },
    /// A SYN-ACK or reset to the question of a tick (modulo [`IP_TICKS`]), put to a director.
    Tcp { vip: Ipv4Addr, asked: usize, tick: u64 },
}

impl Asker {
    /// "Who has the VIP?", to everybody.
    pub(super) fn arp(&self, vip: Ipv4Addr, tick: u64) -> Vec<u8> {
        let [.., high, low] = (tick % ARP_TICKS).to_be_bytes();
        let sender = [ASKER[0], ASKER[1], ASKER[2], ASKER[3], high, low];
        let mut frame = ethernet(BROADCAST, sender, [0x08, 0x06]);
        // Ethernet, IPv4, their lengths, a request.
        frame.extend([0, 1, 0x08, 0, 6, 4, 0, 1]);
        frame.extend(sender);
        frame.extend(self.arp_address.octets());
        frame.extend([0; 6]);
        frame.extend(vip.octets());
        frame
    }

    /// An echo request for the VIP, to one director.
    pub(super) fn icmp(&self, vip: Ipv4Addr, to: Mac, asked: usize, tick: u64) -> Vec<u8> {
        let [.., high, low] = (tick % IP_TICKS).to_be_bytes();
        let mut echo = vec![8, 0, 0, 0, IDENTIFIER, byte(asked), high, low];
        let sum = checksum(&echo, 0);
        echo[2..4].copy_from_slice(&sum.to_be_bytes());
        self.ip(vip, to, 1, 1, &echo)
    }

    /// A SYN to the VIP's port, to one director.
    pub(super) fn tcp(&self, vip: Ipv4Addr, to: Mac, asked: usize, tick: u64) -> Vec<u8> {
        let [.., high, low] = (tick % IP_TICKS).to_be_bytes();
        let port = FIRST_PORT + u16::from(byte(asked));
        let mut syn = Vec::with_capacity(20);
        syn.extend(port.to_be_bytes());
        syn.extend(self.tcp_port.to_be_bytes());
        syn.extend([IDENTIFIER, byte(asked), high, low]);
        syn.extend([0; 4]);
        // Five words of header; a small window.
        syn.extend([0x50, SYN, 0x10, 0, 0, 0, 0, 0]);
        let sum = checksum(&syn, pseudo_header(self.address, vip, syn.len()));
        syn[16..18].copy_from_slice(&sum.to_be_bytes());
        self.ip(vip, to, 6, self.tcp_ttl, &syn)
    }

    fn ip(&self, vip: Ipv4Addr, to: Mac, protocol: u8, ttl: u8, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(20 + payload.len()).unwrap_or(u16::MAX).to_be_bytes();
        let mut header = vec![0x45, 0, length[0], length[1], 0, 0, 0x40, 0, ttl, protocol, 0, 0];
        header.extend(self.address.octets());
        header.extend(vip.octets());
        let sum = checksum(&header, 0);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        let mut frame = ethernet(to, self.mac, [0x08, 0]);
        frame.extend(header);
        frame.extend(payload);
        frame
    }
}

/// Reads a frame: an answer to one of our questions, or nothing of ours.
pub(super) fn read(frame: &[u8]) -> Option<Heard> {
    let from: Mac = frame.get(6..12)?.try_into().ok()?;
    match frame.get(12..14)? {
        [0x08, 0x06] => read_arp(frame.get(14..)?, from),
        [0x08, 0x00] => read_ip(frame.get(14..)?, from),
        _ => None,
    }
}

fn read_arp(arp: &[u8], from: Mac) -> Option<Heard> {
    let asker = arp.get(18..22)?;
    if arp.get(..8)? != [0, 1, 0x08, 0, 6, 4, 0, 2] || asker != ASKER {
        return None;
    }
    let tick = u64::from(u16::from_be_bytes(arp.get(22..24)?.try_into().ok()?));
    Some(Heard::Arp { vip: address(arp.get(14..18)?)?, from, tick })
}

fn read_ip(packet: &[u8], from: Mac) -> Option<Heard> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let vip = address(packet.get(12..16)?)?;
    let payload = packet.get(header..)?;
    match packet.get(9)? {
        1 => {
            // An echo reply.
            if *payload.first()? != 0 || *payload.get(4)? != IDENTIFIER {
                return None;
            }
            let tick = u64::from(u16::from_be_bytes(payload.get(6..8)?.try_into().ok()?));
            Some(Heard::Icmp { vip, from, tick })
        }
        6 => {
            // SYN-ACK, or reset with acknowledgement: both answer the SYN.
            let acknowledged = u32::from_be_bytes(payload.get(8..12)?.try_into().ok()?);
            let [mark, asked, high, low] = acknowledged.wrapping_sub(1).to_be_bytes();
            let port = u16::from_be_bytes(payload.get(2..4)?.try_into().ok()?);
            let answers = payload.get(13)? & ACK != 0
                && mark == IDENTIFIER
                && port == FIRST_PORT + u16::from(asked);
            let tick = u64::from(u16::from_be_bytes([high, low]));
            answers.then_some(Heard::Tcp { vip, asked: usize::from(asked), tick })
        }
        _ => None,
    }
}

fn address(bytes: &[u8]) -> Option<Ipv4Addr> {
    Some(<[u8; 4]>::try_from(bytes).ok()?.into())
}

fn byte(number: usize) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

fn ethernet(to: Mac, from: Mac, kind: [u8; 2]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(64);
    frame.extend(to);
    frame.extend(from);
    frame.extend(kind);
    frame
}

fn pseudo_header(from: Ipv4Addr, to: Ipv4Addr, length: usize) -> u32 {
    let words = |address: Ipv4Addr| {
        let [a, b, c, d] = address.octets();
        u32::from(u16::from_be_bytes([a, b])) + u32::from(u16::from_be_bytes([c, d]))
    };
    words(from) + words(to) + 6 + u32::try_from(length).unwrap_or(0)
}

/// RFC 1071.
fn checksum(bytes: &[u8], start: u32) -> u16 {
    let word = |pair: &[u8]| {
        let high = pair.first().copied().unwrap_or(0);
        u32::from(u16::from_be_bytes([high, pair.get(1).copied().unwrap_or(0)]))
    };
    let mut sum = bytes.chunks(2).map(word).fold(start, u32::wrapping_add);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIP: Ipv4Addr = Ipv4Addr::new(192, 168, 10, 180);
    const DIRECTOR: Mac = [2, 0, 0, 0, 0, 7];

    fn asker() -> Asker {
        Asker {
            mac: [2, 0, 0, 0, 0, 1],
            address: Ipv4Addr::new(192, 168, 10, 100),
            arp_address: Ipv4Addr::new(192, 168, 10, 250),
            tcp_ttl: 1,
            tcp_port: 80,
        }
    }

    /// What a director would send back for a question.
    fn answered(question: &[u8]) -> Vec<u8> {
        let mut answer = question.to_vec();
        answer[..6].copy_from_slice(&question[6..12]);
        answer[6..12].copy_from_slice(&DIRECTOR);
        answer
    }

    #[test]
    fn an_arp_answer_names_its_question() {
        let question = asker().arp(VIP, 3 * ARP_TICKS + 0x123);
        assert_eq!(read(&question), None, "a question is no answer");
        let mut answer = answered(&question);
        answer[21] = 2;
        answer.copy_within(22..28, 32);
        answer[22..28].copy_from_slice(&DIRECTOR);
        answer[28..32].copy_from_slice(&VIP.octets());
        assert_eq!(read(&answer), Some(Heard::Arp { vip: VIP, from: DIRECTOR, tick: 0x123 }));
    }

    #[test]
    fn an_echo_reply_names_its_question() {
        let question = asker().icmp(VIP, DIRECTOR, 2, 70_000);
        assert_eq!(read(&question), None, "a question is no answer");
        let mut answer = answered(&question);
        answer.copy_within(30..34, 26);
        answer[34] = 0;
        let heard = Heard::Icmp { vip: VIP, from: DIRECTOR, tick: 70_000 - 65_536 };
        assert_eq!(read(&answer), Some(heard));
    }

    #[test]
    fn a_syn_ack_and_a_reset_name_their_question() {
        let question = asker().tcp(VIP, DIRECTOR, 2, 9);
        assert_eq!(read(&question), None, "a question is no answer");
        let mut answer = answered(&question);
        answer.copy_within(30..34, 26);
        let sequence = u32::from_be_bytes(question[38..42].try_into().unwrap());
        answer[34..36].copy_from_slice(&80u16.to_be_bytes());
        answer[36..38].copy_from_slice(&question[34..36]);
        answer[42..46].copy_from_slice(&(sequence + 1).to_be_bytes());
        for flags in [SYN | ACK, 0x14] {
            answer[47] = flags;
            assert_eq!(read(&answer), Some(Heard::Tcp { vip: VIP, asked: 2, tick: 9 }));
        }
    }

    #[test]
    fn a_hardware_address_is_six_bytes() {
        assert_eq!(mac("02:00:00:00:00:07"), Some(DIRECTOR));
        assert_eq!((mac("02:00:00:00:00"), mac("02:00:00:00:00:0g")), (None, None));
    }

    #[test]
    fn checksums_are_those_that_a_receiver_accepts() {
        let ip = |frame: &[u8]| checksum(&frame[14..34], 0);
        let icmp = asker().icmp(VIP, DIRECTOR, 1, 5);
        assert_eq!((ip(&icmp), checksum(&icmp[34..], 0)), (0, 0));
        let tcp = asker().tcp(VIP, DIRECTOR, 1, 5);
        let pseudo = pseudo_header(asker().address, VIP, 20);
        assert_eq!((ip(&tcp), checksum(&tcp[34..], pseudo)), (0, 0));
    }
}
