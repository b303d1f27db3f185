//! What changed from one look at the cluster to the next. Pure; `command::watch` looks and prints. Tests:
//! below.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

/// What is never the same twice, and no news: leases as they run, counters, the log's length.
const RESTLESS: [&str; 16] = [
    "lease_remaining_ms",
    "commit_index",
    "answered_by",
    "counters",
    "rates",
    "active",
    "inactive",
    "loss",
    "rtt_ms",
    "running_ms",
    "leaves_in_s",
    "unconfirmed_left_ms",
    "seen_by",
    "sequence",
    "api_version",
    "links",
];
/// By which key an entry of a list is known again, the first that it has.
const NAMES: [&str; 4] = ["name", "address", "node", "to"];

/// Every value that may change, by its place.
pub type Looked = BTreeMap<String, Value>;

/// A value that is not as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Such as `groups.web.owner`.
    pub field: String,
    /// Null: it was not there.
    pub old: Value,
    /// Null: it is there no more.
    pub new: Value,
}

/// The values of a document.
#[must_use]
pub fn looked(document: &Value) -> Looked {
    let mut all = Looked::new();
    flatten(document, "", &mut all);
    all
}

fn flatten(value: &Value, at: &str, all: &mut Looked) {
    let below = |key: &str| if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") };
    match value {
        Value::Object(members) => {
            let calm = members.iter().filter(|(key, _)| !RESTLESS.contains(&key.as_str()));
            for (key, member) in calm {
                flatten(member, &below(key), all);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (index, item) in items.iter().enumerate() {
                let name = NAMES.iter().find_map(|key| item.get(key)?.as_str());
                let name = name.map_or_else(|| index.to_string(), str::to_owned);
                flatten(item, &below(&name), all);
            }
        }
        // A list of words changes as a whole.
        other => drop(all.insert(at.to_owned(), other.clone())),
    }
}

/// What is not as it was, in the order of places.
#[must_use]
pub fn between(before: &Looked, after: &Looked) -> Vec<Change> {
    let gone = before.iter().filter(|(field, _)| !after.contains_key(*field));
    let gone = gone.map(|(field, old)| Change {
        field: field.clone(),
        old: old.clone(),
        new: Value::Null,
    });
    let changed = after.iter().filter_map(|(field, new)| {
        let old = before.get(field).cloned().unwrap_or(Value::Null);
        (old != *new).then(|| Change { field: field.clone(), old, new: new.clone() })
    });
    let mut all: Vec<Change> = gone.chain(changed).collect();
    all.sort_by(|a, b| a.field.cmp(&b.field));
    all
}

/// A change in a line.
#[must_use]
pub fn line(change: &Change) -> String {
    let word = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "\"\"".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    format!("{}: {} -> {}", change.field, word(&change.old), word(&change.new))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(owner: Option<&str>, lease: u64, servers: &[(&str, &str)]) -> Looked {
        let servers: Vec<Value> = servers
            .iter()
            .map(|(address, state)| json!({ "address": address, "state": state, "active": lease }))
            .collect();
        looked(&json!({
            "cluster": { "health": "ok", "commit_index": lease },
            "groups": [{ "name": "web", "owner": owner, "lease_remaining_ms": lease, "standby": ["lb3"] }],
            "services": [{ "name": "shop", "real_servers": servers }],
        }))
    }

    fn lines(before: &Looked, after: &Looked) -> Vec<String> {
        between(before, after).iter().map(line).collect()
    }

    #[test]
    fn what_runs_all_the_time_is_no_news() {
        let servers = [("10.0.0.1:80", "up")];
        let (before, after) =
            (status(Some("lb1"), 430, &servers), status(Some("lb1"), 400, &servers));
        assert_eq!(lines(&before, &after), Vec::<String>::new());
    }

    #[test]
    fn entries_of_lists_are_known_again_by_their_names() {
        let before = status(Some("lb1"), 1, &[("10.0.0.1:80", "up"), ("10.0.0.2:80", "up")]);
        let after = status(None, 2, &[("10.0.0.2:80", "down"), ("10.0.0.3:80", "up")]);
        assert_eq!(
            lines(&before, &after),
            [
                "groups.web.owner: lb1 -> -",
                "services.shop.real_servers.10.0.0.1:80.address: 10.0.0.1:80 -> -",
                "services.shop.real_servers.10.0.0.1:80.state: up -> -",
                "services.shop.real_servers.10.0.0.2:80.state: up -> down",
                "services.shop.real_servers.10.0.0.3:80.address: - -> 10.0.0.3:80",
                "services.shop.real_servers.10.0.0.3:80.state: - -> up",
            ]
        );
    }

    #[test]
    fn everything_is_new_at_the_first_look() {
        let after = status(Some("lb1"), 1, &[]);
        let all = lines(&Looked::new(), &after);
        assert!(all.contains(&"groups.web.owner: - -> lb1".to_owned()), "{all:?}");
        assert!(all.contains(&"groups.web.standby: - -> [\"lb3\"]".to_owned()), "{all:?}");
    }
}
