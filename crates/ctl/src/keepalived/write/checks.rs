//! Checks that several services have stand by themselves.

use std::collections::BTreeMap;

use super::super::ir::{Check, Server, Service};
use super::super::names::Names;
use super::super::values::quoted;
use super::{Document, key_of};

/// What each check is written as: a name, or in place.
#[derive(Debug, Default)]
pub(super) struct Shared(BTreeMap<String, String>);

impl Shared {
    /// Writes those that more than one service has.
    pub(super) fn of(services: &[(String, Service)], out: &mut Document) -> Self {
        // How many services have it; the first place; what it is called.
        let mut counts: BTreeMap<String, (usize, Check)> = BTreeMap::new();
        let mut order: Vec<String> = Vec::new();
        for (_, service) in services {
            let mut own: Vec<String> = Vec::new();
            for check in service.servers.iter().flat_map(|server| &server.checks) {
                let text = text(check);
                if own.contains(&text) {
                    continue;
                }
                own.push(text.clone());
                match counts.get_mut(&text) {
                    Some((count, _)) => *count += 1,
                    None => {
                        order.push(text.clone());
                        counts.insert(text, (1, check.clone()));
                    }
                }
            }
        }
        let (mut names, mut shared) = (Names::default(), Self::default());
        for text in order {
            let Some((count, check)) = counts.get(&text).filter(|(count, _)| *count > 1) else {
                continue;
            };
            let _ = count;
            let port = check.port.map(|port| format!("-{port}")).unwrap_or_default();
            let name = names.take(&format!("{}{port}", check.kind));
            out.place = Some(check.place);
            out.line("");
            out.line(format!("[check.{}]", key_of(&name)));
            for (key, value) in fields(check) {
                out.line(format!("{key} = {value}"));
            }
            shared.0.insert(text, quoted(&name));
        }
        shared
    }

    /// What the checks of a real server are written as, each once.
    pub(super) fn named(&self, server: &Server) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        for check in &server.checks {
            let text = text(check);
            let written = self.0.get(&text).cloned().unwrap_or(text);
            if !all.contains(&written) {
                all.push(written);
            }
        }
        all
    }

    /// What most of the real servers have.
    pub(super) fn common(&self, service: &Service) -> Vec<String> {
        let mut counts: BTreeMap<Vec<String>, usize> = BTreeMap::new();
        let mut best: (usize, Vec<String>) = (0, Vec::new());
        for server in &service.servers {
            let count = counts.entry(self.named(server)).or_default();
            *count += 1;
            if *count > best.0 {
                best = (*count, self.named(server));
            }
        }
        best.1
    }

    /// One, or a list.
    pub(super) fn written(checks: &[String]) -> String {
        match checks {
            [one] => one.clone(),
            several => format!("[{}]", several.join(", ")),
        }
    }
}

fn fields(check: &Check) -> Vec<(&'static str, String)> {
    let mut fields = check.fields.clone();
    if let Some(port) = check.port {
        fields.insert(1.min(fields.len()), ("port", port.to_string()));
    }
    fields
}

fn text(check: &Check) -> String {
    let fields: Vec<String> =
        fields(check).iter().map(|(key, value)| format!("{key} = {value}")).collect();
    format!("{{ {} }}", fields.join(", "))
}
