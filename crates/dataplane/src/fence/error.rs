//! Why a fence can't be armed or changed: what was tried, what is missing, what to do. Its tests
//! are below, and tests/tests/lab_host_fence.rs.

use std::fmt;
use std::io;
use std::net::IpAddr;

use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::{ProgramError, tc::TcError};
use quorate_model::id::DeviceName;

use super::VIPS_AT_MOST;
use crate::error::Errno;

/// What was tried, as the words after "cannot".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FenceStep {
    /// Loading programs and maps.
    Load,
    /// Mapping the deadlines into memory.
    MapDeadlines,
    /// Opening a netlink socket.
    OpenSocket,
    /// Listing the devices.
    ReadDevices,
    /// Listing a device's filters.
    ReadFilters(DeviceName),
    /// Adding the qdisc that filters hang on.
    AddQdisc(DeviceName),
    /// Adding a filter.
    Attach(DeviceName),
    /// Removing a filter.
    Detach(DeviceName),
    /// Taking a VIP in.
    Insert(IpAddr),
    /// Letting a VIP go.
    Remove(IpAddr),
}

impl fmt::Display for FenceStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load => f.write_str("load the fence"),
            Self::MapDeadlines => f.write_str("map the fence's deadlines into memory"),
            Self::OpenSocket => f.write_str("open a socket to the kernel"),
            Self::ReadDevices => f.write_str("list the devices"),
            Self::ReadFilters(device) => write!(f, "list the filters of device {device}"),
            Self::AddQdisc(device) => write!(f, "add qdisc clsact to device {device}"),
            Self::Attach(device) => write!(f, "put the fence on device {device}"),
            Self::Detach(device) => write!(f, "take an old fence off device {device}"),
            Self::Insert(address) => write!(f, "fence {address}"),
            Self::Remove(address) => write!(f, "unfence {address}"),
        }
    }
}

/// Why the fence is not armed as asked. A director with such an error is not eligible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FenceError {
    /// This process lacks the right.
    #[error(
        "cannot {doing}: {errno}; CAP_BPF and CAP_NET_ADMIN are needed (before Linux 5.11 also \
         LimitMEMLOCK=infinity): run as root, or give the unit AmbientCapabilities=CAP_BPF \
         CAP_NET_ADMIN"
    )]
    NotPermitted {
        /// What was tried.
        doing: FenceStep,
        /// EPERM or EACCES.
        errno: Errno,
    },
    /// The kernel lacks what the fence needs.
    #[error(
        "cannot {doing}: {cause}; the fence needs Linux 5.8 or a distribution's backport, with BPF \
         and the modules cls_bpf and sch_ingress"
    )]
    UnfitKernel {
        /// What was tried.
        doing: FenceStep,
        /// What the kernel said.
        cause: String,
    },
    /// It was never armed, or could not be.
    #[error("the fence is not armed")]
    NotArmed,
    /// There is no such device.
    #[error("cannot fence device {0}: there is no such device")]
    NoDevice(DeviceName),
    /// The fence can't read this device's frames.
    #[error("cannot fence device {0}: its link layer (InfiniBand) is not supported")]
    UnsupportedDevice(DeviceName),
    /// Another's program sees the packets of a device first.
    #[error(
        "the fence is not the first to see packets on device {0}: a program of another runs before \
         it and may let VIP traffic past it; see `tc filter show dev {0} ingress` (and egress) and \
         `bpftool net`, and move that program behind priority 2, or take it off"
    )]
    Overtaken(DeviceName),
    /// This process's lease clock is not the kernel's.
    #[error(
        "the fence can't be used in a time namespace whose boot time is shifted: the kernel would \
         close it at another time than this daemon thinks; run quorated in the host's own time \
         namespace (see time_namespaces(7))"
    )]
    TimeNamespace,
    /// Every slot is taken.
    #[error("cannot fence another address: {VIPS_AT_MOST} are fenced, the most there can be")]
    Full,
    /// The kernel refused for another reason.
    #[error("cannot {doing}: {errno}")]
    Refused {
        /// What was tried.
        doing: FenceStep,
        /// Why.
        errno: Errno,
    },
    /// The kernel's answer is missing, or was not understood.
    #[error("cannot {doing}: {cause}")]
    NoAnswer {
        /// What was tried.
        doing: FenceStep,
        /// What came instead.
        cause: String,
    },
}

impl FenceError {
    pub(super) fn from_errno(doing: FenceStep, errno: i32) -> Self {
        let text = || Errno(errno).to_string();
        match (errno, doing) {
            (libc::EPERM | libc::EACCES, doing) => {
                Self::NotPermitted { doing, errno: Errno(errno) }
            }
            (
                libc::ENODEV,
                FenceStep::AddQdisc(device)
                | FenceStep::Attach(device)
                | FenceStep::Detach(device)
                | FenceStep::ReadFilters(device),
            ) => Self::NoDevice(device),
            // A kind of qdisc or filter that the kernel has not and could not load.
            (libc::ENOENT, doing @ (FenceStep::AddQdisc(_) | FenceStep::Attach(_))) => {
                Self::UnfitKernel { doing, cause: text() }
            }
            (_, doing) => Self::Refused { doing, errno: Errno(errno) },
        }
    }

    pub(super) fn from_io(doing: FenceStep, error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(errno) => Self::from_errno(doing, errno),
            None => Self::NoAnswer { doing, cause: error.to_string() },
        }
    }

    /// Of a load, all but a missing right is the kernel's: the same object loads elsewhere.
    pub(super) fn of_load(error: &EbpfError) -> Self {
        let doing = FenceStep::Load;
        let (errno, cause) = match error {
            EbpfError::ProgramError(error) => return Self::of_program_load(error),
            EbpfError::MapError(error) => (map_errno(error), with_sources(error)),
            other => (None, with_sources(other)),
        };
        match errno {
            Some(errno @ libc::EPERM) => Self::NotPermitted { doing, errno: Errno(errno) },
            _ => Self::UnfitKernel { doing, cause },
        }
    }

    pub(super) fn of_program_load(error: &ProgramError) -> Self {
        let doing = FenceStep::Load;
        let ProgramError::LoadError { io_error, verifier_log } = error else {
            return Self::UnfitKernel { doing, cause: with_sources(error) };
        };
        if io_error.raw_os_error() == Some(libc::EPERM) {
            return Self::NotPermitted { doing, errno: Errno(libc::EPERM) };
        }
        // The verifier's reason stands above its count of instructions; the whole log is long.
        let log = verifier_log.to_string();
        let reason =
            log.lines().rev().find(|line| !line.is_empty() && !line.starts_with("processed"));
        let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
        Self::UnfitKernel { doing, cause: format!("{io_error}{reason}") }
    }

    pub(super) fn of_map(doing: FenceStep, error: &MapError) -> Self {
        match map_errno(error) {
            Some(libc::E2BIG) => Self::Full,
            Some(errno) => Self::from_errno(doing, errno),
            None => Self::NoAnswer { doing, cause: with_sources(error) },
        }
    }

    pub(super) fn of_program(doing: FenceStep, error: &ProgramError) -> Self {
        match program_errno(error) {
            Some(errno) => Self::from_errno(doing, errno),
            None => Self::NoAnswer { doing, cause: with_sources(error) },
        }
    }

    pub(super) fn of_tc(doing: FenceStep, error: &TcError) -> Self {
        match tc_errno(error) {
            Some(errno) => Self::from_errno(doing, errno),
            None => Self::NoAnswer { doing, cause: with_sources(error) },
        }
    }
}

fn map_errno(error: &MapError) -> Option<i32> {
    match error {
        MapError::CreateError { io_error, .. } | MapError::IoError(io_error) => {
            io_error.raw_os_error()
        }
        MapError::SyscallError(error) => error.io_error.raw_os_error(),
        _ => None,
    }
}

pub(super) fn program_errno(error: &ProgramError) -> Option<i32> {
    match error {
        ProgramError::TcError(error) => tc_errno(error),
        ProgramError::NetlinkError(error) => error.raw_os_error(),
        ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
        _ => None,
    }
}

pub(super) fn tc_errno(error: &TcError) -> Option<i32> {
    match error {
        TcError::NetlinkError(error) => error.raw_os_error(),
        TcError::IoError(error) => error.raw_os_error(),
        _ => None,
    }
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let source_text = source.to_string();
        // Some errors repeat their source in their own words.
        if !text.contains(&source_text) {
            text.push_str(": ");
            text.push_str(&source_text);
        }
        next = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_is_missing() {
        let eth0: DeviceName = "eth0".parse().unwrap();
        let error = FenceError::from_errno(FenceStep::Attach(eth0.clone()), libc::EPERM);
        assert!(error.to_string().contains("CAP_BPF and CAP_NET_ADMIN are needed"), "{error}");
        let error = FenceError::from_errno(FenceStep::AddQdisc(eth0.clone()), libc::ENOENT);
        assert!(error.to_string().contains("sch_ingress"), "{error}");
        let error = FenceError::from_errno(FenceStep::Attach(eth0.clone()), libc::ENODEV);
        assert_eq!(error, FenceError::NoDevice(eth0));
    }

    #[test]
    fn a_map_that_the_kernel_can_not_make_is_the_kernels_fault_unless_rights_are_missing() {
        let error = |errno| {
            FenceError::of_load(&EbpfError::MapError(MapError::CreateError {
                name: "slots".to_owned(),
                io_error: io::Error::from_raw_os_error(errno),
            }))
        };
        assert!(matches!(error(libc::EPERM), FenceError::NotPermitted { .. }));
        // BPF_F_MMAPABLE is unknown before Linux 5.5.
        let old = error(libc::EINVAL);
        assert!(matches!(old, FenceError::UnfitKernel { .. }), "{old:?}");
        assert!(old.to_string().contains("`slots`: Invalid argument"), "{old}");
    }
}
