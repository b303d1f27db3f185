//! What comes back from who is asked by ICMP echo and by SMTP, and whether that is an answer. Bytes only:
//! nothing is sent or read here. (What UDP and DNS checks heed stands beside them, in `spec::kinds`.)
//! Tests: below; and the fuzz targets (tests/src/fuzzing.rs), for whatever else may come.

use std::net::IpAddr;

/// What every ICMP message of ours carries besides its number, so that others' echoes are told from it.
const MARK: [u8; 8] = *b"quorate\0";
const ICMP_HEADER_BYTES: usize = 8;
/// Longest reply of an SMTP server (RFC 5321, section 4.5.3.1.5).
pub const SMTP_LINE_BYTES_MAX: u16 = 512;
/// Most lines of one.
pub const SMTP_LINES_MAX: u32 = 100;

/// The ICMP echo request to an address that carries this payload (RFC 792, RFC 4443 section 4).
#[must_use]
pub fn echo_request(address: IpAddr, payload: [u8; 8]) -> Vec<u8> {
    let kind = if address.is_ipv4() { 8 } else { 128 };
    // Type, code, checksum, identifier and number. A ping socket sets its own identifier; the
    // kernel sums ICMPv6, and ping sockets' messages, by itself.
    let mut message = vec![kind, 0, 0, 0, 0, 0, 0, 0];
    message.extend(MARK);
    message.extend(payload);
    let sum = internet_checksum(&[&message]);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// Whether this is the answer to the request with this payload. A raw IPv4 socket gives the IP
/// header too.
#[must_use]
pub fn is_echo_reply(address: IpAddr, message: &[u8], payload: [u8; 8]) -> bool {
    let (kind, skip) = match (address, message.first()) {
        (IpAddr::V4(_), Some(first)) if first >> 4 == 4 => (0, usize::from(first & 0x0f) * 4),
        (IpAddr::V4(_), _) => (0, 0),
        (IpAddr::V6(_), _) => (129, 0),
    };
    let icmp = message.get(skip..).unwrap_or_default();
    let expected: Vec<u8> = MARK.into_iter().chain(payload).collect();
    icmp.first() == Some(&kind) && icmp.get(ICMP_HEADER_BYTES..) == Some(expected.as_slice())
}

/// The Internet checksum (RFC 1071) over parts of even length, one behind the other.
#[must_use]
pub fn internet_checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u32 = words.map(|pair| pair.iter().fold(0, |w, b| w << 8 | u32::from(*b))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

/// A reply of an SMTP server, of one line or several, that has to have one code (RFC 5321, section 4.2).
#[derive(Debug, Clone)]
pub struct SmtpReply<'a> {
    code: &'a str,
    what: &'a str,
    lines: u32,
}

impl<'a> SmtpReply<'a> {
    /// The reply with this code; `what` it is, for people.
    #[must_use]
    pub fn new(code: &'a str, what: &'a str) -> Self {
        Self { code, what, lines: 0 }
    }

    /// Takes its next line, with its end, of [`SMTP_LINE_BYTES_MAX`] bytes at most. Says whether it
    /// was the last one.
    ///
    /// # Errors
    /// With the reason, for a person, where the reply is another, or does not end.
    pub fn take(&mut self, line: &[u8]) -> Result<bool, String> {
        let Self { code, what, lines } = self;
        if *lines >= SMTP_LINES_MAX {
            return Err(format!("{what} has more than {SMTP_LINES_MAX} lines"));
        }
        *lines += 1;
        let text = String::from_utf8_lossy(line);
        let text = text.trim_end();
        if line.last() != Some(&b'\n') {
            return Err(format!("{what} does not end: {text:?}"));
        }
        match text.strip_prefix(*code) {
            Some(rest) if rest.is_empty() || rest.starts_with(' ') => Ok(true),
            Some(rest) if rest.starts_with('-') => Ok(false),
            _ => Err(format!("{what} is not {code}: {text:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4() -> IpAddr {
        [192, 0, 2, 1].into()
    }

    fn v6() -> IpAddr {
        "2001:db8::1".parse().unwrap()
    }

    #[test]
    fn a_request_is_an_icmp_echo_with_a_checksum_that_verifies() {
        let request = echo_request(v4(), [7; 8]);
        assert_eq!((request[0], request[1], request.len()), (8, 0, 24));
        assert_eq!(internet_checksum(&[&request]), 0);
    }

    #[test]
    fn only_the_reply_to_this_very_request_counts() {
        let reply = |of: IpAddr, payload| {
            let mut message = echo_request(of, payload);
            message[0] = if of.is_ipv4() { 0 } else { 129 };
            message
        };
        let headed = |message: &[u8]| [&[0x46_u8; 24][..], message].concat();
        assert!(is_echo_reply(v4(), &reply(v4(), [7; 8]), [7; 8]));
        assert!(is_echo_reply(v4(), &headed(&reply(v4(), [7; 8])), [7; 8]), "behind an IP header");
        assert!(is_echo_reply(v6(), &reply(v6(), [7; 8]), [7; 8]));
        assert!(!is_echo_reply(v4(), &headed(&reply(v4(), [8; 8])), [7; 8]), "a former request's");
        assert!(!is_echo_reply(v4(), &headed(&echo_request(v4(), [7; 8])), [7; 8]), "the request");
        assert!(!is_echo_reply(v6(), &echo_request(v6(), [7; 8]), [7; 8]));
        for length in 0..24 {
            assert!(!is_echo_reply(v4(), &reply(v4(), [7; 8])[..length], [7; 8]));
        }
    }

    #[test]
    fn an_smtp_reply_ends_with_its_first_line_without_a_hyphen() {
        let mut greeting = SmtpReply::new("220", "its greeting");
        assert_eq!(greeting.take(b"220-mail.example.com\r\n"), Ok(false));
        assert_eq!(greeting.take(b"220 ready\r\n"), Ok(true));
        let take = |line: &[u8]| SmtpReply::new("220", "its greeting").take(line);
        assert_eq!(take(b"220\n"), Ok(true));
        assert_eq!(take(b"220 read").unwrap_err(), "its greeting does not end: \"220 read\"");
        assert_eq!(take(b"2200\r\n").unwrap_err(), "its greeting is not 220: \"2200\"");
        assert_eq!(take(b"").unwrap_err(), "its greeting does not end: \"\"");
    }

    #[test]
    fn an_smtp_reply_of_too_many_lines_is_none() {
        let mut greeting = SmtpReply::new("220", "its greeting");
        for _ in 0..SMTP_LINES_MAX {
            assert_eq!(greeting.take(b"220-more\r\n"), Ok(false));
        }
        assert_eq!(
            greeting.take(b"220 end\r\n").unwrap_err(),
            "its greeting has more than 100 lines"
        );
    }
}
