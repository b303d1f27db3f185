//! `quorate realserver drain|weight|enable`: weights in place of the configured ones. The cluster
//! takes the order at once; the waiting for connections to end is done here, by asking again.

use std::time::Duration;

use quorate_api::v1::{OverriddenServer, OverrideWeightRequest, OverrideWeightResponse};
use serde::Serialize;
use tokio::time::Instant;

use super::{Ended, Scene, read_member_status};
use crate::cli::{Drain, Enable, Meant, Weight};
use crate::client::{Admin, Client, Kind};
use crate::exit::{Exit, Failure};

/// Between two looks at the connections.
const LOOK_EVERY: Duration = Duration::from_millis(500);

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
    let Drain { server, ttl, wait } = arguments;
    let answer = order(&client, server, Some(0), *ttl).await?;
    let Some(wait) = *wait else {
        let text = said(&answer, "drained: no new connection", "It was drained already.");
        scene.output.data(&Ordered::of(&answer, None), |_| text)?;
        return Ok(Exit::Ok);
    };
    let deadline = Instant::now() + wait;
    let mut told = None;
    let left = loop {
        let left = connections(&client, &answer.servers).await?;
        if told != Some(left) && left > 0 {
            scene.output.remark(&format!("{left} connections left"));
        }
        told = Some(left);
        if left == 0 || Instant::now() + LOOK_EVERY >= deadline {
            break left;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    scene.output.data(&Ordered::of(&answer, Some(left)), |_| {
        if left == 0 { said(&answer, "drained: no connection is left", "") } else { String::new() }
    })?;
    if left == 0 {
        return Ok(Exit::Ok);
    }
    let what = format!(
        "{} takes no new connection, and {left} are left after {} s",
        server.server,
        wait.as_secs_f32()
    );
    let hint = format!(
        "wait on with the same command; `quorate realserver enable {}` takes it back",
        server.server
    );
    Err(Failure::new(Exit::Degraded, what).hint(hint))
}

pub(super) async fn weight(scene: &Scene<'_>, arguments: &Weight) -> Ended {
    let Weight { server, weight, ttl } = arguments;
    let answer = order(&scene.cluster()?, server, Some(*weight), *ttl).await?;
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

/// Established connections of these real servers, by what their groups' owners say.
async fn connections(client: &Client, servers: &[OverriddenServer]) -> Result<u64, Failure> {
    let status = read_member_status(client).await?;
    let mut active = 0;
    for meant in servers {
        let service = status.services.iter().find(|service| service.name == meant.service);
        let found = service.map(|s| s.real_servers.as_slice()).unwrap_or_default();
        let found = found.iter().filter(|server| server.address == meant.address);
        active += found.map(|server| server.active).sum::<u64>();
    }
    Ok(active)
}
