//! The soak: three real daemons under a load of writes, killed with SIGKILL at random points, round
//! by round; after each, every acknowledged configuration must be there on every node, and one
//! director must carry each VIP.
//!
//! Owns the rounds: who dies, when, and what is done meanwhile. What is right is `history`'s to
//! say. It runs on the host's kernel with true timing and needs no IPVS. Its test is
//! `tests/tests/lab_host_soak.rs`; by hand, `cargo xtask soak writes`.

mod history;
mod look;
mod writers;

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use self::history::{Attempt, Ledger, Outcome};
use self::look::Looker;
use self::writers::{Load, configuration};
use crate::dice::Dice;
use crate::lab::clock::Stopwatch;
use crate::lab::deployment::{Deployment, example_hosts};
use crate::lab::{LabError, artefacts_dir};

const NODES: [(&str, &str); 3] =
    [("d1", "192.168.10.80"), ("d2", "192.168.10.23"), ("d3", "192.168.10.24")];
const WRITERS: usize = 4;
/// Within this time a cluster with a majority must acknowledge: far past any election.
const ACKNOWLEDGE_LIMIT: Duration = Duration::from_secs(60);
/// Within this time all must be as it should be again.
const SETTLE_LIMIT: Duration = Duration::from_secs(90);

/// What to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// How often daemons are killed.
    pub rounds: u32,
    /// Whose dice are thrown.
    pub seed: u64,
    /// The folder of the daemons' logs, among the artefacts.
    pub name: String,
}

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Rounds that held.
    pub rounds: u32,
    /// Daemons killed.
    pub kills: u32,
    /// Rounds in which all daemons were killed.
    pub all_killed: u32,
    /// Acknowledged writes: all of them were there afterwards.
    pub acknowledged: usize,
    /// Writes that came too late for the revision that they expected.
    pub conflicts: usize,
    /// Writes that the cluster did not take.
    pub not_taken: usize,
    /// Writes of unknown outcome.
    pub unknown: usize,
}

/// Why a soak ended early.
#[derive(Debug, thiserror::Error)]
pub enum SoakError {
    /// The cluster broke a promise.
    #[error("round {round} of seed {seed}: {what}\nlogs: {}", logs.display())]
    Broken {
        /// In which round.
        round: u32,
        /// Of which seed.
        seed: u64,
        /// What is wrong, one line each.
        what: String,
        /// Where the daemons' logs are.
        logs: PathBuf,
    },
    /// The lab itself can't be set up.
    #[error(transparent)]
    Lab(#[from] LabError),
}

/// What is done in a round.
#[derive(Debug, Clone)]
struct Plan {
    /// Who is killed, in this order, and started again in this order.
    victims: Vec<&'static str>,
    /// How many writes are acknowledged before.
    after: u64,
    /// How long after that.
    delay: Duration,
    /// How long they stay dead; past a second or two, writers give up without an outcome.
    down: Duration,
    /// Whether no write is begun after the kill: what was acknowledged last must then stand alone.
    quiet: bool,
    /// Who is killed once more, so long after its daemon answered again.
    again: Option<(&'static str, Duration)>,
}

impl Plan {
    fn new(round: u32, dice: &mut Dice) -> Self {
        let mut victims = NODES.map(|(name, _)| name).to_vec();
        dice.shuffle(&mut victims);
        let count = match dice.below(10) {
            // All at once as often as not by chance: nothing then is in anybody's memory.
            _ if round % 4 == 3 => 3,
            0 => 3,
            1..=3 => 2,
            _ => 1,
        };
        victims.truncate(count);
        let first = victims[0];
        let again = dice.one_in(4).then(|| (first, dice.time_below(Duration::from_millis(300))));
        let down = if dice.one_in(4) { Duration::from_secs(4) } else { Duration::from_millis(100) };
        Self {
            victims,
            down: dice.time_below(down),
            after: u64::try_from(dice.below(30)).unwrap_or_default(),
            delay: dice.time_below(Duration::from_millis(50)),
            quiet: dice.one_in(2),
            again,
        }
    }

    fn kills(&self) -> u32 {
        u32::try_from(self.victims.len() + usize::from(self.again.is_some())).unwrap_or_default()
    }
}

impl std::fmt::Display for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} killed after {} writes", self.victims.join(" "), self.after)?;
        if self.quiet {
            f.write_str(", no write since")?;
        }
        write!(f, ", started after {:.1} s", self.down.as_secs_f64())?;
        match self.again {
            Some((name, _)) => write!(f, ", {name} killed again"),
            None => Ok(()),
        }
    }
}

/// Runs the soak; `say` gets one line after the other.
///
/// # Errors
/// When the cluster breaks a promise, or the lab can't be set up.
pub fn run(options: &Options, say: &mut dyn FnMut(&str)) -> Result<Summary, SoakError> {
    let logs = artefacts_dir().join(&options.name);
    say(&format!("seed {}, {} rounds; logs in {}", options.seed, options.rounds, logs.display()));
    let folder = tempfile::tempdir().map_err(LabError::io("make a folder for configurations"))?;
    let mut soak = Soak::new(options, folder)?;
    let mut summary = Summary::default();
    let watch = Stopwatch::start();
    for round in 1..=options.rounds {
        let plan = Plan::new(round, &mut soak.dice);
        let broken = |what: String| SoakError::Broken {
            round,
            seed: options.seed,
            what: format!("{what}\nplan: {plan:?}"),
            logs: logs.clone(),
        };
        let started = Stopwatch::start();
        let attempts = soak.round(&plan).map_err(|error| broken(error.to_string()))?;
        let loaded = started.elapsed();
        let wrong = soak.check(&attempts).map_err(|error| broken(error.to_string()))?;
        let count = summary.add(&plan, &attempts);
        say(&format!(
            "round {round:3}: {plan}; {count}; {:.1} s, settled in {:.1} s",
            loaded.as_secs_f64(),
            started.elapsed().saturating_sub(loaded).as_secs_f64(),
        ));
        if !wrong.is_empty() {
            return Err(broken(wrong.join("\n")));
        }
        summary.rounds += 1;
    }
    say(&format!("{summary} in {:.0} s (seed {})", watch.elapsed().as_secs_f64(), options.seed));
    Ok(summary)
}

struct Soak {
    deployment: Deployment,
    load: Load,
    looker: Looker,
    ledger: Ledger,
    dice: Dice,
    // After what writes into it.
    _folder: TempDir,
}

impl Soak {
    fn new(options: &Options, folder: TempDir) -> Result<Self, LabError> {
        let mut deployment = Deployment::new(&options.name, &example_hosts()?)?;
        for (name, address) in NODES {
            deployment.add_director(name, address)?;
        }
        deployment.form(&NODES.map(|(name, _)| name), "lan")?;
        let first_mark = 1;
        deployment.apply("d1", &configuration(first_mark))?;
        let sockets = NODES
            .iter()
            .map(|(name, _)| deployment.folder_of(name).map(|folder| folder.join("quorate.sock")));
        let sockets = sockets.collect::<Result<_, LabError>>()?;
        let load = Load::new(sockets, folder.path().to_path_buf(), 1, first_mark);
        Ok(Self {
            load,
            looker: Looker::new(NODES.map(|(name, _)| name).to_vec(), folder.path())?,
            ledger: Ledger::new(1, first_mark),
            dice: Dice::new(options.seed),
            deployment,
            _folder: folder,
        })
    }

    /// Writes, kills, starts again; gives what was written.
    fn round(&mut self, plan: &Plan) -> Result<Vec<Attempt>, LabError> {
        let Self { deployment, load, dice, .. } = self;
        let load: &Load = load;
        let dice: Vec<Dice> = (0..WRITERS).map(|_| dice.split()).collect();
        load.open();
        thread::scope(|scope| {
            let writer = |(name, dice)| scope.spawn(move || load.write(name, dice));
            let writers: Vec<_> = dice.into_iter().enumerate().map(writer).collect();
            let killed = kill_and_start(deployment, load, plan);
            load.close();
            let mut attempts = Vec::new();
            for writer in writers {
                match writer.join() {
                    Ok(written) => attempts.extend(written?),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            killed.map(|()| attempts)
        })
    }

    /// Waits until the cluster has settled, and gives what is wrong then.
    fn check(&mut self, attempts: &[Attempt]) -> Result<Vec<String>, LabError> {
        let mut last = None;
        let looker = &self.looker;
        let settled = self.deployment.wait_for("a settled cluster", SETTLE_LIMIT, |deployment| {
            last = looker.look(deployment)?;
            Ok(last.as_ref().is_some_and(look::Look::is_settled))
        });
        let mut wrong = match (settled, &last) {
            (Ok(()), _) => Vec::new(),
            (Err(error), Some(look)) => vec![format!("{error}\nlast seen: {look:?}")],
            (Err(error), None) => vec![format!("a node does not answer: {error}")],
        };
        wrong.extend(self.ledger.judge(attempts, &last.unwrap_or_default().nodes));
        Ok(wrong)
    }
}

fn kill_and_start(deployment: &mut Deployment, load: &Load, plan: &Plan) -> Result<(), LabError> {
    let acknowledged = |count, when: &str| {
        if load.wait_for_more(count, ACKNOWLEDGE_LIMIT) {
            return Ok(());
        }
        let what = format!("{count} writes {when}, within {ACKNOWLEDGE_LIMIT:?}");
        Err(LabError::Unreadable { what, text: "they were not acknowledged".to_owned() })
    };
    acknowledged(plan.after, "before the kill")?;
    // A point between two events, which nothing but chance can choose.
    thread::sleep(plan.delay);
    if plan.quiet {
        load.close();
    }
    for victim in &plan.victims {
        deployment.kill(victim)?;
    }
    if !plan.quiet && plan.victims.len() == 1 {
        acknowledged(3, "by the two that are left")?;
    }
    thread::sleep(plan.down);
    for victim in &plan.victims {
        deployment.start(victim)?;
    }
    if let Some((victim, delay)) = plan.again {
        thread::sleep(delay);
        deployment.kill(victim)?;
        deployment.start(victim)?;
    }
    if plan.quiet { Ok(()) } else { acknowledged(5, "after the restart") }
}

impl Summary {
    /// Adds a round; gives its counts for people.
    fn add(&mut self, plan: &Plan, attempts: &[Attempt]) -> String {
        let mut round = Self { rounds: 0, kills: plan.kills(), ..Self::default() };
        for attempt in attempts {
            match attempt.outcome {
                Outcome::Acknowledged { .. } => round.acknowledged += 1,
                Outcome::Conflict => round.conflicts += 1,
                Outcome::NotTaken => round.not_taken += 1,
                Outcome::Unknown => round.unknown += 1,
            }
        }
        self.kills += round.kills;
        self.all_killed += u32::from(plan.victims.len() == NODES.len());
        self.acknowledged += round.acknowledged;
        self.conflicts += round.conflicts;
        self.not_taken += round.not_taken;
        self.unknown += round.unknown;
        round.counts()
    }

    fn counts(&self) -> String {
        format!(
            "{} acknowledged, {} conflicts, {} not taken, {} unknown",
            self.acknowledged, self.conflicts, self.not_taken, self.unknown
        )
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} rounds held, {} daemons killed, all three at once in {}; {}",
            self.rounds,
            self.kills,
            self.all_killed,
            self.counts()
        )
    }
}
