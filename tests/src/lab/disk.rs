//! Whether the machine's disk stands still: a thread that syncs a file each second. Where it does,
//! nobody commits anything, and what a soak finds missing then is no fault of the daemons.

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::LabError;
use super::clock::Stopwatch;

const SYNC_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
struct Times {
    longest: Duration,
    under_way: Option<Stopwatch>,
}

/// Syncs until it is dropped.
#[derive(Debug)]
pub struct DiskWatch {
    times: Arc<Mutex<Times>>,
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

fn locked(times: &Mutex<Times>) -> MutexGuard<'_, Times> {
    times.lock().unwrap_or_else(PoisonError::into_inner)
}

impl DiskWatch {
    /// Watches the disk under a folder.
    ///
    /// # Errors
    /// When there can be no file in it.
    pub fn start(folder: &Path) -> Result<Self, LabError> {
        std::fs::create_dir_all(folder).map_err(LabError::io("make a folder for the watch"))?;
        let path = folder.join("disk-watch");
        let mut file = File::create(&path).map_err(LabError::io("make a file for the watch"))?;
        let times = Arc::new(Mutex::new(Times::default()));
        let (stop, stopped) = sync_channel(0);
        let shared = Arc::clone(&times);
        let thread = std::thread::spawn(move || {
            while stopped.recv_timeout(SYNC_EVERY) == Err(RecvTimeoutError::Timeout) {
                locked(&shared).under_way = Some(Stopwatch::start());
                // A disk that fails shows in the daemons.
                let _ = file
                    .rewind()
                    .and_then(|()| file.write_all(b"1"))
                    .and_then(|()| file.sync_data());
                let mut times = locked(&shared);
                let took = times.under_way.take().map_or(Duration::ZERO, |watch| watch.elapsed());
                times.longest = times.longest.max(took);
            }
        });
        Ok(Self { times, stop: Some(stop), thread: Some(thread) })
    }

    /// The longest sync since this was asked last, one that is under way included.
    #[must_use]
    pub fn take(&self) -> Duration {
        let mut times = locked(&self.times);
        let now = times.under_way.as_ref().map_or(Duration::ZERO, Stopwatch::elapsed);
        std::mem::take(&mut times.longest).max(now)
    }
}

impl Drop for DiskWatch {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It can't panic, and nothing hangs on it.
            let _ = thread.join();
        }
    }
}
