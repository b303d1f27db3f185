//! A configuration as one director's keepalived.conf(5): the way back. What Keepalived has no word for stands as a
//! comment in its place and is a warning; nothing is left out silently. Pure. `vrrp` writes groups, `services` and
//! `checks` virtual servers, `hooks` what is run. Tests: in each, and tests/keepalived_export.rs, which has Keepalived
//! itself read what comes out.

mod checks;
mod hooks;
mod http;
mod page;
mod routing;
mod services;
mod tracks;
mod vrrp;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quorate_model::id::NodeName;
use quorate_model::spec::{ClusterSpec, ForeignServices, Sync};

use page::Page;
use words::{seconds, word};

/// What the configuration does not say.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The director; `None`: the only one that there can be.
    pub node: Option<NodeName>,
    /// The numbers of virtual routers, by group.
    pub router_ids: BTreeMap<String, u8>,
    /// The devices of interfaces and links, as the director's node.toml has them.
    pub devices: BTreeMap<String, String>,
    /// Who runs programs that name no user.
    pub script_user: Option<String>,
}

/// A keepalived.conf, and what is to be said of it.
#[derive(Debug)]
pub struct Exported {
    /// The file.
    pub text: String,
    /// What Keepalived has no word for, or does otherwise.
    pub warnings: Vec<String>,
}

/// What everything that writes goes by.
struct Exporting<'a> {
    spec: &'a ClusterSpec,
    options: &'a Options,
    node: Option<NodeName>,
    /// The names of files that checks look at, by path.
    files: BTreeMap<String, String>,
    ssl: Option<http::Files>,
}

/// The configuration as the keepalived.conf of one director.
///
/// # Errors
/// With the reason: which director is not clear, or its groups have no numbers.
pub fn export(spec: &ClusterSpec, options: &Options) -> Result<Exported, String> {
    let named = directors(spec);
    let node = match (&options.node, named.len()) {
        (Some(node), _) => Some(node.clone()),
        (None, 0 | 1) => named.iter().next().cloned(),
        (None, _) => {
            let names: Vec<&str> = named.iter().map(NodeName::as_str).collect();
            return Err(format!(
                "each director has a keepalived.conf of its own: name one by --node, such as {}",
                names.join(", ")
            ));
        }
    };
    let mut page = Page::default();
    if let Some(node) = node.as_ref().filter(|node| !named.is_empty() && !named.contains(*node)) {
        page.warn(format!(
            "no group's `prefer` or `only` names {node}: its priorities are the lowest; is it a director of the cluster?"
        ));
    }
    tracks::define(spec, &mut page);
    let files = checks::define_files(spec, &mut page);
    let ssl = http::define_files(spec, &mut page);
    let with = Exporting { spec, options, node, files, ssl };
    vrrp::write(spec, &with, &mut page)?;
    services::write(&with, &mut page);
    hooks::left_out(spec, &mut page);
    let mut front = Page::default();
    global(&with, &mut page, &mut front);
    let mut head = Page::default();
    header(&with, &page, &mut head);
    let mut warnings = Vec::new();
    for text in front.warnings.iter().chain(&page.warnings) {
        warnings.push(text.clone());
    }
    let text = [head.text(), front.text(), page.text()].concat();
    Ok(Exported { text, warnings })
}

/// The directors that groups name.
fn directors(spec: &ClusterSpec) -> BTreeSet<NodeName> {
    let groups = spec.groups.values();
    groups
        .flat_map(|group| group.prefer.iter().chain(group.only.iter().flatten()))
        .cloned()
        .collect()
}

fn header(with: &Exporting<'_>, body: &Page, head: &mut Page) {
    let version = env!("CARGO_PKG_VERSION");
    let whose =
        with.node.as_ref().map_or("every director".to_owned(), |node| format!("director {node}"));
    head.comment(&format!(
        "keepalived.conf of {whose}, made by `quorate export keepalived`, version {version}."
    ));
    head.comment(
        "Lines that begin with `not in Keepalived` say what it has no word for, or does otherwise.",
    );
    head.comment("Before Keepalived starts, Quorate must have stopped on every director: see `keepalived -t -f FILE`, too.");
    for (interface, given) in &body.interfaces {
        head.comment(&match given {
            true => {
                let device = with.options.devices.get(interface).map_or("", String::as_str);
                format!("Interface {interface} of the configuration is device {device}.")
            }
            false => format!(
                "Interface {interface} stands where its device must: node.toml says which that is; --device \
                 {interface}=DEVICE."
            ),
        });
    }
    head.line("");
}

/// `global_defs`.
fn global(with: &Exporting<'_>, body: &mut Page, front: &mut Page) {
    let spec = with.spec;
    front.open("global_defs");
    if let Some(node) = &with.node {
        front.set("router_id", node);
    }
    if body.scripts {
        scripts(with, body.userless, front);
    }
    let timeouts = [
        ("tcp", spec.timeouts.tcp_s),
        ("tcpfin", spec.timeouts.tcp_fin_s),
        ("udp", spec.timeouts.udp_s),
    ];
    let timeouts =
        timeouts.into_iter().filter_map(|(word, time)| Some(format!(" {word} {}", time?)));
    let timeouts: String = timeouts.collect();
    if !timeouts.is_empty() {
        front.line(format!("lvs_timeouts{timeouts}"));
    }
    if spec.foreign_services == ForeignServices::Remove {
        front.line("lvs_flush");
    }
    if let Some(sync) = &spec.sync {
        self::sync(sync, spec.sync_warmup, with, (&mut *body, &mut *front));
    }
    if spec.timing.is_some() {
        front.lost(
            "cluster",
            "timing: a backup takes over when it has heard nothing for three advert_int",
        );
    }
    front.close();
    let unknown = body.interfaces.iter().filter(|(_, given)| !**given);
    let unknown: Vec<&str> = unknown.map(|(name, _)| name.as_str()).collect();
    if !unknown.is_empty() {
        front.warn(format!(
            "{} stand where devices must: give --device NAME=DEVICE for each, as node.toml has it",
            unknown.join(", ")
        ));
    }
}

fn scripts(with: &Exporting<'_>, userless: bool, front: &mut Page) {
    front.line("enable_script_security");
    let user = with.options.script_user.as_deref();
    if userless && user.is_none() {
        front.lost(
            "programs",
            "those that name no user ran as nobody, and run as root here: --script-user chooses another",
        );
    }
    front.set("script_user", word(user.unwrap_or("root")));
}

fn sync(
    sync: &Sync,
    warmup: Duration,
    with: &Exporting<'_>,
    (body, front): (&mut Page, &mut Page),
) {
    let Sync { link, id, group, port, ttl, max_len, refresh_s, retries } = sync;
    let device = body.device(link, &with.options.devices);
    let length = max_len.map(|length| format!(" maxlen {length}")).unwrap_or_default();
    front.line(format!(
        "lvs_sync_daemon {device} id {id}{length} port {port} ttl {ttl} group {group}"
    ));
    let sysctls = format!(
        "net.ipv4.vs.sync_refresh_period = {refresh_s} and net.ipv4.vs.sync_retries = {retries}: set them by sysctl"
    );
    front.lost("cluster", &sysctls);
    let what = format!(
        "sync_warmup {} s: a director takes its groups back whether it has heard of the connections or not",
        seconds(warmup)
    );
    front.lost("cluster", &what);
}
