//! Arbitration, tracks and the first claim: what keeps a director from a group, and what it asks.

use super::*;
use crate::kernel::MacAddress;
use crate::watch::Watched;

const STRANGER: MacAddress = MacAddress([2, 0, 0, 0, 0, 9]);
const ONE: &str = "[group.plain]\ninterface = \"public\"\naddresses = [\"10.0.0.101/32\"]\n";
const TWO: &str =
    "[group.plain]\ninterface = \"public\"\naddresses = [\"10.0.0.101/32\", \"10.0.0.102/32\"]\n";

impl World {
    /// What the network answers: whose kernel carries an address now, or which stranger has it.
    pub(super) fn ask(&self, id: u64, all: &BTreeSet<Question>) -> BTreeMap<Question, Answer> {
        let answer = |question: &Question| {
            let carries = |node: &&u64| {
                let present = &self.nodes[*node].present;
                **node != id && present.iter().any(|a| a.net.addr() == question.address)
            };
            let stranger =
                || self.strangers.iter().find(|(octet, _)| **octet == octet_of(question));
            match (self.nodes.keys().find(carries), stranger()) {
                (Some(_), _) => Answer::InUse(MacAddress([2, 0, 0, 0, 0, 1])),
                (None, Some((_, mac))) => Answer::InUse(*mac),
                (None, None) => Answer::Free,
            }
        };
        all.iter().map(|question| (question.clone(), answer(question))).collect()
    }

    fn obstacles(&self, id: u64, name: &str) -> Vec<Obstacle> {
        let view = self.director(id).view(self.now);
        view.obstacles[&NodeId(id)][&group(name)].iter().copied().collect()
    }

    fn find(&mut self, id: u64, what: &str, verdict: Verdict) {
        let watched = self.nodes[&id].watched.iter().find(|w| w.to_string() == what);
        let watched: Watched = watched.unwrap().clone();
        self.event(id, Event::Found(watched, verdict));
        self.run(R);
    }

    fn asked(&self, id: u64) -> Vec<u8> {
        self.nodes[&id].asked.iter().flatten().map(octet_of).collect()
    }
}

fn octet_of(question: &Question) -> u8 {
    match question.address {
        std::net::IpAddr::V4(ip) => ip.octets()[3],
        std::net::IpAddr::V6(_) => 0,
    }
}

fn with(lines: &str) -> World {
    let mut world = World::with(&format!("{lines}\n{ONE}"), Role::Director, &BTreeMap::new());
    world.run(R);
    world
}

#[test]
fn one_arbitration_address_that_answers_is_enough() {
    let mut world = with("cluster.arbitration = [\"10.0.0.1\", \"10.0.0.2\"]");
    assert_eq!(world.obstacles(1, "plain"), [Obstacle::Starting], "none was tried yet");
    world.find(1, "arbitration address 10.0.0.1", down());
    assert_eq!(world.obstacles(1, "plain"), [Obstacle::Starting], "the other may answer");
    world.find(1, "arbitration address 10.0.0.2", Verdict::Up);
    assert_eq!(world.obstacles(1, "plain"), []);
    world.find(1, "arbitration address 10.0.0.2", down());
    assert_eq!(world.obstacles(1, "plain"), [Obstacle::ArbitrationFailed]);
    let problems = world.director(1).view(world.now).problems;
    assert!(problems.contains("arbitration address 10.0.0.2: connection refused"), "{problems:?}");
}

#[test]
fn a_gateway_that_comes_and_goes_lets_an_owner_keep_a_group_and_nobody_take_one() {
    let mut world = with("cluster.arbitration = [\"10.0.0.1\"]");
    let gateway = "arbitration address 10.0.0.1";
    for id in [1, 2] {
        for _ in 0..3 {
            world.find(id, gateway, down());
            world.find(id, gateway, Verdict::Up);
        }
    }
    world.grant("plain", 1);
    world.run(R * 2);
    assert_eq!(world.obstacles(1, "plain"), []);
    assert_eq!(world.obstacles(2, "plain"), [Obstacle::ArbitrationFailed]);
    let problems = world.director(2).view(world.now).problems;
    assert!(problems.iter().any(|problem| problem.contains("it answers again")), "{problems:?}");
    world.run(crate::watch::DISTRUST * 2);
    assert_eq!(world.obstacles(2, "plain"), []);
}

#[test]
fn each_track_of_a_group_has_to_pass() {
    let tracks = "track.a = { type = \"process\", name = \"a\" }\n\
                  track.b = { type = \"file\", path = \"/b\" }\n";
    let mut world = with(&format!("{tracks}cluster = {{}}"));
    assert_eq!(world.obstacles(1, "plain"), [], "no group names them");
    assert!(world.nodes[&1].watched.is_empty());
    world.configure(&format!("{tracks}{ONE}track = [\"a\", \"b\"]\n"));
    world.find(1, "track a", Verdict::Up);
    assert_eq!(world.obstacles(1, "plain"), [Obstacle::Starting]);
    world.find(1, "track b", Verdict::Up);
    assert_eq!(world.obstacles(1, "plain"), []);
    world.find(1, "track a", down());
    assert_eq!(world.obstacles(1, "plain"), [Obstacle::TrackFailed]);
    world.configure(&format!("{tracks}{ONE}track = [\"b\"]\n"));
    world.run(R);
    assert_eq!(world.obstacles(1, "plain"), [], "what is asked for no more fails no more");
    assert_eq!(world.nodes[&1].watched.len(), 1);
}

#[test]
fn a_tracked_interface_is_observed_and_not_tried() {
    let mut world = with("track.x = { type = \"interface\", interface = \"public\" }");
    world.configure(&format!(
        "track.x = {{ type = \"interface\", interface = \"public\" }}\n\
         track.y = {{ type = \"interface\", interface = \"inside\" }}\n{ONE}track = [\"x\"]\n"
    ));
    world.run(R);
    assert_eq!(world.obstacles(1, "plain"), []);
    let report = AddressReport {
        devices: BTreeMap::from([(eth0(), DeviceCondition::Down)]),
        ..AddressReport::default()
    };
    world.event(1, Event::Addresses(report));
    world.run(R);
    assert_eq!(world.obstacles(1, "plain"), [Obstacle::DeviceDown, Obstacle::TrackFailed]);
    let problems = world.director(1).view(world.now).problems;
    assert!(problems.contains("track x: eth0 (public) is down or has no carrier"), "{problems:?}");
}

#[test]
fn a_witness_tries_and_asks_nothing() {
    let lines = format!("cluster.arbitration = [\"10.0.0.1\"]\n{ONE}");
    let mut world = World::with(&lines, Role::Witness, &BTreeMap::new());
    world.run(SECOND);
    assert!(world.nodes[&3].watched.is_empty() && world.asked(3).is_empty());
    assert!(!world.nodes[&1].watched.is_empty() && !world.asked(1).is_empty());
}

#[test]
fn before_the_first_claim_each_address_is_asked_for_once() {
    let mut world = with("");
    assert_eq!(world.asked(1), [PLAIN]);
    assert_eq!(world.obstacles(1, "plain"), []);
    world.run(SECOND * 60);
    assert_eq!(world.asked(1), [PLAIN]);
}

#[test]
fn a_director_is_not_eligible_while_a_stranger_has_the_address_and_is_when_it_is_gone() {
    let mut world = World::with("", Role::Director, &BTreeMap::new());
    world.strangers.insert(PLAIN, STRANGER);
    world.configure(ONE);
    world.run(R);
    assert_eq!(world.obstacles(1, "plain"), [Obstacle::AddressInUse]);
    let problems = world.director(1).view(world.now).problems;
    let named = "10.0.0.101 on eth0 is in use by the host with MAC 02:00:00:00:00:09";
    assert!(problems.iter().any(|problem| problem.starts_with(named)), "{problems:?}");
    world.strangers.clear();
    world.run(crate::claim::ASK_AGAIN_MAX + R);
    assert_eq!(world.obstacles(1, "plain"), []);
    assert_eq!(world.director(1).view(world.now).problems, BTreeSet::new());
}

#[test]
fn a_takeover_from_a_member_that_held_the_lease_asks_nothing() {
    let mut world = World::with("", Role::Director, &BTreeMap::new());
    world.configure(ONE);
    world.grant("plain", 1);
    world.run(SECOND);
    assert_eq!(world.serves(1), [vip(PLAIN)]);
    // A director that starts now finds the owner on the wire, and knows whose answer that is.
    world.restart(2, 22);
    world.run(SECOND);
    assert_eq!(world.obstacles(2, "plain"), []);
    let asked = world.asked(2).len();
    world.cut = BTreeSet::from([1]);
    world.strangers.insert(PLAIN, STRANGER);
    world.decide("plain", 2, 22);
    world.apply_on(&[2, 3]);
    world.run(SECOND);
    assert_eq!(world.serves(2), [vip(PLAIN)]);
    assert_eq!(world.asked(2).len(), asked);
}

#[test]
fn a_restarted_owner_asks_before_it_claims_again() {
    let mut world = with("");
    world.grant("plain", 1);
    world.run(SECOND);
    world.restart(1, 11);
    assert_eq!(world.asked(1), [PLAIN]);
}

#[test]
fn an_address_that_is_added_is_served_when_it_is_free_and_the_others_all_the_time() {
    let mut world = with("");
    world.grant("plain", 1);
    world.run(SECOND);
    world.strangers.insert(102, STRANGER);
    world.configure(TWO);
    world.run(SECOND);
    assert_eq!(world.serves(1), [vip(PLAIN)]);
    assert_eq!(world.obstacles(1, "plain"), [], "no reason to move what it serves");
    // Those who take over know which one the owner held: this one is asked for.
    world.cut = BTreeSet::from([1]);
    world.decide("plain", 2, 2);
    world.apply_on(&[2, 3]);
    world.run(SECOND);
    assert_eq!(world.serves(2), [vip(PLAIN)]);
    assert!(world.asked(2).contains(&102));
    world.strangers.clear();
    world.run(crate::claim::ASK_AGAIN_MAX + SECOND);
    assert_eq!(world.serves(2), [vip(PLAIN), vip(102)]);
    // And what was held then is served by the next one at once.
    world.cut = BTreeSet::from([2]);
    let asked = world.asked(3).len();
    world.decide("plain", 3, 3);
    world.apply_on(&[3]);
    world.run(R);
    assert_eq!(world.asked(3).len(), asked);
}

#[test]
fn an_address_that_is_not_known_to_be_free_is_not_quoted_to_the_voters() {
    let mut world = World::with("", Role::Director, &BTreeMap::new());
    world.strangers.insert(102, STRANGER);
    world.configure(TWO);
    world.grant("plain", 1);
    world.run(SECOND);
    let quoted = |sent: &world::Sent| match &sent.message {
        Message::Renew(renew) => renew.groups[&group("plain")].addresses.clone(),
        _ => BTreeSet::new(),
    };
    let all: BTreeSet<_> = world.sent.iter().filter(|s| s.from == 1).flat_map(quoted).collect();
    assert_eq!(all, BTreeSet::from([vip(PLAIN).net.addr()]));
}

#[test]
fn a_track_that_fails_is_told_at_once_and_not_with_the_next_round() {
    let source = format!("track.a = {{ type = \"process\", name = \"a\" }}\n{ONE}track = \"a\"\n");
    let mut world = World::with(&source, Role::Director, &BTreeMap::new());
    world.find(1, "track a", Verdict::Up);
    let watched = world.nodes[&1].watched.iter().next().unwrap().clone();
    world.now = world.now + R / 3;
    world.event(1, Event::Found(watched, down()));
    let told = |sent: &&world::Sent| match &sent.message {
        Message::Report(report) => {
            sent.at == world.now
                && report.obstacles[&group("plain")].contains(&Obstacle::TrackFailed)
        }
        _ => false,
    };
    let to: Vec<u64> = world.sent.iter().filter(told).map(|sent| sent.to).collect();
    assert_eq!(to, [2, 3]);
}

#[test]
fn a_director_whose_disk_is_full_keeps_what_it_owns_and_takes_nothing_else() {
    let mut world = World::new();
    world.grant("web", 1);
    world.run(SECOND);
    world.event(1, Event::Disk(Some("the disk is full".to_owned())));
    assert_eq!(world.obstacles(1, "plain"), [Obstacle::DiskFull], "told at once");
    world.run(SECOND);
    assert_eq!(world.obstacles(1, "web"), [], "what it owns needs no disk");
    assert_eq!(world.serves(1), [vip(WEB)]);
    assert!(world.director(1).view(world.now).problems.contains("the disk is full"));
    world.cut = BTreeSet::from([1]);
    world.run(SECOND);
    let obstacles = world.director(1).obstacles(world.now);
    assert_eq!(obstacles[&group("web")], BTreeSet::from([Obstacle::DiskFull]), "its lease is over");
    world.cut.clear();
    world.event(1, Event::Disk(None));
    world.run(SECOND);
    assert_eq!(world.obstacles(1, "plain"), []);
}
