//! Routes and rules of a group that several directors have.

use super::super::ir::{Group, Route, Rule};
use super::super::report::{Place, Report, clean};
use super::super::routing::Entry;
use super::differs;

/// Which of the first director's is which of another's; devices are called otherwise on each machine.
fn pairs<'a, T>(known: &'a [T], own: &'a [T], same: fn(&T, &T) -> bool) -> Vec<(&'a T, &'a T)> {
    let mut free: Vec<&T> = own.iter().collect();
    let mut all = Vec::new();
    for one in known {
        if let Some(at) = free.iter().position(|other| same(one, other)) {
            all.push((one, free.remove(at)));
        }
    }
    all
}

fn same_route(one: &Route, other: &Route) -> bool {
    (one.to, one.table, one.metric) == (other.to, other.table, other.metric)
}

/// A rule but for its devices.
fn same_rule(one: &Rule, other: &Rule) -> bool {
    let plain = |rule: &Rule| Rule {
        place: Place::default(),
        incoming: rule.incoming.as_ref().map(|_| String::new()),
        outgoing: rule.outgoing.as_ref().map(|_| String::new()),
        ..rule.clone()
    };
    plain(one) == plain(other)
}

/// Notes the devices that are called otherwise.
pub(super) fn devices(
    known: &Group,
    group: &Group,
    note: &mut dyn FnMut(&Option<String>, &Option<String>),
) {
    for (one, other) in pairs(&known.routes, &group.routes, same_route) {
        note(&one.device, &other.device);
    }
    for (one, other) in pairs(&known.rules, &group.rules, same_rule) {
        note(&one.incoming, &other.incoming);
        note(&one.outgoing, &other.outgoing);
    }
}

/// Tells where they disagree.
pub(super) fn compare(known: &Group, group: &Group, report: &mut Report) {
    let plain = |route: &Route| Route { place: Place::default(), device: None, ..route.clone() };
    for (one, other) in pairs(&known.routes, &group.routes, same_route) {
        if plain(one) != plain(other) {
            report.warn(other.place, Route::KEYWORD, differs(report, one.place));
        }
    }
    missing((known, &known.routes), (group, &group.routes), same_route, report);
    missing((known, &known.rules), (group, &group.rules), same_rule, report);
}

fn missing<T: Entry>(
    (first, known): (&Group, &[T]),
    (second, own): (&Group, &[T]),
    same: fn(&T, &T) -> bool,
    report: &mut Report,
) {
    let paired = pairs(known, own, same);
    for one in own.iter().filter(|one| !paired.iter().any(|(_, other)| std::ptr::eq(*other, *one)))
    {
        let what = format!(
            "the directors disagree: {} has it not so in {}; it is left out",
            report.shown(first.place),
            clean(&first.name)
        );
        report.warn(one.place(), T::KEYWORD, what);
    }
    for one in
        known.iter().filter(|one| !paired.iter().any(|(other, _)| std::ptr::eq(*other, *one)))
    {
        let what = format!(
            "the directors disagree: {} has it not so; it is taken over",
            report.shown(second.place)
        );
        report.warn(one.place(), T::KEYWORD, what);
    }
}
