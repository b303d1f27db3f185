//! `[check.NAME]` as types: how a real server is probed. The meaning of each time is the one that LVS
//! operators know from keepalived.conf(5): `delay_loop`, `connect_timeout`, `retry`,
//! `delay_before_retry`, `warmup`. What outcomes mean is decided in `crate::probe`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use super::document::duration_text;
use super::http::HttpCheck;
use super::kinds::{DnsCheck, ExecCheck, FileCheck, GrpcCheck, UdpCheck};
use crate::id::InterfaceName;

const WARMUP_DEFAULT_MAX: Duration = Duration::from_secs(10);

/// How a real server is probed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Check {
    /// What is tried.
    pub kind: CheckKind,
    /// On which way.
    pub via: Via,
    /// At which address, if not the real server's own.
    pub address: Option<IpAddr>,
    /// At which port, if not the real server's own.
    pub port: Option<u16>,
    /// From where.
    pub origin: Origin,
    /// From the start of one probe to the start of the next.
    pub interval: Duration,
    /// How long one try may take.
    pub timeout: Duration,
    /// Further tries after the first failed one, before the probe has failed.
    pub retry: u32,
    /// From a failed try to the next one.
    pub retry_delay: Duration,
    /// Within which time after it became known a target is probed first.
    pub warmup: Duration,
    /// Successful probes in a row after which it counts as up.
    pub rise: u32,
    /// Failed probes in a row after which it counts as down.
    pub fall: u32,
    /// Whether a real server that is new counts as down until it was probed.
    pub starts_down: bool,
    /// What becomes of a real server that comes and goes; `None`: it comes and goes.
    pub damp: Option<Damp>,
}

/// Flap damping: a real server that goes down again and again is held down for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Damp {
    /// How often it may go down; the last of these holds it.
    pub flaps: u32,
    /// Within which time.
    pub within: Duration,
    /// For how long it is held.
    pub hold: Duration,
}

/// The way that a probe takes to a real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Via {
    /// To an address of the real server's own.
    #[default]
    Direct,
    /// As IPVS sends clients' packets: to the VIP at the real server.
    Forwarding,
}

/// The way of clients' packets to a real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Through {
    /// Where clients connect to.
    pub vip: SocketAddr,
    /// In an IP packet of their own (TUN), or as they are (DR).
    pub tunnelled: bool,
}

/// What a probe tries.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum CheckKind {
    /// A TCP connection to the real server's address and port is established.
    Tcp,
    /// An HTTP server answers as it should.
    Http(HttpCheck),
    /// A gRPC server says that it serves.
    Grpc(GrpcCheck),
    /// A datagram is answered as it should be.
    Udp(UdpCheck),
    /// A DNS server answers.
    Dns(DnsCheck),
    /// ICMP echo requests are answered.
    Ping,
    /// An SMTP server greets, and takes a HELO.
    Smtp {
        /// The name in it.
        helo: String,
    },
    /// A program says so.
    Exec(ExecCheck),
    /// A file says so.
    File(FileCheck),
}

/// Where a probe comes from; what is left out, the system chooses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Origin {
    /// Its source address.
    pub address: Option<IpAddr>,
    /// Its source port.
    pub port: Option<u16>,
    /// The interface that it leaves by.
    pub interface: Option<InterfaceName>,
    /// The firewall mark that its packets bear.
    pub mark: Option<NonZeroU32>,
}

impl Check {
    /// The warm-up where none is given: probes of an interval are spread over all of it, but nobody
    /// waits a minute for the first.
    #[must_use]
    pub fn warmup_default(interval: Duration) -> Duration {
        interval.min(WARMUP_DEFAULT_MAX)
    }

    /// Whether it looks at a port at all.
    #[must_use]
    pub fn has_port(&self) -> bool {
        match self.kind {
            CheckKind::Ping | CheckKind::Exec(_) | CheckKind::File(_) => false,
            CheckKind::Tcp
            | CheckKind::Http(_)
            | CheckKind::Grpc(_)
            | CheckKind::Udp(_)
            | CheckKind::Dns(_)
            | CheckKind::Smtp { .. } => true,
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            CheckKind::Tcp => f.write_str("tcp")?,
            CheckKind::Http(http) => write!(f, "{http}")?,
            CheckKind::Grpc(grpc) => write!(f, "{grpc}")?,
            CheckKind::Udp(udp) => write!(f, "{udp}")?,
            CheckKind::Dns(dns) => write!(f, "{dns}")?,
            CheckKind::Ping => f.write_str("ping")?,
            CheckKind::Smtp { helo } => write!(f, "smtp helo {helo}")?,
            CheckKind::Exec(exec) => write!(f, "{exec}")?,
            CheckKind::File(file) => write!(f, "{file}")?,
        }
        if self.via == Via::Forwarding {
            f.write_str(" via forwarding")?;
        }
        if let Some(address) = self.address {
            write!(f, " at {address}")?;
        }
        if let Some(port) = self.port {
            write!(f, " port {port}")?;
        }
        let text = duration_text;
        let (interval, timeout) = (text(self.interval), text(self.timeout));
        write!(f, "{} every {interval} timeout {timeout}", self.origin)?;
        write!(f, " retry {} after {}", self.retry, text(self.retry_delay))?;
        for (word, probes) in [("rise", self.rise), ("fall", self.fall)] {
            if probes != 1 {
                write!(f, " {word} {probes}")?;
            }
        }
        if self.starts_down {
            f.write_str(" starts down")?;
        }
        if let Some(damp) = self.damp {
            write!(f, " damp {damp}")?;
        }
        if self.warmup != Self::warmup_default(self.interval) {
            write!(f, " warmup {}", text(self.warmup))?;
        }
        Ok(())
    }
}

impl fmt::Display for Damp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { flaps, within, hold } = self;
        write!(f, "{flaps} within {} for {}", duration_text(*within), duration_text(*hold))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, port, interface, mark } = self;
        if let Some(address) = address {
            write!(f, " from {address}")?;
        }
        if let Some(port) = port {
            write!(f, " from port {port}")?;
        }
        if let Some(interface) = interface {
            write!(f, " by {interface}")?;
        }
        if let Some(mark) = mark {
            write!(f, " mark {mark}")?;
        }
        Ok(())
    }
}
