//! Many TCP connections at once, each of which sends a number and waits until it comes back, over and
//! over: what passes through a director while something happens to it. Owns its connections; ends
//! them when dropped. It judges nothing: who asks sees which ended, and how long each stood still.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::clock::Stopwatch;
use super::namespace::Namespace;
use super::{LabError, client};

/// Between two looks at all connections: each sends about five numbers a second.
const ROUND: Duration = Duration::from_millis(50);
const ROUNDS_APART: u64 = 4;

/// Connections that go on by themselves.
#[derive(Debug)]
pub struct Flows {
    state: Arc<Mutex<Vec<Seen>>>,
    stop: Arc<AtomicBool>,
    worker: Option<JoinHandle<()>>,
}

/// What is known of one.
#[derive(Debug, Clone, Default)]
struct Seen {
    /// How many numbers came back.
    rounds: u64,
    /// Why it ended, if it did.
    ended: Option<String>,
    /// The longest that a number took to come back since this was last asked, the one on its way
    /// included.
    longest: Duration,
}

struct Flow {
    stream: TcpStream,
    sent: Option<Stopwatch>,
    number: u64,
    came: Vec<u8>,
    next: u64,
}

impl Flows {
    /// Opens so many connections from a namespace, one after another, and sets them going.
    ///
    /// # Errors
    /// When one can't be opened in time.
    pub fn open(
        namespace: &Namespace,
        address: SocketAddr,
        count: usize,
        limit: Duration,
    ) -> Result<Self, LabError> {
        let mut flows = Vec::with_capacity(count);
        for number in 0..count {
            let stream = client::connect(namespace, address, limit)?;
            stream.set_nonblocking(true).map_err(LabError::io("set up a connection"))?;
            // Not all in one instant.
            let next = u64::try_from(number).unwrap_or(0) % ROUNDS_APART;
            flows.push(Flow { stream, sent: None, number: 0, came: Vec::new(), next });
        }
        let state = Arc::new(Mutex::new(vec![Seen::default(); count]));
        let stop = Arc::new(AtomicBool::new(false));
        let (seen, end) = (Arc::clone(&state), Arc::clone(&stop));
        let worker = std::thread::spawn(move || run(flows, &seen, &end));
        Ok(Self { state, stop, worker: Some(worker) })
    }

    fn seen(&self) -> MutexGuard<'_, Vec<Seen>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often each was answered.
    #[must_use]
    pub fn rounds(&self) -> Vec<u64> {
        self.seen().iter().map(|seen| seen.rounds).collect()
    }

    /// Whether each has been answered twice since then: the second number was sent after it.
    #[must_use]
    pub fn all_go_on_since(&self, then: &[u64]) -> bool {
        self.rounds().iter().zip(then).all(|(now, then)| *now >= then + 2)
    }

    /// Why those that ended did, with their number.
    #[must_use]
    pub fn ended(&self) -> Vec<(usize, String)> {
        let seen = self.seen();
        let ended = seen.iter().enumerate().filter_map(|(n, seen)| Some((n, seen.ended.clone()?)));
        ended.collect()
    }

    /// The longest that one stood still since this was last asked.
    #[must_use]
    pub fn take_longest(&self) -> Duration {
        let mut seen = self.seen();
        seen.iter_mut().map(|seen| std::mem::take(&mut seen.longest)).max().unwrap_or_default()
    }
}

impl Drop for Flows {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(worker) = self.worker.take() {
            // A panic in it is a bug of this file, and would be seen as no progress.
            let _ended = worker.join();
        }
    }
}

fn run(mut flows: Vec<Flow>, state: &Mutex<Vec<Seen>>, stop: &AtomicBool) {
    let mut round = 0;
    while !stop.load(Ordering::Acquire) {
        for (number, flow) in flows.iter_mut().enumerate() {
            let mut all = state.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(seen) = all.get_mut(number).filter(|seen| seen.ended.is_none()) else {
                continue;
            };
            match flow.turn(round) {
                Ok(came) => seen.rounds += u64::from(came.is_some()),
                Err(why) => seen.ended = Some(why),
            }
            let standing = flow.sent.as_ref().map(Stopwatch::elapsed).unwrap_or_default();
            seen.longest = seen.longest.max(standing);
        }
        round += 1;
        std::thread::sleep(ROUND);
    }
}

impl Flow {
    /// Reads what came, and sends the next number when it is time; tells a number that came back.
    fn turn(&mut self, round: u64) -> Result<Option<u64>, String> {
        let mut buffer = [0; 64];
        match self.stream.read(&mut buffer) {
            Ok(0) => return Err("closed by the other side".to_owned()),
            Ok(count) => self.came.extend_from_slice(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.to_string()),
        }
        let mut back = None;
        if self.sent.is_some() && self.came.len() >= 8 {
            if self.came != self.number.to_be_bytes() {
                return Err(format!("{:?} came back for {}", self.came, self.number));
            }
            back = Some(self.number);
            self.sent = None;
            self.came.clear();
            self.next = round + ROUNDS_APART;
        }
        if self.sent.is_none() && round >= self.next {
            self.number += 1;
            match self.stream.write(&self.number.to_be_bytes()) {
                // Eight bytes at a time, each after the last came back: the buffer has room.
                Ok(8) => self.sent = Some(Stopwatch::start()),
                Ok(count) => return Err(format!("{count} bytes of 8 were taken")),
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(back)
    }
}
