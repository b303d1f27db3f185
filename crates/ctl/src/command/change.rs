//! What a new configuration changes, for people and for programs, and which of it takes something
//! away from traffic: that is asked about first.

use quorate_model::spec::difference::{Change, FieldChange, Object, Turn, difference};
use serde::Serialize;

use super::configuration::{Candidate, InForce};

/// The changes from what is in force to what is given.
#[derive(Debug)]
pub(super) struct Changes {
    list: Vec<Change>,
    /// Whether what is in force could be read.
    known: bool,
}

/// One change, for programs.
#[derive(Debug, Serialize)]
pub(super) struct Entry {
    object: &'static str,
    name: Option<String>,
    action: &'static str,
    fields: Vec<Field>,
}

#[derive(Debug, Serialize)]
struct Field {
    field: &'static str,
    action: &'static str,
    old: Option<String>,
    new: Option<String>,
}

impl Changes {
    pub(super) fn between(in_force: &InForce, candidate: &Candidate) -> Self {
        match &in_force.spec {
            Some(spec) => Self { list: difference(spec, &candidate.spec), known: true },
            None => Self { list: Vec::new(), known: false },
        }
    }

    /// Whether nothing changes.
    pub(super) fn none(&self) -> bool {
        self.known && self.list.is_empty()
    }

    /// For people; ends with a line break if there is anything.
    pub(super) fn text(&self) -> String {
        if !self.known {
            return "  ? what is in force can't be read by this version of quorate\n".to_owned();
        }
        let mut text = String::new();
        for change in &self.list {
            for line in change.to_string().lines() {
                text.push_str(&format!("  {line}\n"));
            }
        }
        text
    }

    /// How many of each kind, in words.
    pub(super) fn summary(&self) -> String {
        let count = |turn| self.list.iter().filter(|change| change.turn == turn).count();
        let kinds = [(Turn::Added, "add"), (Turn::Changed, "change"), (Turn::Removed, "delete")];
        let counted = kinds.map(|(turn, verb)| (count(turn), verb));
        let words: Vec<String> = counted
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, verb)| format!("{count} to {verb}"))
            .collect();
        words.join(", ")
    }

    /// What takes something away from traffic or may move it, one line each.
    pub(super) fn impact(&self) -> Vec<String> {
        if !self.known {
            return vec!["replaces a configuration that this version of quorate can't read".into()];
        }
        let mut impact = Vec::new();
        for change in &self.list {
            // A hook that goes takes nothing away from traffic.
            if change.turn == Turn::Removed && !matches!(change.object, Object::Hook(_)) {
                impact.push(format!("deletes {} {}", change.object, change.reached_at));
            }
            let fields = change.fields.iter();
            for field in fields.filter(|field| takes_away(&change.object, field)) {
                impact.push(format!("{}: {field}", change.object));
            }
        }
        impact
    }

    pub(super) fn entries(&self) -> Vec<Entry> {
        self.list.iter().map(entry).collect()
    }
}

fn takes_away(object: &Object, field: &FieldChange) -> bool {
    // Another preference may move a group, though each connection that stays is kept.
    let moves = matches!(object, Object::Group(_)) && matches!(field.field, "prefer" | "only");
    !field.in_place || moves
}

fn entry(change: &Change) -> Entry {
    let (object, name) = match &change.object {
        Object::Cluster => ("cluster", None),
        Object::Group(name) => ("group", Some(name.clone())),
        Object::Service(name) => ("service", Some(name.clone())),
        Object::Hook(name) => ("hook", Some(name.clone())),
    };
    let given = |text: &String| (!text.is_empty()).then(|| text.clone());
    let fields = change.fields.iter().map(|field| Field {
        field: field.field,
        action: action(field.turn),
        old: given(&field.old),
        new: given(&field.new),
    });
    Entry { object, name, action: action(change.turn), fields: fields.collect() }
}

fn action(turn: Turn) -> &'static str {
    match turn {
        Turn::Added => "add",
        Turn::Removed => "delete",
        Turn::Changed => "change",
    }
}
