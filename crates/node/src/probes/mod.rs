//! Probing real servers: one task for each target, started and ended as the director says.
//!
//! What an outcome means is decided by `quorate_model::probe`; only verdicts leave this module.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use quorate_model::director::Event;
use quorate_model::probe::{Probe, ProbeTarget, first_delay};
use quorate_model::spec::CheckKind;
use quorate_model::time::Instant;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

use crate::clock;

/// Connections that may be under way at once.
const UNDER_WAY_MAX: usize = 2_048;

/// The running probes.
#[derive(Debug)]
pub(crate) struct Probes {
    running: BTreeMap<ProbeTarget, JoinHandle<()>>,
    under_way: Arc<Semaphore>,
    events: mpsc::Sender<Event>,
}

impl Probes {
    /// No probes yet; verdicts will go to `events`.
    #[must_use]
    pub(crate) fn new(events: mpsc::Sender<Event>) -> Self {
        Self {
            running: BTreeMap::new(),
            under_way: Arc::new(Semaphore::new(UNDER_WAY_MAX)),
            events,
        }
    }

    /// Probes these targets and no others; those that are probed already go on as they are.
    pub(crate) fn aim(&mut self, targets: &BTreeSet<ProbeTarget>) {
        self.running.retain(|target, task| {
            let wanted = targets.contains(target);
            if !wanted {
                task.abort();
            }
            wanted
        });
        for target in targets {
            if !self.running.contains_key(target) {
                let (events, under_way) = (self.events.clone(), Arc::clone(&self.under_way));
                let task = tokio::spawn(probe(target.clone(), under_way, events));
                self.running.insert(target.clone(), task);
            }
        }
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        for task in self.running.values() {
            task.abort();
        }
    }
}

async fn probe(target: ProbeTarget, under_way: Arc<Semaphore>, events: mpsc::Sender<Event>) {
    let mut probe = Probe::new(target.check.clone());
    let mut next = clock::now() + first_delay(&target);
    loop {
        sleep_until(next).await;
        let Ok(permit) = under_way.acquire().await else { return };
        let started = clock::now();
        let outcome = connect(&target).await;
        drop(permit);
        let verdict;
        (next, verdict) = probe.finished(started, clock::now(), outcome);
        if let Some(verdict) = verdict
            && events.send(Event::Verdict(target.clone(), verdict)).await.is_err()
        {
            return;
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

async fn connect(target: &ProbeTarget) -> Result<(), String> {
    let CheckKind::Tcp = target.check.kind;
    let timeout = target.check.timeout;
    match tokio::time::timeout(timeout, TcpStream::connect(target.address)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(reason(&error)),
        Err(_) => Err(format!("no answer to a TCP connection within {timeout:?}")),
    }
}

/// What an operator should read of a failed connection.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "TCP connection refused: nothing listens".to_owned(),
        io::ErrorKind::HostUnreachable => "no route to the host: it does not answer ARP".to_owned(),
        io::ErrorKind::NetworkUnreachable => "no route to its network".to_owned(),
        _ => format!("TCP connection failed: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use quorate_model::probe::Verdict;
    use quorate_model::spec::Check;
    use tokio::net::TcpListener;

    use super::*;

    fn target(address: std::net::SocketAddr) -> ProbeTarget {
        let check = Check {
            kind: CheckKind::Tcp,
            port: None,
            interval: Duration::from_millis(50),
            timeout: Duration::from_secs(5),
            retry: 1,
            retry_delay: Duration::from_millis(10),
        };
        ProbeTarget { address, check }
    }

    #[tokio::test]
    async fn a_listener_is_up_and_goes_down_when_it_closes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = target(listener.local_addr().unwrap());
        let (events, mut verdicts) = mpsc::channel(8);
        let mut probes = Probes::new(events);
        probes.aim(&[target.clone()].into());
        let Some(Event::Verdict(of, verdict)) = verdicts.recv().await else { panic!("no verdict") };
        assert_eq!((of, verdict), (target, Verdict::Up));
        drop(listener);
        let Some(Event::Verdict(_, Verdict::Down(reason))) = verdicts.recv().await else {
            panic!("not down")
        };
        assert!(reason.contains("refused"), "{reason}");
    }

    #[tokio::test]
    async fn a_target_that_is_wanted_no_more_is_probed_no_more() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = target(listener.local_addr().unwrap());
        let (events, mut verdicts) = mpsc::channel(8);
        let mut probes = Probes::new(events);
        probes.aim(&[target].into());
        assert!(verdicts.recv().await.is_some());
        probes.aim(&BTreeSet::new());
        drop(probes);
        // Every sender is gone: the task has ended.
        assert!(verdicts.recv().await.is_none());
    }
}
