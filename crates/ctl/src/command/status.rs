//! `quorate status`: the cluster's health, and waiting for it.

use std::time::Duration;

use jiff::Timestamp;
use quorate_api::v1::{Health, StatusResponse};
use tokio::time::Instant;

use super::{Ended, Scene, read_status};
use crate::cli::Status;
use crate::exit::{Exit, Failure};
use crate::output::{json, table};

/// What to do with a node that belongs to no cluster.
pub(super) const HOW_TO_BECOME_A_MEMBER: &str = "`quorate init --name NAME` makes a new cluster of it; `quorate join TOKEN` joins it to one \
     (`quorate token create` on a member prints the token)";

/// Between two looks while waiting.
const WAIT_INTERVAL: Duration = Duration::from_millis(250);

pub(super) async fn run(scene: &Scene<'_>, arguments: Status) -> Ended {
    let client = scene.cluster()?;
    let deadline = arguments.wait.map(|wait| Instant::now() + wait);
    let status = loop {
        // Only the last look has to show all.
        let mut answer = read_status(&client, arguments.brief || deadline.is_some()).await;
        let Some(deadline) = deadline else { break answer? };
        let ends = |answer: &Result<StatusResponse, Failure>| {
            let settled = answer.as_ref().is_ok_and(is_settled);
            // A daemon that is just starting is worth waiting for too; a wrong call is not.
            let hopeless = answer.as_ref().is_err_and(|failure| failure.exit == Exit::Usage);
            settled || hopeless || Instant::now() + WAIT_INTERVAL >= deadline
        };
        if answer.is_ok() && !arguments.brief && ends(&answer) {
            answer = read_status(&client, false).await;
        }
        if ends(&answer) {
            break answer?;
        }
        tokio::time::sleep(WAIT_INTERVAL).await;
    };
    let settled = is_settled(&status);
    let exit = exit(&status);
    scene.output.data(&json::Status::from(status.clone()), |style| {
        table::status(&status, Timestamp::now(), style)
    })?;
    if !status.member {
        scene.output.message(&format!("next: {HOW_TO_BECOME_A_MEMBER}"));
    }
    match arguments.wait {
        Some(wait) if !settled => Err(not_settled(&status, wait, exit)),
        _ => Ok(exit),
    }
}

fn exit(status: &StatusResponse) -> Exit {
    let health = status.cluster.as_ref().map(|cluster| cluster.health());
    match health.filter(|_| status.member) {
        Some(Health::Ok) => Exit::Ok,
        Some(Health::NoQuorum) => Exit::NoQuorum,
        Some(Health::Degraded | Health::Unspecified) | None => Exit::Degraded,
    }
}

/// Whether there is nothing left to wait for: health is ok and each group's owner holds its lease.
fn is_settled(status: &StatusResponse) -> bool {
    exit(status) == Exit::Ok
        && status.groups.iter().all(|group| {
            group.owner.is_some() && group.lease_remaining_ms.is_some_and(|left| left > 0)
        })
}

fn not_settled(status: &StatusResponse, wait: Duration, exit: Exit) -> Failure {
    let why = table::troubles(status);
    let why = if why.is_empty() { String::new() } else { format!(": {}", why.join(", ")) };
    let exit = if exit == Exit::Ok { Exit::Degraded } else { exit };
    Failure::new(exit, format!("the cluster did not settle within {} s{why}", wait.as_secs_f32()))
}

#[cfg(test)]
mod tests {
    use quorate_api::v1::{ClusterStatus, GroupStatus};

    use super::*;

    fn status(health: Health, lease: Option<u64>) -> StatusResponse {
        let group = GroupStatus {
            name: "web".to_owned(),
            owner: Some("lb1".to_owned()),
            lease_remaining_ms: lease,
            ..GroupStatus::default()
        };
        let cluster = ClusterStatus { health: health.into(), ..ClusterStatus::default() };
        StatusResponse {
            member: true,
            cluster: Some(cluster),
            groups: vec![group],
            ..StatusResponse::default()
        }
    }

    #[test]
    fn the_exit_code_follows_the_health() {
        assert_eq!(exit(&status(Health::Ok, None)), Exit::Ok);
        assert_eq!(exit(&status(Health::Degraded, None)), Exit::Degraded);
        assert_eq!(exit(&status(Health::Unspecified, None)), Exit::Degraded);
        assert_eq!(exit(&status(Health::NoQuorum, None)), Exit::NoQuorum);
        assert_eq!(exit(&StatusResponse::default()), Exit::Degraded);
    }

    #[test]
    fn a_cluster_is_settled_when_every_owner_holds_a_lease() {
        assert!(is_settled(&status(Health::Ok, Some(400))));
        assert!(!is_settled(&status(Health::Ok, Some(0))));
        assert!(!is_settled(&status(Health::Ok, None)));
        assert!(!is_settled(&status(Health::Degraded, Some(400))));
    }
}
