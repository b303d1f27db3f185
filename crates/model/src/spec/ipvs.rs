//! What IPVS can do with a virtual service and its real servers, in the words of ipvsadm(8).

use std::fmt;

/// Transport protocol of a virtual service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP (`IPPROTO_TCP`, 6).
    Tcp,
    /// UDP (`IPPROTO_UDP`, 17).
    Udp,
    /// SCTP (`IPPROTO_SCTP`, 132).
    Sctp,
}

impl Protocol {
    /// Every one, by its word in the configuration.
    pub const WORDS: [(&'static str, Self); 3] =
        [("tcp", Self::Tcp), ("udp", Self::Udp), ("sctp", Self::Sctp)];

    /// The one of this word.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(known, _)| *known == word).map(|&(_, protocol)| protocol)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// How packets reach a real server (ipvsadm(8): -g, -m, -i).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Forward {
    /// Direct routing: only the destination MAC address changes.
    Dr,
    /// Network address translation (masquerading).
    Nat,
    /// A tunnel: the packet travels inside another.
    Tun(Tunnel),
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dr => f.pad("DR"),
            Self::Nat => f.pad("NAT"),
            Self::Tun(Tunnel::Ipip) => f.pad("TUN"),
            Self::Tun(tunnel) => write!(f, "TUN {tunnel}"),
        }
    }
}

impl Forward {
    /// The word for the method, whatever the tunnel.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Dr => "DR",
            Self::Nat => "NAT",
            Self::Tun(_) => "TUN",
        }
    }
}

/// What a packet travels in to a real server (ipvsadm(8): --tun-type).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Tunnel {
    /// IP in IP (RFC 2003, RFC 2473).
    #[default]
    Ipip,
    /// Generic UDP encapsulation, since Linux 5.2; with checksums since 5.3.
    Gue {
        /// The UDP port that the real server decapsulates at; never 0.
        port: u16,
        /// What is summed, and by whom.
        checksum: TunnelChecksum,
    },
    /// Generic routing encapsulation (RFC 2784), since Linux 5.3.
    Gre {
        /// Whether it carries a checksum.
        checksum: bool,
    },
}

/// The checksum of a GUE tunnel (ipvsadm(8): --tun-nocsum, --tun-csum, --tun-remcsum).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum TunnelChecksum {
    /// None.
    #[default]
    None,
    /// All of it, by the director: the UDP checksum.
    Full,
    /// Remote checksum offload.
    Remote,
}

impl fmt::Display for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ipip => f.write_str("ipip"),
            Self::Gue { port, checksum } => {
                write!(f, "gue port {port}")?;
                f.write_str(match checksum {
                    TunnelChecksum::None => "",
                    TunnelChecksum::Full => " checksum",
                    TunnelChecksum::Remote => " remote checksum",
                })
            }
            Self::Gre { checksum: false } => f.write_str("gre"),
            Self::Gre { checksum: true } => f.write_str("gre checksum"),
        }
    }
}

/// How many connections a real server takes (ipvsadm(8): -x, -y; `ip_vs_dest_update_overload` in
/// net/netfilter/ipvs/ip_vs_conn.c). 0: no such limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Thresholds {
    /// From so many connections on it takes no new one.
    pub upper: u32,
    /// Below so many it takes new ones again; 0: below three quarters of `upper`.
    pub lower: u32,
}

/// The longest name of a scheduler or persistence engine (`IP_VS_SCHEDNAME_MAXLEN` with its NUL).
const NAME_MAX: usize = 15;

/// A name as the kernel's modules have them. It is short, so it is copied.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Name([u8; NAME_MAX]);

impl Name {
    fn new(name: &str) -> Option<Self> {
        let fits = !name.is_empty() && name.len() <= NAME_MAX;
        let plain =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
        if !fits || !name.bytes().all(plain) {
            return None;
        }
        let mut bytes = [0; NAME_MAX];
        for (to, byte) in bytes.iter_mut().zip(name.bytes()) {
            *to = byte;
        }
        Some(Self(bytes))
    }

    fn as_str(&self) -> &str {
        let end = self.0.iter().position(|&byte| byte == 0).unwrap_or(NAME_MAX);
        // Only ASCII is let in.
        self.0.get(..end).and_then(|name| std::str::from_utf8(name).ok()).unwrap_or_default()
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A scheduler of the kernel (net/netfilter/ipvs/ip_vs_*.c), by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scheduler(Name);

/// Every scheduler of Linux 6.1 and later.
pub const SCHEDULERS: [&str; 14] =
    ["rr", "wrr", "lc", "wlc", "lblc", "lblcr", "sh", "mh", "dh", "fo", "ovf", "sed", "nq", "twos"];

impl Scheduler {
    /// None: the service takes no connection (`ip_vs_add_service`, since Linux 4.2).
    pub const NONE: Self = Self(Name(*b"none\0\0\0\0\0\0\0\0\0\0\0"));

    /// The scheduler of this name, whether Linux has it or another's module brings it; `None` for
    /// what can't be the name of one: up to 15 of a-z, 0-9, `_` and `-`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Name::new(name).map(Self)
    }

    /// Its kernel name; its module is `ip_vs_` and this name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Whether it chooses by a hash that takes in weights (`sh`, `mh`): alike on every director, and
    /// with the flags of [`SchedulerFlag::One`] and [`SchedulerFlag::Two`].
    #[must_use]
    pub fn hashes(&self) -> bool {
        matches!(self.as_str(), "sh" | "mh")
    }

    /// Whether it gives real servers shares by their weights: not those that know only 0 and more
    /// (`ip_vs_rr_schedule`, `ip_vs_lc_schedule`, `ip_vs_dh_schedule`), nor `ovf`, to which a weight is
    /// a number of connections.
    #[must_use]
    pub fn shares_by_weights(&self) -> bool {
        !["rr", "lc", "dh", "ovf"].contains(&self.as_str())
    }

    /// Whether a real server of weight 0 is passed over: the buckets of `dh` have no weights, so that
    /// it refuses the clients of one (`ip_vs_dh_schedule`).
    #[must_use]
    pub fn heeds_weights(&self) -> bool {
        self.as_str() != "dh"
    }
}

impl fmt::Display for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A persistence engine of the kernel (net/netfilter/ipvs/ip_vs_pe_*.c), by name: what of a packet
/// makes a client. Linux has one, `sip`: the Call-ID of SIP over UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Engine(Name);

impl Engine {
    /// The engine of this name; `None` for what can't be the name of one.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Name::new(name).map(Self)
    }

    /// Its kernel name; its module is `ip_vs_pe_` and this name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a scheduler does besides (ipvsadm(8): -b). Each has its own meaning for the three.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SchedulerFlag {
    /// `IP_VS_SVC_F_SCHED1`; of `sh` and `mh`: where the chosen real server takes none, another does.
    One,
    /// `IP_VS_SVC_F_SCHED2`; of `sh` and `mh`: the source port is part of what is hashed.
    Two,
    /// `IP_VS_SVC_F_SCHED3`.
    Three,
}

impl SchedulerFlag {
    const ALL: [Self; 3] = [Self::One, Self::Two, Self::Three];

    /// Its word with this scheduler, as ipvsadm(8) and keepalived.conf(5) have it.
    #[must_use]
    pub fn word(self, scheduler: Scheduler) -> &'static str {
        match (scheduler.as_str(), self) {
            ("sh", Self::One) => "sh-fallback",
            ("sh", Self::Two) => "sh-port",
            ("mh", Self::One) => "mh-fallback",
            ("mh", Self::Two) => "mh-port",
            (_, Self::One) => "flag-1",
            (_, Self::Two) => "flag-2",
            (_, Self::Three) => "flag-3",
        }
    }

    /// The words that mean a flag with this scheduler.
    #[must_use]
    pub fn words(scheduler: Scheduler) -> Vec<(&'static str, Self)> {
        let plain = [("flag-1", Self::One), ("flag-2", Self::Two), ("flag-3", Self::Three)];
        let own = Self::ALL.map(|flag| (flag.word(scheduler), flag));
        let mut words = own.to_vec();
        words.extend(plain.iter().filter(|word| !own.contains(word)));
        words
    }

    fn bit(self) -> u8 {
        match self {
            Self::One => 1,
            Self::Two => 2,
            Self::Three => 4,
        }
    }
}

/// A set of [`SchedulerFlag`]s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SchedulerFlags(u8);

impl SchedulerFlags {
    /// Those of the set, in their order.
    pub fn iter(self) -> impl Iterator<Item = SchedulerFlag> {
        SchedulerFlag::ALL.into_iter().filter(move |flag| self.0 & flag.bit() != 0)
    }

    /// The set as one number: the first flag is 1, the second 2, the third 4.
    #[must_use]
    pub fn bits(self) -> u8 {
        self.0
    }

    /// The set that [`Self::bits`] says; other bits are none.
    #[must_use]
    pub fn from_bits(bits: u8) -> Self {
        Self(bits & 7)
    }

    /// Their words with this scheduler, one after the other.
    #[must_use]
    pub fn words(self, scheduler: Scheduler) -> String {
        self.iter().map(|flag| flag.word(scheduler)).collect::<Vec<_>>().join(",")
    }
}

impl FromIterator<SchedulerFlag> for SchedulerFlags {
    fn from_iter<I: IntoIterator<Item = SchedulerFlag>>(flags: I) -> Self {
        Self(flags.into_iter().fold(0, |bits, flag| bits | flag.bit()))
    }
}

/// Clients of one network stick to one real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Persistence {
    /// How long after the last connection, in whole seconds (the kernel's unit).
    pub timeout_s: u32,
    /// Prefix length of the client network that counts as one client: 32 or 128 is each address.
    pub prefix: u8,
    /// What makes a client, if not its address.
    pub engine: Option<Engine>,
}

/// How long IPVS keeps a connection on which nothing comes, in whole seconds (ipvsadm(8): --set).
/// `None`: as the kernel has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timeouts {
    /// Of TCP, while it is established.
    pub tcp_s: Option<u32>,
    /// Of TCP, after a FIN.
    pub tcp_fin_s: Option<u32>,
    /// Of UDP.
    pub udp_s: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheduler_is_any_name_that_a_module_can_have() {
        for name in SCHEDULERS.into_iter().chain(["own_one-2", "fifteen_letters"]) {
            assert_eq!(Scheduler::named(name).unwrap().to_string(), name);
        }
        for name in ["", "RR", "r r", "../rr", "sixteen__letters", "wl\u{e9}"] {
            assert_eq!(Scheduler::named(name), None, "{name:?}");
        }
    }

    #[test]
    fn a_flag_has_the_word_that_its_scheduler_knows() {
        let words = |scheduler, bits| {
            SchedulerFlags::from_bits(bits).words(Scheduler::named(scheduler).unwrap())
        };
        assert_eq!(words("sh", 3), "sh-fallback,sh-port");
        assert_eq!(words("mh", 6), "mh-port,flag-3");
        assert_eq!(words("wlc", 0xff), "flag-1,flag-2,flag-3");
        assert_eq!(words("sh", 0), "");
    }

    #[test]
    fn the_words_of_a_scheduler_are_its_own_and_the_plain_ones() {
        let words = SchedulerFlag::words(Scheduler::named("mh").unwrap());
        let words: Vec<&str> = words.into_iter().map(|(word, _)| word).collect();
        assert_eq!(words, ["mh-fallback", "mh-port", "flag-3", "flag-1", "flag-2"]);
    }
}
