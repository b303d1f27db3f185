//! Routes and rules of a group.

use std::net::IpAddr;

use super::super::ir::{Group, Net, Route, Rule};
use super::super::names::name_of;
use super::super::report::Place;
use super::super::values::quoted;
use super::Document;

/// The devices that they name.
pub(super) fn devices(group: &Group) -> impl Iterator<Item = &String> {
    let routes = group.routes.iter().filter_map(|route| route.device.as_ref());
    let rules = group.rules.iter().flat_map(|rule| rule.incoming.iter().chain(&rule.outgoing));
    routes.chain(rules)
}

/// Writes both lists, as far as there is something in them.
pub(super) fn write(group: &Group, out: &mut Document) {
    let device = group.device.as_ref();
    let routes: Vec<_> =
        group.routes.iter().map(|route| (self::route(route, device), route.place)).collect();
    let rules: Vec<_> = group.rules.iter().map(|rule| (self::rule(rule), rule.place)).collect();
    for (key, all) in [("routes", routes), ("rules", rules)] {
        list(key, &all, group.place, out);
    }
}

fn list(key: &str, all: &[(String, Place)], place: Place, out: &mut Document) {
    if all.is_empty() {
        return;
    }
    out.line(format!("{key} = ["));
    for (text, place) in all {
        out.place = Some(*place);
        out.line(format!("  {text},"));
    }
    out.place = Some(place);
    out.line("]");
}

/// A table of TOML in one line, of those that have a value.
fn inline<const N: usize>(fields: [(&str, Option<String>); N]) -> String {
    let fields: Vec<String> =
        fields.into_iter().filter_map(|(key, value)| Some(format!("{key} = {}", value?))).collect();
    format!("{{ {} }}", fields.join(", "))
}

fn net((ip, length): Net) -> String {
    quoted(&format!("{ip}/{length}"))
}

fn route(route: &Route, group: Option<&String>) -> String {
    let ip = |ip: IpAddr| quoted(&ip.to_string());
    let own = route.device.as_ref().filter(|own| Some(*own) != group);
    // The next hop says of which family it is.
    let default = route.to.1 == 0 && route.via.is_some();
    inline([
        ("to", Some(if default { quoted("default") } else { net(route.to) })),
        ("type", (route.kind != "unicast").then(|| quoted(route.kind))),
        ("via", route.via.map(ip)),
        ("interface", own.map(|device| quoted(&name_of(device)))),
        ("source", route.source.map(ip)),
        ("table", (route.table != 254).then(|| route.table.to_string())),
        ("metric", route.metric.map(|metric| metric.to_string())),
        ("scope", route.scope.map(quoted)),
        ("mtu", route.mtu.map(|mtu| mtu.to_string())),
    ])
}

fn rule(rule: &Rule) -> String {
    let device = |device: &String| quoted(&name_of(device));
    inline([
        ("priority", rule.priority.map(|priority| priority.to_string())),
        ("not", rule.not.then(|| "true".to_owned())),
        ("from", rule.from.map(net)),
        ("to", rule.to.map(net)),
        ("mark", rule.mark.map(|(mark, _)| mark.to_string())),
        ("mask", rule.mark.and_then(|(_, mask)| mask).map(|mask| mask.to_string())),
        ("incoming", rule.incoming.as_ref().map(device)),
        ("outgoing", rule.outgoing.as_ref().map(device)),
        ("action", rule.action.map(quoted)),
        ("table", rule.table.map(|table| table.to_string())),
    ])
}
