//! Golden bytes of requests, checked by hand against include/uapi/linux/ip_vs.h; reading of what a
//! kernel sends; bytes that no kernel sends; and what error numbers mean.
//!
//! The bytes are those of a little-endian machine, as all that Quorate is built for are.
#![cfg(target_endian = "little")]

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use quorate_model::kernel::{
    ConnectionTimeouts, Destination, Family, ObservedDestination, ObservedService, ServiceKey,
    ServiceSettings, Statistics,
};
use quorate_model::spec::{
    Engine, Forward, Persistence, Protocol, SCHEDULERS, Scheduler, SchedulerFlags, Thresholds,
    Tunnel, TunnelChecksum,
};

use super::wire::{
    Attributes, Command, DestinationAttr, Malformed, Message, Messages, RequestHead, ServiceAttr,
    StatsAttr, TopAttr, Writer,
};
use super::*;

const HEAD: RequestHead = RequestHead { family: 0x1c, flags: 0x05, sequence: 7 };

fn tcp4() -> ServiceKey {
    ServiceKey::at(Protocol::Tcp, "192.168.10.180:80".parse().unwrap())
}

fn udp6() -> ServiceKey {
    ServiceKey::at(Protocol::Udp, "[2001:db8::b4]:53".parse().unwrap())
}

fn settings(scheduler: &str, persistence: Option<(u32, u8)>) -> ServiceSettings {
    let persistence =
        persistence.map(|(timeout_s, prefix)| Persistence { timeout_s, prefix, engine: None });
    ServiceSettings { persistence, ..ServiceSettings::plain(Scheduler::named(scheduler).unwrap()) }
}

fn server(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn encoded(action: &Action) -> Vec<u8> {
    let mut writer = Writer::default();
    write::action(&mut writer, &HEAD, action);
    writer.bytes().to_vec()
}

fn only_message(bytes: &[u8]) -> Message<'_> {
    let messages: Result<Vec<_>, _> = Messages(bytes).collect();
    let [message] = messages.unwrap().try_into().unwrap();
    message
}

#[test]
fn a_new_service_has_these_bytes() {
    #[rustfmt::skip]
    let want = [
        // nlmsghdr: length 92, family, REQUEST|ACK, sequence, port 0
        0x5c, 0, 0, 0, 0x1c, 0, 0x05, 0, 7, 0, 0, 0, 0, 0, 0, 0,
        // genlmsghdr: NEW_SERVICE, version 1
        1, 1, 0, 0,
        // CMD_ATTR_SERVICE, nested
        0x48, 0, 0x01, 0x80,
        0x06, 0, 1, 0, 2, 0, 0, 0, // AF_INET
        0x06, 0, 2, 0, 6, 0, 0, 0, // IPPROTO_TCP
        0x08, 0, 3, 0, 192, 168, 10, 180,
        0x06, 0, 4, 0, 0, 80, 0, 0, // port, network order
        0x07, 0, 6, 0, b'r', b'r', 0, 0,
        0x0c, 0, 7, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, // flags, mask
        0x08, 0, 8, 0, 0, 0, 0, 0, // timeout
        0x08, 0, 9, 0, 0xff, 0xff, 0xff, 0xff, // netmask
    ];
    assert_eq!(encoded(&Action::AddService(tcp4(), settings("rr", None))), want);
}

#[test]
fn a_persistent_ipv6_service_has_a_prefix_length_for_a_netmask() {
    let bytes = encoded(&Action::SetService(udp6(), settings("mh", Some((50, 64)))));
    #[rustfmt::skip]
    let want = [
        0x68, 0, 0, 0, 0x1c, 0, 0x05, 0, 7, 0, 0, 0, 0, 0, 0, 0,
        2, 1, 0, 0, // SET_SERVICE
        0x54, 0, 0x01, 0x80,
        0x06, 0, 1, 0, 10, 0, 0, 0, // AF_INET6
        0x06, 0, 2, 0, 17, 0, 0, 0, // IPPROTO_UDP
        0x14, 0, 3, 0, 0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xb4,
        0x06, 0, 4, 0, 0, 53, 0, 0,
        0x07, 0, 6, 0, b'm', b'h', 0, 0,
        0x0c, 0, 7, 0, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, // PERSISTENT
        0x08, 0, 8, 0, 50, 0, 0, 0,
        0x08, 0, 9, 0, 64, 0, 0, 0, // host order
    ];
    assert_eq!(bytes, want);
}

#[test]
fn an_ipv4_netmask_is_in_network_order() {
    let mask_of = |prefix| {
        let bytes = encoded(&Action::AddService(tcp4(), settings("rr", Some((1, prefix)))));
        bytes[bytes.len() - 4..].to_vec()
    };
    assert_eq!(mask_of(24), [255, 255, 255, 0]);
    assert_eq!(mask_of(32), [255, 255, 255, 255]);
    assert_eq!(mask_of(0), [0, 0, 0, 0]);
}

#[test]
fn a_new_destination_has_these_bytes() {
    let to = Destination::new(Forward::Tun(Tunnel::Ipip), 3);
    #[rustfmt::skip]
    let want = [
        0x8c, 0, 0, 0, 0x1c, 0, 0x05, 0, 7, 0, 0, 0, 0, 0, 0, 0,
        5, 1, 0, 0, // NEW_DEST
        0x30, 0, 0x01, 0x80,
        0x06, 0, 1, 0, 10, 0, 0, 0,
        0x06, 0, 2, 0, 17, 0, 0, 0,
        0x14, 0, 3, 0, 0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xb4,
        0x06, 0, 4, 0, 0, 53, 0, 0,
        // CMD_ATTR_DEST, nested
        0x48, 0, 0x02, 0x80,
        0x14, 0, 1, 0, 0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
        0x06, 0, 2, 0, 0, 53, 0, 0,
        0x06, 0, 11, 0, 10, 0, 0, 0, // ADDR_FAMILY
        0x08, 0, 3, 0, 2, 0, 0, 0, // FWD_METHOD: tunnel
        0x08, 0, 4, 0, 3, 0, 0, 0, // WEIGHT
        0x08, 0, 5, 0, 0, 0, 0, 0, // U_THRESH
        0x08, 0, 6, 0, 0, 0, 0, 0, // L_THRESH
    ];
    let action = Action::AddDestination(udp6(), server("[2001:db8::10]:53"), to);
    assert_eq!(encoded(&action), want);
}

#[test]
fn a_deletion_names_the_entry_and_nothing_more() {
    #[rustfmt::skip]
    let want = [
        0x54, 0, 0, 0, 0x1c, 0, 0x05, 0, 7, 0, 0, 0, 0, 0, 0, 0,
        7, 1, 0, 0, // DEL_DEST
        0x24, 0, 0x01, 0x80,
        0x06, 0, 1, 0, 2, 0, 0, 0,
        0x06, 0, 2, 0, 6, 0, 0, 0,
        0x08, 0, 3, 0, 192, 168, 10, 180,
        0x06, 0, 4, 0, 0, 80, 0, 0,
        0x1c, 0, 0x02, 0x80,
        0x08, 0, 1, 0, 192, 168, 10, 16,
        0x06, 0, 2, 0, 0, 80, 0, 0,
        0x06, 0, 11, 0, 2, 0, 0, 0,
    ];
    let action = Action::DeleteDestination(tcp4(), server("192.168.10.16:80"));
    assert_eq!(encoded(&action), want);
    let bytes = encoded(&Action::DeleteService(tcp4()));
    assert_eq!(bytes.len(), 20 + 36);
    assert_eq!(bytes[16], 3);
}

#[test]
fn forwarding_methods_have_the_kernels_numbers() {
    for (forward, number) in [(Forward::Nat, 0), (Forward::Tun(Tunnel::Ipip), 2), (Forward::Dr, 3)]
    {
        let to = Destination::new(forward, 1);
        let bytes = encoded(&Action::SetDestination(tcp4(), server("192.0.2.1:80"), to));
        let attr = [8, 0, 3, 0, number, 0, 0, 0];
        assert!(bytes.windows(8).any(|window| window == attr), "{forward}");
    }
}

#[test]
fn every_setting_that_is_written_reads_back() {
    for key in [tcp4(), udp6()] {
        let all = if key.family() == Family::V4 { 32 } else { 128 };
        for scheduler in SCHEDULERS {
            for persistence in [None, Some((1, all)), Some((86_400, 24))] {
                let settings = settings(scheduler, persistence);
                for bits in 0..8 {
                    let flags = SchedulerFlags::from_bits(bits);
                    reads_back(key, ServiceSettings { flags, ..settings });
                }
                reads_back(key, ServiceSettings { one_packet: true, ..settings });
                let engine = Engine::named("sip");
                let persistence = settings.persistence.map(|p| Persistence { engine, ..p });
                reads_back(key, ServiceSettings { persistence, ..settings });
            }
        }
    }
    let mark = 9.try_into().unwrap();
    for (family, prefix) in [(Family::V4, 24), (Family::V6, 64)] {
        reads_back(ServiceKey::Marked { mark, family }, settings("rr", Some((1, prefix))));
    }
    for protocol in Protocol::WORDS.map(|(_, protocol)| protocol) {
        reads_back(
            ServiceKey::at(protocol, "192.168.10.180:80".parse().unwrap()),
            settings("rr", None),
        );
    }
}

fn reads_back(key: ServiceKey, settings: ServiceSettings) {
    let bytes = encoded(&Action::AddService(key, settings));
    let (found, service) = read::service(only_message(&bytes).attributes()).unwrap().unwrap();
    assert_eq!((found, service.settings), (key, Some(settings)));
}

#[test]
fn every_way_to_a_real_server_that_is_written_reads_back() {
    let gue = |checksum| Tunnel::Gue { port: 6080, checksum };
    let tunnels = [
        Tunnel::Ipip,
        gue(TunnelChecksum::None),
        gue(TunnelChecksum::Full),
        gue(TunnelChecksum::Remote),
        Tunnel::Gre { checksum: false },
        Tunnel::Gre { checksum: true },
    ];
    let ways = [Forward::Dr, Forward::Nat].into_iter().chain(tunnels.map(Forward::Tun));
    for forward in ways {
        for (upper, lower) in [(0, 0), (100, 0), (100, 80)] {
            let thresholds = Thresholds { upper, lower };
            let to = Destination { thresholds, ..Destination::new(forward, 3) };
            let bytes = encoded(&Action::SetDestination(tcp4(), server("192.0.2.7:80"), to));
            // What is sent names the service first; a dump names the real server alone.
            let parts: Vec<_> = only_message(&bytes).attributes().map(Result::unwrap).collect();
            let [_, (kind, payload)] = parts.as_slice() else { panic!("{parts:?}") };
            let mut writer = Writer::default();
            writer.message(&HEAD, Command::NewDestination.into(), |writer| {
                writer.put(*kind, payload.0);
            });
            let (_, found) = read_destination(writer.bytes()).unwrap();
            assert_eq!(found.destination, Some(to));
        }
    }
}

#[test]
fn a_gue_tunnel_has_the_kernels_attributes() {
    let tunnel = Tunnel::Gue { port: 6080, checksum: TunnelChecksum::Remote };
    let to = Destination::new(Forward::Tun(tunnel), 1);
    let bytes = encoded(&Action::AddDestination(tcp4(), server("192.0.2.7:80"), to));
    #[rustfmt::skip]
    let want = [
        0x05, 0, 13, 0, 1, 0, 0, 0, // TUN_TYPE: GUE
        0x06, 0, 14, 0, 0x17, 0xc0, 0, 0, // TUN_PORT, in network order
        0x06, 0, 15, 0, 2, 0, 0, 0, // TUN_FLAGS: REMCSUM
    ];
    assert!(bytes.ends_with(&want), "{bytes:x?}");
}

/// A service as a kernel dumps it: sixteen bytes of address, the HASHED flag, both statistics.
fn dumped_service(key: ServiceKey, flags: u32, more: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.message(&HEAD, Command::NewService.into(), |writer| {
        writer.nested(TopAttr::Service, |writer| {
            let ServiceKey::At { protocol, address } = key else { panic!("by mark") };
            let port = address.port();
            let (family, mut address, mask) = match address.ip() {
                IpAddr::V4(address) => (2_u16, address.octets().to_vec(), [255, 255, 255, 0]),
                IpAddr::V6(address) => (10_u16, address.octets().to_vec(), [128, 0, 0, 0]),
            };
            address.resize(16, 0);
            let protocol: u16 = if protocol == Protocol::Tcp { 6 } else { 17 };
            writer.put(ServiceAttr::Family, &family.to_ne_bytes());
            writer.put(ServiceAttr::Protocol, &protocol.to_ne_bytes());
            writer.put(ServiceAttr::Address, &address);
            writer.put(ServiceAttr::Port, &port.to_be_bytes());
            writer.put(ServiceAttr::Scheduler, b"wlc\0");
            let flags = [flags.to_ne_bytes(), u32::MAX.to_ne_bytes()].concat();
            writer.put(ServiceAttr::Flags, &flags);
            writer.put(ServiceAttr::Timeout, &300_u32.to_ne_bytes());
            writer.put(ServiceAttr::Netmask, &mask);
            writer.nested(ServiceAttr::Stats, |writer| {
                writer.put(StatsAttr::Connections, &7_u32.to_ne_bytes());
                writer.put(StatsAttr::BytesIn, &70_u64.to_ne_bytes());
                writer.put(StatsAttr::BytesOut, &700_u64.to_ne_bytes());
            });
            more(writer);
        });
    });
    writer.bytes().to_vec()
}

fn stats64(writer: &mut Writer) {
    writer.nested(ServiceAttr::Stats64, |writer| {
        writer.put(StatsAttr::Connections, &5_000_000_000_u64.to_ne_bytes());
        writer.put(StatsAttr::BytesIn, &71_u64.to_ne_bytes());
        writer.put(StatsAttr::BytesOut, &701_u64.to_ne_bytes());
        writer.put(StatsAttr::ByteRateOut, &9_u64.to_ne_bytes());
    });
}

#[test]
fn a_dumped_service_is_read_without_the_hashed_flag_and_with_wide_counters() {
    let bytes = dumped_service(tcp4(), 2, stats64);
    let (key, service) = read::service(only_message(&bytes).attributes()).unwrap().unwrap();
    assert_eq!(key, tcp4());
    // Without the flag, timeout and netmask say nothing.
    assert_eq!(service.settings, Some(settings("wlc", None)));
    let of = |service: &ObservedService| {
        let total = service.statistics.total;
        (total.connections, total.bytes_in, total.bytes_out)
    };
    assert_eq!(of(&service), (5_000_000_000, 71, 701));
    assert_eq!(service.statistics.rate.bytes_out, 9);

    let bytes = dumped_service(tcp4(), 1 | 2, |_| {});
    let (_, service) = read::service(only_message(&bytes).attributes()).unwrap().unwrap();
    assert_eq!(service.settings, Some(settings("wlc", Some((300, 24)))));
    assert_eq!(of(&service), (7, 70, 700));

    let bytes = dumped_service(udp6(), 1 | 2, |_| {});
    let (key, service) = read::service(only_message(&bytes).attributes()).unwrap().unwrap();
    assert_eq!((key, service.settings), (udp6(), Some(settings("wlc", Some((300, 128))))));
}

#[test]
fn what_quorate_cannot_express_is_read_as_unlike_anything_wanted() {
    let flag = dumped_service(udp6(), 0x40 | 2, |_| {});
    let engine =
        dumped_service(udp6(), 1, |writer| writer.put(ServiceAttr::PersistenceEngine, b"S P\0"));
    let name = dumped_service(tcp4(), 2, |writer| writer.put(ServiceAttr::Scheduler, b"R R\0"));
    let holes =
        dumped_service(tcp4(), 1, |writer| writer.put(ServiceAttr::Netmask, &[255, 0, 255, 0]));
    for bytes in [flag, engine, name, holes] {
        let (_, service) = read::service(only_message(&bytes).attributes()).unwrap().unwrap();
        assert_eq!(service.settings, None);
    }
}

#[test]
fn services_of_other_protocols_are_skipped() {
    let dccp = dumped_service(tcp4(), 2, |writer| writer.put(ServiceAttr::Protocol, &[33, 0]));
    assert_eq!(read::service(only_message(&dccp).attributes()), Ok(None));
}

fn dumped_destination(more: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.message(&HEAD, Command::NewDestination.into(), |writer| {
        writer.nested(TopAttr::Destination, |writer| {
            writer
                .put(DestinationAttr::Address, &[192, 0, 2, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            writer.put(DestinationAttr::Port, &80_u16.to_be_bytes());
            writer.put(DestinationAttr::ForwardMethod, &3_u32.to_ne_bytes());
            writer.put(DestinationAttr::Weight, &65_535_u32.to_ne_bytes());
            writer.put(DestinationAttr::UpperThreshold, &0_u32.to_ne_bytes());
            writer.put(DestinationAttr::LowerThreshold, &0_u32.to_ne_bytes());
            writer.put(DestinationAttr::ActiveConnections, &12_u32.to_ne_bytes());
            writer.put(DestinationAttr::InactiveConnections, &13_u32.to_ne_bytes());
            more(writer);
        });
    });
    writer.bytes().to_vec()
}

fn read_destination(bytes: &[u8]) -> Result<(SocketAddr, ObservedDestination), Malformed> {
    read::destination(only_message(bytes).attributes(), Family::V4)
}

#[test]
fn a_dumped_destination_is_read_with_its_connections() {
    let want = ObservedDestination {
        destination: Some(Destination::new(Forward::Dr, 65_535)),
        active: 12,
        inactive: 13,
        statistics: Statistics::default(),
    };
    let read = read_destination(&dumped_destination(|_| {}));
    assert_eq!(read, Ok((server("192.0.2.7:80"), want)), "the family defaults to the service's");

    let six = dumped_destination(|writer| {
        writer.put(DestinationAttr::Family, &10_u16.to_ne_bytes());
        let address: Ipv6Addr = "2001:db8::b4".parse().unwrap();
        writer.put(DestinationAttr::Address, &address.octets());
    });
    assert_eq!(read_destination(&six), Ok((server("[2001:db8::b4]:80"), want)));
}

#[test]
fn a_destination_that_quorate_cannot_express_is_unlike_anything_wanted() {
    let put = |attr: DestinationAttr, value: u32| {
        dumped_destination(move |writer| writer.put(attr, &value.to_ne_bytes()))
    };
    let tunnel = |kind, flags: u16| {
        dumped_destination(move |writer| {
            writer.put(DestinationAttr::ForwardMethod, &2_u32.to_ne_bytes());
            writer.put(DestinationAttr::TunnelType, &[kind]);
            writer.put(DestinationAttr::TunnelFlags, &flags.to_ne_bytes());
        })
    };
    for bytes in [
        put(DestinationAttr::ForwardMethod, 1),
        put(DestinationAttr::ForwardMethod, 4),
        tunnel(3, 0),
        tunnel(1, 3),
        tunnel(2, 2),
    ] {
        assert_eq!(read_destination(&bytes).unwrap().1.destination, None);
    }
}

#[test]
fn the_version_of_ip_vs_is_read() {
    // IP_VS_VERSION_CODE 0x010201 and 4096 buckets.
    let answer = [8, 0, 1, 0, 0x01, 0x02, 0x01, 0, 8, 0, 2, 0, 0, 0x10, 0, 0];
    let want = IpvsInfo { version: (1, 2, 1), connection_table_size: 4096 };
    assert_eq!(read::info(Attributes(&answer)), Ok(want));
    assert_eq!(read::info(Attributes(&answer[..8])), Err(Malformed));
}

#[test]
fn time_outs_that_are_written_read_back() {
    let want = ConnectionTimeouts { tcp_s: 900, tcp_fin_s: 120, udp_s: 0x0102_0304 };
    let mut writer = Writer::default();
    write::set_config(&mut writer, &HEAD, want);
    assert_eq!(read::config(only_message(writer.bytes()).attributes()), Ok(want));
    assert!(writer.bytes().ends_with(&[8, 0, 6, 0, 4, 3, 2, 1]), "TIMEOUT_UDP in seconds");
}

/// Reads bytes as every kind of answer; what comes out matters less than that it does.
fn read_all(bytes: &[u8]) -> usize {
    let mut understood = 0;
    for message in Messages(bytes).flatten() {
        let attributes = message.attributes();
        understood += usize::from(read::service(attributes).is_ok());
        understood += usize::from(read::destination(attributes, Family::V6).is_ok());
        understood += usize::from(read::info(attributes).is_ok());
        understood += usize::from(read::config(attributes).is_ok());
        understood += usize::from(message.errno().is_some());
    }
    understood
}

#[test]
fn cut_or_mutated_bytes_never_panic_and_the_walk_ends() {
    let mut bytes = dumped_service(tcp4(), 3, stats64);
    bytes.extend(dumped_destination(|_| {}));
    bytes.extend(dumped_service(udp6(), 3, stats64));
    assert!(read_all(&bytes) >= 6, "the bytes make sense before they are spoilt");
    for cut in 0..bytes.len() {
        read_all(&bytes[..cut]);
        read_all(&bytes[cut..]);
    }
    for place in 0..bytes.len() {
        for value in [0, 1, 2, 3, 4, 5, 7, 8, 0x14, 0x7f, 0x80, 0xfe, 0xff] {
            let mut spoilt = bytes.clone();
            spoilt[place] = value;
            read_all(&spoilt);
        }
    }
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..20_000 {
        let mut spoilt = bytes.clone();
        for _ in 0..8 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let [value, _, _, _, low, high, ..] = state.to_be_bytes();
            let place = usize::from(u16::from_be_bytes([low, high])) % spoilt.len();
            spoilt[place] = value;
        }
        read_all(&spoilt);
    }
}

#[test]
fn a_length_of_zero_ends_the_walk_with_an_error() {
    assert_eq!(Messages(&[0; 32]).collect::<Vec<_>>(), [Err(Malformed)]);
    assert_eq!(Attributes(&[0; 32]).collect::<Vec<_>>(), [Err(Malformed)]);
}

#[test]
fn already_so_is_success_and_what_is_gone_is_not() {
    let to = Destination::new(Forward::Dr, 1);
    let rs = server("192.0.2.1:80");
    let rr = settings("rr", None);
    let add = Action::AddService(tcp4(), rr);
    let set = Action::SetService(tcp4(), rr);
    let add_rs = Action::AddDestination(tcp4(), rs, to);
    let set_rs = Action::SetDestination(tcp4(), rs, to);
    let answer = |errno| Err(Failure::Errno(Errno(errno)));

    assert_eq!(meaning(&add, answer(libc::EEXIST)), Meaning::SetInstead(set.clone()));
    assert_eq!(meaning(&add_rs, answer(libc::EEXIST)), Meaning::SetInstead(set_rs.clone()));
    assert_eq!(meaning(&add, answer(libc::ENOENT)), Meaning::ModuleMissing(settings("rr", None)));
    for (delete, errno) in [
        (Action::DeleteService(tcp4()), libc::ESRCH),
        (Action::DeleteDestination(tcp4(), rs), libc::ESRCH),
        (Action::DeleteDestination(tcp4(), rs), libc::ENOENT),
    ] {
        assert_eq!(meaning(&delete, answer(errno)), Meaning::Done);
    }
    for (action, errno) in [(&set, libc::ESRCH), (&add_rs, libc::ESRCH), (&set_rs, libc::ENOENT)] {
        let meaning = meaning(action, answer(errno));
        assert!(matches!(meaning, Meaning::Failed(DataplaneError::Gone { .. })), "{meaning:?}");
    }
    let lost = meaning(&add, Err(Failure::NoAnswer));
    assert!(matches!(lost, Meaning::Failed(DataplaneError::NoAnswer { .. })));
    let denied = meaning(&add, answer(libc::EPERM));
    assert!(matches!(denied, Meaning::Failed(DataplaneError::NotPermitted { .. })));
}
