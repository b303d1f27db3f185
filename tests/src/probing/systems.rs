//! A director, the host of its real servers, and the two that probe them from the director, one after the
//! other: the daemon of a cluster of one, and Keepalived's checker.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::Place;
use super::listeners::Listener;
use super::load::{HTTP_PORT, Kind, Load, SERVERS, TCP_PORT};
use crate::lab::clock::{Deadline, wait_until};
use crate::lab::deployment::{Deployment, example_hosts};
use crate::lab::namespace::Namespace;
use crate::lab::process::Process;
use crate::lab::{LabError, artefacts_dir, command, in_vm};

const DIRECTOR: (&str, &str) = ("d1", "192.168.10.80");
const SERVER: (&str, &str) = ("rs1", "192.168.10.16");
/// For one step; far past any that was seen, on an emulated machine.
const LIMIT: Duration = Duration::from_secs(600);
const LOG: &str = "bench_probes";

/// Who probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum System {
    Quorate,
    Keepalived,
}

/// The two hosts, with whichever of the systems runs.
#[derive(Debug)]
pub(super) struct Systems {
    // Before the network that it runs in.
    keepalived: Option<Process>,
    /// What agrees to whatever it asks of IPVS; `None` where IPVS is.
    agrees: Option<PathBuf>,
    tcp: Listener,
    pages: Listener,
    deployment: Deployment,
    running: bool,
    folder: TempDir,
}

impl Systems {
    pub(super) fn new(place: Place) -> Result<Self, LabError> {
        let mut hosts = example_hosts()?;
        hosts.retain(|host| [DIRECTOR.0, SERVER.0].contains(&host.name.as_str()));
        let mut deployment = Deployment::new(LOG, &hosts)?;
        // All of a network is the host's own: nobody adds ten thousand addresses.
        let network = deployment.network();
        let server = network.namespace(SERVER.0)?;
        server.run_ok(&format!("ip route add local {SERVERS} dev lo"), LIMIT)?;
        let route = format!("ip route add {SERVERS} via {}", SERVER.1);
        network.namespace(DIRECTOR.0)?.run_ok(&route, LIMIT)?;
        let any = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let tcp = Listener::closing(server, any(TCP_PORT))?;
        let pages = Listener::of_pages(server, any(HTTP_PORT))?;
        deployment.add_director(DIRECTOR.0, DIRECTOR.1)?;
        // An emulated machine keeps no short lease.
        deployment.form(&[DIRECTOR.0], if in_vm() { "wan" } else { "lan" })?;
        let folder = tempfile::tempdir().map_err(LabError::io("make a folder for the bench"))?;
        let agrees = match place {
            Place::Host => compiled(folder.path())?,
            Place::Ipvs => None,
        };
        Ok(Self { keepalived: None, agrees, tcp, pages, deployment, running: true, folder })
    }

    /// Whether Keepalived can be measured too: on a kernel without ip_vs it takes a C compiler.
    pub(super) fn has_keepalived(&self) -> bool {
        self.agrees.is_some() || has_ipvs()
    }

    pub(super) fn director(&self) -> Result<&Namespace, LabError> {
        self.deployment.network().namespace(DIRECTOR.0)
    }

    pub(super) fn server(&self) -> Result<&Namespace, LabError> {
        self.deployment.network().namespace(SERVER.0)
    }

    /// Starts one of them with this load, the other having ended.
    pub(super) fn start(
        &mut self,
        system: System,
        load: Load,
        struck: bool,
    ) -> Result<(), LabError> {
        self.end()?;
        match system {
            System::Quorate => {
                self.deployment.start(DIRECTOR.0)?;
                self.running = true;
                self.deployment.apply(DIRECTOR.0, &load.toml(struck))?;
                // With what reading a configuration anew leaves behind, it would not be what a
                // daemon holds that was started with it.
                self.deployment.terminate(DIRECTOR.0)?;
                self.deployment.start(DIRECTOR.0)
            }
            System::Keepalived => self.start_keepalived(&load.keepalived(struck)),
        }
    }

    fn start_keepalived(&mut self, text: &str) -> Result<(), LabError> {
        let configuration = self.folder.path().join("keepalived.conf");
        fs::write(&configuration, text).map_err(LabError::io("write Keepalived's file"))?;
        let mut command = Command::new("keepalived");
        // In the foreground, with its log on standard error; the checker alone.
        command.args(["--dont-fork", "--log-console", "--check", "--use-file"]).arg(configuration);
        for (option, name) in [("--pid", "keepalived.pid"), ("--checkers_pid", "checkers.pid")] {
            command.arg(option).arg(self.folder.path().join(name));
        }
        if let Some(agrees) = &self.agrees {
            command.env("LD_PRELOAD", agrees);
        }
        let log = artefacts_dir().join(LOG).join("keepalived.log");
        let network = self.deployment.network();
        self.keepalived = Some(network.spawn(DIRECTOR.0, &mut command, &log)?);
        Ok(())
    }

    /// Ends what runs; where IPVS is, its table is empty then.
    pub(super) fn end(&mut self) -> Result<(), LabError> {
        if std::mem::take(&mut self.running) {
            self.deployment.terminate(DIRECTOR.0)?;
        }
        if let Some(mut keepalived) = self.keepalived.take() {
            keepalived.terminate(LIMIT)?;
        }
        if has_ipvs() {
            self.director()?.run_ok("ipvsadm -C", LIMIT)?;
        }
        Ok(())
    }

    /// The processes of the one that runs.
    pub(super) fn processes(&mut self) -> Result<Vec<u32>, LabError> {
        match &self.keepalived {
            Some(keepalived) => {
                let mut all = keepalived.children()?;
                all.push(keepalived.id());
                Ok(all)
            }
            None => Ok(vec![self.deployment.id_of(DIRECTOR.0)?]),
        }
    }

    /// The thread of the daemon that programs services.
    pub(super) fn services_thread(&mut self) -> Result<u32, LabError> {
        let folder = format!("/proc/{}/task", self.deployment.id_of(DIRECTOR.0)?);
        let threads = fs::read_dir(&folder).map_err(LabError::io(format!("read {folder}")))?;
        let is_it = |thread: &fs::DirEntry| {
            let name = fs::read_to_string(thread.path().join("comm"));
            name.is_ok_and(|name| name.trim() == "services")
        };
        let found = threads.filter_map(Result::ok).find(is_it);
        let number = found.and_then(|thread| thread.file_name().to_str()?.parse().ok());
        let what = format!("the services thread in {folder}");
        number.ok_or(LabError::Unreadable { what, text: String::new() })
    }

    /// Probes that came to the real servers so far.
    pub(super) fn probed(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Unchecked => 0,
            Kind::Tcp => self.tcp.taken(),
            Kind::Http => self.pages.taken(),
        }
    }

    /// Waits until each real server was probed twice or more, by the number of probes.
    pub(super) fn all_probed(&self, load: Load) -> Result<(), LabError> {
        if load.kind == Kind::Unchecked {
            return Ok(());
        }
        let enough = self.probed(load.kind) + 3 * u64::try_from(load.targets).unwrap_or(u64::MAX);
        waits("each real server was probed", || self.probed(load.kind) >= enough)
    }
}

fn has_ipvs() -> bool {
    fs::exists("/proc/net/ip_vs").unwrap_or_default()
}

/// The library that agrees; `None` where there is no C compiler.
fn compiled(folder: &Path) -> Result<Option<PathBuf>, LabError> {
    let (source, library) = (folder.join("agrees.c"), folder.join("agrees.so"));
    fs::write(&source, include_str!("agrees.c")).map_err(LabError::io("write agrees.c"))?;
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O2", "-o"]).arg(&library).arg(&source);
    match command::run_ok(&mut cc, LIMIT) {
        Ok(_) => Ok(Some(library)),
        Err(LabError::Io { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Waits until something holds.
pub(super) fn waits(what: &str, mut holds: impl FnMut() -> bool) -> Result<(), LabError> {
    let deadline = Deadline::after(LIMIT);
    wait_until(deadline.remaining(), || holds().then_some(())).ok_or_else(|| {
        let what = format!("waiting until {what}");
        LabError::Unreadable { what, text: format!("it did not come within {LIMIT:?}") }
    })
}
