//! Trying a real server over the way of its clients' packets: whether it takes connections to the VIP.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use quorate_dataplane::linux::path::{Method, PACKET_BYTES, Path, Reply};
use quorate_model::spec::Through;
use tokio::net::UdpSocket;
use tokio::runtime::Handle;

use super::Failure;
use super::connect::{self, Place};
use crate::patience::within;

/// After which time it is asked again: packets get lost.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// Asks for a connection to the VIP at the real server, and takes it back.
pub(super) async fn tcp(
    through: Through,
    place: &Place<'_>,
    timeout: Duration,
) -> Result<(), Failure> {
    let path = open(through, place).map_err(|error| connect::not_prepared(place, &error))?;
    let Through { vip, tunnelled } = through;
    let method = if tunnelled { "TUN" } else { "DR" };
    match within(timeout, path.exchange()).await {
        Ok(Ok(Reply::Accepted(_))) => Ok(()),
        Ok(Ok(Reply::Refused)) => Err(Failure::Server(format!(
            "by {method} it refuses a connection to {vip}: nothing listens there"
        ))),
        Ok(Err(error)) => Err(connect::failed(place, &error)),
        Err(over) => Err(Failure::over(over, || {
            let lacks = if tunnelled { "the tunnel, or the VIP on it" } else { "the VIP on lo" };
            format!(
                "by {method} it does not answer a connection to {vip} within {timeout:?}: it may lack \
                 {lacks} (`quorate realserver setup`)"
            )
        })),
    }
}

/// The way, and what hears on it. Whatever its protocol, it receives as a socket for UDP does.
struct Way(Option<(Path, UdpSocket)>);

impl Drop for Way {
    /// To close a packet socket the kernel waits for all processors (`synchronize_net` in `packet_release`):
    /// not on the thread of all probes.
    fn drop(&mut self) {
        if let (Some(way), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            runtime.spawn_blocking(move || drop(way));
        }
    }
}

fn open(through: Through, place: &Place<'_>) -> io::Result<Way> {
    let IpAddr::V4(server) = place.to.ip() else {
        return Err(io::ErrorKind::Unsupported.into());
    };
    let source = match place.source() {
        Some(IpAddr::V4(source)) => Some(source),
        Some(IpAddr::V6(_)) | None => None,
    };
    let method = if through.tunnelled { Method::Tunnel } else { Method::Route };
    let drawn = crate::identity::authority::random().map_err(io::Error::other)?;
    let number = u32::from_be_bytes(drawn);
    let (path, hearing) = Path::open(server, through.vip, method, source, number)?;
    Ok(Way(Some((path, UdpSocket::from_std(hearing.into())?))))
}

impl Way {
    async fn exchange(&self) -> io::Result<Reply> {
        let Some((path, hearing)) = &self.0 else { return Err(io::ErrorKind::NotConnected.into()) };
        loop {
            path.ask()?;
            if let Ok(heard) = tokio::time::timeout(ASK_EVERY, hear(path, hearing)).await {
                return heard;
            }
        }
    }
}

async fn hear(path: &Path, hearing: &UdpSocket) -> io::Result<Reply> {
    let mut packet = [0; PACKET_BYTES];
    loop {
        let length = hearing.recv(&mut packet).await?;
        if let Some(reply) = path.heard(packet.get(..length).unwrap_or_default()) {
            return Ok(reply);
        }
    }
}
