//! Quorate on a bed: three or five directors with the real daemon and plain VIPs, timing of choice.
//! Used by the bench, the soak and the lab's fault tests.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::bed::{Bed, others};
use super::{CLIENT, DIRECTORS, hosts, vip};
use crate::lab::clock::{Deadline, Stopwatch, now};
use crate::lab::deployment::Deployment;
use crate::lab::observer::{Observer, Plan};
use crate::lab::{LabError, Network, in_vm};

/// Within this time all must be as it should be again; far past any lease and election.
const SETTLE_LIMIT: Duration = Duration::from_secs(120);
/// How often a planned move is asked for.
const TRANSFER_TRIES: u32 = 10;
/// The lead is handed over some ten seconds after the last grant.
const CALM_LIMIT: Duration = Duration::from_secs(60);
/// The profile that the cluster begins with; its own timing comes with its configuration. An emulated
/// machine keeps no short times.
fn init_profile() -> &'static str {
    if in_vm() { "wan" } else { "fast" }
}

/// A cluster's times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How long a lease runs.
    pub lease: Duration,
    /// How often it is renewed.
    pub renew: Duration,
}

impl Timing {
    /// `fast`, as the pages have it.
    pub const FAST: Self = Self::of(250, 25);
    /// `lan`.
    pub const LAN: Self = Self::of(500, 50);
    /// `wan`.
    pub const WAN: Self = Self::of(3_000, 300);

    /// A timing in milliseconds.
    #[must_use]
    pub const fn of(lease: u64, renew: u64) -> Self {
        Self { lease: Duration::from_millis(lease), renew: Duration::from_millis(renew) }
    }

    /// As the cluster's configuration has it.
    fn toml(self) -> String {
        match self {
            Self::FAST => "\"fast\"".to_owned(),
            Self::LAN => "\"lan\"".to_owned(),
            Self::WAN => "\"wan\"".to_owned(),
            Self { lease, renew } => {
                format!(
                    "{{ lease = \"{}ms\", renew = \"{}ms\" }}",
                    lease.as_millis(),
                    renew.as_millis()
                )
            }
        }
    }

    /// How long a voter that has just started refuses renewals (docs/design: the promise).
    fn promise(self) -> Duration {
        self.lease.mul_f64(1.02) + Duration::from_millis(10)
    }
}

/// What to set up.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The folder of the daemons' logs, among the artefacts.
    pub name: String,
    /// How many directors: at most five.
    pub directors: usize,
    /// The cluster's times.
    pub timing: Timing,
    /// How many VIP groups, of one VIP each.
    pub groups: usize,
    /// Which of them the observer asks for.
    pub observed: Vec<usize>,
    /// Keys that every group has besides, one a line.
    pub keys: String,
    /// Virtual services of the first group, as the configuration has them.
    pub services: String,
}

impl Setup {
    /// One group that stays where it is until it must move.
    #[must_use]
    pub fn one_group(name: &str, directors: usize, timing: Timing) -> Self {
        Self {
            name: name.to_owned(),
            directors,
            timing,
            groups: 1,
            observed: vec![0],
            keys: "preempt = false".to_owned(),
            services: String::new(),
        }
    }

    fn configuration(&self) -> String {
        let mut text = format!("[cluster]\ntiming = {}\n", self.timing.toml());
        for number in 0..self.groups {
            let (group, vip, keys) = (group(number), vip(number), &self.keys);
            let _infallible = write!(
                text,
                "\n[group.{group}]\ninterface = \"public\"\naddresses = [\"{vip}/32\"]\n{keys}\n"
            );
        }
        text.push_str(&self.services);
        text
    }
}

/// The name of a group, by its number.
#[must_use]
pub fn group(number: usize) -> String {
    if number == 0 { "web".to_owned() } else { format!("g{number:03}") }
}

/// The bed.
#[derive(Debug)]
pub struct Quorate {
    // Before the network that it asks on.
    observer: Arc<Observer>,
    deployment: Deployment,
    directors: Vec<&'static str>,
    setup: Setup,
    /// When a daemon was last started.
    started: Duration,
}

impl Quorate {
    /// Forms the cluster, gives it its groups, and begins to observe.
    ///
    /// # Errors
    /// When it can't be set up.
    pub fn new(setup: Setup) -> Result<Self, LabError> {
        let mut deployment = Deployment::new(&setup.name, &hosts(setup.directors)?)?;
        let directors: Vec<&'static str> =
            DIRECTORS.iter().take(setup.directors).map(|(name, _)| *name).collect();
        for (name, address) in DIRECTORS.iter().take(setup.directors) {
            deployment.add_director(name, &address.to_string())?;
        }
        // No promise longer than the configuration's is ever given: there is no group before it.
        deployment.form(&directors, init_profile())?;
        deployment.apply(DIRECTORS[0].0, &setup.configuration())?;
        let vips: Vec<Ipv4Addr> = setup.observed.iter().map(|number| vip(*number)).collect();
        let plan = Plan::new(deployment.network(), CLIENT, &directors, &vips)?;
        let mut bed = Self::observing(deployment, setup, plan)?;
        // Raft's timers follow a timing at a node's next start.
        for director in bed.directors.clone() {
            bed.kill(director)?;
            bed.start(director)?;
            bed.settle()?;
        }
        Ok(bed)
    }

    /// Begins to observe a deployment that has its cluster and groups, as the setup says.
    ///
    /// # Errors
    /// When the observer can't be started, or the cluster is never whole.
    pub fn observing(deployment: Deployment, setup: Setup, plan: Plan) -> Result<Self, LabError> {
        let observer = Observer::start(deployment.network().namespace(CLIENT.0)?, plan)?;
        let directors = DIRECTORS.iter().take(setup.directors).map(|(name, _)| *name).collect();
        let observer = Arc::new(observer);
        let mut bed = Self { observer, deployment, directors, setup, started: now() };
        bed.settle()?;
        Ok(bed)
    }

    /// The deployment itself.
    pub fn deployment(&mut self) -> &mut Deployment {
        &mut self.deployment
    }

    /// What each director says of the cluster; none while one does not answer, or knows no leader.
    #[must_use]
    pub fn statuses(&self) -> Option<Vec<Value>> {
        let status = |director: &&str| {
            let status = self.deployment.status_in_brief(director)?;
            status.pointer("/cluster/leader")?.as_str().is_some().then_some(status)
        };
        self.directors.iter().map(status).collect()
    }

    /// The Raft leader, where all know the same.
    #[must_use]
    pub fn leader(&self) -> Option<String> {
        let statuses = self.statuses()?;
        let leaders: Option<BTreeSet<&str>> =
            statuses.iter().map(|status| status.pointer("/cluster/leader")?.as_str()).collect();
        let leaders = leaders?;
        let leader = leaders.first().filter(|_| leaders.len() == 1)?;
        Some((*leader).to_owned())
    }

    /// The latest epoch of each observed group that a director knows.
    #[must_use]
    pub fn epochs(&self) -> Option<Vec<u64>> {
        let statuses = self.statuses()?;
        let latest = |number: &usize| {
            let name = group(*number);
            statuses.iter().filter_map(|status| group_of(status, &name)?["epoch"].as_u64()).max()
        };
        self.setup.observed.iter().map(latest).collect()
    }

    /// Makes a director the owner of the first group.
    ///
    /// # Errors
    /// When it is refused.
    pub fn transfer(&self, to: &str) -> Result<(), LabError> {
        self.transfer_group("web", to)
    }

    /// Asks again where the outcome is unknown, as `quorate` says: on a busy machine, an election
    /// may come in between.
    fn transfer_group(&self, group: &str, to: &str) -> Result<(), LabError> {
        let mut last = String::new();
        for _ in 0..TRANSFER_TRIES {
            let arguments = ["transfer", group, "--to", to, "--yes"];
            let finished = self.deployment.quorate(to, &arguments)?;
            if finished.status.success() {
                return Ok(());
            }
            last = finished.stderr;
        }
        Err(LabError::Unreadable { what: format!("a transfer of {group} to {to}"), text: last })
    }

    fn is_whole(&self, status: &Value) -> bool {
        let ready = |node: &Value| node["state"] == "ready";
        let manned = |group: &Value| {
            group["owner"].is_string()
                && group["standby"].as_array().map(Vec::len) == Some(self.directors.len() - 1)
        };
        let all = |key: &str, count: usize, holds: &dyn Fn(&Value) -> bool| {
            let list = status[key].as_array();
            list.is_some_and(|list| list.len() == count && list.iter().all(holds))
        };
        status["cluster"]["health"] == "ok"
            && all("nodes", self.directors.len(), &ready)
            && all("groups", self.setup.groups, &manned)
    }
}

fn group_of<'a>(status: &'a Value, name: &str) -> Option<&'a Value> {
    status.get("groups")?.as_array()?.iter().find(|group| group["name"] == name)
}

/// Whether all directors name the same leader, and the same owner and epoch of each group.
fn agree(statuses: &[Value]) -> bool {
    let said = |status: &Value| {
        let groups = status["groups"].as_array().cloned().unwrap_or_default();
        let owners: Vec<(Value, Value, Value)> = groups
            .iter()
            .map(|group| (group["name"].clone(), group["owner"].clone(), group["epoch"].clone()))
            .collect();
        (status["cluster"]["leader"].clone(), owners)
    };
    let mut said = statuses.iter().map(said);
    let first = said.next();
    said.all(|other| Some(other) == first)
}

impl Bed for Quorate {
    fn directors(&self) -> &[&'static str] {
        &self.directors
    }

    fn network(&self) -> &Network {
        self.deployment.network()
    }

    fn observer(&self) -> Arc<Observer> {
        Arc::clone(&self.observer)
    }

    fn vips(&self) -> u16 {
        u16::try_from(self.setup.observed.len()).unwrap_or(u16::MAX)
    }

    fn interval(&self) -> Duration {
        self.setup.timing.renew
    }

    fn lease(&self) -> Duration {
        self.setup.timing.lease
    }

    /// The Raft leader is a director that owns nothing, as some ten seconds after a fault.
    fn calm_down(&mut self) -> Result<(), LabError> {
        let deadline = Deadline::after(CALM_LIMIT);
        loop {
            let owner = self.statuses().and_then(|statuses| {
                let owner = group_of(statuses.first()?, "web")?["owner"].as_str()?.to_owned();
                Some(owner)
            });
            let leader = self.leader();
            match (&owner, &leader) {
                (Some(owner), Some(leader)) if owner != leader => return Ok(()),
                // One group is quicker moved than the lead; many come to another leader by themselves.
                (Some(_), Some(leader)) if self.setup.groups == 1 => {
                    let others = self.directors.iter().find(|name| **name != leader.as_str());
                    if let Some(&other) = others {
                        self.transfer(other)?;
                    }
                }
                _ => std::thread::sleep(Duration::from_millis(100)),
            }
            if deadline.passed() {
                let text = format!("owner {owner:?}, leader {leader:?}");
                let what = "an owner that is not the Raft leader".to_owned();
                return Err(LabError::Unreadable { what, text });
            }
        }
    }

    fn kill(&mut self, director: &str) -> Result<(), LabError> {
        self.deployment.kill(director).map(drop)
    }

    fn stop(&mut self, director: &str) -> Result<(), LabError> {
        self.deployment.stop(director)
    }

    fn resume(&mut self, director: &str) -> Result<(), LabError> {
        self.deployment.resume(director)
    }

    fn terminate(&mut self, director: &str) -> Result<(), LabError> {
        self.deployment.terminate(director).map(drop)
    }

    fn start(&mut self, director: &str) -> Result<(), LabError> {
        self.deployment.start(director)?;
        self.started = now();
        Ok(())
    }

    fn move_from(&mut self, director: &str) -> Result<(), LabError> {
        let status = self.deployment.status_in_brief(director).unwrap_or_default();
        let groups = status["groups"].as_array().cloned().unwrap_or_default();
        let to = others(&self.directors, director);
        let mut to = to.iter().cycle();
        for group in groups.iter().filter(|group| group["owner"] == director) {
            let (Some(name), Some(to)) = (group["name"].as_str(), to.next()) else { continue };
            self.transfer_group(name, to)?;
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<(), LabError> {
        let watch = Stopwatch::start();
        let mut last = None;
        let whole = self.deployment.wait_for("a whole cluster", SETTLE_LIMIT, |_| {
            last = self.statuses();
            // One that was away may tell of the time before: all have to say the same.
            Ok(last
                .as_ref()
                .is_some_and(|all| all.iter().all(|status| self.is_whole(status)) && agree(all)))
        });
        whole.map_err(|error| LabError::Unreadable {
            what: format!("the cluster after {:?}: {error}", watch.elapsed()),
            text: Value::from(last.unwrap_or_default()).to_string(),
        })?;
        // A voter that has just started gives no promise yet: a fault now would measure that too.
        let refusing = (self.started + self.setup.timing.promise()).saturating_sub(now());
        std::thread::sleep(refusing);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directors_agree_when_leader_owners_and_epochs_are_the_same() {
        let status = |leader: &str, owner: &str, epoch: u64| {
            serde_json::json!({ "cluster": { "leader": leader },
                "groups": [ { "name": "web", "owner": owner, "epoch": epoch } ] })
        };
        let one = status("d1", "d2", 7);
        assert!(agree(&[one.clone(), one.clone()]));
        for other in [status("d2", "d2", 7), status("d1", "d1", 7), status("d1", "d2", 6)] {
            assert!(!agree(&[one.clone(), other]));
        }
    }

    #[test]
    fn configurations_are_as_the_cluster_reads_them() {
        let setup = |timing| Setup { groups: 22, ..Setup::one_group("test", 3, timing) };
        let text = setup(Timing::of(150, 50)).configuration();
        for part in [
            "timing = { lease = \"150ms\", renew = \"50ms\" }",
            "[group.web]\ninterface = \"public\"\naddresses = [\"192.168.10.180/32\"]\npreempt = false",
            "[group.g021]\ninterface = \"public\"\naddresses = [\"10.77.0.22/32\"]",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(setup(Timing::LAN).configuration().starts_with("[cluster]\ntiming = \"lan\"\n"));
    }
}
