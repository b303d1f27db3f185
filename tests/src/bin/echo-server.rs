//! A real server's echo server for the lab: sends back what a TCP connection brings, for as long as
//! it lasts, and answers each UDP datagram with its name. `echo-server ADDRESS:PORT NAME`. Bounded
//! in connections and in what it holds of each. Seen at work in `tests/lab_ipvs_connections.rs`.
#![forbid(unsafe_code)]

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const CONNECTIONS_AT_MOST: usize = 1024;
/// Each connection has a thread, which needs little.
const STACK: usize = 64 * 1024;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(address), Some(name)) = (arguments.next(), arguments.next()) else {
        say("usage: echo-server ADDRESS:PORT NAME");
        return ExitCode::from(2);
    };
    match serve(&address, &name) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("echo-server: {address}: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn serve(address: &str, name: &str) -> io::Result<()> {
    let (datagrams, answer) = (UdpSocket::bind(address)?, name.to_owned());
    std::thread::spawn(move || answer_datagrams(&datagrams, answer.as_bytes()));
    let listener = TcpListener::bind(address)?;
    say(&format!("listening on {}", listener.local_addr()?));
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        let (stream, _client) = listener.accept()?;
        // Above the bound a client is turned away, which it sees as a failure, at once.
        if open.fetch_add(1, Ordering::AcqRel) >= CONNECTIONS_AT_MOST {
            open.fetch_sub(1, Ordering::AcqRel);
            continue;
        }
        let here = Arc::clone(&open);
        let work = move || {
            // A client that goes away is its own matter.
            let _gone = echo(stream);
            here.fetch_sub(1, Ordering::AcqRel);
        };
        std::thread::Builder::new().stack_size(STACK).spawn(work)?;
    }
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(buffer.get(..count).unwrap_or_default())?;
    }
}

fn answer_datagrams(socket: &UdpSocket, answer: &[u8]) {
    let mut buffer = [0; 2048];
    loop {
        // What one client does is nothing to the others.
        if let Ok((_, client)) = socket.recv_from(&mut buffer) {
            let _unreachable = socket.send_to(answer, client);
        }
    }
}

fn say(line: &str) {
    // Nobody is left to hear it when standard error is closed.
    let _closed = writeln!(io::stderr(), "{line}");
}
