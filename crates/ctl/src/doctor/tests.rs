//! Findings of made-up facts, and facts of a made-up machine.

use std::fs;
use std::path::Path;
use std::time::Duration;

use quorate_model::spec::{self, Format};

use super::facts::{Daemon, Facts, Leftover, Module, Synced, Sysctl, Wanted};
use super::read::Machine;
use super::*;

const CONFIGURATION: &str = include_str!("../../../../examples/web.toml");

fn wanted() -> Wanted {
    let mut wanted = Wanted {
        sysctls_are_set: true,
        data_dir: "/var/lib/quorate".to_owned(),
        devices: ["eth0".to_owned()].into(),
        ports: [7_400].into(),
        ..Wanted::default()
    };
    wanted.take(&spec::parse(CONFIGURATION, Format::Toml).unwrap());
    wanted
}

fn synced(longest: u64) -> Option<Result<Synced, String>> {
    let (median, longest) = (Duration::from_millis(1), Duration::from_millis(longest));
    Some(Ok(Synced { place: "/var/lib/quorate".to_owned(), tries: 25, median, longest }))
}

/// A machine on which all is well.
fn well() -> Facts {
    let modules = ["ip_vs", "ip_vs_rr", "sch_ingress", "cls_bpf"];
    Facts {
        wanted: wanted(),
        root: true,
        kernel: "6.12.1".to_owned(),
        modules: modules.map(|module| (module.to_owned(), Module::Loaded)).into(),
        conn_tab_bits: Some(20),
        clock: Some("tsc".to_owned()),
        rt_runtime: Some(950_000),
        sysctls_right: 8,
        rp_filter: [("all".to_owned(), 0), ("eth0".to_owned(), 2)].into(),
        mtu: [("eth0".to_owned(), 1_500)].into(),
        synced: synced(4),
        fence: Some(Ok(())),
        daemon: Some(Daemon { real_time: true, locked: true }),
        ..Facts::default()
    }
}

/// What is wrong, a line each: level, on what, what.
fn wrong(facts: &Facts) -> Vec<String> {
    let found = examine(facts);
    let wrong = found.iter().filter(|finding| finding.level != Level::Ok);
    wrong
        .map(|finding| {
            assert!(finding.why.is_some() && finding.fix.is_some(), "{finding:?}");
            format!("{} {}: {}", finding.level.word(), finding.on, finding.what)
        })
        .collect()
}

#[test]
fn where_all_is_well_there_is_nothing_to_mend() {
    let found = examine(&well());
    assert_eq!(worst(&found), Level::Ok, "{found:#?}");
    assert!(found.len() > 10, "what was looked at is told: {found:#?}");
}

#[test]
fn what_is_missing_of_the_kernel_is_a_failure() {
    let mut facts = well();
    facts.modules.insert("ip_vs".to_owned(), Module::Missing);
    facts.modules.insert("ip_vs_rr".to_owned(), Module::Loadable);
    facts.modules.insert("cls_bpf".to_owned(), Module::Unknown);
    facts.conn_tab_bits = Some(12);
    facts.clock = Some("acpi_pm".to_owned());
    facts.fence = Some(Err("the kernel refuses it: EPERM".to_owned()));
    assert_eq!(
        wrong(&facts),
        [
            "warn cls_bpf: not loaded, and /lib/modules/6.12.1 can't be read",
            "fail ip_vs: kernel 6.12.1 does not have it",
            "warn ip_vs conn_tab_bits: the connection table has 4096 buckets (2^12)",
            "fail fence: the kernel refuses it: EPERM",
            "warn clock source: is acpi_pm",
        ]
    );
    // A witness forwards nothing.
    facts.wanted.witness = true;
    assert_eq!(wrong(&facts), ["warn clock source: is acpi_pm"]);
}

#[test]
fn a_sysctl_that_the_daemon_may_set_is_no_failure() {
    let mut facts = well();
    let key = "net.ipv4.conf.all.arp_ignore".to_owned();
    let found = Some("0".to_owned());
    facts.sysctls_wrong = vec![Sysctl { key, wanted: "1".to_owned(), found }];
    assert_eq!(wrong(&facts), Vec::<String>::new());
    facts.wanted.sysctls_are_set = false;
    assert_eq!(wrong(&facts), ["fail net.ipv4.conf.all.arp_ignore: is 0, needed: 1"]);
    let fix = examine(&facts).into_iter().find_map(|finding| finding.fix);
    assert_eq!(fix.as_deref(), Some("sysctl -w net.ipv4.conf.all.arp_ignore='1'"));
    facts.wanted.sysctls_are_set = true;
    facts.sysctls_wrong[0].found = None;
    assert_eq!(wrong(&facts), ["fail net.ipv4.conf.all.arp_ignore: is unreadable, needed: 1"]);
}

#[test]
fn the_larger_rp_filter_counts() {
    let mut facts = well();
    facts.rp_filter = [("all".to_owned(), 1), ("eth0".to_owned(), 0)].into();
    assert_eq!(wrong(&facts), ["warn net.ipv4.conf.eth0.rp_filter: is 1 (strict)"]);
    facts.rp_filter = [("all".to_owned(), 1), ("eth0".to_owned(), 2)].into();
    assert_eq!(wrong(&facts), Vec::<String>::new(), "loose is the larger");
}

#[test]
fn how_slow_a_disk_may_be_follows_the_lease() {
    let mut facts = well();
    let at = |facts: &mut Facts, longest| {
        facts.synced = synced(longest);
        worst(&examine(facts))
    };
    // The example has the profile lan: a lease of 500 ms.
    assert_eq!(at(&mut facts, 49), Level::Ok);
    assert_eq!(at(&mut facts, 50), Level::Warn);
    assert_eq!(at(&mut facts, 167), Level::Fail);
    facts.wanted.lease = Some(Duration::from_secs(3));
    assert_eq!(at(&mut facts, 167), Level::Ok);
    facts.synced = Some(Err("read-only".to_owned()));
    assert_eq!(wrong(&facts), ["warn /var/lib/quorate: fsync was not timed: read-only"]);
}

#[test]
fn a_rival_is_a_warning_before_a_migration_and_a_failure_after_it() {
    let mut facts = well();
    facts.running.insert("keepalived".to_owned());
    facts.enabled.insert("ipvsadm.service".to_owned());
    assert_eq!(wrong(&facts), ["fail keepalived: runs", "fail ipvsadm.service: starts at boot"]);
    facts.wanted.pre = true;
    facts.daemon = None;
    assert_eq!(wrong(&facts), ["warn keepalived: runs", "warn ipvsadm.service: starts at boot"]);
    facts.wanted.pre = false;
    assert!(wrong(&facts).contains(&"fail quorated: does not run".to_owned()));
}

#[test]
fn what_strips_addresses_or_shuts_ports_is_named_with_the_command_that_tells_it() {
    let mut facts = well();
    facts.running = ["firewalld", "NetworkManager", "systemd-network"].map(str::to_owned).into();
    facts.networkd_strips = vec!["/etc/systemd/network/eth0.network".to_owned()];
    facts.selinux = true;
    let found = examine(&facts);
    let fixes: Vec<&str> = found.iter().filter_map(|finding| finding.fix.as_deref()).collect();
    assert_eq!(fixes.len(), 4, "{fixes:#?}");
    assert!(fixes[0].contains("--add-port=7400/tcp --add-port=7400/udp"), "{fixes:?}");
    assert!(fixes[2].contains("unmanaged-devices=interface-name:eth0"), "{fixes:?}");
    assert!(fixes[3].contains("KeepConfiguration=static"), "{fixes:?}");
    facts.networkmanager_told = true;
    facts.running.remove("systemd-network");
    assert_eq!(wrong(&facts).len(), 2);
}

#[test]
fn a_vip_that_the_distribution_configures_and_a_device_that_is_not_there_are_failures() {
    let mut facts = well();
    let (file, vip) = ("/etc/network/interfaces".to_owned(), "192.168.10.180".parse().unwrap());
    facts.leftovers = vec![Leftover { file, line: 7, vip }];
    facts.mtu.clear();
    assert_eq!(
        wrong(&facts),
        [
            "fail eth0: there is no such device",
            "fail /etc/network/interfaces: VIP 192.168.10.180 stands in line 7",
        ]
    );
}

#[test]
fn tunnels_need_room_in_the_frame() {
    let mut facts = well();
    facts.wanted.tunnels = true;
    assert_eq!(wrong(&facts).len(), 1);
    facts.mtu.insert("eth0".to_owned(), 1_520);
    assert_eq!(wrong(&facts), Vec::<String>::new());
}

#[test]
fn what_could_not_be_read_is_told() {
    let mut facts = well();
    facts.root = false;
    facts.wanted.node_unread = Some("cannot read node.toml".to_owned());
    facts.wanted.cluster_unread = Some("no endpoint answers".to_owned());
    assert_eq!(
        wrong(&facts),
        [
            "fail node.toml: cannot read node.toml",
            "warn configuration: no endpoint answers",
            "warn rights: not run as root",
        ]
    );
}

fn put(root: &Path, file: &str, text: &str) {
    let path = root.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[test]
fn a_machine_is_read_from_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for (file, text) in [
        ("proc/sys/kernel/osrelease", "6.12.1\n"),
        ("proc/sys/kernel/sched_rt_runtime_us", "950000\n"),
        ("proc/self/status", "Name:\tx\nUid:\t1000\t0\t0\t0\n"),
        ("proc/modules", "ip_vs 200704 0 - Live 0x0\nnf_conntrack 1 1 ip_vs, Live 0x0\n"),
        (
            "lib/modules/6.12.1/modules.dep",
            "kernel/net/sched/cls_bpf.ko.xz:\nkernel/net/netfilter/ipvs/ip_vs_rr.ko.xz: kernel/x.ko.xz\n",
        ),
        ("sys/module/ip_vs/parameters/conn_tab_bits", "12\n"),
        ("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n"),
        ("sys/class/net/eth0/mtu", "9000\n"),
        ("proc/sys/net/ipv4/conf/all/rp_filter", "2\n"),
        ("proc/sys/net/ipv4/conf/eth0/rp_filter", "1\n"),
        ("proc/sys/net/ipv4/conf/all/arp_ignore", "1\n"),
        ("proc/sys/net/ipv4/conf/all/arp_announce", "0\n"),
        ("proc/17/comm", "keepalived\n"),
        ("proc/18/comm", "quorated\n"),
        ("proc/18/status", "VmLck:\t  20480 kB\n"),
        (
            "proc/18/task/18/stat",
            "18 (a ) b) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 5 0 1 1 1 1 1 1 1 1 1 0 0 0 0 0 0 0 17 0 0 0 0",
        ),
        (
            "proc/18/task/19/stat",
            "19 (renewals) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 -2 0 5 0 1 1 1 1 1 1 1 1 1 0 0 0 0 0 0 0 17 0 1 2 0",
        ),
        ("etc/systemd/system/multi-user.target.wants/keepalived.service", ""),
        ("etc/systemd/network/a.network", "[Network]\nKeepConfiguration=static\n"),
        ("etc/systemd/network/b.network", "[Network]\nDHCP=yes\n"),
        ("etc/NetworkManager/conf.d/q.conf", "[keyfile]\nunmanaged-devices=interface-name:eth0\n"),
        ("sys/fs/selinux/enforce", "1"),
        (
            "etc/netplan/50.yaml",
            "network:\n  addresses: [\"192.168.10.180/32\", 192.168.10.9/24]\n",
        ),
        ("etc/network/interfaces", "# address 192.168.10.180\naddress 192.168.10.18\n"),
        (
            "etc/NetworkManager/system-connections/x.nmconnection",
            "address1=192.168.10.180/24,192.168.10.1\n",
        ),
    ] {
        put(root, file, text);
    }
    let facts = Machine::at(root).look(wanted());
    assert!(facts.root && facts.selinux && facts.networkmanager_told);
    let modules: Vec<(&str, Module)> =
        facts.modules.iter().map(|(name, place)| (name.as_str(), *place)).collect();
    assert_eq!(
        modules,
        [
            ("cls_bpf", Module::Loadable),
            ("ip_vs", Module::Loaded),
            ("ip_vs_rr", Module::Loadable),
            ("sch_ingress", Module::Missing),
        ]
    );
    assert_eq!((facts.conn_tab_bits, facts.clock.as_deref()), (Some(12), Some("tsc")));
    assert_eq!((facts.mtu["eth0"], facts.rp_filter["eth0"]), (9_000, 1));
    assert_eq!(facts.sysctls_right, 1);
    let announce = facts.sysctls_wrong.iter().find(|s| s.key.ends_with("all.arp_announce"));
    assert_eq!(announce.unwrap().found.as_deref(), Some("0"));
    assert!(facts.sysctls_wrong.iter().any(|s| s.key.contains("eth0") && s.found.is_none()));
    assert_eq!(facts.running, ["keepalived", "quorated"].map(str::to_owned).into());
    assert_eq!(facts.daemon, Some(Daemon { real_time: true, locked: true }));
    assert_eq!(facts.enabled, ["keepalived.service".to_owned()].into());
    assert_eq!(facts.networkd_strips, ["/etc/systemd/network/b.network"]);
    let left: Vec<(&str, usize)> =
        facts.leftovers.iter().map(|left| (left.file.as_str(), left.line)).collect();
    assert_eq!(
        left,
        [("/etc/netplan/50.yaml", 2), ("/etc/NetworkManager/system-connections/x.nmconnection", 1),],
        "neither a comment nor an address that begins alike"
    );
}

#[test]
fn an_empty_machine_is_read_without_a_panic_and_the_disk_is_timed_without_a_trace() {
    let folder = tempfile::tempdir().unwrap();
    let facts = Machine::at(folder.path()).look(wanted());
    assert!(!facts.root && facts.daemon.is_none());
    assert_eq!(facts.modules["ip_vs"], Module::Unknown);
    // The folder is not there yet: that above it is timed.
    let synced = Machine::at(folder.path()).sync("/var/lib/quorate").unwrap();
    assert_eq!(synced.tries, 25);
    assert!(synced.median <= synced.longest);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
