//! A whole deployment in namespaces: directors with the real daemon, real servers with web
//! servers, a client; and `quorate` to speak to them. Used by the demo, the soak and the lab tests.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use tempfile::TempDir;

use super::clock::Deadline;
use super::command::{self, Finished};
use super::network::{Host, INTERFACE, Network};
use super::process::Process;
use super::segment::SECOND_INTERFACE;
use super::{LabError, artefacts_dir, bin_dir};

mod look;

/// How long one command of `quorate` may take; generous, for emulated machines.
const COMMAND_LIMIT: Duration = Duration::from_secs(300);
/// How long a started daemon may take until its socket answers.
const START_LIMIT: Duration = Duration::from_secs(120);
/// How often a state is looked at that only `quorate` can tell of.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The VIP of the examples.
pub const VIP: &str = "192.168.10.180";

/// One director or witness.
#[derive(Debug)]
struct Node {
    folder: PathBuf,
    log: PathBuf,
    process: Option<Process>,
}

/// A running deployment; everything ends and goes when it is dropped, but its logs.
#[derive(Debug)]
pub struct Deployment {
    // Before the network: daemons and servers end first.
    nodes: BTreeMap<String, Node>,
    servers: BTreeMap<String, Process>,
    /// Whether there is a second network, which directors call `inside`.
    inside: bool,
    network: Network,
    folder: TempDir,
    logs: PathBuf,
}

/// The directors of the example, with their links.
const EXAMPLE_DIRECTORS: [(&str, [(&str, &str); 2]); 3] = [
    ("d1", [("lan", "192.168.10.80"), ("heartbeat", "10.10.0.80")]),
    ("d2", [("lan", "192.168.10.23"), ("heartbeat", "10.10.0.23")]),
    ("d3", [("lan", "192.168.10.24"), ("heartbeat", "10.10.0.24")]),
];

/// The addresses of the demo: three directors, two real servers with the VIP on lo, a client.
///
/// # Errors
/// Never for these constants; an address that is none.
pub fn example_hosts() -> Result<Vec<Host>, LabError> {
    let plain =
        |name: &str, last: u8| Ok(Host::new(name, parse(&format!("192.168.10.{last}/24"))?));
    let mut hosts: Vec<Host> =
        [("d1", 80), ("d2", 23), ("d3", 24), ("rs1", 16), ("rs2", 17), ("client", 100)]
            .into_iter()
            .map(|(name, last)| plain(name, last))
            .collect::<Result<_, LabError>>()?;
    hosts.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(hosts)
}

fn parse<T: std::str::FromStr>(text: &str) -> Result<T, LabError> {
    let what = "parse an address of the lab".to_owned();
    text.parse().map_err(|_| LabError::Unreadable { what, text: text.to_owned() })
}

impl Deployment {
    /// Makes the hosts; logs go to a folder of this name among the artefacts.
    ///
    /// # Errors
    /// When namespaces or folders can't be made.
    pub fn new(name: &str, hosts: &[Host]) -> Result<Self, LabError> {
        let logs = artefacts_dir().join(name);
        if logs.exists() {
            fs::remove_dir_all(&logs).map_err(LabError::io("remove the logs of a former run"))?;
        }
        fs::create_dir_all(&logs).map_err(LabError::io("make a folder for logs"))?;
        Ok(Self {
            nodes: BTreeMap::new(),
            servers: BTreeMap::new(),
            inside: false,
            network: Network::new(hosts)?,
            folder: tempfile::tempdir().map_err(LabError::io("make a folder for data"))?,
            logs,
        })
    }

    /// The example's hosts; d1, d2 and d3 are directors with one link each or, on segments of their
    /// own, two, and form a cluster.
    ///
    /// # Errors
    /// When it can't be set up.
    pub fn of_three(name: &str, timing: &str, links: usize) -> Result<Self, LabError> {
        let mut deployment = Self::new(name, &example_hosts()?)?;
        if links == 2 {
            let second = EXAMPLE_DIRECTORS
                .iter()
                .map(|(node, [_, (_, address)])| Ok((*node, parse(&format!("{address}/24"))?)));
            let second: Vec<_> = second.collect::<Result<_, LabError>>()?;
            deployment.network.join_second_segment(&second)?;
        }
        for (node, all) in EXAMPLE_DIRECTORS {
            deployment.add_director_with(node, all.get(..links).unwrap_or(&all))?;
        }
        deployment.form(&EXAMPLE_DIRECTORS.map(|(node, _)| node), timing)?;
        Ok(deployment)
    }

    /// [`Self::of_three`], and the example's real servers by DR, each with the VIP on lo and a web server
    /// that says its name.
    ///
    /// # Errors
    /// When it can't be set up.
    pub fn of_three_by_dr(name: &str, timing: &str) -> Result<Self, LabError> {
        let mut deployment = Self::of_three(name, timing, 1)?;
        for host in ["rs1", "rs2"] {
            deployment.quorate_on(host, &["realserver", "setup", "--vip", VIP])?;
            deployment.serve_pages(host, 80, host)?;
        }
        Ok(deployment)
    }

    /// The network, to cut and heal.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Joins these hosts by a second network. Directors that are added from then on call their device
    /// there `inside`.
    ///
    /// # Errors
    /// When a tool fails.
    pub fn join_inside(&mut self, hosts: &[(&str, &str)]) -> Result<(), LabError> {
        let hosts: Result<Vec<_>, LabError> =
            hosts.iter().map(|(host, address)| Ok((*host, parse(address)?))).collect();
        self.inside = true;
        self.network.join_second_segment(&hosts?)
    }

    /// Adds a director on a host, with a `node.toml` of its own; it is not started yet.
    ///
    /// # Errors
    /// When its files can't be written.
    pub fn add_director(&mut self, name: &str, address: &str) -> Result<(), LabError> {
        self.add_director_with(name, &[("lan", address)])
    }

    /// Adds a director with several links: name and address of each, the API on the first.
    ///
    /// # Errors
    /// When its files can't be written.
    pub fn add_director_with(
        &mut self,
        name: &str,
        links: &[(&str, &str)],
    ) -> Result<(), LabError> {
        self.add_node(name, links, "director")
    }

    /// Adds a witness, as [`Deployment::add_director`] does a director.
    ///
    /// # Errors
    /// When its files can't be written.
    pub fn add_witness(&mut self, name: &str, address: &str) -> Result<(), LabError> {
        self.add_node(name, &[("lan", address)], "witness")
    }

    fn add_node(&mut self, name: &str, links: &[(&str, &str)], role: &str) -> Result<(), LabError> {
        let api = links.first().map_or("127.0.0.1", |(_, address)| address);
        let link = |(link, address): &(&str, &str)| {
            format!("[[link]]\nname = \"{link}\"\nlisten = \"{address}:7400\"\n\n")
        };
        let links: String = links.iter().map(link).collect();
        let folder = self.folder.path().join(name);
        fs::create_dir_all(&folder).map_err(LabError::io("make a node's folder"))?;
        let show = folder.display();
        let inside = format!("inside = \"{SECOND_INTERFACE}\"\n");
        let inside = if self.inside { inside.as_str() } else { "" };
        let config = format!(
            "name = \"{name}\"\nrole = \"{role}\"\ndata_dir = \"{show}/data\"\n\
             socket = \"{show}/quorate.sock\"\napi = \"{api}:7401\"\n\
             http = \"127.0.0.1:7402\"\n\n{links}[interfaces]\npublic = \"{INTERFACE}\"\n{inside}"
        );
        fs::write(folder.join("node.toml"), config).map_err(LabError::io("write a node.toml"))?;
        let log = self.logs.join(format!("{name}.log"));
        self.nodes.insert(name.to_owned(), Node { folder, log, process: None });
        Ok(())
    }

    fn node(&self, name: &str) -> Result<&Node, LabError> {
        self.nodes.get(name).ok_or_else(|| LabError::NoSuchHost(name.to_owned()))
    }

    /// The folder of a node: `node.toml`, `data`, `quorate.sock`.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn folder_of(&self, name: &str) -> Result<&Path, LabError> {
        Ok(&self.node(name)?.folder)
    }

    /// Starts a node's daemon and waits until its socket answers.
    ///
    /// # Errors
    /// When it can't be started, or ends, or does not answer.
    pub fn start(&mut self, name: &str) -> Result<(), LabError> {
        let daemon = Command::new(bin_dir()?.join("quorated"));
        self.start_as(name, daemon)
    }

    /// Starts a node's daemon without a capability, such as `net_admin`; else as
    /// [`Deployment::start`].
    ///
    /// # Errors
    /// When it can't be started, or ends, or does not answer.
    pub fn start_without(&mut self, name: &str, capability: &str) -> Result<(), LabError> {
        // It becomes the daemon: what is not in the bounding set, not even root gets by exec.
        let mut setpriv = Command::new("setpriv");
        let without = format!("-{capability}");
        setpriv.args(["--bounding-set", &without, "--inh-caps", &without]);
        setpriv.arg(bin_dir()?.join("quorated"));
        self.start_as(name, setpriv)
    }

    /// Starts a node's daemon, and waits for nothing.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn launch(&mut self, name: &str) -> Result<(), LabError> {
        let daemon = Command::new(bin_dir()?.join("quorated"));
        self.launch_as(name, daemon)
    }

    fn launch_as(&mut self, name: &str, mut daemon: Command) -> Result<(), LabError> {
        let node = self.node(name)?;
        daemon.arg("--config").arg(node.folder.join("node.toml"));
        let process = self.network.spawn(name, &mut daemon, &node.log)?;
        if let Some(node) = self.nodes.get_mut(name) {
            node.process = Some(process);
        }
        Ok(())
    }

    fn start_as(&mut self, name: &str, daemon: Command) -> Result<(), LabError> {
        self.launch_as(name, daemon)?;
        let deadline = Deadline::after(START_LIMIT);
        while !self.quorate(name, &["status"])?.status.code().is_some_and(answered) {
            let running = self.process(name)?.is_running()?;
            if deadline.passed() || !running {
                let what = format!("{name}'s daemon did not answer on its socket");
                return Err(LabError::Unreadable { what, text: self.log(name)? });
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// The process id of a node's daemon.
    ///
    /// # Errors
    /// When it does not run.
    pub fn id_of(&mut self, name: &str) -> Result<u32, LabError> {
        self.process(name).map(|process| process.id())
    }

    fn process(&mut self, name: &str) -> Result<&mut Process, LabError> {
        let node = self.nodes.get_mut(name);
        node.and_then(|node| node.process.as_mut())
            .ok_or_else(|| LabError::NoSuchHost(format!("{name} (its daemon does not run)")))
    }

    /// Starts a node's daemon with the capabilities that the systemd unit gives it, and no other; else
    /// as [`Deployment::start`].
    ///
    /// # Errors
    /// When it can't be started, or ends, or does not answer.
    pub fn start_as_the_unit(&mut self, name: &str) -> Result<(), LabError> {
        self.start_as(name, with_the_units_rights()?)
    }

    /// Runs `quorated` with a command of its own (`recover`) on a node's host, for its `node.toml`, with
    /// the capabilities that the systemd unit gives it.
    ///
    /// # Errors
    /// When it can't be run or does not end.
    pub fn quorated(&self, name: &str, arguments: &[&str]) -> Result<Finished, LabError> {
        let mut quorated = with_the_units_rights()?;
        quorated.arg("--config").arg(self.node(name)?.folder.join("node.toml")).args(arguments);
        self.network.run(name, &mut quorated, COMMAND_LIMIT)
    }

    /// Waits until a node's daemon has ended by itself.
    ///
    /// # Errors
    /// When it was not started, or does not end.
    pub fn wait_for_end(&mut self, name: &str) -> Result<ExitStatus, LabError> {
        self.process(name)?.wait(START_LIMIT)
    }

    /// Kills a node's daemon as a crash would.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self, name: &str) -> Result<ExitStatus, LabError> {
        self.process(name)?.kill()
    }

    /// Stops a node's daemon cleanly.
    ///
    /// # Errors
    /// When it does not run, or does not end.
    pub fn terminate(&mut self, name: &str) -> Result<ExitStatus, LabError> {
        self.process(name)?.terminate(START_LIMIT)
    }

    /// Stops a node's daemon where it stands (SIGSTOP).
    ///
    /// # Errors
    /// When it does not run.
    pub fn stop(&mut self, name: &str) -> Result<(), LabError> {
        self.process(name)?.stop()
    }

    /// Lets a stopped daemon go on (SIGCONT).
    ///
    /// # Errors
    /// When it does not run.
    pub fn resume(&mut self, name: &str) -> Result<(), LabError> {
        self.process(name)?.resume()
    }

    /// What a node's daemon wrote so far, over all its starts.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn log(&self, name: &str) -> Result<String, LabError> {
        Ok(fs::read_to_string(&self.node(name)?.log).unwrap_or_default())
    }

    /// Starts a web server on a host, on every address of its own.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn serve_pages(&mut self, host: &str, port: u16, page: &str) -> Result<(), LabError> {
        let mut server = Command::new(bin_dir()?.join("page-server"));
        server.args([format!("0.0.0.0:{port}"), page.to_owned()]);
        let log = self.logs.join(format!("{host}-pages.log"));
        let process = self.network.spawn(host, &mut server, &log)?;
        self.servers.insert(format!("{host} {port}"), process);
        Ok(())
    }

    /// Starts an echo server on a host, at one address.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn serve_echo(&mut self, host: &str, at: &str, name: &str) -> Result<(), LabError> {
        let mut server = Command::new(bin_dir()?.join("echo-server"));
        server.args([at, name]);
        let log = self.logs.join(format!("{host}-echo.log"));
        let process = self.network.spawn(host, &mut server, &log)?;
        self.servers.insert(format!("{host} {at}"), process);
        Ok(())
    }

    /// Ends a host's servers.
    ///
    /// # Errors
    /// When there is none.
    pub fn stop_pages(&mut self, host: &str) -> Result<(), LabError> {
        let of_host = |name: &String| name.split(' ').next() == Some(host);
        let names: Vec<String> =
            self.servers.keys().filter(|name| of_host(name)).cloned().collect();
        if names.is_empty() {
            return Err(LabError::NoSuchHost(format!("{host} (it serves nothing)")));
        }
        for name in names {
            if let Some(mut server) = self.servers.remove(&name) {
                server.kill()?;
            }
        }
        Ok(())
    }

    /// Runs `quorate` against a node's socket, whatever its status.
    ///
    /// # Errors
    /// When it can't be run or does not end.
    pub fn quorate(&self, node: &str, arguments: &[&str]) -> Result<Finished, LabError> {
        let mut quorate = Command::new(bin_dir()?.join("quorate"));
        quorate.arg("--socket").arg(self.node(node)?.folder.join("quorate.sock")).args(arguments);
        command::run(&mut quorate, COMMAND_LIMIT)
    }

    /// Runs `quorate` against a node's socket; gives what it printed.
    ///
    /// # Errors
    /// When it fails.
    pub fn quorate_ok(&self, node: &str, arguments: &[&str]) -> Result<String, LabError> {
        let mut quorate = Command::new(bin_dir()?.join("quorate"));
        quorate.arg("--socket").arg(self.node(node)?.folder.join("quorate.sock")).args(arguments);
        command::run_ok(&mut quorate, COMMAND_LIMIT)
    }

    /// Runs `quorate` in a host's namespace, for what it does there by itself.
    ///
    /// # Errors
    /// When it fails.
    pub fn quorate_on(&self, host: &str, arguments: &[&str]) -> Result<String, LabError> {
        let mut quorate = Command::new(bin_dir()?.join("quorate"));
        quorate.args(arguments);
        let finished = self.network.run(host, &mut quorate, COMMAND_LIMIT)?;
        if finished.status.success() {
            return Ok(finished.stdout);
        }
        let what = format!("quorate {} on {host}", arguments.join(" "));
        Err(LabError::Unreadable { what, text: finished.stderr + &finished.stdout })
    }

    /// Starts these nodes and forms a cluster of them, the first being its founder.
    ///
    /// # Errors
    /// When a command fails.
    pub fn form(&mut self, names: &[&str], timing: &str) -> Result<(), LabError> {
        for name in names {
            self.start(name)?;
        }
        let Some((first, others)) = names.split_first() else { return Ok(()) };
        self.quorate_ok(first, &["init", "--name", "lab", "--timing", timing])?;
        for other in others {
            let token = self.quorate_ok(first, &["token", "create"])?;
            self.quorate_ok(other, &["join", token.trim()])?;
        }
        Ok(())
    }

    /// Applies a configuration given as text.
    ///
    /// # Errors
    /// When it is refused.
    pub fn apply(&self, node: &str, configuration: &str) -> Result<String, LabError> {
        let path = self.folder.path().join("cluster.toml");
        fs::write(&path, configuration).map_err(LabError::io("write a configuration"))?;
        self.quorate_ok(node, &["apply", "--yes", "--no-wait", &path.display().to_string()])
    }
}

/// `quorated` by way of setpriv(1): root gets by exec what is in the bounding set, and that is what
/// packaging/systemd/quorated.service says.
fn with_the_units_rights() -> Result<Command, LabError> {
    let unit = include_str!("../../../packaging/systemd/quorated.service");
    let line = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
    let rights: Vec<String> = line
        .unwrap_or_default()
        .split_whitespace()
        .map(|right| format!("+{}", right.trim_start_matches("CAP_").to_lowercase()))
        .collect();
    let mut setpriv = Command::new("setpriv");
    setpriv.args(["--inh-caps", "-all", "--bounding-set"]);
    setpriv.arg(format!("-all,{}", rights.join(",")));
    setpriv.arg(bin_dir()?.join("quorated"));
    Ok(setpriv)
}

/// Whether an exit code of `quorate` says that a daemon answered (design §6): anything but "no
/// endpoint reachable".
fn answered(code: i32) -> bool {
    code != 4
}
