//! The log, on standard error: which lines, and that nobody waits for its reader. A journal that takes
//! nothing (a full disk, a stopped journald, a terminal on hold) must stop no renewal. Tests: below.

use std::io::{self, IsTerminal as _};
use std::sync::OnceLock;

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

/// What is logged unless `QUORATE_LOG` says otherwise. Raft's own words are for its developers: while
/// a node is down it warns some hundred times a second of what "link is down" says once.
const DEFAULT: &str = "info,openraft=error";
/// Lines that may wait for the reader; those past it are dropped and counted.
const LINES_MAX: usize = 8_192;

static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// The running log. What is still to be written is written when it is dropped, for at most a second.
#[derive(Debug)]
#[must_use = "dropped, it logs no more"]
pub struct Log {
    _guard: WorkerGuard,
}

/// Starts the log of this process; once.
pub fn start() -> Log {
    let filter = EnvFilter::try_from_env("QUORATE_LOG").unwrap_or_else(|_| EnvFilter::new(DEFAULT));
    let (writer, guard) = writer(io::stderr());
    // A second start logs to the first.
    let _first = DROPPED.set(writer.error_counter());
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(writer);
    let _first = log.try_init();
    Log { _guard: guard }
}

/// How many lines were dropped since the daemon started, because nobody took them.
pub(crate) fn dropped() -> usize {
    DROPPED.get().map_or(0, ErrorCounter::dropped_lines)
}

fn writer(to: impl io::Write + Send + 'static) -> (NonBlocking, WorkerGuard) {
    NonBlockingBuilder::default()
        .buffered_lines_limit(LINES_MAX)
        .lossy(true)
        .thread_name("log")
        .finish(to)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::sync::mpsc;

    use super::*;

    /// Takes nothing until it is told to.
    struct Held(mpsc::Receiver<()>);

    impl io::Write for Held {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // The other end is gone: nothing is held any more.
            let _ = self.0.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn whoever_logs_never_waits_for_the_reader_and_what_is_dropped_is_counted() {
        let (let_go, held) = mpsc::sync_channel(0);
        let (mut writer, _guard) = writer(Held(held));
        // More than may wait, and what the reader may have in its hands.
        for _ in 0..LINES_MAX * 2 {
            assert_eq!(writer.write(b"a line\n").unwrap(), 7);
        }
        assert!(writer.error_counter().dropped_lines() >= LINES_MAX - 1);
        drop(let_go);
    }
}
