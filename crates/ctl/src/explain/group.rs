//! Why a VIP group is where it is, or nowhere.

use quorate_api::v1::{ClusterStatus, GroupStatus, NodeState, NodeStatus, StatusResponse};
use quorate_model::spec::document::duration_text;
use quorate_model::spec::{ClusterSpec, VipGroup};

use super::{Bearing, Explanation, Fact, Subject, listed};
use crate::output::json;

pub(super) fn explain(
    status: &StatusResponse,
    spec: Option<&ClusterSpec>,
    group: &GroupStatus,
) -> Explanation {
    let settings = spec.and_then(|spec| {
        spec.groups.iter().find(|(name, _)| name.as_str() == group.name).map(|(_, group)| group)
    });
    let mut facts =
        vec![Fact::new(Bearing::Note, format!("{} has {}", group.name, listed(&group.addresses)))];
    facts.push(owner(group));
    facts.extend(lease(group));
    facts.extend(status.cluster.as_ref().and_then(cluster));
    facts.extend(settings.map(|settings| preferred(group, settings)));
    facts.extend(candidates(group));
    let owner_node = status.nodes.iter().find(|node| Some(&node.name) == group.owner.as_ref());
    facts.extend(owner_node.into_iter().flat_map(troubles));
    facts.extend(reach(group, settings));
    facts.extend(services(status, group));
    let serves = group.lease_remaining_ms.is_some_and(|left| left > 0);
    let answer = match &group.owner {
        Some(owner) if serves => format!("{owner} serves {}: {}", group.name, why(group)),
        Some(owner) => {
            format!("{owner} has {}, and its lease does not run: {}", group.name, why(group))
        }
        None => format!("nobody serves {}: {}", group.name, why(group)),
    };
    let mut next = vec![format!("quorate history {}", group.name)];
    if group.owner.is_none() || !serves {
        next.insert(0, "quorate status".to_owned());
    }
    Explanation {
        subject: Subject::Group,
        name: group.name.clone(),
        service: None,
        answer,
        facts,
        next,
    }
}

fn why(group: &GroupStatus) -> &str {
    if group.reason.is_empty() { "the reason is not known" } else { &group.reason }
}

fn owner(group: &GroupStatus) -> Fact {
    let since = group.since.as_deref().map(|since| format!(" since {since}")).unwrap_or_default();
    match &group.owner {
        Some(owner) => Fact::new(
            Bearing::Ok,
            format!("{owner} was granted it{since}, epoch {}: {}", group.epoch, why(group)),
        ),
        None => Fact::new(Bearing::Bad, format!("no live owner is known: {}", why(group))),
    }
}

fn lease(group: &GroupStatus) -> Option<Fact> {
    let owner = group.owner.as_deref()?;
    Some(
        match group.lease_remaining_ms {
            Some(left) if left > 0 => Fact::new(
                Bearing::Ok,
                format!("a majority of the voters acked its lease: {left} ms are left of it"),
            ),
            _ => Fact::new(
                Bearing::Bad,
                "its lease does not run: no majority of the voters acks it, so its fence is closed",
            ),
        }
        .seen_by(owner),
    )
}

fn cluster(cluster: &ClusterStatus) -> Option<Fact> {
    if cluster.paused {
        let by = cluster.paused_by.as_deref().unwrap_or("somebody");
        let text = format!("the cluster is paused by {by}: nothing moves by itself");
        return Some(Fact::new(Bearing::Warn, text));
    }
    if cluster.leader.is_none() {
        let (heard, all) = (cluster.voters_reachable, cluster.voters);
        let text = format!(
            "there is no leader ({heard} of {all} voters are heard of): nothing is granted"
        );
        return Some(Fact::new(Bearing::Bad, text));
    }
    None
}

/// Whether it is where the configuration would rather have it.
fn preferred(group: &GroupStatus, settings: &VipGroup) -> Fact {
    let only = settings.only.as_ref().map(|only| format!("; only {} may have it", listed(only)));
    let only = only.unwrap_or_default();
    if settings.prefer.is_empty() {
        let text = format!("the configuration prefers nobody: directors come by name{only}");
        return Fact::new(Bearing::Note, text);
    }
    let order = listed(&settings.prefer);
    let place = |name: &str| settings.prefer.iter().position(|node| node.as_str() == name);
    let here = group.owner.as_deref().map(|owner| place(owner).unwrap_or(usize::MAX));
    let better: Vec<&str> = settings
        .prefer
        .iter()
        .map(|node| node.as_str())
        .take_while(|name| place(name) < here)
        .collect();
    let returns = match (settings.preempt, better.is_empty()) {
        (_, true) => String::new(),
        (false, false) => "; it does not return by itself (preempt = false)".to_owned(),
        (true, false) => format!(
            "; it returns to a better one that has been eligible for {} (preempt_delay)",
            duration_text(settings.preempt_delay)
        ),
    };
    match (group.owner.as_deref(), better.is_empty()) {
        (Some(owner), false) => Fact::new(
            Bearing::Warn,
            format!(
                "the configuration prefers {order}: {} before {owner}{returns}{only}",
                listed(&better)
            ),
        ),
        _ => Fact::new(Bearing::Ok, format!("the configuration prefers {order}{only}")),
    }
}

/// Who may take it over, and who may not.
fn candidates(group: &GroupStatus) -> Vec<Fact> {
    let mut facts = Vec::new();
    if group.standby.is_empty() {
        facts.push(Fact::new(Bearing::Warn, "no other director could take it over now"));
    } else {
        let text = format!("could take it over, the best first: {}", listed(&group.standby));
        facts.push(Fact::new(Bearing::Ok, text));
    }
    facts.extend(group.ineligible.iter().map(|out| {
        Fact::new(Bearing::Bad, format!("{} may not have it: {}", out.node, out.reason))
    }));
    facts
}

fn troubles(node: &NodeStatus) -> Vec<Fact> {
    let state = (node.state() != NodeState::Ready).then(|| {
        Fact::new(
            Bearing::Warn,
            format!("its owner {} is {}", node.name, json::node_state(node.state())),
        )
    });
    let problems = node.problems.iter().map(|problem| {
        Fact::new(Bearing::Warn, format!("its owner has a problem: {problem}")).seen_by(&node.name)
    });
    state.into_iter().chain(problems).collect()
}

/// How many real servers each director sees, where they don't see the same.
fn reach(group: &GroupStatus, settings: Option<&VipGroup>) -> Vec<Fact> {
    let most = group.reach.iter().map(|reach| reach.up).max().unwrap_or(0);
    if group.reach.iter().all(|reach| reach.up == most) {
        let all = group.reach.first().filter(|reach| reach.all > 0);
        let fact = all.map(|reach| {
            let bearing = if most == reach.all { Bearing::Ok } else { Bearing::Warn };
            let text = format!(
                "every director that is heard of sees {most} of {} real servers up",
                reach.all
            );
            Fact::new(bearing, text)
        });
        return fact.into_iter().collect();
    }
    let mut facts: Vec<Fact> = group
        .reach
        .iter()
        .map(|reach| {
            let bearing = if reach.up == most { Bearing::Note } else { Bearing::Warn };
            let text =
                format!("sees {} of {} real servers up, {} down", reach.up, reach.all, reach.down);
            Fact::new(bearing, text).seen_by(&reach.node)
        })
        .collect();
    if let Some(settings) = settings {
        let text = if settings.evacuate_on_disagreement {
            "a director that lastingly sees fewer may not have it (evacuate_on_disagreement)"
        } else {
            "that moves nothing (evacuate_on_disagreement = false)"
        };
        facts.push(Fact::new(Bearing::Note, text));
    }
    facts
}

fn services(status: &StatusResponse, group: &GroupStatus) -> Vec<Fact> {
    let own = status.services.iter().filter(|service| service.group == group.name);
    own.map(|service| {
        let (up, all) = super::server::up(service);
        let bearing = match up {
            0 if all > 0 => Bearing::Bad,
            up if up < all => Bearing::Warn,
            _ => Bearing::Ok,
        };
        let text = format!("service {}: {up} of {all} real servers take traffic", service.name);
        Fact::new(bearing, text).seen_by(&service.seen_by)
    })
    .collect()
}
