//! The writer thread: it syncs, and then says so, in the order in which it was asked.
//!
//! Raft's changes are made where they arise, so that they can be read at once; this thread makes them
//! durable, many with one fsync. A voter's promises are read at the next start only, and come from the
//! thread that renews, which must not wait for a disk: they are written here too. After a failed sync
//! nobody knows what is on disk: everything that waits fails, and the process must end.

use std::io;
use std::sync::Arc;
use std::thread;

use openraft::storage::IOFlushed;
use tokio::sync::{mpsc, oneshot};

use super::database::{Database, Name};
use super::{Fatal, FatalSender};
use crate::raft::types::TypeConfig;

/// Syncs that may wait; Raft itself keeps far fewer under way.
const QUEUE: usize = 4096;

/// Who is told that everything written before is on disk.
pub(crate) enum Completion {
    /// Raft's log.
    Raft(IOFlushed<TypeConfig>),
    /// Somebody who waits.
    Tell(oneshot::Sender<Result<(), Fatal>>),
}

impl Completion {
    fn complete(self, result: Result<(), &Fatal>) {
        match self {
            Self::Raft(callback) => {
                callback.io_completed(result.map_err(|fatal| io::Error::other(fatal.clone())));
            }
            Self::Tell(sender) => {
                let _ = sender.send(result.map_err(Clone::clone));
            }
        }
    }
}

/// What the thread is asked for.
struct Job {
    /// To be written before the sync.
    put: Option<(Name, Vec<u8>)>,
    completion: Completion,
}

/// The way to the writer thread, which ends when the last of these is gone.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    queue: mpsc::Sender<Job>,
    fatal: FatalSender,
    /// Dropped after `queue`: the last one waits for the thread, so what it holds is free then.
    _thread: Arc<Joined>,
}

#[derive(Debug)]
struct Joined(Option<thread::JoinHandle<()>>);

impl Drop for Joined {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            // A panic there has ended the process already.
            let _ = thread.join();
        }
    }
}

impl Writer {
    pub(crate) fn start(database: Database, fatal: FatalSender) -> io::Result<Self> {
        let (queue, receiver) = mpsc::channel(QUEUE);
        let sender = fatal.clone();
        let thread = thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || run(&database, receiver, &sender))?;
        Ok(Self { queue, fatal, _thread: Arc::new(Joined(Some(thread))) })
    }

    /// Asks for a sync. It never blocks: a queue this full means that the disk has stopped.
    pub(crate) fn sync(&self, completion: Completion) {
        self.ask(Job { put: None, completion });
    }

    /// Asks for a record to be written, and a sync. It never blocks either.
    pub(crate) fn put(&self, name: Name, bytes: Vec<u8>, completion: Completion) {
        self.ask(Job { put: Some((name, bytes)), completion });
    }

    fn ask(&self, job: Job) {
        let (job, what) = match self.queue.try_send(job) {
            Ok(()) => return,
            Err(mpsc::error::TrySendError::Full(job)) => (job, "the disk does not keep up"),
            Err(mpsc::error::TrySendError::Closed(job)) => (job, "the writer has stopped"),
        };
        self.fatal.tell(what);
        job.completion.complete(Err(&Fatal(what.into())));
    }
}

fn run(database: &Database, mut queue: mpsc::Receiver<Job>, fatal: &FatalSender) {
    let mut waiting = Vec::new();
    while queue.blocking_recv_many(&mut waiting, QUEUE) > 0 {
        match write(database, &mut waiting) {
            Ok(()) => waiting.drain(..).for_each(|job| job.completion.complete(Ok(()))),
            Err(cause) => {
                let error = Fatal(format!("the database can't be written: {cause}").into());
                fatal.tell(&error.0);
                waiting.drain(..).for_each(|job| job.completion.complete(Err(&error)));
                return;
            }
        }
    }
}

fn write(database: &Database, jobs: &mut [Job]) -> io::Result<()> {
    for (name, bytes) in jobs.iter_mut().filter_map(|job| job.put.take()) {
        database.put(name, &bytes)?;
    }
    database.sync()
}
