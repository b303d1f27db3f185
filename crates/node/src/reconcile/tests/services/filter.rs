//! Firewall marks and sync daemons, and the table of the packet filter that both need.

use quorate_model::kernel::{DeviceAddress, Family, MarkRule, MarkRules, PacketRules};
use quorate_model::spec::{Format, parse};
use quorate_model::sync::{SyncDaemons, SyncGoal, SyncRole, SyncStep};

use super::*;

fn marked(mark: u32) -> (ServiceKey, DesiredService) {
    let key = ServiceKey::Marked { mark: mark.try_into().unwrap(), family: Family::V4 };
    (key, service(1, "rr", 1).1)
}

fn marks(mark: u32) -> MarkRules {
    let (address, protocol) = ([192, 0, 2, 1].into(), Protocol::Tcp);
    [MarkRule { address, protocol, ports: (80, 81), mark: mark.try_into().unwrap() }].into()
}

#[tokio::test]
async fn marks_follow_the_goal_and_are_put_back() {
    let mut services = Services::on(FakeKernel::new()).await;
    for mark in [1, 2] {
        let goal = ServiceGoal {
            services: [marked(mark)].into(),
            marks: marks(mark),
            ..ServiceGoal::default()
        };
        assert_eq!(services.aim_at(goal).await.failed, BTreeMap::new());
        assert_eq!(services.kernel.rules().marks, marks(mark));
    }
    services.kernel.spoil_rules();
    services.thread.filter_changed();
    let mut other_program = services.kernel.dataplane();
    while other_program.rules().unwrap().map(|rules| rules.marks) != Some(marks(2)) {
        services.thread.observe().await.unwrap();
    }
    services.aim(&[]).await;
    assert_eq!((services.kernel.rules().marks, services.table()), (MarkRules::new(), Vec::new()));
}

/// The others are programmed; without marks in the configuration it is missed by nobody.
#[tokio::test]
async fn without_nftables_only_services_by_mark_fail() {
    let mut services = Services::on(FakeKernel::new()).await;
    services.kernel.set_nft(false);
    assert_eq!(services.aim(&[service(1, "rr", 1)]).await.failed, BTreeMap::new());
    assert_eq!(services.thread.view().problems, BTreeSet::new());
    let goal = ServiceGoal {
        services: [service(1, "rr", 1), marked(7)].into(),
        marks: marks(7),
        ..ServiceGoal::default()
    };
    let report = services.aim_at(goal).await;
    assert_eq!(report.failed.keys().collect::<Vec<_>>(), [&marked(7).0]);
    let problems = services.thread.view().problems;
    assert!(problems.iter().any(|problem| problem.contains("install nftables")), "{problems:?}");
    services.kernel.set_nft(true);
    while !services.report().await.failed.is_empty() {}
    assert_eq!(services.kernel.rules().marks, marks(7));
}

fn sync_goal(address: &str) -> ServiceGoal {
    let spec = parse("cluster.sync = { link = \"lan\" }", Format::Toml).unwrap().sync.unwrap();
    let members = ["192.0.2.1", "192.0.2.2"].map(|member| member.parse().unwrap()).into();
    let sync = Some(SyncGoal { spec, address: Some(address.parse().unwrap()), members });
    ServiceGoal { sync, ..ServiceGoal::default() }
}

/// With a link on eth0.
fn linked() -> FakeKernel {
    let kernel = FakeKernel::new();
    kernel.set_device(&eth(0), up());
    let net = "192.0.2.1/24".parse().unwrap();
    kernel.put_foreign_address(&DeviceAddress { device: eth(0), net });
    kernel
}

#[tokio::test]
async fn both_sync_daemons_run_behind_their_filter_and_end_when_they_are_not_wanted() {
    let mut services = Services::on(linked()).await;
    // Who has just started has heard nothing yet.
    assert!(!services.aim_at(sync_goal("192.0.2.1")).await.synced);
    while !services.report().await.synced {}
    let mut other_program = services.kernel.dataplane();
    let running = other_program.sync_daemons().unwrap();
    assert_eq!(running.keys().copied().collect::<Vec<_>>(), SyncRole::ALL);
    assert!(running.values().all(|settings| settings.device == eth(0)));
    assert_eq!(services.kernel.rules().sync.unwrap().members.len(), 2);
    // Ended by hand, it comes back.
    other_program.sync_step(&SyncStep::Stop(SyncRole::Backup)).unwrap();
    let mut heard = true;
    while other_program.sync_daemons().unwrap().len() < 2 {
        heard = services.report().await.synced;
    }
    assert!(!heard, "it was deaf for a while");
    // Also by a daemon that did not start them.
    let mut services = services.restart().await;
    assert!(!services.aim(&[]).await.synced);
    assert_eq!(other_program.sync_daemons(), Ok(SyncDaemons::new()));
    assert_eq!(services.kernel.rules(), PacketRules::default());
}

#[tokio::test]
async fn sync_daemons_of_another_program_are_left_alone() {
    let mut services = Services::on(linked()).await;
    let theirs = sync_goal("192.0.2.1").sync.unwrap().settings(eth(0));
    let mut other_program = services.kernel.dataplane();
    other_program.sync_step(&SyncStep::Start(SyncRole::Master, theirs)).unwrap();
    services.aim(&[]).await;
    assert_eq!(other_program.sync_daemons().unwrap().len(), 1);
}

#[tokio::test]
async fn why_connections_are_not_synchronised_is_told_and_no_service_fails() {
    let mut services = Services::on(linked()).await;
    services.kernel.set_nft(false);
    let told = |services: &Services, what: &str| {
        let problems = services.thread.view().problems;
        assert!(problems.iter().any(|problem| problem.contains(what)), "{problems:?}");
    };
    let goal = ServiceGoal { services: [service(1, "rr", 1)].into(), ..sync_goal("192.0.2.1") };
    let report = services.aim_at(goal.clone()).await;
    assert_eq!((report.failed, report.synced), (BTreeMap::new(), false));
    told(&services, "the packet filter can't keep other senders out");
    services.kernel.set_nft(true);
    assert!(!services.aim_at(sync_goal("192.0.2.9")).await.synced);
    told(&services, "no device has 192.0.2.9");
    let nowhere = SyncGoal { address: None, ..goal.sync.clone().unwrap() };
    services.aim_at(ServiceGoal { sync: Some(nowhere), ..goal.clone() }).await;
    told(&services, "no [[link]] named \"lan\"");
    services.aim_at(goal).await;
    while !services.report().await.synced {}
    assert_eq!(services.thread.view().problems, BTreeSet::new());
}

/// What runs stays for a question that could not be answered: unsent messages would be lost.
#[tokio::test]
async fn a_look_that_fails_ends_no_sync_daemon_and_fails_no_service() {
    let mut services = Services::on(linked()).await;
    let goal =
        ServiceGoal { services: [marked(7)].into(), marks: marks(7), ..sync_goal("192.0.2.1") };
    services.aim_at(goal).await;
    while !services.report().await.synced {}
    services.kernel.set_nft(false);
    services.thread.filter_changed();
    let mut other_program = services.kernel.dataplane();
    for _ in 0..2 {
        let report = services.report().await;
        assert_eq!((report.failed, report.synced), (BTreeMap::new(), true));
        assert_eq!(other_program.sync_daemons().unwrap().len(), 2);
    }
    assert!(!services.thread.view().problems.is_empty(), "it is told");
}

/// Else clients would be refused until nftables is there.
#[tokio::test]
async fn a_service_by_address_stays_until_what_replaces_it_is_marked() {
    let mut services = Services::on(FakeKernel::new()).await;
    services.aim(&[service(1, "rr", 1)]).await;
    services.kernel.set_nft(false);
    let goal =
        ServiceGoal { services: [marked(7)].into(), marks: marks(7), ..ServiceGoal::default() };
    services.aim_at(goal).await;
    assert_eq!(services.table(), [(key(1), vec![1]), (marked(7).0, vec![1])]);
    services.kernel.set_nft(true);
    while services.table().len() > 1 {
        services.report().await;
    }
    assert_eq!(services.table(), [(marked(7).0, vec![1])]);
}

#[tokio::test]
async fn marks_that_were_flushed_come_back_when_the_kernel_tells_of_it() {
    let mut services = Services::on(FakeKernel::new()).await;
    let goal =
        ServiceGoal { services: [marked(7)].into(), marks: marks(7), ..ServiceGoal::default() };
    services.aim_at(goal).await;
    let mut other_program = services.kernel.dataplane();
    other_program.set_rules(&PacketRules::default()).unwrap();
    services.thread.filter_changed();
    // A question is answered after what was asked for before it.
    services.thread.observe().await.unwrap();
    while services.kernel.rules().marks != marks(7) {
        services.thread.observe().await.unwrap();
    }
}
