//! Routes and rules that a configuration can have: each once, in all groups together not too many of them.

use std::collections::{BTreeMap, BTreeSet};

use quorate_model::kernel::Family;
use quorate_model::routing::effective_metric;
use quorate_model::spec::read::ROUTING_TOTAL_MAX;

use super::super::ir::{Group, Net, Route};
use super::super::merge::Whole;
use super::super::report::{Place, Report};

/// What Keepalived gives the first rule that says no priority; the next have one less each (`Rule has no preference
/// specified`).
const PRIORITY_FIRST: u32 = 16_384;

/// Removes what no kernel can hold twice, or a group not at all; gives rules their priority.
pub(super) fn arrange(whole: &mut Whole, report: &mut Report) {
    let mut total = 0;
    let mut routes: BTreeMap<(Net, u32, u32), Place> = BTreeMap::new();
    for (group, _) in &mut whole.groups {
        let given = std::mem::take(&mut group.routes);
        for route in given {
            if let Some(why) = refused(&route, group) {
                report.warn(route.place, "virtual_routes", format!("{why}: it is left out"));
                continue;
            }
            let key = key(&route);
            if let Some(other) = routes.get(&key) {
                let ((ip, length), table, metric) = key;
                let what = format!(
                    "{} has a route to {ip}/{length} in table {table} with metric {metric} already: it is left out",
                    report.shown(*other)
                );
                report.warn(route.place, "virtual_routes", what);
            } else if has_room(&mut total, route.place, "virtual_routes", report) {
                without_device(&route, report);
                routes.insert(key, route.place);
                group.routes.push(route);
            }
        }
    }
    prioritise(whole, report);
    let mut rules: BTreeMap<(bool, u32), Place> = BTreeMap::new();
    for (group, _) in &mut whole.groups {
        group.rules.retain(|rule| {
            let key = (rule.four, rule.priority.unwrap_or_default());
            if let Some(other) = rules.get(&key) {
                let what = format!(
                    "{} has a rule with priority {} already, and rules of one priority have no order: it is left out",
                    report.shown(*other),
                    key.1
                );
                report.warn(rule.place, "virtual_rules", what);
                return false;
            }
            let room = has_room(&mut total, rule.place, "virtual_rules", report);
            if room {
                rules.insert(key, rule.place);
            }
            room
        });
    }
}

/// What tells a route from the others of a kernel.
fn key(route: &Route) -> (Net, u32, u32) {
    (route.to, route.table, effective_metric(Family::of(route.to.0), route.metric))
}

fn has_room(total: &mut usize, place: Place, keyword: &str, report: &mut Report) -> bool {
    if *total >= ROUTING_TOTAL_MAX {
        let what = format!(
            "there are {ROUTING_TOTAL_MAX} routes and rules in all groups at most: it is left out"
        );
        report.warn(place, keyword, what);
        return false;
    }
    *total += 1;
    true
}

/// Why a group can't have it.
fn refused(route: &Route, group: &Group) -> Option<String> {
    if let Some(via) = route.via.filter(|via| group.vips.iter().any(|vip| vip.ip == *via)) {
        return Some(format!("{via} is an address of the group itself, and no next hop"));
    }
    let goes_on = route.kind == "unicast";
    (goes_on && route.device.is_none() && group.device.is_none())
        .then(|| "it names no device, nor does its instance: say dev".to_owned())
}

/// Keepalived leaves the device of a next hop to the kernel.
fn without_device(route: &Route, report: &mut Report) {
    if route.kind == "unicast" && route.device.is_none() {
        let what = "it names no dev: here it goes out by the group's interface, where the kernel took that of its next \
                    hop. If this is another, say dev";
        report.warn(route.place, "virtual_routes", what);
    }
}

/// Gives rules that say no priority one, in the order of the files, as Keepalived does, but none that another has.
fn prioritise(whole: &mut Whole, report: &mut Report) {
    for four in [true, false] {
        let all = || whole.groups.iter().flat_map(|(group, _)| &group.rules);
        let mut taken: BTreeSet<u32> =
            all().filter(|rule| rule.four == four).filter_map(|rule| rule.priority).collect();
        let mut next = PRIORITY_FIRST;
        let mut without: Vec<_> = whole
            .groups
            .iter_mut()
            .flat_map(|(group, _)| &mut group.rules)
            .filter(|rule| rule.four == four && rule.priority.is_none())
            .collect();
        without.sort_by_key(|rule| rule.place);
        for rule in without {
            while next > 1 && taken.contains(&next) {
                next -= 1;
            }
            taken.insert(next);
            rule.priority = Some(next);
            let what = format!(
                "it says no priority: it has {next}, as Keepalived counts down from {PRIORITY_FIRST}"
            );
            report.warn(rule.place, "virtual_rules", what);
        }
    }
}
