//! What is probed: listeners on the real servers' host, which take and close connections, or serve a page,
//! and count what they took. They end when dropped, and are refused from then on.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, ipproto, listen, socket_with, sockopt,
};

use crate::lab::LabError;
use crate::lab::namespace::Namespace;

/// Connections that may wait: on a busy machine the listener is late, and no probe shall fail for it.
const BACKLOG: i32 = 4_096;
/// Between two looks at whether it shall end.
const LOOK_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
/// How long a client may take to ask.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most of a request that is read.
const REQUEST_BYTES_MAX: usize = 16 * 1024;
/// Threads that serve pages: one that waits for a slow client holds no other up.
const PAGE_THREADS: usize = 4;

/// A listener with its threads.
#[derive(Debug)]
pub(super) struct Listener {
    ends: Arc<AtomicBool>,
    taken: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Listener {
    /// Takes connections, and closes each at once.
    pub(super) fn closing(namespace: &Namespace, at: SocketAddr) -> Result<Self, LabError> {
        Self::start(namespace, at, 1, drop)
    }

    /// Answers a request on each connection with a page of a kilobyte.
    pub(super) fn of_pages(namespace: &Namespace, at: SocketAddr) -> Result<Self, LabError> {
        let page = "quorate\n".repeat(128);
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{page}",
            page.len()
        );
        Self::start(namespace, at, PAGE_THREADS, move |stream| {
            // A client that goes away is its own matter.
            let _gone = answer_with(stream, answer.as_bytes());
        })
    }

    fn start(
        namespace: &Namespace,
        at: SocketAddr,
        threads: usize,
        speak: impl Fn(TcpStream) + Send + Sync + 'static,
    ) -> Result<Self, LabError> {
        let listener =
            namespace.enter(|| open(at))?.map_err(LabError::io(format!("listen on {at}")))?;
        let (listener, speak) = (Arc::new(listener), Arc::new(speak));
        let (ends, taken) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = (0..threads).map(|_| {
            let (listener, speak) = (Arc::clone(&listener), Arc::clone(&speak));
            let (ends, taken) = (Arc::clone(&ends), Arc::clone(&taken));
            std::thread::spawn(move || {
                while !ends.load(Ordering::Relaxed) {
                    let mut waits = [PollFd::new(&*listener, PollFlags::IN)];
                    let _interrupted = poll(&mut waits, Some(&LOOK_EVERY));
                    while let Ok((stream, _)) = listener.accept() {
                        taken.fetch_add(1, Ordering::Relaxed);
                        speak(stream);
                    }
                }
            })
        });
        Ok(Self { threads: threads.collect(), ends, taken })
    }

    /// Connections that were taken so far.
    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A thread that panicked has ended too.
            let _ended = thread.join();
        }
    }
}

/// The standard library's listener, with more room.
fn open(at: SocketAddr) -> io::Result<TcpListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &at)?;
    listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

fn answer_with(mut stream: TcpStream, answer: &[u8]) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let (mut head, mut buffer) = (Vec::new(), [0; 1024]);
    while head.len() < REQUEST_BYTES_MAX {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        head.extend_from_slice(buffer.get(..count).unwrap_or_default());
        if head.ends_with(b"\r\n\r\n") {
            return stream.write_all(answer);
        }
    }
    Ok(())
}
