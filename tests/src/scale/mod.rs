//! The bench of IPVS at scale: thousands of real servers, programmed by Quorate, by Keepalived and by
//! `ipvsadm` in the same network namespace, one after the other.
//!
//! Owns what is measured, and how. A table is whole when `ipvsadm` lists every real server of it: none
//! of the three is asked what it has done. Asserts nothing: `report` prints what was measured beside
//! the budgets of the design. By hand, `cargo xtask bench ipvs`.

mod failovers;
pub mod report;
mod shape;
mod systems;

use std::fs;

use quorate_dataplane::Dataplane as _;
use quorate_dataplane::linux::Linux;
use quorate_model::kernel::{DesiredService, DesiredServices};
use quorate_model::plan::plan;

pub use self::shape::Shape;
use self::systems::Systems;
use crate::failover::statistics::Distribution;
use crate::lab::LabError;
use crate::lab::clock::Stopwatch;

/// The page's name, among the artefacts and in `docs/benchmarks`.
pub const PAGE: &str = "ipvs.md";

/// What to do.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How often each is measured.
    pub rounds: u32,
    /// Leaves out what takes longest: the failovers.
    pub quick: bool,
    /// Leaves out all but them.
    pub only_failovers: bool,
}

/// One thing, measured of each system that can do it.
#[derive(Debug, Clone)]
pub struct Row {
    /// What was done.
    pub what: String,
    /// Quorate.
    pub quorate: Distribution,
    /// Keepalived.
    pub keepalived: Option<Distribution>,
    /// `ipvsadm`.
    pub ipvsadm: Option<Distribution>,
}

/// What a daemon takes with a table.
#[derive(Debug, Clone)]
pub struct Memory {
    /// The table.
    pub shape: Shape,
    /// Of the daemon, resident, in KiB.
    pub daemon_kib: u64,
    /// The highest that it ever was, in KiB.
    pub peak_kib: u64,
    /// Of Keepalived's checker, resident, in KiB.
    pub keepalived_kib: u64,
    /// The configuration's text, in bytes.
    pub text_bytes: u64,
    /// The data directory (log, snapshot, membership), in bytes.
    pub data_bytes: u64,
}

/// The gaps of one fault, with few real servers on each director and with many.
#[derive(Debug, Clone)]
pub struct Failover {
    /// What was done to the owner.
    pub fault: String,
    /// With two real servers.
    pub few: Distribution,
    /// With those of [`Shape::WIDE`].
    pub many: Distribution,
}

/// All that was measured.
#[derive(Debug, Clone, Default)]
pub struct Results {
    /// The times.
    pub rows: Vec<Row>,
    /// What memory it took.
    pub memory: Vec<Memory>,
    /// The gaps of failovers.
    pub failovers: Vec<Failover>,
}

/// Runs the bench; `say` gets one line after the other.
///
/// # Errors
/// When the lab can't be set up, or a table is never whole.
pub fn run(options: Options, say: &mut dyn FnMut(&str)) -> Result<Results, LabError> {
    if options.only_failovers {
        let failovers = failovers::run(options, say)?;
        return Ok(Results { failovers, ..Results::default() });
    }
    let (systems, results) = (Systems::new()?, Results::default());
    let mut bench = Bench { rounds: options.rounds, systems, results, say };
    bench.onto_empty(Shape::WIDE)?;
    bench.nothing_to_do(Shape::WIDE)?;
    bench.memory(Shape::WIDE)?;
    bench.onto_empty(Shape::DEEP)?;
    bench.memory(Shape::DEEP)?;
    bench.one_weight(Shape::LARGE)?;
    bench.memory(Shape::LARGE)?;
    let Bench { systems, mut results, say, .. } = bench;
    // Its daemons end before others begin.
    drop(systems);
    if !options.quick {
        results.failovers = failovers::run(options, say)?;
    }
    Ok(results)
}

/// The systems, and what was measured of them so far.
struct Bench<'s> {
    rounds: u32,
    systems: Systems,
    results: Results,
    say: &'s mut dyn FnMut(&str),
}

impl Bench<'_> {
    fn add(&mut self, row: Row) {
        (self.say)(&report::told(&row));
        self.results.rows.push(row);
    }

    /// A whole table onto an empty kernel: by a daemon that starts, and by one that runs.
    fn onto_empty(&mut self, shape: Shape) -> Result<(), LabError> {
        (self.say)(&format!("=== {shape} onto an empty kernel"));
        let [mut applied, mut started, mut keepalived, mut restored] =
            [(); 4].map(|()| Distribution::default());
        for _ in 0..self.rounds {
            // With no service in its configuration: it has nothing to put there.
            self.systems.start_quorate()?;
            applied.add(self.systems.apply(shape)?);
            self.systems.end_quorate()?;
            self.systems.clear()?;
            started.add(self.systems.start_quorate_with(shape)?);
            self.systems.apply_nothing()?;
            self.systems.end_quorate()?;
            self.systems.clear()?;
            keepalived.add(self.systems.start_keepalived(shape)?);
            self.systems.kill_keepalived()?;
            self.systems.clear()?;
            restored.add(self.systems.restore(shape)?);
            self.systems.clear()?;
        }
        let row = Row {
            what: format!("{shape}: the daemon starts"),
            quorate: started,
            keepalived: Some(keepalived),
            ipvsadm: Some(restored),
        };
        self.add(row);
        let row = Row {
            what: format!("{shape}: `quorate apply`, the daemon running"),
            quorate: applied,
            keepalived: None,
            ipvsadm: None,
        };
        self.add(row);
        // Left for what comes next.
        self.systems.start_quorate()?;
        self.systems.apply(shape).map(drop)
    }

    /// What a look at a table that is right costs: the kernel's answer, and the comparison.
    fn nothing_to_do(&mut self, shape: Shape) -> Result<(), LabError> {
        (self.say)("=== a table that is right already");
        let [mut observed, mut planned, mut shown] = [(); 3].map(|()| Distribution::default());
        let failed = |error: &dyn std::fmt::Display| LabError::Unreadable {
            what: "the IPVS table".to_owned(),
            text: error.to_string(),
        };
        for _ in 0..self.rounds.max(5) {
            let look = || {
                let mut kernel = Linux::new()?;
                let stopwatch = Stopwatch::start();
                let table = kernel.observe_services()?;
                Ok::<_, quorate_dataplane::DataplaneError>((stopwatch.elapsed(), table))
            };
            let (took, table) =
                self.systems.namespace()?.enter(look)?.map_err(|error| failed(&error))?;
            observed.add(took);
            let desired: DesiredServices = table
                .iter()
                .filter_map(|(key, service)| {
                    let destinations = service.destinations.iter();
                    let destinations = destinations
                        .filter_map(|(at, observed)| Some((*at, observed.destination?)))
                        .collect();
                    Some((*key, DesiredService { settings: service.settings?, destinations }))
                })
                .collect();
            let ours = desired.keys().copied().collect();
            let stopwatch = Stopwatch::start();
            let actions = plan(&desired, &table, &ours);
            planned.add(stopwatch.elapsed());
            let found: usize = desired.values().map(|service| service.destinations.len()).sum();
            if !actions.is_empty() || found != shape.real_servers() {
                return Err(failed(&format!("{found} real servers, {} to do", actions.len())));
            }
            shown.add(self.systems.list()?);
        }
        let what =
            format!("{shape}: nothing to do, the table read from the kernel (`ipvsadm -Sn`)");
        self.add(Row { what, quorate: observed, keepalived: None, ipvsadm: Some(shown) });
        let what = format!("{shape}: nothing to do, compared with what is wanted");
        self.add(Row { what, quorate: planned, keepalived: None, ipvsadm: None });
        Ok(())
    }

    /// One weight of a large table.
    fn one_weight(&mut self, shape: Shape) -> Result<(), LabError> {
        (self.say)(&format!("=== one weight of {shape}"));
        let [mut applied, mut ordered, mut reloaded, mut edited] =
            [(); 4].map(|()| Distribution::default());
        self.systems.start_quorate()?;
        self.systems.apply(shape)?;
        for round in 0..self.rounds {
            applied.add(self.systems.apply_weight(shape, 10 + round)?);
            ordered.add(self.systems.order_weight(shape, 110 + round)?);
            self.systems.end_order(shape, 10 + round)?;
        }
        self.systems.end_quorate()?;
        self.systems.clear()?;
        self.systems.start_keepalived(shape)?;
        for round in 0..self.rounds {
            reloaded.add(self.systems.reload_keepalived(shape, 10 + round)?);
            edited.add(self.systems.edit(shape, 110 + round)?);
        }
        self.systems.kill_keepalived()?;
        self.systems.clear()?;
        let what = format!("one weight of {shape}: `apply`; Keepalived: reload; `ipvsadm -e`");
        let (keepalived, ipvsadm) = (Some(reloaded), Some(edited));
        self.add(Row { what, quorate: applied, keepalived, ipvsadm });
        let what = format!("one weight of {shape}: `quorate realserver weight`");
        self.add(Row { what, quorate: ordered, keepalived: None, ipvsadm: None });
        self.systems.start_quorate_with(shape).map(drop)
    }

    /// What the daemon that runs takes; then Keepalived beside it.
    fn memory(&mut self, shape: Shape) -> Result<(), LabError> {
        let (daemon_kib, peak_kib) = self.systems.memory_of_quorate()?;
        let data_bytes = self.systems.data_bytes()?;
        self.systems.apply_nothing()?;
        self.systems.end_quorate()?;
        self.systems.clear()?;
        self.systems.start_keepalived(shape)?;
        let keepalived_kib = self.systems.memory_of_keepalived()?;
        self.systems.kill_keepalived()?;
        self.systems.clear()?;
        let text_bytes = u64::try_from(shape.toml(1).len()).unwrap_or(u64::MAX);
        let memory = Memory { shape, daemon_kib, peak_kib, keepalived_kib, text_bytes, data_bytes };
        (self.say)(&report::taken(&memory));
        self.results.memory.push(memory);
        Ok(())
    }
}

/// A number behind a name in a file of `/proc/PID`.
fn number_in(id: u32, name: &str) -> Result<u64, LabError> {
    let path = format!("/proc/{id}/status");
    let text = fs::read_to_string(&path).map_err(LabError::io(format!("read {path}")))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.trim_start_matches(':').split_whitespace().next());
    number.and_then(|number| number.parse().ok()).ok_or(LabError::Unreadable { what: path, text })
}
