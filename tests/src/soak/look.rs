//! Looks at every node after a round: what it says with `quorate`, and what its kernel carries.
//! Judges only whether the cluster has settled. Seen to work by `tests/tests/lab_host_soak.rs`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::history::Seen;
use super::writers::{configuration, mark_of};
use crate::lab::LabError;
use crate::lab::deployment::Deployment;

/// The groups of the load, and their VIPs.
const GROUPS: [(&str, &str); 2] = [("side", "192.168.10.181"), ("web", "192.168.10.180")];
/// A mark that no configuration of the load carries.
const NO_MARK: u64 = 0;

/// The cluster at one time, as far as nodes that are asked one after the other can tell.
#[derive(Debug, Clone, Default)]
pub(super) struct Look {
    /// What each node says.
    pub(super) nodes: Vec<Seen>,
    /// The owners of the groups that each node names.
    owners: Vec<BTreeMap<String, Option<String>>>,
    /// Who carries the VIP of each group.
    carriers: BTreeMap<String, Vec<String>>,
}

impl Look {
    /// Whether all nodes say the same, and exactly the owner carries each group's VIP.
    #[must_use]
    pub(super) fn is_settled(&self) -> bool {
        let (Some(first), Some(owners)) = (self.nodes.first(), self.owners.first()) else {
            return false;
        };
        let same = |seen: &Seen| {
            (seen.revision, &seen.marks, &seen.epochs)
                == (first.revision, &first.marks, &first.epochs)
        };
        let carried = |(group, owner): (&String, &Option<String>)| {
            let carriers = self.carriers.get(group);
            owner.as_ref().is_some_and(|owner| {
                carriers.is_some_and(|carriers| carriers.as_slice() == [owner.clone()])
            })
        };
        self.nodes.iter().all(same)
            && self.owners.iter().all(|others| others == owners)
            && owners.len() == GROUPS.len()
            && owners.iter().all(carried)
    }
}

/// Looks at these nodes.
#[derive(Debug)]
pub(super) struct Looker {
    names: Vec<&'static str>,
    /// A configuration to compare with: whatever differs is what is in force.
    base: PathBuf,
}

impl Looker {
    /// Writes what it needs into a folder.
    ///
    /// # Errors
    /// When it can't.
    pub(super) fn new(names: Vec<&'static str>, folder: &Path) -> Result<Self, LabError> {
        let base = folder.join("base.toml");
        fs::write(&base, configuration(NO_MARK)).map_err(LabError::io("write a configuration"))?;
        Ok(Self { names, base })
    }

    /// Asks every node; `None` while one does not answer in full.
    ///
    /// # Errors
    /// When `quorate` or `ip` can't be run.
    pub(super) fn look(&self, deployment: &Deployment) -> Result<Option<Look>, LabError> {
        let mut look = Look::default();
        let base = self.base.display().to_string();
        for name in &self.names {
            let difference = deployment.quorate(name, &["-o", "json", "diff", &base])?;
            let difference = serde_json::from_str(&difference.stdout).ok();
            let content = difference.as_ref().and_then(content);
            let groups = deployment.status(name).as_ref().and_then(groups);
            let (Some((revision, marks)), Some((epochs, owners))) = (content, groups) else {
                return Ok(None);
            };
            look.nodes.push(Seen { node: (*name).to_owned(), revision, marks, epochs });
            look.owners.push(owners);
        }
        for (group, vip) in GROUPS {
            look.carriers.insert(group.to_owned(), deployment.carriers(&self.names, vip)?);
        }
        Ok(Some(look))
    }
}

/// Revision and marks from `quorate diff -o json`; anything else that differs counts as a part with
/// no mark.
fn content(difference: &Value) -> Option<(u64, BTreeMap<String, u64>)> {
    let mut marks: BTreeMap<String, u64> =
        GROUPS.iter().map(|(group, _)| ((*group).to_owned(), NO_MARK)).collect();
    for change in difference.get("changes")?.as_array()? {
        let name = change.get("name").and_then(Value::as_str).unwrap_or("cluster");
        for field in change.get("fields")?.as_array()? {
            match field.get("field")?.as_str()? {
                "preempt_delay" => {
                    marks.insert(name.to_owned(), mark_of(field.get("old")?.as_str()?)?);
                }
                other => {
                    marks.insert(format!("{name}.{other}"), NO_MARK);
                }
            }
        }
        if change.get("action")?.as_str()? != "change" {
            marks.insert(name.to_owned(), NO_MARK);
        }
    }
    Some((difference.get("revision")?.as_u64()?, marks))
}

type Groups = (BTreeMap<String, u64>, BTreeMap<String, Option<String>>);

/// Epochs and owners from `quorate status -o json`.
fn groups(status: &Value) -> Option<Groups> {
    let (mut epochs, mut owners) = (BTreeMap::new(), BTreeMap::new());
    for group in status.get("groups")?.as_array()? {
        let name = group.get("name")?.as_str()?.to_owned();
        epochs.insert(name.clone(), group.get("epoch")?.as_u64()?);
        owners.insert(name, group.get("owner")?.as_str().map(str::to_owned));
    }
    Some((epochs, owners))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look() -> Look {
        let of = |value| GROUPS.map(|(group, _)| (group.to_owned(), value)).into();
        let seen =
            |node: &str| Seen { node: node.to_owned(), revision: 7, marks: of(70), epochs: of(4) };
        let owners: BTreeMap<_, _> =
            GROUPS.map(|(group, _)| (group.to_owned(), Some("d1".to_owned()))).into();
        let carriers = GROUPS.map(|(group, _)| (group.to_owned(), vec!["d1".to_owned()])).into();
        Look { nodes: ["d1", "d2", "d3"].map(seen).into(), owners: vec![owners; 3], carriers }
    }

    #[test]
    fn it_has_settled_only_when_all_agree_and_one_carries() {
        assert!(look().is_settled());
        assert!(!Look::default().is_settled());
        let mut late = look();
        late.nodes[1].revision = 6;
        assert!(!late.is_settled());
        let mut unowned = look();
        unowned.owners[2].insert("web".to_owned(), None);
        assert!(!unowned.is_settled());
        let mut double = look();
        double.carriers.insert("web".to_owned(), vec!["d1".to_owned(), "d2".to_owned()]);
        assert!(!double.is_settled());
    }

    #[test]
    fn content_is_what_differs_from_the_base() {
        let field = |name: &str, old: &str| serde_json::json!({ "field": name, "action": "change", "old": old, "new": "0s" });
        let change = |name: &str, fields: Vec<Value>| {
            serde_json::json!(
                { "object": "group", "name": name, "action": "change", "fields": fields })
        };
        let marked = |extra: Option<Value>| {
            let web = [field("preempt_delay", "1.5s")].into_iter().chain(extra).collect();
            serde_json::json!({ "revision": 9, "changes": [
                change("web", web), change("side", vec![field("preempt_delay", "1.5s")]) ] })
        };
        let (revision, marks) = content(&marked(None)).unwrap();
        assert_eq!((revision, marks.values().copied().collect()), (9, vec![1_500, 1_500]));
        // Another change than the mark makes a mixture of it.
        let (_, marks) = content(&marked(Some(field("prefer", "d2")))).unwrap();
        assert_eq!(marks.get("web.prefer"), Some(&NO_MARK));
    }
}
