//! The only place that calls the dataplane: one thread for IPVS services, one for addresses, one
//! for questions to the network, so that none of these delays a VIP that must go.
//!
//! The first two are level-triggered. They take the newest goal, however many were missed, compare it with
//! the kernel, act, and report what the kernel holds afterwards. They also look by themselves
//! every so often, so a table changed by hand comes right again. Tests: `reconcile/tests/`.

use std::io;
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quorate_dataplane::watch::Watch;
use quorate_dataplane::{Dataplane, DataplaneError};
use quorate_model::director::Event;
use tokio::sync::mpsc;
use tracing::warn;

mod addresses;
mod left_over;
mod list;
mod purge;
mod questions;
mod routing;
mod rules;
mod services;
mod sync;
#[cfg(test)]
mod tests;

pub(crate) use addresses::{AddressThread, Slots};
pub use left_over::LeftOverError;
pub(crate) use left_over::{recall, remove_left_over};
pub use list::ListError;
pub(crate) use purge::{PurgeError, Purged, listed_addresses, purge, standing};
pub(crate) use questions::QuestionThread;
pub(crate) use routing::remove_routing;
pub(crate) use services::ServiceThread;

/// Makes a dataplane in the thread that will use it.
pub(crate) type MakeDataplane =
    Box<dyn FnOnce() -> Result<Box<dyn Dataplane>, DataplaneError> + Send>;

/// Where the threads' events go: the director loop's bounded queue.
pub(crate) type Events = mpsc::Sender<Event>;

/// A place for what a thread shall do next: writers change it, the thread takes it.
#[derive(Debug, Default)]
pub(crate) struct Mailbox<T> {
    content: Mutex<T>,
    changed: Condvar,
}

impl<T> Mailbox<T> {
    fn lock(&self) -> MutexGuard<'_, T> {
        // A panic ends the daemon, so a poisoned lock is never met; its content would be whole.
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the content and wakes the thread.
    pub(crate) fn put(&self, change: impl FnOnce(&mut T)) {
        change(&mut self.lock());
        self.changed.notify_one();
    }

    /// Waits until `take` finds something, `wait` at most.
    pub(crate) fn take<U>(
        &self,
        wait: Duration,
        mut take: impl FnMut(&mut T) -> Option<U>,
    ) -> Option<U> {
        let mut guard = self.lock();
        if let Some(taken) = take(&mut guard) {
            return Some(taken);
        }
        let (mut guard, _) =
            self.changed.wait_timeout(guard, wait).unwrap_or_else(PoisonError::into_inner);
        take(&mut guard)
    }
}

/// How long the watch sleeps at a stretch: only to see that the daemon ends.
const WATCH_LIMIT: Duration = Duration::from_secs(1);
/// From one word of the kernel to the next: whoever changes devices by the hundred does not keep
/// the address thread from all else.
const WATCH_GAP: Duration = Duration::from_millis(5);

/// From one look at the packet filter to the next, where somebody changes it all the time.
const FILTER_GAP: Duration = Duration::from_millis(200);

/// Starts the thread that has the address thread look whenever the kernel says that a device, an
/// address or a filter changed: a removed filter is put back at once, a lost device is told at once.
/// Without it the thread looks by itself every half second.
pub(crate) fn watch_kernel(addresses: AddressThread, events: Events) {
    let what = "the kernel's changes";
    listen("kernel-watch", what, Watch::open(), WATCH_GAP, events, move || addresses.look());
}

/// Starts the thread that has the services thread look whenever the kernel says that the packet filter
/// changed: who flushes it, as the usual boot file does, takes the firewall marks along. Without it the
/// services thread looks by itself, twice a minute.
pub(crate) fn watch_filter(services: ServiceThread, events: Events) {
    let (what, watch) = ("changes of the packet filter", Watch::packet_filter());
    listen("filter-watch", what, watch, FILTER_GAP, events, move || services.filter_changed());
}

/// Starts a thread of this name that calls `heard` whenever the kernel says that something changed,
/// until the daemon ends; what it can't hear is only seen late.
fn listen(
    thread: &str,
    what: &'static str,
    watch: io::Result<Watch>,
    gap: Duration,
    events: Events,
    heard: impl Fn() + Send + 'static,
) {
    let watch = match watch {
        Ok(watch) => watch,
        Err(error) => return warn!(%error, "{what} are seen late: no socket to hear of them"),
    };
    let work = move || {
        while !events.is_closed() {
            match watch.wait(WATCH_LIMIT) {
                Ok(true) => {
                    heard();
                    std::thread::sleep(gap);
                }
                Ok(false) => {}
                Err(error) => return warn!(%error, "{what} are seen late from now on"),
            }
        }
    };
    if let Err(error) = std::thread::Builder::new().name(thread.to_owned()).spawn(work) {
        warn!(%error, "{what} are seen late: no thread to hear of them");
    }
}

/// The file in the data directory that lists the VIPs this node ever put into its kernel.
pub(crate) fn vip_list(data_dir: &Path) -> std::path::PathBuf {
    data_dir.join("vips")
}

/// The file in the data directory that lists the routes and policy rules of this node that may stand in its kernel.
pub(crate) fn routing_list(data_dir: &Path) -> std::path::PathBuf {
    data_dir.join("routing")
}

/// The file in the data directory that says how the sync daemons of IPVS were started.
pub(crate) fn sync_list(data_dir: &Path) -> std::path::PathBuf {
    data_dir.join("sync")
}

/// The file in the data directory that lists the services this node ever put into its kernel.
pub(crate) fn service_list(data_dir: &Path) -> std::path::PathBuf {
    data_dir.join("services")
}
