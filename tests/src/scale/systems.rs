//! One host with its IPVS table, and the three that fill it: the daemon of a cluster of one,
//! Keepalived's checker, `ipvsadm`. Each is told what to do, and timed until `ipvsadm` lists all of it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use super::number_in;
use super::shape::{Shape, group};
use crate::failover::{DIRECTORS, hosts, vip};
use crate::lab::clock::Stopwatch;
use crate::lab::deployment::Deployment;
use crate::lab::namespace::Namespace;
use crate::lab::process::Process;
use crate::lab::{LabError, artefacts_dir, in_vm};

/// The host.
pub(super) const DIRECTOR: &str = "d1";
/// For one step; far past any that was seen, on an emulated machine.
const LIMIT: Duration = Duration::from_secs(600);
/// Between two looks at what has been done: to look costs time too.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The host with all three.
#[derive(Debug)]
pub(super) struct Systems {
    // Before the network that it runs in.
    keepalived: Option<Process>,
    deployment: Deployment,
    running: bool,
    folder: TempDir,
}

impl Systems {
    pub(super) fn new() -> Result<Self, LabError> {
        let mut deployment = Deployment::new("bench_ipvs", &hosts(1)?)?;
        deployment.add_director(DIRECTOR, &DIRECTORS[0].1.to_string())?;
        deployment.form(&[DIRECTOR], "wan")?;
        let folder = tempfile::tempdir().map_err(LabError::io("make a folder for the bench"))?;
        Ok(Self { keepalived: None, deployment, running: true, folder })
    }

    pub(super) fn namespace(&self) -> Result<&Namespace, LabError> {
        self.deployment.network().namespace(DIRECTOR)
    }

    fn file(&self, name: &str, text: &str) -> Result<PathBuf, LabError> {
        let path = self.folder.path().join(name);
        fs::write(&path, text).map_err(LabError::io(format!("write {}", path.display())))?;
        Ok(path)
    }

    fn ipvsadm(&self, words: &str) -> Result<String, LabError> {
        self.namespace()?.run_ok(&format!("ipvsadm {words}"), LIMIT)
    }

    /// Empties the table; in the machine by taking the module out too. For two minutes the kernel keeps
    /// real servers that were deleted (`ip_vs_dest_trash_expire`), and each that is added is looked
    /// for among them: it is no empty kernel.
    pub(super) fn clear(&self) -> Result<(), LabError> {
        self.ipvsadm("-C")?;
        if !in_vm() {
            return Ok(());
        }
        let holders = fs::read_dir("/sys/module/ip_vs/holders")
            .map_err(LabError::io("read which modules use ip_vs"))?;
        let modules = holders
            .filter_map(|holder| Some(holder.ok()?.file_name().to_string_lossy().into_owned()))
            .chain(["ip_vs".to_owned()])
            .collect::<Vec<_>>()
            .join(" ");
        self.namespace()?.run_ok(&format!("modprobe -r {modules}"), LIMIT)?;
        self.namespace()?.run_ok(&format!("modprobe -a {modules}"), LIMIT).map(drop)
    }

    /// How long `ipvsadm` takes to list the whole table.
    pub(super) fn list(&self) -> Result<Duration, LabError> {
        let stopwatch = Stopwatch::start();
        self.ipvsadm("-Sn")?;
        Ok(stopwatch.elapsed())
    }

    // What the kernel has.

    /// The real servers of the last service, with their weights; none while it is not there.
    fn last_service(&self, shape: Shape) -> Result<Vec<(String, u32)>, LabError> {
        let mut command = Command::new("ipvsadm");
        command.args(["-Ln", "-t", &format!("{}:{}", vip(0), shape.last_port())]);
        let finished = self.namespace()?.run(&mut command, LIMIT)?;
        let servers = finished.stdout.lines().filter_map(|line| {
            let mut words = line.split_whitespace().skip_while(|word| *word != "->").skip(1);
            let address = words.next()?.to_owned();
            Some((address, words.nth(1)?.parse().ok()?))
        });
        Ok(servers.collect())
    }

    /// Waits until the table is whole; the time since the stopwatch was started, which looking at the
    /// whole of it is not counted in.
    fn whole(&self, shape: Shape, stopwatch: Stopwatch) -> Result<Duration, LabError> {
        self.timed(&format!("{shape} in the kernel"), shape, stopwatch, |last| {
            Ok(last.len() == shape.servers && self.real_servers()? == shape.real_servers())
        })
    }

    fn weight(
        &self,
        shape: Shape,
        weight: u32,
        stopwatch: Stopwatch,
    ) -> Result<Duration, LabError> {
        let wanted = (format!("{}:{}", shape.chosen(), shape.last_port()), weight);
        let what = format!("weight {weight} of {} in the kernel", shape.chosen());
        self.timed(&what, shape, stopwatch, |last| Ok(last.contains(&wanted)))
    }

    /// Waits until the last service is such that something holds; how long after the stopwatch's start it
    /// was read so.
    fn timed(
        &self,
        what: &str,
        shape: Shape,
        stopwatch: Stopwatch,
        holds: impl Fn(&[(String, u32)]) -> Result<bool, LabError>,
    ) -> Result<Duration, LabError> {
        let mut elapsed = Duration::ZERO;
        self.deployment.wait_looking(what, LIMIT, LOOK_EVERY, |_| {
            let last = self.last_service(shape)?;
            elapsed = stopwatch.elapsed();
            holds(&last)
        })?;
        Ok(elapsed)
    }

    /// The real servers of the whole table.
    fn real_servers(&self) -> Result<usize, LabError> {
        Ok(self.ipvsadm("-Sn")?.lines().filter(|line| line.starts_with("-a ")).count())
    }

    // Quorate.

    pub(super) fn start_quorate(&mut self) -> Result<(), LabError> {
        if !self.running {
            self.deployment.start(DIRECTOR)?;
            self.running = true;
        }
        Ok(())
    }

    /// Cleanly: one that is killed may have forgotten that its last entry was committed, and begins with
    /// the table before it.
    pub(super) fn end_quorate(&mut self) -> Result<(), LabError> {
        self.running = false;
        self.deployment.terminate(DIRECTOR).map(drop)
    }

    /// Starts the daemon, whose configuration is this table.
    pub(super) fn start_quorate_with(&mut self, shape: Shape) -> Result<Duration, LabError> {
        let stopwatch = Stopwatch::start();
        self.deployment.launch(DIRECTOR)?;
        self.running = true;
        self.whole(shape, stopwatch)
    }

    /// Applies a configuration without services, and waits until none is left.
    pub(super) fn apply_nothing(&self) -> Result<(), LabError> {
        self.deployment.apply(DIRECTOR, &group())?;
        let empty = |_: &Deployment| Ok(self.ipvsadm("-Sn")?.trim().is_empty());
        self.deployment.wait_looking("an empty table", LIMIT, LOOK_EVERY, empty)
    }

    pub(super) fn apply(&self, shape: Shape) -> Result<Duration, LabError> {
        let text = shape.toml(1);
        let stopwatch = Stopwatch::start();
        self.deployment.apply(DIRECTOR, &text)?;
        self.whole(shape, stopwatch)
    }

    pub(super) fn apply_weight(&self, shape: Shape, weight: u32) -> Result<Duration, LabError> {
        let text = shape.toml(weight);
        let stopwatch = Stopwatch::start();
        self.deployment.apply(DIRECTOR, &text)?;
        self.weight(shape, weight, stopwatch)
    }

    pub(super) fn order_weight(&self, shape: Shape, weight: u32) -> Result<Duration, LabError> {
        let (address, number) = (shape.chosen().to_string(), weight.to_string());
        let stopwatch = Stopwatch::start();
        let words = ["realserver", "weight", &address, &number, "--yes"];
        self.deployment.quorate_ok(DIRECTOR, &words)?;
        self.weight(shape, weight, stopwatch)
    }

    pub(super) fn end_order(&self, shape: Shape, weight: u32) -> Result<(), LabError> {
        let address = shape.chosen().to_string();
        self.deployment.quorate_ok(DIRECTOR, &["realserver", "enable", &address])?;
        self.weight(shape, weight, Stopwatch::start()).map(drop)
    }

    /// What the daemon holds once it gave back what it no longer needs, and the most that it ever
    /// held, in KiB.
    pub(super) fn memory_of_quorate(&mut self) -> Result<(u64, u64), LabError> {
        let id = self.deployment.id_of(DIRECTOR)?;
        self.deployment.wait_looking("the daemon gives memory back", LIMIT, LOOK_EVERY, |of| {
            let log = of.log(DIRECTOR)?;
            let this_start = log.rsplit("member of the cluster").next().unwrap_or_default();
            Ok(this_start.contains("was given back"))
        })?;
        Ok((number_in(id, "VmRSS")?, number_in(id, "VmHWM")?))
    }

    pub(super) fn data_bytes(&self) -> Result<u64, LabError> {
        let mut sum = 0;
        let mut folders = vec![self.deployment.folder_of(DIRECTOR)?.join("data")];
        let failed = || LabError::io("read the data directory");
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).map_err(failed())? {
                let entry = entry.map_err(failed())?;
                let meta = entry.metadata().map_err(failed())?;
                if meta.is_dir() {
                    folders.push(entry.path());
                } else {
                    sum += meta.len();
                }
            }
        }
        Ok(sum)
    }

    // Keepalived.

    pub(super) fn start_keepalived(&mut self, shape: Shape) -> Result<Duration, LabError> {
        let configuration = self.file("keepalived.conf", &shape.keepalived(1))?;
        let mut command = Command::new("keepalived");
        // In the foreground, with its log on standard error; the checker alone.
        command.args(["--dont-fork", "--log-console", "--check", "--use-file"]).arg(configuration);
        for (option, name) in [("--pid", "keepalived.pid"), ("--checkers_pid", "checkers.pid")] {
            command.arg(option).arg(self.folder.path().join(name));
        }
        let log = artefacts_dir().join("bench_ipvs/keepalived.log");
        let stopwatch = Stopwatch::start();
        let process = self.deployment.network().spawn(DIRECTOR, &mut command, &log)?;
        self.keepalived = Some(process);
        self.whole(shape, stopwatch)
    }

    fn keepalived(&mut self) -> Result<&mut Process, LabError> {
        let missing = || LabError::NoSuchHost("no keepalived runs".to_owned());
        self.keepalived.as_mut().ok_or_else(missing)
    }

    pub(super) fn kill_keepalived(&mut self) -> Result<(), LabError> {
        self.keepalived()?.terminate(LIMIT)?;
        self.keepalived = None;
        Ok(())
    }

    pub(super) fn reload_keepalived(
        &mut self,
        shape: Shape,
        weight: u32,
    ) -> Result<Duration, LabError> {
        self.file("keepalived.conf", &shape.keepalived(weight))?;
        let stopwatch = Stopwatch::start();
        self.keepalived()?.signal(Signal::HUP)?;
        self.weight(shape, weight, stopwatch)
    }

    /// What its checker holds, in KiB.
    pub(super) fn memory_of_keepalived(&mut self) -> Result<u64, LabError> {
        let keepalived = self.keepalived()?;
        let checker = keepalived.children()?.first().copied();
        number_in(checker.unwrap_or(keepalived.id()), "VmRSS")
    }

    // ipvsadm.

    pub(super) fn restore(&self, shape: Shape) -> Result<Duration, LabError> {
        let rules = self.file("rules", &shape.rules(1))?;
        let mut command = Command::new("sh");
        command.args(["-c", &format!("exec ipvsadm -R < {}", rules.display())]);
        let stopwatch = Stopwatch::start();
        let finished = self.namespace()?.run(&mut command, LIMIT)?;
        if !finished.status.success() {
            let what = "ipvsadm-restore".to_owned();
            return Err(LabError::Unreadable { what, text: finished.stderr });
        }
        self.whole(shape, stopwatch)
    }

    pub(super) fn edit(&self, shape: Shape, weight: u32) -> Result<Duration, LabError> {
        let (at, port) = (vip(0), shape.last_port());
        let stopwatch = Stopwatch::start();
        self.ipvsadm(&format!("-e -t {at}:{port} -r {}:{port} -g -w {weight}", shape.chosen()))?;
        self.weight(shape, weight, stopwatch)
    }
}
