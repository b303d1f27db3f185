//! What changes from one configuration to the next, object by object: what `quorate diff` shows
//! and what a director's log says when a revision is taken up. Tests: `difference/tests.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::id::InterfaceName;
use crate::routing::RoutingEntry;

use super::document::duration_text;
use super::{
    Check, ClusterSpec, ForeignServices, Hook, Listen, RealServer, Sync, Timeouts, Track, VipGroup,
    VirtualService,
};

/// What happens to an object or field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Turn {
    /// It is new.
    Added,
    /// It goes.
    Removed,
    /// It stays and is another.
    Changed,
}

/// An object of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Object {
    /// The cluster as a whole.
    Cluster,
    /// A VIP group by name.
    Group(String),
    /// A virtual service by name.
    Service(String),
    /// A hook by name.
    Hook(String),
}

/// One field of an object that is not as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldChange {
    /// The field by its key.
    pub field: &'static str,
    /// What happens to it.
    pub turn: Turn,
    /// What it was; empty where it is new.
    pub old: String,
    /// What it will be; empty where it goes.
    pub new: String,
    /// Whether connections that pass through it go on.
    pub in_place: bool,
    /// Of what is removed: for how long its connections go on, with none new.
    pub drains: Option<Duration>,
}

/// One object that is not as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which one.
    pub object: Object,
    /// What happens to it.
    pub turn: Turn,
    /// Where it is reached: addresses of a group, where a service listens.
    pub reached_at: String,
    /// Its fields; none where the whole object comes or goes.
    pub fields: Vec<FieldChange>,
}

impl Change {
    /// Whether connections that pass through the object go on.
    #[must_use]
    pub fn in_place(&self) -> bool {
        self.turn != Turn::Removed && self.fields.iter().all(|field| field.in_place)
    }
}

impl fmt::Display for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Added => "+",
            Self::Removed => "-",
            Self::Changed => "~",
        })
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster => f.write_str("cluster"),
            Self::Group(name) => write!(f, "group {name}"),
            Self::Service(name) => write!(f, "service {name}"),
            Self::Hook(name) => write!(f, "hook {name}"),
        }
    }
}

impl fmt::Display for FieldChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.turn, self.field)?;
        match self.turn {
            Turn::Added => write!(f, " {}", self.new),
            Turn::Removed => write!(f, " {}", self.old),
            Turn::Changed => write!(f, " {} -> {}", self.old, self.new),
        }?;
        match (self.in_place, self.turn) {
            (true, Turn::Changed) => f.write_str("  (in place, connections kept)"),
            (true, _) => match self.drains {
                Some(drain) => write!(f, "  (drains for {})", duration_text(drain)),
                None => Ok(()),
            },
            (false, _) => f.write_str("  (ends its connections)"),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.turn, self.object)?;
        if self.turn != Turn::Changed && !self.reached_at.is_empty() {
            write!(f, " {}", self.reached_at)?;
        }
        for field in &self.fields {
            write!(f, "\n    {field}")?;
        }
        Ok(())
    }
}

/// What changes from `old` to `new`: the cluster's own, groups, then services, each by name.
/// Empty when nothing does. A timing that `new` leaves out stays, and is no change.
#[must_use]
pub fn difference(old: &ClusterSpec, new: &ClusterSpec) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut fields = Fields::default();
    if let Some(timing) = new.timing {
        let timing = Some(timing.to_string());
        fields.optional("timing", old.timing.map(|t| t.to_string()), timing, true);
    }
    fields.value("arbitration", list(&old.arbitration), list(&new.arbitration), true);
    let timeouts = |spec: &ClusterSpec| {
        let Timeouts { tcp_s, tcp_fin_s, udp_s } = spec.timeouts;
        let given = [("tcp", tcp_s), ("tcp_fin", tcp_fin_s), ("udp", udp_s)].into_iter();
        let given = given.filter_map(|(name, time)| Some(format!("{name} {}s", time?)));
        let text = joined(given);
        (!text.is_empty()).then_some(text)
    };
    fields.optional("timeouts", timeouts(old), timeouts(new), true);
    let sync = |spec: &ClusterSpec| spec.sync.as_ref().map(sync);
    fields.optional("sync", sync(old), sync(new), true);
    let warmup = |spec: &ClusterSpec| duration_text(spec.sync_warmup);
    fields.value("sync_warmup", warmup(old), warmup(new), true);
    let foreign = |spec: &ClusterSpec| match spec.foreign_services {
        ForeignServices::Keep => "keep".to_owned(),
        ForeignServices::Remove => "remove".to_owned(),
    };
    let removed = new.foreign_services == ForeignServices::Remove;
    fields.value("foreign_services", foreign(old), foreign(new), !removed);
    changes.extend(fields.of(Object::Cluster));
    objects(&old.groups, &new.groups, &mut changes, Object::Group, group_at, group);
    objects(&old.services, &new.services, &mut changes, Object::Service, service_at, service);
    objects(&old.hooks, &new.hooks, &mut changes, Object::Hook, hook_at, hook);
    changes
}

fn objects<N: Ord + fmt::Display, T: PartialEq>(
    old: &BTreeMap<N, T>,
    new: &BTreeMap<N, T>,
    changes: &mut Vec<Change>,
    object: fn(String) -> Object,
    reached_at: fn(&T) -> String,
    fields: fn(&T, &T) -> Fields,
) {
    let whole = |name: &N, value: &T, turn| Change {
        object: object(name.to_string()),
        turn,
        reached_at: reached_at(value),
        fields: Vec::new(),
    };
    let mut found: Vec<(&N, Change)> = Vec::new();
    for (name, value) in old {
        match new.get(name) {
            None => found.push((name, whole(name, value, Turn::Removed))),
            Some(other) if other != value => {
                let change = fields(value, other).of(object(name.to_string()));
                found.extend(change.map(|change| (name, change)));
            }
            Some(_) => {}
        }
    }
    for (name, value) in new.iter().filter(|(name, _)| !old.contains_key(name)) {
        found.push((name, whole(name, value, Turn::Added)));
    }
    found.sort_by_key(|(name, _)| *name);
    changes.extend(found.into_iter().map(|(_, change)| change));
}

/// The fields found so far.
#[derive(Debug, Default)]
struct Fields(Vec<FieldChange>);

impl Fields {
    fn of(self, object: Object) -> Option<Change> {
        let Self(fields) = self;
        let reached_at = String::new();
        (!fields.is_empty()).then_some(Change { object, turn: Turn::Changed, reached_at, fields })
    }

    fn note(&mut self, field: &'static str, turn: Turn, old: String, new: String, in_place: bool) {
        self.0.push(FieldChange { field, turn, old, new, in_place, drains: None });
    }

    /// What was removed of this field keeps its connections for that long.
    fn drain(&mut self, field: &'static str, drain: Duration) {
        let removed = |change: &&mut FieldChange| {
            change.field == field && change.turn == Turn::Removed && !drain.is_zero()
        };
        for change in self.0.iter_mut().filter(removed) {
            (change.in_place, change.drains) = (true, Some(drain));
        }
    }

    fn value(&mut self, field: &'static str, old: String, new: String, in_place: bool) {
        if old != new {
            self.note(field, Turn::Changed, old, new, in_place);
        }
    }

    fn optional(
        &mut self,
        field: &'static str,
        old: Option<String>,
        new: Option<String>,
        in_place: bool,
    ) {
        match (old, new) {
            (Some(old), Some(new)) => self.value(field, old, new, in_place),
            (Some(old), None) => self.note(field, Turn::Removed, old, String::new(), in_place),
            (None, Some(new)) => self.note(field, Turn::Added, String::new(), new, in_place),
            (None, None) => {}
        }
    }

    /// Members of a set: those that go end their connections.
    fn members<K: Ord + fmt::Display, V: PartialEq>(
        &mut self,
        field: &'static str,
        old: &BTreeMap<K, V>,
        new: &BTreeMap<K, V>,
        text: fn(&V) -> String,
        changed_in_place: bool,
    ) {
        for (key, value) in old {
            match new.get(key) {
                None => {
                    let old = format!("{key}{}", text(value));
                    self.note(field, Turn::Removed, old, String::new(), false);
                }
                Some(other) if other != value => {
                    let (old, new) = (format!("{key}{}", text(value)), text(other));
                    self.note(
                        field,
                        Turn::Changed,
                        old,
                        new.trim_start().to_owned(),
                        changed_in_place,
                    );
                }
                Some(_) => {}
            }
        }
        for (key, value) in new.iter().filter(|(key, _)| !old.contains_key(key)) {
            let new = format!("{key}{}", text(value));
            self.note(field, Turn::Added, String::new(), new, true);
        }
    }

    /// What a director has to see: it decides who serves, and ends no connection by itself.
    fn tracks(&mut self, old: &[Track], new: &[Track]) {
        let text = |tracks: &[Track]| tracks.iter().map(Track::to_string).collect();
        let (old, new): (BTreeSet<String>, BTreeSet<String>) = (text(old), text(new));
        for gone in old.difference(&new) {
            self.note("track", Turn::Removed, gone.clone(), String::new(), true);
        }
        for come in new.difference(&old) {
            self.note("track", Turn::Added, String::new(), come.clone(), true);
        }
    }

    /// Members that come and go without ending anything.
    fn moved<T: fmt::Display + Ord>(&mut self, field: &'static str, old: &[T], new: &[T]) {
        let set = |items| BTreeSet::<&T>::from_iter(items);
        for gone in set(old).difference(&set(new)) {
            self.note(field, Turn::Removed, gone.to_string(), String::new(), true);
        }
        for come in set(new).difference(&set(old)) {
            self.note(field, Turn::Added, String::new(), come.to_string(), true);
        }
    }

    /// Members that are the same but for their order.
    fn order<T: fmt::Display + Ord>(&mut self, field: &'static str, old: &[T], new: &[T]) {
        let set = |items| BTreeSet::<&T>::from_iter(items);
        if old != new && set(old) == set(new) {
            self.note(field, Turn::Changed, list(old), list(new), true);
        }
    }
}

/// Most items of a list that are shown.
const ITEMS_SHOWN_MAX: usize = 8;

fn list<T: fmt::Display>(items: &[T]) -> String {
    let mut shown: Vec<String> =
        items.iter().take(ITEMS_SHOWN_MAX).map(ToString::to_string).collect();
    if items.len() > ITEMS_SHOWN_MAX {
        shown.push("..".to_owned());
    }
    format!("[{}]", shown.join(", "))
}

fn joined<T: fmt::Display>(items: impl Iterator<Item = T>) -> String {
    items.map(|item| item.to_string()).collect::<Vec<_>>().join(" ")
}

fn group_at(group: &VipGroup) -> String {
    joined(group.addresses.iter().map(|vip| vip.net))
}

fn service_at(service: &VirtualService) -> String {
    joined(service.listen.iter())
}

/// It is reached nowhere.
fn hook_at(_: &Hook) -> String {
    String::new()
}

fn hook(old: &Hook, new: &Hook) -> Fields {
    let mut fields = Fields::default();
    fields.value("hook", old.to_string(), new.to_string(), true);
    fields
}

fn group(old: &VipGroup, new: &VipGroup) -> Fields {
    let mut fields = Fields::default();
    let vips = |group: &VipGroup| -> BTreeMap<_, _> {
        group.addresses.iter().map(|vip| (vip.net, vip.interface.clone())).collect()
    };
    fields.members(
        "address",
        &vips(old),
        &vips(new),
        |interface| format!(" on {interface}"),
        false,
    );
    let nets = |group: &VipGroup| group.addresses.iter().map(|v| v.net).collect::<Vec<_>>();
    fields.order("addresses", &nets(old), &nets(new));
    fields.value("prefer", list(&old.prefer), list(&new.prefer), true);
    let only = |group: &VipGroup| group.only.as_deref().map(list);
    fields.optional("only", only(old), only(new), true);
    fields.value("preempt", old.preempt.to_string(), new.preempt.to_string(), true);
    let delay = |group: &VipGroup| duration_text(group.preempt_delay);
    fields.value("preempt_delay", delay(old), delay(new), true);
    let arbitration = |group: &VipGroup| group.arbitration.as_deref().map(list);
    fields.optional("arbitration", arbitration(old), arbitration(new), true);
    fields.tracks(&old.tracks, &new.tracks);
    let evacuate = |group: &VipGroup| group.evacuate_on_disagreement.to_string();
    fields.value("evacuate_on_disagreement", evacuate(old), evacuate(new), true);
    let delay = |group: &VipGroup| group.disagreement_delay.map(duration_text);
    fields.optional("disagreement_delay", delay(old), delay(new), true);
    let routing = |group: &VipGroup, routes: bool| -> Vec<String> {
        let of = |entry: &&RoutingEntry<_>| matches!(entry, RoutingEntry::Route(_)) == routes;
        let text = |entry: &RoutingEntry<InterfaceName>| match entry {
            RoutingEntry::Route(route) => route.to_string(),
            RoutingEntry::Rule(rule) => rule.to_string(),
        };
        group.routing.iter().filter(of).map(text).collect()
    };
    fields.moved("route", &routing(old, true), &routing(new, true));
    fields.moved("rule", &routing(old, false), &routing(new, false));
    fields
}

fn service(old: &VirtualService, new: &VirtualService) -> Fields {
    let mut fields = Fields::default();
    fields.value("group", old.group.to_string(), new.group.to_string(), false);
    let listen = |service: &VirtualService| -> BTreeMap<Listen, ()> {
        service.listen.iter().map(|listen| (*listen, ())).collect()
    };
    // By firewall mark the service stays, and IPVS finds a connection before it looks for a service.
    if old.mark.is_some() && old.mark == new.mark {
        fields.moved("listen", &old.listen, &new.listen);
    } else {
        fields.members("listen", &listen(old), &listen(new), |()| String::new(), true);
        // With another group another VIP goes, maybe, and its connections with it.
        if old.group == new.group && old.mark == new.mark {
            fields.drain("listen", new.drain);
        }
    }
    fields.order("listen", &old.listen, &new.listen);
    let mark = |service: &VirtualService| service.mark.map(|mark| mark.to_string());
    fields.optional("mark", mark(old), mark(new), false);
    fields.value("scheduler", old.scheduler.to_string(), new.scheduler.to_string(), true);
    let flags = |service: &VirtualService| {
        let words = service.flags.words(service.scheduler);
        (!words.is_empty()).then_some(words)
    };
    fields.optional("flags", flags(old), flags(new), true);
    let one_packet = |service: &VirtualService| service.one_packet.to_string();
    fields.value("one_packet", one_packet(old), one_packet(new), true);
    let persistence = |service: &VirtualService| {
        service.persistence.map(|p| {
            let engine = p.engine.map(|engine| format!(" by {engine}")).unwrap_or_default();
            format!("{}s per /{}{engine}", p.timeout_s, p.prefix)
        })
    };
    fields.optional("persistence", persistence(old), persistence(new), true);
    let check = |service: &VirtualService| checks(&service.checks);
    fields.optional("check", check(old), check(new), true);
    let drain = |service: &VirtualService| duration_text(service.drain);
    fields.value("drain", drain(old), drain(new), true);
    let slow_start = |service: &VirtualService| duration_text(service.slow_start);
    fields.value("slow_start", slow_start(old), slow_start(new), true);
    let few = |service: &VirtualService| {
        let VirtualService { quorum, hysteresis, min_up, .. } = service;
        [("quorum", quorum), ("hysteresis", hysteresis), ("min_up", min_up)]
            .map(|(key, number)| (key, number.to_string()))
    };
    for ((key, old), (_, new)) in few(old).into_iter().zip(few(new)) {
        fields.value(key, old, new, true);
    }
    fields.value("inhibit", old.inhibit.to_string(), new.inhibit.to_string(), true);
    let servers = |service: &VirtualService| -> BTreeMap<SocketAddr, String> {
        let text = |server: &RealServer| {
            let own = service.own_checks.get(&server.address);
            let own = own.map(|own| format!(" check {}", checks(own).unwrap_or("none".to_owned())));
            (server.address, format!("{}{}", settings(server), own.unwrap_or_default()))
        };
        service.real_servers.iter().map(text).collect()
    };
    fields.members("real_server", &servers(old), &servers(new), String::clone, true);
    fields.drain("real_server", new.drain);
    let sorry = |service: &VirtualService| {
        service.sorry_server.map(|server| format!("{}{}", server.address, settings(&server)))
    };
    fields.optional("sorry_server", sorry(old), sorry(new), true);
    let addresses = |service: &VirtualService| {
        service.real_servers.iter().map(|s| s.address).collect::<Vec<_>>()
    };
    fields.order("real_servers", &addresses(old), &addresses(new));
    fields
}

fn settings(server: &RealServer) -> String {
    let mut text = format!(" weight {} {}", server.weight, server.forward);
    let limits = [("upper", server.thresholds.upper), ("lower", server.thresholds.lower)];
    for (name, threshold) in limits.into_iter().filter(|(_, threshold)| *threshold > 0) {
        text.push_str(&format!(" {name} {threshold}"));
    }
    text
}

fn sync(sync: &Sync) -> String {
    let Sync { link, id, group, port, ttl, max_len, refresh_s, retries } = sync;
    let length = max_len.map(|length| format!(" maxlen {length}")).unwrap_or_default();
    format!(
        "link {link} id {id} group {group}:{port} ttl {ttl}{length} refresh {refresh_s}s retries \
         {retries}"
    )
}

fn checks(checks: &[Arc<Check>]) -> Option<String> {
    let texts: Vec<String> = checks.iter().map(ToString::to_string).collect();
    (!texts.is_empty()).then(|| texts.join(" and "))
}

#[cfg(test)]
mod tests;
