//! The director loop: the one task that runs `quorate_model::director`, feeds it events, sets the
//! fence and carries its effects out. It runs on the thread of `renewals`. Raft, probes, reconcile threads, peers and the API talk to it over
//! bounded channels, and to each other only through it.
//!
//! ```text
//!  Raft ── state, membership ──┐                      ┌── grants ──► Raft
//!  peers ── datagrams ─────────┤                      ├── datagrams ──► peers
//!  store ── persisted, room ───┼──► Director::step ───┼── promises ──► store
//!  reconcile ── reports ───────┤                      ├── goals ──► reconcile
//!  probes ── verdicts ─────────┤                      ├── targets ──► probes
//!  watch ── verdicts ──────────┘                      └── tracks ──► watch
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use quorate_api::convert::Promises;
use quorate_model::command::{Command, Grant};
use quorate_model::director::{Director, DirectorView, Effect, Event};
use quorate_model::id::{DeviceName, InterfaceName};
use quorate_model::ownership::message::Message;
use quorate_model::ownership::quorum::Membership;
use quorate_model::time::Instant;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{debug, info, warn};

use crate::clock;
use crate::journal::Teller;
use crate::peer::datagrams::{DatagramTransport, PeerTransport};
use crate::peer::server::Delivery;
use crate::probes::Probes;
use crate::raft::handle::RaftHandle;
use crate::raft::status::{RaftRole, RaftStatus};
use crate::raft::store::Store;
use crate::reconcile::{AddressThread, QuestionThread, ServiceThread};
use crate::release::holding::Leases;
use crate::renewals::Renewals;
use crate::watch::Watches;

mod gate;

use self::gate::Gate;

/// Events that may wait for the loop; who finds it full waits.
pub(crate) const EVENTS_MAX: usize = 1_024;
/// How long a proposed grant may take before the leader thinks again.
const PROPOSAL_TIMEOUT: Duration = Duration::from_secs(2);
/// Questions that may wait for the loop.
const QUESTIONS_MAX: usize = 64;

/// What the loop works with.
#[derive(Debug)]
pub(crate) struct Parts {
    /// The model's director.
    pub(crate) director: Director,
    /// Raft.
    pub(crate) raft: RaftHandle,
    /// Where promises are kept.
    pub(crate) store: Store,
    /// To the other nodes.
    pub(crate) transport: Arc<DatagramTransport>,
    /// From the other nodes.
    pub(crate) datagrams: mpsc::Receiver<Delivery>,
    /// From this node's own parts.
    pub(crate) events: mpsc::Receiver<Event>,
    /// The sending end of `events`.
    pub(crate) sender: mpsc::Sender<Event>,
    /// The devices behind the cluster's interface names.
    pub(crate) devices: BTreeMap<InterfaceName, DeviceName>,
    /// The kernel's services; a witness has none.
    pub(crate) services: Option<ServiceThread>,
    /// The kernel's addresses; a witness has none.
    pub(crate) addresses: Option<AddressThread>,
    /// Who asks the network; a witness asks nothing.
    pub(crate) questions: Option<QuestionThread>,
    /// Whether a group is changing its owner, for who changes the voters.
    pub(crate) takeover: watch::Sender<bool>,
    /// The thread to run on.
    pub(crate) renewals: Renewals,
    /// Where what happened is told.
    pub(crate) teller: Teller,
    /// What is renewed, for who keeps that for `quorated release`.
    pub(crate) held: watch::Sender<Leases>,
}

enum Question {
    View(oneshot::Sender<DirectorView>),
    Stop(oneshot::Sender<()>),
}

/// A handle on the running loop.
#[derive(Debug, Clone)]
pub(crate) struct DirectorHandle {
    questions: mpsc::Sender<Question>,
}

impl std::fmt::Debug for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::View(_) => "View",
            Self::Stop(_) => "Stop",
        })
    }
}

impl DirectorHandle {
    /// What the director knows now; `None` once it has ended.
    pub(crate) async fn view(&self) -> Option<DirectorView> {
        let (answer, view) = oneshot::channel();
        self.questions.send(Question::View(answer)).await.ok()?;
        view.await.ok()
    }

    /// Gives every group up; returns once the addresses are gone and that is told.
    pub(crate) async fn stop(&self) {
        let (answer, stopped) = oneshot::channel();
        if self.questions.send(Question::Stop(answer)).await.is_ok() {
            // The loop may end first; then there is nothing left to give up either.
            let _ = stopped.await;
        }
    }
}

/// Starts the loop.
#[must_use]
pub(crate) fn start(parts: Parts) -> DirectorHandle {
    let (questions, receiver) = mpsc::channel(QUESTIONS_MAX);
    let probes = Probes::new(parts.devices.clone(), parts.sender.clone());
    let watches = Watches::new(parts.sender.clone());
    let state = parts.raft.state();
    let raft = parts.raft.status();
    let gate = Gate::new(parts.addresses.clone());
    let renewals = parts.renewals.clone();
    let workers = Handle::current();
    let running = Loop { parts, probes, watches, gate, workers, stopping: Vec::new() };
    renewals.spawn(running.run(receiver, state, raft));
    DirectorHandle { questions }
}

struct Loop {
    parts: Parts,
    probes: Probes,
    watches: Watches,
    gate: Gate,
    /// Where all runs that may take its time.
    workers: Handle,
    stopping: Vec<oneshot::Sender<()>>,
}

impl Loop {
    async fn run(
        mut self,
        mut questions: mpsc::Receiver<Question>,
        mut state: watch::Receiver<Arc<quorate_model::state::ClusterState>>,
        mut raft: watch::Receiver<Arc<RaftStatus>>,
    ) {
        let mut space = self.parts.store.space().low();
        state.mark_changed();
        raft.mark_changed();
        space.mark_changed();
        loop {
            let deadline = self.parts.director.next_deadline();
            let event = tokio::select! {
                Some(delivery) = self.parts.datagrams.recv() => {
                    match Message::try_from(delivery.message) {
                        Ok(message) => Event::Message(delivery.from, message),
                        Err(error) => {
                            warn!(node = %delivery.from, %error, "a datagram was not understood");
                            continue;
                        }
                    }
                }
                Some(event) = self.parts.events.recv() => event,
                Ok(()) = state.changed() => {
                    let now = Arc::clone(&state.borrow_and_update());
                    Event::State(now)
                }
                Ok(()) = raft.changed() => raft_event(&raft.borrow_and_update()),
                Ok(()) = space.changed() => {
                    Event::Disk(space.borrow_and_update().as_ref().map(ToString::to_string))
                }
                question = questions.recv() => match question {
                    Some(Question::View(answer)) => {
                        // The asker may have given up.
                        let _ = answer.send(self.parts.director.view(clock::now()));
                        continue;
                    }
                    Some(Question::Stop(answer)) => {
                        self.stopping.push(answer);
                        Event::Stop
                    }
                    None => return,
                },
                () = self.gate.changed() => {
                    self.gate.set(&self.parts.director);
                    continue;
                }
                () = wait_until(deadline) => Event::Tick,
            };
            let effects = self.parts.director.step(clock::now(), event);
            // First of all: what is to be closed is closed before anything else is done about it.
            self.gate.set(&self.parts.director);
            for effect in effects {
                self.carry_out(effect);
            }
            let takeover = self.parts.director.takeover(clock::now());
            self.parts
                .takeover
                .send_if_modified(|known| std::mem::replace(known, takeover) != takeover);
            self.parts.held.send_if_modified(|known| {
                let changed = !self.parts.director.epochs().eq(known.iter().map(|(g, e)| (g, *e)));
                if changed {
                    *known = self.parts.director.epochs().map(|(g, e)| (g.clone(), e)).collect();
                }
                changed
            });
            if self.parts.director.has_stopped() {
                for answer in self.stopping.drain(..) {
                    let _ = answer.send(());
                }
            }
        }
    }

    /// Carries an effect out without waiting for it.
    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Send(to, message) => self.parts.transport.send(&to, (&message).into()),
            Effect::Persist(promises) => self.persist(promises),
            Effect::Grant(grants) => self.grant(grants),
            Effect::Addresses(goal) => {
                if let Some(addresses) = &self.parts.addresses {
                    addresses.aim(goal);
                }
            }
            Effect::Services(goal) => {
                if let Some(services) = &self.parts.services {
                    services.aim(goal);
                }
            }
            Effect::Announce(address, until) => {
                if let Some(addresses) = &self.parts.addresses {
                    addresses.announce(address, until);
                }
            }
            Effect::Probe(targets) => {
                let _on_the_workers = self.workers.enter();
                self.probes.aim(&targets);
            }
            Effect::Watch(watched) => {
                let _on_the_workers = self.workers.enter();
                self.watches.aim(&watched);
            }
            Effect::Tell(told) => self.parts.teller.tell(told),
            Effect::Ask(questions) => {
                if let Some(thread) = &self.parts.questions {
                    thread.ask(questions);
                }
            }
        }
    }

    fn persist(&self, promises: Promises) {
        let durable = self.parts.store.persist_promises(&(&promises).into());
        let sender = self.parts.sender.clone();
        self.workers.spawn(async move {
            // A failed write ends the process elsewhere; nothing may be answered on it here.
            if durable.wait().await.is_ok() {
                let _ = sender.send(Event::Persisted(promises)).await;
            }
        });
    }

    fn grant(&self, grants: Vec<Grant>) {
        for grant in &grants {
            info!(group = %grant.group, to = %grant.owner, reason = %grant.reason, "granting");
        }
        let raft = self.parts.raft.clone();
        let sender = self.parts.sender.clone();
        self.workers.spawn(async move {
            let proposal = raft.propose(Command::Grant { at: clock::wall(), grants });
            match tokio::time::timeout(PROPOSAL_TIMEOUT, proposal).await {
                Ok(Ok(reply)) => debug!(?reply, "granted"),
                Ok(Err(error)) => warn!(%error, "a grant was not committed"),
                Err(_) => warn!("a grant was not committed within {PROPOSAL_TIMEOUT:?}"),
            }
            let _ = sender.send(Event::Proposed).await;
        });
    }
}

fn raft_event(status: &RaftStatus) -> Event {
    let membership = Membership {
        index: status.membership_index,
        configs: status.membership.configs.clone(),
        nodes: status.membership.nodes.keys().copied().collect(),
    };
    let leads = status.role == RaftRole::Leader;
    Event::Raft { leads, heard: status.heard, membership }
}

async fn wait_until(deadline: Instant) {
    let left = deadline.since(clock::now());
    if left > Duration::ZERO {
        tokio::time::sleep(left).await;
    }
}
