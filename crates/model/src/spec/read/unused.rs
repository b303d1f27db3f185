//! Names that a configuration gives and does not use: no error, but probably not what was meant.

use std::collections::BTreeSet;

use crate::spec::document::{Data, Diagnostic, Diagnostics, Entry, Value};

/// Each kind of name, the key that uses it being the same word, with who has that key.
const NAMES: [(&str, &str); 3] = [("check", "service"), ("pool", "service"), ("track", "group")];

/// Notes each check, pool and track that nothing names.
pub(super) fn warn(root: &Value, out: &mut Diagnostics) {
    for (kind, user) in NAMES {
        let mut used = BTreeSet::new();
        collect(root, kind, &mut used);
        let given = entries(root).iter().filter(|entry| entry.key == kind);
        for entry in given.flat_map(|entry| entries(&entry.value)) {
            if used.contains(entry.key.as_str()) {
                continue;
            }
            let message = format!("no {user} uses this {kind}");
            let path = format!("{kind}.{}", entry.key);
            let problem = Diagnostic::new(path, entry.key_span.clone(), message);
            let help = format!("{kind} = {:?} in a [{user}.NAME] uses it; or remove it", entry.key);
            out.push(problem.help(help).warning());
        }
    }
}

fn entries(value: &Value) -> &[Entry] {
    match &value.data {
        Data::Table(entries) => entries,
        _ => &[],
    }
}

/// The names that stand under a key anywhere.
fn collect<'v>(value: &'v Value, key: &str, used: &mut BTreeSet<&'v str>) {
    match &value.data {
        Data::Table(entries) => {
            for entry in entries {
                let named = match &entry.value.data {
                    Data::List(items) if entry.key == key => items.as_slice(),
                    _ if entry.key == key => std::slice::from_ref(&entry.value),
                    _ => &[],
                };
                used.extend(named.iter().filter_map(|item| match &item.data {
                    Data::String(text) => Some(text.as_str()),
                    _ => None,
                }));
                collect(&entry.value, key, used);
            }
        }
        Data::List(items) => items.iter().for_each(|item| collect(item, key, used)),
        _ => {}
    }
}
