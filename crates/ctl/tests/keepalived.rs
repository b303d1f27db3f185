//! `keepalived` as a whole: fixtures with what becomes of them, Keepalived's own samples, changed fixtures, and the
//! list of keywords. `QUORATE_REWRITE=1` writes what is expected anew; read the difference before you keep it.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "what a test relies on fails the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use quorate_ctl::keepalived::keywords::{CONTEXTS, Context, Fate};
use quorate_ctl::keepalived::source::Disk;
use quorate_ctl::keepalived::{self, Imported, Options};
use quorate_model::spec::{self, Format};

const FOLDER: &str = "tests/fixtures/keepalived";
const SAMPLES: &str = "/usr/share/doc/keepalived/samples";
const PAGE: &str = "../../docs/reference/keepalived.md";

/// A fixture: its name, its files, whether it goes on after errors.
const CASES: [(&str, &[&str], bool); 9] = [
    ("tutorial", &["tutorial.conf"], false),
    ("pair", &["pair-lb1.conf", "pair-lb2.conf"], false),
    ("checks", &["checks.conf"], false),
    ("language", &["language.conf"], false),
    ("groups", &["groups.conf"], false),
    ("misspelt", &["misspelt.conf"], false),
    ("meaning", &["meaning.conf"], false),
    ("refused", &["refused.conf"], false),
    ("refused-kept", &["refused.conf"], true),
];

fn import(files: &[&str], keep_going: bool) -> Imported {
    let paths: Vec<String> = files.iter().map(|file| format!("{FOLDER}/{file}")).collect();
    let both = ["tcp/192.0.2.80:443", "tcp/[2001:db8::80]:443"].map(str::to_owned).to_vec();
    let marks = BTreeMap::from([(5, vec!["tcp/192.0.2.2:8000-8010".to_owned()]), (6, both)]);
    let options = Options { keep_going, marks, ..Options::default() };
    keepalived::import(&Disk::default(), &paths, &options)
}

/// What stands in the file, or is to stand there, against what is the case.
fn compare(path: &str, text: &str, differences: &mut Vec<String>) {
    if std::env::var_os("QUORATE_REWRITE").is_some() {
        fs::write(path, text).unwrap();
        return;
    }
    let known = fs::read_to_string(path).unwrap_or_default();
    if known != text {
        let mut lines = known.lines().zip(text.lines()).enumerate();
        let first = lines.find(|(_, (known, text))| known != text);
        differences.push(format!("{path}: {first:?}"));
    }
}

#[test]
fn each_fixture_becomes_what_stands_beside_it() {
    let mut differences = Vec::new();
    for (name, files, keep_going) in CASES {
        let imported = import(files, keep_going);
        let source = imported.source.unwrap_or_default();
        assert!(spec::parse(&source, Format::Toml).is_ok(), "{name}: {source}");
        compare(&format!("{FOLDER}/{name}.toml"), &source, &mut differences);
        compare(&format!("{FOLDER}/{name}.said"), &imported.report.render(), &mut differences);
    }
    assert!(differences.is_empty(), "{differences:#?}");
}

#[test]
fn the_usual_tutorial_becomes_what_it_says() {
    let imported = import(&["tutorial.conf"], false);
    assert_eq!(imported.report.errors(), 0, "{}", imported.report.render());
    let spec = spec::parse(&imported.source.unwrap(), Format::Toml).unwrap();
    let (_, group) = spec.groups.iter().next().unwrap();
    assert_eq!(group.addresses[0].net.to_string(), "192.0.2.100/32");
    let (_, service) = spec.services.iter().next().unwrap();
    assert_eq!(service.scheduler.as_str(), "rr");
    assert_eq!(service.persistence.as_ref().unwrap().timeout_s, 50);
    assert_eq!((service.checks.len(), service.real_servers.len()), (1, 2));
    let check = &service.checks[0];
    assert_eq!((check.interval.as_secs(), check.timeout.as_secs(), check.retry), (6, 3, 3));
}

#[test]
fn no_password_is_ever_shown() {
    for (_, files, keep_going) in CASES {
        let imported = import(files, keep_going);
        let all = format!("{}{:?}", imported.report.render(), imported.source);
        for secret in ["s3cr3t", "never-shown", "1111"] {
            assert!(!all.contains(secret), "{files:?}: {secret}");
        }
    }
}

#[test]
fn an_error_names_line_and_column_and_what_to_do_and_leaves_nothing() {
    let imported = import(&["refused.conf"], false);
    assert!(imported.source.is_none());
    let said = imported.report.render();
    let wanted = format!(
        "error: use_vmac: it names a device or a MAC, and Quorate has no virtual MACs\n  --> \
         {FOLDER}/refused.conf:3:5\n3 |     use_vmac vrrp.51\n  |     ^^^^^^^^\n  = help: take it out"
    );
    assert!(said.starts_with(&wanted), "{said}");
    assert_eq!(imported.report.errors(), 3, "{said}");
    let kept = import(&["refused.conf"], true);
    assert!(kept.source.is_some_and(|source| source.contains("[group.VI_3]")));
}

#[test]
fn one_file_for_several_directors_makes_a_director_of_each_id() {
    let paths = [format!("{FOLDER}/language.conf")];
    let of = |id: Option<&str>| {
        let options = Options { id: id.map(str::to_owned), ..Options::default() };
        keepalived::import(&Disk::default(), &paths, &options).source.unwrap()
    };
    assert!(of(None).contains("prefer = [\"main\", \"spare\"]"), "{}", of(None));
    assert!(!of(Some("main")).contains("\nprefer"), "{}", of(Some("main")));
}

#[test]
fn a_name_of_the_caller_is_that_of_its_director() {
    let paths = ["pair-lb1.conf", "pair-lb2.conf"].map(|file| format!("{FOLDER}/{file}"));
    let names = BTreeMap::from([(1, "east".to_owned())]);
    let options = Options { names, ..Options::default() };
    let source = keepalived::import(&Disk::default(), &paths, &options).source.unwrap();
    assert!(source.contains("prefer = [\"lb-one\", \"east\"]"), "{source}");
}

/// Debian's package keepalived has them.
#[test]
fn every_sample_of_keepalived_imports() {
    let Ok(folder) = fs::read_dir(SAMPLES) else {
        // The only word on it that a test has; clippy.toml keeps print macros out of what ships.
        let _ = writeln!(std::io::stderr(), "skipped: {SAMPLES} is not there (package keepalived)");
        return;
    };
    let names = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let samples: Vec<String> = names.filter(|name| name.starts_with("keepalived.conf.")).collect();
    assert!(samples.len() >= 25, "{samples:?}");
    for name in samples {
        let path = format!("{SAMPLES}/{name}");
        let imported = keepalived::import(&Disk::default(), &[path], &Options::default());
        assert_eq!(imported.report.errors(), 0, "{name}: {}", imported.report.render());
        let source = imported.source.unwrap();
        assert!(spec::parse(&source, Format::Toml).is_ok(), "{name}: {source}");
    }
}

/// What a sample becomes; nothing where the package is not there.
fn sample(name: &str) -> Option<spec::ClusterSpec> {
    let path = format!("{SAMPLES}/{name}");
    if !Path::new(&path).exists() {
        let _ = writeln!(std::io::stderr(), "skipped: {path} is not there (package keepalived)");
        return None;
    }
    let imported = keepalived::import(&Disk::default(), &[path], &Options::default());
    Some(spec::parse(&imported.source.unwrap(), Format::Toml).unwrap())
}

#[test]
fn keepalived_s_samples_of_routes_and_rules_keep_them() {
    for (name, count) in [("keepalived.conf.vrrp.routes", 6), ("keepalived.conf.vrrp.rules", 1)] {
        let Some(spec) = sample(name) else { return };
        let all: usize = spec.groups.values().map(|group| group.routing.len()).sum();
        assert_eq!(all, count, "{name}: {spec:?}");
    }
}

/// Numbers that come back: a linear congruential generator.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound.max(1)
    }
}

#[test]
fn changed_fixtures_are_read_to_an_end_and_what_is_written_is_a_configuration() {
    let files: Vec<Vec<u8>> = CASES
        .iter()
        .flat_map(|(_, files, _)| files.iter())
        .map(|file| fs::read(format!("{FOLDER}/{file}")).unwrap())
        .collect();
    let mut dice = Dice(1);
    for round in 0..2_000 {
        let mut bytes = files[dice.below(files.len())].clone();
        for _ in 0..=dice.below(5) {
            let at = dice.below(bytes.len());
            let end = at + dice.below(60);
            match dice.below(5) {
                0 => bytes.truncate(at),
                1 => drop(bytes.drain(at..end.min(bytes.len()))),
                2 => bytes.insert(at, u8::try_from(dice.below(256)).unwrap()),
                3 => {
                    let piece = bytes[at..end.min(bytes.len())].to_vec();
                    bytes.splice(at..at, piece);
                }
                _ => bytes.insert(at, b"{}\"'\\$~@#\n/-"[dice.below(12)]),
            }
        }
        let tree = BTreeMap::from([("k.conf".to_owned(), bytes.clone())]);
        let options = Options { keep_going: round % 2 == 0, ..Options::default() };
        let imported = keepalived::import(&tree, &["k.conf".to_owned()], &options);
        let shown = String::from_utf8_lossy(&bytes).into_owned();
        let said = imported.report.render();
        assert!(!said.contains("it can't be kept"), "{said}\n{shown}");
        match imported.source {
            Some(source) => {
                assert!(spec::parse(&source, Format::Toml).is_ok(), "{source}\n{shown}");
                assert!(source.len() < 200_000, "{shown}");
            }
            None => assert!(imported.report.errors() > 0, "{shown}"),
        }
    }
}

#[test]
fn a_large_file_is_read_in_one_go() {
    let mut text = String::from(
        "vrrp_instance V {\n interface eth0\n virtual_ipaddress {\n  192.0.2.1\n }\n}\n",
    );
    for port in 1..=4_000 {
        let _ = write!(
            text,
            "virtual_server 192.0.2.1 {port} {{\n protocol TCP\n lb_kind DR\n real_server 10.0.0.1 {port} {{\n  \
             TCP_CHECK {{\n  }}\n }}\n real_server 10.0.0.2 {port} {{\n  TCP_CHECK {{\n  }}\n }}\n}}\n"
        );
    }
    // Comments make it ten megabytes.
    text.extend(std::iter::repeat_n("# a comment that says nothing\n", 10 * 1024 * 1024 / 30));
    let tree = BTreeMap::from([("k.conf".to_owned(), text.into_bytes())]);
    let imported = keepalived::import(&tree, &["k.conf".to_owned()], &Options::default());
    assert_eq!(imported.counts, (1, 4_000, 8_000), "{}", imported.report.render());
}

/// The keywords by block, in our own words: what the page of Keepalived's manual has.
const KEYWORDS: [(&str, &str); 24] = [
    (
        "top",
        "global_defs net_namespace net_namespace_ipvs instance use_pid_dir linkbeat_use_polling \
        linkbeat_interfaces child_wait_time namespace_with_ipsets track_group static_ipaddress static_routes \
        static_rules track_file vrrp_track_file vrrp_track_process bfd_instance vrrp_script vrrp_sync_group garp_group \
        vrrp_instance interface_up_down_delays virtual_server_group virtual_server SSL",
    ),
    (
        "global_defs",
        "router_id lvs_timeouts lvs_flush lvs_flush_on_stop lvs_flush_onstop lvs_sync_daemon nftables_ipvs \
        nftables_ipvs_priority nftables_ipvs_start_fwmark lvs_notify_fifo lvs_notify_fifo_script notify_fifo \
        notify_fifo_script rs_init_notifies no_checker_emails checker_log_all_failures smtp_alert smtp_alert_checker \
        smtp_alert_vrrp notification_email notification_email_from smtp_server smtp_helo_name smtp_connect_timeout \
        no_email_faults checker_priority checker_no_swap checker_rt_priority checker_cpu_affinity checker_rlimit_rttime \
        vrrp_priority vrrp_no_swap vrrp_rt_priority vrrp_cpu_affinity vrrp_rlimit_rttime bfd_priority bfd_no_swap \
        bfd_rt_priority bfd_cpu_affinity bfd_rlimit_rttime lvs_netlink_cmd_rcv_bufs lvs_netlink_cmd_rcv_bufs_force \
        lvs_netlink_monitor_rcv_bufs lvs_netlink_monitor_rcv_bufs_force vrrp_netlink_cmd_rcv_bufs \
        vrrp_netlink_cmd_rcv_bufs_force vrrp_netlink_monitor_rcv_bufs vrrp_netlink_monitor_rcv_bufs_force \
        process_monitor_rcv_bufs process_monitor_rcv_bufs_force vrrp_rx_bufs_policy vrrp_rx_bufs_multiplier \
        enable_snmp_checker enable_snmp_vrrp enable_snmp_rfc enable_snmp_rfcv2 enable_snmp_rfcv3 enable_traps snmp_socket \
        snmp_vs_stats_update_interval snmp_rs_stats_update_interval script_user enable_script_security startup_script \
        startup_script_timeout shutdown_script shutdown_script_timeout reload_check_config reload_time_file \
        reload_repeat reload_file vrrp_version vrrp_garp_master_delay vrrp_garp_master_repeat \
        vrrp_garp_master_refresh vrrp_garp_master_refresh_repeat vrrp_garp_lower_prio_delay vrrp_garp_lower_prio_repeat \
        vrrp_garp_interval vrrp_gna_interval vrrp_garp_extra_if vrrp_min_garp vrrp_startup_delay vrrp_delay_after_boot \
        tmp_config_directory config_save_dir process_names process_name vrrp_process_name checker_process_name \
        bfd_process_name vrrp_mcast_group4 vrrp_mcast_group6 default_interface vrrp_down_timer_adverts \
        vrrp_lower_prio_no_advert vrrp_higher_prio_send_advert nftables nftables_priority nftables_counters \
        nftables_ifindex vrrp_iptables vrrp_ipsets disable_local_igmp vrrp_check_unicast_src vrrp_skip_check_adv_addr \
        vrrp_strict vrrp_notify_priority_changes max_auto_priority min_auto_priority_delay enable_dbus dbus_service_name \
        vrrp_notify_fifo vrrp_notify_fifo_script fifo_write_vrrp_states_on_reload dynamic_interfaces umask \
        log_unknown_vrids vmac_prefix vmac_addr_prefix random_seed data_use_instance",
    ),
    (
        "vrrp_instance",
        "state interface vrf virtual_router_id priority advert_int version use_vmac use_vmac_addr \
        vmac_xmit_base use_ipvlan native_ipv6 dont_track_primary track_interface track_script track_file track_process \
        track_bfd track_src_ip mcast_src_ip mcast_dst_ip unicast_src_ip unicast_peer unicast_ttl unicast_fault_no_peer \
        check_unicast_src old_unicast_checksum v3_checksum_as_v2 virtual_ipaddress virtual_ipaddress_excluded \
        no_virtual_ipaddress promote_secondaries virtual_routes virtual_rules accept no_accept skip_check_adv_addr \
        strict_mode preempt nopreempt preempt_delay debug notify notify_master notify_backup notify_fault notify_stop \
        notify_deleted notify_master_rx_lower_pri notify_priority_changes smtp_alert lvs_sync_daemon_interface \
        garp_master_delay garp_master_refresh garp_master_repeat garp_master_refresh_repeat garp_lower_prio_delay \
        garp_lower_prio_repeat garp_extra_if vmac_garp_intvl down_timer_adverts timer_expired_backup \
        thread_timer_expired lower_prio_no_advert higher_prio_send_advert owner_ignore_adverts kernel_rx_buf_size \
        linkbeat_use_polling authentication auth_hmac",
    ),
    ("authentication", "auth_type auth_pass"),
    (
        "vrrp_sync_group",
        "group track_interface track_script track_file track_process track_bfd notify_master \
        notify_backup notify_fault notify_stop notify_deleted notify notify_priority_changes smtp_alert global_tracking \
        sync_group_tracking_weight",
    ),
    ("vrrp_script", "script interval timeout weight rise fall user init_fail"),
    (
        "vrrp_track_process",
        "process param_match weight quorum quorum_max fork_delay terminate_delay delay full_command",
    ),
    ("track_file", "file weight init_file"),
    (
        "bfd_instance",
        "neighbor_ip neighbour_ip source_ip min_rx min_tx idle_tx multiplier passive ttl hoplimit max_hops \
        weight vrrp checker",
    ),
    ("garp_group", "garp_interval gna_interval interface interfaces"),
    (
        "virtual_ipaddress",
        "brd dev use_vmac scope label peer home -nodad mngtmpaddr noprefixroute autojoin no_track \
        preferred_lft track_group",
    ),
    (
        "virtual_routes",
        "to src via gw or dev scope table metric blackhole nexthop onlink weight tos protocol priority mtu hoplimit \
        advmss rtt rttvar reordering window cwnd ssthresh realms rto_min initcwnd initrwnd vrf features append \
        fastopen_no_cookie track_group no_track",
    ),
    (
        "virtual_rules",
        "from to table iif oif tos fwmark preference realms goto uidrange l3mdev protocol ip_proto sport dport \
        track_group no_track",
    ),
    (
        "virtual_server",
        "ip_family retry delay_before_retry warmup connect_timeout delay_loop inhibit_on_failure lb_algo \
        lvs_sched hashed ops flag-1 flag-2 flag-3 sh-port sh-fallback mh-port mh-fallback lb_kind lvs_method \
        persistence_engine persistence_timeout persistence_granularity protocol ha_suspend smtp_alert virtualhost \
        snmp_name alpha omega quorum quorum_up quorum_down hysteresis weight sorry_server sorry_server_inhibit \
        sorry_server_lvs_method real_server",
    ),
    (
        "real_server",
        "weight lvs_method uthreshold lthreshold inhibit_on_failure notify_up notify_down alpha retry \
        delay_before_retry warmup connect_timeout delay_loop smtp_alert virtualhost snmp_name TCP_CHECK HTTP_GET SSL_GET \
        SMTP_CHECK DNS_CHECK MISC_CHECK BFD_CHECK UDP_CHECK PING_CHECK FILE_CHECK",
    ),
    ("SSL", "password ca certificate key"),
    (
        "TCP_CHECK",
        "connect_ip connect_port bindto bind_port bind_if connect_timeout fwmark retry delay_before_retry \
        warmup delay_loop alpha log_all_failures",
    ),
    (
        "HTTP_GET, SSL_GET",
        "connect_ip connect_port bindto bind_port bind_if connect_timeout fwmark retry nb_get_retry \
        delay_before_retry warmup delay_loop alpha log_all_failures virtualhost http_protocol fast_recovery enable_sni \
        sni_name tls_compliant url",
    ),
    (
        "url",
        "path digest status_code virtualhost regex regex_no_match regex_options regex_min_offset regex_max_offset \
        regex_stack tls_compliant",
    ),
    ("SMTP_CHECK", "helo_name host connect_port retry"),
    ("DNS_CHECK", "type name connect_ip retry"),
    ("UDP_CHECK", "payload require_reply min_reply_length max_reply_length connect_port"),
    (
        "MISC_CHECK",
        "misc_path misc_timeout misc_dynamic user alpha retry delay_before_retry warmup delay_loop",
    ),
    ("FILE_CHECK", "track_file weight dynamic"),
];

fn context(title: &str) -> &'static Context {
    CONTEXTS.into_iter().find(|context| context.title == title).unwrap()
}

#[test]
fn every_keyword_of_the_manual_is_known_where_it_stands() {
    let mut unknown = Vec::new();
    for (title, words) in KEYWORDS {
        let context = context(title);
        let missing = words.split_whitespace().filter(|word| context.find(word).is_none());
        unknown.extend(missing.map(|word| format!("{title}: {word}")));
    }
    assert!(unknown.is_empty(), "{unknown:#?}");
}

#[test]
fn every_keyword_stands_once_and_another_spelling_is_one_of_a_keyword() {
    for context in CONTEXTS {
        let mut seen = BTreeSet::new();
        for keyword in context.all() {
            assert!(seen.insert(keyword.name), "{}: {} stands twice", context.title, keyword.name);
            assert!(!keyword.says.is_empty(), "{}: {}", context.title, keyword.name);
            if keyword.fate == Fate::Same {
                let of = context.find(keyword.says).map(|of| of.fate);
                assert!(
                    of.is_some_and(|fate| fate != Fate::Same),
                    "{}: {}",
                    context.title,
                    keyword.name
                );
            }
        }
    }
}

/// The tables of the page, as the keywords are.
fn tables() -> String {
    let mut text = String::new();
    for context in CONTEXTS {
        let _ = write!(
            text,
            "\n### {}\n\n| keyword | | into what, or why |\n|---|---|---|\n",
            context.title
        );
        for keyword in context.all() {
            let fate = match keyword.fate {
                Fate::Becomes => "becomes",
                Fate::Dropped => "left out",
                Fate::Refused => "error",
                Fate::Same => "same as",
            };
            let says = if keyword.fate == Fate::Same {
                format!("`{}`", keyword.says)
            } else {
                keyword.says.to_owned()
            };
            let _ = writeln!(text, "| `{}` | {fate} | {says} |", keyword.name);
        }
    }
    text
}

#[test]
fn the_page_says_what_becomes_of_each_keyword() {
    let page = fs::read_to_string(Path::new(PAGE)).unwrap();
    let marker = "## Every keyword\n";
    let (before, after) = page.split_once(marker).unwrap();
    let tables = tables();
    if std::env::var_os("QUORATE_REWRITE").is_some() {
        fs::write(PAGE, format!("{before}{marker}{tables}")).unwrap();
        return;
    }
    let mut lines = after.lines().zip(tables.lines()).enumerate();
    let different = lines.find(|(_, (page, table))| page != table);
    assert_eq!(different, None, "QUORATE_REWRITE=1 writes it anew");
    assert_eq!(after.lines().count(), tables.lines().count(), "QUORATE_REWRITE=1 writes it anew");
}
