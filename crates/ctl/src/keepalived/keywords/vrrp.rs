//! What VRRP has.

use super::{Keyword, c, d, r, s};

const GARP: &str =
    "Quorate announces an address by itself when it moves, and again and again at first";
const ADVERTS: &str = "there are no adverts: the directors agree over mutual TLS";
const MAIL: &str =
    "Quorate sends no mail: a hook does (docs/operate/events.md, \"Paging somebody\")";
const VMAC: &str = "there are no virtual MACs";
const BFD_OF: &str = "Quorate has no BFD: renewals find a dead director within the lease; a broken way is found by \
    `arbitration`";

pub(super) const TOP: &[Keyword] = &[
    c("vrrp_instance", "`[group.NAME]`"),
    c("vrrp_sync_group", "one `[group.NAME]` of all its instances"),
    c("vrrp_script", "`[track.NAME]` of type exec, or process where it only looks for one"),
    c("vrrp_track_process", "`[track.NAME]` of type process"),
    s("track_process", "vrrp_track_process"),
    c("track_file", "`[track.NAME]` of type file"),
    s("vrrp_track_file", "track_file"),
    c("bfd_instance", "nothing, with all that is in it"),
    c("garp_group", "nothing, with all that is in it"),
];

pub(super) const INSTANCE: &[Keyword] = &[
    c("interface", "`interface`; node.toml maps it to the device"),
    c("virtual_ipaddress", "`addresses`"),
    c("virtual_ipaddress_excluded", "`addresses`"),
    c("priority", "`prefer`, where the files of several directors are given"),
    c("state", "which of two with the same priority is preferred"),
    c("nopreempt", "`preempt = false`"),
    c("preempt", "`preempt = true`"),
    c("preempt_delay", "`preempt_delay`"),
    c("virtual_routes", "`routes`"),
    c("virtual_rules", "`rules`"),
    c(
        "use_vmac",
        "nothing where it stands alone; an error where it names a device or a MAC, or clients of a \
        virtual_server rely on it",
    ),
    r(
        "use_vmac_addr",
        "take it out, and let the addresses be on the interface itself: a new owner is announced by \
        gratuitous ARP and unsolicited neighbour advertisements",
    ),
    r("use_ipvlan", "take it out, and let the addresses be on the interface itself"),
    c("lvs_sync_daemon_interface", "`[cluster] sync`"),
    s("lvs_sync_daemon_inteface", "lvs_sync_daemon_interface"),
    c("authentication", "nothing: the directors know each other by keys of their own (mutual TLS)"),
    d("auth_hmac", "the directors know each other by keys of their own (mutual TLS)"),
    d("dont_track_primary", "a director whose interface is down can't announce an address on it"),
    d("track_src_ip", "a director is fit by what its tracks and arbitration say"),
    d(
        "promote_secondaries",
        "the kernel removes other addresses of the network with the first one, unless \
        net.ipv4.conf.DEVICE.promote_secondaries is 1: set it on every director, or give addresses /32",
    ),
    d("no_virtual_ipaddress", "a group without an address has nothing to own"),
    d("native_ipv6", "the addresses say it"),
    d("vrf", "put the device into the VRF by the machine's network set-up"),
];

pub(super) const PROTOCOL: &[Keyword] = &[
    d("virtual_router_id", "ownership is granted by a majority of the nodes, not by VRRP"),
    d("advert_int", "how fast an owner is replaced is `[cluster] timing`"),
    d("down_timer_adverts", "how fast an owner is replaced is `[cluster] timing`"),
    d("version", ADVERTS),
    d("mcast_src_ip", ADVERTS),
    d("mcast_dst_ip", ADVERTS),
    d("unicast_src_ip", "where a node listens is a [[link]] of its node.toml"),
    d("unicast_peer", "the members of the cluster know each other: `quorate join`"),
    d("unicast_ttl", ADVERTS),
    d("unicast_fault_no_peer", ADVERTS),
    d("check_unicast_src", ADVERTS),
    d("old_unicast_checksum", ADVERTS),
    d("v3_checksum_as_v2", ADVERTS),
    d("accept", "a VIP takes packets always"),
    d("no_accept", "a VIP takes packets always: filter what should not come in"),
    d("skip_check_adv_addr", ADVERTS),
    d("strict_mode", ADVERTS),
    d("vmac_xmit_base", VMAC),
    d("garp_master_delay", GARP),
    d("garp_master_repeat", GARP),
    d("garp_master_refresh", GARP),
    d("garp_master_refresh_repeat", GARP),
    d("garp_lower_prio_delay", GARP),
    d("garp_lower_prio_repeat", GARP),
    d("garp_extra_if", GARP),
    s("vmac_garp_intvl", "garp_extra_if"),
    d("timer_expired_backup", ADVERTS),
    s("thread_timer_expired", "timer_expired_backup"),
    d("lower_prio_no_advert", ADVERTS),
    d("higher_prio_send_advert", ADVERTS),
    d("owner_ignore_adverts", ADVERTS),
    d("kernel_rx_buf_size", ADVERTS),
    d("linkbeat_use_polling", "links are watched by what the kernel tells"),
    d("notify_priority_changes", "there are no priorities that change"),
    d("debug", "Keepalived never did anything by it"),
    d("smtp_alert", MAIL),
];

pub(super) const TRACKED: &[Keyword] = &[
    c("track_interface", "`track`, and a `[track.NAME]` of type interface"),
    c("track_script", "`track`"),
    c("track_process", "`track`"),
    c("track_file", "`track`"),
    d("track_bfd", BFD_OF),
];

pub(super) const NOTIFY: &[Keyword] = &[
    c("notify_master", "a hook on `group_up`"),
    c("notify_backup", "a hook on `group_down`"),
    c("notify_fault", "a hook on `group_down`, where there is no notify_backup"),
    c("notify_stop", "a hook on `group_down`, where there is neither of these two"),
    c("notify", "a hook on `group_up` and `group_down`, with the arguments that Keepalived adds"),
    d("notify_deleted", "a group that is taken out goes down: a hook on `group_down` runs"),
    d("notify_master_rx_lower_pri", "there are no adverts, and never two owners"),
];

pub(super) const SYNC_GROUP: &[Keyword] = &[
    c("group", "the instances whose addresses it has"),
    d("global_tracking", "tracks of one instance hold for the whole group"),
    d(
        "sync_group_tracking_weight",
        "a failed track makes the director ineligible, whatever its weight",
    ),
    d("notify_priority_changes", "there are no priorities that change"),
    d("smtp_alert", MAIL),
];

pub(super) const AUTHENTICATION: &[Keyword] = &[
    d("auth_type", "the directors know each other by keys of their own (mutual TLS)"),
    d("auth_pass", "the directors know each other by keys of their own (mutual TLS)"),
];

pub(super) const SCRIPT: &[Keyword] = &[
    c("script", "`command`"),
    c("interval", "`interval`"),
    c("timeout", "`timeout`"),
    c("rise", "`rise`"),
    c("fall", "`fall`"),
    c("user", "`user`"),
    c("weight", "nothing: a failed track makes the director ineligible, by whatever weight"),
    d("init_fail", "a track counts once it was looked at"),
];

pub(super) const PROCESS: &[Keyword] = &[
    c("process", "`name`, without the process's arguments"),
    c("weight", "nothing: a failed track makes the director ineligible, by whatever weight"),
    d("param_match", "a process is known by its name alone"),
    c("quorum", "1; of more, one has to run"),
    d("quorum_max", "how many processes run at most is not looked at"),
    d("fork_delay", "`interval`, `rise` and `fall` stand for it"),
    d("terminate_delay", "`interval`, `rise` and `fall` stand for it"),
    d("delay", "`interval`, `rise` and `fall` stand for it"),
    d("full_command", "a process is known by its name alone"),
];

pub(super) const FILE: &[Keyword] = &[
    c("file", "`path`; the file has to say 0, as for Keepalived"),
    c("weight", "nothing: a failed track makes the director ineligible, by whatever weight"),
    d("init_file", "Quorate writes no file: make it with 0 in it, on every director"),
];

pub(super) const BFD: &[Keyword] = &[
    d("neighbor_ip", BFD_OF),
    s("neighbour_ip", "neighbor_ip"),
    d("source_ip", BFD_OF),
    d("min_rx", BFD_OF),
    d("min_tx", BFD_OF),
    d("idle_tx", BFD_OF),
    d("multiplier", BFD_OF),
    d("passive", BFD_OF),
    d("ttl", BFD_OF),
    d("hoplimit", BFD_OF),
    d("max_hops", BFD_OF),
    d("weight", BFD_OF),
    d("vrrp", BFD_OF),
    d("checker", BFD_OF),
];

pub(super) const GARP_GROUP: &[Keyword] = &[
    d("garp_interval", GARP),
    d("gna_interval", GARP),
    d("interface", GARP),
    d("interfaces", GARP),
];

pub(super) const ADDRESS: &[Keyword] = &[
    c("dev", "`interface` of the address"),
    d("label", "an address has no label"),
    d("scope", "an address has the scope that the kernel gives it"),
    d("brd", "an address has the broadcast address that the kernel gives it"),
    s("broadcast", "brd"),
    d("peer", "an address has no peer"),
    d("home", "it is of mobile IPv6"),
    d("-nodad", "what duplicate address detection is for, Quorate asks before the first claim"),
    d("nodad", "what duplicate address detection is for, Quorate asks before the first claim"),
    d("mngtmpaddr", "a VIP makes no temporary addresses"),
    d("noprefixroute", "give the address /32 or /128, so that there is no route to its network"),
    d("autojoin", "a VIP joins no multicast groups"),
    d("no_track", "an address that is taken away comes back at once"),
    d("track_group", "static addresses stay with the machine's own network set-up"),
    d("preferred_lft", "an address lives as long as its owner's lease"),
    d("use_vmac", "there are no virtual MACs"),
];
