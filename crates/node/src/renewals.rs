//! The thread and runtime of its own on which the director loop and the connections of its
//! datagrams run: renewals go out, acks come in and deadlines are stored to the fence whatever Raft,
//! the disk, probes or a slow reconcile do.
//!
//! It has real-time priority where that is allowed, and the process's memory stays in; where not,
//! the log and the metrics say so. Nothing that blocks may run here. Its rules are tested below.

use std::future::Future;
use std::io;

use quorate_dataplane::scheduling;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tracing::warn;

use crate::thread::Thread;

/// What the thread could not get, with the reason; nothing where it has everything.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lacks {
    /// Memory that stays in.
    pub(crate) memory: Option<String>,
    /// Real-time priority.
    pub(crate) priority: Option<String>,
}

/// The running thread; it ends when the last clone is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Renewals {
    thread: Thread,
    lacks: watch::Receiver<Lacks>,
}

impl Renewals {
    /// Starts the thread.
    ///
    /// # Errors
    /// Where the system gives no thread or runtime.
    pub(crate) fn start() -> io::Result<Self> {
        let (told, lacks) = watch::channel(Lacks::default());
        let prepare = move || {
            let lacking = Lacks {
                memory: scheduling::lock_memory().err(),
                priority: scheduling::prioritise().err(),
            };
            for lack in [&lacking.memory, &lacking.priority].into_iter().flatten() {
                warn!("the renewal thread may be held up under load: {lack}");
            }
            told.send_replace(lacking);
        };
        Ok(Self { thread: Thread::start("renewals", prepare)?, lacks })
    }

    /// The runtime, for what brings tasks of its own.
    pub(crate) fn handle(&self) -> Handle {
        self.thread.handle()
    }

    /// What the thread could not get.
    pub(crate) fn lacks(&self) -> Lacks {
        self.lacks.borrow().clone()
    }

    /// Runs a task on the thread.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.thread.spawn(task);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_task_runs_on_the_thread_of_renewals_and_ends_with_it() {
        let renewals = Renewals::start().unwrap();
        let (answer, name) = oneshot::channel();
        let (held, dropped) = oneshot::channel::<()>();
        renewals.spawn(async move {
            let name = std::thread::current().name().map(str::to_owned);
            answer.send(name).unwrap();
            std::future::pending::<()>().await;
            drop(held);
        });
        assert_eq!(name.await.unwrap().as_deref(), Some("renewals"));
        drop(renewals);
        assert!(dropped.await.is_err());
    }

    #[tokio::test]
    async fn a_busy_main_runtime_does_not_hold_the_thread_up() {
        let renewals = Renewals::start().unwrap();
        let (answer, done) = std::sync::mpsc::sync_channel(1);
        renewals.spawn(async move {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            answer.send(()).unwrap();
        });
        // This blocks the only thread of this test's runtime.
        done.recv().unwrap();
    }
}
