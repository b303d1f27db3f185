//! The journal: what happened on this node's watch, the newest events in memory, for the API, the FIFO
//! and the hooks.
//!
//! The renewal thread only puts an occurrence into a bounded queue, and waits for nothing. A task numbers
//! them, keeps as many as the bounds allow, and logs each. Who reads does so at its own pace from its own
//! place: what has left the ring by then it has missed, and is told how much. Tests: `journal/tests.rs`.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use quorate_api::v1::Event;
use quorate_model::command::UnixMillis;
use quorate_model::occurrence::{Kind, Occurrence, Told};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tracing::{info, warn};

use crate::api::status::rfc3339;
use crate::clock;

#[cfg(test)]
mod tests;

/// Occurrences that may wait to be written down; those past it are counted, and that is told.
const QUEUE_MAX: usize = 4_096;
/// Events that are kept.
const EVENTS_MAX: usize = 10_000;
/// Bytes that they may have together.
const BYTES_MAX: usize = 8 << 20;
/// Clients of the API that may read at once.
const CLIENTS_MAX: usize = 64;
/// Longest reason: what a server answered may stand in one, and a line of JSON has to go into a FIFO
/// whole.
const REASON_BYTES_MAX: usize = 400;

/// An event of the journal.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) at: UnixMillis,
    pub(crate) event: Event,
    /// What the hooks go by; none of what the journal itself tells.
    pub(crate) told: Option<Told>,
}

/// Where occurrences are told. Cheap to clone; never waits.
#[derive(Debug, Clone)]
pub(crate) struct Teller {
    queue: mpsc::Sender<Waiting>,
    dropped: Arc<AtomicU64>,
}

/// What waits for the task that writes it down.
#[derive(Debug)]
enum Waiting {
    Told(UnixMillis, Box<Told>),
    /// All that was told before this is written down: the sequence that comes next.
    Flush(oneshot::Sender<u64>),
}

impl Teller {
    /// Has these written down, or counts them as lost where too many wait.
    pub(crate) fn tell(&self, told: impl IntoIterator<Item = Told>) {
        let at = clock::wall();
        for told in told {
            if self.queue.try_send(Waiting::Told(at, Box::new(told))).is_err() {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Waits until all that was told so far is written down; gives the sequence that comes next.
    pub(crate) async fn flush(&self) -> Option<u64> {
        let (answer, flushed) = oneshot::channel();
        self.queue.send(Waiting::Flush(answer)).await.ok()?;
        flushed.await.ok()
    }
}

/// The journal. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Journal {
    ring: Arc<Mutex<Ring>>,
    /// The sequence that the next event gets.
    next: watch::Sender<u64>,
    clients: Arc<Semaphore>,
}

#[derive(Debug)]
struct Ring {
    entries: VecDeque<Arc<Entry>>,
    bytes: usize,
    /// The first sequence of this daemon.
    began: u64,
    next: u64,
}

impl Journal {
    /// An empty journal of the node of this name, and where to tell it something. It ends with the last
    /// teller.
    pub(crate) fn start(node: &str) -> (Self, Teller) {
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        let teller = Teller { queue, dropped: Arc::default() };
        // Above those of the daemon before, so that who follows knows where it was.
        let journal = Self::new(clock::wall().0);
        let dropped = Arc::clone(&teller.dropped);
        tokio::spawn(keep(journal.clone(), node.to_owned(), waiting, dropped));
        (journal, teller)
    }

    fn new(first: u64) -> Self {
        let ring = Ring { entries: VecDeque::new(), bytes: 0, began: first, next: first };
        let clients = Arc::new(Semaphore::new(CLIENTS_MAX));
        Self { ring: Arc::new(Mutex::new(ring)), next: watch::Sender::new(first), clients }
    }

    /// Someone who reads all that is kept, and what follows.
    pub(crate) fn reader(&self) -> Reader {
        let news = self.next.subscribe();
        let next = self.with(|ring| ring.first());
        Reader { journal: self.clone(), next, news }
    }

    /// Someone who reads what follows.
    pub(crate) fn follower(&self) -> Reader {
        let next = self.with(|ring| ring.next);
        Reader { next, ..self.reader() }
    }

    /// Someone who reads what follows the event of this sequence. One that this journal does not reach
    /// back to, or that it has not come to, is no place in it: all that is kept follows.
    pub(crate) fn reader_after(&self, sequence: u64) -> Reader {
        let next = sequence.saturating_add(1);
        let known = self.with(|ring| next <= ring.next);
        if known { Reader { next, ..self.reader() } } else { self.reader() }
    }

    /// A place for one more client of the API, unless there are too many.
    pub(crate) fn place_for_client(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.clients).try_acquire_owned().ok()
    }

    fn with<T>(&self, act: impl FnOnce(&mut Ring) -> T) -> T {
        act(&mut self.ring.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn push(&self, at: UnixMillis, mut event: Event, told: Option<Told>) {
        let next = self.with(|ring| {
            event.sequence = ring.next;
            event.time = rfc3339(at);
            ring.next += 1;
            ring.push(Arc::new(Entry { at, event, told }));
            ring.next
        });
        self.next.send_replace(next);
    }
}

impl Ring {
    fn first(&self) -> u64 {
        self.entries.front().map_or(self.next, |entry| entry.event.sequence)
    }

    fn push(&mut self, entry: Arc<Entry>) {
        self.bytes += size(&entry);
        self.entries.push_back(entry);
        while self.entries.len() > EVENTS_MAX || self.bytes > BYTES_MAX {
            let Some(gone) = self.entries.pop_front() else { return };
            self.bytes -= size(&gone);
        }
    }
}

/// How much memory an entry takes, about.
fn size(entry: &Entry) -> usize {
    let Event { group, service, owner, previous_owner, reason, subject, .. } = &entry.event;
    let texts = [group, service, owner, previous_owner, subject];
    let texts: usize = texts.into_iter().flatten().map(String::len).sum();
    // The reason stands in what was told, too.
    size_of::<Entry>() + texts + 2 * reason.len()
}

/// Reads a journal at its own pace.
#[derive(Debug)]
pub(crate) struct Reader {
    journal: Journal,
    next: u64,
    news: watch::Receiver<u64>,
}

/// What a reader took.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// How many events have left the ring before it came to them.
    pub(crate) missed: u64,
    /// Whether others are missing too, nobody knows how many: of a daemon before this one.
    pub(crate) earlier: bool,
    /// What follows them.
    pub(crate) entries: Vec<Arc<Entry>>,
}

impl Reader {
    /// What comes next, at most so many. Waits for nothing.
    pub(crate) fn take(&mut self, most: usize) -> Taken {
        let next = self.next;
        self.journal.with(|ring| {
            let first = ring.first();
            let missed = first.saturating_sub(next.max(ring.began));
            let skip = usize::try_from(next.saturating_sub(first)).unwrap_or(usize::MAX);
            let entries: Vec<_> = ring.entries.iter().skip(skip).take(most).cloned().collect();
            self.next = next.max(first) + u64::try_from(entries.len()).unwrap_or(u64::MAX);
            Taken { missed, earlier: next < ring.began, entries }
        })
    }

    /// The sequence of what it takes next.
    pub(crate) fn place(&self) -> u64 {
        self.next
    }

    /// Waits until there is something to take; `false` once there never will be.
    pub(crate) async fn wait(&mut self) -> bool {
        let next = self.next;
        self.news.wait_for(|known| *known > next).await.is_ok()
    }
}

/// Writes down what is told, until nobody tells any more.
async fn keep(
    journal: Journal,
    node: String,
    mut waiting: mpsc::Receiver<Waiting>,
    dropped: Arc<AtomicU64>,
) {
    while let Some(waiting) = waiting.recv().await {
        let (at, told) = match waiting {
            Waiting::Told(at, told) => (at, told),
            Waiting::Flush(answer) => {
                // The asker may have given up.
                let _ = answer.send(journal.with(|ring| ring.next));
                continue;
            }
        };
        let Occurrence { kind, reason, .. } = &told.occurrence;
        let event = event(&node, &told.occurrence);
        match kind {
            // Whoever tells it has logged it.
            Kind::HookFailed => {}
            kind => info!(
                event = kind.word(),
                group = event.group,
                service = event.service,
                real_server = event.real_server,
                owner = event.owner,
                epoch = event.epoch,
                subject = event.subject,
                reason,
                "event"
            ),
        }
        journal.push(at, event, Some(*told));
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            warn!(lost, "events were lost: more happened at once than could be written down");
            journal.push(at, missing(&node, lost), None);
        }
    }
}

/// The event that so many others are missing.
pub(crate) fn missing(node: &str, lost: u64) -> Event {
    let reason = "more happened than could be kept or taken".to_owned();
    let occurrence = Occurrence::new(Kind::EventsLost, reason);
    Event { lost: Some(lost), ..event(node, &occurrence) }
}

/// The event that others are missing which a daemon before this one told.
pub(crate) fn missing_earlier(node: &str) -> Event {
    let reason =
        "the daemon was started again: what it told before, and how much, is only in its log";
    event(node, &Occurrence::new(Kind::EventsLost, reason.to_owned()))
}

fn event(node: &str, occurrence: &Occurrence) -> Event {
    let Occurrence { kind, reason, .. } = occurrence;
    let mut end = reason.len().min(REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let text = |name: &dyn std::fmt::Display| name.to_string();
    Event {
        node: node.to_owned(),
        kind: kind.word().to_owned(),
        group: occurrence.group.as_ref().map(|group| text(group)),
        service: occurrence.service.as_ref().map(|service| text(service)),
        real_server: occurrence.real_server.as_ref().map(|server| text(server)),
        owner: occurrence.owner.clone(),
        previous_owner: occurrence.previous_owner.clone(),
        epoch: occurrence.epoch.map(|epoch| epoch.0),
        revision: occurrence.revision.0,
        weight: occurrence.weight,
        subject: occurrence.subject.clone(),
        gap_ms: occurrence.gap.map(|gap| u64::try_from(gap.as_millis()).unwrap_or(u64::MAX)),
        // What a server answered may stand in it: no line break, no NUL, which no environment takes.
        reason: reason.get(..end).unwrap_or_default().replace(char::is_control, " "),
        ..Event::default()
    }
}
