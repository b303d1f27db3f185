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
    let mut results = Results::default();
    let mut systems = Systems::new()?;
    onto_empty(options, Shape::WIDE, &mut systems, &mut results, say)?;
    nothing_to_do(options, Shape::WIDE, &systems, &mut results, say)?;
    memory(Shape::WIDE, &mut systems, &mut results, say)?;
    onto_empty(options, Shape::DEEP, &mut systems, &mut results, say)?;
    memory(Shape::DEEP, &mut systems, &mut results, say)?;
    one_weight(options, Shape::LARGE, &mut systems, &mut results, say)?;
    memory(Shape::LARGE, &mut systems, &mut results, say)?;
    drop(systems);
    if !options.quick {
        results.failovers = failovers::run(options, say)?;
    }
    Ok(results)
}

fn add(results: &mut Results, row: Row, say: &mut dyn FnMut(&str)) {
    say(&report::told(&row));
    results.rows.push(row);
}

/// A whole table onto an empty kernel: by a daemon that starts, and by one that runs.
fn onto_empty(
    options: Options,
    shape: Shape,
    systems: &mut Systems,
    results: &mut Results,
    say: &mut dyn FnMut(&str),
) -> Result<(), LabError> {
    say(&format!("=== {shape} onto an empty kernel"));
    let [mut applied, mut started, mut keepalived, mut restored] =
        [(); 4].map(|()| Distribution::default());
    for _ in 0..options.rounds {
        // With no service in its configuration: it has nothing to put there.
        systems.start_quorate()?;
        applied.add(systems.apply(shape)?);
        systems.end_quorate()?;
        systems.clear()?;
        started.add(systems.start_quorate_with(shape)?);
        systems.apply_nothing()?;
        systems.end_quorate()?;
        systems.clear()?;
        keepalived.add(systems.start_keepalived(shape)?);
        systems.kill_keepalived()?;
        systems.clear()?;
        restored.add(systems.restore(shape)?);
        systems.clear()?;
    }
    let row = Row {
        what: format!("{shape}: the daemon starts"),
        quorate: started,
        keepalived: Some(keepalived),
        ipvsadm: Some(restored),
    };
    add(results, row, say);
    let row = Row {
        what: format!("{shape}: `quorate apply`, the daemon running"),
        quorate: applied,
        keepalived: None,
        ipvsadm: None,
    };
    add(results, row, say);
    // Left for what comes next.
    systems.start_quorate()?;
    systems.apply(shape).map(drop)
}

/// What a look at a table that is right costs: the kernel's answer, and the comparison.
fn nothing_to_do(
    options: Options,
    shape: Shape,
    systems: &Systems,
    results: &mut Results,
    say: &mut dyn FnMut(&str),
) -> Result<(), LabError> {
    say("=== a table that is right already");
    let [mut observed, mut planned, mut shown] = [(); 3].map(|()| Distribution::default());
    let failed = |error: &dyn std::fmt::Display| LabError::Unreadable {
        what: "the IPVS table".to_owned(),
        text: error.to_string(),
    };
    for _ in 0..options.rounds.max(5) {
        let look = || {
            let mut kernel = Linux::new()?;
            let stopwatch = Stopwatch::start();
            let table = kernel.observe_services()?;
            Ok::<_, quorate_dataplane::DataplaneError>((stopwatch.elapsed(), table))
        };
        let (took, table) = systems.namespace()?.enter(look)?.map_err(|error| failed(&error))?;
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
        shown.add(systems.list()?);
    }
    let what = format!("{shape}: nothing to do, the table read from the kernel (`ipvsadm -Sn`)");
    add(results, Row { what, quorate: observed, keepalived: None, ipvsadm: Some(shown) }, say);
    let what = format!("{shape}: nothing to do, compared with what is wanted");
    add(results, Row { what, quorate: planned, keepalived: None, ipvsadm: None }, say);
    Ok(())
}

/// One weight of a large table.
fn one_weight(
    options: Options,
    shape: Shape,
    systems: &mut Systems,
    results: &mut Results,
    say: &mut dyn FnMut(&str),
) -> Result<(), LabError> {
    say(&format!("=== one weight of {shape}"));
    let [mut applied, mut ordered, mut reloaded, mut edited] =
        [(); 4].map(|()| Distribution::default());
    systems.start_quorate()?;
    systems.apply(shape)?;
    for round in 0..options.rounds {
        applied.add(systems.apply_weight(shape, 10 + round)?);
        ordered.add(systems.order_weight(shape, 110 + round)?);
        systems.end_order(shape, 10 + round)?;
    }
    systems.end_quorate()?;
    systems.clear()?;
    systems.start_keepalived(shape)?;
    for round in 0..options.rounds {
        reloaded.add(systems.reload_keepalived(shape, 10 + round)?);
        edited.add(systems.edit(shape, 110 + round)?);
    }
    systems.kill_keepalived()?;
    systems.clear()?;
    let what = format!("one weight of {shape}: `apply`; Keepalived: reload; `ipvsadm -e`");
    let (keepalived, ipvsadm) = (Some(reloaded), Some(edited));
    add(results, Row { what, quorate: applied, keepalived, ipvsadm }, say);
    let what = format!("one weight of {shape}: `quorate realserver weight`");
    add(results, Row { what, quorate: ordered, keepalived: None, ipvsadm: None }, say);
    systems.start_quorate_with(shape).map(drop)
}

/// What the daemon that runs takes; then Keepalived beside it.
fn memory(
    shape: Shape,
    systems: &mut Systems,
    results: &mut Results,
    say: &mut dyn FnMut(&str),
) -> Result<(), LabError> {
    let (daemon_kib, peak_kib) = systems.memory_of_quorate()?;
    let data_bytes = systems.data_bytes()?;
    systems.apply_nothing()?;
    systems.end_quorate()?;
    systems.clear()?;
    systems.start_keepalived(shape)?;
    let keepalived_kib = systems.memory_of_keepalived()?;
    systems.kill_keepalived()?;
    systems.clear()?;
    let text_bytes = u64::try_from(shape.toml(1).len()).unwrap_or(u64::MAX);
    let memory = Memory { shape, daemon_kib, peak_kib, keepalived_kib, text_bytes, data_bytes };
    say(&report::taken(&memory));
    results.memory.push(memory);
    Ok(())
}

/// A number behind a name in a file of `/proc/PID`.
fn number_in(id: u32, name: &str) -> Result<u64, LabError> {
    let path = format!("/proc/{id}/status");
    let text = fs::read_to_string(&path).map_err(LabError::io(format!("read {path}")))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.trim_start_matches(':').split_whitespace().next());
    number.and_then(|number| number.parse().ok()).ok_or(LabError::Unreadable { what: path, text })
}
