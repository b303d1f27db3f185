//! Text to [`ClusterSpec`]: every error at once, each with its place and what to do.
//!
//! Whatever passes here is right by itself. What only the cluster knows (which nodes there are) is
//! asked in `spec::nodes`. Its tests are in `read/tests/`.

mod address;
mod arbitration;
mod check;
mod group;
mod hook;
mod http;
mod ipvs;
pub mod keys;
mod kinds;
mod probing;
mod real_server;
mod routing;
mod schema;
mod service;
mod sync;
#[cfg(test)]
mod tests;
mod track;
mod unused;

use std::time::Duration;

use crate::spec::document::{self, Diagnostics, Field, Format};
use crate::spec::{ClusterSpec, ForeignServices};
use crate::time::{LEASE_MAX, Timing};

pub use check::{
    CHECK_INTERVAL_MIN, CHECK_RETRY_MAX, CHECK_STEPS_MAX, CHECK_TIME_MAX, CHECK_TIME_MIN,
};
pub use group::PREEMPT_DELAY_MAX;
pub use hook::HOOK_TIMEOUT_MAX;
pub use ipvs::TIMEOUT_MAX;
pub use schema::json_schema;
pub use service::PERSISTENCE_MAX;
pub use sync::{REFRESH_MAX, WARMUP_DEFAULT, WARMUP_MAX};
pub use track::{TRACK_INTERVAL_MIN, TRACK_STEPS_MAX, TRACK_TIME_MAX};

/// Most VIP groups.
pub const GROUPS_MAX: usize = 10_000;
/// Most VIPs in all groups.
pub const ADDRESSES_MAX: usize = 50_000;
/// Most virtual services.
pub const SERVICES_MAX: usize = 10_000;
/// Most addresses that one virtual service listens on.
pub const LISTEN_MAX: usize = 1_000;
/// Most entries that all services make in the kernel: real servers times addresses listened on.
pub const REAL_SERVERS_MAX: usize = 100_000;
/// Most arbitration addresses that one list names.
pub const ARBITRATION_MAX: usize = 16;
/// Most different arbitration addresses in all lists together: each is probed several times a
/// second by each director.
pub const ARBITRATION_TOTAL_MAX: usize = 256;
/// Most routes of one group, and most rules.
pub const ROUTING_MAX: usize = 64;
/// Most routes and rules in all groups together: whoever takes the groups over adds them one by one.
pub const ROUTING_TOTAL_MAX: usize = 4_096;
/// The longest packet that a route may be given: of IPv4 at least, of IPv6 at least (RFC 791, RFC 8200), and what the
/// kernel cuts longer ones down to (`ip_metrics_convert`, net/ipv4/metrics.c).
pub const ROUTE_MTU: (u32, u32, u32) = (68, 1_280, 65_520);
/// Most tracks.
pub const TRACKS_MAX: usize = 256;
/// Most hooks.
pub const HOOKS_MAX: usize = 64;
/// Most nodes that one list names.
pub const NODES_NAMED_MAX: usize = 1_000;

/// Reads the cluster's configuration.
///
/// # Errors
///
/// Everything that is wrong with it.
pub fn parse(source: &str, format: Format) -> Result<ClusterSpec, Diagnostics> {
    let mut out = Diagnostics::new();
    let tree = document::parse(source, format, &mut out);
    let spec = tree.as_ref().and_then(|root| cluster(&Field::root(root), &mut out));
    out.finish(source, spec)
}

/// Reads the cluster's configuration, and gives the warnings of one that can be used too.
#[must_use]
pub fn examine(source: &str, format: Format) -> (Option<ClusterSpec>, Diagnostics) {
    let mut out = Diagnostics::new();
    let tree = document::parse(source, format, &mut out);
    let spec = tree.as_ref().and_then(|root| cluster(&Field::root(root), &mut out));
    if let (Some(root), false) = (&tree, out.has_errors()) {
        unused::warn(root, &mut out);
    }
    out.settle(source, spec)
}

fn cluster(root: &Field<'_>, out: &mut Diagnostics) -> Option<ClusterSpec> {
    let table = root.table(&keys::ROOT, out)?;
    let own = table.get("cluster").and_then(|field| field.table(&keys::CLUSTER, out));
    let own = |key: &str| own.as_ref().and_then(|table| table.get(key));
    let timing = own("timing").and_then(|timing| timing_of(&timing, out));
    let mut probed = arbitration::Probed::default();
    let arbitration = own("arbitration").and_then(|list| probed.list(&list, out));
    let timeouts = own("timeouts").map(|field| ipvs::timeouts(&field, out)).unwrap_or_default();
    let tracks = table.get("track").map(|field| track::tracks(&field, out)).unwrap_or_default();
    let groups = table
        .get("group")
        .map(|field| group::groups(&field, &tracks, &mut probed, out))
        .unwrap_or_default();
    probed.against(&groups, out);
    let shared = service::Shared::read(&table, &groups, out);
    let services = table
        .get("service")
        .map(|field| service::services(&field, &groups, &shared, out))
        .unwrap_or_default();
    let hooks = table.get("hook").map(|field| {
        let services = table.get("service").map(|services| services.keys()).unwrap_or_default();
        let names = hook::Names { groups: groups.declared.clone(), services };
        hook::hooks(&field, &names, out)
    });
    let sync = own("sync").and_then(|field| {
        sync::against(&field, services.iter(), out);
        sync::sync(&field, out)
    });
    let sync_warmup = own("sync_warmup")
        .and_then(|field| field.duration("the warm-up", Duration::ZERO..=WARMUP_MAX, out));
    let kinds = [("keep", ForeignServices::Keep), ("remove", ForeignServices::Remove)];
    let foreign_services = own("foreign_services")
        .and_then(|field| field.choice("foreign services", &kinds, &[], out));
    Some(ClusterSpec {
        timing,
        arbitration: arbitration.unwrap_or_default(),
        timeouts,
        sync,
        sync_warmup: sync_warmup.unwrap_or(WARMUP_DEFAULT),
        foreign_services: foreign_services.unwrap_or_default(),
        groups: groups.read,
        services,
        hooks: hooks.unwrap_or_default(),
    })
}

/// Whole seconds, the kernel's unit.
fn seconds(what: &str, field: &Field<'_>, most: Duration, out: &mut Diagnostics) -> Option<u32> {
    let time = field.duration(what, Duration::from_secs(1)..=most, out)?;
    if time.subsec_nanos() != 0 {
        let problem = field.problem(format!("{what} is in whole seconds, the kernel's unit"));
        out.push(problem.help(format!("\"{}s\"", time.as_secs())));
        return None;
    }
    u32::try_from(time.as_secs()).ok()
}

fn timing_of(field: &Field<'_>, out: &mut Diagnostics) -> Option<Timing> {
    if field.peek().is_some() {
        let profiles = [("fast", Timing::FAST), ("lan", Timing::LAN), ("wan", Timing::WAN)];
        return field.choice("timing", &profiles, &[], out);
    }
    if !field.is_table() {
        let problem = field.problem("timing is a profile or a table");
        out.push(problem.help("\"fast\", \"lan\", \"wan\" or { lease = .., renew = .. }"));
        return None;
    }
    let table = field.table(&keys::TIMING, out)?;
    let any = Duration::ZERO..=LEASE_MAX * 10;
    let lease = table.require("lease", out).and_then(|f| f.duration("a lease", any.clone(), out));
    let renew = table.require("renew", out).and_then(|f| f.duration("renew", any, out));
    match Timing::new(lease?, renew?) {
        Ok(timing) => Some(timing),
        Err(error) => {
            out.push(field.problem(error.to_string()));
            None
        }
    }
}
