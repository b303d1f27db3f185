//! A real server's echo server for the lab: sends back what a TCP connection brings, for as long as
//! it lasts, and answers each UDP datagram with its name. `echo-server ADDRESS:PORT NAME`. Bounded
//! in connections and in what it holds of each. Seen at work in `tests/lab_ipvs_connections.rs`.
#![forbid(unsafe_code)]

use std::io::{self, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::process::ExitCode;

use quorate_tests::lab::server;

const CONNECTIONS_AT_MOST: usize = 1024;
/// Each connection has a thread, which needs little.
const STACK: usize = 64 * 1024;

fn main() -> ExitCode {
    server::run("echo-server", "NAME", |address, name| {
        let datagrams = UdpSocket::bind(address)?;
        std::thread::spawn(move || answer_datagrams(&datagrams, name.as_bytes()));
        server::serve(address, CONNECTIONS_AT_MOST, STACK, echo)
    })
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
