//! Probes by UDP, DNS, ICMP echo, SMTP, by a program and a file.

use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::sync::Arc;
use std::time::Duration;

use quorate_model::probe::Outcome;
use quorate_model::reply::{SMTP_LINE_BYTES_MAX, SmtpReply};
use quorate_model::spec::{DnsCheck, ExecCheck, FileCheck, UdpCheck};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;

use super::Failure;
use super::connect::{self, Place};
use crate::echo::{Echo, Unanswered};
use crate::exec::{Exec, Unended};
use crate::look::{Look, Unseen};
use crate::patience::{Over, within};

/// Longest datagram that is looked at.
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// Sends a datagram and looks at what comes back.
pub(super) async fn udp(
    check: &UdpCheck,
    place: &Place<'_>,
    timeout: Duration,
) -> Result<(), Failure> {
    let socket = connect::udp(place)?;
    send(&socket, &check.payload, place).await?;
    let received = within(timeout, receive(&socket, place)).await;
    match (received, &check.reply) {
        (Ok(datagram), Some(reply)) => reply.accept(&datagram?).map_err(Failure::Server),
        (Ok(datagram), None) => datagram.map(drop),
        // No error of ICMP came either.
        (Err(Over::Silent), None) => Ok(()),
        (Err(over), _) => Err(Failure::over(over, || format!("no reply within {timeout:?}"))),
    }
}

/// Asks a DNS server.
pub(super) async fn dns(
    check: &DnsCheck,
    place: &Place<'_>,
    timeout: Duration,
) -> Result<(), Failure> {
    let drawn: [u8; 2] = crate::identity::authority::random()
        .map_err(|error| Failure::Here(format!("no random number: {error}")))?;
    let id = u16::from_be_bytes(drawn);
    let socket = connect::udp(place)?;
    send(&socket, &check.query(id), place).await?;
    let answered = async {
        loop {
            let datagram = receive(&socket, place).await?;
            if let Some(judged) = check.judge(id, &datagram) {
                return judged.map_err(Failure::Server);
            }
        }
    };
    within(timeout, answered)
        .await
        .unwrap_or_else(|over| Err(Failure::over(over, || format!("no answer within {timeout:?}"))))
}

async fn send(socket: &UdpSocket, datagram: &[u8], place: &Place<'_>) -> Result<(), Failure> {
    socket.send(datagram).await.map(drop).map_err(|error| connect::failed(place, &error))
}

async fn receive(socket: &UdpSocket, place: &Place<'_>) -> Result<Vec<u8>, Failure> {
    let mut datagram = vec![0; DATAGRAM_BYTES_MAX];
    let length =
        socket.recv(&mut datagram).await.map_err(|error| connect::failed(place, &error))?;
    datagram.truncate(length);
    Ok(datagram)
}

/// Asks for an ICMP echo.
pub(super) async fn ping(place: &Place<'_>, timeout: Duration) -> Result<(), Failure> {
    let prepared = Echo::prepared(place.to.ip(), |socket| place.prepare(socket));
    let mut echo = prepared.map_err(|error| connect::not_prepared(place, &error))?;
    let asked = within(timeout, echo.ask(Duration::MAX)).await;
    let asked =
        asked.map_err(|over| Failure::over(over, || Unanswered::Late(timeout).to_string()))?;
    asked.map_err(|unanswered| match &unanswered {
        Unanswered::Late(_) => Failure::Server(unanswered.to_string()),
        Unanswered::Failed(error) if connect::is_here(error) => {
            Failure::Here(unanswered.to_string())
        }
        Unanswered::Failed(_) => Failure::Server(unanswered.to_string()),
    })
}

/// Is greeted by an SMTP server, and says HELO (RFC 5321).
pub(super) async fn smtp(helo: &str, place: &Place<'_>, timeout: Duration) -> Result<(), Failure> {
    let talk = async {
        let stream = connect::tcp(place, Duration::MAX).await?;
        let mut stream = BufReader::new(stream);
        expect(&mut stream, "220", "its greeting").await?;
        say(&mut stream, &format!("HELO {helo}\r\n")).await?;
        expect(&mut stream, "250", "its reply to HELO").await?;
        // Whatever it says to that: it works.
        let _ = say(&mut stream, "QUIT\r\n").await;
        Ok(())
    };
    within(timeout, talk).await.unwrap_or_else(|over| {
        Err(Failure::over(over, || format!("it did not say all within {timeout:?}")))
    })
}

async fn say(stream: &mut BufReader<TcpStream>, line: &str) -> Result<(), Failure> {
    let said = stream.write_all(line.as_bytes()).await;
    said.map_err(|error| Failure::Server(format!("the connection failed: {error}")))
}

/// Reads a reply, of one line or several, that has to have this code.
async fn expect(stream: &mut BufReader<TcpStream>, code: &str, what: &str) -> Result<(), Failure> {
    let mut reply = SmtpReply::new(code, what);
    loop {
        let mut line = Vec::new();
        let read = stream.take(SMTP_LINE_BYTES_MAX.into()).read_until(b'\n', &mut line).await;
        read.map_err(|error| Failure::Server(format!("the connection failed: {error}")))?;
        if reply.take(&line).map_err(Failure::Server)? {
            return Ok(());
        }
    }
}

/// Runs a program; the real server is in its environment.
pub(super) async fn exec(
    check: &ExecCheck,
    running: &mut Option<Exec>,
    server: SocketAddr,
    timeout: Duration,
) -> Outcome {
    let program = running.get_or_insert_with(|| {
        Exec::new(check.command.clone(), check.user.clone()).with(vec![
            ("QUORATE_ADDRESS", server.ip().to_string()),
            ("QUORATE_PORT", server.port().to_string()),
        ])
    });
    match program.end(timeout).await {
        Err(Unended::Unstarted(reason) | Unended::Late(reason)) => Outcome::Untried(reason),
        Err(Unended::Killed(reason)) => Outcome::Failed(format!("{}: {reason}", check.program())),
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => match check.judge(code) {
                Ok(None) => Outcome::Passed,
                Ok(Some(weight)) => Outcome::Weighed(weight),
                Err(reason) => Outcome::Failed(reason),
            },
            (None, signal) => Outcome::Failed(format!(
                "signal {} ended {}",
                signal.unwrap_or_default(),
                check.program()
            )),
        },
    }
}

/// Reads a file, which says how the real server is. One that can't be read does not say so.
pub(super) async fn file(
    check: &FileCheck,
    begun: &mut Option<Look<String>>,
    slots: &Arc<Semaphore>,
    timeout: Duration,
) -> Outcome {
    let look = begun.get_or_insert_with(|| Look::text(check.path.clone(), Arc::clone(slots)));
    let said = match look.look(timeout).await {
        Ok(text) => check.judge(&text),
        Err(Unseen::Wrong(reason)) => Err(reason),
        Err(Unseen::Here(reason)) => return Outcome::Untried(reason),
    };
    match said {
        Ok(None) => Outcome::Passed,
        Ok(Some(weight)) => Outcome::Weighed(weight),
        Err(reason) => Outcome::Failed(reason),
    }
}
