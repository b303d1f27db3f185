//! The rules of `plan`, on hand-made cases and on tables drawn at random from a small space.

use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::kernel::{DesiredService, ObservedDestination, ObservedService, Statistics, Traffic};
use crate::spec::{
    Forward, Persistence, Protocol, SCHEDULERS, Scheduler, SchedulerFlags, Thresholds, Tunnel,
};

/// A small generator (xorshift64*), so that a failing case is named by its seed.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(bits).unwrap() % bound
    }

    fn address(&mut self, net: u8) -> SocketAddr {
        let host = u8::try_from(self.below(3)).unwrap();
        let port = 80 + u16::try_from(self.below(2)).unwrap();
        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, net, host)), port)
    }

    fn key(&mut self) -> ServiceKey {
        let protocol = if self.below(2) == 0 { Protocol::Tcp } else { Protocol::Udp };
        ServiceKey::at(protocol, self.address(2))
    }

    fn settings(&mut self) -> ServiceSettings {
        ServiceSettings {
            scheduler: Scheduler::named(SCHEDULERS[self.below(3)]).unwrap(),
            flags: SchedulerFlags::from_bits(u8::try_from(self.below(2)).unwrap()),
            persistence: (self.below(2) == 0).then_some(Persistence {
                timeout_s: 50,
                prefix: 32,
                engine: None,
            }),
            one_packet: self.below(2) == 0,
        }
    }

    fn destination(&mut self) -> Destination {
        let tunnel =
            [Tunnel::Ipip, Tunnel::Gre { checksum: false }, Tunnel::Gre { checksum: true }];
        let tunnel = Forward::Tun(tunnel[self.below(3)]);
        let forward = [Forward::Dr, Forward::Nat, tunnel][self.below(3)];
        let upper = u32::try_from(self.below(2)).unwrap() * 100;
        let thresholds = Thresholds { upper, lower: 0 };
        Destination { forward, weight: u32::try_from(self.below(3)).unwrap(), thresholds }
    }

    fn desired(&mut self) -> DesiredServices {
        (0..self.below(6))
            .map(|_| {
                let destinations =
                    (0..self.below(4)).map(|_| (self.address(3), self.destination())).collect();
                (self.key(), DesiredService { settings: self.settings(), destinations })
            })
            .collect()
    }

    /// A table in which some entries hold what Quorate can't express.
    fn observed(&mut self) -> ObservedServices {
        let mut table: ObservedServices =
            self.desired().into_iter().map(|(key, service)| (key, found(service))).collect();
        for service in table.values_mut() {
            if self.below(5) == 0 {
                service.settings = None;
            }
            for destination in service.destinations.values_mut() {
                if self.below(5) == 0 {
                    destination.destination = None;
                }
            }
        }
        table
    }
}

fn found_destination(destination: Destination) -> ObservedDestination {
    ObservedDestination { destination: Some(destination), ..Default::default() }
}

fn found(service: DesiredService) -> ObservedService {
    ObservedService {
        settings: Some(service.settings),
        destinations: service
            .destinations
            .into_iter()
            .map(|(server, destination)| (server, found_destination(destination)))
            .collect(),
        statistics: Statistics::default(),
    }
}

/// What a kernel does with one action; it refuses what a kernel refuses.
fn apply(table: &mut ObservedServices, action: &Action) {
    match action {
        Action::AddService(key, settings) => {
            let service = DesiredService { settings: *settings, destinations: Default::default() };
            assert!(table.insert(*key, found(service)).is_none(), "EEXIST: {action}");
        }
        Action::SetService(key, settings) => {
            table.get_mut(key).expect("ESRCH").settings = Some(*settings);
        }
        Action::DeleteService(key) => {
            table.remove(key).expect("ESRCH");
        }
        Action::AddDestination(key, server, destination) => {
            let service = table.get_mut(key).expect("ESRCH");
            let old = service.destinations.insert(*server, found_destination(*destination));
            assert!(old.is_none(), "EEXIST: {action}");
        }
        Action::SetDestination(key, server, destination) => {
            let service = table.get_mut(key).expect("ESRCH");
            *service.destinations.get_mut(server).expect("ENOENT") =
                found_destination(*destination);
        }
        Action::DeleteDestination(key, server) => {
            let service = table.get_mut(key).expect("ESRCH");
            service.destinations.remove(server).expect("ENOENT");
        }
    }
}

fn rank(action: &Action) -> u8 {
    match action {
        Action::AddService(..) => 0,
        Action::AddDestination(..) => 1,
        Action::SetService(..) | Action::SetDestination(..) => 2,
        Action::DeleteDestination(..) => 3,
        Action::DeleteService(..) => 4,
    }
}

#[test]
fn a_plan_brings_any_table_to_what_is_desired_and_leaves_foreign_services() {
    let mut planned = 0;
    for seed in 1..=3_000 {
        let mut draw = Draw(seed);
        let (desired, before) = (draw.desired(), draw.observed());
        let ours: BTreeSet<ServiceKey> = (0..draw.below(8)).map(|_| draw.key()).collect();

        let actions = plan(&desired, &before, &ours);
        planned += actions.len();
        assert!(actions.is_sorted_by_key(rank), "seed {seed}: out of order: {actions:?}");

        let mut after = before.clone();
        for action in &actions {
            apply(&mut after, action);
        }
        let mut want: ObservedServices = before
            .into_iter()
            .filter(|(key, _)| !desired.contains_key(key) && !ours.contains(key))
            .collect();
        want.extend(desired.clone().into_iter().map(|(key, service)| (key, found(service))));
        assert_eq!(after, want, "seed {seed}");
        assert_eq!(plan(&desired, &after, &ours), [], "seed {seed}: planned again");
    }
    assert!(planned > 10_000, "the draws hardly differ: {planned} actions in all");
}

#[test]
fn counters_are_no_reason_for_an_action() {
    let mut draw = Draw(7);
    let desired: DesiredServices = [(
        draw.key(),
        DesiredService {
            settings: draw.settings(),
            destinations: [(draw.address(3), draw.destination())].into(),
        },
    )]
    .into();
    let mut observed: ObservedServices =
        desired.clone().into_iter().map(|(key, service)| (key, found(service))).collect();
    for service in observed.values_mut() {
        service.statistics.total = Traffic { connections: 9, ..Traffic::default() };
        for destination in service.destinations.values_mut() {
            (destination.active, destination.inactive) = (3, 4);
        }
    }
    assert_eq!(plan(&desired, &observed, &BTreeSet::new()), []);
}

#[test]
fn a_key_of_ours_that_is_gone_already_is_not_deleted() {
    let key = Draw(3).key();
    assert_eq!(plan(&DesiredServices::new(), &ObservedServices::new(), &[key].into()), []);
}

#[test]
fn an_action_reads_as_the_words_after_cannot() {
    let key = ServiceKey::at(Protocol::Tcp, "192.0.2.1:80".parse().unwrap());
    let server = "[2001:db8::1]:80".parse().unwrap();
    let action =
        Action::AddDestination(key, server, Destination::new(Forward::Tun(Tunnel::Ipip), 3));
    assert_eq!(
        action.to_string(),
        "add real server [2001:db8::1]:80 (TUN, weight 3) to tcp/192.0.2.1:80"
    );
}

#[test]
fn only_time_outs_that_are_wanted_are_set() {
    let found = ConnectionTimeouts::default();
    assert_eq!(plan_timeouts(Timeouts::default(), found), None);
    let wanted = Timeouts { udp_s: Some(10), ..Timeouts::default() };
    let goal = ConnectionTimeouts { udp_s: 10, ..found };
    assert_eq!(plan_timeouts(wanted, found), Some(goal));
    assert_eq!(plan_timeouts(wanted, goal), None);
}

/// Else clients that hash to the real server are refused for a moment.
#[test]
fn a_hashing_scheduler_falls_back_first_and_stops_it_last() {
    let key = ServiceKey::at(Protocol::Tcp, "192.0.2.1:80".parse().unwrap());
    let server: SocketAddr = "192.0.2.16:80".parse().unwrap();
    let service = |weight, flags| {
        let scheduler = Scheduler::named("sh").unwrap();
        let flags = SchedulerFlags::from_bits(flags);
        let settings = ServiceSettings { flags, ..ServiceSettings::plain(scheduler) };
        let destinations = [(server, Destination::new(Forward::Dr, weight))].into();
        DesiredService { settings, destinations }
    };
    let from_to = |old: DesiredService, new: DesiredService| {
        let observed = [(key, found(old))].into();
        plan(&[(key, new)].into(), &observed, &BTreeSet::new())
    };
    let (serving, drained) = (service(1, 0), service(0, 1));
    let draining = from_to(serving.clone(), drained.clone());
    assert!(matches!(draining[..], [Action::SetService(..), Action::SetDestination(..)]));
    let enabling = from_to(drained, serving);
    assert!(matches!(enabling[..], [Action::SetDestination(..), Action::SetService(..)]));
}

#[test]
fn what_was_not_expected_is_what_is_not_among_the_expected() {
    let mut strange = 0;
    for seed in 1..2_000 {
        let mut draw = Draw(seed);
        let (desired, believed, found) = (draw.desired(), draw.observed(), draw.observed());
        let ours = draw.desired().into_keys().collect();
        let expected = plan(&desired, &believed, &ours);
        let actions = plan(&desired, &found, &ours);
        let one_by_one: Vec<&Action> =
            actions.iter().filter(|action| !expected.contains(action)).collect();
        assert_eq!(unexpected(&actions, &expected), one_by_one, "seed {seed}");
        strange += one_by_one.len();
    }
    assert!(strange > 0);
}
