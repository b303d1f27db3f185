//! `[group.NAME]`: the VIPs, and who may own them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::id::{GroupName, InterfaceName, NodeName};
use crate::routing::Place;
use crate::spec::document::{Diagnostics, Field, Named, Table};
use crate::spec::{PREEMPT_DELAY_DEFAULT, Vip, VipGroup};

use super::arbitration::Probed;
use super::track::Tracks;
use super::{ADDRESSES_MAX, GROUPS_MAX, NODES_NAMED_MAX, address, keys, routing};

/// Longest `preempt_delay`.
pub const PREEMPT_DELAY_MAX: Duration = Duration::from_secs(24 * 3600);
/// Shortest and longest `disagreement_delay`: below it, what is told is when each director looked.
const DISAGREEMENT_DELAY: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(3600);

/// The groups read so far, and what services need to know of them.
#[derive(Debug, Default)]
pub(super) struct Groups {
    pub(super) read: BTreeMap<GroupName, VipGroup>,
    /// Names that stand in the document, whether or not the group could be read.
    pub(super) declared: BTreeSet<String>,
    /// Groups one of whose addresses could not be read: which VIPs they have is not known.
    pub(super) unclear: BTreeSet<String>,
    /// The group of each VIP.
    pub(super) owner: BTreeMap<IpAddr, String>,
    /// The group of each route and policy rule.
    pub(super) routing: BTreeMap<Place, String>,
}

pub(super) fn groups(
    field: &Field<'_>,
    tracks: &Tracks,
    probed: &mut Probed,
    out: &mut Diagnostics,
) -> Groups {
    let mut groups = Groups::default();
    let named = field.named::<GroupName>("a group", out);
    if named.len() > GROUPS_MAX {
        let message = format!("{} groups, at most {GROUPS_MAX} can be given", named.len());
        out.push(field.problem(message));
        return groups;
    }
    for entry in named {
        groups.declared.insert(entry.text.to_owned());
        let group = group(&entry, &mut groups, (tracks, &mut *probed), out);
        if let (Some(name), Some(group)) = (entry.name, group) {
            groups.read.insert(name, group);
        }
        if out.is_full() {
            break;
        }
    }
    groups
}

fn group(
    entry: &Named<'_, GroupName>,
    groups: &mut Groups,
    (tracks, probed): (&Tracks, &mut Probed),
    out: &mut Diagnostics,
) -> Option<VipGroup> {
    let Some(table) = entry.field.table(&keys::GROUP, out) else {
        groups.unclear.insert(entry.text.to_owned());
        return None;
    };
    let addresses = addresses(&table, entry.text, groups, out);
    if addresses.is_none() {
        groups.unclear.insert(entry.text.to_owned());
    }
    let prefer = match table.get("prefer") {
        Some(list) => nodes(&list, out),
        None => Some(Vec::new()),
    };
    let only = match table.get("only") {
        Some(list) => only(&list, out).map(Some),
        None => Some(None),
    };
    if let (Some(prefer), Some(Some(only)), Some(list)) = (&prefer, &only, table.get("prefer")) {
        for name in prefer.iter().filter(|name| !only.contains(name)) {
            let message = format!("{name} is preferred, but `only` leaves it out");
            out.push(list.problem(message).help("add it to `only`, or remove it from `prefer`"));
        }
    }
    let preempt = table.get("preempt").map_or(Some(true), |flag| flag.flag(out));
    let preempt_delay = table.get("preempt_delay").map_or(Some(PREEMPT_DELAY_DEFAULT), |delay| {
        delay.duration("preempt_delay", Duration::ZERO..=PREEMPT_DELAY_MAX, out)
    });
    let arbitration = match table.get("arbitration") {
        Some(list) => probed.list(&list, out).map(Some),
        None => Some(None),
    };
    let tracks = match table.get("track") {
        Some(list) => tracks.named(&list, out),
        None => Some(Vec::new()),
    };
    let evacuate = table.get("evacuate_on_disagreement").map_or(Some(false), |flag| flag.flag(out));
    let disagreement_delay = match table.get("disagreement_delay") {
        Some(delay) => delay.duration("disagreement_delay", DISAGREEMENT_DELAY, out).map(Some),
        None => Some(None),
    };
    let routing = routing::routing(&table, entry.text, addresses.as_deref(), groups, out);
    Some(VipGroup {
        addresses: addresses?,
        prefer: prefer?,
        only: only?,
        preempt: preempt?,
        preempt_delay: preempt_delay?,
        arbitration: arbitration?,
        tracks: tracks?,
        evacuate_on_disagreement: evacuate?,
        disagreement_delay: disagreement_delay?,
        routing: routing?,
    })
}

fn addresses(
    table: &Table<'_>,
    group: &str,
    groups: &mut Groups,
    out: &mut Diagnostics,
) -> Option<Vec<Vip>> {
    let interface = table.get("interface").map(|field| field.parsed("an interface name", out));
    let field = table.require("addresses", out)?;
    let list = field.list(out)?;
    if list.is_empty() {
        let problem = field.problem("a group needs an address");
        out.push(problem.help("addresses = [\"192.0.2.1/32\"]"));
        return None;
    }
    let mut vips = Some(Vec::with_capacity(list.len()));
    for item in &list {
        if groups.owner.len() >= ADDRESSES_MAX {
            let message = format!("more than {ADDRESSES_MAX} addresses in all groups together");
            out.push(field.problem(message));
            return None;
        }
        let vip = vip(item, interface.as_ref(), out).filter(|vip| {
            let ip = vip.net.addr();
            let Some(other) = groups.owner.get(&ip) else {
                groups.owner.insert(ip, group.to_owned());
                return true;
            };
            let message = if other == group {
                format!("{ip} stands twice in group {group}")
            } else {
                format!("{ip} is already an address of group {other}")
            };
            out.push(item.problem(message).help("remove one of the two"));
            false
        });
        vips = vips.zip(vip).map(|(mut vips, vip)| {
            vips.push(vip);
            vips
        });
    }
    vips
}

/// One address of a group. `interface` is the group's own: `None` if it gives none, `Some(None)`
/// if what it gives is none.
fn vip(
    item: &Field<'_>,
    interface: Option<&Option<InterfaceName>>,
    out: &mut Diagnostics,
) -> Option<Vip> {
    if !item.is_table() {
        let net = address::vip(item, out);
        if interface.is_none() {
            let problem = item.problem("no interface is given for this address");
            out.push(
                problem
                    .help("give the group an interface = \"public\", or write { address = .., interface = .. }")
                    .consequence(),
            );
        }
        return Some(Vip { net: net?, interface: interface?.clone()? });
    }
    let table = item.table(&keys::ADDRESS, out)?;
    let net = table.require("address", out).and_then(|field| address::vip(&field, out));
    let own = table.get("interface").map(|field| field.parsed("an interface name", out));
    if own.is_none() && interface.is_none() {
        out.push(table.missing("interface").help("give it here or to the whole group"));
    }
    Some(Vip { net: net?, interface: own.as_ref().or(interface)?.clone()? })
}

fn only(list: &Field<'_>, out: &mut Diagnostics) -> Option<Vec<NodeName>> {
    let names = nodes(list, out)?;
    if names.is_empty() {
        let problem = list.problem("no director may own this group");
        out.push(problem.help("name one, or leave out `only`"));
        return None;
    }
    Some(names)
}

/// A list of different nodes.
fn nodes(list: &Field<'_>, out: &mut Diagnostics) -> Option<Vec<NodeName>> {
    let items = list.list(out)?;
    if items.len() > NODES_NAMED_MAX {
        let message = format!("{} nodes, at most {NODES_NAMED_MAX} can be named", items.len());
        out.push(list.problem(message));
        return None;
    }
    let mut names = Some(Vec::with_capacity(items.len()));
    let mut seen = BTreeSet::new();
    for item in &items {
        let name = item.parsed::<NodeName>("the name of a node", out).filter(|name| {
            let new = seen.insert(name.clone());
            if !new {
                out.push(
                    item.problem(format!("{name} stands twice")).help("remove one of the two"),
                );
            }
            new
        });
        names = names.zip(name).map(|(mut names, name)| {
            names.push(name);
            names
        });
    }
    names
}
