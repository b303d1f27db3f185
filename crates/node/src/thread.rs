//! A thread with a runtime of its own: what runs on it neither waits for the other threads nor wakes
//! them. Tests: those of `renewals`.

use std::future::Future;
use std::io;
use std::sync::Arc;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// The running thread; it ends when the last clone is dropped, and its tasks with it.
#[derive(Debug, Clone)]
pub(crate) struct Thread {
    handle: Handle,
    /// Dropped with the last clone, which ends the thread.
    _end: Arc<oneshot::Sender<()>>,
}

impl Thread {
    /// Starts a thread of this name, which does `first` before anything else.
    ///
    /// # Errors
    /// Where the system gives no thread or runtime.
    pub(crate) fn start(name: &str, first: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel::<()>();
        let work = move || {
            first();
            // An error says that the other end is gone, which is what is waited for.
            let _ = runtime.block_on(ended);
            runtime.shutdown_background();
        };
        std::thread::Builder::new().name(name.to_owned()).spawn(work)?;
        Ok(Self { handle, _end: Arc::new(end) })
    }

    /// The runtime, for what brings tasks of its own.
    pub(crate) fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Runs a task on the thread.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.handle.spawn(task);
    }
}
