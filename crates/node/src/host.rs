//! One director in a network namespace: two would take each other's fence off. A name in the
//! namespace says that there is one; the kernel takes it away with the process. Tests: below.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Abstract names (unix(7)) belong to the network namespace, as filters and addresses do.
const NAME: &str = "quorate-director";

/// Held for as long as this process may change the namespace's fence.
#[derive(Debug)]
pub(crate) struct HostLock {
    _socket: UnixDatagram,
}

/// Why the namespace is not ours.
#[derive(Debug, thiserror::Error)]
pub enum HostLockError {
    /// Another has it.
    #[error(
        "another director runs in this network namespace, or is just being released or purged \
         (`ss -xap | grep @{NAME}` tells which process): one kernel carries one director's VIPs; \
         stop that one first, or give this one a network namespace of its own. Witnesses may be many"
    )]
    Taken,
    /// The system refuses the name.
    #[error("cannot claim this network namespace (socket @{NAME}): {0}")]
    System(#[from] io::Error),
}

impl HostLock {
    /// Takes the calling thread's network namespace.
    ///
    /// # Errors
    ///
    /// If another process has it.
    pub(crate) fn take() -> Result<Self, HostLockError> {
        Self::take_named(NAME)
    }

    fn take_named(name: &str) -> Result<Self, HostLockError> {
        let address = SocketAddr::from_abstract_name(name)?;
        match UnixDatagram::bind_addr(&address) {
            Ok(socket) => Ok(Self { _socket: socket }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(HostLockError::Taken),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_the_next_once_it_is_gone() {
        let name = format!("quorate-director-test-{}", std::process::id());
        let first = HostLock::take_named(&name).unwrap();
        assert!(matches!(HostLock::take_named(&name), Err(HostLockError::Taken)));
        drop(first);
        HostLock::take_named(&name).unwrap();
    }
}
