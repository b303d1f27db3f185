//! Keepalived on a bed: the same hosts, one VRRP instance with one VIP and no services. What the
//! bench compares with.
//!
//! It is treated as well as it can be: VRRP version 3, its interval in hundredths of a second; the
//! highest priorities there are, so that its skew is 1 to 2 % of an interval; it may raise its own
//! real-time priority; nobody preempts, as in the cluster beside it; and a VIP that a killed one left behind is removed before it is started
//! again.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::bed::Bed;
use super::{CLIENT, DIRECTORS, hosts, vip};
use crate::lab::network::INTERFACE;
use crate::lab::observer::{Observer, Plan};
use crate::lab::process::Process;
use crate::lab::{LabError, Network, artefacts_dir};

/// The priority that it has by default.
pub const DEFAULT_PRIORITY: u8 = 100;
/// The highest for who does not own the address itself (RFC 9568).
pub const HIGHEST_PRIORITY: u8 = 254;
/// How long a clean stop may take.
const END_LIMIT: Duration = Duration::from_secs(30);

/// The bed.
#[derive(Debug)]
pub struct Keepalived {
    // Before the network: the observer asks on it, the processes run in it.
    observer: Arc<Observer>,
    processes: BTreeMap<&'static str, Process>,
    network: Network,
    directors: Vec<&'static str>,
    interval: Duration,
    priority: u8,
    folder: TempDir,
    logs: PathBuf,
}

impl Keepalived {
    /// Starts it on so many hosts, advertising at this interval (whole hundredths of a second). The
    /// first has this priority, each further one 1 less.
    ///
    /// # Errors
    /// When it can't be set up.
    pub fn new(
        name: &str,
        directors: usize,
        interval: Duration,
        priority: u8,
    ) -> Result<Self, LabError> {
        let network = Network::new(&hosts(directors)?)?;
        let names: Vec<&'static str> =
            DIRECTORS.iter().take(directors).map(|(name, _)| *name).collect();
        let plan = Plan::new(&network, CLIENT, &names, &[vip(0)])?;
        let observer = Observer::start(network.namespace(CLIENT.0)?, plan)?;
        let mut bed = Self {
            observer: Arc::new(observer),
            processes: BTreeMap::new(),
            network,
            directors: names.clone(),
            interval,
            priority,
            folder: tempfile::tempdir().map_err(LabError::io("make a folder for keepalived"))?,
            logs: artefacts_dir().join(name),
        };
        for (less, director) in (0u8..).zip(names) {
            let text = configuration(director, priority.saturating_sub(less), interval);
            fs::write(bed.file(director, "conf"), text)
                .map_err(LabError::io("write a configuration of keepalived"))?;
            bed.start(director)?;
        }
        Ok(bed)
    }

    fn file(&self, director: &str, suffix: &str) -> PathBuf {
        self.folder.path().join(format!("{director}.{suffix}"))
    }

    fn process(&mut self, director: &str) -> Result<&mut Process, LabError> {
        self.processes
            .get_mut(director)
            .ok_or_else(|| LabError::NoSuchHost(format!("{director} (no keepalived runs there)")))
    }

    /// Signals what a director's first process has started, which that process has not reaped.
    fn signal_children(&mut self, director: &str, signal: Signal) -> Result<(), LabError> {
        for child in self.process(director)?.children()? {
            if let Some(child) = i32::try_from(child).ok().and_then(Pid::from_raw) {
                kill_process(child, signal)
                    .map_err(std::io::Error::from)
                    .map_err(LabError::io("signal a process of keepalived"))?;
            }
        }
        Ok(())
    }
}

fn configuration(router: &str, priority: u8, interval: Duration) -> String {
    let vip = vip(0);
    format!(
        "global_defs {{\n  router_id {router}\n  vrrp_version 3\n  \
         max_auto_priority 99\n}}\n\
         vrrp_instance web {{\n  state BACKUP\n  interface {INTERFACE}\n  virtual_router_id 51\n  \
         priority {priority}\n  advert_int {:.2}\n  nopreempt\n  virtual_ipaddress {{\n    \
         {vip}/32 dev {INTERFACE}\n  }}\n}}\n",
        interval.as_secs_f64(),
    )
}

impl Bed for Keepalived {
    fn directors(&self) -> &[&'static str] {
        &self.directors
    }

    fn network(&self) -> &Network {
        &self.network
    }

    fn observer(&self) -> Arc<Observer> {
        Arc::clone(&self.observer)
    }

    fn vips(&self) -> u16 {
        1
    }

    fn interval(&self) -> Duration {
        self.interval
    }

    fn lease(&self) -> Duration {
        // RFC 9568: three intervals, and a skew.
        self.interval * 3 + self.interval * u32::from(u8::MAX - self.priority) / 256
    }

    fn kill(&mut self, director: &str) -> Result<(), LabError> {
        // Stopped first, it can neither start a child again nor have it end cleanly.
        self.process(director)?.stop()?;
        self.signal_children(director, Signal::KILL)?;
        self.process(director)?.kill().map(drop)
    }

    fn stop(&mut self, director: &str) -> Result<(), LabError> {
        self.process(director)?.stop()?;
        self.signal_children(director, Signal::STOP)
    }

    fn resume(&mut self, director: &str) -> Result<(), LabError> {
        self.signal_children(director, Signal::CONT)?;
        self.process(director)?.resume()
    }

    fn terminate(&mut self, director: &str) -> Result<(), LabError> {
        self.process(director)?.terminate(END_LIMIT).map(drop)
    }

    fn start(&mut self, director: &str) -> Result<(), LabError> {
        let Some((name, _)) = DIRECTORS.iter().find(|(name, _)| *name == director) else {
            return Err(LabError::NoSuchHost(director.to_owned()));
        };
        let vip = IpNet::from(std::net::IpAddr::V4(vip(0)));
        // There is none, if it ended cleanly.
        let _absent = self.network.delete_address(director, INTERFACE, &vip);
        for suffix in ["pid", "vrrp"] {
            // What a killed one left would be taken for a running one.
            let _absent = fs::remove_file(self.file(director, suffix));
        }
        let mut command = Command::new("keepalived");
        // In the foreground, with its log on standard error; VRRP alone; nothing shared.
        command.args(["--dont-fork", "--log-console", "--log-detail", "--vrrp"]);
        for (option, suffix) in [("--use-file", "conf"), ("--pid", "pid"), ("--vrrp_pid", "vrrp")] {
            command.arg(option).arg(self.file(director, suffix));
        }
        let log = self.logs.join(format!("{director}.log"));
        let process = self.network.spawn(director, &mut command, &log)?;
        self.processes.insert(name, process);
        Ok(())
    }

    fn move_from(&mut self, _director: &str) -> Result<(), LabError> {
        Err(LabError::Unreadable {
            what: "a planned move".to_owned(),
            text: "keepalived has no command for it".to_owned(),
        })
    }

    fn settle(&mut self) -> Result<(), LabError> {
        // It does not say. Who backs up counts from the last advertisement that it heard.
        for director in self.directors.clone() {
            if !self.process(director)?.is_running()? {
                let log = self.process(director)?.log();
                let lines: Vec<&str> = log.lines().rev().take(15).collect();
                let text = lines.into_iter().rev().collect::<Vec<_>>().join("\n");
                let what = format!("keepalived of {director} has ended");
                return Err(LabError::Unreadable { what, text });
            }
        }
        std::thread::sleep(self.interval * 5);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_written_in_hundredths() {
        let text = configuration("d1", 254, Duration::from_millis(50));
        assert!(text.contains("advert_int 0.05\n") && text.contains("priority 254\n"), "{text}");
        assert!(text.contains("192.168.10.180/32 dev eth0\n"), "{text}");
    }
}
