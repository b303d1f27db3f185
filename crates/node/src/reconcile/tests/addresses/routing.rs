//! Routes and policy rules are there as long as one of their group's addresses is.

use quorate_model::routing::{Routing, RoutingEntry};

use super::super::super::{remove_routing, routing_list};
use super::*;

const ROUTE: &str =
    "route unicast 10.0.0.0/8 on eth0 source 192.0.2.1 table 254 metric 0 scope link";
const RULE: &str = "rule IPv4 1000 from 192.0.2.1/32 lookup 100";

fn entry(text: &str) -> RoutingEntry {
    text.parse().unwrap()
}

fn both() -> Routing {
    [ROUTE, RULE].map(entry).into()
}

impl Addresses {
    /// Sets a goal with the route and the rule, which go with these addresses; waits until it was worked on.
    async fn aim_both(
        &mut self,
        wanted: &[(DeviceAddress, Instant)],
        with: &[DeviceAddress],
    ) -> AddressReport {
        self.sequence += 1;
        let sequence = self.sequence;
        let goal = AddressGoal {
            sequence,
            wanted: wanted.iter().cloned().collect(),
            lifetime: LIFETIME,
            known: set(&[vip(1), vip(2)]),
            routing: both().into_iter().map(|entry| (entry, set(with))).collect(),
        };
        self.thread.aim(goal);
        self.until(|report| report.sequence == sequence).await
    }

    /// Waits until the kernel's routes and rules are these: each new goal is worked on after the one before.
    async fn settle(&mut self, want: &Routing) {
        for _ in 0..1_000 {
            if self.kernel.routing() == *want {
                return;
            }
            self.thread.look();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{:?}", self.kernel.routing());
    }

    fn routing_listed(&self) -> String {
        std::fs::read_to_string(routing_list(self.directory.path())).unwrap_or_default()
    }
}

#[tokio::test]
async fn they_come_with_the_address_that_they_need_and_go_with_it() {
    let mut addresses = Addresses::on(kernel()).await;
    // The fake refuses the route before its source address is there.
    addresses.aim_both(&[(vip(1), later())], &[vip(1)]).await;
    addresses.settle(&both()).await;
    assert_eq!(addresses.routing_listed(), format!("{ROUTE}\n{RULE}\n"));
    addresses.aim(&[], &[vip(1), vip(2)]).await;
    assert_eq!(addresses.kernel.routing(), Routing::new(), "before the release is told");
    addresses.settle(&Routing::new()).await;
    addresses.aim(&[], &[vip(1), vip(2)]).await;
    assert_eq!(addresses.routing_listed(), "");
}

#[tokio::test]
async fn they_stay_as_long_as_one_of_several_addresses_is_carried() {
    let mut addresses = Addresses::on(kernel()).await;
    let rule: Routing = [entry(RULE)].into();
    addresses.aim_both(&[(vip(1), clock::now()), (vip(2), later())], &[vip(1), vip(2)]).await;
    addresses.settle(&rule).await;
    // With the last one they go, though the goal still wants them: the lease is over.
    addresses.aim_both(&[(vip(1), clock::now()), (vip(2), clock::now())], &[vip(1), vip(2)]).await;
    assert_eq!(addresses.kernel.routing(), rule, "a lapse is not a loss");
    addresses.kernel.advance(LIFETIME);
    addresses.settle(&Routing::new()).await;
}

#[tokio::test]
async fn what_is_removed_by_hand_comes_back() {
    let mut addresses = Addresses::on(kernel()).await;
    addresses.aim_both(&[(vip(1), later())], &[vip(1)]).await;
    addresses.settle(&both()).await;
    for entry in both() {
        addresses.kernel.take_routing_by_hand(&entry);
        addresses.settle(&both()).await;
    }
}

#[tokio::test]
async fn what_the_kernel_refuses_is_told_and_tried_again() {
    let mut addresses = Addresses::on(kernel()).await;
    addresses.kernel.fail_next(Call::AddRouting, 1, EINVAL);
    addresses.aim_both(&[(vip(1), later())], &[vip(1)]).await;
    let report = addresses.until(|report| !report.routing.is_empty()).await;
    assert_eq!(report.routing.keys().collect::<Vec<_>>(), [&entry(ROUTE)]);
    assert_eq!(report.failed, BTreeMap::new(), "no address failed");
    addresses.until(|report| report.routing.is_empty()).await;
    assert_eq!(addresses.kernel.routing(), both());
}

#[tokio::test]
async fn what_has_the_place_of_one_is_told_and_stays() {
    let mut addresses = Addresses::on(kernel()).await;
    let foreign = entry("route blackhole 10.0.0.0/8 table 254 metric 0 scope global");
    addresses.kernel.put_foreign_routing(&foreign);
    addresses.aim_both(&[(vip(1), later())], &[vip(1)]).await;
    let report = addresses.until(|report| !report.routing.is_empty()).await;
    assert!(report.routing[&entry(ROUTE)].contains("another one has its place"));
    addresses.aim(&[], &[vip(1)]).await;
    assert_eq!(addresses.kernel.foreign_routing(), [foreign].into());
}

#[tokio::test]
async fn the_kernel_gets_none_that_could_not_be_listed_as_ours_before() {
    let mut addresses = Addresses::on(kernel()).await;
    addresses.aim(&[(vip(1), later())], &[vip(1), vip(2)]).await;
    // Whatever is written to is no file.
    std::fs::create_dir(routing_list(addresses.directory.path())).unwrap();
    addresses.aim_both(&[(vip(1), later())], &[vip(1)]).await;
    let report = addresses.until(|report| !report.routing.is_empty()).await;
    assert_eq!(report.routing.keys().cloned().collect::<Routing>(), both());
    assert_eq!(addresses.kernel.routing(), Routing::new());
}

#[test]
fn what_a_dead_daemon_left_goes_first_and_what_is_anothers_stays() {
    let directory = tempfile::tempdir().unwrap();
    let kernel = kernel();
    kernel.dataplane().add_address(&vip(1), Some(LIFETIME)).unwrap();
    let foreign = entry("route blackhole 0.0.0.0/0 table 7 metric 0 scope global");
    kernel.put_foreign_routing(&foreign);
    for entry in both() {
        kernel.dataplane().add_routing(&entry).unwrap();
    }
    // The list was lost with its directory: the mark tells.
    remove_left_over(&mut kernel.dataplane(), directory.path()).unwrap();
    assert_eq!(kernel.routing(), Routing::new());
    assert_eq!(kernel.foreign_routing(), [foreign].into());
}

#[test]
fn a_left_over_that_the_kernel_keeps_stays_on_the_list() {
    let directory = tempfile::tempdir().unwrap();
    let kernel = kernel();
    kernel.dataplane().add_routing(&entry(RULE)).unwrap();
    kernel.fail_next(Call::RemoveRouting, 1, EINVAL);
    let (gone, stay) = remove_routing(&mut kernel.dataplane(), directory.path()).unwrap();
    assert_eq!((gone, stay.len()), (Routing::new(), 1));
    let listed = std::fs::read_to_string(routing_list(directory.path())).unwrap();
    assert_eq!(listed, format!("{RULE}\n"));
    // Where they can't be read, the list is all there is.
    kernel.fail_next(Call::ObserveRouting, 1, EINVAL);
    let (gone, stay) = remove_routing(&mut kernel.dataplane(), directory.path()).unwrap();
    assert_eq!((gone, stay.len()), ([entry(RULE)].into(), 0));
    assert_eq!(kernel.routing(), Routing::new());
}
