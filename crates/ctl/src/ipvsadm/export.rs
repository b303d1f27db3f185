//! A configuration as lines that `ipvsadm-restore` takes. Tests: at the end, and
//! tests/tests/lab_ipvs_contract.rs against ipvsadm itself.

use std::fmt::Write as _;

use quorate_model::desired::{self, Lost, Verdicts};
use quorate_model::kernel::{Destination, Family, ServiceKey, ServiceSettings};
use quorate_model::spec::{ClusterSpec, Forward, Protocol, Tunnel, TunnelChecksum};

/// The table that a configuration asks for while every real server is up: a service a line, each
/// followed by its real servers.
#[must_use]
pub fn export(spec: &ClusterSpec) -> String {
    let mut text = String::new();
    for (key, service) in desired::services(&spec.services, &Verdicts::new(), &Lost::new()) {
        let at = key_words(&key);
        let _ = writeln!(text, "-A {at}{}", settings_words(&key, &service.settings));
        for (server, to) in &service.destinations {
            let _ = writeln!(text, "-a {at} -r {server}{}", destination_words(to));
        }
    }
    text
}

fn key_words(key: &ServiceKey) -> String {
    match key {
        ServiceKey::At { protocol: Protocol::Tcp, address } => format!("-t {address}"),
        ServiceKey::At { protocol: Protocol::Udp, address } => format!("-u {address}"),
        ServiceKey::At { protocol: Protocol::Sctp, address } => format!("--sctp-service {address}"),
        ServiceKey::Marked { mark, family: Family::V4 } => format!("-f {mark}"),
        ServiceKey::Marked { mark, family: Family::V6 } => format!("-f {mark} -6"),
    }
}

fn settings_words(key: &ServiceKey, settings: &ServiceSettings) -> String {
    let mut words = format!(" -s {}", settings.scheduler);
    if let Some(persistence) = settings.persistence {
        let _ = write!(words, " -p {}", persistence.timeout_s);
        match (key.family(), persistence.prefix) {
            (Family::V4, 32) | (Family::V6, 128) => {}
            (Family::V4, prefix) => {
                let bits = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
                let _ = write!(words, " -M {}", std::net::Ipv4Addr::from(bits));
            }
            (Family::V6, prefix) => {
                let _ = write!(words, " -M {prefix}");
            }
        }
        if let Some(engine) = persistence.engine {
            let _ = write!(words, " --pe {engine}");
        }
    }
    let flags = settings.flags.words(settings.scheduler);
    if !flags.is_empty() {
        let _ = write!(words, " -b {flags}");
    }
    if settings.one_packet {
        words.push_str(" -o");
    }
    words
}

fn destination_words(to: &Destination) -> String {
    let mut words = match to.forward {
        Forward::Dr => " -g".to_owned(),
        Forward::Nat => " -m".to_owned(),
        Forward::Tun(tunnel) => format!(" -i{}", tunnel_words(tunnel)),
    };
    let _ = write!(words, " -w {}", to.weight);
    for (flag, threshold) in [("-x", to.thresholds.upper), ("-y", to.thresholds.lower)] {
        if threshold > 0 {
            let _ = write!(words, " {flag} {threshold}");
        }
    }
    words
}

fn tunnel_words(tunnel: Tunnel) -> String {
    match tunnel {
        Tunnel::Ipip => " --tun-type ipip".to_owned(),
        Tunnel::Gre { checksum: false } => " --tun-type gre --tun-nocsum".to_owned(),
        Tunnel::Gre { checksum: true } => " --tun-type gre --tun-csum".to_owned(),
        Tunnel::Gue { port, checksum } => {
            let checksum = match checksum {
                TunnelChecksum::None => " --tun-nocsum",
                TunnelChecksum::Full => " --tun-csum",
                TunnelChecksum::Remote => " --tun-remcsum",
            };
            format!(" --tun-type gue --tun-port {port}{checksum}")
        }
    }
}
