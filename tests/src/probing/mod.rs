//! The bench of probing: thousands of real servers, probed by Quorate, and by Keepalived beside it.
//!
//! Owns what is measured, and how: processor time and memory as the kernel counts them, probes as the real
//! servers do, and how long the table takes to follow a real server that fails. Times are true on the
//! host's kernel only, which may have no ip_vs (`Place::Host`): Keepalived's checkers do not start there
//! unless something agrees to what they ask of it (`agrees.c`). A table to follow is where IPVS is
//! (`Place::Ipvs`); in the virtual machine ratios tell something and times nothing. Asserts nothing: `report`
//! prints what was measured beside the budgets. By hand, `cargo xtask bench probes`.

mod listeners;
mod load;
pub mod report;
mod systems;
mod trace;
mod usage;
mod verdicts;

use std::time::Duration;

pub use self::load::{Kind, Load};
use self::systems::{System, Systems};
use crate::failover::statistics::Distribution;
use crate::lab::LabError;
use crate::lab::clock::Stopwatch;

/// Where it is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// On this host's kernel, whatever it has.
    Host,
    /// Where IPVS is.
    Ipvs,
}

impl Place {
    /// The name of its part of the page, among the artefacts.
    #[must_use]
    pub fn page(self) -> &'static str {
        match self {
            Self::Host => "probes-host.md",
            Self::Ipvs => "probes-ipvs.md",
        }
    }
}

/// What to do.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Where.
    pub place: Place,
    /// Shorter.
    pub quick: bool,
    /// Only how soon verdicts are followed.
    pub verdicts: bool,
}

impl Options {
    /// How long processor time is counted.
    fn window(self) -> Duration {
        Duration::from_secs(if self.quick { 15 } else { 30 })
    }

    /// How often a real server fails.
    fn rounds(self) -> u32 {
        if self.quick { 10 } else { 50 }
    }
}

/// From when on nothing is under way but probing: a daemon that read a large configuration gives back
/// what that took (after five seconds).
const SETTLE: Duration = Duration::from_secs(12);

/// What one system took for one load.
#[derive(Debug, Clone, Copy, Default)]
pub struct Used {
    /// Processor time, of all its processes.
    pub cpu: Duration,
    /// Within this time.
    pub window: Duration,
    /// Memory of all its processes, in KiB.
    pub memory_kib: u64,
    /// Probes that came to the real servers meanwhile.
    pub probes: u64,
}

/// One load.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// What was probed.
    pub load: Load,
    /// Quorate.
    pub quorate: Used,
    /// Keepalived.
    pub keepalived: Option<Used>,
}

/// From the answer that fails a real server's probe until the table follows.
#[derive(Debug, Clone)]
pub struct Followed {
    /// With what else to probe.
    pub load: Load,
    /// Quorate.
    pub quorate: Distribution,
    /// Keepalived.
    pub keepalived: Option<Distribution>,
}

/// All that was measured.
#[derive(Debug, Clone, Default)]
pub struct Results {
    /// What the loads took.
    pub rows: Vec<Row>,
    /// How soon verdicts were followed.
    pub followed: Vec<Followed>,
}

/// Runs the bench; `say` gets one line after the other.
///
/// # Errors
/// When the lab can't be set up, or a real server is never probed.
pub fn run(options: Options, say: &mut dyn FnMut(&str)) -> Result<Results, LabError> {
    let mut systems = Systems::new(options.place)?;
    let mut results = Results::default();
    let beside = options.place == Place::Ipvs;
    let loads = if options.verdicts { Vec::new() } else { loads(options.place) };
    for load in loads {
        let compared = systems.has_keepalived() && load.targets > 0;
        let mut of = |system| used(&mut systems, system, load, options.window());
        let quorate = of(System::Quorate)?;
        let keepalived = compared.then(|| of(System::Keepalived)).transpose()?;
        let row = Row { load, quorate, keepalived };
        say(&report::told(&row));
        results.rows.push(row);
    }
    for load in followed_under(options.place) {
        let followed = if beside {
            let mut of =
                |system| verdicts::in_the_table(&mut systems, system, load, options.rounds());
            let (quorate, keepalived) = (of(System::Quorate)?, of(System::Keepalived)?);
            Followed { load, quorate, keepalived: Some(keepalived) }
        } else {
            let quorate = verdicts::handed_over(&mut systems, load, options.rounds())?;
            Followed { load, quorate, keepalived: None }
        };
        say(&report::told_of_verdicts(options.place, &followed));
        results.followed.push(followed);
    }
    Ok(results)
}

fn loads(place: Place) -> Vec<Load> {
    let nothing = Load::new(Kind::Unchecked, 0, 2);
    let unprobed = Load::new(Kind::Unchecked, 10_000, 10);
    let many = Load::new(Kind::Tcp, 10_000, 10);
    let (tcp, http) = (Load::new(Kind::Tcp, 2_000, 2), Load::new(Kind::Http, 2_000, 2));
    match place {
        Place::Host => vec![nothing, tcp, http, unprobed, many],
        Place::Ipvs => vec![tcp, http],
    }
}

/// A verdict among few others, and among ten thousand real servers where that takes no machine under
/// emulation to its limits.
fn followed_under(place: Place) -> Vec<Load> {
    let few = Load::new(Kind::Tcp, 20, 2);
    match place {
        Place::Host => vec![few, Load::new(Kind::Tcp, 10_000, 10)],
        Place::Ipvs => vec![few],
    }
}

fn used(
    systems: &mut Systems,
    system: System,
    load: Load,
    window: Duration,
) -> Result<Used, LabError> {
    systems.start(system, load, false)?;
    systems.all_probed(load)?;
    std::thread::sleep(SETTLE);
    let processes = systems.processes()?;
    let (before, probed, stopwatch) =
        (usage::cpu(&processes)?, systems.probed(load.kind), Stopwatch::start());
    std::thread::sleep(window);
    Ok(Used {
        cpu: usage::cpu(&processes)?.saturating_sub(before),
        window: stopwatch.elapsed(),
        probes: systems.probed(load.kind).saturating_sub(probed),
        memory_kib: usage::memory_kib(&processes)?,
    })
}
