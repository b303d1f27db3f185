//! Why a group is where it is, and why a real server is up or down: the chain of facts, from what `Status`
//! gives and the configuration in force. Pure; `command::explain` asks and prints. Tests: `tests.rs`.

mod group;
mod server;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};

use quorate_api::v1::StatusResponse;
use quorate_model::spec::ClusterSpec;
use serde::Serialize;

/// How a fact bears on what is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Bearing {
    /// It is as it should be.
    Ok,
    /// It deserves a look.
    Warn,
    /// It is why something does not serve.
    Bad,
    /// It is so, and neither good nor bad.
    Note,
}

/// One fact of a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fact {
    /// How it bears on what is asked.
    pub bearing: Bearing,
    /// The node whose view it is; none: the cluster's.
    pub node: Option<String>,
    /// The fact, a sentence.
    pub fact: String,
}

impl Fact {
    fn new(bearing: Bearing, fact: impl Into<String>) -> Self {
        Self { bearing, node: None, fact: fact.into() }
    }

    fn seen_by(mut self, node: &str) -> Self {
        self.node = Some(node.to_owned()).filter(|node| !node.is_empty());
        self
    }
}

/// What a chain of facts is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// A VIP group.
    Group,
    /// A virtual service.
    Service,
    /// A real server of a service.
    RealServer,
}

/// A chain of facts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// What it is about.
    pub subject: Subject,
    /// Its name; of a real server, its address.
    pub name: String,
    /// The service of a real server.
    pub service: Option<String>,
    /// The answer in a line.
    pub answer: String,
    /// Why.
    pub facts: Vec<Fact>,
    /// Commands that say more, or mend it.
    pub next: Vec<String>,
}

/// Whatever this word means: a group, a service, a VIP, a real server with or without port. A word may mean
/// several. Empty where it means nothing.
#[must_use]
pub fn explain(
    status: &StatusResponse,
    spec: Option<&ClusterSpec>,
    what: &str,
) -> Vec<Explanation> {
    let bare = what.trim_matches(['[', ']']);
    let address = bare.parse::<IpAddr>().ok();
    let socket = what.parse::<SocketAddr>().ok();
    let ip = address.or_else(|| socket.map(|socket| socket.ip()));
    let mut found = Vec::new();
    for group in &status.groups {
        let vip = |net: &String| ip.is_some_and(|ip| host(net) == Some(ip));
        if group.name == what || group.addresses.iter().any(vip) {
            found.push(group::explain(status, spec, group));
        }
    }
    for service in &status.services {
        if service.name == what {
            found.push(server::explain_service(status, spec, service));
        }
        for server in service.real_servers.iter().chain(&service.sorry_server) {
            let Ok(at) = server.address.parse::<SocketAddr>() else { continue };
            if socket == Some(at) || address == Some(at.ip()) {
                found.push(server::explain(status, spec, service, server));
            }
        }
    }
    found
}

/// Every word that means something, for whoever gave one that does not.
#[must_use]
pub fn known(status: &StatusResponse) -> Vec<String> {
    let groups = status.groups.iter().map(|group| group.name.clone());
    let services = status.services.iter().map(|service| service.name.clone());
    let mut known: Vec<String> = groups.chain(services).collect();
    known.sort();
    known.dedup();
    known
}

/// The address of a VIP with its prefix length.
fn host(net: &str) -> Option<IpAddr> {
    net.split('/').next()?.parse().ok()
}

fn listed(names: &[impl ToString]) -> String {
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
