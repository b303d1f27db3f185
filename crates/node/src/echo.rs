//! ICMP echo: whether an address answers (RFC 792, RFC 4443 §4). With CAP_NET_RAW over a raw
//! socket; without it over a ping socket, where net.ipv4.ping_group_range allows one. What is said, and
//! what counts as an answer, is `quorate_model::reply`'s.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use quorate_model::reply::{echo_request, is_echo_reply};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, ipproto, socket_with};
use tokio::net::UdpSocket;

/// Longest message that is read: an IPv4 header with all options, and ours.
const MESSAGE_BYTES: usize = 512;

/// Asks one address.
#[derive(Debug)]
pub(crate) struct Echo {
    address: IpAddr,
    /// Connected. Whatever its protocol, it sends and receives as a socket for UDP does.
    socket: Option<UdpSocket>,
    /// Drawn at the start, and another for each message.
    number: u64,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Unanswered {
    /// None came in this time.
    Late(Duration),
    /// It could not be asked, or the network says why it does not answer.
    Failed(io::Error),
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late(timeout) => {
                write!(f, "it does not answer ICMP echo requests within {timeout:?}")
            }
            Self::Failed(error) => f.write_str(&reason(error)),
        }
    }
}

impl Echo {
    pub(crate) fn new(address: IpAddr) -> Self {
        let drawn = crate::identity::authority::random().unwrap_or([0; 8]);
        Self { address, socket: None, number: u64::from_be_bytes(drawn) }
    }

    /// Asks from where `prepare` binds the socket to.
    ///
    /// # Errors
    /// If there is no socket, or `prepare` fails.
    pub(crate) fn prepared(
        address: IpAddr,
        prepare: impl FnOnce(&OwnedFd) -> io::Result<()>,
    ) -> io::Result<Self> {
        let socket = UdpSocket::from_std(open(address, prepare)?.into())?;
        Ok(Self { socket: Some(socket), ..Self::new(address) })
    }

    /// Asks once.
    pub(crate) async fn ask(&mut self, timeout: Duration) -> Result<(), Unanswered> {
        let asked = match tokio::time::timeout(timeout, self.exchange()).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => Unanswered::Failed(error),
            Err(_) => Unanswered::Late(timeout),
        };
        // Its source address was chosen when it was made, and may be gone by now.
        self.socket = None;
        Err(asked)
    }

    async fn exchange(&mut self) -> io::Result<()> {
        self.number = self.number.wrapping_add(1);
        let payload = self.number.to_be_bytes();
        let request = echo_request(self.address, payload);
        if self.socket.is_none() {
            self.socket = Some(UdpSocket::from_std(open(self.address, |_| Ok(()))?.into())?);
        }
        let Some(socket) = &self.socket else { return Err(io::ErrorKind::NotConnected.into()) };
        socket.send(&request).await?;
        loop {
            let mut message = [0; MESSAGE_BYTES];
            let length = socket.recv(&mut message).await?;
            // Anything else that a raw socket hears is not for us.
            if is_echo_reply(self.address, message.get(..length).unwrap_or_default(), payload) {
                return Ok(());
            }
        }
    }
}

fn open(address: IpAddr, prepare: impl FnOnce(&OwnedFd) -> io::Result<()>) -> io::Result<OwnedFd> {
    let (family, protocol) = match address {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6),
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let open = |kind| socket_with(family, kind, flags, Some(protocol));
    let socket = match open(SocketType::RAW) {
        Err(Errno::PERM | Errno::ACCESS) => open(SocketType::DGRAM)?,
        opened => opened?,
    };
    prepare(&socket)?;
    connect(&socket, &SocketAddr::new(address, 0))?;
    Ok(socket)
}

/// What an operator should read of a failed try.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "it can't be asked: an ICMP socket needs CAP_NET_RAW (systemd: \
             AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW)"
                .to_owned()
        }
        io::ErrorKind::HostUnreachable => "no route to it: it does not answer ARP".to_owned(),
        io::ErrorKind::NetworkUnreachable => "no route to its network".to_owned(),
        _ => format!("it can't be asked: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn this_host_answers_itself_or_says_that_it_may_not_ask() {
        for address in ["127.0.0.1", "::1"] {
            let mut echo = Echo::new(address.parse().unwrap());
            for _ in 0..2 {
                match echo.ask(Duration::from_secs(60)).await {
                    Ok(()) => {}
                    Err(reason) if address == "::1" => {
                        assert!(reason.to_string().contains("it "), "{reason}");
                    }
                    Err(reason) => {
                        assert!(reason.to_string().contains("CAP_NET_RAW"), "{reason}");
                    }
                }
            }
        }
    }
}
