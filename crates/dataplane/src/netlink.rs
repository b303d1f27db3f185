//! A connection to rtnetlink for blocking calls: a runtime of one thread drives it while a call waits
//! for its answer. Owns how long a call waits and how the runtime ends; knows nothing of what is asked.
//! Tests: below.

use std::fmt;
use std::future::Future;
use std::io;
use std::time::Duration;

use quorate_model::id::DeviceName;
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use rtnetlink::{Error as RouteError, Handle};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

/// No answer of rtnetlink takes long, but it may wait for another holder of RTNL.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection in one network namespace.
pub(crate) struct Connection {
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
    handle: Handle,
    driver: JoinHandle<()>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl Connection {
    /// Opens one in the calling thread's network namespace. No right is needed.
    pub(crate) fn open() -> io::Result<Self> {
        Self::with(rtnetlink::new_connection)
    }

    /// One by which the kernel dumps only what a request names (NETLINK_GET_STRICT_CHK), and refuses requests
    /// that name what it does not know.
    pub(crate) fn open_strict() -> io::Result<Self> {
        Self::with(rtnetlink::new_connection_with_strict_check)
    }

    fn with<S, M>(connect: impl FnOnce() -> io::Result<(S, Handle, M)>) -> io::Result<Self>
    where
        S: Future<Output = ()> + Send + 'static,
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (connection, handle, _no_groups) = {
            let _context = runtime.enter();
            connect()?
        };
        let driver = runtime.spawn(connection);
        Ok(Self { runtime: Some(runtime), handle, driver })
    }

    /// What makes requests.
    pub(crate) fn requests(&self) -> &Handle {
        &self.handle
    }

    /// Whether it has ended by itself, and every further request would fail.
    pub(crate) fn is_broken(&self) -> bool {
        self.driver.is_finished()
    }

    /// Waits for an answer; `None` if none comes within [`ANSWER_TIMEOUT`]. Must not be called from
    /// a task of an async runtime.
    pub(crate) fn wait<T>(
        &self,
        answer: impl Future<Output = Result<T, RouteError>>,
    ) -> Option<Result<T, RouteError>> {
        let answer = async { tokio::time::timeout(ANSWER_TIMEOUT, answer).await };
        self.runtime.as_ref()?.block_on(answer).ok()
    }
}

/// A daemon that is refused at its start drops this on a thread of its own runtime, where tokio panics
/// on a runtime that waits for its threads to end. This one has none to wait for.
impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The name of a device.
pub(crate) fn name(link: &LinkMessage) -> Option<DeviceName> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => name.parse().ok(),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_may_be_dropped_by_a_task_of_another_runtime() {
        let connection = Connection::open().unwrap();
        let other = tokio::runtime::Builder::new_current_thread().build().unwrap();
        other.block_on(async move { drop(connection) });
    }
}
