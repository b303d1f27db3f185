//! `quorate transfer`: moves a VIP group and pins it, or unpins it.

use quorate_api::v1::{StatusResponse, TransferRequest, TransferResponse};
use serde::Serialize;

use super::confirm::confirm;
use super::{Ended, Scene, read_member_status};
use crate::cli::Transfer;
use crate::client::{Admin, Kind};
use crate::exit::{Exit, Failure};

#[derive(Serialize)]
struct Transferred<'a> {
    group: &'a str,
    owner: &'a str,
    epoch: u64,
    changed: bool,
}

pub(super) async fn run(scene: &Scene<'_>, arguments: Transfer) -> Ended {
    let client = scene.cluster()?;
    let Transfer { group, to, auto, yes } = arguments;
    // Unpinning takes nothing away by itself; a move is shown first.
    if !auto && !yes {
        let status = read_member_status(&client).await?;
        let impact = impact(&status, &group, to.as_deref())?;
        confirm(scene.output, yes, &impact, "Move it?")?;
    }
    let request =
        TransferRequest { group: group.clone(), to: to.clone().unwrap_or_default(), auto };
    let call = |mut admin: Admin| {
        let request = request.clone();
        async move { admin.transfer(request).await }
    };
    let what = format!("transfer group {group}");
    let answer = client.call(Kind::Once, &what, call).await?.body;
    let transferred = Transferred {
        group: &group,
        owner: &answer.owner,
        epoch: answer.epoch,
        changed: answer.changed,
    };
    scene.output.data(&transferred, |_| told(&group, auto, &answer))?;
    Ok(Exit::Ok)
}

fn told(group: &str, auto: bool, answer: &TransferResponse) -> String {
    let owner = if answer.owner.is_empty() { "nobody" } else { &answer.owner };
    match (auto, answer.changed) {
        (true, true) => format!("{group} is placed automatically again; its owner is {owner}."),
        (true, false) => format!("{group} was not pinned; its owner is {owner}."),
        (false, true) => format!(
            "{group} is with {owner} now (epoch {}), and stays there until {owner} fails or you \
             run: quorate transfer {group} --auto",
            answer.epoch
        ),
        (false, false) => format!("{group} is with {owner} already."),
    }
}

/// What the move does; none where the group is there already.
fn impact(status: &StatusResponse, group: &str, to: Option<&str>) -> Result<Vec<String>, Failure> {
    let Some(found) = status.groups.iter().find(|known| known.name == group) else {
        let known: Vec<_> = status.groups.iter().map(|group| group.name.as_str()).collect();
        return Err(Failure::new(Exit::Failed, format!("no group is named {group:?}"))
            .hint(format!("there is: {}", known.join(", "))));
    };
    let owner = found.owner.as_deref();
    if owner.is_some() && owner == to {
        return Ok(Vec::new());
    }
    let active = super::active_connections(status, group);
    let to = to.unwrap_or("the best other director");
    let from = owner.unwrap_or("nobody");
    Ok(vec![format!("{group}: {from} -> {to}; {active} active connections")])
}

#[cfg(test)]
mod tests {
    use quorate_api::v1::GroupStatus;

    use super::*;

    #[test]
    fn a_move_to_the_owner_takes_nothing_away() {
        let group = GroupStatus {
            name: "web".to_owned(),
            owner: Some("lb1".to_owned()),
            ..GroupStatus::default()
        };
        let status = StatusResponse { groups: vec![group], ..StatusResponse::default() };
        assert_eq!(impact(&status, "web", Some("lb1")), Ok(Vec::new()));
        assert_eq!(impact(&status, "web", Some("lb2")).map(|lines| lines.len()), Ok(1));
        assert_eq!(impact(&status, "web", None).map(|lines| lines.len()), Ok(1));
        assert_eq!(impact(&status, "wep", None).map_err(|failure| failure.exit), Err(Exit::Failed));
    }
}
