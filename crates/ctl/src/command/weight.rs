//! `quorate realserver drain|weight|enable`: weights in place of the configured ones. The cluster
//! takes the order at once; the waiting for connections to end is done here, by asking again.

use std::net::SocketAddr;
use std::time::Duration;

use quorate_api::v1::{
    OverriddenServer, OverrideWeightRequest, OverrideWeightResponse, RealServerStatus,
    ServiceStatus, StatusResponse,
};
use serde::Serialize;
use tokio::time::Instant;

use super::confirm::confirm;
use super::{Ended, Scene, read_member_status};
use crate::cli::{Drain, Enable, Meant, Weight};
use crate::client::{Admin, Client, Kind};
use crate::exit::{Exit, Failure};

/// Between two looks at the connections.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// So many looks, one after the other, must see nothing left.
const EMPTY_LOOKS: u32 = 3;

#[derive(Serialize)]
struct Ordered<'a> {
    changed: bool,
    servers: Vec<Server<'a>>,
    /// Of a drain that was waited for.
    connections: Option<u64>,
}

#[derive(Serialize)]
struct Server<'a> {
    service: &'a str,
    address: &'a str,
}

impl<'a> Ordered<'a> {
    fn of(answer: &'a OverrideWeightResponse, connections: Option<u64>) -> Self {
        let server = |s: &'a OverriddenServer| Server { service: &s.service, address: &s.address };
        let servers = answer.servers.iter().map(server).collect();
        Self { changed: answer.changed, servers, connections }
    }
}

pub(super) async fn drain(scene: &Scene<'_>, arguments: &Drain) -> Ended {
    let client = scene.cluster()?;
    let Drain { server, ttl, wait, yes } = arguments;
    if let (Some(ttl), Some(wait)) = (ttl, wait)
        && ttl <= wait
    {
        let what = "with this --ttl it takes connections again before --wait is over";
        return Err(Failure::usage(what).hint("give a longer --ttl, or none"));
    }
    ask_first(scene, &client, server, *yes).await?;
    let answer = order(&client, server, Some(0), *ttl).await?;
    let Some(wait) = *wait else {
        let text = said(&answer, "drained: no new connection", "It was drained already.");
        scene.output.data(&Ordered::of(&answer, None), |_| text)?;
        return Ok(Exit::Ok);
    };
    let left = wait_for_end(scene, &client, &answer.servers, wait).await?;
    let ended = left == Some(0);
    scene.output.data(&Ordered::of(&answer, left), |_| {
        let what = "drained: no established connection is left";
        if ended { said(&answer, what, "") } else { String::new() }
    })?;
    if ended {
        return Ok(Exit::Ok);
    }
    let left =
        left.map_or("how many are left is not known".to_owned(), |left| format!("{left} are left"));
    let after = wait.as_secs_f32();
    let what = format!("{} takes no new connection, and {left} after {after} s", server.server);
    let hint = format!(
        "wait on with the same command; `quorate realserver enable {}` takes it back",
        shown(server)
    );
    Err(Failure::new(Exit::Degraded, what).hint(hint))
}

/// Looks until nothing is left, or the time is over; what was left at the last look that told.
async fn wait_for_end(
    scene: &Scene<'_>,
    client: &Client,
    servers: &[OverriddenServer],
    wait: Duration,
) -> Result<Option<u64>, Failure> {
    let deadline = Instant::now() + wait;
    let (mut last, mut told, mut empty) = (None, None, 0);
    loop {
        // Daemons may restart meanwhile: one look that fails says nothing.
        let look = match read_member_status(client).await {
            Ok(status) => left(&status, servers),
            Err(_) => Look::Unknown,
        };
        match look {
            Look::Left(left) => {
                if left > 0 && told != Some(left) {
                    scene.output.remark(&format!("{left} connections left"));
                    told = Some(left);
                }
                last = Some(left);
                empty = if left == 0 { empty + 1 } else { 0 };
            }
            Look::Unknown => (last, empty) = (last.filter(|&left| left > 0), 0),
            Look::Over(server) => {
                let what = format!(
                    "{server} is drained no longer: its time was over, somebody took \
                                    it back, or the configuration does not have it any more"
                );
                return Err(Failure::new(Exit::Failed, what).hint("see: quorate services"));
            }
        }
        // A handshake that was under way with the first of them is a connection with the last.
        if empty >= EMPTY_LOOKS {
            return Ok(Some(0));
        }
        if Instant::now() + LOOK_EVERY >= deadline {
            return Ok(last.filter(|&left| left > 0));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What one look at the status tells of a drain.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    /// So many connections are left on real servers that take no new one.
    Left(u64),
    /// Not all owners said it, or one has not changed its kernel yet.
    Unknown,
    /// This one is not drained any more.
    Over(String),
}

fn left(status: &StatusResponse, servers: &[OverriddenServer]) -> Look {
    let mut all = 0;
    let mut known = true;
    for meant in servers {
        let service = status.services.iter().find(|service| service.name == meant.service);
        let server = service.and_then(|service| {
            service.real_servers.iter().find(|server| server.address == meant.address)
        });
        let (Some(service), Some(server)) = (service, server) else {
            return Look::Over(format!("{} of {}", meant.address, meant.service));
        };
        let owner = status.groups.iter().find(|group| group.name == service.group);
        let owner = owner.and_then(|group| group.owner.as_deref());
        if owner != Some(service.seen_by.as_str()) || server.counters.is_none() {
            known = false;
            continue;
        }
        if server.r#override.as_ref().is_none_or(|to| to.weight > 0) {
            return Look::Over(format!("{} of {}", meant.address, meant.service));
        }
        known &= server.kernel_weight.unwrap_or(0) == 0;
        // IPVS counts no connection of UDP as active (`ip_vs_bind_dest`, ip_vs_conn.c).
        let udp = service.listen.iter().any(|listen| listen.starts_with("udp/"));
        all += server.active + if udp { server.inactive } else { 0 };
    }
    if known { Look::Left(all) } else { Look::Unknown }
}

pub(super) async fn weight(scene: &Scene<'_>, arguments: &Weight) -> Ended {
    let Weight { server, weight, ttl, yes } = arguments;
    let client = scene.cluster()?;
    if *weight == 0 {
        ask_first(scene, &client, server, *yes).await?;
    }
    let answer = order(&client, server, Some(*weight), *ttl).await?;
    let text = said(&answer, &format!("weight {weight}"), "It had this weight already.");
    scene.output.data(&Ordered::of(&answer, None), |_| text)?;
    Ok(Exit::Ok)
}

pub(super) async fn enable(scene: &Scene<'_>, arguments: &Enable) -> Ended {
    let answer = order(&scene.cluster()?, &arguments.server, None, None).await?;
    let text = said(&answer, "as configured", "It was as configured already.");
    scene.output.data(&Ordered::of(&answer, None), |_| text)?;
    Ok(Exit::Ok)
}

/// Asks where a service would be left without a real server that takes connections.
async fn ask_first(
    scene: &Scene<'_>,
    client: &Client,
    meant: &Meant,
    yes: bool,
) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    confirm(scene.output, yes, &impact(&read_member_status(client).await?, meant), "Drain it?")
}

fn impact(status: &StatusResponse, meant: &Meant) -> Vec<String> {
    let is_meant = |server: &RealServerStatus| {
        let same_ip = |at: &SocketAddr| meant.server.parse() == Ok(at.ip());
        server.address == meant.server || server.address.parse().is_ok_and(|at| same_ip(&at))
    };
    let takes = |server: &&RealServerStatus| server.effective_weight > 0 && !is_meant(server);
    let of_service = |s: &&ServiceStatus| meant.service.as_ref().is_none_or(|name| *name == s.name);
    let emptied = |service: &&ServiceStatus| {
        let drains = |s: &RealServerStatus| is_meant(s) && s.effective_weight > 0;
        service.real_servers.iter().any(drains) && service.real_servers.iter().find(takes).is_none()
    };
    let line = |service: &ServiceStatus| match &service.sorry_server {
        Some(sorry) => format!("{}: its sorry server {} answers then", service.name, sorry.address),
        None => format!("{}: no real server is left that takes connections", service.name),
    };
    status.services.iter().filter(of_service).filter(emptied).map(line).collect()
}

/// Which real servers, as the arguments of another command.
fn shown(meant: &Meant) -> String {
    match &meant.service {
        Some(service) => format!("{} --service {service}", meant.server),
        None => meant.server.clone(),
    }
}

async fn order(
    client: &Client,
    meant: &Meant,
    weight: Option<u32>,
    ttl: Option<Duration>,
) -> Result<OverrideWeightResponse, Failure> {
    let ttl_ms = ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
    let request = OverrideWeightRequest {
        server: meant.server.clone(),
        service: meant.service.clone().unwrap_or_default(),
        weight,
        ttl_ms,
    };
    let call = |mut admin: Admin| {
        let request = request.clone();
        async move { admin.override_weight(request).await }
    };
    // The same order twice is one.
    let what = format!("order the weight of {}", meant.server);
    Ok(client.call(Kind::Repeatable, &what, call).await?.body)
}

/// One line for each real server, or that there was nothing to do.
fn said(answer: &OverrideWeightResponse, what: &str, already: &str) -> String {
    if !answer.changed && !already.is_empty() {
        return already.to_owned();
    }
    let line = |s: &OverriddenServer| format!("{} {}: {what}", s.service, s.address);
    answer.servers.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use quorate_api::v1::{Counters, GroupStatus, Override};

    use super::*;

    fn meant() -> Vec<OverriddenServer> {
        vec![OverriddenServer { service: "web".to_owned(), address: "192.0.2.16:80".to_owned() }]
    }

    /// web, owned by lb1, which says of its one real server, drained, that so many are left.
    fn status(active: u64) -> StatusResponse {
        let server = RealServerStatus {
            address: "192.0.2.16:80".to_owned(),
            active,
            inactive: 7,
            kernel_weight: Some(0),
            counters: Some(Counters::default()),
            r#override: Some(Override::default()),
            ..RealServerStatus::default()
        };
        let service = ServiceStatus {
            name: "web".to_owned(),
            group: "g".to_owned(),
            listen: vec!["tcp/192.0.2.80:80".to_owned()],
            real_servers: vec![server],
            seen_by: "lb1".to_owned(),
            ..ServiceStatus::default()
        };
        let owner = Some("lb1".to_owned());
        let group = GroupStatus { name: "g".to_owned(), owner, ..GroupStatus::default() };
        StatusResponse { services: vec![service], groups: vec![group], ..Default::default() }
    }

    fn seen(change: impl FnOnce(&mut StatusResponse, usize)) -> Look {
        let mut status = status(0);
        change(&mut status, 0);
        left(&status, &meant())
    }

    #[test]
    fn nothing_is_left_only_where_the_owner_says_so_with_weight_0_in_its_kernel() {
        assert_eq!(left(&status(0), &meant()), Look::Left(0));
        assert_eq!(left(&status(5), &meant()), Look::Left(5));
        assert_eq!(seen(|s, n| s.services[n].seen_by = "lb2".to_owned()), Look::Unknown);
        assert_eq!(seen(|s, n| s.groups[n].owner = None), Look::Unknown);
        assert_eq!(seen(|s, n| s.services[n].real_servers[n].counters = None), Look::Unknown);
        let weight = |s: &mut StatusResponse, n: usize| {
            s.services[n].real_servers[n].kernel_weight = Some(1);
        };
        assert_eq!(seen(weight), Look::Unknown);
        // Out of the table it takes none, either.
        assert_eq!(seen(|s, n| s.services[n].real_servers[n].kernel_weight = None), Look::Left(0));
    }

    #[test]
    fn connections_of_udp_are_those_that_are_not_active() {
        let udp = vec!["udp/192.0.2.80:80".to_owned()];
        assert_eq!(seen(|s, n| s.services[n].listen = udp), Look::Left(7));
    }

    #[test]
    fn a_drain_that_was_taken_back_is_not_waited_for() {
        let over = Look::Over("192.0.2.16:80 of web".to_owned());
        assert_eq!(seen(|s, n| s.services[n].real_servers[n].r#override = None), over);
        assert_eq!(seen(|s, n| s.services[n].real_servers.clear()), over);
        assert_eq!(seen(|s, _| s.services.clear()), over);
    }
}
