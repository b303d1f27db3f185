//! Weights that operators gave real servers at run time, in place of the configured ones: to drain
//! one, or to give it another share. They are replicated, and hold until they are taken back, their
//! time is over, or the configuration no longer has the real server.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::command::{Order, UnixMillis};
use crate::id::ServiceName;
use crate::spec::ClusterSpec;

/// Overrides that may hold at once.
pub const OVERRIDES_MAX: usize = 10_000;

/// What one real server has in place of its configured weight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// The weight; 0 takes no new connection.
    pub weight: u32,
    /// Who ordered it, and when.
    pub order: Order,
    /// When it ends, by the leader's clock; `None`: when it is taken back.
    pub until: Option<UnixMillis>,
}

/// The overrides in force, by service and real server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Overrides(BTreeMap<ServiceName, BTreeMap<SocketAddr, Override>>);

impl Overrides {
    /// The one of this real server.
    #[must_use]
    pub fn get(&self, service: &ServiceName, server: &SocketAddr) -> Option<&Override> {
        self.0.get(service)?.get(server)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&ServiceName, &SocketAddr, &Override)> {
        let of = |(service, servers)| Self::each(service, servers);
        self.0.iter().flat_map(of)
    }

    fn each<'o>(
        service: &'o ServiceName,
        servers: &'o BTreeMap<SocketAddr, Override>,
    ) -> impl Iterator<Item = (&'o ServiceName, &'o SocketAddr, &'o Override)> {
        servers.iter().map(move |(server, to)| (service, server, to))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.values().map(BTreeMap::len).sum()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// When the next one ends by itself.
    #[must_use]
    pub fn next_end(&self) -> Option<UnixMillis> {
        self.iter().filter_map(|(_, _, to)| to.until).min()
    }

    /// Gives a real server an override, another one, or none.
    pub fn set(&mut self, service: &ServiceName, server: SocketAddr, to: Option<Override>) {
        match to {
            Some(to) => {
                self.0.entry(service.clone()).or_default().insert(server, to);
            }
            None => {
                let servers = self.0.get_mut(service);
                if servers.is_some_and(|servers| {
                    servers.remove(&server);
                    servers.is_empty()
                }) {
                    self.0.remove(service);
                }
            }
        }
    }

    /// Keeps those that `keep` says.
    pub fn retain(&mut self, keep: impl Fn(&ServiceName, &SocketAddr, &Override) -> bool) {
        self.0.retain(|service, servers| {
            servers.retain(|server, to| keep(service, server, to));
            !servers.is_empty()
        });
    }

    /// What another configuration does to them, in words: those that it ends, and those that its
    /// scheduler would not heed.
    #[must_use]
    pub fn warnings(&self, spec: &ClusterSpec) -> Vec<String> {
        let warning = |(name, server, to): (&ServiceName, &SocketAddr, &Override)| {
            let (weight, by) = (to.weight, &to.order.author);
            match spec.service_with(name, server) {
                None => Some(format!(
                    "real server {server} of {name} has weight {weight} by {by}, which this configuration \
                     ends: it does not have it under that name, address and port"
                )),
                Some(service) if weight == 0 && !service.scheduler.heeds_weights() => {
                    Some(format!(
                        "real server {server} of {name} is drained by {by}: scheduler dh heeds no weights, and \
                     refuses its clients"
                    ))
                }
                Some(_) => None,
            }
        };
        self.iter().filter_map(warning).collect()
    }

    /// The configuration with these weights in place of its own.
    #[must_use]
    pub fn over(&self, spec: &Arc<ClusterSpec>) -> Arc<ClusterSpec> {
        if self.is_empty() {
            return Arc::clone(spec);
        }
        let mut weighted = ClusterSpec::clone(spec);
        for (name, service) in &mut weighted.services {
            for server in &mut service.real_servers {
                if let Some(to) = self.get(name, &server.address) {
                    server.weight = to.weight;
                    service.ordered.insert(server.address);
                }
            }
        }
        Arc::new(weighted)
    }
}

impl FromIterator<(ServiceName, SocketAddr, Override)> for Overrides {
    fn from_iter<I: IntoIterator<Item = (ServiceName, SocketAddr, Override)>>(all: I) -> Self {
        let mut overrides = Self::default();
        for (service, server, to) in all {
            overrides.0.entry(service).or_default().insert(server, to);
        }
        overrides
    }
}

/// Why no real server is meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotMeant {
    /// It is no address.
    #[error("{0:?} is no address of a real server: write 192.0.2.16, or 192.0.2.16:80")]
    NoAddress(String),
    /// There is no such service.
    #[error("no service is named {0:?}: see `quorate services`")]
    NoService(String),
    /// Nothing has this real server.
    #[error("{server} is no real server of {of}: see `quorate services`")]
    NoServer {
        /// What was asked for.
        server: String,
        /// Where it was looked for.
        of: String,
    },
}

/// The real servers that an operator means: an address, with or without port, in one service or in
/// all of them. A sorry server is none: it takes connections while nobody else does.
///
/// # Errors
///
/// If it is none.
pub fn meant(
    spec: &ClusterSpec,
    server: &str,
    service: Option<&str>,
) -> Result<Vec<(ServiceName, SocketAddr)>, NotMeant> {
    let no_address = || NotMeant::NoAddress(server.chars().take(60).collect());
    let (ip, port) = match (server.parse::<IpAddr>(), server.parse::<SocketAddr>()) {
        (Ok(ip), _) => (ip, None),
        (_, Ok(address)) => (address.ip(), Some(address.port())),
        _ => return Err(no_address()),
    };
    let known = |name: &str| spec.services.keys().any(|known| known.as_str() == name);
    if let Some(name) = service.filter(|name| !known(name)) {
        return Err(NotMeant::NoService(name.chars().take(60).collect()));
    }
    let mut found = Vec::new();
    for (name, of) in &spec.services {
        if service.is_some_and(|wanted| wanted != name.as_str()) {
            continue;
        }
        let same = |at: &SocketAddr| at.ip() == ip && port.is_none_or(|port| port == at.port());
        let servers = of.real_servers.iter().map(|server| server.address).filter(same);
        found.extend(servers.map(|server| (name.clone(), server)));
    }
    if found.is_empty() {
        let of = service.map_or("any service".to_owned(), |name| format!("service {name}"));
        return Err(NotMeant::NoServer { server: server.to_owned(), of });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Format, VirtualService, parse};

    fn spec() -> Arc<ClusterSpec> {
        let source = "group.web = { interface = \"x\", addresses = [\"192.0.2.80\"] }\n\
            service.a = { group = \"web\", listen = \"tcp/192.0.2.80:80\", forward = \"NAT\", \
            real_servers = [{ address = \"192.0.2.16\" }, { address = \"192.0.2.16:81\" }] }\n\
            service.b = { group = \"web\", listen = \"tcp/192.0.2.80:81\", \
            sorry_server = \"192.0.2.9\", real_servers = [{ address = \"192.0.2.16\" }, \
            { address = \"192.0.2.17\", weight = 7 }] }\n";
        Arc::new(parse(source, Format::Toml).unwrap())
    }

    fn to(weight: u32, until: Option<u64>) -> Override {
        let order = Order { author: "ada".to_owned(), at: UnixMillis(1) };
        Override { weight, order, until: until.map(UnixMillis) }
    }

    fn said(server: &str, service: Option<&str>) -> Vec<String> {
        match meant(&spec(), server, service) {
            Ok(found) => found.iter().map(|(name, at)| format!("{name} {at}")).collect(),
            Err(error) => vec![error.to_string()],
        }
    }

    #[test]
    fn an_address_means_every_real_server_that_has_it() {
        let all = ["a 192.0.2.16:80", "a 192.0.2.16:81", "b 192.0.2.16:81"];
        assert_eq!(said("192.0.2.16", None), all);
        assert_eq!(said("192.0.2.16:81", None), all[1..]);
        assert_eq!(said("192.0.2.16:81", Some("b")), all[2..]);
    }

    #[test]
    fn what_means_nothing_says_so() {
        let none = "192.0.2.9 is no real server of any service: see `quorate services`";
        assert_eq!(said("192.0.2.9", None), [none]);
        let not = "192.0.2.17 is no real server of service a: see `quorate services`";
        assert_eq!(said("192.0.2.17", Some("a")), [not]);
        let no_service = "no service is named \"c\": see `quorate services`";
        assert_eq!(said("192.0.2.16", Some("c")), [no_service]);
        assert!(said("www", None)[0].contains("\"www\" is no address"));
    }

    #[test]
    fn a_configuration_that_ends_an_order_is_warned_of() {
        let (name, server) = ("b".parse().unwrap(), "192.0.2.17:81".parse().unwrap());
        let mut overrides = Overrides::default();
        overrides.set(&name, server, Some(to(0, None)));
        assert_eq!(overrides.warnings(&spec()), Vec::<String>::new());
        let mut renamed = ClusterSpec::clone(&spec());
        let b = renamed.services.remove(&name).unwrap();
        renamed.services.insert("c".parse().unwrap(), b.clone());
        let said = overrides.warnings(&renamed);
        assert!(said[0].contains("192.0.2.17:81 of b has weight 0 by ada"), "{said:?}");
        let scheduler = crate::spec::Scheduler::named("dh").unwrap();
        renamed.services.insert(name, VirtualService { scheduler, ..b });
        assert!(overrides.warnings(&renamed)[0].contains("dh heeds no weights"));
    }

    #[test]
    fn an_override_stands_in_place_of_the_weight_until_it_is_taken_back() {
        let spec = spec();
        let (name, server) = ("b".parse().unwrap(), "192.0.2.17:81".parse().unwrap());
        let mut overrides = Overrides::default();
        assert!(Arc::ptr_eq(&overrides.over(&spec), &spec));
        overrides.set(&name, server, Some(to(0, Some(9))));
        overrides.set(&name, "192.0.2.16:81".parse().unwrap(), Some(to(5, None)));
        let weights = |overrides: &Overrides| -> Vec<u32> {
            overrides.over(&spec).services[&name].real_servers.iter().map(|s| s.weight).collect()
        };
        assert_eq!(weights(&overrides), [5, 0]);
        assert_eq!((overrides.len(), overrides.next_end()), (2, Some(UnixMillis(9))));
        overrides.set(&name, server, None);
        assert_eq!((weights(&overrides), overrides.next_end()), (vec![5, 7], None));
        overrides.retain(|_, _, _| false);
        assert!(overrides.is_empty());
    }
}
