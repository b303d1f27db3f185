//! What checks by gRPC, UDP, DNS, SMTP, by a program and a file ask, and which answers are good ones; the
//! words are those of keepalived.conf(5), and of the gRPC Health Checking Protocol.

use std::fmt;

use super::WEIGHT_MAX;
use super::http::Tls;

/// A gRPC server is asked for its health (`grpc.health.v1.Health/Check`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct GrpcCheck {
    /// How it is spoken to by TLS; `None`: in clear.
    pub tls: Option<Tls>,
    /// The service whose health is asked for; empty: that of the whole server.
    pub service: String,
    /// The authority that it is told; `None`: where it connects to.
    pub host: Option<String>,
}

/// A status that a call of gRPC ended with: its number, and its name
/// (<https://grpc.io/docs/guides/status-codes/>).
const GRPC_CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

impl GrpcCheck {
    /// What the status in the answer says (`HealthCheckResponse.ServingStatus`).
    ///
    /// # Errors
    /// With the reason, for a person, where it does not serve.
    pub fn judge(&self, status: i32) -> Result<(), String> {
        let said = match status {
            1 => return Ok(()),
            0 => "is UNKNOWN: its program has not said yet how it is",
            2 => "is NOT_SERVING: it answers, and says that it takes no requests",
            3 => "is SERVICE_UNKNOWN: set `service` of the check to a name that it registers",
            other => return Err(format!("{} has status {other}, not SERVING", self.whose())),
        };
        Err(format!("{} {said}", self.whose()))
    }

    /// Why there was no answer: the call ended with this status, and these words of the server.
    #[must_use]
    pub fn unanswered(&self, code: i32, words: &str) -> String {
        let name = usize::try_from(code).ok().and_then(|code| GRPC_CODES.get(code));
        let name = name.map_or_else(|| format!("status {code}"), |name| (*name).to_owned());
        let advice = match name.as_str() {
            "NOT_FOUND" => ": set `service` of the check to a name that it registers",
            "UNIMPLEMENTED" => {
                ": it has no health service (grpc.health.v1.Health); register it, or use type = \
                 \"tcp\""
            }
            "UNAUTHENTICATED" | "PERMISSION_DENIED" => {
                ": its health service has to answer without credentials"
            }
            _ => "",
        };
        // Its words are anybody's: in quotes, and not too many.
        let words: String = words.chars().take(WORDS_CHARS_MAX).collect();
        let words = if words.is_empty() { words } else { format!(" {words:?}") };
        format!("{} is not told, {name}{words}{advice}", self.whose_health())
    }

    fn whose(&self) -> String {
        match self.service.as_str() {
            "" => "the server".to_owned(),
            service => format!("service {service:?}"),
        }
    }

    fn whose_health(&self) -> String {
        format!("the health of {}", self.whose())
    }
}

/// Most of a server's own words that a reason repeats.
const WORDS_CHARS_MAX: usize = 120;

/// A datagram is sent, and what comes back is looked at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UdpCheck {
    /// What is sent.
    pub payload: Vec<u8>,
    /// What has to come back; `None`: anything but an error of ICMP, within the time-out.
    pub reply: Option<UdpReply>,
}

/// What a datagram that comes back has to be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UdpReply {
    /// How it begins: each byte, and which of its bits count. A shorter datagram may end earlier.
    pub begins: Vec<(u8, u8)>,
    /// How long it is at least, in bytes.
    pub min_length: u16,
    /// How long it is at most, in bytes.
    pub max_length: u16,
}

impl UdpReply {
    /// Whether a datagram is what has to come back; the reason where it is not.
    ///
    /// # Errors
    /// With the reason, for a person.
    pub fn accept(&self, datagram: &[u8]) -> Result<(), String> {
        let (min, max) = (usize::from(self.min_length), usize::from(self.max_length));
        let length = datagram.len();
        if !(min..=max).contains(&length) {
            return Err(format!("the reply has {length} bytes, not {min} to {max}"));
        }
        let differs = |(byte, (wanted, mask)): (&u8, &(u8, u8))| (byte ^ wanted) & mask != 0;
        match datagram.iter().zip(&self.begins).position(differs) {
            Some(at) => Err(format!("byte {at} of the reply is another")),
            None => Ok(()),
        }
    }
}

/// A DNS server is asked for a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DnsCheck {
    /// The name, without a dot at its end but for the root, which is `.`.
    pub name: String,
    /// The type of the record.
    pub record: DnsRecord,
    /// The good response codes.
    pub rcodes: Vec<Rcode>,
}

/// A type of record (RFC 1035, section 3.2.2, and RFC 3596).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DnsRecord(pub(super) &'static str, pub(super) u16);

/// The types of record that can be asked for.
pub const DNS_RECORDS: [(&str, DnsRecord); 9] = [
    ("SOA", DnsRecord("SOA", 6)),
    ("A", DnsRecord("A", 1)),
    ("AAAA", DnsRecord("AAAA", 28)),
    ("NS", DnsRecord("NS", 2)),
    ("CNAME", DnsRecord("CNAME", 5)),
    ("PTR", DnsRecord("PTR", 12)),
    ("MX", DnsRecord("MX", 15)),
    ("TXT", DnsRecord("TXT", 16)),
    ("SRV", DnsRecord("SRV", 33)),
];

/// A response code (RFC 1035, section 4.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rcode(pub(super) &'static str, pub(super) u8);

/// The response codes, by their names.
pub const RCODES: [(&str, Rcode); 6] = [
    ("NOERROR", Rcode("NOERROR", 0)),
    ("FORMERR", Rcode("FORMERR", 1)),
    ("SERVFAIL", Rcode("SERVFAIL", 2)),
    ("NXDOMAIN", Rcode("NXDOMAIN", 3)),
    ("NOTIMP", Rcode("NOTIMP", 4)),
    ("REFUSED", Rcode("REFUSED", 5)),
];

/// Bytes of the header of a message (RFC 1035, section 4.1.1).
const HEADER_BYTES: usize = 12;

impl DnsCheck {
    /// The query with this identifier (RFC 1035, section 4.1).
    #[must_use]
    pub fn query(&self, id: u16) -> Vec<u8> {
        let mut message = id.to_be_bytes().to_vec();
        // Recursion desired; one question.
        message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        for label in self.name.split('.').filter(|label| !label.is_empty()) {
            message.push(u8::try_from(label.len()).unwrap_or(u8::MAX));
            message.extend(label.as_bytes());
        }
        message.push(0);
        message.extend(self.record.1.to_be_bytes());
        message.extend([0, 1]);
        message
    }

    /// Whether a datagram answers the query with this identifier, and how; `None`: it is no answer to
    /// it.
    #[must_use]
    pub fn judge(&self, id: u16, datagram: &[u8]) -> Option<Result<(), String>> {
        let header: &[u8; HEADER_BYTES] = datagram.first_chunk()?;
        let [high, low, flags, code, ..] = *header;
        if u16::from_be_bytes([high, low]) != id || flags & 0x80 == 0 {
            return None;
        }
        let code = code & 0x0f;
        if self.rcodes.iter().any(|good| good.1 == code) {
            return Some(Ok(()));
        }
        let name = RCODES.iter().find(|(_, rcode)| rcode.1 == code).map(|(name, _)| *name);
        let name = name.map_or_else(|| format!("response code {code}"), str::to_owned);
        let good: Vec<&str> = self.rcodes.iter().map(|rcode| rcode.0).collect();
        Some(Err(format!("it answers {name}, not {}", good.join(" or "))))
    }
}

/// A program is run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExecCheck {
    /// Absolute path and arguments; never empty.
    pub command: Vec<String>,
    /// The user that it runs as; left out, nobody where the daemon is root, and else the daemon's own.
    pub user: Option<String>,
    /// Whether its exit status says the weight too.
    pub dynamic: bool,
}

impl ExecCheck {
    /// What the exit status of the program says (keepalived.conf(5), MISC_CHECK): 0 is good, 1 is
    /// not; with `dynamic` 2 to 255 are good, and the weight is two less.
    ///
    /// # Errors
    /// With the reason, for a person, where the real server failed.
    pub fn judge(&self, status: i32) -> Result<Option<u32>, String> {
        match u32::try_from(status) {
            Ok(0) => Ok(None),
            Ok(status @ 2..=255) if self.dynamic => Ok(Some(status - 2)),
            _ => Err(format!("{} ended with {status}", self.program())),
        }
    }

    /// The program, for people.
    #[must_use]
    pub fn program(&self) -> &str {
        self.command.first().map_or("it", String::as_str)
    }
}

/// A file of the director's says how the real server is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileCheck {
    /// Absolute, on every director.
    pub path: String,
    /// Whether the number in it is a weight.
    pub dynamic: bool,
}

impl FileCheck {
    /// What the file's text says, which is a number with nothing but spaces around it: 0 is good and
    /// all else is not (keepalived.conf(5), track_file without a weight); with `dynamic` it is the
    /// weight, and one below 0 is not good.
    ///
    /// # Errors
    /// With the reason, for a person, where the real server failed.
    pub fn judge(&self, text: &str) -> Result<Option<u32>, String> {
        let path = &self.path;
        let text = text.trim();
        let Ok(number) = text.parse::<i64>() else {
            let shortened: String = text.chars().take(60).collect();
            return Err(format!("{path} says {shortened:?}, which is no number"));
        };
        match (self.dynamic, u32::try_from(number)) {
            (false, Ok(0)) => Ok(None),
            (false, _) => Err(format!("{path} says {number}, not 0")),
            (true, Ok(weight)) if weight <= WEIGHT_MAX => Ok(Some(weight)),
            (true, _) if number < 0 => Err(format!("{path} says {number}, below 0")),
            (true, _) => Err(format!("{path} says {number}, and no weight is above {WEIGHT_MAX}")),
        }
    }
}

impl fmt::Display for FileCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, dynamic } = self;
        write!(f, "file {path}{}", if *dynamic { " dynamic" } else { "" })
    }
}

impl fmt::Display for GrpcCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tls, service, host } = self;
        f.write_str(if tls.is_some() { "grpc by tls" } else { "grpc" })?;
        if !service.is_empty() {
            write!(f, " service {service}")?;
        }
        if let Some(host) = host {
            write!(f, " host {host}")?;
        }
        tls.as_ref().map_or(Ok(()), |tls| write!(f, "{tls}"))
    }
}

impl fmt::Display for UdpCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "udp {} bytes", self.payload.len())?;
        let Some(UdpReply { begins, min_length, max_length }) = &self.reply else { return Ok(()) };
        write!(f, " reply of {min_length} to {max_length}")?;
        if !begins.is_empty() {
            f.write_str(" ")?;
        }
        for (byte, mask) in begins {
            for shift in [4, 0] {
                match (mask >> shift) & 0xf {
                    0 => f.write_str("x")?,
                    _ => write!(f, "{:x}", (byte >> shift) & 0xf)?,
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for DnsCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, record, rcodes } = self;
        let rcodes: Vec<&str> = rcodes.iter().map(|rcode| rcode.0).collect();
        write!(f, "dns {} {name} {}", record.0, rcodes.join(","))
    }
}

impl fmt::Display for ExecCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exec {}", self.command.join(" "))?;
        if let Some(user) = &self.user {
            write!(f, " as {user}")?;
        }
        f.write_str(if self.dynamic { " dynamic" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_in_a_file_is_a_verdict_and_with_dynamic_a_weight() {
        let judge = |dynamic, text: &str| FileCheck { path: "/f".to_owned(), dynamic }.judge(text);
        assert_eq!(
            [" 0\n", "-0", "+0"].map(|text| judge(false, text)),
            [Ok(None), Ok(None), Ok(None)]
        );
        assert_eq!(judge(false, "1").unwrap_err(), "/f says 1, not 0");
        assert_eq!(judge(false, "-1").unwrap_err(), "/f says -1, not 0");
        assert_eq!(judge(true, "0"), Ok(Some(0)));
        assert_eq!(judge(true, "65535\n"), Ok(Some(65_535)));
        assert_eq!(judge(true, "-1").unwrap_err(), "/f says -1, below 0");
        assert_eq!(
            judge(true, "65536").unwrap_err(),
            "/f says 65536, and no weight is above 65535"
        );
        for (text, shown) in [("", "\"\""), ("5 5", "\"5 5\""), ("1e3", "\"1e3\"")] {
            let wrong = judge(true, text).unwrap_err();
            assert_eq!(wrong, format!("/f says {shown}, which is no number"));
        }
        assert!(judge(true, "99999999999999999999").unwrap_err().ends_with("no number"));
        assert!(judge(false, &"x".repeat(4_096)).unwrap_err().len() < 120);
    }

    #[test]
    fn only_serving_is_good_health_and_any_other_says_what_to_do() {
        let grpc = |service: &str| GrpcCheck { tls: None, service: service.to_owned(), host: None };
        assert_eq!(grpc("").judge(1), Ok(()));
        let reason = |status| grpc("a.B").judge(status).unwrap_err();
        assert!(reason(0).starts_with("service \"a.B\" is UNKNOWN: its program has not said"));
        assert!(reason(2).starts_with("service \"a.B\" is NOT_SERVING: it answers"));
        assert!(reason(3).contains("set `service` of the check"));
        assert_eq!(reason(-4), "service \"a.B\" has status -4, not SERVING");
        assert!(grpc("").judge(2).unwrap_err().starts_with("the server is NOT_SERVING"));
    }

    #[test]
    fn a_status_instead_of_a_health_is_named_with_a_few_of_the_servers_words() {
        let of = GrpcCheck { tls: None, service: String::new(), host: None };
        let shown = of.unanswered(14, "come \n again");
        assert_eq!(shown, "the health of the server is not told, UNAVAILABLE \"come \\n again\"");
        assert!(of.unanswered(12, "").contains("UNIMPLEMENTED: it has no health service"));
        assert!(
            of.unanswered(5, "")
                .ends_with("set `service` of the check to a name that it registers")
        );
        assert!(of.unanswered(16, "").contains("without credentials"));
        assert!(
            of.unanswered(99, "").contains("status 99") && of.unanswered(-1, "").contains("-1")
        );
        assert!(of.unanswered(2, &"x".repeat(9_999)).len() < 200);
    }

    fn dns(name: &str) -> DnsCheck {
        DnsCheck { name: name.to_owned(), record: DNS_RECORDS[1].1, rcodes: vec![RCODES[0].1] }
    }

    #[test]
    fn a_dns_query_is_a_header_and_one_question() {
        let query = dns("www.example.com").query(0x1234);
        assert_eq!(query[..12], [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(&query[12..], b"\x03www\x07example\x03com\0\0\x01\0\x01");
        assert_eq!(&dns(".").query(0)[12..], b"\0\0\x01\0\x01");
    }

    #[test]
    fn only_an_answer_to_the_query_is_heeded_and_its_code_counts() {
        let answer = |id: u16, flags: u8, code: u8| {
            let mut message = id.to_be_bytes().to_vec();
            message.extend([flags, code, 0, 1, 0, 0, 0, 0, 0, 0]);
            dns(".").judge(7, &message)
        };
        assert_eq!(answer(7, 0x80, 0x80), Some(Ok(())));
        assert_eq!(answer(7, 0x80, 3), Some(Err("it answers NXDOMAIN, not NOERROR".to_owned())));
        assert_eq!(
            answer(7, 0x80, 9).unwrap().unwrap_err(),
            "it answers response code 9, not NOERROR"
        );
        assert_eq!((answer(8, 0x80, 0), answer(7, 0, 0)), (None, None));
        assert_eq!(dns(".").judge(7, &[0, 7, 0x80]), None);
    }

    #[test]
    fn a_udp_reply_has_its_length_and_begins_as_it_shall() {
        let reply =
            UdpReply { begins: vec![(0xab, 0xff), (0x10, 0xf0)], min_length: 1, max_length: 3 };
        assert_eq!(reply.accept(&[0xab, 0x1f, 9]), Ok(()));
        assert_eq!(reply.accept(&[0xab]), Ok(()));
        assert_eq!(reply.accept(&[0xab, 0x2f]).unwrap_err(), "byte 1 of the reply is another");
        assert_eq!(reply.accept(&[]).unwrap_err(), "the reply has 0 bytes, not 1 to 3");
        assert!(reply.accept(&[0xab, 0x10, 0, 0]).is_err());
    }

    #[test]
    fn an_exit_status_is_a_verdict_and_with_dynamic_a_weight() {
        let exec =
            |dynamic| ExecCheck { command: vec!["/bin/check".to_owned()], user: None, dynamic };
        assert_eq!(
            [0, 2, 255].map(|status| exec(true).judge(status)),
            [Ok(None), Ok(Some(0)), Ok(Some(253))]
        );
        assert_eq!(exec(false).judge(2).unwrap_err(), "/bin/check ended with 2");
        assert!(exec(true).judge(1).is_err() && exec(true).judge(-1).is_err());
    }
}
