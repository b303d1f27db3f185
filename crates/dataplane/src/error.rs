//! What can go wrong with a kernel, one variant for each thing that an operator can do about it.
//! Text is for someone woken at night: what failed, on what, why, and what to do.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use quorate_model::id::DeviceName;
use quorate_model::kernel::{ConnectionTimeouts, DeviceAddress};
use quorate_model::plan::Action;
use quorate_model::routing::RoutingEntry;
use quorate_model::spec::{Engine, Scheduler};
use quorate_model::sync::{SyncRole, SyncSettings};

/// An error number of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Errno(pub i32);

impl Errno {
    /// The number in an I/O error; EIO where it holds none.
    pub(crate) fn of(error: &io::Error) -> Self {
        Self(error.raw_os_error().unwrap_or(libc::EIO))
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&io::Error::from_raw_os_error(self.0), f)
    }
}

/// What was tried, as the words after "cannot".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Opening a netlink or packet socket.
    OpenSocket,
    /// Asking ip_vs for its version.
    AskIpvs,
    /// Reading the IPVS table.
    ObserveServices,
    /// One change of the IPVS table.
    Apply(Box<Action>),
    /// Reading how long IPVS keeps connections.
    ReadTimeouts,
    /// Setting how long IPVS keeps connections.
    SetTimeouts(ConnectionTimeouts),
    /// Reading the list of connections.
    ReadConnections(PathBuf),
    /// Reading Quorate's rules of the packet filter.
    ReadRules,
    /// Setting Quorate's rules of the packet filter, with so many of firewall marks.
    SetRules(usize),
    /// Seeing to it that what leaves from this address tells of segments that fit a tunnel.
    Clamp(IpAddr),
    /// Looking for the device that has an address.
    FindDevice(IpAddr),
    /// Reading which sync daemons run.
    ReadSync,
    /// Starting a sync daemon.
    StartSync(SyncRole, SyncSettings),
    /// Ending a sync daemon.
    StopSync(SyncRole),
    /// Looking at a device.
    ReadDevice(DeviceName),
    /// Setting a device up, or down.
    SetDeviceUp(DeviceName, bool),
    /// Looking for the route to an address.
    ReadRoute(IpAddr),
    /// Adding the route to an address.
    AddRoute(IpAddr),
    /// Removing the route to an address.
    RemoveRoute(IpAddr),
    /// Reading addresses.
    ObserveAddresses,
    /// Adding or refreshing an address.
    AddAddress(DeviceAddress),
    /// Removing an address.
    RemoveAddress(DeviceAddress),
    /// Reading Quorate's routes and policy rules.
    ObserveRouting,
    /// Adding a route or policy rule.
    AddRouting(Box<RoutingEntry>),
    /// Removing a route or policy rule.
    RemoveRouting(Box<RoutingEntry>),
    /// Announcing an address.
    Announce(DeviceName, IpAddr),
    /// Asking the neighbours of a device who has an address.
    Ask(DeviceName),
    /// Reading a sysctl.
    ReadSysctl(PathBuf),
    /// Writing a sysctl.
    WriteSysctl(PathBuf),
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OpenSocket => f.write_str("open a socket to the kernel"),
            Self::AskIpvs => f.write_str("ask ip_vs for its version"),
            Self::ObserveServices => f.write_str("read the IPVS table"),
            Self::Apply(action) => fmt::Display::fmt(action, f),
            Self::ReadTimeouts => f.write_str("read the time-outs of IPVS connections"),
            Self::SetTimeouts(times) => {
                write!(f, "set the time-outs of IPVS connections ({times})")
            }
            Self::ReadConnections(path) => {
                write!(f, "read the connections of IPVS ({})", path.display())
            }
            Self::ReadRules => f.write_str("read table inet quorate of nftables"),
            Self::SetRules(marks) => {
                write!(f, "set table inet quorate of nftables ({marks} rules for firewall marks)")
            }
            Self::Clamp(vip) => {
                write!(f, "see to the segment length that {vip} tells clients of (nftables)")
            }
            Self::FindDevice(address) => write!(f, "find the device that has {address}"),
            Self::ReadSync => f.write_str("read which sync daemons of IPVS run"),
            Self::StartSync(role, settings) => {
                write!(f, "start the sync daemon of IPVS as {role} ({settings})")
            }
            Self::StopSync(role) => write!(f, "end the sync daemon of IPVS ({role})"),
            Self::ReadDevice(device) => write!(f, "look at device {device}"),
            Self::SetDeviceUp(device, true) => write!(f, "set device {device} up"),
            Self::SetDeviceUp(device, false) => write!(f, "set device {device} down"),
            Self::ReadRoute(address) => write!(f, "look for the route to {address}"),
            Self::AddRoute(address) => write!(f, "add the route to {address}"),
            Self::RemoveRoute(address) => write!(f, "remove the route to {address}"),
            Self::ObserveAddresses => f.write_str("read the addresses"),
            Self::AddAddress(DeviceAddress { device, net }) => {
                write!(f, "add address {net} to {device}")
            }
            Self::RemoveAddress(DeviceAddress { device, net }) => {
                write!(f, "remove address {net} from {device}")
            }
            Self::ObserveRouting => f.write_str("read the routes and policy rules"),
            Self::AddRouting(entry) => write!(f, "add {entry}"),
            Self::RemoveRouting(entry) => write!(f, "remove {entry}"),
            Self::Announce(device, address) => write!(f, "announce {address} on {device}"),
            Self::Ask(device) => write!(f, "ask who has the VIPs on {device}"),
            Self::ReadSysctl(path) => write!(f, "read {}", path.display()),
            Self::WriteSysctl(path) => write!(f, "write {}", path.display()),
        }
    }
}

/// Why the kernel did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DataplaneError {
    /// This process lacks the right.
    #[error(
        "cannot {doing}: {errno}; CAP_NET_ADMIN and CAP_NET_RAW are needed: run as root, or give \
         the unit AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW"
    )]
    NotPermitted {
        /// What was tried.
        doing: Operation,
        /// EPERM or EACCES.
        errno: Errno,
    },
    /// The kernel has no ip_vs.
    #[error(
        "cannot {doing}: this kernel has no ip_vs; load it with `modprobe ip_vs`, or run a kernel \
         that has it"
    )]
    NoIpvs {
        /// What was tried.
        doing: Operation,
    },
    /// The kernel has no such scheduler and could not load it.
    #[error(
        "cannot {doing}: this kernel has no scheduler {scheduler}; load it with `modprobe \
         ip_vs_{scheduler}`, or give the service another scheduler"
    )]
    NoScheduler {
        /// What was tried.
        doing: Operation,
        /// The scheduler that is missing.
        scheduler: Scheduler,
    },
    /// The kernel has no such persistence engine and could not load it.
    #[error(
        "cannot {doing}: this kernel has no persistence engine {engine}; load it with `modprobe \
         ip_vs_pe_{engine}`, or leave the service's engine out"
    )]
    NoEngine {
        /// What was tried.
        doing: Operation,
        /// The engine that is missing.
        engine: Engine,
    },
    /// nft(8) can't be run.
    #[error(
        "cannot {doing}: nft can't be run ({cause}); services with `mark`, `[cluster] sync`, and real servers behind a tunnel need it: install nftables"
    )]
    NoNft {
        /// What was tried.
        doing: Operation,
        /// Why it can't be run.
        cause: String,
    },
    /// nft(8) refused.
    #[error("cannot {doing}: nft says: {said}")]
    Nft {
        /// What was tried.
        doing: Operation,
        /// Its words.
        said: String,
    },
    /// The device is not there.
    #[error(
        "cannot {doing}: there is no device {device}; see `ip link`, and the interfaces in node.toml"
    )]
    NoDevice {
        /// What was tried.
        doing: Operation,
        /// The device that is missing.
        device: DeviceName,
    },
    /// Another route, of another program or with other values, has its place.
    #[error(
        "cannot {doing}: another one has its place; see `ip route show table all` and `ip rule`: give it another \
         metric or table (or priority, of a rule), or remove the other one"
    )]
    Taken {
        /// What was tried.
        doing: Operation,
    },
    /// What was to be changed is gone.
    #[error(
        "cannot {doing}: it is not in the kernel's table ({errno}); another program changes the \
         table, the next reconciliation puts it back"
    )]
    Gone {
        /// What was tried.
        doing: Operation,
        /// ESRCH for a service, ENOENT for a real server.
        errno: Errno,
    },
    /// The kernel gave no answer.
    #[error(
        "cannot tell whether it was possible to {doing}: the kernel gave no answer; the next \
         reconciliation looks again"
    )]
    NoAnswer {
        /// What was tried.
        doing: Operation,
    },
    /// The kernel's answer could not be understood.
    #[error(
        "cannot {doing}: the kernel's answer was not understood; please report this with `uname -r`"
    )]
    Garbled {
        /// What was tried.
        doing: Operation,
    },
    /// The kernel refused for another reason.
    #[error("cannot {doing}: {errno}")]
    Refused {
        /// What was tried.
        doing: Operation,
        /// Why.
        errno: Errno,
    },
}

impl DataplaneError {
    /// The error of an operation that the kernel answered with this number, where the number
    /// means the same for every operation.
    #[must_use]
    pub fn from_errno(doing: Operation, errno: Errno) -> Self {
        match errno.0 {
            libc::EPERM | libc::EACCES => Self::NotPermitted { doing, errno },
            libc::EAGAIN | libc::EINTR | libc::ETIMEDOUT => Self::NoAnswer { doing },
            _ => Self::Refused { doing, errno },
        }
    }

    pub(crate) fn from_io(doing: Operation, error: &io::Error) -> Self {
        Self::from_errno(doing, Errno::of(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_failed_on_what_and_what_to_do() {
        let doing = Operation::AddAddress(DeviceAddress {
            device: "eth0".parse().unwrap(),
            net: "192.0.2.1/32".parse().unwrap(),
        });
        let error = DataplaneError::from_errno(doing.clone(), Errno(libc::EPERM));
        assert_eq!(
            error.to_string(),
            "cannot add address 192.0.2.1/32 to eth0: Operation not permitted (os error 1); \
             CAP_NET_ADMIN and CAP_NET_RAW are needed: run as root, or give the unit \
             AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW"
        );
        let error = DataplaneError::from_errno(doing, Errno(libc::EINVAL));
        assert!(error.to_string().ends_with("eth0: Invalid argument (os error 22)"), "{error}");
    }
}
