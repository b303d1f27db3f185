//! `cargo xtask demo`, `soak` and `bench`: programs of package quorate-tests, run where their kernel is.
//! Owns how they are built and started; what they do is theirs (`tests/src/bin`). Tried by running
//! them.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::{Args, Subcommand};
use quorate_tests::lab::vm::{self, VmCommand};
use quorate_tests::lab::{
    Place, artefacts_dir, cache_dir, is_root, kernel_for_ipvs, packages, workspace_dir,
};

use crate::TaskError;
use crate::machine::{exit_code, passed_on};
use crate::report::complain;
use crate::run::cargo;

/// The page of `bench ipvs`, among the artefacts and in `docs/benchmarks`.
const SCALE_PAGE: &str = "ipvs.md";
/// The parts of `bench probes`.
const PROBES_PARTS: [&str; 2] = ["host", "ipvs"];

/// How to show Quorate.
#[derive(Debug, Args)]
pub(crate) struct DemoArguments {
    /// Leaves the deployment running at the end, with a shell to look around in
    #[arg(long)]
    keep: bool,
}

/// What to try to break, and for how long; by itself, the writes.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct SoakArguments {
    #[command(subcommand)]
    kind: Option<Soak>,
    #[command(flatten)]
    writes: WritesArguments,
}

#[derive(Debug, Subcommand)]
enum Soak {
    /// Kills daemons at random points of a write load: nothing acknowledged may be lost
    Writes(WritesArguments),
    /// Faults at random points, an observer asking all the while: no two directors may answer
    Failover(FailoverArguments),
    /// Packets between the directors lost at random on a busy machine: how often does a group move?
    Loss(LossArguments),
}

#[derive(Debug, Args)]
struct LossArguments {
    /// For how long
    #[arg(long, default_value_t = 30)]
    minutes: u32,
    /// How many of a hundred packets are lost, in each direction
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(..=100))]
    percent: u32,
    /// 1: they are lost on the only link; 2: there is another, on which none is
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=2))]
    links: u32,
}

#[derive(Debug, Args)]
struct WritesArguments {
    /// Rounds; each kills daemons at other points
    #[arg(long, default_value_t = 100)]
    rounds: u32,
    /// Whose dice are thrown: the one that a former run printed, to throw the same [default: new]
    #[arg(long)]
    seed: Option<u64>,
}

#[derive(Debug, Args)]
struct FailoverArguments {
    /// Faults, over several deployments
    #[arg(long, default_value_t = 1_000)]
    faults: u32,
    /// On one deployment only, of so many directors under `fast`: 3 or 5
    #[arg(long, value_parser = clap::value_parser!(u32).range(3..=5))]
    directors: Option<u32>,
    /// Whose dice are thrown: the one that a former run printed, to throw the same [default: new]
    #[arg(long)]
    seed: Option<u64>,
}

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct BenchArguments {
    #[command(subcommand)]
    kind: Bench,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// How long a VIP is silent when its owner fails, and whether two answer: beside Keepalived
    Failover(CompareArguments),
    /// Thousands of real servers: beside Keepalived and `ipvsadm-restore`, where IPVS is
    Ipvs(ScaleArguments),
    /// Thousands of health checks: processor, memory, and how soon the table follows, beside Keepalived
    Probes(ProbesArguments),
}

#[derive(Debug, Args)]
struct ProbesArguments {
    /// Shorter
    #[arg(long)]
    quick: bool,
    /// Only one part: on this host's kernel, or where IPVS is
    #[arg(long, value_parser = PROBES_PARTS, conflicts_with = "write")]
    only: Option<String>,
    /// Only how soon the table follows
    #[arg(long, conflicts_with = "write")]
    verdicts: bool,
    /// Writes the page to docs/benchmarks/probes.md
    #[arg(long)]
    write: bool,
}

#[derive(Debug, Args)]
struct ScaleArguments {
    /// How often each is measured [default: 3, quick: 1]
    #[arg(long)]
    rounds: Option<u32>,
    /// Without the failovers
    #[arg(long)]
    quick: bool,
    /// Only the failovers
    #[arg(long, conflicts_with_all = ["quick", "write"])]
    failovers: bool,
    /// Writes the page to docs/benchmarks/ipvs.md
    #[arg(long)]
    write: bool,
}

#[derive(Debug, Args)]
struct CompareArguments {
    /// How often each fault strikes each system [default: 20, quick: 3]
    #[arg(long)]
    rounds: Option<u32>,
    /// Whose dice are thrown [default: new]
    #[arg(long)]
    seed: Option<u64>,
    /// Prints JSON instead of a page
    #[arg(long)]
    json: bool,
    /// Compares at one heartbeat interval only
    #[arg(long)]
    quick: bool,
    /// Measures many groups on one director only, beside one group
    #[arg(long, conflicts_with_all = ["quick", "write"])]
    many: bool,
    /// Writes the page to docs/benchmarks/failover.md
    #[arg(long)]
    write: bool,
}

/// Runs `lab-demo` where IPVS is, on this terminal.
pub(crate) fn demo(arguments: &DemoArguments) -> Result<ExitCode, TaskError> {
    let words = if arguments.keep { vec!["--keep".to_owned()] } else { Vec::new() };
    // Only with a shell at its end does it need a terminal; else its output is all there is.
    let terminal = arguments.keep && std::io::stdin().is_terminal();
    start(Profile::Dev, "lab-demo", words, kernel_for_ipvs(), terminal)
}

/// Runs `lab-soak`: in namespaces on the host, since it needs true timing and no IPVS; in the
/// machine only where this user may not make them.
pub(crate) fn soak(arguments: &SoakArguments) -> Result<ExitCode, TaskError> {
    let numbered = |kind: &str, count: &str, number: u32, seed: Option<u64>| {
        let mut words = vec![kind.to_owned(), count.to_owned(), number.to_string()];
        words.extend(seed.iter().flat_map(|seed| ["--seed".to_owned(), seed.to_string()]));
        words
    };
    let words = match &arguments.kind {
        Some(Soak::Failover(failover)) => {
            let mut words = numbered("failover", "--faults", failover.faults, failover.seed);
            let directors = failover.directors.iter();
            words.extend(directors.flat_map(|n| ["--directors".to_owned(), n.to_string()]));
            words
        }
        Some(Soak::Loss(loss)) => {
            let numbers =
                [("--minutes", loss.minutes), ("--percent", loss.percent), ("--links", loss.links)];
            let words = numbers.into_iter().flat_map(|(name, n)| [name.to_owned(), n.to_string()]);
            std::iter::once("loss".to_owned()).chain(words).collect()
        }
        Some(Soak::Writes(writes)) => numbered("writes", "--rounds", writes.rounds, writes.seed),
        None => numbered("writes", "--rounds", arguments.writes.rounds, arguments.writes.seed),
    };
    start(Profile::Dev, "lab-soak", words, if is_root() { Place::Host } else { Place::Vm }, false)
}

/// Runs `lab-bench`.
pub(crate) fn bench(arguments: &BenchArguments) -> Result<ExitCode, TaskError> {
    match &arguments.kind {
        Bench::Failover(compare) => bench_failover(compare),
        Bench::Ipvs(scale) => bench_ipvs(scale),
        Bench::Probes(probes) => bench_probes(probes),
    }
}

/// On this host, whose times are true; then where IPVS is, which has a table that follows.
fn bench_probes(probes: &ProbesArguments) -> Result<ExitCode, TaskError> {
    if !is_root() {
        return Err(TaskError::NotRoot("cargo xtask bench probes"));
    }
    packages::ensure(&[packages::COMPARED], &mut packages::say_on_stderr)?;
    for (part, place) in PROBES_PARTS.into_iter().zip([Place::Host, kernel_for_ipvs()]) {
        if probes.only.as_ref().is_some_and(|only| only != part) {
            continue;
        }
        let mut words = vec!["probes".to_owned(), part.to_owned()];
        words.extend(probes.quick.then(|| "--quick".to_owned()));
        words.extend(probes.verdicts.then(|| "--verdicts".to_owned()));
        let code = start(Profile::Release, "lab-bench", words, place, false)?;
        if code != ExitCode::SUCCESS {
            return Ok(code);
        }
    }
    if probes.write {
        let failed = |what: String| move |source| TaskError::Io { what, source };
        let mut page = Vec::new();
        for part in PROBES_PARTS {
            let path = artefacts_dir().join(format!("probes-{part}.md"));
            let text = std::fs::read_to_string(&path);
            page.push(text.map_err(failed(format!("read {}", path.display())))?);
        }
        let path = workspace_dir().join("docs/benchmarks/probes.md");
        std::fs::write(&path, page.join("\n"))
            .map_err(failed(format!("write {}", path.display())))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Where IPVS is; under emulation only the ratios tell something.
fn bench_ipvs(scale: &ScaleArguments) -> Result<ExitCode, TaskError> {
    packages::ensure(&[packages::COMPARED], &mut packages::say_on_stderr)?;
    let mut words = vec!["ipvs".to_owned()];
    if let Some(rounds) = scale.rounds {
        words.extend(["--rounds".to_owned(), rounds.to_string()]);
    }
    words.extend(scale.quick.then(|| "--quick".to_owned()));
    words.extend(scale.failovers.then(|| "--failovers".to_owned()));
    let code = start(Profile::Release, "lab-bench", words, kernel_for_ipvs(), false)?;
    if scale.write && code == ExitCode::SUCCESS {
        let page = workspace_dir().join("docs/benchmarks").join(SCALE_PAGE);
        std::fs::copy(artefacts_dir().join(SCALE_PAGE), &page).map_err(|source| TaskError::Io {
            what: format!("write {}", page.display()),
            source,
        })?;
    }
    Ok(code)
}

/// On the host: what a machine under emulation measures of gaps means nothing.
fn bench_failover(compare: &CompareArguments) -> Result<ExitCode, TaskError> {
    if !is_root() {
        return Err(TaskError::NotRoot("cargo xtask bench failover"));
    }
    packages::ensure(&[packages::COMPARED], &mut packages::say_on_stderr)?;
    let mut words = vec!["failover".to_owned()];
    if let Some(rounds) = compare.rounds {
        words.extend(["--rounds".to_owned(), rounds.to_string()]);
    }
    if let Some(seed) = compare.seed {
        words.extend(["--seed".to_owned(), seed.to_string()]);
    }
    for (wanted, word) in [
        (compare.json, "--json"),
        (compare.quick, "--quick"),
        (compare.many, "--many"),
        (compare.write, "--write"),
    ] {
        words.extend(wanted.then(|| word.to_owned()));
    }
    start(Profile::Release, "lab-bench", words, Place::Host, false)
}

/// How the daemons are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// As the tests need them anyway.
    Dev,
    /// As they are shipped: what is measured is what runs.
    Release,
}

/// Builds everything that runs in the lab.
pub(crate) fn build_command(profile: Profile) -> Command {
    // The whole workspace, as the tests do: for fewer packages the features of what they share
    // would be others, and all of it would be built once more. One that does not build keeps none
    // of the others from being built.
    let mut command = cargo(&["build", "--workspace", "--bins", "--keep-going"]);
    if profile == Profile::Release {
        command.arg("--release");
    }
    command
}

/// What lab programs and tests need to know.
pub(crate) fn environment(profile: Profile) -> Vec<(String, String)> {
    let text = |path: PathBuf| path.to_string_lossy().into_owned();
    vec![
        ("QUORATE_BIN_DIR".to_owned(), text(bin_dir(profile))),
        (vm::ARTEFACTS.to_owned(), text(artefacts_dir())),
    ]
}

pub(crate) fn bin_dir(profile: Profile) -> PathBuf {
    // The cache stands in the target directory, beside the profiles.
    cache_dir().with_file_name(match profile {
        Profile::Dev => "debug",
        Profile::Release => "release",
    })
}

fn start(
    profile: Profile,
    name: &str,
    arguments: Vec<String>,
    place: Place,
    terminal: bool,
) -> Result<ExitCode, TaskError> {
    // On standard error: what the program prints stands alone on standard output.
    complain("building the daemons");
    let failed = |source| TaskError::Io { what: "start cargo".to_owned(), source };
    if !build_command(profile).status().map_err(failed)?.success() {
        return Err(TaskError::Build("the daemons"));
    }
    let program = bin_dir(profile).join(name);
    if !program.exists() {
        return Err(TaskError::NoProgram(name.to_owned()));
    }
    packages::ensure(&[packages::NETWORK, packages::IPVS], &mut packages::say_on_stderr)?;
    match place {
        Place::Host => {
            complain(&format!("running {name} on this host's kernel, in network namespaces"));
            let mut command = Command::new(&program);
            command.args(arguments).envs(environment(profile));
            let failed = |source| TaskError::Io { what: format!("start {name}"), source };
            command.status().map(exit_code).map_err(failed)
        }
        Place::Vm => {
            complain(&format!(
                "running {name} in a virtual machine: this host's kernel has no ip_vs"
            ));
            let mut command = VmCommand::new(program.to_string_lossy(), arguments);
            command.environment = passed_on();
            command.environment.extend(environment(profile));
            command.artefacts = Some(artefacts_dir());
            command.interactive = terminal;
            command.limit = Duration::from_secs(24 * 3600);
            Ok(exit_code(vm::run(&command, &mut vm::to_stdout)?))
        }
    }
}
