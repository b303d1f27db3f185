//! What the lab needs from Debian, each with its reason; installs what is missing when it may.
//! Never touches a system that is not Debian, nor one where it is not root: it says what is
//! missing instead. Its tests are below.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{LabError, command, is_root};

/// A Debian package and why the lab needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: &'static str,
    /// A file that it brings: its presence is taken for the package's, whoever installed it.
    pub file: &'static str,
    /// Why.
    pub reason: &'static str,
}

/// For deployments in network namespaces.
pub const NETWORK: &[Package] = &[
    Package { name: "iproute2", file: "ip", reason: "namespaces, veth pairs, bridges" },
    Package { name: "nftables", file: "nft", reason: "drops frames between two ports (partition)" },
    Package { name: "iputils-arping", file: "arping", reason: "asks by ARP who has a VIP" },
    Package { name: "iputils-ping", file: "ping", reason: "asks by ICMP who has a VIP" },
    Package { name: "procps", file: "sysctl", reason: "reads and sets kernel parameters" },
    Package { name: "curl", file: "curl", reason: "the demo's client, as a person would use" },
];

/// For tests of IPVS, wherever they run.
pub const IPVS: &[Package] =
    &[Package { name: "ipvsadm", file: "ipvsadm", reason: "shows what the kernel really has" }];

/// For the benches.
pub const COMPARED: &[Package] =
    &[Package { name: "keepalived", file: "keepalived", reason: "what Quorate is compared with" }];

/// For the virtual machine on hosts without IPVS.
pub const VM: &[Package] = &[
    Package { name: "qemu-system-x86", file: "qemu-system-x86_64", reason: "the machine" },
    Package { name: "busybox-static", file: "busybox", reason: "its first programs (initramfs)" },
    Package { name: "xz-utils", file: "xz", reason: "expands the kernel's image" },
    Package { name: "kmod", file: "depmod", reason: "depmod, and modprobe inside it" },
];

/// Makes sure that the packages are there, installing what is missing. `say` is told what is
/// being done, a line at a time.
///
/// # Errors
/// When something is missing and this user or system cannot install it, or apt-get fails.
pub fn ensure(wanted: &[&[Package]], say: &mut dyn FnMut(&str)) -> Result<(), LabError> {
    let absent = missing(wanted, &program_exists);
    if absent.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = absent.iter().map(|package| package.name).collect();
    if !is_root() || !Path::new("/etc/debian_version").exists() {
        return Err(missing_error(&absent));
    }
    for package in &absent {
        say(&format!("installing {} ({})", package.name, package.reason));
    }
    if !is_known(&names)? {
        refresh(say)?;
    }
    if let Err(first) = install(&names) {
        // An index that has grown old names files that the mirror no longer has.
        say(&format!("apt-get failed, trying again with a fresh package index: {first}"));
        refresh(say)?;
        install(&names)?;
    }
    let still = missing(wanted, &program_exists);
    if still.is_empty() { Ok(()) } else { Err(missing_error(&still)) }
}

/// Says what `apt-get` is needed for, and fetches the package index.
///
/// # Errors
/// When apt-get fails.
pub fn refresh(say: &mut dyn FnMut(&str)) -> Result<(), LabError> {
    say("refreshing the package index (apt-get update)");
    command::run_ok(apt_get().arg("update"), Duration::from_secs(600)).map(drop)
}

/// `apt-get`, never asking anything.
pub(crate) fn apt_get() -> Command {
    let mut apt = Command::new("apt-get");
    apt.env("DEBIAN_FRONTEND", "noninteractive").args(["-q", "-y"]);
    apt
}

fn install(names: &[&str]) -> Result<(), LabError> {
    let mut apt = apt_get();
    apt.args(["install", "--no-install-recommends"]).args(names);
    command::run_ok(&mut apt, Duration::from_secs(1800)).map(drop)
}

fn is_known(names: &[&str]) -> Result<bool, LabError> {
    let mut show = Command::new("apt-cache");
    show.args(["show", "--no-all-versions"]).args(names);
    Ok(command::run(&mut show, Duration::from_secs(120))?.status.success())
}

fn missing<'a>(wanted: &[&'a [Package]], exists: &dyn Fn(&str) -> bool) -> Vec<&'a Package> {
    let mut seen = BTreeSet::new();
    wanted
        .iter()
        .flat_map(|list| list.iter())
        .filter(|package| !exists(package.file) && seen.insert(package.name))
        .collect()
}

fn missing_error(absent: &[&Package]) -> LabError {
    let list = absent.iter().map(|p| format!("  {:<18} {}\n", p.name, p.reason)).collect();
    let names: Vec<&str> = absent.iter().map(|package| package.name).collect();
    let install = format!("apt-get install --no-install-recommends {}", names.join(" "));
    LabError::PackagesMissing { list, install }
}

/// Looks where programs are, the administrator's folders included even if they are not in PATH.
fn program_exists(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(Into::into))
        .any(|dir| dir.join(program).is_file())
}

/// A `say` that writes to standard error, where it mixes with no result.
pub fn say_on_stderr(line: &str) {
    // Nobody is left to hear it when standard error is closed.
    let _closed = writeln!(std::io::stderr(), "lab: {line}");
}

/// A command whose output nobody wants to see.
pub(crate) fn silent(program: &str) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_absent_packages_are_named_and_each_once() {
        let absent = missing(&[NETWORK, IPVS, IPVS], &|file| file != "ipvsadm");
        let names: Vec<_> = absent.iter().map(|package| package.name).collect();
        assert_eq!(names, ["ipvsadm"]);
    }

    #[test]
    fn what_is_missing_is_listed_with_its_reason_and_the_command() {
        let absent = missing(&[NETWORK], &|_| false);
        let text = missing_error(&absent).to_string();
        for package in NETWORK {
            assert!(text.contains(package.name) && text.contains(package.reason), "{text}");
        }
        assert!(text.contains("apt-get install --no-install-recommends iproute2 nftables"));
    }
}
