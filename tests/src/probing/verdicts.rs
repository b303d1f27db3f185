//! How soon the table follows a real server that fails: from the kernel taking in the RST that fails its
//! probe. Each round its listener closes, and opens again.
//!
//! Where IPVS is, until its table no longer has the real server, which is looked at again and again. On
//! another kernel, until the daemon's services thread sends the first message about it to the kernel:
//! the verdict, the director's loop and the way to that thread are in it; the comparison with the table
//! and the kernel's own work are not.

use std::time::Duration;

use super::Load;
use super::listeners::Listener;
use super::load::{STRUCK, STRUCK_PORT};
use super::systems::{System, Systems, waits};
use super::trace::{Seen, Trace};
use crate::failover::statistics::Distribution;
use crate::lab::LabError;
use crate::lab::clock::{self, Deadline};
use crate::lab::namespace::Namespace;

const LIMIT: Duration = Duration::from_secs(120);
/// Between two looks at a table.
const LOOK_EVERY: Duration = Duration::from_micros(200);
/// Probes that find it open again, before it closes once more: whatever followed the first is over.
const PROBES_BETWEEN: u64 = 4;
const RESET: &str = "tcp_receive_reset";

fn resets() -> (&'static str, String) {
    ("tcp/tcp_receive_reset", format!("dport == {STRUCK_PORT}"))
}

/// The kernel's table.
pub(super) fn in_the_table(
    systems: &mut Systems,
    system: System,
    load: Load,
    rounds: u32,
) -> Result<Distribution, LabError> {
    let trace = Trace::start(&[resets()])?;
    let mut times = Distribution::default();
    strikes(systems, system, load, rounds, &mut |systems, strike| {
        look(systems.director()?, true)?;
        trace.clear()?;
        strike();
        let gone = look(systems.director()?, false)?;
        let seen = trace.seen()?;
        let failed = seen.iter().rfind(|seen| seen.at <= gone).ok_or_else(|| late("an RST"))?;
        times.add(gone.saturating_sub(failed.at));
        Ok(())
    })?;
    Ok(times)
}

/// What the services thread has to do.
pub(super) fn handed_over(
    systems: &mut Systems,
    load: Load,
    rounds: u32,
) -> Result<Distribution, LabError> {
    let mut times = Distribution::default();
    let mut trace = None;
    strikes(systems, System::Quorate, load, rounds, &mut |systems, strike| {
        let trace: &Trace = match &mut trace {
            Some(trace) => trace,
            none => {
                let thread = systems.services_thread()?;
                let sent = ["sendto", "sendmsg"].map(|call| format!("syscalls/sys_enter_{call}"));
                let mut events = vec![resets()];
                let filter = format!("common_pid == {thread}");
                events.extend(sent.iter().map(|event| (event.as_str(), filter.clone())));
                none.insert(Trace::start(&events)?)
            }
        };
        trace.clear()?;
        strike();
        let mut took = None;
        let deadline = Deadline::after(LIMIT);
        while took.is_none() && !deadline.passed() {
            std::thread::sleep(Duration::from_millis(20));
            took = followed(&trace.seen()?);
        }
        times.add(took.ok_or_else(|| late("a message of the services thread"))?);
        Ok(())
    })?;
    Ok(times)
}

/// From the last RST before the first message that has one before it. (A connection that was taken and
/// not yet closed is reset too when the listener closes; that one fails no probe.)
fn followed(seen: &[Seen]) -> Option<Duration> {
    let first = seen.iter().position(|seen| seen.name == RESET)?;
    let sent = seen.iter().skip(first).position(|seen| seen.name != RESET)? + first;
    let reset = seen.get(..sent)?.last()?;
    Some(seen.get(sent)?.at.saturating_sub(reset.at))
}

/// What a round does: it calls the second argument to have the listener close.
type Round<'r> = dyn FnMut(&mut Systems, &mut dyn FnMut()) -> Result<(), LabError> + 'r;

fn strikes(
    systems: &mut Systems,
    system: System,
    load: Load,
    rounds: u32,
    round: &mut Round<'_>,
) -> Result<(), LabError> {
    let mut listener = Some(Listener::closing(systems.server()?, STRUCK)?);
    systems.start(system, load, true)?;
    systems.all_probed(load)?;
    for _ in 0..rounds {
        let open = match listener.take() {
            Some(open) => open,
            None => Listener::closing(systems.server()?, STRUCK)?,
        };
        waits("it is probed again", || open.taken() >= PROBES_BETWEEN)?;
        listener = Some(open);
        round(systems, &mut || listener = None)?;
    }
    systems.end()
}

fn late(what: &str) -> LabError {
    let text = format!("it did not come within {LIMIT:?}");
    LabError::Unreadable { what: format!("waiting for {what}"), text }
}

/// Waits until the struck real server stands in the table, or does not; when that was seen.
fn look(namespace: &Namespace, stands: bool) -> Result<Duration, LabError> {
    let std::net::SocketAddr::V4(struck) = STRUCK else { return Err(late("an IPv4 address")) };
    let entry = format!("{:08X}:{:04X}", struck.ip().to_bits(), struck.port());
    namespace.enter(|| {
        let deadline = Deadline::after(LIMIT);
        loop {
            // Of the thread, which alone is in the namespace.
            let path = "/proc/thread-self/net/ip_vs";
            let text =
                std::fs::read_to_string(path).map_err(LabError::io("read the IPVS table"))?;
            let now = clock::now();
            if text.contains(&entry) == stands {
                return Ok(now);
            }
            if deadline.passed() {
                return Err(late(if stands { "it in the table" } else { "it out of the table" }));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    })?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_followed_from_the_last_rst_before_the_first_message_after_one() {
        let of = |events: &[(u64, &str)]| {
            let seen = |(at, name): &(u64, &str)| Seen {
                at: Duration::from_micros(*at),
                name: (*name).to_owned(),
            };
            followed(&events.iter().map(seen).collect::<Vec<_>>())
        };
        let send = "sys_sendto";
        let events = [(5, send), (10, RESET), (200, RESET), (203, send), (210, send), (300, RESET)];
        assert_eq!(of(&events), Some(Duration::from_micros(3)));
        assert_eq!((of(&events[..3]), of(&[(5, send)])), (None, None));
    }
}
