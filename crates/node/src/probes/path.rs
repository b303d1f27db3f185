//! Trying a real server over the way of its clients' packets: whether it takes connections to the VIP.

use std::collections::BTreeMap;
use std::future::pending;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use quorate_dataplane::linux::path::{
    Ends, Mark, Method, Neighbours, PACKET_BYTES, Reply, Try, Way, ends_of,
};
use quorate_model::kernel::Family;
use quorate_model::spec::Through;
use tokio::net::UdpSocket;
use tokio::sync::oneshot;

use super::Failure;
use super::connect::{self, Place};
use crate::patience::within;

/// After which time it is asked again: packets get lost.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// Asks for a connection to the VIP at the real server, and takes it back.
pub(super) async fn tcp(
    paths: &Paths,
    through: Through,
    place: &Place<'_>,
    timeout: Duration,
) -> Result<(), Failure> {
    let tried =
        open(paths, through, place).map_err(|error| connect::not_prepared(place, &error))?;
    let Through { vip, tunnelled } = through;
    let method = if tunnelled { "TUN" } else { "DR" };
    match within(timeout, tried.exchange()).await {
        Ok(Ok(Some(Reply::Accepted(_)))) => Ok(()),
        Ok(Ok(None)) => Err(Failure::Here("its socket hears no packets any more".to_owned())),
        Ok(Ok(Some(Reply::Refused))) => Err(Failure::Server(format!(
            "by {method} it refuses a connection to {vip}: nothing listens there"
        ))),
        Ok(Err(error)) => Err(connect::failed(place, &error)),
        Err(over) if tried.attempt.lacks_neighbour() => Err(Failure::over(over, || {
            format!(
                "by {method} no connection to {vip} can be asked for: it does not answer neighbour \
                 solicitations within {timeout:?}"
            )
        })),
        Err(over) => Err(Failure::over(over, || {
            let lacks = if tunnelled { "the tunnel, or the VIP on it" } else { "the VIP on lo" };
            format!(
                "by {method} it does not answer a connection to {vip} within {timeout:?}: it may lack \
                 {lacks} (`quorate realserver setup`)"
            )
        })),
    }
}

/// The tries that are under way, if any, and what hears for all of them: while a packet socket is open, each packet
/// that this machine gets is held against its filter.
#[derive(Debug, Default)]
pub(super) struct Paths {
    v4: Mutex<Weak<Ear>>,
    v6: Mutex<Weak<Ear>>,
}

/// What hears for the tries that hold it, all of one address family.
#[derive(Debug)]
struct Ear {
    way: Arc<Way>,
    /// Where neighbours are; IPv4 needs none.
    neighbours: Option<Neighbours>,
    /// Whom an answer is for; none any more where nothing is heard.
    waiting: Mutex<Option<BTreeMap<Ends, Waiting>>>,
    /// Dropped with it, which ends the listening.
    _end: oneshot::Sender<()>,
}

#[derive(Debug)]
struct Waiting {
    attempt: Arc<Try>,
    told: oneshot::Sender<Reply>,
}

impl Paths {
    /// What hears for the others, or another.
    fn ear(&self, family: Family) -> io::Result<Arc<Ear>> {
        let shared = if family == Family::V4 { &self.v4 } else { &self.v6 };
        let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ear) = shared.upgrade().filter(|ear| ear.waiting().is_some()) {
            return Ok(ear);
        }
        let mark: Mark = crate::identity::authority::random().map_err(io::Error::other)?;
        let (way, hearing) = Way::open(family, mark)?;
        // Whatever its protocol, it receives as a socket for UDP does.
        let hearing = UdpSocket::from_std(hearing.into())?;
        let (neighbours, driver) = match family {
            Family::V4 => (None, pending().boxed()),
            Family::V6 => {
                let (neighbours, driver) = Neighbours::open()?;
                (Some(neighbours), driver.boxed())
            }
        };
        let (end, ended) = oneshot::channel();
        let waiting = Mutex::new(Some(BTreeMap::new()));
        let ear = Arc::new(Ear { way: Arc::new(way), neighbours, waiting, _end: end });
        *shared = Arc::downgrade(&ear);
        tokio::spawn(listen(hearing, driver, Arc::downgrade(&ear), ended));
        Ok(ear)
    }
}

impl Ear {
    fn waiting(&self) -> MutexGuard<'_, Option<BTreeMap<Ends, Waiting>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a packet to whom it is for.
    fn heard(&self, packet: &[u8]) {
        let Some(ends) = ends_of(packet) else { return };
        let mut waiting = self.waiting();
        let Some(tries) = waiting.as_mut() else { return };
        let reply = tries.get(&ends).and_then(|waits| waits.attempt.heard(packet));
        if let Some(reply) = reply
            && let Some(waits) = tries.remove(&ends)
        {
            // Who waits no more needs no answer.
            let _ = waits.told.send(reply);
        }
    }
}

/// Hears for all tries until the last is over; `driver` is that of what they ask.
async fn listen(
    hearing: UdpSocket,
    driver: BoxFuture<'static, ()>,
    ear: Weak<Ear>,
    ended: oneshot::Receiver<()>,
) {
    let heard = async {
        let mut packet = [0; PACKET_BYTES];
        while let Ok(length) = hearing.recv(&mut packet).await {
            let Some(ear) = ear.upgrade() else { return };
            ear.heard(packet.get(..length).unwrap_or_default());
        }
    };
    tokio::select! {
        () = heard => {}
        () = driver => {}
        // An error says that the other end is gone, which is what is waited for.
        _ = ended => {}
    }
    // Who still waits is told by what is dropped, and who comes next opens another.
    if let Some(ear) = ear.upgrade() {
        *ear.waiting() = None;
    }
    // To close a packet socket the kernel waits for all processors (`synchronize_net` in `packet_release`):
    // not on the thread of all probes.
    tokio::task::spawn_blocking(move || drop(hearing));
}

/// One try under way.
struct Tried {
    ear: Arc<Ear>,
    attempt: Arc<Try>,
}

impl Drop for Tried {
    fn drop(&mut self) {
        if let Some(waiting) = self.ear.waiting().as_mut() {
            waiting.remove(&self.attempt.ends());
        }
    }
}

fn open(paths: &Paths, through: Through, place: &Place<'_>) -> io::Result<Tried> {
    let server = place.to.ip();
    let method = if through.tunnelled { Method::Tunnel } else { Method::Route };
    let drawn = crate::identity::authority::random().map_err(io::Error::other)?;
    let ear = paths.ear(Family::of(server))?;
    let way = Arc::clone(&ear.way);
    let drawn = u16::from_be_bytes(drawn);
    let attempt = Arc::new(way.attempt((server, through.vip), method, place.source(), drawn)?);
    Ok(Tried { ear, attempt })
}

impl Tried {
    /// Asks until there is an answer; none where nothing is heard any more.
    async fn exchange(&self) -> io::Result<Option<Reply>> {
        let (told, mut answer) = oneshot::channel();
        let waiting = Waiting { attempt: Arc::clone(&self.attempt), told };
        match self.ear.waiting().as_mut() {
            Some(tries) => tries.insert(self.attempt.ends(), waiting),
            None => return Ok(None),
        };
        loop {
            if let Some(neighbours) = &self.ear.neighbours {
                self.attempt.find_neighbour(neighbours).await?;
            }
            self.attempt.ask()?;
            if let Ok(heard) = tokio::time::timeout(ASK_EVERY, &mut answer).await {
                return Ok(heard.ok());
            }
        }
    }
}
