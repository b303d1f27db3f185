//! Groups to VRRP instances.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quorate_model::id::{GroupName, NodeName};
use quorate_model::occurrence::Kind;
use quorate_model::spec::{ClusterSpec, Vip, VipGroup};

use super::hooks::{self, Concerns};
use super::page::Page;
use super::words::seconds;
use super::{Exporting, routing, tracks};

/// The priority of the director that is preferred most, and by how much the next ones have less.
const PRIORITY_FIRST: usize = 150;
const PRIORITY_STEP: usize = 10;
/// Most addresses that an advertisement should name (keepalived.conf(5), `virtual_ipaddress_excluded`).
const ADVERTISED_MAX: usize = 20;
const PREEMPT_DELAY_MAX: Duration = Duration::from_secs(1_000);
/// Most virtual routers of one network: their number has a byte, and is not 0.
const ROUTERS_MAX: usize = 255;

/// The number of each group's virtual router: from its name, so that every director has the same, and so that it stays
/// what it is when groups come and go, but for those that would have one that is taken.
pub(super) fn router_ids(
    spec: &ClusterSpec,
    fixed: &BTreeMap<String, u8>,
) -> Result<BTreeMap<GroupName, u8>, String> {
    if let Some(name) = fixed.keys().find(|name| !spec.groups.keys().any(|g| g.as_str() == **name))
    {
        return Err(format!("--router-id {name}=..: there is no group {name:?}"));
    }
    // Each network has its own numbers, and where one set of them is enough, nothing is twice.
    let several = spec.groups.len() > ROUTERS_MAX;
    let network = |group: &VipGroup| match several {
        true => leading(group).map(|vip| vip.interface.as_str().to_owned()).unwrap_or_default(),
        false => String::new(),
    };
    let (mut ids, mut taken) = (BTreeMap::new(), BTreeSet::new());
    for (name, group) in &spec.groups {
        let Some(id) = fixed.get(name.as_str()) else { continue };
        if !taken.insert((network(group), *id)) {
            return Err(format!("--router-id {name}={id}: another group has {id}"));
        }
        ids.insert(name.clone(), *id);
    }
    for (name, group) in &spec.groups {
        if ids.contains_key(name) {
            continue;
        }
        let network = network(group);
        let start = hash(name.as_str());
        let free = (0..ROUTERS_MAX).find_map(|step| {
            let id = u8::try_from((start + step) % ROUTERS_MAX + 1).ok()?;
            taken.insert((network.clone(), id)).then_some(id)
        });
        let Some(id) = free else {
            return Err(format!(
                "VRRP knows {ROUTERS_MAX} virtual routers of one network, and group {name} would be one more: put the \
                 addresses into fewer groups"
            ));
        };
        ids.insert(name.clone(), id);
    }
    Ok(ids)
}

/// FNV-1a of 32 bits: as good as any, and the same for ever.
fn hash(text: &str) -> usize {
    let hash = text
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    usize::try_from(hash).unwrap_or(0) % ROUTERS_MAX
}

/// 150 for the first of `prefer`, 10 less for each that follows, and less again for who is not named; in smaller steps
/// where there are many.
pub(super) fn priority(group: &VipGroup, node: Option<&NodeName>) -> usize {
    let named = group.prefer.len();
    let step = ((PRIORITY_FIRST - 1) / named.max(1)).clamp(1, PRIORITY_STEP);
    let position = node.and_then(|node| group.prefer.iter().position(|known| known == node));
    PRIORITY_FIRST.saturating_sub(step * position.unwrap_or(named)).max(1)
}

/// The address by which an instance is of one family: one of IPv4 if there is one.
fn leading(group: &VipGroup) -> Option<&Vip> {
    group.addresses.iter().find(|vip| vip.net.addr().is_ipv4()).or(group.addresses.first())
}

/// Writes the instances.
pub(super) fn write(
    spec: &ClusterSpec,
    with: &Exporting<'_>,
    page: &mut Page,
) -> Result<(), String> {
    let ids = router_ids(spec, &with.options.router_ids)?;
    for (name, group) in &spec.groups {
        let (Some(id), Some(first)) = (ids.get(name), leading(group)) else { continue };
        page.line("");
        if let (Some(only), Some(node)) = (&group.only, with.node.as_ref())
            && !only.contains(node)
        {
            page.comment(&format!("group {name} is none of {node}: `only` does not name it"));
            continue;
        }
        instance(name, (group, first), *id, with, page);
    }
    Ok(())
}

fn instance(
    name: &GroupName,
    (group, first): (&VipGroup, &Vip),
    id: u8,
    with: &Exporting<'_>,
    page: &mut Page,
) {
    let whose = format!("group {name}");
    let devices = &with.options.devices;
    page.open(&format!("vrrp_instance {name}"));
    page.set("state", "BACKUP");
    let device = page.device_of(&first.interface, devices);
    page.set("interface", &device);
    page.set("virtual_router_id", id);
    page.set("priority", priority(group, with.node.as_ref()));
    page.set("advert_int", 1);
    preemption(&whose, group, page);
    let (mut advertised, mut excluded) = (Vec::new(), Vec::new());
    for vip in &group.addresses {
        let own = page.device_of(&vip.interface, devices);
        let line = format!("{} dev {own}", vip.net);
        let fits = vip.net.addr().is_ipv4() == first.net.addr().is_ipv4();
        match fits && advertised.len() < ADVERTISED_MAX {
            true => advertised.push(line),
            false => excluded.push(line),
        }
    }
    page.block("virtual_ipaddress", &advertised);
    page.block("virtual_ipaddress_excluded", &excluded);
    routing::write(group, with, page);
    tracks::list(group, with, page);
    let arbitration = with.spec.arbitration_of(group);
    if !arbitration.is_empty() {
        let all: Vec<String> = arbitration.iter().map(ToString::to_string).collect();
        let what = format!(
            "arbitration by {}: a vrrp_script that pings them comes near it",
            all.join(", ")
        );
        page.lost(&whose, &what);
    }
    if group.evacuate_on_disagreement {
        page.lost(&whose, "evacuate_on_disagreement: a director goes by what it sees itself");
    }
    let concerns = Concerns { group: Some(name), service: None, server: None };
    hooks::write("notify_master", Kind::GroupUp, concerns, with, page);
    for keyword in ["notify_backup", "notify_fault", "notify_stop"] {
        hooks::write(keyword, Kind::GroupDown, concerns, with, page);
    }
    page.close();
}

fn preemption(whose: &str, group: &VipGroup, page: &mut Page) {
    if !group.preempt {
        page.line("nopreempt");
        return;
    }
    if group.preempt_delay > PREEMPT_DELAY_MAX {
        let what = format!(
            "a preempt_delay of {} s: Keepalived waits 1000 s at most",
            seconds(group.preempt_delay)
        );
        page.lost(whose, &what);
    }
    page.set("preempt_delay", seconds(group.preempt_delay.min(PREEMPT_DELAY_MAX)));
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use quorate_model::spec::{Format, parse};

    use super::*;

    fn spec(groups: usize, more: &str) -> ClusterSpec {
        let mut text = String::new();
        for number in 0..groups {
            let (high, low) = (number / 200, number % 200 + 1);
            let _ = writeln!(
                text,
                "[group.g{number}]\ninterface = \"if{high}\"\naddresses = [\"192.0.{high}.{low}\"]\n{more}"
            );
        }
        parse(&text, Format::Toml).unwrap()
    }

    #[test]
    fn router_ids_are_of_a_byte_and_each_once_and_those_that_were_given_stand() {
        let many = spec(255, "");
        let fixed = BTreeMap::from([("g7".to_owned(), 51)]);
        let ids = router_ids(&many, &fixed).unwrap();
        assert_eq!(ids.values().collect::<BTreeSet<_>>().len(), 255);
        assert_eq!(ids[&"g7".parse().unwrap()], 51);
        assert!(!ids.values().any(|id| *id == 0));
        assert_eq!(router_ids(&many, &fixed).unwrap(), ids);
        // Two networks, each with numbers of its own.
        assert_eq!(router_ids(&spec(300, ""), &BTreeMap::new()).unwrap().len(), 300);
    }

    #[test]
    fn a_router_id_that_is_taken_or_of_no_group_is_refused() {
        let two = spec(2, "");
        let twice = BTreeMap::from([("g0".to_owned(), 9), ("g1".to_owned(), 9)]);
        assert_eq!(router_ids(&two, &twice).unwrap_err(), "--router-id g1=9: another group has 9");
        let none = BTreeMap::from([("h".to_owned(), 9)]);
        assert!(router_ids(&two, &none).unwrap_err().contains("no group \"h\""));
    }

    #[test]
    fn the_order_of_prefer_is_that_of_the_priorities_and_who_is_not_named_is_last() {
        let of = |prefer: &str, node: &str| {
            let spec = spec(1, prefer);
            let group = spec.groups.values().next().unwrap();
            priority(group, Some(&node.parse().unwrap()))
        };
        let three = "prefer = [\"a\", \"b\", \"c\"]";
        assert_eq!(["a", "b", "c", "d"].map(|node| of(three, node)), [150, 140, 130, 120]);
        assert_eq!(of("", "a"), 150);
        let names: Vec<String> = (0..20).map(|number| format!("\"n{number}\"")).collect();
        let many = format!("prefer = [{}]", names.join(", "));
        assert_eq!((of(&many, "n19"), of(&many, "x")), (17, 10));
    }
}
