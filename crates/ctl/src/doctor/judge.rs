//! What is wrong with a machine, why it matters, and what mends it. Pure.

use super::facts::{Facts, Module, Synced};
use super::{Finding, Level};

/// A share of the lease that one write to the disk may take: from it on Raft's leaders are missed while they
/// write.
const SYNC_FAILS: u32 = 3;
/// A share that already makes failovers late.
const SYNC_WARNS: u32 = 10;
/// 4096 buckets, which was Linux's own for long.
const CONN_TAB_BITS_SMALL: u32 = 12;
/// What a tunnel adds to each packet, at least (IP in IP).
const TUNNEL_BYTES: u32 = 20;
const ETHERNET_MTU: u32 = 1_500;
/// Clock sources that are slow to read, or known to go astray.
const CLOCKS_DOUBTFUL: [&str; 5] = ["hpet", "acpi_pm", "jiffies", "refined-jiffies", "pit"];

/// Judges everything that was found.
#[must_use]
pub fn examine(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    sources(facts, &mut found);
    if !facts.wanted.witness {
        modules(facts, &mut found);
        fence(facts, &mut found);
        sysctls(facts, &mut found);
        network(facts, &mut found);
    }
    clock(facts, &mut found);
    disk(facts, &mut found);
    daemon(facts, &mut found);
    rivals(facts, &mut found);
    surroundings(facts, &mut found);
    leftovers(facts, &mut found);
    found
}

fn sources(facts: &Facts, found: &mut Vec<Finding>) {
    let wanted = &facts.wanted;
    if let Some(why) = &wanted.node_unread {
        let fix = "quorated --check --config /etc/quorate/node.toml";
        let matters = "devices, ports and the data directory of this node are not known";
        let place = ("cluster", "node.toml");
        found.push(if wanted.pre {
            Finding::warn(place, why.clone(), matters, fix)
        } else {
            Finding::fail(place, why.clone(), matters, fix)
        });
    }
    if let Some(why) = &wanted.cluster_unread {
        let matters = "VIPs, schedulers and forwarding methods are not known: what depends on them was not looked at";
        let fix = "quorate doctor --cluster cluster.toml";
        found.push(Finding::warn(("cluster", "configuration"), why.clone(), matters, fix));
    }
    if !facts.root {
        let matters = "the fence, the disk and some files can't be tried by other users";
        let what = "not run as root";
        found.push(Finding::warn(("cluster", "rights"), what, matters, "sudo quorate doctor"));
    }
}

fn modules(facts: &Facts, found: &mut Vec<Finding>) {
    for (module, place) in &facts.modules {
        let why = match module.as_str() {
            "ip_vs" => "without it there is nothing to forward by: the node stays a voter",
            "sch_ingress" | "cls_bpf" => "without it there is no fence, and no VIP is configured",
            _ => "services with this scheduler fail on this director",
        };
        let at = ("kernel", module.as_str());
        found.push(match place {
            Module::Loaded => Finding::ok("kernel", module.as_str(), "is loaded"),
            Module::Loadable => Finding::ok("kernel", module.as_str(), "can be loaded"),
            Module::Missing => Finding::fail(
                at,
                format!("kernel {} does not have it", facts.kernel),
                why,
                "run the distribution's whole kernel: apt install linux-image-amd64, or dnf install kernel-modules-core",
            ),
            Module::Unknown => Finding::warn(
                at,
                format!("not loaded, and /lib/modules/{} can't be read", facts.kernel),
                why,
                format!("modprobe {module}"),
            ),
        });
    }
    match facts.conn_tab_bits {
        Some(bits) if bits <= CONN_TAB_BITS_SMALL => found.push(Finding::warn(
            ("kernel", "ip_vs conn_tab_bits"),
            format!("the connection table has {} buckets (2^{bits})", 1_u64 << bits.min(63)),
            "from some ten thousand connections on, each packet walks long chains; it is set when the module is loaded",
            "echo 'options ip_vs conn_tab_bits=20' > /etc/modprobe.d/ip_vs.conf, then reboot",
        )),
        Some(bits) => {
            let what = format!("the connection table has 2^{bits} buckets");
            found.push(Finding::ok("kernel", "ip_vs conn_tab_bits", what));
        }
        None => {}
    }
}

fn fence(facts: &Facts, found: &mut Vec<Finding>) {
    match &facts.fence {
        Some(Ok(())) => found.push(Finding::ok("kernel", "fence", "its program loads")),
        Some(Err(why)) => found.push(Finding::fail(
            ("kernel", "fence"),
            why.clone(),
            "without the fence no VIP is configured on this director",
            "a kernel with CONFIG_BPF_SYSCALL, CONFIG_NET_CLS_BPF and CONFIG_NET_SCH_INGRESS; no lockdown in confidentiality mode",
        )),
        None => {}
    }
}

fn sysctls(facts: &Facts, found: &mut Vec<Finding>) {
    if facts.sysctls_wrong.is_empty() && facts.sysctls_right > 0 {
        let what = format!("{} settings are as a director needs them", facts.sysctls_right);
        found.push(Finding::ok("sysctl", "director", what));
    }
    for sysctl in &facts.sysctls_wrong {
        let now = sysctl.found.as_deref().unwrap_or("unreadable");
        let what = format!("is {now}, needed: {}", sysctl.wanted);
        if facts.wanted.sysctls_are_set && sysctl.found.is_some() {
            let what = format!("{what}; the daemon sets it (sysctl = \"set\")");
            found.push(Finding::ok("sysctl", sysctl.key.clone(), what));
            continue;
        }
        found.push(Finding::fail(
            ("sysctl", &sysctl.key),
            what,
            why_sysctl(&sysctl.key),
            format!("sysctl -w {}='{}'", sysctl.key, sysctl.wanted),
        ));
    }
    let all = facts.rp_filter.get("all").copied().unwrap_or(0);
    for (device, own) in facts.rp_filter.iter().filter(|(device, _)| *device != "all") {
        // The kernel takes the larger of the two; 2 is loose.
        if all.max(*own) == 1 {
            let key = format!("net.ipv4.conf.{}.rp_filter", device.replace('.', "/"));
            found.push(Finding::warn(
                ("sysctl", &key),
                "is 1 (strict)",
                "packets of clients to whom the route leaves by another device are dropped before IPVS sees them",
                format!("sysctl -w {key}=2"),
            ));
        }
    }
}

fn why_sysctl(key: &str) -> &'static str {
    match key.rsplit('.').next().unwrap_or_default() {
        "arp_ignore" | "arp_announce" => {
            "a standby would answer ARP for what another device of it has"
        }
        "send_redirects" => "it would send clients past the director",
        "promote_secondaries" => "removing one address would take others of its network with it",
        "ip_forward" | "forwarding" => {
            "with NAT the answers of real servers go through the director"
        }
        "expire_quiescent_template" => {
            "clients that stick to a drained real server would stay there"
        }
        _ => "directors would not treat connections alike",
    }
}

fn network(facts: &Facts, found: &mut Vec<Finding>) {
    for device in &facts.wanted.devices {
        let Some(&mtu) = facts.mtu.get(device) else {
            found.push(Finding::fail(
                ("network", device),
                "there is no such device",
                "groups whose addresses it carries can't be served here",
                "name the right one in [interfaces] of node.toml: ip -br link",
            ));
            continue;
        };
        if facts.wanted.tunnels && mtu < ETHERNET_MTU + TUNNEL_BYTES {
            found.push(Finding::warn(
                ("network", device),
                format!("MTU {mtu}: a packet of {ETHERNET_MTU} bytes does not fit once it is in a tunnel"),
                "long packets of clients are answered by ICMP, which many firewalls drop: transfers hang",
                "quorate realserver setup --mode TUN on each real server clamps TCP; or a larger MTU between director and real servers",
            ));
        } else {
            found.push(Finding::ok("network", device.clone(), format!("is there, MTU {mtu}")));
        }
    }
}

fn clock(facts: &Facts, found: &mut Vec<Finding>) {
    let Some(clock) = &facts.clock else { return };
    if CLOCKS_DOUBTFUL.contains(&clock.as_str()) {
        found.push(Finding::warn(
            ("kernel", "clock source"),
            format!("is {clock}"),
            "it is slow to read, or can go astray, and leases are measured with it",
            "cat /sys/devices/system/clocksource/clocksource0/available_clocksource; tsc or the hypervisor's own is better",
        ));
    } else {
        found.push(Finding::ok("kernel", "clock source", format!("is {clock}")));
    }
}

fn disk(facts: &Facts, found: &mut Vec<Finding>) {
    let why = "a grant counts once a majority has it on disk: failovers are late by this, and leaders that wait for it are missed";
    match &facts.synced {
        Some(Ok(Synced { place, tries, median, longest })) => {
            let ms = |time: &std::time::Duration| {
                format!("{}.{} ms", time.as_millis(), time.subsec_micros() / 100 % 10)
            };
            let what = format!(
                "an fsync takes {} (median of {tries}), {} at most",
                ms(median),
                ms(longest)
            );
            let lease = facts.wanted.lease.unwrap_or(quorate_model::time::Timing::LAN.lease());
            let fix = "a disk that is faster, or not shared with what writes much; or timing = \"wan\" in [cluster]";
            found.push(if *longest >= lease / SYNC_FAILS {
                Finding::fail(("disk", place), what, why, fix)
            } else if *longest >= lease / SYNC_WARNS {
                Finding::warn(("disk", place), what, why, fix)
            } else {
                Finding::ok("disk", place.clone(), what)
            });
        }
        Some(Err(error)) => {
            let place = ("disk", facts.wanted.data_dir.as_str());
            let fix = "sudo quorate doctor, and see that data_dir of node.toml can be written";
            found.push(Finding::warn(place, format!("fsync was not timed: {error}"), why, fix));
        }
        None => {}
    }
}

fn daemon(facts: &Facts, found: &mut Vec<Finding>) {
    if facts.rt_runtime == Some(0) {
        found.push(Finding::warn(
            ("daemon", "kernel.sched_rt_runtime_us"),
            "is 0: no program gets real-time priority",
            "on a busy machine renewals wait for a processor, and leases run out",
            "sysctl -w kernel.sched_rt_runtime_us=950000",
        ));
    }
    let Some(daemon) = &facts.daemon else {
        if !facts.wanted.pre {
            found.push(Finding::fail(
                ("daemon", "quorated"),
                "does not run",
                "this node neither votes nor serves",
                "systemctl enable --now quorated, then: journalctl -u quorated",
            ));
        }
        return;
    };
    let late = "on a busy machine renewals wait, and leases run out";
    found.push(if daemon.real_time {
        Finding::ok("daemon", "quorated", "its renewal thread has real-time priority")
    } else {
        let what = "no thread of it has real-time priority";
        let fix = "LimitRTPRIO=1 in the unit: systemctl edit quorated";
        Finding::warn(("daemon", "quorated"), what, late, fix)
    });
    found.push(if daemon.locked {
        Finding::ok("daemon", "quorated", "its memory is locked")
    } else {
        let fix = "LimitMEMLOCK=infinity in the unit: systemctl edit quorated";
        Finding::warn(("daemon", "quorated"), "its memory is not locked", late, fix)
    });
}

/// Programs that do the same work.
fn rivals(facts: &Facts, found: &mut Vec<Finding>) {
    // Before a migration they are expected.
    let level = if facts.wanted.pre { Level::Warn } else { Level::Fail };
    if facts.running.contains("keepalived") {
        found.push(Finding::bad(
            level,
            ("programs", "keepalived"),
            "runs",
            "two programs would configure the same VIPs and IPVS, and neither knows the other's",
            "systemctl disable --now keepalived, once Quorate takes over",
        ));
    }
    for unit in ["keepalived.service", "ipvsadm.service"] {
        if facts.enabled.contains(unit) {
            let why = "after the next boot it configures VIPs or IPVS beside Quorate";
            let fix = format!("systemctl disable {unit}");
            found.push(Finding::bad(level, ("programs", unit), "starts at boot", why, fix));
        }
    }
}

/// Programs that are in the way unless they are told.
fn surroundings(facts: &Facts, found: &mut Vec<Finding>) {
    if facts.running.contains("firewalld") {
        let ports: Vec<String> = facts
            .wanted
            .ports
            .iter()
            .map(|port| format!("--add-port={port}/tcp --add-port={port}/udp"))
            .collect();
        let fix = format!("firewall-cmd --permanent {} && firewall-cmd --reload", ports.join(" "));
        let why = "nodes that can't reach each other's links are dead to each other: TCP and UDP on each link's port";
        found.push(Finding::warn(("programs", "firewalld"), "runs", why, fix));
    }
    if facts.selinux {
        let why =
            "there is no policy for quorated: what it may not do fails in ways that look otherwise";
        let fix = "ausearch -m avc -c quorated";
        found.push(Finding::warn(("programs", "SELinux"), "enforces", why, fix));
    }
    if facts.running.contains("NetworkManager") && !facts.networkmanager_told {
        let devices: Vec<_> =
            facts.wanted.devices.iter().map(|device| format!("interface-name:{device}")).collect();
        found.push(Finding::warn(
            ("programs", "NetworkManager"),
            "runs, and is not told to leave devices alone",
            "when it brings a device up anew it removes addresses that are not its own; Quorate puts a VIP back, and connections may break meanwhile",
            format!(
                "printf '[keyfile]\\nunmanaged-devices={}\\n' > /etc/NetworkManager/conf.d/quorate.conf && nmcli general reload",
                devices.join(";")
            ),
        ));
    }
    if facts.running.contains("systemd-network") {
        for file in &facts.networkd_strips {
            found.push(Finding::warn(
                ("programs", file),
                "systemd-networkd runs, and this file has no KeepConfiguration=",
                "when networkd starts anew it removes addresses that are not its own",
                format!("put KeepConfiguration=static below [Network] in {file}, then: networkctl reload"),
            ));
        }
    }
}

fn leftovers(facts: &Facts, found: &mut Vec<Finding>) {
    for left in &facts.leftovers {
        found.push(Finding::fail(
            ("network", &left.file),
            format!("VIP {} stands in line {}", left.vip, left.line),
            "at boot it would be configured without a lease and without a fence: two directors answer for it",
            format!("sed -i '{}s/^/#/' {}", left.line, left.file),
        ));
    }
    if !facts.wanted.vips.is_empty() && facts.leftovers.is_empty() {
        let what = "no VIP stands in the distribution's network files";
        found.push(Finding::ok("network", "/etc", what));
    }
}
