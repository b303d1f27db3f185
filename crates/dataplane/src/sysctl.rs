//! The sysctls that a director needs: checked, or set and read back. What they are and why stands
//! here, for any store of sysctls; `Proc` is the real one.
//!
//! It never writes a sysctl in [`SysctlMode::Check`], nor one that is right. Tests: at the end.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use quorate_model::id::DeviceName;

use crate::error::{DataplaneError, Errno, Operation};

/// What a director forwards, and where.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DirectorNeeds {
    /// The devices that carry VIPs or real servers.
    pub devices: Vec<DeviceName>,
    /// Whether a real server is reached by NAT over IPv4.
    pub nat_ipv4: bool,
    /// Whether a real server is reached by NAT over IPv6.
    pub nat_ipv6: bool,
    /// Whether the kernel has IPVS here.
    pub ipvs: bool,
    /// Whether every director chooses alike, so that one takes over connections that it does not know.
    pub hashed: bool,
    /// How connections are synchronised: how often one that goes on is told of, in seconds, and how
    /// often each telling is repeated.
    pub sync: Option<(u32, u8)>,
}

/// Whether sysctls may be changed (`sysctl` in node.toml).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SysctlMode {
    /// Set what is wrong, and read it back.
    Set,
    /// Only look.
    Check,
}

/// One sysctl that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SysctlFinding {
    /// Its name as sysctl(8) takes it, with `/` inside of device names.
    pub key: String,
    /// The value that is needed.
    pub wanted: String,
    /// The value that stands now; `None` where it could not be read.
    pub found: Option<String>,
    /// Whether this call changed it.
    pub changed: bool,
    /// What is wrong; `None`: nothing.
    pub problem: Option<SysctlProblem>,
}

/// What is wrong with a sysctl.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SysctlProblem {
    /// It has another value, and may not be changed.
    #[error("it is wrong: set it, or allow it with `sysctl = \"set\"` in node.toml")]
    Wrong,
    /// It was written, and then read back with another value.
    #[error("it did not keep the value: another program, or a read-only /proc/sys, is in the way")]
    NotKept,
    /// It could not be read or written.
    #[error("{0}")]
    Failed(#[from] DataplaneError),
}

impl fmt::Display for SysctlFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = self.found.as_deref().unwrap_or("unreadable");
        write!(f, "{} = {found}, needed: {}", self.key, self.wanted)?;
        match &self.problem {
            Some(problem) => write!(f, ": {problem}"),
            None => Ok(()),
        }
    }
}

/// Where sysctls are kept. A key has its parts apart, since a device name may hold dots.
pub(crate) trait Sysctls {
    fn read(&self, key: &[&str]) -> Result<String, DataplaneError>;
    fn write(&mut self, key: &[&str], value: &str) -> Result<(), DataplaneError>;
}

/// /proc/sys, whose `net` is that of the calling thread's network namespace.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Proc;

fn path(key: &[&str]) -> PathBuf {
    // Never /proc/sys/net through a link of another task: the caller's own namespace counts.
    let mut path = PathBuf::from("/proc/sys");
    path.extend(key);
    path
}

fn read(path: PathBuf) -> Result<String, DataplaneError> {
    match fs::read_to_string(&path) {
        // Several numbers are parted by tabs.
        Ok(text) => Ok(text.split_whitespace().collect::<Vec<_>>().join(" ")),
        Err(error) => Err(failed(Operation::ReadSysctl(path), &error)),
    }
}

/// Those below a folder, which are only looked at.
struct Below<'a>(&'a Path);

impl Sysctls for Below<'_> {
    fn read(&self, key: &[&str]) -> Result<String, DataplaneError> {
        let mut path = self.0.join("proc/sys");
        path.extend(key);
        read(path)
    }

    fn write(&mut self, key: &[&str], _: &str) -> Result<(), DataplaneError> {
        let error = io::Error::from(io::ErrorKind::ReadOnlyFilesystem);
        Err(failed(Operation::WriteSysctl(path(key)), &error))
    }
}

/// Looks at what a director needs below a folder, `/` being this machine; it sets nothing.
#[must_use]
pub fn check_below(root: &Path, needs: &DirectorNeeds) -> Vec<SysctlFinding> {
    director(&mut Below(root), needs, SysctlMode::Check)
}

impl Sysctls for Proc {
    fn read(&self, key: &[&str]) -> Result<String, DataplaneError> {
        read(path(key))
    }

    fn write(&mut self, key: &[&str], value: &str) -> Result<(), DataplaneError> {
        let path = path(key);
        fs::write(&path, value).map_err(|error| failed(Operation::WriteSysctl(path), &error))
    }
}

/// EACCES and EROFS come from a container's read-only /proc/sys more often than from missing
/// rights, so they keep their own text.
fn failed(doing: Operation, error: &io::Error) -> DataplaneError {
    DataplaneError::Refused { doing, errno: Errno::of(error) }
}

/// One sysctl and the value that is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Want {
    pub(crate) key: Vec<String>,
    pub(crate) value: String,
}

pub(crate) fn want(key: &[&str], value: impl Into<String>) -> Want {
    Want { key: key.iter().map(|&part| part.to_owned()).collect(), value: value.into() }
}

/// What a director needs:
/// - no ICMP redirects: real servers answer past the director, which would tell clients so;
/// - it answers ARP for a VIP only where the VIP is (arp_ignore 1), and asks with an address of the
///   device (arp_announce 2), so that a standby never draws a VIP's traffic. The kernel takes the
///   larger of `all` and the device, so `all` is enough for these;
/// - removing one address never takes others with it (promote_secondaries);
/// - with NAT, it routes the answers;
/// - a client that sticks to a real server of weight 0 is given another (`expire_quiescent_template`,
///   Documentation/networking/ipvs-sysctl.rst): it is drained, or down;
/// - with a hashing scheduler, a packet of an unknown TCP connection is taken for one of a connection
///   (`sloppy_tcp`): the director before chose as this one does;
/// - with sync daemons, a connection is told of with its first packet once it is established, and
///   again as it goes on (`sync_threshold` of `0 0` lets the refresh period alone decide,
///   `ip_vs_sync_conn_needed`); a director that listens forwards all the same (`backup_only` 0), on
///   the one port that is filtered.
fn director_wants(needs: &DirectorNeeds) -> Vec<Want> {
    let conf = |place: &str, name: &str, value| want(&["net", "ipv4", "conf", place, name], value);
    // `send_redirects` is on if either `all` or the device says so; `default` is for devices to come.
    let mut wants = vec![
        conf("all", "send_redirects", "0"),
        conf("default", "send_redirects", "0"),
        conf("all", "arp_ignore", "1"),
        conf("all", "arp_announce", "2"),
        conf("all", "promote_secondaries", "1"),
    ];
    for device in &needs.devices {
        wants.push(conf(device.as_str(), "send_redirects", "0"));
    }
    if needs.nat_ipv4 {
        wants.push(want(&["net", "ipv4", "ip_forward"], "1"));
    }
    if needs.nat_ipv6 {
        wants.push(want(&["net", "ipv6", "conf", "all", "forwarding"], "1"));
    }
    if needs.ipvs {
        let vs = |name: &str, value: String| want(&["net", "ipv4", "vs", name], value);
        wants.push(vs("expire_quiescent_template", "1".to_owned()));
        if needs.hashed {
            wants.push(vs("sloppy_tcp", "1".to_owned()));
        }
        if let Some((refresh_s, retries)) = needs.sync {
            wants.push(vs("backup_only", "0".to_owned()));
            wants.push(vs("sync_version", "1".to_owned()));
            wants.push(vs("sync_ports", "1".to_owned()));
            wants.push(vs("sync_threshold", "0 0".to_owned()));
            wants.push(vs("sync_refresh_period", refresh_s.to_string()));
            wants.push(vs("sync_retries", retries.to_string()));
        }
    }
    wants
}

pub(crate) fn director(
    sysctls: &mut impl Sysctls,
    needs: &DirectorNeeds,
    mode: SysctlMode,
) -> Vec<SysctlFinding> {
    director_wants(needs).iter().map(|want| settle(sysctls, want, mode)).collect()
}

/// Looks at one sysctl, and sets it where that is needed and allowed.
pub(crate) fn settle(sysctls: &mut impl Sysctls, want: &Want, mode: SysctlMode) -> SysctlFinding {
    let parts: Vec<&str> = want.key.iter().map(String::as_str).collect();
    // sysctl(8) writes `eth0/100` for the device `eth0.100` in a dotted key.
    let dotted: Vec<String> = parts.iter().map(|part| part.replace('.', "/")).collect();
    let mut finding = SysctlFinding {
        key: dotted.join("."),
        wanted: want.value.clone(),
        found: None,
        changed: false,
        problem: None,
    };
    match sysctls.read(&parts) {
        Ok(found) if found == want.value => finding.found = Some(found),
        Ok(found) if mode == SysctlMode::Check => {
            finding.found = Some(found);
            finding.problem = Some(SysctlProblem::Wrong);
        }
        Ok(found) => {
            let written = sysctls.write(&parts, &want.value);
            finding.found = sysctls.read(&parts).ok().or(Some(found));
            match written {
                Err(error) => finding.problem = Some(error.into()),
                Ok(()) if finding.found.as_deref() == Some(want.value.as_str()) => {
                    finding.changed = true
                }
                Ok(()) => finding.problem = Some(SysctlProblem::NotKept),
            }
        }
        Err(error) => finding.problem = Some(error.into()),
    }
    finding
}

/// Whether this host forwards IPv6 on a device, so that it is a router to its neighbours there.
pub(crate) fn is_router(sysctls: &impl Sysctls, device: &DeviceName) -> bool {
    let forwarding = sysctls.read(&["net", "ipv6", "conf", device.as_str(), "forwarding"]);
    forwarding.is_ok_and(|value| value != "0")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Sysctls of which one never keeps what is written.
    #[derive(Default)]
    struct Store {
        values: BTreeMap<String, String>,
        stubborn: Option<&'static str>,
        writes: usize,
    }

    impl Sysctls for Store {
        fn read(&self, key: &[&str]) -> Result<String, DataplaneError> {
            Ok(self.values.get(&key.join(" ")).cloned().unwrap_or_else(|| "7".to_owned()))
        }

        fn write(&mut self, key: &[&str], value: &str) -> Result<(), DataplaneError> {
            self.writes += 1;
            if key.last().copied() != self.stubborn {
                self.values.insert(key.join(" "), value.to_owned());
            }
            Ok(())
        }
    }

    fn keys(findings: &[SysctlFinding]) -> Vec<&str> {
        findings.iter().map(|finding| finding.key.as_str()).collect()
    }

    #[test]
    fn a_director_needs_these_sysctls() {
        let needs = DirectorNeeds {
            devices: vec!["eth0.100".parse().unwrap()],
            nat_ipv4: true,
            nat_ipv6: true,
            ipvs: true,
            hashed: true,
            sync: Some((10, 2)),
        };
        let findings = director(&mut Store::default(), &needs, SysctlMode::Check);
        let wants: Vec<(&str, &str)> = findings
            .iter()
            .map(|finding| (finding.key.as_str(), finding.wanted.as_str()))
            .collect();
        assert_eq!(
            wants,
            [
                ("net.ipv4.conf.all.send_redirects", "0"),
                ("net.ipv4.conf.default.send_redirects", "0"),
                ("net.ipv4.conf.all.arp_ignore", "1"),
                ("net.ipv4.conf.all.arp_announce", "2"),
                ("net.ipv4.conf.all.promote_secondaries", "1"),
                ("net.ipv4.conf.eth0/100.send_redirects", "0"),
                ("net.ipv4.ip_forward", "1"),
                ("net.ipv6.conf.all.forwarding", "1"),
                ("net.ipv4.vs.expire_quiescent_template", "1"),
                ("net.ipv4.vs.sloppy_tcp", "1"),
                ("net.ipv4.vs.backup_only", "0"),
                ("net.ipv4.vs.sync_version", "1"),
                ("net.ipv4.vs.sync_ports", "1"),
                ("net.ipv4.vs.sync_threshold", "0 0"),
                ("net.ipv4.vs.sync_refresh_period", "10"),
                ("net.ipv4.vs.sync_retries", "2"),
            ]
        );
        let without_nat = DirectorNeeds { nat_ipv4: false, nat_ipv6: false, ..needs };
        let findings = director(&mut Store::default(), &without_nat, SysctlMode::Check);
        assert!(!keys(&findings).iter().any(|key| key.contains("forward")));
    }

    #[test]
    fn checking_writes_nothing_and_setting_writes_only_what_is_wrong() {
        let mut store = Store::default();
        let needs = DirectorNeeds::default();
        let checked = director(&mut store, &needs, SysctlMode::Check);
        assert!(checked.iter().all(|finding| finding.problem == Some(SysctlProblem::Wrong)));
        assert_eq!(store.writes, 0);
        let set = director(&mut store, &needs, SysctlMode::Set);
        assert!(set.iter().all(|finding| finding.problem.is_none() && finding.changed));
        let again = director(&mut store, &needs, SysctlMode::Set);
        assert!(again.iter().all(|finding| finding.problem.is_none() && !finding.changed));
        assert_eq!(store.writes, set.len());
    }

    #[test]
    fn a_value_that_is_not_kept_is_told_with_what_stands() {
        let mut store = Store { stubborn: Some("arp_ignore"), ..Store::default() };
        let findings = director(&mut store, &DirectorNeeds::default(), SysctlMode::Set);
        let problems: Vec<String> = findings
            .iter()
            .filter(|finding| finding.problem.is_some())
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            problems,
            ["net.ipv4.conf.all.arp_ignore = 7, needed: 1: it did not keep the value: another \
              program, or a read-only /proc/sys, is in the way"]
        );
    }
}
