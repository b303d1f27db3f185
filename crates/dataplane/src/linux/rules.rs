//! What Quorate has the packet filter do: a table of nftables that is ours alone, replaced as a whole
//! by `nft -f`, in one transaction (nft(8)).
//!
//! Firewall marks: one map for each family tells the mark of an address, protocol and port, so that a
//! packet costs one look whatever the number of services. Quorate's fence covers the same addresses:
//! a packet that it drops at tc gets here never. And sync messages: those of no member are dropped,
//! since the kernel's daemons believe whatever reaches their multicast group.
//!
//! Tests: below for the text; the contract suite on the kernel.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::num::NonZeroU32;

use quorate_model::kernel::{MarkRule, MarkRules, PacketRules};
use quorate_model::spec::Protocol;
use quorate_model::sync::SyncFilter;
use serde_json::Value;

use super::nft::{list, nft};
use crate::error::{DataplaneError, Operation};

/// The table, of family inet.
const TABLE: &str = "quorate";
const CHAIN: &str = "prerouting";
/// After `mangle` (-150), before `dstnat` (-100): ours is the last word on a VIP's packets.
const PRIORITY: i64 = -149;
/// Whose sync messages are heeded.
const MEMBERS: &str = "sync_members";
const SYNC_CHAIN: &str = "input";
/// Just before `filter` (0): what others do there is theirs.
const SYNC_PRIORITY: i64 = -1;

/// What stands; `None` where that is something else than ours.
pub(super) fn read() -> Result<Option<PacketRules>, DataplaneError> {
    let doing = || Operation::ReadRules;
    match list(TABLE, doing)? {
        Some(answer) => Ok(parse(&answer)),
        None => Ok(Some(PacketRules::default())),
    }
}

/// Makes it exactly this.
pub(super) fn set(rules: &PacketRules) -> Result<(), DataplaneError> {
    let doing = || Operation::SetRules(rules.marks.len());
    nft(&["-f", "-"], Some(script(rules)), doing).map(drop)
}

/// One transaction: the table goes and comes with what it shall hold. It is made first, since only
/// nft 1.0.7 knows `destroy`.
fn script(rules: &PacketRules) -> String {
    let mut text = format!("table inet {TABLE}\ndelete table inet {TABLE}\n");
    if rules.is_empty() {
        return text;
    }
    text.push_str(&format!("table inet {TABLE} {{\n"));
    if !rules.marks.is_empty() {
        marks(&mut text, &rules.marks);
    }
    if let Some(filter) = &rules.sync {
        sync(&mut text, filter);
    }
    text.push_str("}\n");
    text
}

fn marks(text: &mut String, rules: &MarkRules) {
    for (map, kind, of) in MAPS {
        let elements: Vec<String> =
            rules.iter().filter(|rule| rule.address.is_ipv4() == of).map(element).collect();
        let _ = writeln!(
            text,
            "  map {map} {{\n    type {kind} . inet_proto . inet_service : mark; flags interval;"
        );
        if !elements.is_empty() {
            let _ = writeln!(text, "    elements = {{ {} }}", elements.join(",\n      "));
        }
        text.push_str("  }\n");
    }
    let _ = writeln!(
        text,
        "  chain {CHAIN} {{\n    type filter hook prerouting priority {PRIORITY}; policy accept;"
    );
    for (map, kind, _) in MAPS {
        let header = if kind == "ipv4_addr" { "ip" } else { "ip6" };
        let _ = writeln!(
            text,
            "    meta l4proto {{ tcp, udp, sctp }} meta mark set {header} daddr . meta l4proto . th \
             dport map @{map}"
        );
    }
    text.push_str("  }\n");
}

fn sync(text: &mut String, filter: &SyncFilter) {
    let SyncFilter { group, port, members } = filter;
    let (kind, header) = if group.is_ipv4() { ("ipv4_addr", "ip") } else { ("ipv6_addr", "ip6") };
    let members: Vec<String> = members.iter().map(ToString::to_string).collect();
    let _ = writeln!(
        text,
        "  set {MEMBERS} {{\n    type {kind};\n    elements = {{ {} }}\n  }}\n  chain {SYNC_CHAIN} {{\n    \
         type filter hook input priority {SYNC_PRIORITY}; policy accept;\n    {header} daddr {group} \
         udp dport {port} {header} saddr != @{MEMBERS} drop\n  }}",
        members.join(", ")
    );
}

/// Each map with the type of its addresses, and whether that is IPv4.
const MAPS: [(&str, &str, bool); 2] = [("ipv4", "ipv4_addr", true), ("ipv6", "ipv6_addr", false)];

fn element(rule: &MarkRule) -> String {
    let MarkRule { address, protocol, ports: (first, last), mark } = rule;
    let ports = if first == last { first.to_string() } else { format!("{first}-{last}") };
    format!("{address} . {protocol} . {ports} : {mark}")
}

/// What nft(8) `-j` says of the table (libnftables-json(5)), if that is what [`script`] makes.
fn parse(answer: &[u8]) -> Option<PacketRules> {
    let answer: Value = serde_json::from_slice(answer).ok()?;
    let mut found = PacketRules::default();
    let mut names = BTreeSet::new();
    let (mut members, mut listened, mut used) = (BTreeSet::new(), None, Vec::new());
    for object in answer.get("nftables")?.as_array()? {
        let (kind, value) = object.as_object()?.iter().next()?;
        let name = value.get("name").and_then(Value::as_str).unwrap_or_default();
        match kind.as_str() {
            "metainfo" | "table" => continue,
            "map" => {
                MAPS.iter().find(|(map, ..)| *map == name)?;
                for element in elements(value)? {
                    found.marks.insert(rule(element)?);
                }
            }
            "set" if name == MEMBERS => {
                for element in elements(value)? {
                    members.insert(element.as_str()?.parse::<IpAddr>().ok()?);
                }
            }
            "chain" => {
                let is = |key: &str, wanted: &str| {
                    value.get(key).and_then(Value::as_str) == Some(wanted)
                };
                let priority = value.get("prio")?.as_i64()?;
                let marks = name == CHAIN && is("hook", "prerouting") && priority == PRIORITY;
                let sync = name == SYNC_CHAIN && is("hook", "input") && priority == SYNC_PRIORITY;
                (is("type", "filter") && (marks || sync)).then_some(())?;
            }
            "rule" if value.get("chain")?.as_str()? == SYNC_CHAIN => {
                // One rule: a second one is not ours.
                listened.is_none().then_some(())?;
                listened = Some(group_of(value)?);
                continue;
            }
            "rule" => {
                used.push(map_of(value)?);
                continue;
            }
            _ => return None,
        }
        names.insert(name);
    }
    let marked = BTreeSet::from([CHAIN, MAPS[0].0, MAPS[1].0]);
    let synced = BTreeSet::from([SYNC_CHAIN, MEMBERS]);
    let mut wanted = BTreeSet::new();
    if !used.is_empty() {
        used.iter().eq(&["@ipv4", "@ipv6"]).then_some(())?;
        wanted.extend(marked);
    }
    if let Some((group, port)) = listened {
        wanted.extend(synced);
        found.sync = Some(SyncFilter { group, port, members });
    }
    (names == wanted).then_some(found)
}

/// None of a set are left out.
fn elements(set: &Value) -> Option<&[Value]> {
    match set.get("elem") {
        None => Some(&[]),
        Some(elements) => elements.as_array().map(Vec::as_slice),
    }
}

/// Whom a rule keeps from which group and port: `daddr GROUP`, `dport PORT`, `saddr != @members`, `drop`.
fn group_of(rule: &Value) -> Option<(IpAddr, u16)> {
    let [group, port, members, drop] = rule.get("expr")?.as_array()?.as_slice() else {
        return None;
    };
    let field = |of: &Value, op: &str, field: &str| {
        let of = of.get("match")?;
        let right = of.get("op")?.as_str()? == op
            && of.get("left")?.get("payload")?.get("field")?.as_str()? == field;
        right.then(|| of.get("right").cloned())?
    };
    let members = field(members, "!=", "saddr")?;
    (members.as_str()? == format!("@{MEMBERS}") && drop.get("drop").is_some()).then_some(())?;
    let port = u16::try_from(field(port, "==", "dport")?.as_u64()?).ok()?;
    Some((field(group, "==", "daddr")?.as_str()?.parse().ok()?, port))
}

/// The map that a rule sets marks by.
fn map_of(rule: &Value) -> Option<&str> {
    let mangle = rule.get("expr")?.as_array()?.last()?.get("mangle")?;
    (mangle.get("key")?.get("meta")?.get("key")?.as_str()? == "mark").then_some(())?;
    mangle.get("value")?.get("map")?.get("data")?.as_str()
}

/// `[{"concat": ["192.0.2.80", "tcp", {"range": [8000, 8099]}]}, 1]`.
fn rule(element: &Value) -> Option<MarkRule> {
    let [key, mark] = element.as_array()?.as_slice() else { return None };
    let [address, protocol, ports] = key.get("concat")?.as_array()?.as_slice() else { return None };
    let port = |value: &Value| u16::try_from(value.as_u64()?).ok();
    let ports = match ports.get("range").and_then(Value::as_array).map(Vec::as_slice) {
        Some([first, last]) => (port(first)?, port(last)?),
        Some(_) => return None,
        None => (port(ports)?, port(ports)?),
    };
    Some(MarkRule {
        address: address.as_str()?.parse::<IpAddr>().ok()?,
        protocol: protocol_of(protocol)?,
        ports,
        mark: u32::try_from(mark.as_u64()?).ok().and_then(NonZeroU32::new)?,
    })
}

/// By number, as `-n` has them, or by name.
fn protocol_of(value: &Value) -> Option<Protocol> {
    match value.as_u64().and_then(|number| i32::try_from(number).ok()) {
        Some(libc::IPPROTO_TCP) => Some(Protocol::Tcp),
        Some(libc::IPPROTO_UDP) => Some(Protocol::Udp),
        Some(libc::IPPROTO_SCTP) => Some(Protocol::Sctp),
        Some(_) => None,
        None => Protocol::named(value.as_str()?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(address: &str, protocol: Protocol, ports: (u16, u16), mark: u32) -> MarkRule {
        let mark = NonZeroU32::new(mark).unwrap();
        MarkRule { address: address.parse().unwrap(), protocol, ports, mark }
    }

    #[test]
    fn the_table_is_replaced_in_one_transaction() {
        let rules = [
            mark("192.0.2.80", Protocol::Tcp, (80, 80), 1),
            mark("192.0.2.80", Protocol::Tcp, (8000, 8099), 1),
        ];
        assert_eq!(
            script(&PacketRules { marks: rules.into(), sync: None }),
            "table inet quorate\ndelete table inet quorate\ntable inet quorate {\n  map ipv4 {\n    \
             type ipv4_addr . inet_proto . inet_service : mark; flags interval;\n    elements = { \
             192.0.2.80 . tcp . 80 : 1,\n      192.0.2.80 . tcp . 8000-8099 : 1 }\n  }\n  map ipv6 \
             {\n    type ipv6_addr . inet_proto . inet_service : mark; flags interval;\n  }\n  chain \
             prerouting {\n    type filter hook prerouting priority -149; policy accept;\n    meta \
             l4proto { tcp, udp, sctp } meta mark set ip daddr . meta l4proto . th dport map \
             @ipv4\n    meta l4proto { tcp, udp, sctp } meta mark set ip6 daddr . meta l4proto . th \
             dport map @ipv6\n  }\n}\n"
        );
        let nothing = "table inet quorate\ndelete table inet quorate\n";
        assert_eq!(script(&PacketRules::default()), nothing);
        let filter = SyncFilter {
            group: "224.0.0.81".parse().unwrap(),
            port: 8848,
            members: ["192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap()].into(),
        };
        assert_eq!(
            script(&PacketRules { marks: MarkRules::new(), sync: Some(filter) }),
            "table inet quorate\ndelete table inet quorate\ntable inet quorate {\n  set sync_members {\n    \
             type ipv4_addr;\n    elements = { 192.0.2.1, 192.0.2.2 }\n  }\n  chain input {\n    type filter \
             hook input priority -1; policy accept;\n    ip daddr 224.0.0.81 udp dport 8848 ip saddr != \
             @sync_members drop\n  }\n}\n"
        );
    }

    /// As nft 1.0.6 writes it.
    const LISTED: &str = r#"{"nftables": [
        {"metainfo": {"version": "1.0.6", "json_schema_version": 1}},
        {"table": {"family": "inet", "name": "quorate", "handle": 2}},
        {"map": {"family": "inet", "name": "ipv4", "table": "quorate",
            "type": ["ipv4_addr", "inet_proto", "inet_service"], "handle": 2, "map": "mark",
            "flags": ["interval"], "elem": [[{"concat": ["192.0.2.80", "tcp", 80]}, 1],
            [{"concat": ["192.0.2.80", "udp", {"range": [8000, 8100]}]}, 4294967295]]}},
        {"map": {"family": "inet", "name": "ipv6", "table": "quorate",
            "type": ["ipv6_addr", "inet_proto", "inet_service"], "handle": 3, "map": "mark",
            "flags": ["interval"]}},
        {"chain": {"family": "inet", "table": "quorate", "name": "prerouting", "handle": 1,
            "type": "filter", "hook": "prerouting", "prio": -149, "policy": "accept"}},
        {"rule": {"family": "inet", "table": "quorate", "chain": "prerouting", "handle": 5, "expr": [
            {"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": {"set": ["tcp"]}}},
            {"mangle": {"key": {"meta": {"key": "mark"}}, "value": {"map": {"key": 1,
                "data": "@ipv4"}}}}]}},
        {"rule": {"family": "inet", "table": "quorate", "chain": "prerouting", "handle": 7, "expr": [
            {"mangle": {"key": {"meta": {"key": "mark"}}, "value": {"map": {"key": 1,
                "data": "@ipv6"}}}}]}}]}"#;

    #[test]
    fn what_nft_lists_is_read_back() {
        let rules = [
            mark("192.0.2.80", Protocol::Tcp, (80, 80), 1),
            mark("192.0.2.80", Protocol::Udp, (8000, 8100), u32::MAX),
        ];
        assert_eq!(parse(LISTED.as_bytes()), Some(PacketRules { marks: rules.into(), sync: None }));
    }

    /// As nft prints it with `-n`, and where there is no /etc/protocols.
    #[test]
    fn protocols_are_read_as_numbers_too() {
        let numbers = LISTED.replace("\"tcp\", 80", "6, 80").replace("\"udp\", {", "17, {");
        assert_ne!(numbers, LISTED);
        assert_eq!(parse(numbers.as_bytes()), parse(LISTED.as_bytes()));
        assert_eq!(parse(LISTED.replace("\"tcp\", 80", "33, 80").as_bytes()), None);
    }

    #[test]
    fn a_table_that_somebody_changed_is_not_taken_for_ours() {
        for (was, is) in [
            ("\"prio\": -149", "\"prio\": 0"),
            ("@ipv6", "@ipv4"),
            ("\"mark\"}}, \"value\"", "\"priority\"}}, \"value\""),
            ("{\"chain\"", "{\"set\""),
            ("\"tcp\", 80", "\"tcp\", \"http\""),
            ("\"name\": \"ipv6\"", "\"name\": \"other\""),
        ] {
            assert!(LISTED.contains(was), "{was}");
            assert_eq!(parse(LISTED.replace(was, is).as_bytes()), None, "{was} -> {is}");
        }
        assert_eq!(parse(b"rubbish"), None);
        assert_eq!(parse(b"{\"nftables\": []}"), Some(PacketRules::default()));
    }
}
