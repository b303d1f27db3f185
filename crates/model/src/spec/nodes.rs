//! What a configuration says about nodes, held against the nodes that there are. The answer
//! depends on the cluster, so it is asked when a configuration is applied, not when it is read.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::document::{At, Diagnostics};
use super::{ClusterSpec, Forward};
use crate::id::NodeName;

/// A node of the cluster, as far as a configuration can be at odds with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownNode {
    /// Its name.
    pub name: NodeName,
    /// Whether it is a director; else it is a witness.
    pub director: bool,
    /// Its addresses: those of its links, and others that are known.
    pub addresses: Vec<IpAddr>,
    /// Its links by name, with the address of each.
    pub links: BTreeMap<String, IpAddr>,
}

/// What is wrong with a configuration in this cluster. Warnings alone don't forbid it:
/// [`Diagnostics::has_errors`] tells.
#[must_use]
pub fn against_nodes(spec: &ClusterSpec, nodes: &[KnownNode]) -> Diagnostics {
    let mut out = Diagnostics::new();
    let directors: BTreeSet<&NodeName> =
        nodes.iter().filter(|node| node.director).map(|node| &node.name).collect();
    let witnesses: BTreeSet<&NodeName> =
        nodes.iter().filter(|node| !node.director).map(|node| &node.name).collect();
    for (name, group) in &spec.groups {
        let lists = [("prefer", Some(&group.prefer)), ("only", group.only.as_ref())];
        for (key, list) in lists {
            let at = At { path: format!("group.{name}.{key}"), span: None };
            for node in list.into_iter().flatten().filter(|node| !directors.contains(node)) {
                let message = if witnesses.contains(node) {
                    format!("{node} is a witness and never owns a group")
                } else {
                    format!("no node of this cluster is called {node}")
                };
                out.push(at.problem(message).warning());
            }
            if let ("only", Some(list)) = (key, list)
                && !list.iter().any(|node| directors.contains(node))
            {
                let problem = at.problem("no director of this cluster may own this group");
                out.push(problem.help("name a director, or leave out `only`"));
            }
        }
    }
    real_servers(spec, nodes, &mut out);
    arbitration(spec, nodes, &mut out);
    sync(spec, nodes, &mut out);
    out
}

/// A director without the link could neither tell nor hear.
fn sync(spec: &ClusterSpec, nodes: &[KnownNode], out: &mut Diagnostics) {
    let Some(sync) = &spec.sync else { return };
    let at = At { path: "cluster.sync.link".to_owned(), span: None };
    for node in nodes.iter().filter(|node| node.director) {
        let Some(address) = node.links.get(&sync.link) else {
            let known = node.links.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            let message =
                format!("director {} has no link {:?}: it has {known}", node.name, sync.link);
            out.push(at.problem(message).help("name a [[link]] that every director has"));
            continue;
        };
        if address.is_ipv4() != sync.group.is_ipv4() {
            let message = format!(
                "link {} of director {} has address {address}, and group {} is of the other family",
                sync.link, node.name, sync.group
            );
            out.push(at.problem(message).help("give a group of the link's family"));
        }
    }
}

/// A node always reaches itself, so its address says nothing of the network.
fn arbitration(spec: &ClusterSpec, nodes: &[KnownNode], out: &mut Diagnostics) {
    let own = spec.groups.iter().filter_map(|(name, group)| {
        Some((format!("group.{name}.arbitration"), group.arbitration.as_ref()?))
    });
    for (path, list) in own.chain([("cluster.arbitration".to_owned(), &spec.arbitration)]) {
        let at = At { path, span: None };
        for address in list {
            if let Some(node) = nodes.iter().find(|node| node.addresses.contains(address)) {
                let message =
                    format!("{address} is node {}, which always reaches itself", node.name);
                out.push(at.problem(message).help("name a host outside of the cluster"));
            }
        }
    }
}

/// A director programs every service all the time, as standby too. If it were a real server of
/// one under DR or TUN, its own kernel would balance again what the owner sent it.
fn real_servers(spec: &ClusterSpec, nodes: &[KnownNode], out: &mut Diagnostics) {
    let mut hosts: BTreeMap<IpAddr, &KnownNode> = BTreeMap::new();
    for node in nodes {
        for &address in &node.addresses {
            hosts.insert(address, node);
        }
    }
    for (name, group) in &spec.groups {
        let at = At { path: format!("group.{name}.addresses"), span: None };
        for vip in &group.addresses {
            if let Some(node) = hosts.get(&vip.net.addr()) {
                let message = format!("{} is an address of node {}", vip.net.addr(), node.name);
                out.push(at.problem(message).help("a VIP belongs to no single node"));
            }
        }
    }
    for (name, service) in &spec.services {
        let at = |key: &str| At { path: format!("service.{name}.{key}"), span: None };
        let servers = service.real_servers.iter().map(|server| ("real_servers", server));
        let servers = servers.chain(service.sorry_server.iter().map(|s| ("sorry_server", s)));
        for (key, server) in servers.filter(|(_, s)| s.forward != Forward::Nat) {
            let director = hosts.get(&server.address.ip()).filter(|node| node.director);
            if let Some(node) = director {
                let message = format!(
                    "real server {} is director {}, which {} does not allow",
                    server.address,
                    node.name,
                    server.forward.word()
                );
                let help = "a real server can be a node as a witness: role = \"witness\"";
                out.push(at(key).problem(message).help(help));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::document::Format;
    use super::super::read::parse;
    use super::*;

    fn node(name: &str, director: bool, address: &str) -> KnownNode {
        let addresses = vec![address.parse().expect("address")];
        let links = [("lan".to_owned(), address.parse().expect("address"))].into();
        KnownNode { name: name.parse().expect("name"), director, addresses, links }
    }

    fn said(service: &str, group: &str) -> String {
        let source = format!(
            "group.web = {{ interface = \"public\", addresses = [\"192.0.2.80\"], {group} }}\n\
             service.web = {{ group = \"web\", listen = \"tcp/192.0.2.80:80\", {service} }}\n"
        );
        let spec = parse(&source, Format::Toml).expect("a right configuration");
        let nodes = [node("d1", true, "192.0.2.1"), node("w1", false, "192.0.2.16")];
        let found = against_nodes(&spec, &nodes);
        found.iter().map(|d| format!("{} {}: {}\n", d.severity, d.path, d.message)).collect()
    }

    #[test]
    fn a_director_is_no_real_server_unless_packets_are_translated() {
        let on_director = "real_servers = [{ address = \"192.0.2.1\" }]";
        let expected = "error service.web.real_servers: real server 192.0.2.1:80 is director d1, \
                        which DR does not allow\n";
        assert_eq!(said(on_director, ""), expected);
        assert_eq!(said(&format!("forward = \"NAT\", {on_director}"), ""), "");
        assert_eq!(said("real_servers = [{ address = \"192.0.2.16\" }]", ""), "");
    }

    #[test]
    fn an_unknown_node_is_a_warning_and_a_group_without_director_an_error() {
        assert_eq!(
            said("real_servers = []", "prefer = [\"d9\", \"d1\", \"w1\"]"),
            "warning group.web.prefer: no node of this cluster is called d9\n\
             warning group.web.prefer: w1 is a witness and never owns a group\n"
        );
        assert_eq!(
            said("real_servers = []", "only = [\"d1\", \"d9\"]"),
            "warning group.web.only: no node of this cluster is called d9\n"
        );
        assert_eq!(
            said("real_servers = []", "only = [\"d9\"]"),
            "warning group.web.only: no node of this cluster is called d9\n\
             error group.web.only: no director of this cluster may own this group\n"
        );
    }

    #[test]
    fn every_director_has_the_link_that_connections_are_told_over() {
        let nodes = [node("d1", true, "192.0.2.1"), node("w1", false, "192.0.2.16")];
        let said = |sync: &str| {
            let source = format!("cluster.sync = {{ link = {sync} }}\n");
            against_nodes(&parse(&source, Format::Toml).expect("right"), &nodes).to_string()
        };
        assert_eq!(said("\"lan\""), "");
        assert_eq!(
            said("\"heartbeat\""),
            "cluster.sync.link: director d1 has no link \"heartbeat\": it has lan (name a [[link]] that \
             every director has)"
        );
        assert_eq!(
            said("\"lan\", group = \"ff05::51\""),
            "cluster.sync.link: link lan of director d1 has address 192.0.2.1, and group ff05::51 is of \
             the other family (give a group of the link's family)"
        );
    }

    #[test]
    fn an_arbitration_address_is_no_node_of_the_cluster() {
        let source = "cluster.arbitration = [\"192.0.2.1\", \"192.0.2.9\"]\n\
                      group.web = { interface = \"public\", addresses = [\"192.0.2.80\"], \
                      arbitration = [\"192.0.2.16\"] }\n";
        let spec = parse(source, Format::Toml).expect("a right configuration");
        let nodes = [node("d1", true, "192.0.2.1"), node("w1", false, "192.0.2.16")];
        assert_eq!(
            against_nodes(&spec, &nodes).to_string(),
            "group.web.arbitration: 192.0.2.16 is node w1, which always reaches itself (name a \
             host outside of the cluster)\n\
             cluster.arbitration: 192.0.2.1 is node d1, which always reaches itself (name a host \
             outside of the cluster)"
        );
    }

    #[test]
    fn a_vip_is_no_address_of_a_node() {
        let spec = parse(
            "group.web = { interface = \"public\", addresses = [\"192.0.2.1/24\"] }",
            Format::Toml,
        )
        .expect("a right configuration");
        let found = against_nodes(&spec, &[node("d1", true, "192.0.2.1")]);
        assert!(found.has_errors());
        assert_eq!(
            found.to_string(),
            "group.web.addresses: 192.0.2.1 is an address of node d1 (a VIP belongs to no single node)"
        );
    }
}
