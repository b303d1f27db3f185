//! `quorate pause|resume`: whether groups move by themselves.

use quorate_api::v1::{PauseRequest, ResumeRequest};
use serde::Serialize;

use super::{Ended, Scene};
use crate::client::{Admin, Kind};
use crate::exit::Exit;

#[derive(Serialize)]
struct Paused<'a> {
    paused: bool,
    changed: bool,
    paused_by: Option<&'a str>,
    paused_since: Option<&'a str>,
}

pub(super) async fn run(scene: &Scene<'_>) -> Ended {
    let client = scene.cluster()?;
    let call = |mut admin: Admin| async move { admin.pause(PauseRequest {}).await };
    // The same order twice is one.
    let answer = client.call(Kind::Repeatable, "pause the cluster", call).await?.body;
    let (by, since) = (answer.paused_by.as_str(), answer.paused_since.as_str());
    let paused = Paused {
        paused: true,
        changed: answer.changed,
        paused_by: Some(by),
        paused_since: Some(since),
    };
    scene.output.data(&paused, |_| {
        if answer.changed {
            "Paused: no group moves by itself. A dead owner's groups stay down until: quorate resume"
                .to_owned()
        } else {
            format!("It was paused already, by {by} since {since}.")
        }
    })?;
    Ok(Exit::Ok)
}

pub(super) async fn resume(scene: &Scene<'_>) -> Ended {
    let client = scene.cluster()?;
    let call = |mut admin: Admin| async move { admin.resume(ResumeRequest {}).await };
    let answer = client.call(Kind::Repeatable, "resume the cluster", call).await?.body;
    let resumed =
        Paused { paused: false, changed: answer.changed, paused_by: None, paused_since: None };
    scene.output.data(&resumed, |_| {
        if answer.changed {
            "Groups move by themselves again; what was due moves now.".to_owned()
        } else {
            "It was not paused.".to_owned()
        }
    })?;
    Ok(Exit::Ok)
}
