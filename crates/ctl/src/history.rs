//! Who owned a group when, and why it moved: made of the events of the nodes that were asked. Pure;
//! `command::history` asks and prints. Tests: below.

use std::collections::BTreeMap;

use quorate_api::v1::Event;
use serde::Serialize;

/// What became of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It was granted: to another director, or anew.
    Granted,
    /// Its owner's lease had run out, and opened again under the same grant.
    Reopened,
}

/// One thing that became of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Move {
    /// What.
    pub kind: Kind,
    /// RFC 3339: when the first of the nodes came to know of it.
    pub time: String,
    /// The group.
    pub group: String,
    /// Who had it before; null where nobody had, or that is not known.
    pub from: Option<String>,
    /// Who got it.
    pub to: Option<String>,
    /// Of the grant.
    pub epoch: u64,
    /// Why.
    pub reason: String,
    /// RFC 3339: when it first served the group; null where it has not, or was not asked.
    pub served: Option<String>,
    /// From the last renewal of the grant before that the new owner heard, or from when itself ceased to
    /// serve, to its first opening, by its own clock; null where it was not asked, or there was none.
    pub gap_ms: Option<u64>,
}

/// What became of groups, the oldest first. Several nodes tell of the same grant; the epoch tells that it is
/// the same.
#[must_use]
pub fn moves(events: &[Event], group: Option<&str>) -> Vec<Move> {
    let of = |event: &&Event| {
        event.epoch.is_some() && group.is_none_or(|group| event.group.as_deref() == Some(group))
    };
    let mut grants: BTreeMap<(&str, u64), Move> = BTreeMap::new();
    for event in events.iter().filter(of).filter(|event| event.kind == "owner_changed") {
        let Some((name, epoch)) = key(event) else { continue };
        let told = grants.entry((name, epoch)).or_insert_with(|| begun(event, name, epoch));
        if event.time < told.time {
            told.time.clone_from(&event.time);
        }
        // A node that had just started does not know who was before.
        told.from = told.from.take().or_else(|| event.previous_owner.clone());
    }
    let mut reopened = Vec::new();
    let mut ups: Vec<&Event> =
        events.iter().filter(of).filter(|event| event.kind == "group_up").collect();
    ups.sort_by_key(|event| (event.node.as_str(), event.sequence));
    for event in ups {
        let Some((name, epoch)) = key(event) else { continue };
        let told = grants.entry((name, epoch)).or_insert_with(|| begun(event, name, epoch));
        if told.served.is_none() {
            told.served = Some(event.time.clone());
            told.gap_ms = event.gap_ms;
            continue;
        }
        reopened.push(Move {
            kind: Kind::Reopened,
            from: event.owner.clone(),
            reason: "its lease had run out, and runs again".to_owned(),
            served: Some(event.time.clone()),
            gap_ms: event.gap_ms,
            ..begun(event, name, epoch)
        });
    }
    let mut all: Vec<Move> = grants.into_values().chain(reopened).collect();
    all.sort_by(|a, b| (&a.time, &a.group, a.epoch).cmp(&(&b.time, &b.group, b.epoch)));
    all
}

fn key(event: &Event) -> Option<(&str, u64)> {
    Some((event.group.as_deref()?, event.epoch?))
}

fn begun(event: &Event, group: &str, epoch: u64) -> Move {
    Move {
        kind: Kind::Granted,
        time: event.time.clone(),
        group: group.to_owned(),
        from: event.previous_owner.clone(),
        to: event.owner.clone(),
        epoch,
        reason: event.reason.clone(),
        served: None,
        gap_ms: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(node: &str, sequence: u64, second: u32, kind: &str, epoch: u64) -> Event {
        Event {
            sequence,
            node: node.to_owned(),
            time: format!("2026-01-02T03:04:{second:02}.000Z"),
            kind: kind.to_owned(),
            group: Some("web".to_owned()),
            epoch: Some(epoch),
            owner: Some("lb2".to_owned()),
            reason: "owner silent".to_owned(),
            ..Event::default()
        }
    }

    fn changed(node: &str, second: u32, epoch: u64) -> Event {
        let previous_owner = Some("lb1".to_owned());
        Event { previous_owner, ..event(node, 1, second, "owner_changed", epoch) }
    }

    #[test]
    fn a_grant_that_several_nodes_tell_of_is_one_move_with_what_its_owner_measured() {
        let up = Event { gap_ms: Some(738), ..event("lb2", 2, 12, "group_up", 17) };
        let events = [changed("lb3", 12, 17), changed("lb2", 11, 17), up];
        let moves = moves(&events, Some("web"));
        assert_eq!(moves.len(), 1, "{moves:#?}");
        let told = &moves[0];
        assert_eq!(told.time, "2026-01-02T03:04:11.000Z");
        assert_eq!((told.from.as_deref(), told.to.as_deref()), (Some("lb1"), Some("lb2")));
        assert_eq!((told.gap_ms, told.epoch), (Some(738), 17));
        assert_eq!(told.served.as_deref(), Some("2026-01-02T03:04:12.000Z"));
    }

    #[test]
    fn a_lease_that_came_back_under_the_same_grant_is_a_row_of_its_own() {
        let again = Event { gap_ms: Some(510), ..event("lb2", 4, 40, "group_up", 17) };
        let events = [
            changed("lb2", 11, 17),
            event("lb2", 2, 12, "group_up", 17),
            event("lb2", 3, 39, "group_down", 17),
            again,
        ];
        let moves = moves(&events, None);
        assert_eq!(
            moves.iter().map(|m| m.kind).collect::<Vec<_>>(),
            [Kind::Granted, Kind::Reopened]
        );
        assert_eq!((moves[1].from.as_deref(), moves[1].gap_ms), (Some("lb2"), Some(510)));
    }

    #[test]
    fn the_oldest_comes_first_and_other_groups_and_kinds_are_left_out() {
        let other = Event { group: Some("db".to_owned()), ..changed("lb1", 1, 3) };
        let down = event("lb1", 5, 2, "real_server_down", 17);
        let events = [changed("lb1", 30, 18), other, changed("lb1", 11, 17), down];
        let epochs = |group| moves(&events, group).iter().map(|m| m.epoch).collect::<Vec<_>>();
        assert_eq!(epochs(Some("web")), [17, 18]);
        assert_eq!(epochs(None), [3, 17, 18]);
        assert_eq!(epochs(Some("wep")), Vec::<u64>::new());
    }
}
