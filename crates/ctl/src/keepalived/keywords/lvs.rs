//! What `virtual_server` and `real_server` have.

use super::{Keyword, c, d, s};

const MAIL: &str =
    "Quorate sends no mail: a hook does (docs/operate/events.md, \"Paging somebody\")";

pub(super) const TOP: &[Keyword] = &[
    c("virtual_server", "`[service.NAME]`"),
    c("virtual_server_group", "the `listen` of the services that name it"),
    c("SSL", "`ca`, `certificate` and `key` of checks of type https"),
];

pub(super) const SERVICE: &[Keyword] = &[
    c("real_server", "a real server of `real_servers`"),
    c("protocol", "the protocol of `listen`"),
    c("lb_algo", "`scheduler`"),
    s("lvs_sched", "lb_algo"),
    c("lb_kind", "`forward` and `tunnel`"),
    s("lvs_method", "lb_kind"),
    c("flag-1", "`flags`"),
    c("flag-2", "`flags`"),
    c("flag-3", "`flags`"),
    c("sh-fallback", "`flags`"),
    c("sh-port", "`flags`"),
    c("mh-fallback", "`flags`"),
    c("mh-port", "`flags`"),
    d("hashed", "it is the kernel's own flag"),
    c("ops", "`one_packet = true`"),
    c("persistence_timeout", "`persistence`"),
    c("persistence_granularity", "`prefix` of `persistence`"),
    c("persistence_engine", "`engine` of `persistence`"),
    c("quorum", "`quorum`"),
    c("hysteresis", "`hysteresis`"),
    c("quorum_up", "a hook on `quorum_up`, on every director"),
    c("quorum_down", "a hook on `quorum_down`, on every director"),
    c("sorry_server", "`sorry_server`"),
    c("sorry_server_lvs_method", "`forward` and `tunnel` of `sorry_server`"),
    d("sorry_server_inhibit", "the sorry server is in the table only while it answers"),
    c("weight", "`weight` of real servers that say none"),
    c("ip_family", "the address family of the addresses of a mark"),
    d("omega", "nothing goes down with a daemon that stops"),
    d("ha_suspend", "a standby probes too, so that a takeover waits for no probe"),
    d("nat_mask", "Keepalived itself does nothing by it"),
];

pub(super) const BOTH: &[Keyword] = &[
    c("delay_loop", "`interval` of the checks"),
    c("connect_timeout", "`timeout` of the checks"),
    c("retry", "`retry` of the checks"),
    c("delay_before_retry", "`retry_delay` of the checks"),
    c("warmup", "`warmup` of the checks"),
    c("alpha", "`start = \"down\"` of the checks"),
    c("inhibit_on_failure", "`inhibit = true` of the service"),
    c("virtualhost", "`host` of checks of type http and https"),
    d("smtp_alert", MAIL),
    d("snmp_name", "Quorate has no SNMP; services have names"),
];

pub(super) const REAL_SERVER: &[Keyword] = &[
    c("weight", "`weight`"),
    c("lvs_method", "`forward` and `tunnel`"),
    s("lb_kind", "lvs_method"),
    c("uthreshold", "`upper_threshold`"),
    c("lthreshold", "`lower_threshold`"),
    c("notify_up", "a hook on `real_server_up`, on every director"),
    c("notify_down", "a hook on `real_server_down`, on every director"),
];

pub(super) const SSL: &[Keyword] = &[
    c("ca", "`verify = true` and `ca`"),
    c("certificate", "`certificate`"),
    c("key", "`key`"),
    d("password", "a key's file has none here: openssl pkey takes it off"),
];
