//! Hooks: programs of the cluster's configuration that are run when something happened (`model` says
//! which, and on whom). Each hook has a queue of its own and runs one after another; a few run at once
//! in all; each is killed with its children when its time is over. Nothing else waits for them.
//!
//! Tests: `hooks/tests.rs`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quorate_api::event::json_line;
use quorate_api::v1::Event;
use quorate_model::id::HookName;
use quorate_model::occurrence::{Kind, Occurrence, Told};
use quorate_model::spec::Hook;
use quorate_model::state::ClusterState;
use quorate_model::time::Instant;
use tokio::sync::{Notify, Semaphore, watch};
use tracing::{info, warn};

use crate::clock;
use crate::exec::Exec;
use crate::journal::{Entry, Reader, Teller};

#[cfg(test)]
mod tests;

/// Runs of one hook that may wait; of more the oldest is dropped.
pub(crate) const PENDING_MAX: usize = 100;
/// Hooks that may run at once.
pub(crate) const RUNNING_MAX: usize = 8;
/// Events that are handed out at a time.
const TAKEN_MAX: usize = 256;
/// For how long `status` names runs that were dropped.
const DROPPED_SHOWN: Duration = Duration::from_secs(3600);

/// The running hooks. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Hooks {
    runners: Arc<Mutex<BTreeMap<HookName, Arc<Runner>>>>,
    common: Arc<Common>,
    /// Up to which event of the journal hooks have been given what concerns them.
    attended: watch::Receiver<u64>,
}

/// What all hooks of a node share.
#[derive(Debug)]
struct Common {
    teller: Teller,
    places: Semaphore,
    /// Told whenever a run has ended.
    ended: Notify,
}

/// One hook: what waits for it, and how it fared.
#[derive(Debug)]
struct Runner {
    name: HookName,
    state: Mutex<RunnerState>,
    news: Notify,
}

#[derive(Debug)]
struct RunnerState {
    hook: Hook,
    pending: VecDeque<Arc<Entry>>,
    /// How many were dropped lately, and when the last was.
    dropped: Option<(u64, Instant)>,
    /// Why the last run failed, if it did.
    failed: Option<String>,
    running: bool,
    /// The configuration has it no more.
    gone: bool,
}

impl Hooks {
    /// Runs the hooks of the configuration in force for what the journal says, from now on.
    pub(crate) fn start(
        journal: Reader,
        state: watch::Receiver<Arc<ClusterState>>,
        teller: Teller,
    ) -> Self {
        let (place, attended) = watch::channel(journal.place());
        let (places, ended) = (Semaphore::new(RUNNING_MAX), Notify::new());
        let common = Arc::new(Common { teller, places, ended });
        let hooks = Self { runners: Arc::default(), common, attended };
        tokio::spawn(hooks.clone().attend(journal, state, place));
        hooks
    }

    async fn attend(
        self,
        mut journal: Reader,
        state: watch::Receiver<Arc<ClusterState>>,
        place: watch::Sender<u64>,
    ) {
        while journal.wait().await {
            let taken = journal.take(TAKEN_MAX);
            if taken.missed > 0 {
                warn!(missed = taken.missed, "no hook was run for events that came too fast");
            }
            // A hook that is taken out is not run any more, and one that is changed runs as it now is.
            let spec = Arc::clone(&state.borrow().spec);
            self.with(|runners| {
                runners.retain(|name, runner| {
                    let kept = spec.hooks.contains_key(name);
                    if !kept {
                        runner.end();
                    }
                    kept
                });
                for (name, hook) in &spec.hooks {
                    let wanted =
                        |entry: &&Arc<Entry>| entry.told.as_ref().is_some_and(|t| hook.wants(t));
                    let mut wanted = taken.entries.iter().filter(wanted).peekable();
                    if wanted.peek().is_none() && !runners.contains_key(name) {
                        continue;
                    }
                    let start = || Runner::start(name, hook, Arc::clone(&self.common));
                    let runner = runners.entry(name.clone()).or_insert_with(start);
                    runner.take(hook, wanted.cloned());
                }
            });
            place.send_replace(journal.place());
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut BTreeMap<HookName, Arc<Runner>>) -> T) -> T {
        act(&mut self.runners.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What an operator should know of them.
    pub(crate) fn problems(&self) -> Vec<String> {
        let now = clock::now();
        let runners: Vec<Arc<Runner>> = self.with(|runners| runners.values().cloned().collect());
        runners.iter().flat_map(|runner| runner.problems(now)).collect()
    }

    /// Waits until all that was told so far has been acted on.
    pub(crate) async fn settle(&self) {
        let Some(told) = self.common.teller.flush().await else { return };
        let mut attended = self.attended.clone();
        if attended.wait_for(|at| *at >= told).await.is_err() {
            return;
        }
        loop {
            let ended = self.common.ended.notified();
            let runners: Vec<Arc<Runner>> =
                self.with(|runners| runners.values().cloned().collect());
            let busy = |runner: &Arc<Runner>| {
                runner.with(|state| state.running || !state.pending.is_empty())
            };
            if !runners.iter().any(busy) {
                return;
            }
            ended.await;
        }
    }
}

impl Runner {
    fn start(name: &HookName, hook: &Hook, common: Arc<Common>) -> Arc<Self> {
        let state = RunnerState {
            hook: hook.clone(),
            pending: VecDeque::new(),
            dropped: None,
            failed: None,
            running: false,
            gone: false,
        };
        let runner =
            Arc::new(Self { name: name.clone(), state: Mutex::new(state), news: Notify::new() });
        tokio::spawn(run(Arc::clone(&runner), common));
        runner
    }

    /// It is run no more; a run that is under way goes on to its end.
    fn end(&self) {
        self.with(|state| {
            state.pending.clear();
            state.gone = true;
        });
        self.news.notify_one();
    }

    fn with<T>(&self, act: impl FnOnce(&mut RunnerState) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes what it is to be run for.
    fn take(&self, hook: &Hook, entries: impl Iterator<Item = Arc<Entry>>) {
        let dropped = self.with(|state| {
            if state.hook != *hook {
                state.hook = hook.clone();
                state.failed = None;
            }
            state.pending.extend(entries);
            let over = state.pending.len().saturating_sub(PENDING_MAX);
            state.pending.drain(..over);
            let over = u64::try_from(over).unwrap_or(u64::MAX);
            if over > 0 {
                let before = state.dropped.map_or(0, |(count, _)| count);
                state.dropped = Some((before + over, clock::now()));
            }
            over
        });
        if dropped > 0 {
            warn!(hook = %self.name, dropped, "runs of a hook were dropped: {PENDING_MAX} wait");
        }
        self.news.notify_one();
    }

    fn problems(&self, now: Instant) -> Vec<String> {
        self.with(|state| {
            state.dropped.take_if(|(_, at)| now.since(*at) > DROPPED_SHOWN);
            let dropped = state.dropped.map(|(count, _)| {
                format!(
                    "hook {}: {count} runs were dropped, the oldest first: at most {PENDING_MAX} wait",
                    self.name
                )
            });
            let failed = state.failed.as_ref();
            let failed = failed.map(|reason| format!("hook {} failed: {reason}", self.name));
            dropped.into_iter().chain(failed).collect()
        })
    }
}

/// Runs one hook for what comes, one after another, until the configuration has it no more.
async fn run(runner: Arc<Runner>, common: Arc<Common>) {
    let mut program = None;
    loop {
        let (gone, waits) = runner.with(|state| (state.gone, !state.pending.is_empty()));
        if gone {
            return;
        }
        if !waits {
            runner.news.notified().await;
            continue;
        }
        let Ok(_place) = common.places.acquire().await else { return };
        let next = runner.with(|state| {
            let entry = state.pending.pop_front()?;
            state.running = true;
            Some((entry, state.hook.clone()))
        });
        let Some((entry, hook)) = next else { continue };
        let ended;
        (program, ended) = one(program, &hook, &entry.event).await;
        let failed = ended.as_ref().err().cloned();
        runner.with(|state| (state.running, state.failed) = (false, failed));
        let (kind, sequence) = (&entry.event.kind, entry.event.sequence);
        match ended {
            Ok(()) => info!(hook = %runner.name, event = kind, sequence, "a hook was run"),
            Err(reason) => {
                warn!(hook = %runner.name, event = kind, sequence, reason, "a hook failed");
                let reason = format!("for {kind} {sequence}: {reason}");
                let subject = Some(runner.name.to_string());
                let occurrence =
                    Occurrence { subject, ..Occurrence::new(Kind::HookFailed, reason) };
                common.teller.tell([Told { occurrence, mine: false }]);
            }
        }
        common.ended.notify_waiters();
    }
}

/// One run. A run that hangs in the kernel, though it was killed, holds the next ones up: they would
/// hang beside it.
async fn one(program: Program, hook: &Hook, event: &Event) -> (Program, Result<(), String>) {
    let input = match json_line(event) {
        Ok(line) => line + "\n",
        Err(error) => return (program, Err(error.to_string())),
    };
    let same = |(of, _): &(Hook, Exec)| (&of.command, &of.user) == (&hook.command, &hook.user);
    let exec = match program.filter(same) {
        Some((_, exec)) => exec,
        None => Exec::new(hook.command.clone(), hook.user.clone()),
    };
    let mut exec = exec.with(variables(event)).reading(input);
    let ended = exec.run(hook.timeout).await;
    (Some((hook.clone(), exec)), ended)
}

/// What a hook ran last.
type Program = Option<(Hook, Exec)>;

/// What a program is told in its environment: always the same names, empty where they don't concern the
/// event.
fn variables(event: &Event) -> Vec<(&'static str, String)> {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let number = |value: Option<u64>| value.map(|value| value.to_string()).unwrap_or_default();
    vec![
        ("QUORATE_EVENT", event.kind.clone()),
        ("QUORATE_SEQUENCE", event.sequence.to_string()),
        ("QUORATE_TIME", event.time.clone()),
        ("QUORATE_NODE", event.node.clone()),
        ("QUORATE_GROUP", text(&event.group)),
        ("QUORATE_SERVICE", text(&event.service)),
        ("QUORATE_REAL_SERVER", text(&event.real_server)),
        ("QUORATE_OWNER", text(&event.owner)),
        ("QUORATE_PREVIOUS_OWNER", text(&event.previous_owner)),
        ("QUORATE_EPOCH", number(event.epoch)),
        ("QUORATE_REVISION", event.revision.to_string()),
        ("QUORATE_WEIGHT", number(event.weight.map(u64::from))),
        ("QUORATE_SUBJECT", text(&event.subject)),
        ("QUORATE_REASON", event.reason.clone()),
    ]
}
