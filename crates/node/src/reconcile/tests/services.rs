//! The IPVS table becomes what the director wants, and nothing else is touched.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use quorate_dataplane::fake::Call;
use quorate_dataplane::{Dataplane as _, Errno, IpvsProblem, Operation, SysctlMode};
use quorate_model::director::{ServiceGoal, ServiceReport};
use quorate_model::kernel::{
    ConnectionTimeouts, DesiredService, DesiredServices, Destination, ObservedService,
    ObservedServices, ServiceKey, ServiceSettings, Statistics, Traffic,
};
use quorate_model::ownership::message::Obstacle;
use quorate_model::spec::{ForeignServices, Forward, Protocol, Scheduler, Timeouts};
use tempfile::TempDir;

use super::*;

mod filter;

/// EINVAL of asm-generic/errno-base.h.
const EINVAL: Errno = Errno(22);

fn scheduler(name: &str) -> Scheduler {
    Scheduler::named(name).unwrap()
}

fn key(octet: u8) -> ServiceKey {
    ServiceKey::at(Protocol::Tcp, ([192, 0, 2, octet], 80).into())
}

fn server() -> SocketAddr {
    ([192, 0, 2, 100], 80).into()
}

/// A service on this address with one real server.
fn service(octet: u8, by: &str, weight: u32) -> (ServiceKey, DesiredService) {
    let settings = ServiceSettings::plain(scheduler(by));
    let destination = Destination::new(Forward::Dr, weight);
    let destinations = BTreeMap::from([(server(), destination)]);
    (key(octet), DesiredService { settings, destinations })
}

fn foreign() -> ObservedService {
    let total = Traffic { connections: 9, ..Traffic::default() };
    let statistics = Statistics { total, ..Statistics::default() };
    ObservedService { statistics, ..ObservedService::default() }
}

struct Services {
    kernel: FakeKernel,
    directory: TempDir,
    thread: ServiceThread,
    events: mpsc::Receiver<Event>,
    found: ObservedServices,
    sequence: u64,
}

impl Services {
    async fn on(kernel: FakeKernel) -> Self {
        Self::start(kernel, tempfile::tempdir().unwrap()).await
    }

    async fn start(kernel: FakeKernel, directory: TempDir) -> Self {
        let (sender, mut events) = mpsc::channel(EVENTS);
        let thread = ServiceThread::start(
            on(&kernel),
            directory.path(),
            Vec::new(),
            SysctlMode::Set,
            sender,
        )
        .unwrap();
        let Event::ServicesFound(found) = next(&mut events).await else {
            panic!("not found first")
        };
        let mut services = Self { kernel, directory, thread, events, found, sequence: 0 };
        assert_eq!(services.report().await.sequence, 0);
        services
    }

    /// The daemon ends and another starts on the same kernel and disk.
    async fn restart(self) -> Self {
        drop(self.events);
        Self::start(self.kernel, self.directory).await
    }

    async fn report(&mut self) -> ServiceReport {
        let event = next(&mut self.events).await;
        let Event::Services(report) = event else { panic!("{event:?}") };
        report
    }

    /// Sets a goal and waits until it was worked on.
    async fn aim(&mut self, services: &[(ServiceKey, DesiredService)]) -> ServiceReport {
        let services: DesiredServices = services.iter().cloned().collect();
        self.aim_at(ServiceGoal { services, ..ServiceGoal::default() }).await
    }

    async fn aim_at(&mut self, goal: ServiceGoal) -> ServiceReport {
        self.sequence += 1;
        self.thread.aim(ServiceGoal { sequence: self.sequence, ..goal });
        loop {
            let report = self.report().await;
            if report.sequence == self.sequence {
                return report;
            }
        }
    }

    /// The keys and weights in the kernel.
    fn table(&self) -> Vec<(ServiceKey, Vec<u32>)> {
        let weights = |service: &ObservedService| {
            service.destinations.values().filter_map(|d| d.destination).map(|d| d.weight).collect()
        };
        self.kernel.services().iter().map(|(key, service)| (*key, weights(service))).collect()
    }
}

#[tokio::test]
async fn the_thread_says_first_what_the_kernel_holds() {
    let kernel = FakeKernel::new();
    kernel.put_foreign_service(key(1), foreign());
    let services = Services::on(kernel).await;
    assert_eq!(services.found.keys().collect::<Vec<_>>(), [&key(1)]);
    assert_eq!(services.kernel.take_applied(), [], "before a goal nothing is touched");
}

#[tokio::test]
async fn time_outs_that_are_wanted_are_set_and_the_others_left_alone() {
    let mut services = Services::on(FakeKernel::new()).await;
    let mut other_program = services.kernel.dataplane();
    let by_hand = ConnectionTimeouts { tcp_s: 77, ..ConnectionTimeouts::default() };
    other_program.set_timeouts(by_hand).unwrap();
    services.aim_at(ServiceGoal::default()).await;
    assert_eq!(other_program.timeouts(), Ok(by_hand));
    let timeouts = Timeouts { udp_s: Some(10), ..Timeouts::default() };
    services.aim_at(ServiceGoal { timeouts, ..ServiceGoal::default() }).await;
    let want = ConnectionTimeouts { udp_s: 10, ..by_hand };
    assert_eq!(other_program.timeouts(), Ok(want));
    // Changed by hand, they come right again with the next look.
    other_program.set_timeouts(by_hand).unwrap();
    services.aim_at(ServiceGoal { timeouts, ..ServiceGoal::default() }).await;
    assert_eq!(other_program.timeouts(), Ok(want));
}

#[tokio::test]
async fn a_table_that_cannot_be_read_at_once_is_read_again() {
    let kernel = FakeKernel::new();
    kernel.put_foreign_service(key(1), foreign());
    kernel.fail_next(Call::ObserveServices, 2, EINVAL);
    let services = Services::on(kernel).await;
    assert_eq!(services.found.len(), 1, "else real servers found down would be put back");
}

#[tokio::test]
async fn the_table_becomes_what_the_goal_says() {
    let mut services = Services::on(FakeKernel::new()).await;
    let report = services.aim(&[service(1, "rr", 1), service(2, "rr", 1)]).await;
    assert_eq!((report.failed, report.obstacle), (BTreeMap::new(), None));
    assert_eq!(services.table(), [(key(1), vec![1]), (key(2), vec![1])]);
    services.aim(&[service(1, "rr", 7), service(2, "rr", 1)]).await;
    assert_eq!(services.table(), [(key(1), vec![7]), (key(2), vec![1])]);
}

#[tokio::test]
async fn a_service_that_is_wanted_no_longer_goes_and_a_foreign_one_stays() {
    let kernel = FakeKernel::new();
    kernel.put_foreign_service(key(9), foreign());
    let mut services = Services::on(kernel).await;
    services.aim(&[service(1, "rr", 1), service(2, "rr", 1)]).await;
    services.aim(&[service(2, "rr", 1)]).await;
    assert_eq!(services.table(), [(key(2), vec![1]), (key(9), vec![])]);
}

#[tokio::test]
async fn a_service_of_the_daemon_before_goes_when_it_is_not_wanted() {
    let kernel = FakeKernel::new();
    let mut services = Services::on(kernel).await;
    services.aim(&[service(1, "rr", 1), service(2, "rr", 1)]).await;
    let mut services = services.restart().await;
    services.kernel.put_foreign_service(key(9), foreign());
    services.aim(&[service(2, "rr", 1)]).await;
    assert_eq!(services.table(), [(key(2), vec![1]), (key(9), vec![])]);
}

#[tokio::test]
async fn a_restarted_daemon_changes_nothing_that_is_right() {
    let mut services = Services::on(FakeKernel::new()).await;
    let goal = [service(1, "rr", 1), service(2, "wlc", 3)];
    services.aim(&goal).await;
    assert_eq!(services.kernel.take_applied().len(), 4);
    let mut services = services.restart().await;
    services.aim(&goal).await;
    assert_eq!(services.kernel.take_applied(), []);
}

#[tokio::test]
async fn what_another_program_changed_is_mended_without_being_asked() {
    let mut services = Services::on(FakeKernel::new()).await;
    services.aim(&[service(1, "rr", 1)]).await;
    services.kernel.take_foreign_service(&key(1));
    while services.table().is_empty() {
        services.report().await;
    }
    assert_eq!(services.table(), [(key(1), vec![1])]);
}

/// Another goal is planned on what the thread knows, without reading a large table again.
#[tokio::test]
async fn a_goal_between_two_looks_does_not_read_the_table() {
    let mut services = Services::on(FakeKernel::new()).await;
    services.aim(&[service(1, "rr", 1)]).await;
    services.kernel.fail_next(Call::ObserveServices, 1, EINVAL);
    let report = services.aim(&[service(1, "rr", 2)]).await;
    assert_eq!(report.failed, BTreeMap::new());
    assert_eq!(services.table(), [(key(1), vec![2])]);
}

/// Planned on what was true before, it fails; then the table is read, and it is done.
#[tokio::test]
async fn a_goal_on_a_table_that_changed_meanwhile_is_reached_all_the_same() {
    let mut services = Services::on(FakeKernel::new()).await;
    services.aim(&[service(1, "rr", 1)]).await;
    services.kernel.take_foreign_service(&key(1));
    let report = services.aim(&[service(1, "rr", 2)]).await;
    assert_eq!(report.failed, BTreeMap::new());
    assert_eq!(services.table(), [(key(1), vec![2])]);
}

#[tokio::test]
async fn the_kernel_gets_no_service_that_could_not_be_listed_as_ours_before() {
    let mut services = Services::on(FakeKernel::new()).await;
    std::fs::remove_dir_all(services.directory.path()).unwrap();
    let report = services.aim(&[service(1, "rr", 1)]).await;
    assert_eq!(report.failed.keys().collect::<Vec<_>>(), [&key(1)]);
    assert_eq!(services.table(), []);
}

#[tokio::test]
async fn what_the_kernel_refuses_is_told_for_its_key_and_tried_again() {
    let mut services = Services::on(FakeKernel::new()).await;
    services.kernel.set_missing_schedulers([scheduler("wlc")].into());
    let report = services.aim(&[service(1, "rr", 1), service(2, "wlc", 1)]).await;
    assert_eq!(report.failed.keys().collect::<Vec<_>>(), [&key(2)]);
    assert_eq!(services.table(), [(key(1), vec![1])], "the other one is not held up");
    assert!(!services.thread.view().problems.is_empty());
    services.kernel.set_missing_schedulers(BTreeSet::new());
    while !services.report().await.failed.is_empty() {}
    assert_eq!(services.table(), [(key(1), vec![1]), (key(2), vec![1])]);
    assert_eq!(services.thread.view().problems, BTreeSet::new());
}

#[tokio::test]
async fn a_failure_that_the_next_attempt_mends_is_not_told() {
    let mut services = Services::on(FakeKernel::new()).await;
    services.kernel.fail_next(Call::Apply, 1, EINVAL);
    assert_eq!(services.aim(&[service(1, "rr", 1)]).await.failed, BTreeMap::new());
    assert_eq!(services.table(), [(key(1), vec![1])]);
}

#[tokio::test]
async fn a_kernel_without_ip_vs_is_an_obstacle_until_it_has_it() {
    let kernel = FakeKernel::new();
    kernel.set_ipvs(Err(IpvsProblem::NoModule));
    let mut services = Services::on(kernel).await;
    let report = services.aim(&[service(1, "rr", 1)]).await;
    assert_eq!(report.obstacle, Some(Obstacle::NoIpvs));
    let problems = services.thread.view().problems;
    assert!(problems.iter().any(|problem| problem.contains("modprobe ip_vs")), "{problems:?}");
    services.kernel.set_ipvs(Ok(()));
    while services.report().await.obstacle.is_some() {}
    assert_eq!(services.table(), [(key(1), vec![1])]);
}

#[tokio::test]
async fn without_the_right_to_change_the_kernel_that_is_the_obstacle() {
    let kernel = FakeKernel::new();
    kernel.set_net_admin(false);
    let mut services = Services::on(kernel).await;
    let report = services.aim(&[service(1, "rr", 1)]).await;
    assert_eq!(report.obstacle, Some(Obstacle::NoNetAdmin));
}

#[tokio::test]
async fn a_dataplane_that_cannot_be_made_is_told_as_an_obstacle() {
    let directory = tempfile::tempdir().unwrap();
    let (sender, mut events) = mpsc::channel(EVENTS);
    let make: MakeDataplane =
        Box::new(|| Err(DataplaneError::from_errno(Operation::ObserveServices, Errno(1))));
    ServiceThread::start(make, directory.path(), Vec::new(), SysctlMode::Set, sender).unwrap();
    assert!(matches!(next(&mut events).await, Event::ServicesFound(found) if found.is_empty()));
    let Event::Services(report) = next(&mut events).await else { panic!("no report") };
    assert_eq!(report.obstacle, Some(Obstacle::NoNetAdmin));
}

#[tokio::test]
async fn who_asks_sees_the_table_as_it_is_with_its_counters() {
    let services = Services::on(FakeKernel::new()).await;
    services.kernel.put_foreign_service(key(9), foreign());
    let observed = services.thread.observe().await.unwrap();
    assert_eq!(observed[&key(9)].statistics.total.connections, 9);
}

#[tokio::test]
async fn a_sysctl_that_cannot_be_set_is_told_as_a_problem() {
    let kernel = FakeKernel::new();
    kernel.set_sysctls_read_only(true);
    let mut services = Services::on(kernel).await;
    let report = services.aim(&[service(1, "rr", 1)]).await;
    assert_eq!((report.obstacle, report.failed), (None, BTreeMap::new()), "it keeps nobody away");
    let problems = services.thread.view().problems;
    let named = |key: &str| problems.iter().any(|problem| problem.contains(key));
    assert!(named("net.ipv4.conf.all.send_redirects"), "{problems:?}");
}

#[tokio::test]
async fn who_is_told_to_owns_the_whole_table() {
    let kernel = FakeKernel::new();
    kernel.put_foreign_service(key(9), foreign());
    let mut services = Services::on(kernel).await;
    let foreign = ForeignServices::Remove;
    let goal =
        ServiceGoal { services: [service(1, "rr", 1)].into(), foreign, ..ServiceGoal::default() };
    services.aim_at(goal).await;
    assert_eq!(services.table(), [(key(1), vec![1])]);
}
