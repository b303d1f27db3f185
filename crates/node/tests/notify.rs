//! The daemon tells systemd when it is ready, that it works, and when it stops.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "what a test relies on fails the test")]

use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// Only a daemon that never speaks takes so long.
const NEVER: Duration = Duration::from_secs(60);

struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A witness without a cluster: it needs no rights.
fn start(folder: &Path, manager: &Path) -> Daemon {
    let show = folder.display();
    let config = format!(
        "name = \"w1\"\nrole = \"witness\"\ndata_dir = \"{show}/data\"\nsocket = \"{show}/socket\"\n\
         [[link]]\nname = \"lan\"\nlisten = \"127.0.0.1:7400\"\n"
    );
    std::fs::write(folder.join("node.toml"), config).unwrap();
    let mut daemon = Command::new(env!("CARGO_BIN_EXE_quorated"));
    daemon.arg("--config").arg(folder.join("node.toml"));
    daemon.env("NOTIFY_SOCKET", manager).env("WATCHDOG_USEC", "300000").env_remove("WATCHDOG_PID");
    Daemon(daemon.spawn().unwrap())
}

#[test]
fn systemd_hears_that_it_is_ready_that_it_works_and_that_it_stops() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(NEVER)).unwrap();
    let next = || {
        let mut buffer = [0; 64];
        let length = manager.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let mut daemon = start(folder.path(), &path);
    assert_eq!(next(), "READY=1");
    UnixStream::connect(folder.path().join("socket")).unwrap();
    // The first, and that it goes on.
    assert_eq!((next(), next()), ("WATCHDOG=1".to_owned(), "WATCHDOG=1".to_owned()));
    kill_process(Pid::from_child(&daemon.0), Signal::TERM).unwrap();
    let mut told = next();
    while told == "WATCHDOG=1" {
        told = next();
    }
    assert_eq!(told, "STOPPING=1");
    assert!(daemon.0.wait().unwrap().success());
}
