//! The configuration's JSON Schema (draft 2020-12), for editors and generators.
//!
//! Its keys, which of them are required and what they default to come from the lists that the parser
//! goes by (`keys`); only the form of each value stands here. It takes whatever the parser takes, and is
//! looser: that a name exists or a port is free, the parser alone says. Tests: `tests/schema.rs`.

use serde_json::{Map, Value, json};

use super::keys;
use super::routing::ACTIONS;
use super::{
    ARBITRATION_MAX, CHECK_RETRY_MAX, CHECK_STEPS_MAX, LISTEN_MAX, NODES_NAMED_MAX, ROUTE_MTU,
    ROUTING_MAX, TRACK_STEPS_MAX,
};
use crate::id::NAME_BYTES_MAX;
use crate::occurrence::HOOK_KINDS;
use crate::routing::{ROUTE_KINDS, ROUTE_SCOPES};
use crate::spec::document::{Presence, TableKeys};
use crate::spec::{DNS_RECORDS, RCODES, SCHEDULERS, WEIGHT_MAX};

const FORWARDS: [&str; 3] = ["DR", "NAT", "TUN"];

/// The schema of a document that the parser takes. `page` is the reference page, whose words on each key
/// become its description.
#[must_use]
pub fn json_schema(page: &str) -> Value {
    let mut definitions = Map::new();
    definitions.insert("name".to_owned(), name_form());
    let duration = "a number with a unit: 500ms, 1.5s, 50s, 1m, 1h";
    definitions.insert(
        "duration".to_owned(),
        json!({ "type": "string", "pattern": "^[0-9]+([.][0-9]+)?(ms|s|m|h)$", "description": duration }),
    );
    for table in keys::TABLES.iter().filter(|table| table.title != keys::ROOT.title) {
        definitions.insert(definition(table), table_form(table, page));
    }
    let mut root = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Quorate: the cluster's configuration",
    });
    if let (Some(root), Value::Object(form)) = (root.as_object_mut(), table_form(&keys::ROOT, page))
    {
        root.extend(form);
        root.insert("$defs".to_owned(), Value::Object(definitions));
    }
    root
}

fn name_form() -> Value {
    let inner = NAME_BYTES_MAX - 2;
    json!({
        "type": "string",
        "pattern": format!("^[A-Za-z0-9]([A-Za-z0-9._-]{{0,{inner}}}[A-Za-z0-9])?$"),
        "description": "1 to 63 of a-z, A-Z, 0-9, inside also - _ .",
    })
}

/// `[group.NAME]` is `group`, `address of a group` is `address_of_a_group`.
fn definition(table: &TableKeys) -> String {
    let bare = table.title.trim_matches(['[', ']']).trim_end_matches(".NAME");
    bare.replace(' ', "_")
}

fn table_form(table: &TableKeys, page: &str) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for key in table.keys {
        // A key without a form takes anything; a test sees that there is none.
        let mut form = form(table, key.name).unwrap_or_else(|| json!({}));
        if let Some(form) = form.as_object_mut() {
            if let Some(said) = said(page, table.title, key.name) {
                form.insert("description".to_owned(), said.into());
            }
            match key.presence {
                Presence::Required => required.push(key.name),
                // The notations agree on what defaults are written in.
                Presence::Default(text) => {
                    let value = serde_json::from_str(text).unwrap_or(Value::Null);
                    form.insert("default".to_owned(), value);
                }
                Presence::Optional => {}
            }
        }
        properties.insert(key.name.to_owned(), form);
    }
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

/// What the page says of a key: its type and its meaning.
fn said(page: &str, title: &str, key: &str) -> Option<String> {
    let (_, section) = page.split_once(&format!("\n### {title}\n"))?;
    let section = section.split("\n## ").next()?.split("\n### ").next()?;
    let row = section.lines().find(|line| line.starts_with(&format!("| `{key}` | ")))?;
    let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
    let [_, kind, _, meaning] = cells[..] else { return None };
    Some(format!("{kind}: {meaning}"))
}

fn text() -> Value {
    json!({ "type": "string" })
}

fn matching(pattern: &str) -> Value {
    json!({ "type": "string", "pattern": pattern })
}

fn name() -> Value {
    json!({ "$ref": "#/$defs/name" })
}

fn duration() -> Value {
    json!({ "$ref": "#/$defs/duration" })
}

fn flag() -> Value {
    json!({ "type": "boolean" })
}

fn integer(low: u32, high: u32) -> Value {
    json!({ "type": "integer", "minimum": low, "maximum": high })
}

fn words<'w>(words: impl IntoIterator<Item = &'w str>) -> Value {
    json!({ "enum": words.into_iter().collect::<Vec<_>>() })
}

fn table(table: &TableKeys) -> Value {
    json!({ "$ref": format!("#/$defs/{}", definition(table)) })
}

/// Tables by name.
fn named(of: &TableKeys) -> Value {
    json!({ "type": "object", "propertyNames": name(), "additionalProperties": table(of) })
}

fn list(items: Value, least: usize, most: usize) -> Value {
    json!({ "type": "array", "items": items, "minItems": least, "maxItems": most })
}

fn any_list(items: Value) -> Value {
    json!({ "type": "array", "items": items })
}

fn any(forms: impl Into<Vec<Value>>) -> Value {
    json!({ "anyOf": forms.into() })
}

fn one_or_list(form: Value) -> Value {
    any([form.clone(), any_list(form)])
}

fn checks() -> Value {
    one_or_list(any([name(), table(&keys::CHECK)]))
}

fn tunnel() -> Value {
    any([words(["ipip", "gre"]), table(&keys::TUNNEL)])
}

fn real_servers() -> Value {
    any_list(table(&keys::REAL_SERVER))
}

fn form(of: &TableKeys, key: &str) -> Option<Value> {
    match of.title {
        "cluster configuration" => root(key),
        "[cluster]" => cluster(key),
        "timing" => Some(duration()),
        "timeouts" => Some(duration()),
        "sync" => sync(key),
        "[group.NAME]" => group(key),
        "address of a group" => match key {
            "address" => Some(text()),
            "interface" => Some(name()),
            _ => None,
        },
        "route of a group" => route(key),
        "rule of a group" => rule(key),
        "[service.NAME]" => service(key),
        "scheduler" => Some(matching("^[a-z0-9_-]{1,15}$")),
        "persistence" => match key {
            "timeout" => Some(duration()),
            "netmask" => Some(text()),
            "prefix" => Some(integer(1, 128)),
            "engine" => Some(words(["sip"])),
            _ => None,
        },
        "real server" => real_server(key),
        "tunnel" => match key {
            "type" => Some(words(["ipip", "gue", "gre"])),
            "port" => Some(integer(1, u32::from(u16::MAX))),
            "checksum" => Some(words(["none", "full", "remote"])),
            _ => None,
        },
        "[pool.NAME]" => Some(real_servers()),
        "[check.NAME]" => check(key).or_else(|| url(key)),
        "urls" => url(key),
        "damp" => match key {
            "flaps" => Some(integer(1, 20)),
            "within" | "hold" => Some(duration()),
            _ => None,
        },
        "[track.NAME]" => track(key),
        "[hook.NAME]" => hook(key),
        _ => None,
    }
}

fn root(key: &str) -> Option<Value> {
    Some(match key {
        "cluster" => table(&keys::CLUSTER),
        "group" => named(&keys::GROUP),
        "service" => named(&keys::SERVICE),
        "check" => named(&keys::CHECK),
        "pool" => named(&keys::POOL),
        "track" => named(&keys::TRACK),
        "hook" => named(&keys::HOOK),
        _ => return None,
    })
}

fn cluster(key: &str) -> Option<Value> {
    Some(match key {
        "timing" => any([words(["fast", "lan", "wan"]), table(&keys::TIMING)]),
        "arbitration" => list(text(), 0, ARBITRATION_MAX),
        "timeouts" => table(&keys::TIMEOUTS),
        "sync" => table(&keys::SYNC),
        "sync_warmup" => duration(),
        "foreign_services" => words(["keep", "remove"]),
        _ => return None,
    })
}

fn sync(key: &str) -> Option<Value> {
    Some(match key {
        "link" | "group" => text(),
        "id" | "ttl" => integer(1, 255),
        "port" => integer(1, u32::from(u16::MAX)),
        "maxlen" => integer(1_024, 65_487),
        "refresh" => duration(),
        "retries" => integer(0, 3),
        _ => return None,
    })
}

fn group(key: &str) -> Option<Value> {
    Some(match key {
        "interface" => name(),
        "addresses" => {
            let item = any([text(), table(&keys::ADDRESS)]);
            json!({ "type": "array", "items": item, "minItems": 1 })
        }
        "prefer" | "only" => list(name(), 0, NODES_NAMED_MAX),
        "preempt" | "evacuate_on_disagreement" => flag(),
        "preempt_delay" | "disagreement_delay" => duration(),
        "arbitration" => list(text(), 0, ARBITRATION_MAX),
        "track" => one_or_list(name()),
        "routes" => list(table(&keys::ROUTE), 0, ROUTING_MAX),
        "rules" => list(table(&keys::RULE), 0, ROUTING_MAX),
        _ => return None,
    })
}

fn route(key: &str) -> Option<Value> {
    Some(match key {
        "to" | "via" | "source" => text(),
        "type" => words(ROUTE_KINDS.map(|(word, _)| word)),
        "interface" => name(),
        "table" => integer(1, u32::MAX),
        "metric" => integer(0, u32::MAX),
        "scope" => words(ROUTE_SCOPES.map(|(word, _)| word)),
        "mtu" => integer(ROUTE_MTU.0, ROUTE_MTU.2),
        _ => return None,
    })
}

fn rule(key: &str) -> Option<Value> {
    Some(match key {
        "priority" | "mark" | "mask" | "table" => integer(1, u32::MAX),
        "not" => flag(),
        "from" | "to" => text(),
        "incoming" | "outgoing" => name(),
        "action" => words(ACTIONS.map(|(word, _)| word)),
        _ => return None,
    })
}

fn service(key: &str) -> Option<Value> {
    Some(match key {
        "group" | "pool" => name(),
        "listen" => {
            let listen = matching("^(tcp|udp|sctp)/.+:[0-9]+(-[0-9]+)?$");
            any([listen.clone(), list(listen, 1, LISTEN_MAX)])
        }
        "mark" => integer(1, u32::MAX),
        "scheduler" => any([words(SCHEDULERS), table(&keys::SCHEDULER)]),
        "flags" => one_or_list(words([
            "fallback",
            "port",
            "sh-fallback",
            "sh-port",
            "mh-fallback",
            "mh-port",
            "flag-1",
            "flag-2",
            "flag-3",
        ])),
        "one_packet" | "inhibit" => flag(),
        "forward" => words(FORWARDS),
        "tunnel" => tunnel(),
        "persistence" => any([duration(), table(&keys::PERSISTENCE)]),
        "check" => checks(),
        "quorum" => integer(1, super::probing::QUORUM_MAX),
        "hysteresis" => integer(0, super::probing::QUORUM_MAX),
        "min_up" => integer(0, u32::from(u16::MAX)),
        "slow_start" | "drain" => duration(),
        "real_servers" => real_servers(),
        "sorry_server" => any([text(), table(&keys::REAL_SERVER)]),
        _ => return None,
    })
}

fn real_server(key: &str) -> Option<Value> {
    Some(match key {
        "address" => text(),
        "weight" => integer(0, WEIGHT_MAX),
        "forward" => words(FORWARDS),
        "tunnel" => tunnel(),
        "check" => checks(),
        "upper_threshold" | "lower_threshold" => integer(0, super::ipvs::CONNECTIONS_MAX),
        _ => return None,
    })
}

fn check(key: &str) -> Option<Value> {
    Some(match key {
        "type" => words(super::check::TYPES.map(|(word, _)| word)),
        "via" => words(["direct", "forwarding"]),
        "address" | "source" | "ca" | "certificate" | "key" | "payload" | "name" | "helo"
        | "user" | "service" | "sni" => text(),
        "port" | "source_port" => integer(1, u32::from(u16::MAX)),
        "interface" => name(),
        "mark" => integer(1, u32::MAX),
        "interval" | "warmup" | "timeout" | "retry_delay" => duration(),
        "retry" => integer(0, CHECK_RETRY_MAX),
        "rise" | "fall" => integer(1, CHECK_STEPS_MAX),
        "start" => words(["up", "down"]),
        "damp" => table(&keys::DAMP),
        "version" => words(["1.0", "1.1"]),
        "urls" => any_list(table(&keys::URL)),
        "tls" | "verify" | "dynamic" => flag(),
        "reply" => any([flag(), text()]),
        "reply_min" | "reply_max" => integer(0, u32::from(u16::MAX)),
        "record" => words(DNS_RECORDS.map(|(word, _)| word)),
        "rcode" => one_or_list(words(RCODES.map(|(word, _)| word))),
        "command" => any_list(text()),
        _ => return None,
    })
}

fn url(key: &str) -> Option<Value> {
    Some(match key {
        "method" => words(["GET", "HEAD", "OPTIONS"]),
        "path" | "host" | "body" | "body_absent" => text(),
        "status" => {
            let range = matching("^ *[0-9]{3} *(- *[0-9]{3} *)?$");
            one_or_list(any([integer(100, 999), range]))
        }
        "sha256" => matching("^[0-9A-Fa-f]{64}$"),
        "md5" => matching("^[0-9A-Fa-f]{32}$"),
        _ => return None,
    })
}

fn track(key: &str) -> Option<Value> {
    Some(match key {
        "type" => words(super::track::TYPES.map(|(word, _)| word)),
        "command" => any_list(text()),
        "user" | "name" | "path" | "content" => text(),
        "exists" => flag(),
        "interface" => name(),
        "interval" | "timeout" => duration(),
        "rise" | "fall" => integer(1, TRACK_STEPS_MAX),
        _ => return None,
    })
}

fn hook(key: &str) -> Option<Value> {
    Some(match key {
        "on" => one_or_list(words(HOOK_KINDS.map(|(word, _)| word))),
        "command" => any_list(text()),
        "user" => text(),
        "timeout" => duration(),
        "groups" | "services" => one_or_list(name()),
        "run_on" => words(["owner", "all"]),
        _ => return None,
    })
}
