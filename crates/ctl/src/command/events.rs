//! `quorate events`: what happened, as the node that is asked came to know of it, one line each.

use quorate_api::event::json_line;
use quorate_api::v1::{Event, EventsRequest};
use tonic::Streaming;

use super::{Ended, Scene};
use crate::cli::{Events, Format};
use crate::client::{Admin, Kind};
use crate::exit::{Exit, Failure};

pub(super) async fn run(scene: &Scene<'_>, arguments: &Events) -> Ended {
    let since = arguments.since.map(|since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
    let (after, follow) = (arguments.after, arguments.follow);
    let request = EventsRequest { since_ms: since, after, follow };
    let call = |mut admin: Admin| async move { admin.events(request).await };
    let answer = scene.cluster()?.call(Kind::Read, "read the events", call).await?;
    let (mut stream, endpoint): (Streaming<Event>, _) = (answer.body, answer.endpoint);
    let mut last = after;
    loop {
        let event = match stream.message().await {
            Ok(Some(event)) => event,
            Ok(None) if !follow => return Ok(Exit::Ok),
            Ok(None) => return Err(ended(&endpoint.to_string(), "it ended", last)),
            Err(status) => {
                return Err(ended(&endpoint.to_string(), status.message(), last));
            }
        };
        // What was missed has no place of its own.
        last = if event.sequence > 0 { Some(event.sequence) } else { last };
        let line = match scene.global.format {
            Format::Table | Format::Nagios => line(&event),
            Format::Json => json_line(&event).map_err(|error| {
                Failure::new(Exit::Failed, format!("cannot write JSON: {error}"))
            })?,
        };
        // Whoever reads has seen enough, such as `head`.
        if !scene.output.line(&line)? {
            return Ok(Exit::Ok);
        }
    }
}

fn ended(endpoint: &str, cause: &str, last: Option<u64>) -> Failure {
    let text = format!("no more events come from {endpoint}: {cause}");
    let goes_on = last.map(|last| format!(" --after {last}")).unwrap_or_default();
    Failure::new(Exit::Failed, text).hint(format!("quorate events -f{goes_on}"))
}

/// An event for people: when, what, of what, on whom, why.
fn line(event: &Event) -> String {
    let Event { time, node, kind, group, service, real_server, owner, previous_owner, .. } = event;
    let Event { weight, subject, reason, lost, gap_ms, .. } = event;
    let mut words = vec![format!("{time}  {node}  {kind:<21}")];
    words.extend(subject.clone());
    // A service's name says more than its group's.
    words.extend(service.clone().or_else(|| group.clone()));
    words.extend(real_server.clone());
    if kind == "owner_changed" {
        let before = previous_owner.as_deref().unwrap_or("-");
        words.push(format!("{before} -> {}", owner.as_deref().unwrap_or("-")));
    }
    words.extend(weight.map(|weight| format!("weight {weight}")));
    if kind.starts_with("configuration_") {
        words.push(format!("revision {}", event.revision));
    }
    words.extend(gap_ms.map(|gap| format!("after {gap} ms")));
    words.extend(lost.map(|lost| format!("{lost} events")));
    let line = words.join(" ");
    if reason.is_empty() { line.trim_end().to_owned() } else { format!("{line}  {reason}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_line_that_says_what_of_whom_and_why() {
        let event = |kind: &str| Event {
            time: "14:02:41Z".to_owned(),
            node: "lb2".to_owned(),
            kind: kind.to_owned(),
            group: Some("web".to_owned()),
            owner: Some("lb2".to_owned()),
            reason: "owner silent".to_owned(),
            ..Event::default()
        };
        let moved = Event { previous_owner: Some("lb1".to_owned()), ..event("owner_changed") };
        assert_eq!(
            line(&moved),
            "14:02:41Z  lb2  owner_changed         web lb1 -> lb2  owner silent"
        );
        let down = Event {
            service: Some("shop".to_owned()),
            real_server: Some("10.0.1.13:443".to_owned()),
            reason: "HTTP 503".to_owned(),
            ..event("real_server_down")
        };
        assert_eq!(
            line(&down),
            "14:02:41Z  lb2  real_server_down      shop 10.0.1.13:443  HTTP 503"
        );
    }
}
