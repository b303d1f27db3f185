//! IPVS over generic netlink: reading the whole table, and doing actions in batches.
//!
//! What an error number means for an action stands here, and only here: "already so" is success.
//! It never decides what the table shall hold. Tests: `tests.rs` (bytes, meanings of errors), and
//! the contract suite in the lab.

use std::collections::BTreeMap;
use std::io;

use quorate_model::kernel::{ConnectionTimeouts, ObservedServices, ServiceSettings};
use quorate_model::plan::Action;
use quorate_model::sync::{SyncDaemons, SyncStep};

use self::socket::{BATCH_MAX, Failure, Socket};
use self::wire::{Attributes, RequestHead, Writer};
use crate::error::{DataplaneError, Errno, Operation};
use crate::linux::module;
use crate::{IpvsInfo, IpvsProblem};

mod read;
mod socket;
mod sync;
#[cfg(test)]
mod tests;
mod wire;
mod write;

const FAMILY: &str = "IPVS";

/// The IPVS table of one network namespace.
#[derive(Debug)]
pub(super) struct Ipvs {
    socket: Socket,
    /// The number of the family, once known; it changes when the module is loaded anew.
    family: Option<u16>,
    /// Modules that were asked for already, and whether they are there now: the kernel asks by itself
    /// each time, so once is enough.
    asked_modules: BTreeMap<String, bool>,
}

impl Ipvs {
    /// Opens the socket. ip_vs need not be there.
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self { socket: Socket::open()?, family: None, asked_modules: BTreeMap::new() })
    }

    pub(super) fn info(&mut self) -> Result<IpvsInfo, IpvsProblem> {
        let doing = || Operation::AskIpvs;
        // Asked anew each time: the module may be gone.
        self.family = None;
        let family = match self.family() {
            Ok(Some(family)) => family,
            Ok(None) => return Err(IpvsProblem::NoModule),
            Err(failure) => return Err(IpvsProblem::Failed(general(doing(), failure))),
        };
        let mut found = None;
        let asked = self.socket.ask(family, write::get_info, |attributes| {
            found = Some(read::info(attributes)?);
            Ok(())
        });
        match (asked, found) {
            (Ok(()), Some(info)) => Ok(info),
            (Ok(()), None) => Err(IpvsProblem::Failed(DataplaneError::Garbled { doing: doing() })),
            (Err(Failure::Errno(Errno(libc::EPERM))), _) => Err(IpvsProblem::NotPermitted),
            (Err(failure), _) => Err(IpvsProblem::Failed(general(doing(), failure))),
        }
    }

    /// Services first, then the destinations of each. A service deleted in between has none.
    pub(super) fn observe(&mut self) -> Result<ObservedServices, DataplaneError> {
        let fail = |failure| general(Operation::ObserveServices, failure);
        let mut family = self.known_family(|| Operation::ObserveServices)?;
        let mut services = self.observe_without_destinations(family);
        if services == Err(Failure::Errno(Errno(libc::ENOENT))) {
            // The number is stale: the module was loaded anew.
            self.family = None;
            family = self.known_family(|| Operation::ObserveServices)?;
            services = self.observe_without_destinations(family);
        }
        let mut services = services.map_err(fail)?;
        for (key, service) in &mut services {
            self.socket
                .dump(
                    family,
                    |writer, head| write::get_destinations(writer, head, key),
                    |attributes| {
                        let (server, found) = read::destination(attributes, key.family())?;
                        service.destinations.insert(server, found);
                        Ok(())
                    },
                )
                .map_err(fail)?;
        }
        Ok(services)
    }

    fn observe_without_destinations(&mut self, family: u16) -> Result<ObservedServices, Failure> {
        let mut services = ObservedServices::new();
        self.socket.dump(family, write::get_services, |attributes| {
            services.extend(read::service(attributes)?);
            Ok(())
        })?;
        Ok(services)
    }

    pub(super) fn timeouts(&mut self) -> Result<ConnectionTimeouts, DataplaneError> {
        let fail = |failure| general(Operation::ReadTimeouts, failure);
        let family = self.known_family(|| Operation::ReadTimeouts)?;
        let mut found = None;
        let read = |attributes: Attributes<'_>| {
            found = Some(read::config(attributes)?);
            Ok(())
        };
        self.socket.ask(family, write::get_config, read).map_err(fail)?;
        found.ok_or(DataplaneError::Garbled { doing: Operation::ReadTimeouts })
    }

    pub(super) fn set_timeouts(
        &mut self,
        timeouts: ConnectionTimeouts,
    ) -> Result<(), DataplaneError> {
        let doing = || Operation::SetTimeouts(timeouts);
        let fail = |failure| general(doing(), failure);
        let family = self.known_family(doing)?;
        let set =
            |writer: &mut Writer, head: &RequestHead| write::set_config(writer, head, timeouts);
        self.socket.ask(family, set, |_| Ok(())).map_err(fail)
    }

    pub(super) fn sync_daemons(&mut self) -> Result<SyncDaemons, DataplaneError> {
        let fail = |failure| general(Operation::ReadSync, failure);
        let family = self.known_family(|| Operation::ReadSync)?;
        let mut found = SyncDaemons::new();
        let read = |attributes: Attributes<'_>| {
            found.extend([sync::daemon(attributes)?]);
            Ok(())
        };
        self.socket.dump(family, sync::get, read).map_err(fail)?;
        Ok(found)
    }

    pub(super) fn sync_step(&mut self, step: &SyncStep) -> Result<(), DataplaneError> {
        let doing = || match step {
            SyncStep::Start(role, settings) => Operation::StartSync(*role, settings.clone()),
            SyncStep::Stop(role) => Operation::StopSync(*role),
        };
        let family = self.known_family(doing)?;
        let write = |writer: &mut Writer, head: &RequestHead| sync::step(writer, head, step);
        match (self.socket.ask(family, write, |_| Ok(())), step) {
            (Err(Failure::Errno(Errno(libc::ESRCH))), SyncStep::Stop(_)) => Ok(()),
            (Err(Failure::Errno(Errno(libc::ENODEV))), SyncStep::Start(_, settings)) => {
                let device = settings.device.clone();
                Err(DataplaneError::NoDevice { doing: doing(), device })
            }
            (done, _) => done.map_err(|failure| general(doing(), failure)),
        }
    }

    pub(super) fn apply(&mut self, actions: &[Action]) -> Vec<(Action, DataplaneError)> {
        // Services are settled before their destinations are sent: a scheduler that had to be
        // loaded must not fail the real servers that follow.
        let of_service = |action: &Action| {
            matches!(
                action,
                Action::AddService(..) | Action::SetService(..) | Action::DeleteService(..)
            )
        };
        let runs = actions.chunk_by(|before, after| of_service(before) == of_service(after));
        runs.flat_map(|run| run.chunks(BATCH_MAX)).flat_map(|chunk| self.settle(chunk)).collect()
    }

    fn settle(&mut self, actions: &[Action]) -> Vec<(Action, DataplaneError)> {
        let mut failures = Vec::new();
        let mut again = Vec::new();
        for (action, answer) in actions.iter().zip(self.send(actions)) {
            match meaning(action, answer) {
                Meaning::Done => {}
                Meaning::SetInstead(set) => again.push((action, set)),
                Meaning::ModuleMissing(settings) if self.load_modules(settings) => {
                    again.push((action, action.clone()));
                }
                Meaning::ModuleMissing(settings) => {
                    failures.push((action.clone(), self.module_missing(action, settings)));
                }
                Meaning::Failed(error) => failures.push((action.clone(), error)),
            }
        }
        let requests: Vec<Action> = again.iter().map(|(_, request)| request.clone()).collect();
        for ((action, request), answer) in again.into_iter().zip(self.send(&requests)) {
            match meaning(&request, answer) {
                Meaning::Done => {}
                Meaning::ModuleMissing(settings) => {
                    failures.push((action.clone(), self.module_missing(action, settings)));
                }
                Meaning::Failed(error) => failures.push((action.clone(), error)),
                // Made by somebody else between two requests: look again before going on.
                Meaning::SetInstead(_) => {
                    failures
                        .push((action.clone(), DataplaneError::NoAnswer { doing: apply(action) }));
                }
            }
        }
        failures
    }

    /// Sends a batch; once more if the family's number turns out to be stale. That is told by
    /// ENOENT, which a missing real server or scheduler gives as well.
    fn send(&mut self, actions: &[Action]) -> Vec<Result<(), Failure>> {
        const NOT_THERE: Result<(), Failure> = Err(Failure::Errno(Errno(libc::ENOENT)));
        if actions.is_empty() {
            return Vec::new();
        }
        let answers = self.send_once(actions);
        let stale = self.family;
        if !answers.contains(&NOT_THERE) || stale.is_none() {
            return answers;
        }
        self.family = None;
        match self.family() {
            Ok(family) if family == stale => answers,
            _ => self.send_once(actions),
        }
    }

    fn send_once(&mut self, actions: &[Action]) -> Vec<Result<(), Failure>> {
        match self.family() {
            Ok(Some(family)) => self.socket.batch(family, actions, write::action),
            // The answer for "no ip_vs at all": `meaning` tells it from a missing entry.
            Ok(None) => vec![Err(NO_IPVS); actions.len()],
            Err(failure) => vec![Err(failure); actions.len()],
        }
    }

    /// The family's number, for an operation that needs it.
    fn known_family(&mut self, doing: impl Fn() -> Operation) -> Result<u16, DataplaneError> {
        let family = self.family().map_err(|failure| general(doing(), failure))?;
        family.ok_or_else(|| DataplaneError::NoIpvs { doing: doing() })
    }

    fn family(&mut self) -> Result<Option<u16>, Failure> {
        if self.family.is_none() {
            // The kernel loads ip_vs for this request where it can load modules by itself.
            self.family = self.socket.family(FAMILY)?;
        }
        if self.family.is_none() && self.load_module("ip_vs") {
            self.family = self.socket.family(FAMILY)?;
        }
        Ok(self.family)
    }

    /// Asks for the modules of a service's settings; whether one was loaded just now.
    fn load_modules(&mut self, settings: ServiceSettings) -> bool {
        let ServiceSettings { scheduler, persistence, .. } = settings;
        let engine = persistence.and_then(|persistence| persistence.engine);
        let scheduler = self.load_module(&format!("ip_vs_{scheduler}"));
        let engine = engine.is_some_and(|engine| self.load_module(&format!("ip_vs_pe_{engine}")));
        scheduler || engine
    }

    /// Asks for a module that the kernel did not load by itself; whether it is loaded just now.
    fn load_module(&mut self, module: &str) -> bool {
        if self.asked_modules.contains_key(module) {
            return false;
        }
        let loaded = module::load(module);
        self.asked_modules.insert(module.to_owned(), loaded);
        loaded
    }

    /// The kernel's answer is the same for both: what could be loaded is not what is missing.
    fn module_missing(&self, action: &Action, settings: ServiceSettings) -> DataplaneError {
        let ServiceSettings { scheduler, persistence, .. } = settings;
        let scheduler_there = self.asked_modules.get(&format!("ip_vs_{scheduler}")) == Some(&true);
        match persistence.and_then(|persistence| persistence.engine) {
            Some(engine) if scheduler_there => {
                DataplaneError::NoEngine { doing: apply(action), engine }
            }
            _ => DataplaneError::NoScheduler { doing: apply(action), scheduler },
        }
    }
}

/// No answer of IPVS itself has this number (ENOPROTOOPT is the old interface's).
const NO_IPVS: Failure = Failure::Errno(Errno(libc::ENOPROTOOPT));

/// What an answer means for an action.
#[derive(Debug, PartialEq, Eq)]
enum Meaning {
    /// It is as the action says, now or already.
    Done,
    /// It stands already, perhaps with other settings: this sets them.
    SetInstead(Action),
    /// The kernel has no such scheduler, or persistence engine, loaded.
    ModuleMissing(ServiceSettings),
    Failed(DataplaneError),
}

fn meaning(action: &Action, answer: Result<(), Failure>) -> Meaning {
    let errno = match answer {
        Ok(()) => return Meaning::Done,
        Err(NO_IPVS) => return Meaning::Failed(DataplaneError::NoIpvs { doing: apply(action) }),
        Err(Failure::Errno(errno)) => errno,
        Err(failure) => return Meaning::Failed(general(apply(action), failure)),
    };
    match (action, errno.0) {
        (Action::AddService(key, settings), libc::EEXIST) => {
            Meaning::SetInstead(Action::SetService(*key, *settings))
        }
        (Action::AddDestination(key, server, to), libc::EEXIST) => {
            Meaning::SetInstead(Action::SetDestination(*key, *server, *to))
        }
        (Action::AddService(_, settings) | Action::SetService(_, settings), libc::ENOENT) => {
            Meaning::ModuleMissing(*settings)
        }
        (Action::DeleteService(_), libc::ESRCH)
        | (Action::DeleteDestination(..), libc::ESRCH | libc::ENOENT) => Meaning::Done,
        (_, libc::ESRCH | libc::ENOENT) => {
            Meaning::Failed(DataplaneError::Gone { doing: apply(action), errno })
        }
        _ => Meaning::Failed(DataplaneError::from_errno(apply(action), errno)),
    }
}

fn apply(action: &Action) -> Operation {
    Operation::Apply(Box::new(action.clone()))
}

fn general(doing: Operation, failure: Failure) -> DataplaneError {
    match failure {
        Failure::Errno(errno) => DataplaneError::from_errno(doing, errno),
        Failure::NoAnswer => DataplaneError::NoAnswer { doing },
        Failure::Garbled => DataplaneError::Garbled { doing },
    }
}
