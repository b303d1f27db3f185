//! Every keyword of keepalived.conf(5), and what becomes of it. `docs/reference/keepalived.md` has the same
//! tables; a test compares the two.

mod checkers;
mod global;
mod lvs;
mod routing;
mod vrrp;

use quorate_model::spec::document::nearest;

use super::report::{Report, clean};
use super::tree::Node;

/// What becomes of a keyword.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is converted, into what is said.
    Becomes,
    /// It is left out, for the reason that is said.
    Dropped,
    /// It is an error, with what to do.
    Refused,
    /// Another spelling of the keyword that is said.
    Same,
}

/// A keyword.
#[derive(Debug, Clone, Copy)]
pub struct Keyword {
    /// The keyword.
    pub name: &'static str,
    /// What becomes of it.
    pub fate: Fate,
    /// Into what, or why.
    pub says: &'static str,
}

/// Where keywords stand.
#[derive(Debug, Clone, Copy)]
pub struct Context {
    /// The block.
    pub title: &'static str,
    /// What may stand in it, in tables that several blocks share.
    pub keywords: &'static [&'static [Keyword]],
}

const fn c(name: &'static str, says: &'static str) -> Keyword {
    Keyword { name, fate: Fate::Becomes, says }
}

const fn d(name: &'static str, says: &'static str) -> Keyword {
    Keyword { name, fate: Fate::Dropped, says }
}

const fn r(name: &'static str, says: &'static str) -> Keyword {
    Keyword { name, fate: Fate::Refused, says }
}

const fn s(name: &'static str, says: &'static str) -> Keyword {
    Keyword { name, fate: Fate::Same, says }
}

/// The top of a file.
pub const TOP: Context = Context { title: "top", keywords: &[global::TOP, vrrp::TOP, lvs::TOP] };
/// `global_defs`.
pub const GLOBAL_DEFS: Context = Context {
    title: "global_defs",
    keywords: &[global::GLOBAL_DEFS, global::PROCESS, global::VRRP, global::SNMP],
};
/// `vrrp_instance`.
pub const VRRP_INSTANCE: Context = Context {
    title: "vrrp_instance",
    keywords: &[vrrp::INSTANCE, vrrp::PROTOCOL, vrrp::TRACKED, vrrp::NOTIFY],
};
/// `vrrp_sync_group`.
pub const VRRP_SYNC_GROUP: Context = Context {
    title: "vrrp_sync_group",
    keywords: &[vrrp::SYNC_GROUP, vrrp::TRACKED, vrrp::NOTIFY],
};
/// `authentication`.
pub const AUTHENTICATION: Context =
    Context { title: "authentication", keywords: &[vrrp::AUTHENTICATION] };
/// `vrrp_script`.
pub const VRRP_SCRIPT: Context = Context { title: "vrrp_script", keywords: &[vrrp::SCRIPT] };
/// `vrrp_track_process`.
pub const VRRP_TRACK_PROCESS: Context =
    Context { title: "vrrp_track_process", keywords: &[vrrp::PROCESS] };
/// `track_file`.
pub const TRACK_FILE: Context = Context { title: "track_file", keywords: &[vrrp::FILE] };
/// `bfd_instance`, which is left out as a whole.
pub const BFD_INSTANCE: Context = Context { title: "bfd_instance", keywords: &[vrrp::BFD] };
/// `garp_group`, which is left out as a whole.
pub const GARP_GROUP: Context = Context { title: "garp_group", keywords: &[vrrp::GARP_GROUP] };
/// `virtual_server`.
pub const VIRTUAL_SERVER: Context =
    Context { title: "virtual_server", keywords: &[lvs::SERVICE, lvs::BOTH] };
/// `real_server`.
pub const REAL_SERVER: Context =
    Context { title: "real_server", keywords: &[lvs::REAL_SERVER, lvs::BOTH, checkers::CHECKERS] };
/// `SSL`.
pub const SSL: Context = Context { title: "SSL", keywords: &[lvs::SSL] };
/// `TCP_CHECK`.
pub const TCP_CHECK: Context =
    Context { title: "TCP_CHECK", keywords: &[checkers::COMMON, checkers::CONNECT] };
/// `PING_CHECK`.
pub const PING_CHECK: Context =
    Context { title: "PING_CHECK", keywords: &[checkers::COMMON, checkers::CONNECT] };
/// `HTTP_GET` and `SSL_GET`.
pub const HTTP_GET: Context = Context {
    title: "HTTP_GET, SSL_GET",
    keywords: &[checkers::HTTP, checkers::COMMON, checkers::CONNECT],
};
/// `url`.
pub const URL: Context = Context { title: "url", keywords: &[checkers::URL] };
/// `SMTP_CHECK`.
pub const SMTP_CHECK: Context = Context {
    title: "SMTP_CHECK",
    keywords: &[checkers::SMTP, checkers::COMMON, checkers::CONNECT],
};
/// `host` of `SMTP_CHECK`.
pub const HOST: Context = Context { title: "host", keywords: &[checkers::CONNECT] };
/// `DNS_CHECK`.
pub const DNS_CHECK: Context =
    Context { title: "DNS_CHECK", keywords: &[checkers::DNS, checkers::COMMON, checkers::CONNECT] };
/// `UDP_CHECK`.
pub const UDP_CHECK: Context =
    Context { title: "UDP_CHECK", keywords: &[checkers::UDP, checkers::COMMON, checkers::CONNECT] };
/// `MISC_CHECK`.
pub const MISC_CHECK: Context =
    Context { title: "MISC_CHECK", keywords: &[checkers::MISC, checkers::COMMON] };
/// `FILE_CHECK`.
pub const FILE_CHECK: Context =
    Context { title: "FILE_CHECK", keywords: &[checkers::FILE, checkers::COMMON] };
/// `BFD_CHECK`, which is left out as a whole.
pub const BFD_CHECK: Context = Context { title: "BFD_CHECK", keywords: &[checkers::BFD] };

/// All of them, in the order of the page.
pub const CONTEXTS: [&Context; 27] = [
    &TOP,
    &GLOBAL_DEFS,
    &VRRP_INSTANCE,
    &VRRP_SYNC_GROUP,
    &AUTHENTICATION,
    &VRRP_SCRIPT,
    &VRRP_TRACK_PROCESS,
    &TRACK_FILE,
    &BFD_INSTANCE,
    &GARP_GROUP,
    &VIRTUAL_SERVER,
    &REAL_SERVER,
    &SSL,
    &TCP_CHECK,
    &PING_CHECK,
    &HTTP_GET,
    &URL,
    &SMTP_CHECK,
    &HOST,
    &DNS_CHECK,
    &UDP_CHECK,
    &MISC_CHECK,
    &FILE_CHECK,
    &BFD_CHECK,
    &ADDRESS,
    &VIRTUAL_ROUTES,
    &VIRTUAL_RULES,
];
/// What may stand behind an address of `virtual_ipaddress`.
pub const ADDRESS: Context = Context { title: "virtual_ipaddress", keywords: &[vrrp::ADDRESS] };
/// What a line of `virtual_routes` has.
pub const VIRTUAL_ROUTES: Context =
    Context { title: "virtual_routes", keywords: &[routing::ROUTE] };
/// What a line of `virtual_rules` has.
pub const VIRTUAL_RULES: Context = Context { title: "virtual_rules", keywords: &[routing::RULE] };

/// Keywords with one value: what else stands in their line says nothing.
const ONE: [&str; 38] = [
    "state",
    "priority",
    "nopreempt",
    "preempt",
    "preempt_delay",
    "interval",
    "timeout",
    "rise",
    "fall",
    "router_id",
    "protocol",
    "lb_algo",
    "delay_loop",
    "connect_timeout",
    "retry",
    "delay_before_retry",
    "warmup",
    "alpha",
    "virtualhost",
    "persistence_timeout",
    "persistence_granularity",
    "persistence_engine",
    "quorum",
    "hysteresis",
    "uthreshold",
    "lthreshold",
    "inhibit_on_failure",
    "connect_ip",
    "connect_port",
    "bindto",
    "bind_port",
    "bind_if",
    "path",
    "digest",
    "helo_name",
    "misc_timeout",
    "name",
    "ops",
];

impl Context {
    /// The keyword of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&'static Keyword> {
        self.all().find(|keyword| keyword.name == name)
    }

    /// Everything that may stand there.
    pub fn all(&self) -> impl Iterator<Item = &'static Keyword> {
        self.keywords.iter().flat_map(|table| table.iter())
    }

    /// Tells what is left out, refused or unknown; what is to be converted, by its present name.
    pub(super) fn account<'n>(
        &self,
        nodes: &'n [Node],
        report: &mut Report,
    ) -> Vec<(&'static str, &'n Node)> {
        let mut wanted = Vec::new();
        for node in nodes {
            let word = node.keyword();
            let mut keyword = self.find(word);
            if let Some(Keyword { fate: Fate::Same, says, .. }) = keyword {
                keyword = self.find(says);
            }
            match keyword {
                Some(Keyword { name, fate: Fate::Becomes, .. }) => {
                    if node.words.len() > 2 && ONE.contains(name) {
                        let more = clean(node.arg(2));
                        let what = format!(
                            "{more:?} and what follows in its line is ignored, as Keepalived does"
                        );
                        report.warn(node.place, word, what);
                    }
                    wanted.push((*name, node));
                }
                Some(Keyword { fate: Fate::Refused, says, .. }) => {
                    report.error(node.place, word, "it can't be carried over", says);
                }
                Some(Keyword { says, .. }) => report.warn(node.place, word, *says),
                None => self.unknown(node, report),
            }
        }
        wanted
    }

    fn unknown(&self, node: &Node, report: &mut Report) {
        let word = clean(node.keyword());
        let what = if node.block.is_some() { ", with its block" } else { "" };
        let elsewhere = CONTEXTS.iter().find(|other| other.find(&word).is_some());
        // Of a file that is no configuration, a thousand suggestions are enough.
        let near = (report.entries().len() < 1_000)
            .then(|| nearest(&word, self.all().map(|keyword| keyword.name)))
            .flatten();
        let hint = match (near, elsewhere) {
            (_, Some(other)) => format!(" (it belongs into {})", other.title),
            (Some(near), _) => format!(" (did you mean {near}?)"),
            (None, None) => String::new(),
        };
        let message = format!(
            "Keepalived knows no such keyword in {}, and ignores it{what}; so does the import{hint}",
            self.title
        );
        report.warn(node.place, &word, message);
    }
}
