//! `quorate watch`: looks again and again, and prints what is not as it was.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::{Ended, Scene, member, read_status};
use crate::cli::{Format, Watch, Watched};
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::output::json::{Document, Service, Status};
use crate::watching::{Change, Looked, between, line, looked};

#[derive(Serialize)]
struct Services {
    services: Vec<Service>,
}

#[derive(Serialize)]
struct Changed<'a> {
    time: &'a str,
    changes: &'a [Change],
}

pub(super) async fn run(scene: &Scene<'_>, arguments: &Watch) -> Ended {
    let client = scene.cluster()?;
    let mut before = Looked::new();
    let mut looks = 0_u64;
    let mut silent = false;
    loop {
        match look(&client, arguments.what).await {
            Ok(after) => {
                silent = false;
                let changes = between(&before, &after);
                before = after;
                if !changes.is_empty() && !show(scene, &changes)? {
                    return Ok(Exit::Ok);
                }
            }
            // The first look tells whether it was called rightly; later a node may be away for a while.
            Err(failure) if looks == 0 => return Err(failure),
            Err(failure) => {
                if !silent {
                    scene.output.message(&format!("warning: {}", failure.what));
                }
                silent = true;
            }
        }
        looks += 1;
        if arguments.count.is_some_and(|count| looks >= count) {
            return Ok(Exit::Ok);
        }
        tokio::time::sleep(arguments.interval).await;
    }
}

async fn look(client: &Client, what: Watched) -> Result<Looked, Failure> {
    let status = member(read_status(client, false).await?)?;
    let value = match what {
        Watched::Status => serde_json::to_value(Status::from(status)),
        Watched::Services => {
            let services = status.services.into_iter().map(Service::from).collect();
            serde_json::to_value(Services { services })
        }
    };
    let value: Value = value
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot compare answers: {error}")))?;
    Ok(looked(&value))
}

/// `false` once nobody reads any more.
fn show(scene: &Scene<'_>, changes: &[Change]) -> Result<bool, Failure> {
    let time = Timestamp::now().to_string();
    if scene.global.format == Format::Json {
        let changed = Changed { time: &time, changes };
        let text = serde_json::to_string(&Document::of(&changed))
            .map_err(|error| Failure::new(Exit::Failed, format!("cannot write JSON: {error}")))?;
        return scene.output.line(&text);
    }
    for change in changes {
        if !scene.output.line(&format!("{time}  {}", line(change)))? {
            return Ok(false);
        }
    }
    Ok(true)
}
