//! The links between nodes: each direction can be cut by itself; datagrams get lost, late, doubled
//! and overtake one another.

use std::collections::BTreeSet;

use quorate_model::id::NodeId;

use super::clock::{MS, Real};
use super::random::Random;

/// How bad the links are.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    /// Datagrams lost, of a thousand.
    pub lost: u64,
    /// Datagrams that come twice, the second time up to seconds later, of a thousand.
    pub doubled: u64,
    /// Datagrams that take up to a second, of a thousand.
    pub late: u64,
}

impl Weather {
    /// Nothing goes wrong.
    pub const CALM: Self = Self { lost: 0, doubled: 0, late: 0 };

    /// Any weather, often fair.
    pub fn any(random: &mut Random) -> Self {
        let mut some = |most: u64| if random.chance(400) { random.between(0, most) } else { 0 };
        Self { lost: some(250), doubled: some(300), late: some(200) }
    }
}

/// The network.
#[derive(Debug, Clone)]
pub struct Network {
    cut: BTreeSet<(NodeId, NodeId)>,
    /// How bad the links are now.
    pub weather: Weather,
}

impl Network {
    /// Links of this weather, none cut.
    #[must_use]
    pub fn new(weather: Weather) -> Self {
        Self { cut: BTreeSet::new(), weather }
    }

    /// Cuts one direction, or joins it again.
    pub fn set_cut(&mut self, from: NodeId, to: NodeId, cut: bool) {
        if cut {
            self.cut.insert((from, to));
        } else {
            self.cut.remove(&(from, to));
        }
    }

    /// Joins every link.
    pub fn heal(&mut self) {
        self.cut.clear();
    }

    /// Whether both directions work.
    #[must_use]
    pub fn joined(&self, a: NodeId, b: NodeId) -> bool {
        a == b || !(self.cut.contains(&(a, b)) || self.cut.contains(&(b, a)))
    }

    /// How long each copy of a datagram takes; none if it is lost.
    pub fn delays(&self, random: &mut Random, from: NodeId, to: NodeId) -> Vec<Real> {
        if self.cut.contains(&(from, to)) || random.chance(self.weather.lost) {
            return Vec::new();
        }
        let usual = random.between(50_000, 2 * MS);
        let late = random.chance(self.weather.late);
        let mut delays = vec![if late { random.between(2 * MS, 1_000 * MS) } else { usual }];
        if random.chance(self.weather.doubled) {
            delays.push(random.between(MS, 4_000 * MS));
        }
        delays
    }
}
