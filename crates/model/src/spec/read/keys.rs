//! The keys of the cluster's configuration (design §6). Each stands with its default in
//! docs/reference/configuration.md, which a test compares with these lists.

use crate::spec::document::{Key, TableKeys};

mod routing;

pub(super) use routing::{ROUTE, RULE};

/// Every table of the configuration, in the order of the reference page.
pub const TABLES: [&TableKeys; 20] = [
    &ROOT,
    &CLUSTER,
    &TIMING,
    &TIMEOUTS,
    &SYNC,
    &GROUP,
    &ADDRESS,
    &ROUTE,
    &RULE,
    &SERVICE,
    &SCHEDULER,
    &PERSISTENCE,
    &REAL_SERVER,
    &TUNNEL,
    &POOL,
    &CHECK,
    &URL,
    &DAMP,
    &TRACK,
    &HOOK,
];

pub(super) const ROOT: TableKeys = TableKeys {
    title: "cluster configuration",
    keys: &[
        Key::optional("cluster"),
        Key::optional("group"),
        Key::optional("service"),
        Key::optional("check"),
        Key::optional("pool"),
        Key::optional("track"),
        Key::optional("hook"),
    ],
    foreign: &[
        ("groups", "[group.NAME]"),
        ("services", "[service.NAME]"),
        ("checks", "[check.NAME]"),
        ("pools", "[pool.NAME]"),
        ("tracks", "[track.NAME]"),
        ("hooks", "[hook.NAME]"),
        ("notify_fifo", "events_fifo in each node.toml"),
        ("lvs_notify_fifo", "events_fifo in each node.toml"),
        ("vrrp_script", "[track.NAME] with type = \"exec\""),
        ("vrrp_track_process", "[track.NAME] with type = \"process\""),
        ("track_file", "[track.NAME] with type = \"file\""),
        ("vrrp_instance", "[group.NAME]"),
        ("virtual_server", "[service.NAME]"),
        ("global_defs", "[cluster]"),
        ("name", "it into node.toml"),
        ("role", "it into node.toml"),
        ("link", "it into node.toml"),
        ("interfaces", "it into node.toml"),
    ],
    later: &[],
};

pub(super) const CLUSTER: TableKeys = TableKeys {
    title: "[cluster]",
    keys: &[
        Key::optional("timing"),
        Key::with_default("arbitration", "[]"),
        Key::optional("timeouts"),
        Key::optional("sync"),
        Key::with_default("sync_warmup", "\"60s\""),
        Key::with_default("foreign_services", "\"keep\""),
    ],
    foreign: &[
        ("advert_int", "timing = \"fast\", \"lan\" or \"wan\""),
        ("lvs_sync_daemon", "sync = { link = \"lan\" }"),
        ("lvs_flush", "foreign_services = \"remove\""),
        ("evacuate_on_disagreement", "it into [group.NAME]"),
        ("lvs_timeouts", "timeouts = { tcp = \"15m\", tcp_fin = \"2m\", udp = \"5m\" }"),
    ],
    later: &[],
};

pub(super) const TIMING: TableKeys = TableKeys {
    title: "timing",
    keys: &[Key::required("lease"), Key::required("renew")],
    foreign: &[("advert_int", "renew"), ("interval", "renew")],
    later: &[],
};

pub(super) const TIMEOUTS: TableKeys = TableKeys {
    title: "timeouts",
    keys: &[Key::optional("tcp"), Key::optional("tcp_fin"), Key::optional("udp")],
    foreign: &[("tcpfin", "tcp_fin")],
    later: &[],
};

pub(super) const SYNC: TableKeys = TableKeys {
    title: "sync",
    keys: &[
        Key::required("link"),
        Key::with_default("id", "1"),
        Key::with_default("group", "\"224.0.0.81\""),
        Key::with_default("port", "8848"),
        Key::with_default("ttl", "1"),
        Key::optional("maxlen"),
        Key::with_default("refresh", "\"10s\""),
        Key::with_default("retries", "2"),
    ],
    foreign: &[
        ("interface", "link, the name of a [[link]] of each node.toml"),
        ("syncid", "id"),
        ("sync-maxlen", "maxlen"),
        ("mcast-interface", "link, the name of a [[link]] of each node.toml"),
        ("mcast-group", "group"),
        ("mcast_group", "group"),
        ("mcast-port", "port"),
        ("mcast-ttl", "ttl"),
    ],
    later: &[],
};

pub(super) const GROUP: TableKeys = TableKeys {
    title: "[group.NAME]",
    keys: &[
        Key::optional("interface"),
        Key::required("addresses"),
        Key::with_default("prefer", "[]"),
        Key::optional("only"),
        Key::with_default("preempt", "true"),
        Key::with_default("preempt_delay", "\"60s\""),
        Key::optional("arbitration"),
        Key::with_default("track", "[]"),
        Key::with_default("evacuate_on_disagreement", "false"),
        Key::optional("disagreement_delay"),
        Key::with_default("routes", "[]"),
        Key::with_default("rules", "[]"),
    ],
    foreign: &[
        ("virtual_routes", "routes = [{ to = \"default\", via = \"192.0.2.1\" }]"),
        ("virtual_rules", "rules = [{ from = \"192.0.2.0/24\", table = 100, priority = 1000 }]"),
        ("virtual_ipaddress", "addresses = [..]"),
        ("virtual_ipaddress_excluded", "addresses = [..]"),
        ("vips", "addresses = [..]"),
        ("nopreempt", "preempt = false"),
        ("priority", "prefer = [..], the directors in order"),
        ("advert_int", "[cluster] timing"),
        ("state", "prefer = [..], the directors in order"),
        ("dev", "interface"),
        ("track_script", "track = [..] and a [track.NAME] with type = \"exec\""),
        ("track_process", "track = [..] and a [track.NAME] with type = \"process\""),
        ("track_file", "track = [..] and a [track.NAME] with type = \"file\""),
        ("track_interface", "track = [..] and a [track.NAME] with type = \"interface\""),
        ("notify", "[hook.NAME] with on = \"owner_changed\" and groups"),
        ("notify_master", "[hook.NAME] with on = \"group_up\" and groups"),
        ("notify_backup", "[hook.NAME] with on = \"group_down\" and groups"),
        ("notify_fault", "[hook.NAME] with on = \"group_down\" and groups"),
        ("notify_stop", "[hook.NAME] with on = \"group_down\" and groups"),
        ("hooks", "[hook.NAME] with groups"),
        ("smtp_alert", "[hook.NAME] whose command sends mail"),
    ],
    later: &[],
};

pub(super) const ADDRESS: TableKeys = TableKeys {
    title: "address of a group",
    keys: &[Key::required("address"), Key::optional("interface")],
    foreign: &[("addr", "address"), ("ip", "address"), ("dev", "interface")],
    later: &["label", "scope"],
};

pub(super) const SERVICE: TableKeys = TableKeys {
    title: "[service.NAME]",
    keys: &[
        Key::required("group"),
        Key::required("listen"),
        Key::optional("mark"),
        Key::with_default("scheduler", "\"wlc\""),
        Key::with_default("flags", "[]"),
        Key::with_default("one_packet", "false"),
        Key::with_default("forward", "\"DR\""),
        Key::with_default("tunnel", "\"ipip\""),
        Key::optional("persistence"),
        Key::optional("check"),
        Key::with_default("quorum", "1"),
        Key::with_default("hysteresis", "0"),
        Key::with_default("min_up", "0"),
        Key::with_default("slow_start", "\"0s\""),
        Key::with_default("inhibit", "false"),
        Key::with_default("drain", "\"0s\""),
        Key::optional("real_servers"),
        Key::optional("pool"),
        Key::optional("sorry_server"),
    ],
    foreign: &[
        ("fwmark", "mark"),
        ("ops", "one_packet = true"),
        ("sh-port", "flags = [\"sh-port\"]"),
        ("sh-fallback", "flags = [\"sh-fallback\"]"),
        ("mh-port", "flags = [\"mh-port\"]"),
        ("mh-fallback", "flags = [\"mh-fallback\"]"),
        ("persistence_engine", "persistence = { timeout = \"50s\", engine = \"sip\" }"),
        (
            "sorry_server_lvs_method",
            "sorry_server = { address = \"192.0.2.9:80\", forward = \"NAT\" }",
        ),
        ("lb_algo", "scheduler"),
        ("lvs_sched", "scheduler"),
        ("lb_kind", "forward"),
        ("lvs_method", "forward"),
        ("delay_loop", "interval in check = {..}"),
        ("interval", "it into check = {..}"),
        ("timeout", "it into check = {..}"),
        ("retry", "it into check = {..}"),
        ("retry_delay", "it into check = {..}"),
        ("connect_timeout", "timeout in check = {..}"),
        ("delay_before_retry", "retry_delay in check = {..}"),
        ("persistence_timeout", "persistence"),
        (
            "persistence_granularity",
            "persistence = { timeout = \"50s\", netmask = \"255.255.255.0\" }",
        ),
        ("inhibit_on_failure", "inhibit = true"),
        ("alpha", "start = \"down\" in its check"),
        ("slowstart", "slow_start"),
        ("protocol", "it before the address: listen = \"tcp/192.0.2.1:80\""),
        ("address", "listen = \"tcp/192.0.2.1:80\""),
        ("port", "listen = \"tcp/192.0.2.1:80\""),
        ("real_server", "real_servers = [..]"),
        ("servers", "real_servers = [..]"),
        ("TCP_CHECK", "check = { type = \"tcp\" }"),
        ("evacuate_on_disagreement", "it into [group.NAME]"),
        ("quorum_up", "[hook.NAME] with on = \"quorum_up\" and services"),
        ("quorum_down", "[hook.NAME] with on = \"quorum_down\" and services"),
        ("smtp_alert", "[hook.NAME] whose command sends mail"),
    ],
    later: &[],
};

pub(super) const SCHEDULER: TableKeys =
    TableKeys { title: "scheduler", keys: &[Key::required("name")], foreign: &[], later: &[] };

pub(super) const PERSISTENCE: TableKeys = TableKeys {
    title: "persistence",
    keys: &[
        Key::required("timeout"),
        Key::optional("netmask"),
        Key::optional("prefix"),
        Key::optional("engine"),
    ],
    foreign: &[
        ("persistence_timeout", "timeout"),
        ("persistence_granularity", "netmask"),
        ("granularity", "netmask"),
        ("persistence_engine", "engine"),
    ],
    later: &[],
};

pub(super) const REAL_SERVER: TableKeys = TableKeys {
    title: "real server",
    keys: &[
        Key::required("address"),
        Key::with_default("weight", "1"),
        Key::optional("forward"),
        Key::optional("tunnel"),
        Key::optional("check"),
        Key::with_default("upper_threshold", "0"),
        Key::with_default("lower_threshold", "0"),
    ],
    foreign: &[
        ("uthreshold", "upper_threshold"),
        ("lthreshold", "lower_threshold"),
        ("u_threshold", "upper_threshold"),
        ("l_threshold", "lower_threshold"),
        ("addr", "address"),
        ("ip", "address"),
        ("port", "it behind the address: \"192.0.2.16:80\""),
        ("lb_kind", "forward"),
        ("lvs_method", "forward"),
        ("inhibit_on_failure", "inhibit = true in [service.NAME]"),
        ("drain", "drain = \"5m\" in [service.NAME]: what leaves has no keys left"),
        ("TCP_CHECK", "check = { type = \"tcp\" }"),
        ("notify_up", "[hook.NAME] with on = \"real_server_up\" and services"),
        ("notify_down", "[hook.NAME] with on = \"real_server_down\" and services"),
        ("smtp_alert", "[hook.NAME] whose command sends mail"),
    ],
    later: &["inhibit"],
};

pub(super) const TUNNEL: TableKeys = TableKeys {
    title: "tunnel",
    keys: &[
        Key::required("type"),
        Key::optional("port"),
        Key::with_default("checksum", "\"none\""),
    ],
    foreign: &[("tun-type", "type"), ("tun-port", "port"), ("csum", "checksum = \"full\"")],
    later: &[],
};

pub(super) const POOL: TableKeys = TableKeys {
    title: "[pool.NAME]",
    keys: &[Key::required("servers")],
    foreign: &[("real_servers", "servers"), ("real_server", "servers")],
    later: &[],
};

const CHECK_FOREIGN: &[(&str, &str)] = &[
    ("delay_loop", "interval"),
    ("connect_ip", "address"),
    ("connect_port", "port"),
    ("bindto", "source"),
    ("bind_port", "source_port"),
    ("bind_if", "interface, a name that each node.toml maps to a device,"),
    ("fwmark", "mark"),
    ("connect_timeout", "timeout"),
    ("nb_get_retry", "retry"),
    ("delay_before_retry", "retry_delay"),
    ("alpha", "start = \"down\""),
    ("url", "urls = [{ path = \"/\" }], or path"),
    ("http_protocol", "version"),
    ("status_code", "status"),
    ("virtualhost", "host"),
    ("digest", "md5, or sha256"),
    ("regex", "body"),
    ("regex_no_match", "body_absent"),
    ("enable_sni", "sni = \"www.example.com\", or leave it out: the name in host is told"),
    ("sni_name", "sni"),
    ("require_reply", "reply = true, or the bytes that it begins with"),
    ("min_reply_length", "reply_min"),
    ("max_reply_length", "reply_max"),
    ("helo_name", "helo"),
    ("misc_path", "command = [\"/path\", \"argument\"]"),
    ("misc_timeout", "timeout"),
    ("misc_dynamic", "dynamic"),
    ("script", "command = [\"/path\", \"argument\"]"),
    ("args", "them into command"),
    ("track_file", "path"),
    ("file", "path"),
    ("weight", "the weight itself into the file, with dynamic = true,"),
];

const CHECK_LATER: &[&str] = &["via"];

pub(super) const CHECK: TableKeys = TableKeys {
    title: "[check.NAME]",
    keys: &[
        Key::required("type"),
        Key::with_default("via", "\"direct\""),
        Key::optional("address"),
        Key::optional("port"),
        Key::optional("source"),
        Key::optional("source_port"),
        Key::optional("interface"),
        Key::optional("mark"),
        Key::with_default("interval", "\"6s\""),
        Key::optional("warmup"),
        Key::with_default("timeout", "\"3s\""),
        Key::with_default("retry", "3"),
        Key::with_default("retry_delay", "\"3s\""),
        Key::with_default("rise", "1"),
        Key::with_default("fall", "1"),
        Key::with_default("start", "\"up\""),
        Key::optional("damp"),
        Key::with_default("version", "\"1.1\""),
        Key::optional("urls"),
        Key::with_default("method", "\"GET\""),
        Key::with_default("path", "\"/\""),
        Key::optional("host"),
        Key::with_default("status", "\"200-299\""),
        Key::optional("sha256"),
        Key::optional("md5"),
        Key::optional("body"),
        Key::optional("body_absent"),
        Key::with_default("service", "\"\""),
        Key::with_default("tls", "false"),
        Key::optional("sni"),
        Key::with_default("verify", "false"),
        Key::optional("ca"),
        Key::optional("certificate"),
        Key::optional("key"),
        Key::optional("payload"),
        Key::with_default("reply", "false"),
        Key::with_default("reply_min", "0"),
        Key::with_default("reply_max", "255"),
        Key::with_default("name", "\".\""),
        Key::with_default("record", "\"SOA\""),
        Key::with_default("rcode", "\"NOERROR\""),
        Key::with_default("helo", "\"localhost\""),
        Key::optional("command"),
        Key::optional("user"),
        Key::with_default("dynamic", "false"),
    ],
    foreign: CHECK_FOREIGN,
    later: CHECK_LATER,
};

/// One of the urls of a check; what stands in the check itself where there is only one.
pub(super) const URL: TableKeys = TableKeys {
    title: "urls",
    keys: &[
        Key::with_default("method", "\"GET\""),
        Key::with_default("path", "\"/\""),
        Key::optional("host"),
        Key::with_default("status", "\"200-299\""),
        Key::optional("sha256"),
        Key::optional("md5"),
        Key::optional("body"),
        Key::optional("body_absent"),
    ],
    foreign: CHECK_FOREIGN,
    later: &[],
};

pub(super) const DAMP: TableKeys = TableKeys {
    title: "damp",
    keys: &[
        Key::with_default("flaps", "5"),
        Key::with_default("within", "\"1m\""),
        Key::with_default("hold", "\"2m\""),
    ],
    foreign: &[],
    later: &[],
};

pub(super) const TRACK: TableKeys = TableKeys {
    title: "[track.NAME]",
    keys: &[
        Key::required("type"),
        Key::optional("command"),
        Key::optional("user"),
        Key::optional("name"),
        Key::optional("path"),
        Key::with_default("exists", "true"),
        Key::optional("content"),
        Key::optional("interface"),
        Key::with_default("interval", "\"1s\""),
        Key::with_default("timeout", "\"1s\""),
        Key::with_default("rise", "2"),
        Key::with_default("fall", "2"),
    ],
    foreign: &[
        ("script", "command = [\"/path\", \"argument\"]"),
        ("args", "them into command"),
        ("process", "name"),
        ("file", "path"),
        ("device", "interface, a name that each node.toml maps to a device"),
        ("dev", "interface, a name that each node.toml maps to a device"),
        ("delay_loop", "interval"),
    ],
    later: &["delay", "full_command", "group", "init_fail", "quorum", "reverse", "weight"],
};

pub(super) const HOOK: TableKeys = TableKeys {
    title: "[hook.NAME]",
    keys: &[
        Key::required("on"),
        Key::required("command"),
        Key::optional("user"),
        Key::with_default("timeout", "\"10s\""),
        Key::optional("groups"),
        Key::optional("services"),
        Key::with_default("run_on", "\"owner\""),
    ],
    foreign: &[
        ("event", "on"),
        ("events", "on"),
        ("script", "command = [\"/path\", \"argument\"]"),
        ("args", "them into command"),
        ("group", "groups"),
        ("service", "services"),
        ("script_user", "user"),
    ],
    later: &[],
};
