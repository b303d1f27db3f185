//! The keys of a group's routes and policy rules.

use crate::spec::document::{Key, TableKeys};

pub(in crate::spec::read) const ROUTE: TableKeys = TableKeys {
    title: "route of a group",
    keys: &[
        Key::required("to"),
        Key::with_default("type", "\"unicast\""),
        Key::optional("via"),
        Key::optional("interface"),
        Key::optional("source"),
        Key::with_default("table", "254"),
        Key::optional("metric"),
        Key::optional("scope"),
        Key::optional("mtu"),
    ],
    foreign: &[
        ("gw", "via"),
        ("gateway", "via"),
        ("nexthop", "via"),
        ("dev", "interface"),
        ("src", "source"),
        ("prefsrc", "source"),
        ("priority", "metric"),
        ("preference", "metric"),
        ("dst", "to"),
    ],
    later: &[],
};

pub(in crate::spec::read) const RULE: TableKeys = TableKeys {
    title: "rule of a group",
    keys: &[
        Key::required("priority"),
        Key::with_default("not", "false"),
        Key::optional("from"),
        Key::optional("to"),
        Key::optional("mark"),
        Key::optional("mask"),
        Key::optional("incoming"),
        Key::optional("outgoing"),
        Key::with_default("action", "\"lookup\""),
        Key::optional("table"),
    ],
    foreign: &[
        ("pref", "priority"),
        ("preference", "priority"),
        ("order", "priority"),
        ("fwmark", "mark and mask"),
        ("iif", "incoming"),
        ("dev", "incoming"),
        ("oif", "outgoing"),
        ("lookup", "table"),
        ("type", "action"),
        ("src", "from"),
        ("dst", "to"),
    ],
    later: &[],
};
