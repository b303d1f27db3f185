//! `quorate evacuate|restore`: a director gives its groups away and takes none, or may own groups
//! again. The cluster takes the order at once; the waiting is done here, by asking again.

use std::time::Duration;

use quorate_api::v1::{
    EvacuateRequest, EvacuateResponse, RestoreRequest, StatusResponse, StayingGroup,
};
use serde::Serialize;
use tokio::time::Instant;

use super::confirm::confirm;
use super::{Ended, Scene, read_member_status};
use crate::cli::{Evacuate, Restore};
use crate::client::{Admin, Client, Kind};
use crate::exit::{Exit, Failure};

/// Between two looks at what is left.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// In so many looks, one after the other, a group must be seen staying: a director that has just
/// missed a report is no reason to give up.
const STAYING_LOOKS: u32 = 4;

#[derive(Serialize)]
struct Evacuated<'a> {
    node: &'a str,
    changed: bool,
    moving: &'a [String],
    staying: Vec<Staying<'a>>,
}

#[derive(Serialize)]
struct Staying<'a> {
    group: &'a str,
    reason: &'a str,
}

#[derive(Serialize)]
struct Restored<'a> {
    node: &'a str,
    changed: bool,
}

pub(super) async fn run(scene: &Scene<'_>, arguments: Evacuate) -> Ended {
    let client = scene.cluster()?;
    let Evacuate { node, wait, yes } = arguments;
    if !yes {
        let status = read_member_status(&client).await?;
        confirm(scene.output, yes, &impact(&status, &node)?, "Evacuate it?")?;
    }
    let deadline = Instant::now() + wait;
    let mut answer = ask(&client, &node).await?;
    let changed = answer.changed;
    if !changed {
        scene.output.message(&format!("{node} was evacuated already."));
    }
    let mut told = Vec::new();
    let mut stays = 0;
    loop {
        if answer.moving != told && !answer.moving.is_empty() {
            scene.output.remark(&format!("Moving: {}", answer.moving.join(", ")));
        }
        told.clone_from(&answer.moving);
        stays = if answer.moving.is_empty() { stays + 1 } else { 0 };
        let done = answer.moving.is_empty() && answer.staying.is_empty();
        if done || stays >= STAYING_LOOKS || Instant::now() + LOOK_EVERY >= deadline {
            break;
        }
        tokio::time::sleep(LOOK_EVERY).await;
        answer = ask(&client, &node).await?;
    }
    let staying = answer.staying.iter();
    let evacuated = Evacuated {
        node: &node,
        changed,
        moving: &answer.moving,
        staying: staying.map(|s| Staying { group: &s.group, reason: &s.reason }).collect(),
    };
    let whole = answer.moving.is_empty() && answer.staying.is_empty();
    scene.output.data(&evacuated, |_| {
        if whole {
            format!("{node} owns no group, and takes none until: quorate restore {node}")
        } else {
            String::new()
        }
    })?;
    if whole { Ok(Exit::Ok) } else { Err(unfinished(&node, wait, &answer)) }
}

async fn ask(client: &Client, node: &str) -> Result<EvacuateResponse, Failure> {
    let call = |mut admin: Admin| {
        let request = EvacuateRequest { name: node.to_owned() };
        async move { admin.evacuate(request).await }
    };
    // The same order twice is one.
    Ok(client.call(Kind::Repeatable, &format!("evacuate {node}"), call).await?.body)
}

/// The order holds; what it did not bring about.
fn unfinished(node: &str, wait: Duration, answer: &EvacuateResponse) -> Failure {
    let keeps = |s: &StayingGroup| format!("{} stays ({})", s.group, s.reason);
    let mut left: Vec<String> = answer.staying.iter().map(keeps).collect();
    if !answer.moving.is_empty() {
        let moving = answer.moving.join(", ");
        left.push(format!("{moving} still on the way after {} s", wait.as_secs_f32()));
    }
    let what = format!("{node} is evacuated and takes no group, but {}", left.join("; "));
    let hint = format!(
        "each moves as soon as another director can take it: `quorate status`; `quorate restore \
         {node}` takes the order back"
    );
    Failure::new(Exit::Degraded, what).hint(hint)
}

/// What it does to traffic; nothing where the node owns nothing.
fn impact(status: &StatusResponse, name: &str) -> Result<Vec<String>, Failure> {
    let Some(node) = status.nodes.iter().find(|node| node.name == name) else {
        let known: Vec<_> = status.nodes.iter().map(|node| node.name.as_str()).collect();
        return Err(Failure::new(Exit::Failed, format!("no node is named {name:?}"))
            .hint(format!("there is: {}", known.join(", "))));
    };
    let mut impact = Vec::new();
    for group in status.groups.iter().filter(|group| node.owns.contains(&group.name)) {
        let active = super::active_connections(status, &group.name);
        let to = match group.standby.first() {
            Some(standby) => format!("{name} -> {standby}"),
            None => format!("stays on {name}, nobody else can take it"),
        };
        impact.push(format!("{}: {to}; {active} active connections", group.name));
    }
    Ok(impact)
}

pub(super) async fn restore(scene: &Scene<'_>, arguments: Restore) -> Ended {
    let client = scene.cluster()?;
    let node = arguments.node;
    let call = |mut admin: Admin| {
        let request = RestoreRequest { name: node.clone() };
        async move { admin.restore(request).await }
    };
    let answer = client.call(Kind::Repeatable, &format!("restore {node}"), call).await?.body;
    let restored = Restored { node: &node, changed: answer.changed };
    scene.output.data(&restored, |_| {
        if answer.changed {
            format!(
                "{node} may own groups again: those pinned to it return now, those that prefer it \
                 after their preempt_delay."
            )
        } else {
            format!("{node} was not evacuated.")
        }
    })?;
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_and_what_still_moves_is_named_with_the_reason() {
        let staying = StayingGroup { group: "db".to_owned(), reason: "lb2 is down".to_owned() };
        let answer = EvacuateResponse {
            changed: true,
            moving: vec!["web".to_owned()],
            staying: vec![staying],
        };
        let failure = unfinished("lb1", Duration::from_secs(60), &answer);
        assert_eq!(failure.exit, Exit::Degraded);
        assert_eq!(
            failure.what,
            "lb1 is evacuated and takes no group, but db stays (lb2 is down); web still on the way \
             after 60 s"
        );
    }
}
