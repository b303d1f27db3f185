//! A real server's web server for the lab: answers every request on an address with one page.
//! `page-server ADDRESS:PORT PAGE`. Bounded in connections, request size and time; it never reads
//! files. Seen at work in `tests/lab_ipvs_vm.rs`.
#![forbid(unsafe_code)]

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::time::Duration;

use quorate_tests::lab::server;

const CONNECTIONS_AT_MOST: usize = 128;
/// What a thread has where nothing is said.
const STACK: usize = 2 * 1024 * 1024;
const TIMEOUT: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    server::run("page-server", "PAGE", |address, page| {
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{page}\n",
            page.len() + 1
        );
        server::serve(address, CONNECTIONS_AT_MOST, STACK, move |stream| reply(stream, &answer))
    })
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
