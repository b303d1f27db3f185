//! A client of the deployment: HTTP requests and ARP questions from within a namespace. Owns no
//! state; each request is bounded in time and size. Never retries: tests say what they expect.
//! Its tests are below and `tests/tests/lab_ipvs_vm.rs`.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use super::LabError;
use super::clock::Deadline;
use super::namespace::Namespace;

/// Pages of the lab are a line or two.
const PAGE_LIMIT: u64 = 64 * 1024;

/// Asks for the page of an HTTP server; gives its body.
///
/// # Errors
/// When no complete answer with status 200 came in time.
pub fn get(
    namespace: &Namespace,
    address: SocketAddr,
    timeout: Duration,
) -> Result<String, LabError> {
    let what = || format!("get http://{address}/ from {}", namespace.name());
    let answer = namespace.enter(|| fetch(address, timeout))?.map_err(LabError::io(what()))?;
    body(&answer).ok_or(LabError::Unreadable { what: what(), text: answer })
}

/// Opens a TCP connection; it stays in the namespace wherever it is used.
///
/// # Errors
/// When it was refused or did not open in time.
pub fn connect(
    namespace: &Namespace,
    address: SocketAddr,
    timeout: Duration,
) -> Result<TcpStream, LabError> {
    namespace
        .enter(|| TcpStream::connect_timeout(&address, timeout))?
        .map_err(LabError::io(format!("connect to {address} from {}", namespace.name())))
}

/// The hardware addresses, in lower case, that answer ARP for an address within `wait` (whole
/// seconds, all of which it takes). Two of them are two owners.
///
/// # Errors
/// When arping cannot be run.
pub fn arp_owner(
    namespace: &Namespace,
    interface: &str,
    address: IpAddr,
    wait: Duration,
) -> Result<BTreeSet<String>, LabError> {
    let mut arping = Command::new("arping");
    // Always by broadcast: arping would go on asking only the first who answered.
    arping.args(["-b", "-w", &wait.as_secs().max(1).to_string(), "-I", interface]);
    arping.arg(address.to_string());
    let finished = namespace.run(&mut arping, wait.saturating_add(Duration::from_secs(30)))?;
    // 1 says that nobody answered; above, or by a signal, it did not ask.
    if !matches!(finished.status.code(), Some(0 | 1)) || finished.stdout.is_empty() {
        return Err(LabError::Command {
            command: super::command::line_of(&arping),
            status: finished.status.to_string(),
            output: finished.stderr,
        });
    }
    Ok(answering(&finished.stdout))
}

fn fetch(address: SocketAddr, timeout: Duration) -> std::io::Result<String> {
    let deadline = Deadline::after(timeout);
    let mut stream = TcpStream::connect_timeout(&address, timeout)?;
    let late = || std::io::Error::from(std::io::ErrorKind::TimedOut);
    let remaining = |deadline: Deadline| {
        let left = deadline.remaining();
        if left.is_zero() { Err(late()) } else { Ok(Some(left)) }
    };
    stream.set_write_timeout(remaining(deadline)?)?;
    stream.write_all(format!("GET / HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    let mut limited = (&mut stream).take(PAGE_LIMIT);
    loop {
        limited.get_ref().set_read_timeout(remaining(deadline)?)?;
        match limited.read(&mut buffer)? {
            0 => return Ok(String::from_utf8_lossy(&answer).into_owned()),
            count => answer.extend_from_slice(buffer.get(..count).unwrap_or_default()),
        }
    }
}

fn body(answer: &str) -> Option<String> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.lines().next()?.split_whitespace().nth(1)?;
    (status == "200").then(|| body.to_owned())
}

fn answering(arping: &str) -> BTreeSet<String> {
    arping
        .lines()
        .filter(|line| line.contains("reply from"))
        .filter_map(|line| Some(line.split_once('[')?.1.split_once(']')?.0.to_lowercase()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_the_body_of_a_success_only() {
        let page = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nrs1\n";
        assert_eq!(body(page).as_deref(), Some("rs1\n"));
        assert_eq!(body("HTTP/1.1 503 Busy\r\n\r\nrs1\n"), None);
        assert_eq!(body("HTTP/1.1 200 OK\r\nCut"), None);
    }

    #[test]
    fn every_answering_address_is_found_once() {
        let text = "ARPING 10.0.0.1 from 10.0.0.9 eth0\n\
                    Unicast reply from 10.0.0.1 [0A:0B:0C:0D:0E:0F]  0.6ms\n\
                    Unicast reply from 10.0.0.1 [0A:0B:0C:0D:0E:01]  0.7ms\n\
                    Unicast reply from 10.0.0.1 [0A:0B:0C:0D:0E:0F]  0.6ms\n\
                    Sent 2 probes (2 broadcast(s))\nReceived 3 response(s)\n";
        let macs: Vec<_> = answering(text).into_iter().collect();
        assert_eq!(macs, ["0a:0b:0c:0d:0e:01", "0a:0b:0c:0d:0e:0f"]);
    }
}
