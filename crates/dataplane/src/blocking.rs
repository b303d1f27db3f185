//! A runtime of one thread that drives a netlink connection while a blocking call waits for its
//! answer. Owns how that runtime ends; knows nothing of what is asked. Tests: below.

use std::future::Future;
use std::io;

use tokio::runtime::Runtime;

/// Such a runtime.
///
/// A daemon that is refused at its start drops it on a thread of its own runtime, where tokio panics
/// on a runtime that waits for its threads to end. This one has none to wait for.
#[derive(Debug)]
pub(crate) struct Blocking {
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
}

impl Blocking {
    /// Makes the runtime, and something in its context.
    pub(crate) fn new<T>(make: impl FnOnce(&Runtime) -> io::Result<T>) -> io::Result<(Self, T)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let made = {
            let _context = runtime.enter();
            make(&runtime)?
        };
        Ok((Self { runtime: Some(runtime) }, made))
    }

    /// Waits; `None` while it is dropped. Must not be called from a task of an async runtime.
    pub(crate) fn wait<T>(&self, answer: impl Future<Output = T>) -> Option<T> {
        Some(self.runtime.as_ref()?.block_on(answer))
    }
}

impl Drop for Blocking {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_may_be_dropped_by_a_task_of_another_runtime() {
        let (blocking, _) = Blocking::new(|_| Ok(())).unwrap();
        let other = tokio::runtime::Builder::new_current_thread().build().unwrap();
        other.block_on(async move { drop(blocking) });
    }
}
