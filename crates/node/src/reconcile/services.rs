//! The thread that keeps the kernel's IPVS table as the director wants it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quorate_dataplane::{
    Capabilities, Dataplane, DataplaneError, DirectorNeeds, IpvsProblem, SysctlMode,
};
use quorate_model::director::{Event, ServiceGoal, ServiceReport};
use quorate_model::id::DeviceName;
use quorate_model::kernel::{ObservedServices, ServiceKey};
use quorate_model::ownership::message::Obstacle;
use quorate_model::plan::{Action, done, plan, plan_timeouts, unexpected};
use quorate_model::spec::{ForeignServices, Timeouts};
use quorate_model::sync::SyncSettings;
use quorate_model::time::Instant;
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::list::List;
use super::rules::Rules;
use super::{Events, ListError, Mailbox, MakeDataplane, service_list, sync_list};
use crate::clock;

/// How often the whole table is read and compared, at most and at least: the kernel does not tell
/// who changes it.
const LOOK_EVERY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Of the time between two looks, a look takes one part in so many: a large table is read less often.
const LOOK_SHARE: u32 = 50;
/// Of the repairs of one look, so many are told one by one.
const REPAIRS_TOLD_MAX: usize = 10;
/// How often a failed goal is tried again.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// How often one goal is compared and mended before it counts as failed for now: another program
/// may be changing the table at the same time.
const ATTEMPTS: u32 = 3;
/// Questions for counters that may wait.
const QUESTIONS_MAX: usize = 64;

#[derive(Debug, Default)]
struct Orders {
    goal: Option<ServiceGoal>,
    questions: Vec<oneshot::Sender<Option<ObservedServices>>>,
    /// Whether somebody changed the packet filter.
    filter_changed: bool,
}

/// What others may see of the services thread's work.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServiceView {
    /// What stands in the way, in words.
    pub(crate) problems: BTreeSet<String>,
}

/// A handle on the thread.
#[derive(Debug, Clone)]
pub(crate) struct ServiceThread {
    orders: Arc<Mailbox<Orders>>,
    view: Arc<Mutex<ServiceView>>,
}

enum Task {
    Answer(Vec<oneshot::Sender<Option<ObservedServices>>>),
    Aim(ServiceGoal),
    LookAtRules,
}

impl ServiceThread {
    /// Starts the thread: it says first what the kernel holds ([`Event::ServicesFound`]).
    ///
    /// # Errors
    ///
    /// If the list of our own services can't be read, or no thread can be started.
    pub(crate) fn start(
        make: MakeDataplane,
        data_dir: &Path,
        devices: Vec<DeviceName>,
        mode: SysctlMode,
        events: Events,
    ) -> Result<Self, ListError> {
        let path = service_list(data_dir);
        let programmed = List::open(path.clone())?;
        let synced = List::open(sync_list(data_dir))?;
        let orders: Arc<Mailbox<Orders>> = Arc::default();
        let view: Arc<Mutex<ServiceView>> = Arc::default();
        let handle = Self { orders: Arc::clone(&orders), view: Arc::clone(&view) };
        let work = move || {
            let dataplane = match make() {
                Ok(dataplane) => dataplane,
                Err(error) => {
                    warn!(%error, "services can't be programmed");
                    set_problems(&view, [error.to_string()].into());
                    send(&events, Event::ServicesFound(ObservedServices::new()));
                    let obstacle = Some(Obstacle::NoNetAdmin);
                    let report = ServiceReport { sequence: 0, obstacle, ..Default::default() };
                    send(&events, Event::Services(report));
                    return;
                }
            };
            let needs = DirectorNeeds { devices, ..Default::default() };
            let worker = Worker {
                dataplane,
                programmed,
                needs,
                mode,
                events,
                view,
                goal: None,
                table: None,
                rules: Rules::default(),
                synced,
                next_look: clock::now(),
            };
            worker.run(&orders);
        };
        std::thread::Builder::new()
            .name("services".to_owned())
            .spawn(work)
            .map_err(|cause| ListError::File { doing: "start a thread for", path, cause })?;
        Ok(handle)
    }

    /// Aims at a goal; earlier ones that were not begun are forgotten.
    pub(crate) fn aim(&self, goal: ServiceGoal) {
        self.orders.put(|orders| orders.goal = Some(goal));
    }

    /// Somebody changed the packet filter: the thread looks whether its own table still stands.
    pub(crate) fn filter_changed(&self) {
        self.orders.put(|orders| orders.filter_changed = true);
    }

    /// The table as it is now, with its counters; `None` if the thread does not answer, or can't read it.
    pub(crate) async fn observe(&self) -> Option<ObservedServices> {
        let (answer, question) = oneshot::channel();
        self.orders.put(|orders| {
            if orders.questions.len() < QUESTIONS_MAX {
                orders.questions.push(answer);
            }
        });
        question.await.ok().flatten()
    }

    /// What others may see.
    #[must_use]
    pub(crate) fn view(&self) -> ServiceView {
        self.view.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

pub(super) struct Worker {
    pub(super) dataplane: Box<dyn Dataplane>,
    programmed: List<ServiceKey>,
    needs: DirectorNeeds,
    mode: SysctlMode,
    events: Events,
    view: Arc<Mutex<ServiceView>>,
    pub(super) goal: Option<ServiceGoal>,
    /// What the kernel holds, as far as this thread knows: read at the last look, and changed by what
    /// it did since. `None` where that is in doubt, so that the next goal begins with a look.
    table: Option<ObservedServices>,
    /// The same of our rules of the packet filter.
    pub(super) rules: Rules,
    /// How the sync daemons were started here, durably, so that they can be ended.
    pub(super) synced: List<SyncSettings>,
    pub(super) next_look: Instant,
}

impl Worker {
    fn run(mut self, orders: &Mailbox<Orders>) {
        let found = self.found();
        send(&self.events, Event::ServicesFound(found));
        self.aim(0);
        loop {
            let wait = self.next_look.since(clock::now());
            let task = orders.take(wait, |orders| {
                if !orders.questions.is_empty() {
                    return Some(Task::Answer(std::mem::take(&mut orders.questions)));
                }
                if let Some(goal) = orders.goal.take() {
                    return Some(Task::Aim(goal));
                }
                std::mem::take(&mut orders.filter_changed).then_some(Task::LookAtRules)
            });
            match task {
                Some(Task::Answer(questions)) => {
                    let observed = self.dataplane.observe_services().ok();
                    for question in questions {
                        // The asker may have given up.
                        let _ = question.send(observed.clone());
                    }
                }
                Some(Task::Aim(goal)) => {
                    self.needs.nat_ipv4 = goal.nat.ipv4;
                    self.needs.nat_ipv6 = goal.nat.ipv6;
                    self.needs.hashed = goal.hashed;
                    self.needs.sync =
                        goal.sync.as_ref().map(|sync| (sync.spec.refresh_s, sync.spec.retries));
                    let sequence = goal.sequence;
                    self.goal = Some(goal);
                    self.aim(sequence);
                }
                Some(Task::LookAtRules) => self.look_at_rules(),
                None => self.aim(self.goal.as_ref().map_or(0, |goal| goal.sequence)),
            }
            if self.events.is_closed() {
                return;
            }
        }
    }

    /// What the kernel holds at the start. It is asked more than once: what is not found here is
    /// not known to have been found down, so it would be put back before it is probed.
    fn found(&mut self) -> ObservedServices {
        if self.obstacle().is_some() {
            return ObservedServices::new();
        }
        for _ in 0..ATTEMPTS {
            match self.dataplane.observe_services() {
                Ok(found) => return found,
                Err(error) => warn!(%error, "the IPVS table can't be read"),
            }
        }
        ObservedServices::new()
    }

    /// Makes the table as the goal says and reports.
    fn aim(&mut self, sequence: u64) {
        let begun = clock::now();
        let looked = begun >= self.next_look || self.table.is_none();
        let mut problems = BTreeSet::new();
        let obstacle = self.obstacle();
        if let Some((_, text)) = &obstacle {
            problems.insert(text.clone());
        }
        let mut synced = false;
        let failed = match (&obstacle, self.goal.clone()) {
            (None, Some(goal)) => {
                if let Err(error) = self.keep_timeouts(goal.timeouts) {
                    problems.insert(error.to_string());
                }
                // What is to end does so before its filter goes, and before real servers come that it
                // excludes.
                let sync = self.end_sync(goal.sync.as_ref(), &mut problems);
                let failed = self.converge(&goal, begun >= self.next_look, &mut problems);
                synced = self.start_sync(goal.sync.as_ref(), sync, &mut problems);
                failed
            }
            (Some(_), _) | (_, None) => {
                self.table = None;
                BTreeMap::new()
            }
        };
        self.needs.ipvs = obstacle.is_none();
        for finding in self.dataplane.director_sysctls(&self.needs, self.mode) {
            if let Some(problem) = &finding.problem {
                problems.insert(format!("sysctl {}: {problem}", finding.key));
            }
        }
        let now = clock::now();
        if !failed.is_empty() || obstacle.is_some() {
            self.next_look = now + RETRY_EVERY;
        } else if looked {
            let (least, most) = LOOK_EVERY;
            self.next_look = now + (now.since(begun) * LOOK_SHARE).clamp(least, most);
        }
        set_problems(&self.view, problems);
        let obstacle = obstacle.map(|(obstacle, _)| obstacle);
        send(&self.events, Event::Services(ServiceReport { sequence, obstacle, failed, synced }));
    }

    /// Why no service can be programmed at all.
    fn obstacle(&mut self) -> Option<(Obstacle, String)> {
        let Capabilities { net_admin, ipvs } = self.dataplane.capabilities();
        if !net_admin {
            let text = "CAP_NET_ADMIN is missing: this director can't own a VIP or program IPVS; \
                        run it as root or with AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW";
            return Some((Obstacle::NoNetAdmin, text.to_owned()));
        }
        match ipvs {
            Ok(_) => None,
            Err(problem @ IpvsProblem::NotPermitted) => {
                Some((Obstacle::NoNetAdmin, problem.to_string()))
            }
            Err(problem) => Some((Obstacle::NoIpvs, problem.to_string())),
        }
    }

    /// They concern how connections end, and no service fails for them.
    fn keep_timeouts(&mut self, wanted: Timeouts) -> Result<(), DataplaneError> {
        if wanted == Timeouts::default() {
            return Ok(());
        }
        let found = self.dataplane.timeouts()?;
        if let Some(goal) = plan_timeouts(wanted, found) {
            info!(was = %found, now = %goal, "changing the time-outs of IPVS connections");
            self.dataplane.set_timeouts(goal)?;
        }
        Ok(())
    }

    /// Brings the table to the goal, from what it is known to hold, or from what a look finds.
    fn converge(
        &mut self,
        goal: &ServiceGoal,
        look: bool,
        problems: &mut BTreeSet<String>,
    ) -> BTreeMap<ServiceKey, String> {
        // Ours are known before the kernel has them: a crash leaves no orphan.
        if let Err(error) = self.programmed.add(goal.services.keys()) {
            return all_failed(goal, &error.to_string(), problems);
        }
        let mut known = self.table.take();
        let mut failures: Vec<(Action, DataplaneError)> = Vec::new();
        let mut unmarked = None;
        for attempt in 0..ATTEMPTS {
            let looks = look && attempt == 0;
            let (mut table, believed) = match (known.take(), looks) {
                (Some(table), false) => (table, None),
                (believed, _) => match self.dataplane.observe_services() {
                    Ok(table) => (table, believed),
                    Err(error) => return all_failed(goal, &error.to_string(), problems),
                },
            };
            let ours = match goal.foreign {
                ForeignServices::Keep => self.programmed.entries().clone(),
                ForeignServices::Remove => table.keys().copied().collect(),
            };
            let actions = plan(&goal.services, &table, &ours);
            let expected = believed.map(|believed| plan(&goal.services, &believed, &ours));
            tell(&actions, expected.as_deref());
            let whole = |action: &Action| matches!(action, Action::DeleteService(_));
            let (changes, ends) = actions.split_at(actions.partition_point(|a| !whole(a)));
            failures = self.dataplane.apply(changes);
            unmarked = self.keep_rules(goal, false, problems);
            // A service goes when another stands in its place, and what was marked for it is marked
            // for that one.
            let services = |(failed, _): &(Action, DataplaneError)| {
                matches!(failed, Action::AddService(..) | Action::SetService(..))
            };
            let replaced = unmarked.is_none() && !failures.iter().any(services);
            if replaced {
                failures.extend(self.dataplane.apply(ends));
            }
            if failures.is_empty() {
                let did = if replaced { &actions[..] } else { changes };
                did.iter().for_each(|action| done(&mut table, action));
                self.table = Some(table);
                break;
            }
        }
        if failures.is_empty() && unmarked.is_none() {
            let kept: BTreeSet<ServiceKey> = goal.services.keys().copied().collect();
            if let Err(error) = self.programmed.replace(kept) {
                problems.insert(error.to_string());
            }
        }
        let mut failed = BTreeMap::new();
        if let Some(why) = unmarked {
            let marked = goal.services.keys().filter(|k| matches!(k, ServiceKey::Marked { .. }));
            failed.extend(marked.map(|key| (*key, why.clone())));
        }
        for (action, error) in failures {
            problems.insert(error.to_string());
            failed.insert(action.service(), error.to_string());
        }
        failed
    }
}

/// Says what is about to be done. What this daemon did not expect, by what it believed before it
/// looked, is another program's doing.
fn tell(actions: &[Action], expected: Option<&[Action]>) {
    let strange = expected.map(|expected| unexpected(actions, expected)).unwrap_or_default();
    let own = actions.len() - strange.len();
    if own > 0 {
        info!(actions = own, "changing the IPVS table");
    }
    for action in strange.iter().take(REPAIRS_TOLD_MAX) {
        warn!("another program changed the IPVS table; repairing it: {action}");
    }
    if let Some(more) = strange.len().checked_sub(REPAIRS_TOLD_MAX).filter(|more| *more > 0) {
        warn!("another program changed the IPVS table; repairing it: {more} changes more");
    }
}

fn all_failed(
    goal: &ServiceGoal,
    why: &str,
    problems: &mut BTreeSet<String>,
) -> BTreeMap<ServiceKey, String> {
    warn!(error = why, "the IPVS table can't be kept");
    problems.insert(why.to_owned());
    goal.services.keys().map(|key| (*key, why.to_owned())).collect()
}

/// Shows the problems in `status`; the log says each once, when it comes and when it has gone.
fn set_problems(view: &Mutex<ServiceView>, problems: BTreeSet<String>) {
    let mut view = view.lock().unwrap_or_else(PoisonError::into_inner);
    for problem in problems.difference(&view.problems) {
        warn!("{problem}");
    }
    for problem in view.problems.difference(&problems) {
        info!("no longer: {problem}");
    }
    view.problems = problems;
}

fn send(events: &Events, event: Event) {
    // The queue is closed only when the daemon stops.
    let _ = events.blocking_send(event);
}
