//! Random orders of events without bounds, as fast as they can be had: the ownership protocol by
//! itself, two groups, addresses that move between them, leases that change. The same seed gives
//! the same run.

use std::time::Duration;

use quorate_model::id::{Epoch, GroupName, NodeId};

use super::mutant::Mutant;
use super::network::Key;
use super::script::{FAST, SLOW, configuration, group};
use super::world::{Broken, Plan, World};
use crate::simulation::clock::{MS, Real};
use crate::simulation::random::Random;
use crate::simulation::trace::Trace;

/// Datagrams that may be on their way at once; past it some are lost.
const NETWORK_MAX: usize = 48;

/// What to run.
#[derive(Debug, Clone, Copy)]
pub struct Walk {
    /// What everything random comes from.
    pub seed: u64,
    /// How many nodes there are; all vote.
    pub voters: u64,
    /// How many steps.
    pub steps: u64,
    /// What is broken, if anything.
    pub mutant: Option<Mutant>,
    /// Whether every line of the trace is kept.
    pub trace: bool,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Walked {
    /// Depends on every step.
    pub hash: u64,
    /// How often a group was served by another director than before.
    pub moves: u64,
    /// How many of these followed a release.
    pub released: u64,
    /// Steps that were taken.
    pub steps: u64,
    /// What went wrong, and the last of what happened before.
    pub broken: Option<(Broken, String)>,
    /// The trace, if it was asked for.
    pub trace: Option<String>,
}

struct Walker {
    walk: Walk,
    world: World,
    random: Random,
    trace: Trace,
    groups: [GroupName; 2],
}

/// Walks to the end, or to the first violation.
pub fn walk(walk: Walk) -> Walked {
    let mut walker = Walker::new(walk);
    let mut steps = 0;
    while steps < walk.steps && walker.world.broken.is_none() {
        steps += 1;
        walker.step();
    }
    let story = walker.trace.story();
    let trace = walk.trace.then(|| story.clone());
    Walked {
        hash: walker.trace.hash(),
        moves: walker.world.moves,
        released: walker.world.released,
        steps,
        broken: walker.world.broken.map(|broken| (broken, story)),
        trace,
    }
}

impl Walker {
    fn new(walk: Walk) -> Self {
        let mut random = Random::new(walk.seed);
        let rates = (0..walk.voters)
            .map(|_| match random.between(0, 2) {
                0 => SLOW,
                1 => FAST,
                _ => random.between(SLOW, FAST),
            })
            .collect();
        let leases = [100, 150, 400, 40_000].map(Duration::from_millis);
        let mut configurations = Vec::new();
        for _ in 0..4 {
            let lease = random.pick(&leases).unwrap_or(leases[0]);
            let groups: &[(&str, &[u8])] = match random.between(0, 2) {
                0 => &[("a", &[1, 3]), ("b", &[2])],
                1 => &[("a", &[1]), ("b", &[2, 3])],
                _ => &[("b", &[1, 2, 3])],
            };
            configurations.push(configuration(lease, groups));
        }
        let plan = Plan {
            rates,
            voters: (1..=walk.voters).map(NodeId).collect(),
            configurations,
            mutant: walk.mutant,
        };
        let world = World::new(plan);
        let groups = [group("a"), group("b")];
        let trace = if walk.trace { Trace::whole() } else { Trace::default() };
        Self { walk, world, random, trace, groups }
    }

    fn anyone(&mut self) -> NodeId {
        NodeId(self.random.between(1, self.walk.voters))
    }

    fn group(&mut self) -> GroupName {
        self.groups[usize::from(self.random.chance(500))].clone()
    }

    fn lease(&self) -> Real {
        let lease = self.world.log.state(self.world.log.last()).timing.lease();
        u64::try_from(lease.as_nanos()).unwrap_or(u64::MAX)
    }

    fn step(&mut self) {
        let id = self.anyone();
        let before = self.world.moves;
        let what = self.random.between(0, 999);
        match what {
            0..280 => self.renew(id),
            280..480 => self.time(),
            480..580 => self.late(id),
            580..630 => self.world.store(id),
            630..690 => self.world.write(id),
            690..780 => self.apply(id),
            780..900 => self.grant(id),
            900..960 => self.give_up(id),
            960..985 => self.restart(id),
            985..990 => self.world.configure(usize::try_from(what - 985).unwrap() % 4),
            _ => self.lose(),
        }
        let (now, moves) = (self.world.now, self.world.moves);
        self.trace.note(&[what, id.0, now, moves, self.world.network.len() as u64]);
        if moves != before {
            self.trace.tell(now, &format!("n{id} serves what another served"));
        }
    }

    fn tell(&mut self, line: &str) {
        self.trace.tell(self.world.now, line);
    }

    /// A round, which reaches whom it reaches.
    fn renew(&mut self, id: NodeId) {
        let Some(round) = self.world.round(id) else { return };
        let lost = self.random.between(0, 500);
        for voter in self.world.ids() {
            if self.random.chance(lost) {
                continue;
            }
            self.world.hear(voter, &round);
            while self.world.writes(voter) && self.random.chance(800) {
                self.world.write(voter);
            }
        }
        let replies: Vec<Key> =
            self.world.network.keys().filter(|key| is_reply(key, &round)).cloned().collect();
        for reply in replies {
            if !self.random.chance(lost) {
                self.world.count(&reply);
            }
        }
        if self.random.chance(900) {
            self.world.store(id);
        }
        if self.random.chance(900) {
            self.world.lose(&round);
        }
        if self.world.network.len() > NETWORK_MAX {
            self.lose();
        }
    }

    /// Anything that is on its way arrives somewhere.
    fn late(&mut self, id: NodeId) {
        let Some(key) = self.something() else { return };
        if key.kind == 1 {
            self.world.count(&key);
        } else {
            self.world.hear(id, &key);
        }
    }

    fn something(&mut self) -> Option<Key> {
        let count = self.world.network.len() as u64;
        let at = self.random.between(0, count.max(1) - 1);
        self.world.network.keys().nth(usize::try_from(at).ok()?).cloned()
    }

    fn lose(&mut self) {
        while self.world.network.len() > NETWORK_MAX / 2 {
            let Some(key) = self.something() else { return };
            self.world.lose(&key);
        }
    }

    fn time(&mut self) {
        let lease = self.lease();
        let time = match self.random.between(0, 9) {
            0..=3 => self.random.between(0, lease / 10),
            4 => self.random.between(0, lease + lease / 20),
            5 => MS / 1_000,
            // Just as something ends, or a moment before or after.
            _ => {
                let end = self.world.next_end().map_or(0, |end| end - self.world.now);
                (end + self.random.between(0, 2)).saturating_sub(1)
            }
        };
        self.world.pass(time);
    }

    fn apply(&mut self, id: NodeId) {
        let applied = self.world.machine(id).applied;
        let last = self.world.log.last();
        let to = self.random.between(applied, last);
        self.world.apply(id, if self.random.chance(500) { last } else { to });
        if self.random.chance(100) {
            // A node that is far behind gets a snapshot: the log is not kept for ever.
            let least = last.saturating_sub(40);
            for id in self.world.ids() {
                self.world.apply(id, least);
            }
            self.world.forget(least);
        }
    }

    fn grant(&mut self, id: NodeId) {
        let group = self.group();
        let epoch = self.world.log.epoch(&group);
        let previous = if self.random.chance(50) { Epoch(epoch.0.max(1) - 1) } else { epoch };
        self.tell("a grant");
        self.world.grant(&group, id, previous);
        if self.random.chance(800) {
            self.world.apply(id, self.world.log.last());
        }
        let former = self.world.last_served(&group).map(|(_, node)| node);
        if let Some(former) = former.filter(|_| self.random.chance(600)) {
            self.world.apply(former, self.world.log.last());
        }
        self.spread();
        self.renew(id);
        // The owner to be waits for the promises in its way, and asks again when they end.
        for _ in 0..self.random.between(0, 3) {
            self.time();
            self.renew(id);
        }
    }

    /// Releases reach most, most of the time.
    fn spread(&mut self) {
        let releases: Vec<Key> =
            self.world.network.keys().filter(|key| key.kind == 2).cloned().collect();
        for release in releases {
            for voter in self.world.ids() {
                if self.random.chance(700) {
                    self.world.hear(voter, &release);
                }
            }
            if self.random.chance(700) {
                self.world.lose(&release);
            }
        }
    }

    fn give_up(&mut self, id: NodeId) {
        let group = self.group();
        if self.random.chance(300) {
            self.world.give_up(id, &group);
            self.spread();
        }
    }

    fn restart(&mut self, id: NodeId) {
        let applied = self.world.machine(id).applied;
        let back = self.random.between(0, 30);
        let written = self.random.chance(500);
        self.tell("a restart");
        let oldest = self.world.first_applied();
        self.world.restart(id, written, applied.saturating_sub(back).max(oldest));
    }
}

fn is_reply(key: &Key, round: &Key) -> bool {
    let about = |key: &Key| (key.owner, key.incarnation, key.number);
    key.kind == 1 && about(key) == about(round)
}
