//! Chains of facts as they are told.

use quorate_api::v1::{
    ClusterStatus, GroupReach, GroupStatus, IneligibleDirector, NodeState, NodeStatus, OtherView,
    Override, RealServerState, RealServerStatus, ServiceStatus,
};
use quorate_model::spec::{self, Format};

use super::*;
use crate::output::table::{Style, explained};

const SOURCE: &str = "group.web = { interface = \"public\", addresses = [\"192.0.2.80/24\"], \
    prefer = [\"lb3\", \"lb2\", \"lb1\"], preempt_delay = \"2m\" }\n\
    [service.shop]\ngroup = \"web\"\nlisten = \"tcp/192.0.2.80:443\"\nquorum = 2\nslow_start = \"30s\"\n\
    check = { type = \"tcp\" }\n\
    real_servers = [{ address = \"192.0.2.16\", weight = 10 }, { address = \"192.0.2.17\", weight = 10 }]\n";

fn spec() -> ClusterSpec {
    spec::parse(SOURCE, Format::Toml).unwrap()
}

fn node(name: &str, state: NodeState, problems: &[&str]) -> NodeStatus {
    NodeStatus {
        name: name.to_owned(),
        state: state.into(),
        problems: problems.iter().map(ToString::to_string).collect(),
        ..NodeStatus::default()
    }
}

fn reach(node: &str, up: u32) -> GroupReach {
    GroupReach { node: node.to_owned(), up, down: 2 - up, all: 2 }
}

fn server(address: &str, state: RealServerState, reason: &str) -> RealServerStatus {
    let up = state == RealServerState::Up;
    RealServerStatus {
        address: address.to_owned(),
        weight: 10,
        effective_weight: if up { 10 } else { 0 },
        kernel_weight: up.then_some(10),
        state: state.into(),
        reason: reason.to_owned(),
        active: 4,
        ..RealServerStatus::default()
    }
}

fn status() -> StatusResponse {
    let otherwise = vec![OtherView {
        node: "lb2".to_owned(),
        state: RealServerState::Up.into(),
        reason: String::new(),
    }];
    let down = server("192.0.2.17:443", RealServerState::Down, "connection refused");
    StatusResponse {
        member: true,
        answered_by: "lb1".to_owned(),
        cluster: Some(ClusterStatus {
            leader: Some("lb2".to_owned()),
            voters: 3,
            voters_reachable: 2,
            ..ClusterStatus::default()
        }),
        nodes: vec![
            node("lb1", NodeState::Ready, &["link lan to lb2 is down"]),
            node("lb2", NodeState::Ready, &[]),
            node("lb3", NodeState::Unreachable, &[]),
        ],
        groups: vec![GroupStatus {
            name: "web".to_owned(),
            addresses: vec!["192.0.2.80/24".to_owned()],
            owner: Some("lb1".to_owned()),
            epoch: 17,
            lease_remaining_ms: Some(430),
            since: Some("2026-01-02T03:04:05Z".to_owned()),
            standby: vec!["lb2".to_owned()],
            reason: "owner silent".to_owned(),
            reach: vec![reach("lb1", 1), reach("lb2", 2)],
            ineligible: vec![IneligibleDirector {
                node: "lb3".to_owned(),
                reason: "unreachable".to_owned(),
            }],
        }],
        services: vec![ServiceStatus {
            name: "shop".to_owned(),
            group: "web".to_owned(),
            listen: vec!["tcp/192.0.2.80:443".to_owned()],
            scheduler: "wlc".to_owned(),
            forward: "DR".to_owned(),
            seen_by: "lb1".to_owned(),
            real_servers: vec![
                server("192.0.2.16:443", RealServerState::Up, ""),
                RealServerStatus { otherwise, ..down },
            ],
            ..ServiceStatus::default()
        }],
    }
}

fn text(status: &StatusResponse, what: &str) -> String {
    explained(&explain(status, Some(&spec()), what), Style::default())
}

#[test]
fn a_group_is_where_it_is_for_these_reasons() {
    assert_eq!(
        text(&status(), "192.0.2.80"),
        "lb1 serves web: owner silent\n\
         \x20 -     web has 192.0.2.80/24\n\
         \x20 ok    lb1 was granted it since 2026-01-02T03:04:05Z, epoch 17: owner silent\n\
         \x20 ok    lb1: a majority of the voters acked its lease: 430 ms are left of it\n\
         \x20 warn  the configuration prefers lb3, lb2, lb1: lb3, lb2 before lb1; it returns to a \
         better one that has been eligible for 2m (preempt_delay)\n\
         \x20 ok    could take it over, the best first: lb2\n\
         \x20 BAD   lb3 may not have it: unreachable\n\
         \x20 warn  lb1: its owner has a problem: link lan to lb2 is down\n\
         \x20 warn  lb1: sees 1 of 2 real servers up, 1 down\n\
         \x20 -     lb2: sees 2 of 2 real servers up, 0 down\n\
         \x20 -     that moves nothing (evacuate_on_disagreement = false)\n\
         \x20 warn  lb1: service shop: 1 of 2 real servers take traffic\n\
         \x20 next: quorate history web\n"
    );
}

#[test]
fn a_group_without_owner_says_what_is_in_the_way() {
    let mut status = status();
    let group = &mut status.groups[0];
    (group.owner, group.lease_remaining_ms, group.since) = (None, None, None);
    group.reason = "no director is eligible: lb3 is unreachable".to_owned();
    group.standby.clear();
    if let Some(cluster) = &mut status.cluster {
        cluster.leader = None;
    }
    let text = text(&status, "web");
    assert!(text.starts_with("nobody serves web: no director is eligible: lb3"), "{text}");
    for line in [
        "BAD   no live owner is known",
        "BAD   there is no leader (2 of 3 voters are heard of): nothing is granted",
        "ok    the configuration prefers lb3, lb2, lb1",
        "warn  no other director could take it over now",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

#[test]
fn a_real_server_is_down_for_these_reasons() {
    assert_eq!(
        text(&status(), "192.0.2.17"),
        "192.0.2.17:443 in shop is down: connection refused\n\
         \x20 -     lb1 owns group web and sends its traffic: its view counts\n\
         \x20 BAD   lb1: is down: connection refused\n\
         \x20 -     checks: tcp every 6s timeout 3s retry 3 after 3s\n\
         \x20 warn  lb2: sees it otherwise, up\n\
         \x20 -     lb1: weight 10 is configured, 0 is wanted now; the kernel's table does not have it\n\
         \x20 -     it needs a weight of 2 up (quorum)\n\
         \x20 -     one that comes up gets its weight within 30s (slow_start)\n\
         \x20 -     lb1: it has 4 active and 0 other connections\n\
         \x20 next: quorate explain web\n"
    );
}

#[test]
fn an_order_of_an_operator_is_named_with_how_to_take_it_back() {
    let mut status = status();
    let server = &mut status.services[0].real_servers[0];
    server.state = RealServerState::Draining.into();
    server.effective_weight = 0;
    server.r#override = Some(Override {
        weight: 0,
        by: "client ada".to_owned(),
        since: "2026-01-02T03:04:05Z".to_owned(),
        until: None,
    });
    let text = text(&status, "192.0.2.16:443");
    let order = "warn  client ada gave it weight 0 since 2026-01-02T03:04:05Z, in place of 10";
    assert!(text.contains(order), "{text}");
    assert!(
        text.contains(
            "warn  lb1: weight 10 is configured, 0 is wanted now; the kernel still has 10"
        )
    );
    assert!(
        text.contains("next: quorate realserver enable 192.0.2.16:443 --service shop"),
        "{text}"
    );
}

#[test]
fn a_service_lists_its_real_servers_and_whom_to_ask_about() {
    let text = text(&status(), "shop");
    assert!(text.starts_with("1 of 2 real servers of shop take traffic\n"), "{text}");
    assert!(text.contains("BAD   lb1: 192.0.2.17:443 is down: connection refused"), "{text}");
    assert!(text.contains("next: quorate explain 192.0.2.17:443\n"), "{text}");
}

#[test]
fn what_is_not_there_means_nothing_and_without_a_configuration_facts_remain() {
    assert!(explain(&status(), Some(&spec()), "192.0.2.99").is_empty());
    assert!(explain(&status(), None, "192.0.2.17:80").is_empty(), "another port");
    assert_eq!(known(&status()), ["shop", "web"]);
    let bare = explain(&status(), None, "web");
    assert_eq!(bare.len(), 1);
    assert!(bare[0].facts.len() > 5);
}
