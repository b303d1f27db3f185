//! Routes and policy rules to `virtual_routes` and `virtual_rules`.

use std::fmt::Write as _;

use quorate_model::id::InterfaceName;
use quorate_model::kernel::Family;
use quorate_model::routing::{
    ROUTE_SCOPES, Route, RouteKind, RoutingEntry, Rule, RuleAction, TABLE_MAIN, effective_metric,
};
use quorate_model::spec::VipGroup;

use super::Exporting;
use super::page::Page;

/// The lines of the two blocks.
pub(super) fn write(group: &VipGroup, with: &Exporting<'_>, page: &mut Page) {
    let (mut routes, mut rules) = (Vec::new(), Vec::new());
    for entry in &group.routing {
        match entry {
            RoutingEntry::Route(route) => routes.push(self::route(route, with, page)),
            RoutingEntry::Rule(rule) => rules.push(self::rule(rule, with, page)),
        }
    }
    page.block("virtual_routes", &routes);
    page.block("virtual_rules", &rules);
}

fn route(route: &Route<InterfaceName>, with: &Exporting<'_>, page: &mut Page) -> String {
    let Route { to, kind, via, interface, source, table, metric, scope, mtu } = route;
    let mut line = match kind {
        RouteKind::Unicast => to.to_string(),
        kind => format!("{kind} {to}"),
    };
    if let Some(via) = via {
        let _ = write!(line, " via {via}");
    }
    if let Some(interface) = interface {
        let _ = write!(line, " dev {}", page.device_of(interface, &with.options.devices));
    }
    if let Some(source) = source {
        let _ = write!(line, " src {source}");
    }
    if *table != TABLE_MAIN {
        let _ = write!(line, " table {table}");
    }
    let family = Family::of(to.addr());
    if *metric != effective_metric(family, None) {
        let _ = write!(line, " metric {metric}");
    }
    if family == Family::V4 && *kind == RouteKind::Unicast {
        let word = ROUTE_SCOPES.iter().find(|(_, known)| known == scope);
        let _ = write!(line, " scope {}", word.map_or("global", |(word, _)| word));
    }
    if let Some(mtu) = mtu {
        let _ = write!(line, " mtu {mtu}");
    }
    if interface.is_none() {
        line.push_str(" no_track");
    }
    line
}

fn rule(rule: &Rule<InterfaceName>, with: &Exporting<'_>, page: &mut Page) -> String {
    let Rule { family, priority, not, from, to, mark, incoming, outgoing, action } = rule;
    let mut line = if *not { "not ".to_owned() } else { String::new() };
    for (word, net) in [("from", from), ("to", to)] {
        if let Some(net) = net {
            let _ = write!(line, "{word} {net} ");
        }
    }
    match mark {
        Some((mark, u32::MAX)) => {
            let _ = write!(line, "fwmark 0x{mark:x} ");
        }
        Some((mark, mask)) => {
            let _ = write!(line, "fwmark 0x{mark:x}/0x{mask:x} ");
        }
        None => {}
    }
    for (word, interface) in [("iif", incoming), ("oif", outgoing)] {
        if let Some(interface) = interface {
            let _ = write!(line, "{word} {} ", page.device_of(interface, &with.options.devices));
        }
    }
    let action = match action {
        RuleAction::Lookup(table) => format!("table {table}"),
        RuleAction::Blackhole => "blackhole".to_owned(),
        RuleAction::Unreachable => "unreachable".to_owned(),
        RuleAction::Prohibit => "prohibit".to_owned(),
    };
    let _ = write!(line, "{action} preference {priority}");
    // Version 2.2 takes the word behind `inet6` for an action: nothing may follow it.
    if *family == Family::V6 && from.is_none() && to.is_none() {
        line.push_str(" inet6");
    }
    line
}
