//! `quorate history`: asks every endpoint for its events, and shows what became of groups.

use std::time::Duration;

use quorate_api::v1::{Event, EventsRequest};
use serde::Serialize;
use tonic::Streaming;

use super::{Ended, Scene};
use crate::cli::History;
use crate::client::Admin;
use crate::exit::Exit;
use crate::history::{Kind, Move, moves};
use crate::output::table;

/// Most events that are taken of one node: more than any keeps.
const EVENTS_MAX: usize = 20_000;
/// How long a node may take to tell them.
const TELLING: Duration = Duration::from_secs(10);

#[derive(Serialize)]
struct Shown {
    moves: Vec<Move>,
    /// The nodes whose events these are.
    told_by: Vec<String>,
}

pub(super) async fn run(scene: &Scene<'_>, arguments: &History) -> Ended {
    let since_ms = arguments.since.map(|s| u64::try_from(s.as_millis()).unwrap_or(u64::MAX));
    let request = EventsRequest { since_ms, after: None, follow: false };
    let call = |mut admin: Admin| async move { admin.events(request).await };
    let (answers, silent) = scene.cluster()?.each("read the events", call).await?;
    let limit = scene.global.timeout.unwrap_or(TELLING);
    let mut events = Vec::new();
    for answer in answers {
        let told = tokio::time::timeout(limit, drain(answer.body, &mut events)).await;
        let endpoint = answer.endpoint;
        let why = match told {
            Ok(Ok(())) => continue,
            Ok(Err(status)) => status.message().to_owned(),
            Err(_) => format!("it did not end within {} s", limit.as_secs_f32()),
        };
        scene.output.message(&format!("warning: not all events of {endpoint} were read: {why}"));
    }
    for tried in &silent {
        scene
            .output
            .message(&format!("warning: {} did not answer: {}", tried.endpoint, tried.cause));
    }
    let mut told_by: Vec<String> = events.iter().map(|event| event.node.clone()).collect();
    told_by.sort();
    told_by.dedup();
    let shown = Shown { moves: moves(&events, arguments.group.as_deref()), told_by };
    if shown.moves.is_empty() {
        let of = arguments.group.as_deref().map(|group| format!(" of {group}")).unwrap_or_default();
        scene
            .output
            .remark(&format!("No move{of} stands in the events of the nodes that were asked."));
    } else if shown.moves.iter().any(|step| step.gap_ms.is_none() && step.from.is_some()) {
        scene.output.remark(
            "A gap is known to the director that took over: name every node with --endpoint.",
        );
    }
    scene.output.data(&shown, |_| text(&shown.moves))?;
    Ok(Exit::Ok)
}

/// Takes what a node tells, to its end or to the limit.
async fn drain(mut stream: Streaming<Event>, events: &mut Vec<Event>) -> Result<(), tonic::Status> {
    let before = events.len();
    while let Some(event) = stream.message().await? {
        events.push(event);
        if events.len() - before >= EVENTS_MAX {
            break;
        }
    }
    Ok(())
}

fn text(moves: &[Move]) -> String {
    if moves.is_empty() {
        return String::new();
    }
    let or = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let rows: Vec<Vec<String>> = moves
        .iter()
        .map(|step| {
            let gap = step.gap_ms.map_or_else(|| "-".to_owned(), |gap| format!("{gap}ms"));
            let to = match step.kind {
                Kind::Granted => or(&step.to),
                Kind::Reopened => format!("{} again", or(&step.to)),
            };
            vec![
                step.time.clone(),
                step.group.clone(),
                or(&step.from),
                to,
                step.epoch.to_string(),
                gap,
                step.reason.clone(),
            ]
        })
        .collect();
    table::plain(&["TIME", "GROUP", "FROM", "TO", "EPOCH", "GAP", "REASON"], &rows)
}
