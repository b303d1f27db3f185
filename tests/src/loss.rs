//! The soak of a bad line: three directors whose packets to each other are lost at random, on a
//! machine whose cores are all busy. How often does a group move that had no need to?
//!
//! Owns the loss, the load and the count. It judges nothing: the number is for the pages
//! (docs/benchmarks/soak.md). By hand, `cargo xtask soak loss`.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::lab::LabError;
use crate::lab::clock::Stopwatch;
use crate::lab::deployment::Deployment;
use crate::lab::network::INTERFACE;

const NODES: [&str; 3] = ["d1", "d2", "d3"];
const LIMIT: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(500);
const CONFIGURATION: &str = "[cluster]\ntiming = \"fast\"\n\n[group.web]\ninterface = \"public\"\n\
                             addresses = [\"192.168.10.180/32\"]\npreempt = false\n";

/// What to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// For how long.
    pub time: Duration,
    /// How many of a hundred packets are lost, in each direction.
    pub percent: u32,
    /// Whether there is a second link, on which nothing is lost.
    pub second_link: bool,
}

/// What was seen.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Grants after the first: the owner or its epoch changed.
    pub moves: usize,
    /// Terms of Raft after the first.
    pub elections: u64,
    /// Looks at which the owner held its lease.
    pub held: u32,
    /// Looks in all.
    pub looks: u32,
}

/// Runs it; `say` gets one line after the other.
///
/// # Errors
/// When the lab can't be set up, or the cluster never forms.
pub fn run(options: &Options, say: &mut dyn FnMut(&str)) -> Result<Summary, LabError> {
    let links = if options.second_link { 2 } else { 1 };
    let mut deployment = Deployment::of_three("soak_loss", "fast", links)?;
    deployment.apply("d1", CONFIGURATION)?;
    // Raft's timers follow a timing at a node's next start.
    for node in NODES {
        deployment.terminate(node)?;
        deployment.start(node)?;
        settle(&deployment)?;
    }
    let busy = Busy::start();
    for node in NODES {
        lose(&deployment, node, options.percent)?;
    }
    let links = if options.second_link { "one of two links" } else { "the only link" };
    say(&format!(
        "{} % of the packets lost on {links}, {} busy threads, `fast`, {} s",
        options.percent,
        busy.threads.len(),
        options.time.as_secs()
    ));
    let summary = watch(&deployment, options, say);
    drop(busy);
    say(&format!(
        "{} moves, {} elections; the owner held its lease at {} of {} looks",
        summary.moves, summary.elections, summary.held, summary.looks
    ));
    Ok(summary)
}

fn settle(deployment: &Deployment) -> Result<(), LabError> {
    deployment.wait_for("a whole cluster", LIMIT, |deployment| {
        let Some(status) = deployment.status("d1") else { return Ok(false) };
        let owned = status["groups"][0]["lease_remaining_ms"].is_u64();
        Ok(status["cluster"]["health"] == "ok" && owned)
    })
}

/// Loses so many of the packets that come to a node over the first segment from another one: of
/// renewals and of Raft alike.
fn lose(deployment: &Deployment, node: &str, percent: u32) -> Result<(), LabError> {
    let rules = format!(
        "add table inet loss; add chain inet loss in {{ type filter hook input priority raw; }}; \
         add rule inet loss in iifname {INTERFACE} meta l4proto {{ tcp, udp }} \
         numgen random mod 100 < {percent} drop"
    );
    let mut nft = Command::new("nft");
    nft.arg(rules);
    let finished = deployment.network().run(node, &mut nft, LIMIT)?;
    if !finished.status.success() {
        return Err(LabError::Unreadable { what: "nft".to_owned(), text: finished.stderr });
    }
    Ok(())
}

fn watch(deployment: &Deployment, options: &Options, say: &mut dyn FnMut(&str)) -> Summary {
    let mut summary = Summary::default();
    let (mut epochs, mut terms) = (BTreeSet::new(), BTreeSet::new());
    let stopwatch = Stopwatch::start();
    let mut minute = 1;
    while stopwatch.elapsed() < options.time {
        // Each in its turn: who is cut off for a moment says nothing of the others.
        let node = NODES[usize::try_from(summary.looks).unwrap_or(0) % NODES.len()];
        summary.looks += 1;
        if let Some(status) = deployment.status(node) {
            epochs.extend(status["groups"][0]["epoch"].as_u64());
            terms.extend(status["cluster"]["term"].as_u64());
            summary.held += u32::from(status["groups"][0]["lease_remaining_ms"].is_u64());
        }
        summary.moves = epochs.len().saturating_sub(1);
        summary.elections = terms.last().zip(terms.first()).map_or(0, |(last, first)| last - first);
        if stopwatch.elapsed() >= minute * Duration::from_secs(60) {
            say(&format!("{minute} min: {} moves, {} elections", summary.moves, summary.elections));
            minute += 1;
        }
        std::thread::sleep(LOOK_EVERY);
    }
    summary
}

/// One thread for each core that does nothing, as fast as it can.
struct Busy {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Busy {
    fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let spin = |stop: Arc<AtomicBool>| {
            move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            }
        };
        let threads = (0..cores).map(|_| std::thread::spawn(spin(Arc::clone(&stop)))).collect();
        Self { stop, threads }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // It can't panic, and nothing hangs on it.
            let _ = thread.join();
        }
    }
}
