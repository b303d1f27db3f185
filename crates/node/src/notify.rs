//! Telling systemd (sd_notify(3)): ready, alive, stopping. Without systemd nobody is told.
//!
//! The socket never blocks and an error is no reason to do anything: what is not told in time, the
//! service manager notices by itself. Tests: at the end of this file, and `tests/notify.rs`.

use std::ffi::{OsStr, OsString};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tracing::warn;

/// The way to the service manager.
#[derive(Debug, Default)]
pub(crate) struct Notifier {
    socket: Option<UnixDatagram>,
    /// How long it waits for a sign of life.
    patience: Option<Duration>,
}

impl Notifier {
    /// As the service manager asked for in the environment.
    pub(crate) fn from_environment() -> Self {
        let of = |name: &str| std::env::var_os(name);
        let socket = of("NOTIFY_SOCKET");
        let patience = patience(of("WATCHDOG_USEC"), of("WATCHDOG_PID"), std::process::id());
        match socket.as_deref().map(connect) {
            None => Self::default(),
            Some(Ok(socket)) => Self { socket: Some(socket), patience },
            Some(Err(cause)) => {
                warn!(%cause, ?socket, "the service manager can't be told anything");
                Self::default()
            }
        }
    }

    /// How often to say that the daemon is alive, where anybody wants to know: three times in the
    /// time after which it would be taken for hanging.
    pub(crate) fn alive_every(&self) -> Option<Duration> {
        self.socket.as_ref().and(self.patience).map(|patience| patience / 3)
    }

    /// The daemon serves its socket.
    pub(crate) fn ready(&self) {
        self.tell("READY=1");
    }

    /// The daemon works: its director loop has just answered.
    pub(crate) fn alive(&self) {
        self.tell("WATCHDOG=1");
    }

    /// The daemon was told to stop, and gives its groups up.
    pub(crate) fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    fn tell(&self, what: &str) {
        if let Some(socket) = &self.socket
            && let Err(cause) = socket.send(what.as_bytes())
        {
            warn!(%cause, what, "the service manager was not told");
        }
    }
}

fn connect(address: &OsStr) -> std::io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    let address = match address.as_bytes() {
        // systemd writes an abstract name with an @ in front.
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(OsStr::from_bytes(path))?,
    };
    socket.connect_addr(&address)?;
    Ok(socket)
}

/// How long the service manager waits for a sign of life of this process.
fn patience(usec: Option<OsString>, pid: Option<OsString>, me: u32) -> Option<Duration> {
    let number = |text: OsString| text.to_str()?.parse::<u64>().ok();
    let meant = pid.is_none_or(|pid| number(pid) == Some(u64::from(me)));
    let usec = number(usec?).filter(|&usec| usec > 0 && meant)?;
    Some(Duration::from_micros(usec))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn the_service_manager_hears_at_a_path_and_at_an_abstract_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let name = format!("quorate-notify-{}", std::process::id());
        let abstract_name = SocketAddr::from_abstract_name(&name).unwrap();
        let cases = [
            (UnixDatagram::bind(&path).unwrap(), path.into_os_string()),
            (UnixDatagram::bind_addr(&abstract_name).unwrap(), format!("@{name}").into()),
        ];
        for (manager, address) in cases {
            let notifier = Notifier { socket: Some(connect(&address).unwrap()), patience: None };
            notifier.ready();
            notifier.alive();
            notifier.stopping();
            let heard: Vec<String> = (0..3).map(|_| received(&manager)).collect();
            assert_eq!(heard, ["READY=1", "WATCHDOG=1", "STOPPING=1"]);
        }
    }

    #[test]
    fn signs_of_life_are_sent_only_where_this_process_is_watched() {
        let of = |usec: &str, pid: &str| {
            let text = |text: &str| (!text.is_empty()).then(|| OsString::from(text));
            patience(text(usec), text(pid), 7)
        };
        assert_eq!(of("3000000", "7"), Some(Duration::from_secs(3)));
        assert_eq!(of("3000000", ""), Some(Duration::from_secs(3)));
        for (usec, pid) in [("3000000", "8"), ("", "7"), ("0", "7"), ("soon", "7")] {
            assert_eq!(of(usec, pid), None, "{usec} {pid}");
        }
        let unheard = Notifier { socket: None, patience: Some(Duration::from_secs(3)) };
        assert_eq!(unheard.alive_every(), None);
    }
}
