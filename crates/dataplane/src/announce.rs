//! The frames that tell neighbours where an address is now: gratuitous ARP (RFC 5227 §3) and the
//! unsolicited neighbour advertisement (RFC 4861 §7.2.6). Bytes only; nothing is sent here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use quorate_model::reply::internet_checksum;

use crate::MacAddress;

const BROADCAST: [u8; 6] = [0xff; 6];
/// The Ethernet group of ff02::1 (RFC 2464 §7).
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ICMPV6: u8 = 58;

/// The frames that announce an address of a device, in the order of sending.
///
/// IPv4 takes both forms: Linux ignores a reply form whose target hardware address is not the
/// sender's, and some switches and routers learn from one form only. `router` says whether this
/// host forwards IPv6 there: an advertisement that says otherwise makes hosts drop it as a router.
#[must_use]
pub fn frames(mac: MacAddress, address: IpAddr, router: bool) -> Vec<Vec<u8>> {
    match address {
        IpAddr::V4(address) => vec![
            gratuitous_arp(mac, address, ArpForm::Request),
            gratuitous_arp(mac, address, ArpForm::Reply),
        ],
        IpAddr::V6(address) => vec![neighbour_advertisement(mac, address, router)],
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ArpForm {
    Request,
    Reply,
}

fn gratuitous_arp(mac: MacAddress, address: Ipv4Addr, form: ArpForm) -> Vec<u8> {
    let (operation, target_mac) = match form {
        ArpForm::Request => (1, [0; 6]),
        ArpForm::Reply => (2, mac.0),
    };
    let mut frame = Vec::with_capacity(42);
    frame.extend(BROADCAST);
    frame.extend(mac.0);
    frame.extend([0x08, 0x06]);
    // Ethernet, IPv4, their address lengths, operation.
    frame.extend([0, 1, 0x08, 0, 6, 4, 0, operation]);
    frame.extend(mac.0);
    frame.extend(address.octets());
    frame.extend(target_mac);
    frame.extend(address.octets());
    frame
}

fn neighbour_advertisement(mac: MacAddress, address: Ipv6Addr, router: bool) -> Vec<u8> {
    const ROUTER: u8 = 0x80;
    const OVERRIDE: u8 = 0x20;
    let mut message = Vec::with_capacity(32);
    // Type 136, code 0, checksum (below), flags: never solicited.
    message.extend([136, 0, 0, 0, OVERRIDE | if router { ROUTER } else { 0 }, 0, 0, 0]);
    message.extend(address.octets());
    // Option 2, target link-layer address, one unit of eight bytes.
    message.extend([2, 1]);
    message.extend(mac.0);
    let sum = checksum(address, ALL_NODES, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());

    let mut frame = Vec::with_capacity(86);
    frame.extend(ALL_NODES_MAC);
    frame.extend(mac.0);
    frame.extend([0x86, 0xdd]);
    // Version 6; payload of 32 bytes; hop limit 255, or receivers drop it (RFC 4861 §7.1.2).
    frame.extend([0x60, 0, 0, 0, 0, 32, ICMPV6, 255]);
    frame.extend(address.octets());
    frame.extend(ALL_NODES.octets());
    frame.extend(message);
    frame
}

/// The ICMPv6 checksum over pseudo-header and message (RFC 4443 §2.3); the message has an even
/// length and its checksum field is zero.
pub(crate) fn checksum(from: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> u16 {
    let length = u32::try_from(message.len()).unwrap_or(0).to_be_bytes();
    let pseudo = [&from.octets(), &to.octets(), &length[..], &[0, 0, 0, ICMPV6]];
    internet_checksum(&[pseudo.concat().as_slice(), message])
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddress = MacAddress([0x02, 0x00, 0x5e, 0x10, 0x20, 0x30]);

    #[test]
    fn ipv4_is_announced_in_request_and_reply_form() {
        let address: IpAddr = "192.168.10.180".parse().unwrap();
        #[rustfmt::skip]
        let request = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0x00, 0x5e, 0x10, 0x20, 0x30, 0x08, 0x06,
            0x00, 0x01, 0x08, 0x00, 0x06, 0x04, 0x00, 0x01,
            0x02, 0x00, 0x5e, 0x10, 0x20, 0x30, 192, 168, 10, 180,
            0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 192, 168, 10, 180,
        ];
        #[rustfmt::skip]
        let reply = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0x00, 0x5e, 0x10, 0x20, 0x30, 0x08, 0x06,
            0x00, 0x01, 0x08, 0x00, 0x06, 0x04, 0x00, 0x02,
            0x02, 0x00, 0x5e, 0x10, 0x20, 0x30, 192, 168, 10, 180,
            0x02, 0x00, 0x5e, 0x10, 0x20, 0x30, 192, 168, 10, 180,
        ];
        assert_eq!(frames(MAC, address, false), [request.to_vec(), reply.to_vec()]);
    }

    #[test]
    fn ipv6_is_announced_by_an_unsolicited_overriding_advertisement() {
        let address: IpAddr = "2001:db8::b4".parse().unwrap();
        #[rustfmt::skip]
        let want = [
            0x33, 0x33, 0x00, 0x00, 0x00, 0x01, 0x02, 0x00, 0x5e, 0x10, 0x20, 0x30, 0x86, 0xdd,
            0x60, 0x00, 0x00, 0x00, 0x00, 0x20, 0x3a, 0xff,
            0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xb4,
            0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x01,
            136, 0, 0x79, 0x85, 0x20, 0, 0, 0,
            0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xb4,
            0x02, 0x01, 0x02, 0x00, 0x5e, 0x10, 0x20, 0x30,
        ];
        assert_eq!(frames(MAC, address, false), [want.to_vec()]);
    }

    #[test]
    fn the_checksum_of_an_advertisement_verifies_and_the_router_flag_is_in_it() {
        for (address, router) in [("2001:db8::b4", true), ("fe80::ffff:1", false), ("::2", true)] {
            let address: Ipv6Addr = address.parse().unwrap();
            let frame = neighbour_advertisement(MAC, address, router);
            // A receiver sums the message with its checksum in place, and gets all ones.
            assert_eq!(checksum(address, ALL_NODES, &frame[54..]), 0, "{address}");
            assert_eq!(frame[58] & 0x80 != 0, router);
        }
    }
}
