//! Trying what a director has to reach and to see: arbitration addresses and tracks, one task for
//! each, started and ended as the director says.
//!
//! What an outcome means is decided by `quorate_model::watch`; only verdicts leave this module. A
//! look that hangs is given up when its time is over, and no second one is begun beside it.

use std::collections::BTreeSet;
use std::time::Duration;

use quorate_model::director::Event;
use quorate_model::spec::{Track, TrackKind};
use quorate_model::watch::{Watch, Watched};
use tokio::sync::mpsc;

use crate::clock;
use crate::echo::Echo;
use crate::exec::Exec;
use crate::look::{Look, Unseen};
use crate::probes::sleep_until;
use crate::tasks::Tasks;

/// The running tasks.
#[derive(Debug)]
pub(crate) struct Watches {
    running: Tasks<Watched>,
    events: mpsc::Sender<Event>,
}

impl Watches {
    /// Nothing is tried yet; verdicts will go to `events`.
    #[must_use]
    pub(crate) fn new(events: mpsc::Sender<Event>) -> Self {
        Self { running: Tasks::default(), events }
    }

    /// Tries these and no others; those that are tried already go on as they are.
    pub(crate) fn aim(&mut self, wanted: &BTreeSet<Watched>) {
        let events = &self.events;
        self.running.aim(wanted, |watched| tokio::spawn(watch(watched, events.clone())));
    }
}

/// How one thing is tried.
enum Try {
    Echo(Echo, Duration),
    Exec(Exec, Duration),
    Look(Look, Duration),
}

impl Try {
    fn of(watched: &Watched) -> Option<Self> {
        Some(match watched {
            Watched::Arbitration { address, interval } => {
                Self::Echo(Echo::new(*address), *interval)
            }
            Watched::Track(Track { kind, timeout, .. }) => match kind {
                TrackKind::Exec { command, user } => {
                    Self::Exec(Exec::new(command.clone(), user.clone()), *timeout)
                }
                TrackKind::Process(name) => Self::Look(Look::process(name.clone()), *timeout),
                TrackKind::File { path, rule } => {
                    Self::Look(Look::file(path.clone(), rule.clone()), *timeout)
                }
                // The director sees its devices without a task.
                TrackKind::Interface(_) => return None,
            },
        })
    }

    async fn attempt(&mut self) -> Result<(), String> {
        match self {
            Self::Echo(echo, timeout) => {
                echo.ask(*timeout).await.map_err(|unanswered| unanswered.to_string())
            }
            Self::Exec(exec, timeout) => exec.run(*timeout).await,
            Self::Look(look, timeout) => look.look(*timeout).await.map_err(Unseen::into_reason),
        }
    }
}

async fn watch(watched: Watched, events: mpsc::Sender<Event>) {
    let Some(mut attempts) = Try::of(&watched) else { return };
    let mut watch = Watch::new(&watched);
    loop {
        let started = clock::now();
        let outcome = attempts.attempt().await;
        let (next, verdict) = watch.finished(started, clock::now(), outcome);
        if let Some(verdict) = verdict
            && events.send(Event::Found(watched.clone(), verdict)).await.is_err()
        {
            return;
        }
        sleep_until(next).await;
    }
}

#[cfg(test)]
mod tests {
    use quorate_model::probe::Verdict;
    use quorate_model::spec::FileRule;

    use super::*;

    fn file(path: &std::path::Path, rule: FileRule) -> Watched {
        let kind = TrackKind::File { path: path.to_str().unwrap().to_owned(), rule };
        let (interval, timeout) = (Duration::from_millis(100), Duration::from_secs(60));
        let name = "t".parse().unwrap();
        Watched::Track(Track { name, kind, interval, timeout, rise: 1, fall: 1 })
    }

    async fn verdict(events: &mut mpsc::Receiver<Event>) -> Verdict {
        match events.recv().await {
            Some(Event::Found(_, verdict)) => verdict,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_track_is_tried_again_and_again_until_it_is_wanted_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("flag");
        let (sender, mut events) = mpsc::channel(8);
        let mut watches = Watches::new(sender);
        watches.aim(&[file(&path, FileRule::Absent)].into());
        assert_eq!(verdict(&mut events).await, Verdict::Up);
        std::fs::write(&path, "").unwrap();
        assert!(matches!(verdict(&mut events).await, Verdict::Down(_)));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(verdict(&mut events).await, Verdict::Up);
        watches.aim(&BTreeSet::new());
        drop(watches);
        // Every sender is gone: the task has ended.
        assert!(events.recv().await.is_none());
    }
}
