//! Every order of events within bounds (stateright): the machine that is checked is [`World`], the
//! code of `quorate-model` under a network, disks, clocks and a log that do what they like.
//!
//! Time is not continuous here. It goes on from one instant to the next: the points of a grid, and
//! every instant at which a promise, a quarantine or a lease ends by its own node's clock. What
//! the protocol decides changes only there. Anything may happen any number of times at one
//! instant, in any order, also nothing: which is a pause, of one node or of all.

use std::collections::BTreeSet;
use std::time::Duration;

use quorate_model::id::{Epoch, NodeId};
use stateright::{Checker as _, CheckerBuilder, Model, Property};

use super::mutant::Mutant;
use super::network::{Datagram, Key};
use super::script::{FAST, SLOW, configuration, group};
use super::world::{Plan, World};
use crate::simulation::clock::Real;

/// How far to look.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// What it is called.
    pub name: &'static str,
    /// The rates of the clocks, each set of which is a beginning of its own.
    pub rates: Vec<Vec<u64>>,
    /// The leases of the configurations; the first is in force at the beginning.
    pub leases: Vec<Duration>,
    /// The distance of the points of the grid.
    pub grid: Real,
    /// How many points there are.
    pub points: u64,
    /// How many of the nodes may own the group; the others only vote.
    pub owners: u64,
    /// Rounds that all owners send together, each at a point of the grid.
    pub rounds: u64,
    /// Grants, besides the first.
    pub grants: u64,
    /// Grants proposed by a leader that is behind.
    pub stale_grants: u64,
    /// Restarts of daemons.
    pub restarts: u64,
    /// Groups given up.
    pub releases: u64,
    /// Changes of the configuration.
    pub changes: u64,
    /// Whether one node becomes a voter.
    pub voter_joins: bool,
    /// Whether answers come late, twice or never, and the fence is set late; else all that is at
    /// once. (The renewals that are answered come late, twice or never in any case.)
    pub slow: bool,
    /// Whether the disk is slow, and a crash loses what is on its way.
    pub slow_disk: bool,
    /// Where all states are too many: how many are looked at. What is beyond is not checked.
    pub most: Option<usize>,
    /// What is broken, if anything.
    pub mutant: Option<Mutant>,
}

/// What was used up of the bounds.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Used {
    rounds: u64,
    grants: u64,
    stale_grants: u64,
    restarts: u64,
    releases: u64,
    changes: u64,
    voters: u64,
}

/// One state.
#[derive(Debug, Clone)]
pub struct State {
    world: World,
    used: Used,
}

impl State {
    fn parts(&self) -> impl PartialEq + std::hash::Hash + '_ {
        let world = &self.world;
        (
            (world.now, &world.machines, &world.log, &world.network, &world.broken),
            (world.plan.rates.as_slice(), &world.served, world.moves.min(1), &self.used),
        )
    }
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl std::hash::Hash for State {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

/// What may happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Time goes on to the next instant.
    Pass,
    /// An owner sends a round; its own voter is asked in place.
    Round(NodeId),
    /// A voter gets a datagram.
    Hear(NodeId, Key),
    /// An owner gets an answer.
    Count(Key),
    /// A daemon sets its fence.
    Store(NodeId),
    /// A disk is done.
    Write(NodeId),
    /// A daemon dies, and the next one starts; whether what was to be written was.
    Restart(NodeId, bool),
    /// An owner gives its group up.
    GiveUp(NodeId),
    /// The leader grants the group; whether it knows the present epoch.
    Grant(NodeId, bool),
    /// The next configuration is committed.
    Configure,
    /// The next entry that changes the voters is appended.
    Voters,
    /// A node appends what it lacks.
    Append(NodeId),
    /// A node applies all that it may.
    Apply(NodeId),
}

/// What was found.
#[derive(Debug, Clone)]
pub struct Found {
    /// States that differ.
    pub states: usize,
    /// States that were reached, the same one counted each time.
    pub reached: usize,
    /// The longest path.
    pub depth: usize,
    /// The order of events that broke an invariant.
    pub broken: Option<String>,
    /// Whether a lease was held, and whether another director took over.
    pub held: bool,
    /// Whether the group moved.
    pub moved: bool,
}

/// Looks at every state within the bounds.
#[must_use]
pub fn check(bounds: &Bounds, threads: usize) -> Found {
    let builder = bounds.clone().checker().threads(threads);
    let builder = bounds.most.into_iter().fold(builder, CheckerBuilder::target_state_count);
    let checker = builder.spawn_dfs().join();
    let broken = checker.discovery(SAFE).map(|path| {
        let last = path.last_state().world.broken.clone();
        format!("{last:?} after {:#?}", path.into_actions())
    });
    Found {
        states: checker.unique_state_count(),
        reached: checker.state_count(),
        depth: checker.max_depth(),
        broken,
        held: checker.discovery(HELD).is_some(),
        moved: checker.discovery(MOVED).is_some(),
    }
}

const SAFE: &str = "at most one director serves, and no epoch goes back";
const HELD: &str = "a lease is held";
const MOVED: &str = "another director takes over";

impl Bounds {
    fn beginning(&self, rates: &[u64]) -> State {
        let nodes = rates.len() as u64;
        let voting = if self.voter_joins { nodes - 1 } else { nodes };
        let text = |lease: &Duration| configuration(*lease, &[("a", &[1])]);
        let mut world = World::new(Plan {
            rates: rates.to_vec(),
            voters: (1..=voting).map(NodeId).collect(),
            configurations: self.leases.iter().map(text).collect(),
            mutant: self.mutant,
        });
        world.grant(&group("a"), NodeId(1), Epoch(0));
        for id in world.ids() {
            world.append(id);
            world.apply(id, world.log.last());
        }
        world.begin();
        State { world, used: Used::default() }
    }

    fn next_instant(&self, world: &World) -> Real {
        let point = world.begun() + (world.passed() / self.grid + 1) * self.grid;
        world.next_end().map_or(point, |end| end.min(point))
    }

    fn acts_of_leader(&self, state: &State, actions: &mut Vec<Action>) {
        let (world, used) = (&state.world, &state.used);
        if !world.is_committed() {
            return;
        }
        for id in world.ids().into_iter().filter(|id| id.0 <= self.owners) {
            if used.grants < self.grants {
                actions.push(Action::Grant(id, true));
            }
            if used.stale_grants < self.stale_grants {
                actions.push(Action::Grant(id, false));
            }
        }
        if used.changes < self.changes {
            actions.push(Action::Configure);
        }
        if self.voter_joins && used.voters < 2 {
            actions.push(Action::Voters);
        }
    }

    fn acts_of_node(&self, state: &State, id: NodeId, actions: &mut Vec<Action>) {
        let (world, used) = (&state.world, &state.used);
        let on_grid = world.passed() % self.grid == 0;
        if on_grid && used.rounds < self.rounds && world.owns(id, &group("a")) {
            actions.push(Action::Round(id));
        }
        if used.releases < self.releases && world.owns(id, &group("a")) {
            actions.push(Action::GiveUp(id));
        }
        if used.restarts < self.restarts {
            actions.push(Action::Restart(id, true));
            if world.writes(id) {
                actions.push(Action::Restart(id, false));
            }
        }
        if world.writes(id) {
            actions.push(Action::Write(id));
        }
        if world.stores(id) {
            actions.push(Action::Store(id));
        }
        let machine = world.machine(id);
        if machine.appended < world.log.last() {
            actions.push(Action::Append(id));
        }
        if machine.applied < world.committed().min(machine.appended) {
            actions.push(Action::Apply(id));
        }
    }

    fn act(&self, world: &mut World, used: &mut Used, action: Action) {
        let a = group("a");
        match action {
            Action::Pass => world.pass(self.next_instant(world) - world.now),
            Action::Round(id) => {
                used.rounds += 1;
                if let Some(round) = world.round(id) {
                    self.heard(world, id, &round);
                }
            }
            Action::Hear(voter, key) => self.heard(world, voter, &key),
            Action::Count(key) => world.count(&key),
            Action::Store(id) => world.store(id),
            Action::Write(id) => {
                world.write(id);
                self.settle(world);
            }
            Action::Restart(id, written) => {
                used.restarts += 1;
                // The snapshot may be of any time: the first, here.
                world.restart(id, written, world.first_applied());
            }
            Action::GiveUp(id) => {
                used.releases += 1;
                world.give_up(id, &a);
            }
            Action::Grant(id, knows) => {
                let present = world.log.epoch(&a);
                let previous = if knows { present } else { Epoch(present.0 - 1) };
                *(if knows { &mut used.grants } else { &mut used.stale_grants }) += 1;
                world.grant(&a, id, previous);
            }
            Action::Configure => {
                used.changes += 1;
                let which = usize::try_from(used.changes).unwrap();
                world.configure(which % self.leases.len());
            }
            Action::Voters => {
                used.voters += 1;
                let before = world.log.membership(world.log.last()).configs[0].clone();
                let all: BTreeSet<NodeId> = world.ids().into_iter().collect();
                let next = if used.voters == 1 { vec![before, all] } else { vec![all] };
                world.voters(next);
            }
            Action::Append(id) => world.append(id),
            Action::Apply(id) => world.apply(id, world.log.last()),
        }
    }

    fn heard(&self, world: &mut World, voter: NodeId, key: &Key) {
        world.hear(voter, key);
        while !self.slow_disk && world.writes(voter) {
            world.write(voter);
        }
        self.settle(world);
    }

    /// Where answers are not slow, none is left on its way.
    fn settle(&self, world: &mut World) {
        if self.slow {
            return;
        }
        let replies: Vec<Key> = world.network.keys().filter(|key| key.kind == 1).cloned().collect();
        for reply in replies {
            world.count(&reply);
            world.store(reply.owner);
            world.lose(&reply);
        }
    }
}

impl Model for Bounds {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        self.rates.iter().map(|rates| self.beginning(rates)).collect()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let world = &state.world;
        if world.broken.is_some() {
            return;
        }
        self.acts_of_leader(state, actions);
        for id in world.ids() {
            self.acts_of_node(state, id, actions);
        }
        for (key, datagram) in world.network.iter() {
            match datagram {
                Datagram::Reply(_) => actions.push(Action::Count(key.clone())),
                Datagram::Renew(_) | Datagram::Released(..) => {
                    for voter in world.ids().into_iter().filter(|id| *id != key.owner) {
                        actions.push(Action::Hear(voter, key.clone()));
                    }
                }
            }
        }
        if self.next_instant(world) - world.begun() <= self.points * self.grid {
            actions.push(Action::Pass);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        self.act(&mut next.world, &mut next.used, action);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(SAFE, |_, state: &State| state.world.broken.is_none()),
            Property::sometimes(HELD, |_, state: &State| !state.world.served.is_empty()),
            Property::sometimes(MOVED, |_, state: &State| state.world.moves > 0),
        ]
    }
}

/// The configurations that are checked; `depth` 0 is what `cargo xtask test` runs, and takes seconds
/// each; 1 lets time go on, up to a promise's end, in all of them, and takes minutes to hours each; 2
/// and more look at what comes after it.
#[must_use]
pub fn configurations(depth: u64) -> Vec<Bounds> {
    let lease = Duration::from_secs(40);
    let second = 1_000_000_000;
    // Within 41 s the promises of the fast voters end, and just before that the slow owner's lease.
    let base = Bounds {
        name: "handover",
        rates: vec![vec![SLOW, FAST, FAST]],
        leases: vec![lease],
        grid: 41 * second,
        points: depth.max(1),
        owners: 2,
        rounds: 2 + depth.saturating_sub(1),
        grants: 1,
        stale_grants: depth.min(1),
        restarts: 0,
        releases: 0,
        changes: 0,
        voter_joins: false,
        slow: false,
        slow_disk: false,
        most: None,
        mutant: None,
    };
    let shorter = |bounds: Bounds| match depth {
        0 => Bounds { grid: 20 * second, ..bounds },
        _ => bounds,
    };
    let at_one_instant = |bounds: Bounds| match depth {
        0 => Bounds { points: 0, ..bounds },
        _ => bounds,
    };
    vec![
        base.clone(),
        shorter(Bounds { name: "restart", restarts: 1, ..base.clone() }),
        shorter(Bounds { name: "release", releases: 1, ..base.clone() }),
        at_one_instant(Bounds {
            name: "lease changes",
            leases: vec![lease, lease / 2],
            changes: 1,
            restarts: 1,
            ..base.clone()
        }),
        at_one_instant(Bounds { name: "slow answers", slow: true, ..base.clone() }),
        at_one_instant(Bounds { name: "slow disks", slow_disk: true, restarts: 1, ..base.clone() }),
        at_one_instant(Bounds {
            name: "a voter joins",
            voter_joins: true,
            rates: vec![vec![SLOW, FAST, FAST, FAST]],
            most: (depth == 0).then_some(500_000),
            ..base
        }),
    ]
}
