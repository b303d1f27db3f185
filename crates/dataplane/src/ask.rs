//! The frames that ask the neighbours who has an address before it is taken: the ARP probe (RFC
//! 5227 §2.1.1) and the neighbour solicitation of duplicate address detection (RFC 4862 §5.4.2);
//! and what counts as an answer. Bytes only; nothing is sent here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::MacAddress;
use crate::announce::checksum;

const BROADCAST: [u8; 6] = [0xff; 6];
const ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;

/// The bytes of a frame that make it a neighbour advertisement, each with its place: next header,
/// and type.
pub(crate) const IS_ADVERTISEMENT: [(u32, u8); 2] = [(20, ICMPV6), (54, ADVERTISEMENT)];

/// The frame that asks for an address. It names no sender address, so that it changes no
/// neighbour's cache.
#[must_use]
pub fn question(mac: MacAddress, address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => arp_probe(mac, address),
        IpAddr::V6(address) => neighbour_solicitation(mac, address),
    }
}

fn arp_probe(mac: MacAddress, address: Ipv4Addr) -> Vec<u8> {
    let mut frame = Vec::with_capacity(42);
    frame.extend(BROADCAST);
    frame.extend(mac.0);
    frame.extend([0x08, 0x06]);
    // Ethernet, IPv4, their address lengths, request.
    frame.extend([0, 1, 0x08, 0, 6, 4, 0, 1]);
    frame.extend(mac.0);
    frame.extend([0; 4]);
    frame.extend([0; 6]);
    frame.extend(address.octets());
    frame
}

fn neighbour_solicitation(mac: MacAddress, address: Ipv6Addr) -> Vec<u8> {
    let [.., a, b, c] = address.octets();
    // The solicited-node group ff02::1:ff00:0/104 (RFC 4291 §2.7.1), and its Ethernet group.
    let group = Ipv6Addr::new(
        0xff02,
        0,
        0,
        0,
        0,
        1,
        0xff00 | u16::from(a),
        u16::from(b) << 8 | u16::from(c),
    );
    let mut message = vec![SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    message.extend(address.octets());
    let sum = checksum(Ipv6Addr::UNSPECIFIED, group, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());

    let mut frame = Vec::with_capacity(78);
    frame.extend([0x33, 0x33, 0xff, a, b, c]);
    frame.extend(mac.0);
    frame.extend([0x86, 0xdd]);
    // Version 6; payload of 24 bytes; hop limit 255.
    frame.extend([0x60, 0, 0, 0, 0, 24, ICMPV6, 255]);
    frame.extend([0; 16]);
    frame.extend(group.octets());
    frame.extend(message);
    frame
}

/// Who says in this frame that it has which address: the sender of any ARP packet but a probe, or
/// of a neighbour advertisement. That of a host which asks too is none: several directors ask.
#[must_use]
pub fn answer(frame: &[u8]) -> Option<(IpAddr, MacAddress)> {
    let source = MacAddress(bytes(frame, 6)?);
    match bytes(frame, 12)? {
        [0x08, 0x06] => arp(frame.get(14..)?),
        [0x86, 0xdd] => advertisement(frame.get(14..)?, source),
        _ => None,
    }
}

fn arp(packet: &[u8]) -> Option<(IpAddr, MacAddress)> {
    if bytes(packet, 0)? != [0, 1, 0x08, 0, 6, 4] {
        return None;
    }
    let sender = Ipv4Addr::from(bytes::<4>(packet, 14)?);
    (!sender.is_unspecified()).then_some((sender.into(), MacAddress(bytes(packet, 8)?)))
}

fn advertisement(packet: &[u8], source: MacAddress) -> Option<(IpAddr, MacAddress)> {
    const TARGET_LINK_LAYER_ADDRESS: u8 = 2;
    // Hop limit 255, or it was sent by a host of another link (RFC 4861 §7.1.2).
    if bytes(packet, 6)? != [ICMPV6, 255] || *packet.get(40)? != ADVERTISEMENT {
        return None;
    }
    let target = Ipv6Addr::from(bytes::<16>(packet, 48)?);
    let mut options = packet.get(64..).unwrap_or_default();
    while let [kind, units, ..] = *options {
        if kind == TARGET_LINK_LAYER_ADDRESS && units == 1 {
            return Some((target.into(), MacAddress(bytes(options, 2)?)));
        }
        let length = usize::from(units) * 8;
        options = if length == 0 { &[] } else { options.get(length..).unwrap_or_default() };
    }
    Some((target.into(), source))
}

fn bytes<const N: usize>(of: &[u8], at: usize) -> Option<[u8; N]> {
    of.get(at..at.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::announce;

    const MAC: MacAddress = MacAddress([0x02, 0x00, 0x5e, 0x10, 0x20, 0x30]);

    #[test]
    fn ipv4_is_asked_for_by_a_probe_without_a_sender_address() {
        #[rustfmt::skip]
        let probe = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0x00, 0x5e, 0x10, 0x20, 0x30, 0x08, 0x06,
            0x00, 0x01, 0x08, 0x00, 0x06, 0x04, 0x00, 0x01,
            0x02, 0x00, 0x5e, 0x10, 0x20, 0x30, 0, 0, 0, 0,
            0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 192, 168, 10, 180,
        ];
        assert_eq!(question(MAC, "192.168.10.180".parse().unwrap()), probe);
    }

    #[test]
    fn ipv6_is_asked_for_by_a_solicitation_from_the_unspecified_address_to_its_group() {
        #[rustfmt::skip]
        let solicitation = [
            0x33, 0x33, 0xff, 0x12, 0x34, 0x56, 0x02, 0x00, 0x5e, 0x10, 0x20, 0x30, 0x86, 0xdd,
            0x60, 0x00, 0x00, 0x00, 0x00, 0x18, 0x3a, 0xff,
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0x12, 0x34, 0x56,
            135, 0, 0xe4, 0x1e, 0, 0, 0, 0,
            0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x12, 0x34, 0x56,
        ];
        let frame = question(MAC, "2001:db8::12:3456".parse().unwrap());
        assert_eq!(frame, solicitation);
        let group = Ipv6Addr::from(bytes::<16>(&frame, 38).unwrap());
        assert_eq!(checksum(Ipv6Addr::UNSPECIFIED, group, &frame[54..]), 0, "it verifies");
    }

    #[test]
    fn whoever_speaks_for_an_address_has_it_and_who_asks_for_it_has_not() {
        for address in ["192.168.10.180", "2001:db8::b4"] {
            let address: IpAddr = address.parse().unwrap();
            for frame in announce::frames(MAC, address, false) {
                assert_eq!(answer(&frame), Some((address, MAC)));
            }
            assert_eq!(answer(&question(MAC, address)), None);
        }
    }

    #[test]
    fn an_advertisement_without_option_is_its_senders() {
        let address: IpAddr = "2001:db8::b4".parse().unwrap();
        let frame = announce::frames(MAC, address, false).remove(0);
        assert_eq!(answer(&frame[..78]), Some((address, MAC)));
    }

    #[test]
    fn no_frame_however_cut_or_changed_does_harm() {
        for address in ["192.168.10.180", "2001:db8::b4"] {
            let frame = announce::frames(MAC, address.parse().unwrap(), true).remove(0);
            for length in 0..frame.len() {
                let _whatever = answer(&frame[..length]);
                for value in [0, 1, 0xff] {
                    let mut changed = frame.clone();
                    changed[length] = value;
                    let _whatever = answer(&changed);
                }
            }
        }
    }
}
