//! A real server's web server for the lab: answers every request on an address with one page.
//! `page-server ADDRESS:PORT PAGE`. Bounded in connections, request size and time; it never reads
//! files. Seen at work in `tests/lab_ipvs_vm.rs`.
#![forbid(unsafe_code)]

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const CONNECTIONS_AT_MOST: usize = 128;
const TIMEOUT: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(address), Some(page)) = (arguments.next(), arguments.next()) else {
        say("usage: page-server ADDRESS:PORT PAGE");
        return ExitCode::from(2);
    };
    match serve(&address, &page) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("page-server: {address}: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn serve(address: &str, page: &str) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    say(&format!("listening on {}", listener.local_addr()?));
    let answer: Arc<str> = Arc::from(format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{page}\n",
        page.len() + 1
    ));
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        let (stream, _client) = listener.accept()?;
        // Above the bound a client is turned away, which it sees as a failure, at once.
        if open.fetch_add(1, Ordering::AcqRel) >= CONNECTIONS_AT_MOST {
            open.fetch_sub(1, Ordering::AcqRel);
            continue;
        }
        let (open, answer) = (Arc::clone(&open), Arc::clone(&answer));
        std::thread::spawn(move || {
            // A client that goes away (as every TCP health check does) is its own matter.
            let _gone = reply(stream, &answer);
            open.fetch_sub(1, Ordering::AcqRel);
        });
    }
}

/// Answers once the request's head is there; at most 16 KiB of it.
fn reply(mut stream: TcpStream, answer: &str) -> io::Result<()> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while head.len() < 16 * 1024 {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        head.extend_from_slice(buffer.get(..count).unwrap_or_default());
        if head.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
            return stream.write_all(answer.as_bytes());
        }
    }
    Ok(())
}

fn say(line: &str) {
    // Nobody is left to hear it when standard error is closed.
    let _closed = writeln!(io::stderr(), "{line}");
}
