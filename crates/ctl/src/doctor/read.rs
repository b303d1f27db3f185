//! Looks at a machine. Everything is below a root folder, so that a test can give another one; reads only,
//! but for the file whose fsyncs are timed. What is read is bounded, whatever stands there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use quorate_dataplane::{DirectorNeeds, sysctl};
use tokio::time::Instant;

use super::facts::{Daemon, Facts, Leftover, Module, Synced, Sysctl, Wanted};

/// Largest file that is looked into, and most entries of a folder.
const FILE_BYTES_MAX: u64 = 4 << 20;
const ENTRIES_MAX: usize = 100_000;
/// How often a write is timed, and how long.
const SYNC_TRIES: usize = 25;
const SYNC_BYTES: usize = 4096;

/// Programs that matter, by the kernel's name of them.
const PROGRAMS: [&str; 5] =
    ["keepalived", "firewalld", "NetworkManager", "systemd-network", "quorated"];
/// Units that matter where they start at boot.
const UNITS: [&str; 2] = ["keepalived.service", "ipvsadm.service"];
/// Where distributions keep what they configure addresses by: a folder, and how names end.
const NETWORK_FILES: [(&str, &str); 9] = [
    ("etc/network", "interfaces"),
    ("etc/network/interfaces.d", ""),
    ("etc/netplan", ".yaml"),
    ("etc/sysconfig/network-scripts", ""),
    ("etc/sysconfig/network", ""),
    ("etc/systemd/network", ".network"),
    ("run/systemd/network", ".network"),
    ("etc/NetworkManager/system-connections", ".nmconnection"),
    ("etc/conf.d", "net"),
];

/// A machine, below a folder.
#[derive(Debug, Clone)]
pub struct Machine {
    root: PathBuf,
}

impl Machine {
    /// The one whose files are below this folder; `/`: this one.
    #[must_use]
    pub fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Looks at everything but the disk and the fence, which take rights and time.
    #[must_use]
    pub fn look(&self, wanted: Wanted) -> Facts {
        let kernel = self.text("proc/sys/kernel/osrelease").unwrap_or_default();
        let sysctls = self.sysctls(&wanted);
        let processes = self.processes();
        let running = |name: &str| processes.values().any(|own| own == name);
        let quorated = processes.iter().find(|(_, name)| *name == "quorated");
        let devices = &wanted.devices;
        let rp_filter = devices.iter().map(String::as_str).chain(["all"]).filter_map(|device| {
            let value = self.number(&format!("proc/sys/net/ipv4/conf/{device}/rp_filter"))?;
            Some((device.to_owned(), value))
        });
        let mtu = devices.iter().filter_map(|device| {
            Some((device.clone(), self.number(&format!("sys/class/net/{device}/mtu"))?))
        });
        Facts {
            root: self.is_root(),
            modules: self.modules(&wanted, &kernel),
            conn_tab_bits: self.number("sys/module/ip_vs/parameters/conn_tab_bits"),
            clock: self.text("sys/devices/system/clocksource/clocksource0/current_clocksource"),
            rt_runtime: self.number("proc/sys/kernel/sched_rt_runtime_us"),
            sysctls_right: sysctls.0,
            sysctls_wrong: sysctls.1,
            rp_filter: rp_filter.collect(),
            mtu: mtu.collect(),
            daemon: quorated.map(|(&pid, _)| self.daemon(pid)),
            running: PROGRAMS
                .iter()
                .filter(|name| running(name))
                .map(ToString::to_string)
                .collect(),
            enabled: self.enabled(),
            selinux: self.number("sys/fs/selinux/enforce") == Some(1),
            networkd_strips: self.networkd_strips(),
            networkmanager_told: self.networkmanager_told(&wanted),
            leftovers: self.leftovers(&wanted.vips),
            synced: None,
            fence: None,
            kernel,
            wanted,
        }
    }

    /// Times writes in the data directory, or in the nearest folder above that is there.
    ///
    /// # Errors
    /// Why nothing could be written there.
    pub fn sync(&self, data_dir: &str) -> Result<Synced, String> {
        let wanted = self.path(data_dir.trim_start_matches('/'));
        let place = wanted.ancestors().find(|folder| folder.is_dir());
        let place = place.ok_or_else(|| format!("{data_dir} is not there"))?;
        let file = place.join(format!(".quorate-doctor-{}", std::process::id()));
        let timed = time_syncs(&file);
        // What could not be made is not there, and what was made is removed.
        let removed = fs::remove_file(&file);
        let mut times = timed.map_err(|error| format!("{}: {error}", place.display()))?;
        removed.map_err(|error| format!("{}: {error}", file.display()))?;
        times.sort_unstable();
        let (Some(&median), Some(&longest)) = (times.get(times.len() / 2), times.last()) else {
            return Err("nothing was timed".to_owned());
        };
        Ok(Synced { place: place.display().to_string(), tries: times.len(), median, longest })
    }

    fn path(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    /// A file's text without its last line break; `None` where it can't be read.
    fn text(&self, below: &str) -> Option<String> {
        let mut bytes = Vec::new();
        let file = File::open(self.path(below)).ok()?;
        file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).trim_end().to_owned())
    }

    fn number<N: std::str::FromStr>(&self, below: &str) -> Option<N> {
        self.text(below)?.trim().parse().ok()
    }

    /// The names in a folder, in order; none where it can't be read.
    fn names(&self, below: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(below)).into_iter().flatten().take(ENTRIES_MAX);
        let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> = names.collect();
        names.sort_unstable();
        names
    }

    fn is_root(&self) -> bool {
        let status = self.text("proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
        line.and_then(|ids| ids.split_whitespace().nth(1)) == Some("0")
    }

    fn modules(&self, wanted: &Wanted, kernel: &str) -> BTreeMap<String, Module> {
        let loaded = self.text("proc/modules").unwrap_or_default();
        let loaded: BTreeSet<&str> =
            loaded.lines().filter_map(|line| line.split_whitespace().next()).collect();
        let lists = ["modules.dep", "modules.builtin"]
            .map(|list| self.text(&format!("lib/modules/{kernel}/{list}")));
        let known = lists.iter().any(Option::is_some);
        let files: BTreeSet<String> =
            lists.iter().flatten().flat_map(|l| l.lines()).map(of).collect();
        let schedulers = wanted.schedulers.iter().map(|name| format!("ip_vs_{name}"));
        let needed = ["ip_vs", "sch_ingress", "cls_bpf"].map(str::to_owned);
        let place = |module: &str| {
            // A kernel that has it built in may list no module at all.
            let there = self.path(&format!("sys/module/{module}")).is_dir()
                || module == "ip_vs" && self.path("proc/net/ip_vs").exists();
            match () {
                () if loaded.contains(module) || there => Module::Loaded,
                () if files.contains(module) => Module::Loadable,
                () if known => Module::Missing,
                () => Module::Unknown,
            }
        };
        needed.into_iter().chain(schedulers).map(|name| (name.clone(), place(&name))).collect()
    }

    /// How many sysctls are right, and those that are not.
    fn sysctls(&self, wanted: &Wanted) -> (usize, Vec<Sysctl>) {
        let needs = DirectorNeeds {
            devices: wanted.devices.iter().filter_map(|device| device.parse().ok()).collect(),
            nat_ipv4: wanted.nat_ipv4,
            nat_ipv6: wanted.nat_ipv6,
            ipvs: self.path("proc/sys/net/ipv4/vs").is_dir(),
            hashed: false,
            sync: None,
        };
        let findings = sysctl::check_below(&self.root, &needs);
        let right = findings.iter().filter(|finding| finding.problem.is_none()).count();
        let wrong = findings.into_iter().filter(|finding| finding.problem.is_some());
        let wrong = wrong.map(|sysctl::SysctlFinding { key, wanted, found, .. }| Sysctl {
            key,
            wanted,
            found,
        });
        (right, wrong.collect())
    }

    fn processes(&self) -> BTreeMap<u32, String> {
        let names = self.names("proc");
        let pids = names.iter().filter_map(|name| name.parse::<u32>().ok());
        pids.filter_map(|pid| Some((pid, self.text(&format!("proc/{pid}/comm"))?))).collect()
    }

    fn daemon(&self, pid: u32) -> Daemon {
        let threads = self.names(&format!("proc/{pid}/task"));
        let real_time = threads.iter().any(|thread| {
            let stat = self.text(&format!("proc/{pid}/task/{thread}/stat")).unwrap_or_default();
            // Behind the name, which may hold anything, `policy` is the 39th (proc_pid_stat(5)).
            let policy =
                stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(38));
            matches!(policy, Some("1" | "2"))
        });
        let status = self.text(&format!("proc/{pid}/status")).unwrap_or_default();
        let locked = status.lines().find_map(|line| line.strip_prefix("VmLck:"));
        let locked = locked.and_then(|line| line.split_whitespace().next());
        Daemon { real_time, locked: locked.is_some_and(|kib| kib != "0") }
    }

    /// Units that a target of systemd wants.
    fn enabled(&self) -> BTreeSet<String> {
        let targets = self.names("etc/systemd/system");
        let wants = targets.iter().filter(|name| name.ends_with(".wants"));
        let units = wants.flat_map(|folder| self.names(&format!("etc/systemd/system/{folder}")));
        units.filter(|unit| UNITS.contains(&unit.as_str())).collect()
    }

    fn networkd_strips(&self) -> Vec<String> {
        let names = self.names("etc/systemd/network");
        let files = names.iter().filter(|name| name.ends_with(".network"));
        let files = files.map(|name| format!("etc/systemd/network/{name}"));
        files
            .filter(|file| {
                let text = self.text(file).unwrap_or_default();
                !text.lines().any(|line| line.trim_start().starts_with("KeepConfiguration="))
            })
            .map(|file| format!("/{file}"))
            .collect()
    }

    /// Whether each of the devices is named where NetworkManager leaves devices alone.
    fn networkmanager_told(&self, wanted: &Wanted) -> bool {
        let folders = ["etc/NetworkManager/conf.d", "usr/lib/NetworkManager/conf.d"];
        let files = folders.iter().flat_map(|folder| {
            self.names(folder).into_iter().map(move |name| format!("{folder}/{name}"))
        });
        let files = files.chain(["etc/NetworkManager/NetworkManager.conf".to_owned()]);
        let texts: Vec<String> = files.filter_map(|file| self.text(&file)).collect();
        let lines = || texts.iter().flat_map(|text| text.lines());
        let told = || lines().filter(|line| line.trim_start().starts_with("unmanaged-devices"));
        !wanted.devices.is_empty()
            && wanted.devices.iter().all(|device| {
                told()
                    .any(|line| line.split([':', ';', ',', '=']).any(|word| word.trim() == device))
            })
    }

    fn leftovers(&self, vips: &BTreeSet<IpAddr>) -> Vec<Leftover> {
        let mut found = Vec::new();
        if vips.is_empty() {
            return found;
        }
        for (folder, end) in NETWORK_FILES {
            for name in self.names(folder).iter().filter(|name| name.ends_with(end)) {
                let file = format!("{folder}/{name}");
                for (index, line) in self.text(&file).unwrap_or_default().lines().enumerate() {
                    found.extend(
                        addresses(line).filter(|vip| vips.contains(vip)).map(|vip| Leftover {
                            file: format!("/{file}"),
                            line: index + 1,
                            vip,
                        }),
                    );
                }
            }
        }
        found
    }
}

/// `kernel/net/netfilter/ipvs/ip_vs.ko.xz: ...` is `ip_vs`.
fn of(line: &str) -> String {
    let path = line.split(':').next().unwrap_or_default();
    let file = path.rsplit('/').next().unwrap_or_default();
    file.split('.').next().unwrap_or_default().replace('-', "_")
}

/// The addresses in a line that is no comment.
fn addresses(line: &str) -> impl Iterator<Item = IpAddr> {
    let bare = line.trim_start();
    let line = if bare.starts_with(['#', ';']) { "" } else { line };
    let words = line.split(|c: char| !(c.is_ascii_hexdigit() || c == '.' || c == ':'));
    words.filter_map(|word| word.trim_end_matches(['.', ':']).parse().ok())
}

fn time_syncs(path: &Path) -> io::Result<Vec<Duration>> {
    let mut file = File::options().write(true).create_new(true).open(path)?;
    let block = [0_u8; SYNC_BYTES];
    let mut times = Vec::with_capacity(SYNC_TRIES);
    for _ in 0..SYNC_TRIES {
        let began = Instant::now();
        file.write_all(&block)?;
        file.sync_data()?;
        times.push(began.elapsed());
    }
    Ok(times)
}
