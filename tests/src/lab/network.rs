//! A deployment in network namespaces: one per host, joined by a bridge in one of its own, so that
//! nothing of it is seen in the machine's own network. Owns those namespaces and takes them down
//! when dropped. Never runs anything of Quorate's by itself. Its test is
//! `tests/tests/lab_host_network.rs`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ipnet::IpNet;

use super::command::{self, Finished};
use super::namespace::Namespace;
use super::process::Process;
use super::{LabError, sweep};

/// Every host's interface on the shared segment.
pub const INTERFACE: &str = "eth0";

/// The name, among the namespaces, of the one with the bridge.
pub(super) const BRIDGE: &str = "bridge";

/// Time for one `ip` or `nft` command; generous, for emulated machines.
const LIMIT: Duration = Duration::from_secs(60);

/// A host of the deployment.
#[derive(Debug, Clone)]
pub struct Host {
    /// Its name: at most 15 characters, being an interface's name too.
    pub name: String,
    /// Its addresses on the shared segment.
    pub addresses: Vec<IpNet>,
    /// Its addresses on lo, such as the VIP of a real server.
    pub loopback: Vec<IpNet>,
}

impl Host {
    /// A host with one address.
    pub fn new(name: &str, address: IpNet) -> Self {
        Self { name: name.to_owned(), addresses: vec![address], loopback: Vec::new() }
    }

    /// The same, with an address on lo.
    #[must_use]
    pub fn with_loopback(mut self, address: IpNet) -> Self {
        self.loopback.push(address);
        self
    }
}

/// A running deployment.
#[derive(Debug)]
pub struct Network {
    prefix: String,
    namespaces: BTreeMap<String, Namespace>,
}

impl Network {
    /// Makes the namespaces of these hosts and joins them, once what dead runs left is removed.
    ///
    /// # Errors
    /// When not root, or a tool is missing or fails; what was made so far is removed.
    pub fn new(hosts: &[Host]) -> Result<Self, LabError> {
        sweep::sweep()?;
        // From here on, an early return drops it, which removes what there is.
        let mut network = Self { prefix: sweep::fresh_prefix(), namespaces: BTreeMap::new() };
        network.add_namespace(BRIDGE)?;
        let bridge = network.namespace(BRIDGE)?.name().to_owned();
        let up = ["link add br0 type bridge forward_delay 0 stp_state 0", "link set br0 up"];
        ip(Some(&bridge), &up.map(str::to_owned))?;
        // Pairs of ports (from, to) between which no frame passes.
        nft(
            network.namespace(BRIDGE)?,
            "add table bridge lab; \
             add set bridge lab cuts { type ifname . ifname; }; \
             add chain bridge lab forward { type filter hook forward priority 0; }; \
             add rule bridge lab forward iifname . oifname @cuts drop",
        )?;
        for host in hosts {
            network.add_host(host)?;
        }
        Ok(network)
    }

    /// Adds a host to the running deployment.
    ///
    /// # Errors
    /// When a tool fails, or a host of this name is there already.
    pub fn add_host(&mut self, host: &Host) -> Result<(), LabError> {
        let bridge = self.namespace(BRIDGE)?.name().to_owned();
        self.add_namespace(&host.name)?;
        let name = &host.name;
        let namespace = self.namespace(name)?.name().to_owned();
        let pair = format!(
            "link add name {name} netns {bridge} type veth peer name {INTERFACE} netns {namespace}"
        );
        ip(None, &[pair])?;
        ip(
            Some(&bridge),
            &[format!("link set dev {name} master br0"), format!("link set dev {name} up")],
        )?;
        let mut lines = vec!["link set lo up".to_owned(), format!("link set dev {INTERFACE} up")];
        lines.extend(host.addresses.iter().map(|net| address_line("add", INTERFACE, net)));
        lines.extend(host.loopback.iter().map(|net| address_line("add", "lo", net)));
        ip(Some(&namespace), &lines)?;
        // A new namespace inherits what this machine's administrator set (devconf_inherit_init_net,
        // Documentation/admin-guide/sysctl/net.rst): a host of the lab begins as a fresh one does.
        for parameter in ["arp_ignore", "arp_announce"] {
            self.namespace(name)?.set_parameter(&format!("net/ipv4/conf/all/{parameter}"), "0")?;
        }
        Ok(())
    }

    /// Takes a host out, ending what runs in it.
    ///
    /// # Errors
    /// When there is no such host, or a tool fails.
    pub fn remove_host(&mut self, host: &str) -> Result<(), LabError> {
        let namespace =
            self.namespaces.remove(host).ok_or_else(|| LabError::NoSuchHost(host.to_owned()))?;
        sweep::remove(namespace.name())
    }

    /// The namespace of a host.
    ///
    /// # Errors
    /// When there is no such host.
    pub fn namespace(&self, host: &str) -> Result<&Namespace, LabError> {
        self.namespaces.get(host).ok_or_else(|| LabError::NoSuchHost(host.to_owned()))
    }

    /// Cuts a host off as a pulled cable does: its interface loses the carrier.
    ///
    /// # Errors
    /// When there is no such host, or a tool fails.
    pub fn cut(&self, host: &str) -> Result<(), LabError> {
        self.at_bridge(host, &format!("link set dev {host} down"))
    }

    /// Cuts a host off behind its switch: it keeps the carrier and hears nothing.
    ///
    /// # Errors
    /// When there is no such host, or a tool fails.
    pub fn cut_silently(&self, host: &str) -> Result<(), LabError> {
        self.at_bridge(host, &format!("link set dev {host} nomaster"))
    }

    /// Takes a host's own interface down, as an administrator does.
    ///
    /// # Errors
    /// When there is no such host, or a tool fails.
    pub fn take_interface_down(&self, host: &str) -> Result<(), LabError> {
        ip(Some(self.namespace(host)?.name()), &[format!("link set dev {INTERFACE} down")])
    }

    /// Undoes every cut of a host: link, switch, interface. Partitions stay.
    ///
    /// # Errors
    /// When there is no such host, or a tool fails.
    pub fn heal(&self, host: &str) -> Result<(), LabError> {
        self.at_bridge(host, &format!("link set dev {host} master br0"))?;
        self.at_bridge(host, &format!("link set dev {host} up"))?;
        ip(Some(self.namespace(host)?.name()), &[format!("link set dev {INTERFACE} up")])
    }

    /// Drops every frame between one host and these others, silently; each still reaches the rest.
    ///
    /// # Errors
    /// When there is no such host, or a tool fails.
    pub fn partition(&self, host: &str, others: &[&str]) -> Result<(), LabError> {
        let pairs = self.pairs(host, others)?;
        nft(self.namespace(BRIDGE)?, &format!("add element bridge lab cuts {{ {pairs} }}"))
    }

    /// Drops every frame from one host to these others, but none the other way.
    ///
    /// # Errors
    /// When there is no such host, or a tool fails.
    pub fn partition_one_way(&self, from: &str, to: &[&str]) -> Result<(), LabError> {
        self.pairs(from, to)?;
        let pairs: Vec<String> = to.iter().map(|to| format!("\"{from}\" . \"{to}\"")).collect();
        let pairs = pairs.join(", ");
        nft(self.namespace(BRIDGE)?, &format!("add element bridge lab cuts {{ {pairs} }}"))
    }

    /// Undoes all partitions, of all hosts.
    ///
    /// # Errors
    /// When a tool fails.
    pub fn heal_partitions(&self) -> Result<(), LabError> {
        nft(self.namespace(BRIDGE)?, "flush set bridge lab cuts")
    }

    /// Adds an address to an interface of a host.
    ///
    /// # Errors
    /// When there is no such host, or a tool fails.
    pub fn add_address(&self, host: &str, interface: &str, net: &IpNet) -> Result<(), LabError> {
        ip(Some(self.namespace(host)?.name()), &[address_line("add", interface, net)])
    }

    /// Removes an address from an interface of a host.
    ///
    /// # Errors
    /// When there is no such host or address, or a tool fails.
    pub fn delete_address(&self, host: &str, interface: &str, net: &IpNet) -> Result<(), LabError> {
        ip(Some(self.namespace(host)?.name()), &[format!("addr del {net} dev {interface}")])
    }

    /// The hardware address of a host's interface, in lower case.
    ///
    /// # Errors
    /// When there is no such host, or a tool fails.
    pub fn mac(&self, host: &str) -> Result<String, LabError> {
        let mut show = Command::new("ip");
        show.args(["-n", self.namespace(host)?.name(), "-br", "link", "show", "dev", INTERFACE]);
        let text = command::run_ok(&mut show, LIMIT)?;
        let mac = text.split_whitespace().find(|word| word.matches(':').count() == 5);
        let unreadable = || LabError::Unreadable { what: "ip -br link".into(), text: text.clone() };
        mac.map(str::to_lowercase).ok_or_else(unreadable)
    }

    /// Runs a command to its end on a host, whatever its status.
    ///
    /// # Errors
    /// When there is no such host, or as [`Namespace::run`].
    pub fn run(
        &self,
        host: &str,
        command: &mut Command,
        limit: Duration,
    ) -> Result<Finished, LabError> {
        self.namespace(host)?.run(command, limit)
    }

    /// Starts a process on a host, its output added to a log.
    ///
    /// # Errors
    /// When there is no such host, or as [`Process::spawn`].
    pub fn spawn(
        &self,
        host: &str,
        command: &mut Command,
        log: &Path,
    ) -> Result<Process, LabError> {
        Process::spawn(self.namespace(host)?, command, log)
    }

    fn add_namespace(&mut self, host: &str) -> Result<(), LabError> {
        let name = format!("{}{host}", self.prefix);
        ip(None, &[format!("netns add {name}")])?;
        self.namespaces.insert(host.to_owned(), Namespace::open(&name)?);
        Ok(())
    }

    fn at_bridge(&self, host: &str, line: &str) -> Result<(), LabError> {
        self.namespace(host)?;
        ip(Some(self.namespace(BRIDGE)?.name()), &[line.to_owned()])
    }

    fn pairs(&self, host: &str, others: &[&str]) -> Result<String, LabError> {
        self.namespace(host)?;
        let mut pairs = Vec::new();
        for other in others {
            self.namespace(other)?;
            pairs.push(format!("\"{host}\" . \"{other}\", \"{other}\" . \"{host}\""));
        }
        Ok(pairs.join(", "))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for namespace in self.namespaces.values() {
            // A later run's sweep takes what is left here.
            let _left = sweep::remove(namespace.name());
        }
    }
}

/// Without duplicate address detection, which would keep an IPv6 address unusable for a second.
pub(super) fn address_line(verb: &str, interface: &str, net: &IpNet) -> String {
    let nodad = if matches!(net, IpNet::V6(_)) { " nodad" } else { "" };
    format!("addr {verb} {net} dev {interface}{nodad}")
}

/// Runs lines of `ip` in one process: starting processes is what takes long under emulation.
pub(super) fn ip(namespace: Option<&str>, lines: &[String]) -> Result<(), LabError> {
    let mut batch = tempfile::NamedTempFile::new().map_err(LabError::io("make a batch for ip"))?;
    batch.write_all(lines.join("\n").as_bytes()).map_err(LabError::io("write a batch for ip"))?;
    let mut ip = Command::new("ip");
    if let Some(namespace) = namespace {
        ip.args(["-n", namespace]);
    }
    ip.arg("-batch").arg(batch.path());
    command::run_ok(&mut ip, LIMIT).map(drop).map_err(|error| match error {
        // The batch's file says nothing to a reader; its lines do.
        LabError::Command { status, output, .. } => {
            let command = format!("ip -n {} {}", namespace.unwrap_or("-"), lines.join("; "));
            LabError::Command { command, status, output }
        }
        other => other,
    })
}

fn nft(namespace: &Namespace, rules: &str) -> Result<(), LabError> {
    let mut nft = Command::new("nft");
    nft.arg(rules);
    namespace.enter(|| command::run_ok(&mut nft, LIMIT))?.map(drop)
}
