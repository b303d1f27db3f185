//! Why a real server is up or down, and what a service makes of its real servers.

use std::net::SocketAddr;

use quorate_api::v1::{RealServerState, RealServerStatus, ServiceStatus, StatusResponse};
use quorate_model::spec::document::duration_text;
use quorate_model::spec::{ClusterSpec, VirtualService};

use super::{Bearing, Explanation, Fact, Subject, listed};
use crate::output::json;

/// How many real servers of a service take traffic, and how many there are.
pub(super) fn up(service: &ServiceStatus) -> (usize, usize) {
    let stays = || service.real_servers.iter().filter(|server| server.leaves_in_s.is_none());
    (stays().filter(|server| server.effective_weight > 0).count(), stays().count())
}

fn settings<'s>(
    spec: Option<&'s ClusterSpec>,
    service: &ServiceStatus,
) -> Option<&'s VirtualService> {
    let services = spec?.services.iter();
    services.into_iter().find(|(name, _)| name.as_str() == service.name).map(|(_, found)| found)
}

/// Who sees it so: without an owner that answers, the facts are those of whoever does.
fn viewer(status: &StatusResponse, service: &ServiceStatus) -> Fact {
    let group = status.groups.iter().find(|group| group.name == service.group);
    let owner = group.and_then(|group| group.owner.as_deref());
    match owner {
        Some(owner) if owner == service.seen_by => Fact::new(
            Bearing::Note,
            format!("{owner} owns group {} and sends its traffic: its view counts", service.group),
        ),
        Some(owner) => Fact::new(
            Bearing::Warn,
            format!(
                "{owner} owns group {} and did not answer: this is {}'s view",
                service.group, service.seen_by
            ),
        ),
        None => Fact::new(
            Bearing::Bad,
            format!("nobody serves group {}: no real server gets traffic", service.group),
        ),
    }
}

pub(super) fn explain_service(
    status: &StatusResponse,
    spec: Option<&ClusterSpec>,
    service: &ServiceStatus,
) -> Explanation {
    let (up, all) = up(service);
    let mut facts = vec![
        Fact::new(
            Bearing::Note,
            format!(
                "{} listens on {}, scheduler {}, {}",
                service.name,
                listed(&service.listen),
                service.scheduler,
                service.forward
            ),
        ),
        viewer(status, service),
    ];
    facts.extend(settings(spec, service).into_iter().flat_map(few));
    facts.extend(service.sorry_server.iter().map(|sorry| {
        let bearing = if sorry.effective_weight > 0 { Bearing::Warn } else { Bearing::Note };
        Fact::new(bearing, format!("sorry server {}: {}", sorry.address, sorry.reason))
    }));
    facts.extend(service.real_servers.iter().map(|server| {
        Fact::new(bearing(server), format!("{} {}", server.address, standing(server)))
            .seen_by(&service.seen_by)
    }));
    let answer = match (up, all) {
        (_, 0) => format!("{} has no real server", service.name),
        (0, _) => format!("no real server of {} takes traffic", service.name),
        _ => format!("{up} of {all} real servers of {} take traffic", service.name),
    };
    let down = service.real_servers.iter().filter(|server| bearing(server) == Bearing::Bad);
    let mut next: Vec<String> =
        down.take(3).map(|server| format!("quorate explain {}", server.address)).collect();
    next.push(format!("quorate explain {}", service.group));
    Explanation {
        subject: Subject::Service,
        name: service.name.clone(),
        service: None,
        answer,
        facts,
        next,
    }
}

/// What it does while few of its real servers are up.
fn few(service: &VirtualService) -> Vec<Fact> {
    let quorum = (service.quorum > 1 || service.sorry_server.is_some()).then(|| {
        let hysteresis = match service.hysteresis {
            0 => String::new(),
            some => format!(", hysteresis {some}"),
        };
        format!("it needs a weight of {} up (quorum{hysteresis})", service.quorum)
    });
    let floor = (service.min_up > 0)
        .then(|| format!("with fewer than {} up, all of them serve (min_up)", service.min_up));
    quorum.into_iter().chain(floor).map(|text| Fact::new(Bearing::Note, text)).collect()
}

pub(super) fn explain(
    status: &StatusResponse,
    spec: Option<&ClusterSpec>,
    service: &ServiceStatus,
    server: &RealServerStatus,
) -> Explanation {
    let settings = settings(spec, service);
    let mut facts = vec![viewer(status, service)];
    facts.push(Fact::new(bearing(server), standing(server)).seen_by(&service.seen_by));
    facts.extend(settings.map(|settings| checks(settings, server)));
    facts.extend(server.otherwise.iter().map(|view| {
        let why = if view.reason.is_empty() { String::new() } else { format!(": {}", view.reason) };
        let text = format!("sees it otherwise, {}{why}", json::real_server_state(view.state()));
        Fact::new(Bearing::Warn, text).seen_by(&view.node)
    }));
    if server.otherwise.is_empty() && server.state() != RealServerState::Unknown {
        facts.push(Fact::new(Bearing::Note, "no other director that answered sees it otherwise"));
    }
    facts.extend(weights(server, service));
    facts.extend(settings.into_iter().flat_map(few));
    facts.extend(settings.filter(|settings| !settings.slow_start.is_zero()).map(|settings| {
        let time = duration_text(settings.slow_start);
        Fact::new(
            Bearing::Note,
            format!("one that comes up gets its weight within {time} (slow_start)"),
        )
    }));
    let connections =
        format!("it has {} active and {} other connections", server.active, server.inactive);
    facts.push(Fact::new(Bearing::Note, connections).seen_by(&service.seen_by));
    let mut next = Vec::new();
    if server.r#override.is_some() {
        let name = &service.name;
        next.push(format!("quorate realserver enable {} --service {name}", server.address));
    }
    next.push(format!("quorate explain {}", service.group));
    Explanation {
        subject: Subject::RealServer,
        name: server.address.clone(),
        service: Some(service.name.clone()),
        answer: format!("{} in {} {}", server.address, service.name, standing(server)),
        facts,
        next,
    }
}

fn bearing(server: &RealServerStatus) -> Bearing {
    match server.state() {
        RealServerState::Up if server.effective_weight > 0 => Bearing::Ok,
        RealServerState::Up | RealServerState::Draining => Bearing::Warn,
        RealServerState::Unknown | RealServerState::Unspecified => Bearing::Warn,
        RealServerState::Down => Bearing::Bad,
    }
}

/// `is down: connection refused`.
fn standing(server: &RealServerStatus) -> String {
    let state = match server.state() {
        RealServerState::Up => "is up",
        RealServerState::Down => "is down",
        RealServerState::Draining => "drains: it keeps its connections and takes no new one",
        RealServerState::Unknown | RealServerState::Unspecified => "is not known to be up or down",
    };
    if server.reason.is_empty() { state.to_owned() } else { format!("{state}: {}", server.reason) }
}

fn checks(service: &VirtualService, server: &RealServerStatus) -> Fact {
    let Ok(address) = server.address.parse::<SocketAddr>() else {
        return Fact::new(Bearing::Note, "its address can't be read here");
    };
    let sorry = service.sorry_server.is_some_and(|sorry| sorry.address == address);
    let checks = service.checks_of(&address);
    if sorry || checks.is_empty() {
        return Fact::new(Bearing::Note, "it is not checked, and counts as up");
    }
    let own = if service.own_checks.contains_key(&address) { "its own " } else { "" };
    let all = if checks.len() > 1 { ", all of which have to pass" } else { "" };
    Fact::new(Bearing::Note, format!("{own}checks{all}: {}", listed_checks(checks)))
}

fn listed_checks(checks: &[std::sync::Arc<quorate_model::spec::Check>]) -> String {
    checks.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// What it weighs, and who says so.
fn weights(server: &RealServerStatus, service: &ServiceStatus) -> Vec<Fact> {
    let mut facts = Vec::new();
    if let Some(order) = &server.r#override {
        let until = order.until.as_deref().map(|until| format!(" until {until}"));
        let text = format!(
            "{} gave it weight {} since {}{}, in place of {}",
            order.by,
            order.weight,
            order.since,
            until.unwrap_or_default(),
            server.weight
        );
        facts.push(Fact::new(Bearing::Warn, text));
    }
    if let Some(left) = server.leaves_in_s {
        let text =
            format!("it left the configuration; in {left} s it is deleted, connections and all");
        facts.push(Fact::new(Bearing::Warn, text));
    }
    let wanted = format!(
        "weight {} is configured, {} is wanted now",
        server.weight, server.effective_weight
    );
    let (bearing, kernel) = match server.kernel_weight {
        Some(weight) if weight == server.effective_weight => {
            (Bearing::Note, "the kernel has it so".to_owned())
        }
        Some(weight) => (Bearing::Warn, format!("the kernel still has {weight}")),
        None if server.effective_weight == 0 => {
            (Bearing::Note, "the kernel's table does not have it".to_owned())
        }
        None => (Bearing::Warn, "the kernel's table does not have it, or was not read".to_owned()),
    };
    facts.push(Fact::new(bearing, format!("{wanted}; {kernel}")).seen_by(&service.seen_by));
    facts
}
