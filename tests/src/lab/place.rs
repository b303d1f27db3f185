//! Where IPVS is: on the host's kernel, or only in the virtual machine (design §8). Decides
//! nothing else. Used by `xtask`; seen to work on both sides by running it in the machine.

use std::path::Path;

use super::{is_root, packages};

/// The kernel that a test of IPVS runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The kernel of this host.
    Host,
    /// The kernel of a virtual machine.
    Vm,
}

/// Whether the running kernel has IPVS, loading the module where that is allowed.
pub fn host_has_ipvs() -> bool {
    let loaded = || Path::new("/proc/net/ip_vs").exists();
    if loaded() {
        return true;
    }
    // A machine without modprobe, or a kernel without modules, has no IPVS then.
    is_root() && packages::silent("modprobe").args(["-q", "ip_vs"]).status().is_ok() && loaded()
}

/// The kernel to use for IPVS, without being asked: the host's where it has ip_vs and we are root,
/// since namespaces need that.
pub fn kernel_for_ipvs() -> Place {
    if is_root() && host_has_ipvs() { Place::Host } else { Place::Vm }
}
