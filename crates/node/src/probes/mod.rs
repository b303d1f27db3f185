//! Probing real servers: one task for each target, started and ended as the director says. All run on one
//! thread: ten thousand short tasks would wake one worker after the other, which costs more than they do.
//!
//! What an outcome means is decided by `quorate_model::probe`; only verdicts leave this module.
//! `connect` makes connections from where the check says, `http` and `grpc` ask over them, `tls` keeps
//! what TLS needs; `path` tries the way of clients' packets; `others` are the checks by UDP, DNS, ICMP
//! echo, SMTP, by a program and a file.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use quorate_model::director::Event;
use quorate_model::id::{DeviceName, InterfaceName};
use quorate_model::probe::{Outcome, Probe, ProbeTarget, begins, first_delay};
use quorate_model::silence;
use quorate_model::spec::CheckKind;
use quorate_model::time::Instant;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tracing::warn;

use crate::clock;
use crate::exec::Exec;
use crate::look::Look;
use crate::patience::Over;
use crate::tasks::Tasks;
use crate::thread::Thread;

mod connect;
mod grpc;
mod http;
mod others;
mod path;
#[cfg(test)]
mod tests;
mod tls;

/// Tries that may be under way at once.
const UNDER_WAY_MAX: usize = 2_048;
/// Tries over the way of clients' packets that may be under way at once: each holds a port.
const PATHS_MAX: usize = 4_096;
/// Programs that may run at once.
const PROGRAMS_MAX: usize = 64;
/// Files that may be read at once.
const LOOKS_MAX: usize = 64;
/// How often it is logged at most that a target can't be tried.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// What all probes share.
#[derive(Debug)]
struct Shared {
    /// The devices behind the cluster's interface names.
    devices: BTreeMap<InterfaceName, DeviceName>,
    under_way: Semaphore,
    programs: Semaphore,
    paths: (Semaphore, path::Paths),
    looks: Arc<Semaphore>,
    /// Of probes that wait for nothing to come.
    silences: Semaphore,
    tls: tls::Clients,
    patterns: http::Patterns,
    events: mpsc::Sender<Event>,
}

/// The running probes.
#[derive(Debug)]
pub(crate) struct Probes {
    running: Tasks<ProbeTarget>,
    shared: Arc<Shared>,
    /// Where they run, once there is one to run.
    thread: Option<Thread>,
}

impl Probes {
    /// No probes yet; verdicts will go to `events`.
    #[must_use]
    pub(crate) fn new(
        devices: BTreeMap<InterfaceName, DeviceName>,
        events: mpsc::Sender<Event>,
    ) -> Self {
        let shared = Shared {
            devices,
            under_way: Semaphore::new(UNDER_WAY_MAX),
            programs: Semaphore::new(PROGRAMS_MAX),
            paths: (Semaphore::new(PATHS_MAX), path::Paths::default()),
            looks: Arc::new(Semaphore::new(LOOKS_MAX)),
            silences: Semaphore::new(UNDER_WAY_MAX),
            tls: tls::Clients::default(),
            patterns: http::Patterns::default(),
            events,
        };
        Self { running: Tasks::default(), shared: Arc::new(shared), thread: None }
    }

    /// Probes these targets and no others; those that are probed already go on as they are.
    pub(crate) fn aim(&mut self, targets: &BTreeSet<ProbeTarget>) {
        if self.thread.is_none() && !targets.is_empty() {
            let started = Thread::start("probes", || {});
            self.thread = started
                .inspect_err(|error| warn!(%error, "probes cost more: no thread of their own"))
                .ok();
        }
        let (shared, thread) = (&self.shared, &self.thread);
        self.running.aim(targets, |target| {
            let probe = probe(target, Arc::clone(shared));
            thread.as_ref().map_or_else(Handle::current, Thread::handle).spawn(probe)
        });
    }
}

async fn probe(target: ProbeTarget, shared: Arc<Shared>) {
    let mut probe = Probe::new(Arc::clone(&target.check));
    let mut next = clock::now() + first_delay(&target);
    let mut told: Option<Instant> = None;
    // A run or a look that is not over yet is not begun again.
    let mut begun = Begun::default();
    let slots = match &target.check.kind {
        CheckKind::Exec(_) => &shared.programs,
        CheckKind::Udp(check) if check.reply.is_none() => &shared.silences,
        _ if target.through.is_some() => &shared.paths.0,
        _ => &shared.under_way,
    };
    loop {
        sleep_until(begins(next, target.check.interval)).await;
        let Ok(permit) = slots.acquire().await else { return };
        let started = clock::now();
        let outcome = Box::pin(attempt(&target, &shared, &mut begun)).await;
        drop(permit);
        let now = clock::now();
        if let Outcome::Untried(reason) = &outcome
            && told.is_none_or(|told| now.since(told) >= TOLD_EVERY)
        {
            warn!(address = %target.address, "can't be probed: {reason}");
            told = Some(now);
        }
        let blind = probe.note_tried(now, &outcome);
        let verdict;
        (next, verdict) = probe.finished(started, now, outcome);
        let verdict = verdict.map(|verdict| Event::Verdict(target.clone(), verdict));
        let blind = blind.map(|blind| Event::Blind(target.clone(), blind));
        for event in verdict.into_iter().chain(blind) {
            if shared.events.send(event).await.is_err() {
                return;
            }
        }
    }
}

/// Tries once.
async fn attempt(target: &ProbeTarget, shared: &Shared, begun: &mut Begun) -> Outcome {
    let place = match connect::Place::new(target, &shared.devices) {
        Ok(place) => place,
        Err(reason) => return Outcome::Untried(reason),
    };
    let timeout = target.check.timeout;
    // Each on the heap for as long as it runs, with the room that it needs: ten thousand that wait take
    // little, and a TCP connection does not pay for what HTTP needs.
    let tried = match &target.check.kind {
        CheckKind::Tcp if let Some(through) = target.through => {
            Box::pin(path::tcp(&shared.paths.1, through, &place, timeout)).await
        }
        CheckKind::Tcp => connect::tcp(&place, timeout).await.map(drop),
        CheckKind::Http(check) => {
            let patterns = (&shared.tls, &shared.patterns);
            Box::pin(http::ask(check, &place, timeout, patterns)).await
        }
        CheckKind::Grpc(check) => Box::pin(grpc::ask(check, &place, timeout, &shared.tls)).await,
        CheckKind::Udp(check) => Box::pin(others::udp(check, &place, timeout)).await,
        CheckKind::Dns(check) => Box::pin(others::dns(check, &place, timeout)).await,
        CheckKind::Ping => Box::pin(others::ping(&place, timeout)).await,
        CheckKind::Smtp { helo } => Box::pin(others::smtp(helo, &place, timeout)).await,
        CheckKind::Exec(check) => {
            let program = &mut begun.program;
            return Box::pin(others::exec(check, program, target.address, timeout)).await;
        }
        CheckKind::File(check) => {
            let look = &mut begun.look;
            return Box::pin(others::file(check, look, &shared.looks, timeout)).await;
        }
    };
    match tried {
        Ok(()) => Outcome::Passed,
        Err(Failure::Server(reason)) => Outcome::Failed(reason),
        Err(Failure::Here(reason)) => Outcome::Untried(reason),
    }
}

/// What tries leave under way.
#[derive(Default)]
struct Begun {
    program: Option<Exec>,
    look: Option<Look<String>>,
}

/// Why a try did not succeed.
#[derive(Debug, PartialEq, Eq)]
enum Failure {
    /// What the real server did, or the way to it.
    Server(String),
    /// This director could not try: that says nothing of the real server.
    Here(String),
}

impl Failure {
    /// Of a try whose time is over; the reason where the real server had it.
    fn over(over: Over, silent: impl FnOnce() -> String) -> Self {
        match over {
            Over::Silent => Self::Server(silent()),
            Over::Late(late) => Self::Here(silence::explained(late)),
        }
    }
}

/// Waits until a time of the lease clock.
pub(crate) async fn sleep_until(time: Instant) {
    let mut left = time.since(clock::now());
    // The runtime's timer stops in suspend, the lease clock doesn't: look again.
    while left > Duration::ZERO {
        tokio::time::sleep(left).await;
        left = time.since(clock::now());
    }
}
