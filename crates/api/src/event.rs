//! An event of `quorate.v1` as one line of JSON: what `quorate events -o json`, the FIFO and a hook's
//! standard input say, so that one program reads all three. Keys are added, never renamed.

use serde::Serialize;

use crate::v1::Event;

/// What every line begins with, as all JSON of `quorate` does.
const API_VERSION: &str = "quorate/v1";

#[derive(Serialize)]
struct Line<'a> {
    api_version: &'static str,
    sequence: u64,
    time: &'a str,
    node: &'a str,
    event: &'a str,
    group: Option<&'a str>,
    service: Option<&'a str>,
    real_server: Option<&'a str>,
    owner: Option<&'a str>,
    previous_owner: Option<&'a str>,
    epoch: Option<u64>,
    revision: u64,
    weight: Option<u32>,
    subject: Option<&'a str>,
    lost: Option<u64>,
    gap_ms: Option<u64>,
    reason: &'a str,
}

/// The event as one line of JSON, without a line break at its end.
///
/// # Errors
///
/// Never for what this can be made of.
pub fn json_line(event: &Event) -> Result<String, serde_json::Error> {
    serde_json::to_string(&Line {
        api_version: API_VERSION,
        sequence: event.sequence,
        time: &event.time,
        node: &event.node,
        event: &event.kind,
        group: event.group.as_deref(),
        service: event.service.as_deref(),
        real_server: event.real_server.as_deref(),
        owner: event.owner.as_deref(),
        previous_owner: event.previous_owner.as_deref(),
        epoch: event.epoch,
        revision: event.revision,
        weight: event.weight,
        subject: event.subject.as_deref(),
        lost: event.lost,
        gap_ms: event.gap_ms,
        reason: &event.reason,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_whose_keys_are_always_there() {
        let event = Event {
            sequence: 7,
            time: "2026-01-02T03:04:05.678Z".to_owned(),
            node: "lb1".to_owned(),
            kind: "real_server_down".to_owned(),
            group: Some("web".to_owned()),
            epoch: Some(9),
            reason: "GET /: status 503\n\"x\"".to_owned(),
            ..Event::default()
        };
        assert_eq!(
            json_line(&event).unwrap(),
            "{\"api_version\":\"quorate/v1\",\"sequence\":7,\"time\":\"2026-01-02T03:04:05.678Z\",\
             \"node\":\"lb1\",\"event\":\"real_server_down\",\"group\":\"web\",\"service\":null,\
             \"real_server\":null,\"owner\":null,\"previous_owner\":null,\"epoch\":9,\"revision\":0,\
             \"weight\":null,\"subject\":null,\"lost\":null,\"gap_ms\":null,\"reason\":\"GET /: status 503\\n\\\"x\\\"\"}"
        );
    }
}
