//! What was found on a machine, before anybody judged it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use quorate_model::spec::{ClusterSpec, Forward};
use quorate_model::time::Timing;

/// What a machine is wanted for: by its node.toml, and by the cluster's configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Before Quorate runs here.
    pub pre: bool,
    /// Why node.toml could not be read.
    pub node_unread: Option<String>,
    /// Whether it only votes.
    pub witness: bool,
    /// Whether the daemon may set sysctls itself.
    pub sysctls_are_set: bool,
    /// Where the node keeps what it must not forget.
    pub data_dir: String,
    /// The devices that carry VIPs.
    pub devices: BTreeSet<String>,
    /// The ports of the links.
    pub ports: BTreeSet<u16>,
    /// Why the cluster's configuration is not known.
    pub cluster_unread: Option<String>,
    /// The VIPs.
    pub vips: BTreeSet<IpAddr>,
    /// Schedulers of the services.
    pub schedulers: BTreeSet<String>,
    /// Whether a real server is reached by NAT over IPv4 or IPv6, by a tunnel.
    pub nat_ipv4: bool,
    /// See above.
    pub nat_ipv6: bool,
    /// See above.
    pub tunnels: bool,
    /// How long an owner may serve after a renewal.
    pub lease: Option<Duration>,
}

impl Wanted {
    /// Takes in what the cluster's configuration asks of a director.
    pub fn take(&mut self, spec: &ClusterSpec) {
        let vips = spec.groups.values().flat_map(|group| &group.addresses);
        self.vips.extend(vips.map(|vip| vip.net.addr()));
        self.lease = Some(spec.timing.unwrap_or(Timing::LAN).lease());
        for service in spec.services.values() {
            self.schedulers.insert(service.scheduler.to_string());
            for server in service.real_servers.iter().chain(&service.sorry_server) {
                match server.forward {
                    Forward::Nat if server.address.is_ipv4() => self.nat_ipv4 = true,
                    Forward::Nat => self.nat_ipv6 = true,
                    Forward::Tun(_) => self.tunnels = true,
                    Forward::Dr => {}
                }
            }
        }
    }
}

/// Where a module of the kernel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Module {
    /// In the kernel now.
    Loaded,
    /// It can be loaded.
    Loadable,
    /// Neither.
    Missing,
    /// The list of what could be loaded can't be read, and it is not loaded.
    Unknown,
}

/// How long writes took to be durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synced {
    /// Where.
    pub place: String,
    /// How often it was tried.
    pub tries: usize,
    /// The middle one.
    pub median: Duration,
    /// The longest.
    pub longest: Duration,
}

/// A sysctl that is not as a director needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sysctl {
    /// As sysctl(8) takes it.
    pub key: String,
    /// What it has to be.
    pub wanted: String,
    /// What it is; `None`: it could not be read.
    pub found: Option<String>,
}

/// A daemon of ours that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Daemon {
    /// Whether one of its threads has real-time priority.
    pub real_time: bool,
    /// Whether its memory is locked.
    pub locked: bool,
}

/// A VIP in a file that some other program configures addresses by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The VIP.
    pub vip: IpAddr,
}

/// Everything that was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// What the machine is for.
    pub wanted: Wanted,
    /// Whether root looked.
    pub root: bool,
    /// `uname -r`.
    pub kernel: String,
    /// The modules that a director needs.
    pub modules: BTreeMap<String, Module>,
    /// Buckets of IPVS's connection table, as a power of two; `None`: not loaded.
    pub conn_tab_bits: Option<u32>,
    /// The clock source in use.
    pub clock: Option<String>,
    /// `kernel.sched_rt_runtime_us`.
    pub rt_runtime: Option<i64>,
    /// How many sysctls are right.
    pub sysctls_right: usize,
    /// Those that are not.
    pub sysctls_wrong: Vec<Sysctl>,
    /// `rp_filter` of `all` and of the devices.
    pub rp_filter: BTreeMap<String, u32>,
    /// The MTU of each device that there is.
    pub mtu: BTreeMap<String, u32>,
    /// What the disk takes, or why that was not tried.
    pub synced: Option<Result<Synced, String>>,
    /// Whether the fence's program loads into this kernel; `None`: it was not tried.
    pub fence: Option<Result<(), String>>,
    /// Our daemon, where it runs.
    pub daemon: Option<Daemon>,
    /// The names of programs that run, of those that matter.
    pub running: BTreeSet<String>,
    /// The units that systemd starts, of those that matter.
    pub enabled: BTreeSet<String>,
    /// Whether SELinux enforces.
    pub selinux: bool,
    /// Files of systemd-networkd that say nothing of `KeepConfiguration=`.
    pub networkd_strips: Vec<String>,
    /// Whether NetworkManager is told of devices to leave alone.
    pub networkmanager_told: bool,
    /// VIPs in files of the distribution.
    pub leftovers: Vec<Leftover>,
}
