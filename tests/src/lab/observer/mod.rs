//! An independent observer: from a host of its own it asks for VIPs by ARP each millisecond or two,
//! and each director by ICMP and TCP, and records who answers what, and when. It knows nothing of
//! Quorate, and looks at nothing but frames on the wire.
//!
//! ARP goes to everybody. ICMP and TCP go to each director's own hardware address, so that an old
//! owner is asked that no neighbour would still send to. Never judges (`analysis` does); never
//! keeps more than a bounded record. Tests: `wire`, `record`, `analysis`, and
//! `tests/tests/lab_host_network.rs` for the whole.

mod analysis;
mod record;
mod socket;
mod wire;

use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::eth;
use rustix::process::setpriority_process;

pub use analysis::{CLOSE_BY, Doubles, Silence};
pub use record::{Answer, Director, Kind, Record};
pub use wire::Mac;

use self::socket::{Interface, PacketSocket};
use self::wire::{ARP_TICKS, Asker, Heard, IP_TICKS};
use super::LabError;
use super::clock;
use super::namespace::Namespace;
use super::network::{INTERFACE, Network};

/// Longest frame that is looked at.
const FRAME: usize = 2048;
/// Above every ordinary process: an observer that is not on a processor sees nothing.
const NICE: i32 = -20;
/// The last byte of an address that no host of the lab has.
const SPARE: u8 = 250;
/// Send times that are remembered, for answers that are long on their way.
const REMEMBERED: usize = 4096;

/// What to ask for, and how often.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The interface of the observer's host.
    pub interface: String,
    /// Its address there.
    pub address: Ipv4Addr,
    /// An address of the same network that nobody has.
    pub spare_address: Ipv4Addr,
    /// The VIPs to ask for.
    pub vips: Vec<Ipv4Addr>,
    /// The hardware addresses of the directors.
    pub directors: Vec<Mac>,
    /// How often to ask by ARP.
    pub every: Duration,
    /// Each director is asked by ICMP at every so manieth tick; 0 for never.
    pub icmp_every: u64,
    /// Each director is asked by TCP at every so manieth tick; 0 for never.
    pub tcp_every: u64,
    /// The port of TCP questions.
    pub tcp_port: u16,
    /// Their time to live: 1 where a director answers itself, 2 where it forwards to real servers.
    pub tcp_ttl: u8,
}

impl Plan {
    /// Asks from a host for these VIPs, of these directors: each millisecond by ARP, each tenth by
    /// ICMP, each fortieth by TCP (port 80, no real servers).
    ///
    /// # Errors
    /// When there is no such host.
    pub fn new(
        network: &Network,
        from: (&str, Ipv4Addr),
        directors: &[&str],
        vips: &[Ipv4Addr],
    ) -> Result<Self, LabError> {
        let mac = |host: &&str| {
            let text = network.mac(host)?;
            let unreadable =
                || LabError::Unreadable { what: format!("{host}'s MAC"), text: text.clone() };
            wire::mac(&text).ok_or_else(unreadable)
        };
        network.namespace(from.0)?;
        let [a, b, c, _] = from.1.octets();
        Ok(Self {
            interface: INTERFACE.to_owned(),
            address: from.1,
            spare_address: Ipv4Addr::new(a, b, c, SPARE),
            vips: vips.to_vec(),
            directors: directors.iter().map(mac).collect::<Result<_, _>>()?,
            every: Duration::from_millis(1),
            icmp_every: 10,
            tcp_every: 40,
            tcp_port: 80,
            tcp_ttl: 1,
        })
    }
}

/// A running observer; it ends when dropped.
#[derive(Debug)]
pub struct Observer {
    record: Arc<Mutex<Record>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Observer {
    /// Starts asking from a host.
    ///
    /// # Errors
    /// When its sockets can't be opened there.
    pub fn start(namespace: &Namespace, plan: Plan) -> Result<Self, LabError> {
        let open = || {
            let interface = Interface::find(&plan.interface)?;
            let arp = PacketSocket::open(&interface, eth::ARP)?;
            let ip = PacketSocket::open(&interface, eth::IP)?;
            Ok::<_, io::Error>((interface.mac, arp, ip))
        };
        let what = format!("open packet sockets on {} of {}", plan.interface, namespace.name());
        let (mac, arp, ip) = namespace.enter(open)?.map_err(LabError::io(what))?;
        let asker = Asker {
            mac,
            address: plan.address,
            arp_address: plan.spare_address,
            tcp_ttl: plan.tcp_ttl,
            tcp_port: plan.tcp_port,
        };
        let record = Arc::new(Mutex::new(Record::starting(now())));
        let ended = Arc::new(AtomicBool::new(false));
        let asking = Asking {
            plan,
            asker,
            arp,
            ip,
            record: Arc::clone(&record),
            ended: Arc::clone(&ended),
            sent: vec![0; REMEMBERED],
            tick: 0,
        };
        let thread = std::thread::Builder::new()
            .name("observer".to_owned())
            .spawn(move || asking.run())
            .map_err(LabError::io("start the observer's thread"))?;
        Ok(Self { record, ended, thread: Some(thread) })
    }

    /// What was seen since the last look; the next begins where it ends.
    #[must_use]
    pub fn take(&self) -> Record {
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        let now = now();
        let mut taken = std::mem::replace(&mut *record, Record::starting(now));
        taken.to = now;
        taken
    }

    /// Looks at what was seen since the last look, without taking it.
    pub fn look<T>(&self, look: impl FnOnce(&Record) -> T) -> T {
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        record.to = now();
        look(&record)
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // What it saw is in the record; a panic of its own has been printed.
            let _ended = thread.join();
        }
    }
}

/// CLOCK_BOOTTIME, in nanoseconds, as records have it.
#[must_use]
pub fn now() -> u64 {
    u64::try_from(clock::now().as_nanos()).unwrap_or(u64::MAX)
}

/// The thread's own.
struct Asking {
    plan: Plan,
    asker: Asker,
    arp: PacketSocket,
    ip: PacketSocket,
    record: Arc<Mutex<Record>>,
    ended: Arc<AtomicBool>,
    /// When the question of each tick was sent, by the tick's remainder.
    sent: Vec<u64>,
    /// Ticks so far.
    tick: u64,
}

impl Asking {
    fn run(mut self) {
        // Of this thread alone (setpriority(2)). Without the right, it asks as it can.
        let _ordinary = setpriority_process(None, NICE);
        let every = u64::try_from(self.plan.every.as_nanos()).unwrap_or(u64::MAX).max(1);
        let mut last = now();
        let mut next = last;
        while !self.ended.load(Ordering::Relaxed) {
            let time = now();
            if time >= next {
                self.ask(time, time.saturating_sub(last));
                last = time;
                // What was missed is not made up for.
                next = (next + every).max(time);
            }
            self.wait(next.saturating_sub(now()));
            self.hear();
        }
    }

    fn ask(&mut self, time: u64, since_last: u64) {
        let Self { plan, asker, tick, .. } = self;
        let tick = std::mem::replace(tick, *tick + 1);
        if let Some(sent) = self.sent.get_mut(place(tick)) {
            *sent = time;
        }
        {
            let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
            record.ticks += 1;
            record.blind = record.blind.max(Duration::from_nanos(since_last));
        }
        let due = |every: u64| every > 0 && tick.is_multiple_of(every);
        for vip in &plan.vips {
            self.arp.send(&asker.arp(*vip, tick));
            for (number, mac) in plan.directors.iter().enumerate() {
                if due(plan.icmp_every) {
                    self.ip.send(&asker.icmp(*vip, *mac, number, tick));
                }
                if due(plan.tcp_every) {
                    self.ip.send(&asker.tcp(*vip, *mac, number, tick));
                }
            }
        }
    }

    fn wait(&self, nanoseconds: u64) {
        let limit = Timespec {
            tv_sec: i64::try_from(nanoseconds / 1_000_000_000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(nanoseconds % 1_000_000_000).unwrap_or(0),
        };
        let mut fds = [
            PollFd::from_borrowed_fd(self.arp.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.ip.as_fd(), PollFlags::IN),
        ];
        // An interrupted wait ends early, and the loop comes round again.
        let _woken = poll(&mut fds, Some(&limit));
    }

    fn hear(&self) {
        let mut buffer = [0; FRAME];
        for socket in [&self.arp, &self.ip] {
            while let Some(frame) = socket.receive(&mut buffer) {
                let received = now();
                let Some(heard) = wire::read(frame) else { continue };
                let answer = self.answer(heard, received);
                let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
                match answer {
                    Ok(Some(answer)) => record.push(answer),
                    Ok(None) => {}
                    Err(TooLate) => record.lost += 1,
                }
            }
        }
    }

    /// An answer with its question's time; none for another VIP than ours.
    fn answer(&self, heard: Heard, received: u64) -> Result<Option<Answer>, TooLate> {
        let (vip, by, kind, tick, of) = match heard {
            Heard::Arp { vip, from, tick } => (vip, self.known(from), Kind::Arp, tick, ARP_TICKS),
            Heard::Icmp { vip, from, tick } => (vip, self.known(from), Kind::Icmp, tick, IP_TICKS),
            Heard::Tcp { vip, asked, tick } => (vip, numbered(asked), Kind::Tcp, tick, IP_TICKS),
        };
        let Some(vip) = self.plan.vips.iter().position(|ours| *ours == vip) else {
            return Ok(None);
        };
        // The latest tick with this remainder.
        let latest = self.tick.checked_sub(1).ok_or(TooLate)?;
        let back = (latest % of + of - tick) % of;
        let asked = latest.checked_sub(back).ok_or(TooLate)?;
        if usize::try_from(back).map_err(|_| TooLate)? >= REMEMBERED {
            return Err(TooLate);
        }
        let sent = self.sent.get(place(asked)).copied().ok_or(TooLate)?;
        let vip = u16::try_from(vip).map_err(|_| TooLate)?;
        Ok(Some(Answer { sent, received, vip, by, kind }))
    }

    fn known(&self, mac: Mac) -> Director {
        let place = self.plan.directors.iter().position(|director| *director == mac);
        place.map_or(Director::STRANGER, numbered)
    }
}

/// An answer to a question that is no longer known.
struct TooLate;

fn numbered(place: usize) -> Director {
    u8::try_from(place).map_or(Director::STRANGER, Director)
}

fn place(tick: u64) -> usize {
    usize::try_from(tick).unwrap_or(0) % REMEMBERED
}
