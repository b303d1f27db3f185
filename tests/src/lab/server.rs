//! What the lab's servers (`tests/src/bin/*-server.rs`) have in common: `NAME ADDRESS:PORT TEXT`, and a
//! thread for each of a bounded number of TCP connections. What is said on one is the program's.

use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The program: reads the two arguments, and serves until it is ended or fails.
pub fn run(name: &str, text: &str, serve: impl FnOnce(&str, String) -> io::Result<()>) -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(address), Some(value)) = (arguments.next(), arguments.next()) else {
        say(&format!("usage: {name} ADDRESS:PORT {text}"));
        return ExitCode::from(2);
    };
    match serve(&address, value) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("{name}: {address}: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Accepts connections for ever, each on a thread with so many bytes of stack. Above so many at once a
/// client is turned away, which it sees as a failure, at once.
///
/// # Errors
/// When the address can't be listened on, a connection not accepted, or no thread started.
pub fn serve(
    address: &str,
    most: usize,
    stack: usize,
    speak: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static,
) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    say(&format!("listening on {}", listener.local_addr()?));
    let (open, speak) = (Arc::new(AtomicUsize::new(0)), Arc::new(speak));
    loop {
        let (stream, _client) = listener.accept()?;
        if open.fetch_add(1, Ordering::AcqRel) >= most {
            open.fetch_sub(1, Ordering::AcqRel);
            continue;
        }
        let (here, speak) = (Arc::clone(&open), Arc::clone(&speak));
        let work = move || {
            // A client that goes away (as every TCP health check does) is its own matter.
            let _gone = speak(stream);
            here.fetch_sub(1, Ordering::AcqRel);
        };
        std::thread::Builder::new().stack_size(stack).spawn(work)?;
    }
}

fn say(line: &str) {
    // Nobody is left to hear it when standard error is closed.
    let _closed = writeln!(io::stderr(), "{line}");
}
