//! What each fuzz target does with its bytes: readers of what others send or write never panic, whatever
//! it is, and keep the rule that stands beside each. `fuzz/` has libFuzzer call them (nightly); the test
//! `tests/tests/fuzz_seeds.rs` replays the seeds, and changed ones, on every run. A broken rule panics.

use std::collections::BTreeMap;
use std::net::IpAddr;

use quorate_api::convert::{DecodeError, Promises, decode, message};
use quorate_api::failure;
use quorate_api::peer::v1 as peer;
use quorate_api::v1;
use quorate_ctl::keepalived::{Options, import};
use quorate_dataplane::{MacAddress, announce, ask};
use quorate_model::command::Command;
use quorate_model::ownership::message::Message;
use quorate_model::reply::{
    SMTP_LINE_BYTES_MAX, SMTP_LINES_MAX, SmtpReply, echo_request, is_echo_reply,
};
use quorate_model::spec::difference::difference;
use quorate_model::spec::{
    self, DNS_RECORDS, DnsCheck, Format, Pattern, RCODES, StatusCodes, UdpReply,
};
use quorate_model::state::ClusterState;

/// A target, by the name of its folder of seeds.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The name.
    pub name: &'static str,
    /// What is done with bytes.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: [Target; 11] = [
    Target { name: "dns_reply", run: dns_reply },
    Target { name: "udp_reply", run: udp_reply },
    Target { name: "smtp_reply", run: smtp_reply },
    Target { name: "echo_reply", run: echo_reply },
    Target { name: "http_answer", run: http_answer },
    Target { name: "configuration", run: configuration },
    Target { name: "keepalived", run: keepalived },
    Target { name: "peer_datagram", run: peer_datagram },
    Target { name: "stored", run: stored },
    Target { name: "neighbour", run: neighbour },
    Target { name: "api", run: api },
];

/// Takes what is fixed off the front of the bytes; zeros where they end.
fn head<const N: usize>(bytes: &[u8]) -> ([u8; N], &[u8]) {
    let mut head = [0; N];
    for (to, from) in head.iter_mut().zip(bytes) {
        *to = *from;
    }
    (head, bytes.get(N..).unwrap_or_default())
}

/// Two bytes of identifier, one of which response codes are good, the datagram. Only a message with that
/// identifier that is marked as a response is an answer, and its code alone says whether it is good.
pub fn dns_reply(bytes: &[u8]) {
    let ([high, low, good], datagram) = head(bytes);
    let id = u16::from_be_bytes([high, low]);
    let rcodes = RCODES.iter().enumerate().filter(|(bit, _)| good >> bit & 1 == 1);
    let rcodes = rcodes.map(|(_, (_, rcode))| *rcode).collect();
    let check = DnsCheck { name: "example.com".to_owned(), record: DNS_RECORDS[0].1, rcodes };
    let answers = datagram.len() >= 12 && datagram[..2] == [high, low] && datagram[2] >= 0x80;
    let judged = check.judge(id, datagram);
    assert_eq!(judged.is_some(), answers);
    if let Some(judged) = judged {
        let code = datagram[3] & 0x0f;
        // The names stand in the order of their numbers.
        assert_eq!(judged.is_ok(), code < 6 && good >> code & 1 == 1);
        assert!(judged.err().is_none_or(|reason| reason.len() < 100));
    }
    assert_eq!(check.judge(id, &check.query(id)), None, "a question is no answer");
}

/// Least and greatest length, and so many bytes with their masks, then the datagram. It is taken if its
/// length is one of these and no bit that counts differs.
pub fn udp_reply(bytes: &[u8]) {
    let ([a, b, c, d, count], mut rest) = head(bytes);
    let (min_length, max_length) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    let mut begins = Vec::new();
    for _ in 0..count {
        let ([byte, mask], after) = head(rest);
        (rest, begins) = (after, [begins, vec![(byte, mask)]].concat());
    }
    let reply = UdpReply { begins, min_length, max_length };
    let fits = rest.len() >= min_length.into() && rest.len() <= max_length.into();
    let same = |(at, (wanted, mask)): (usize, &(u8, u8))| {
        rest.get(at).is_none_or(|byte| byte & mask == wanted & mask)
    };
    let accepted = reply.accept(rest);
    assert_eq!(accepted.is_ok(), fits && reply.begins.iter().enumerate().all(same));
    assert!(accepted.err().is_none_or(|reason| reason.len() < 100));
}

/// Lines as a server would send them, cut as the probe cuts them. A reply ends within its bound, and a good
/// one with a line of its code.
pub fn smtp_reply(bytes: &[u8]) {
    let mut reply = SmtpReply::new("250", "its reply");
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let lines = lines.flat_map(|line| line.chunks(SMTP_LINE_BYTES_MAX.into()));
    for (number, line) in (1..).zip(lines) {
        match reply.take(line) {
            Ok(last) => {
                assert!(number <= SMTP_LINES_MAX && line.starts_with(b"250"));
                assert_eq!(last, line.get(3) != Some(&b'-'));
                if last {
                    return;
                }
            }
            Err(reason) => {
                // Escaped for people, each byte at its longest.
                assert!(reason.len() < 100 + 12 * usize::from(SMTP_LINE_BYTES_MAX));
                return;
            }
        }
    }
}

/// The family, a payload, an IP header's first byte, the message. What counts as a reply ends with what was
/// sent; and a true reply counts behind whatever IP header.
pub fn echo_reply(bytes: &[u8]) {
    let ([family, first], rest) = head(bytes);
    let (payload, message) = head::<8>(rest);
    let address: IpAddr = match family & 1 {
        0 => [192, 0, 2, 1].into(),
        _ => [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into(),
    };
    if is_echo_reply(address, message, payload) {
        assert!(message.len() >= 24 && message.ends_with(&payload));
    }
    let mut reply = echo_request(address, payload);
    assert!(!is_echo_reply(address, &reply, payload), "a request is no reply");
    reply[0] = if address.is_ipv4() { 0 } else { 129 };
    assert!(is_echo_reply(address, &reply, payload));
    if address.is_ipv4() && first & 0x0f > 0 {
        let mut headed = vec![0x40 | first & 0x0f; usize::from(first & 0x0f) * 4];
        headed.extend(&reply);
        assert!(is_echo_reply(address, &headed, payload));
    }
}

/// A status, ranges of good ones, a pattern up to its zero byte, and a body. A status is good that is in a
/// range; a pattern either compiles in its bounds, and then always, or says why not.
pub fn http_answer(bytes: &[u8]) {
    let ([a, b, count], mut rest) = head(bytes);
    let mut ranges = Vec::new();
    for _ in 0..count % 8 {
        let ([a, b, c, d], after) = head(rest);
        rest = after;
        ranges.push((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])));
    }
    let status = u16::from_be_bytes([a, b]);
    let good = ranges.iter().any(|(first, last)| *first <= status && status <= *last);
    assert_eq!(StatusCodes(ranges).has(status), good);
    let end = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
    let (text, body) = rest.split_at(end);
    let Ok(text) = std::str::from_utf8(text) else { return };
    match Pattern::new(text) {
        Ok(pattern) => {
            assert_eq!(pattern.as_str(), text);
            let compiled = pattern.compile();
            assert!(compiled.is_ok(), "{text:?}: {compiled:?}");
            let found = compiled.map(|matcher| matcher.is_in(body));
            assert_eq!(found.ok(), pattern.compile().map(|again| again.is_in(body)).ok());
        }
        Err(reason) => assert!(!reason.is_empty() && !reason.contains('\n'), "{reason:?}"),
    }
}

/// A configuration, as TOML and as JSON. It is read the same each time and does not differ from itself, or
/// each error is told with its place.
pub fn configuration(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for format in [Format::Toml, Format::Json] {
        match spec::parse(text, format) {
            Ok(one) => {
                let other = spec::parse(text, format);
                assert_eq!(other.as_ref().ok(), Some(&one), "{other:?}");
                assert_eq!(difference(&one, &one), []);
            }
            Err(wrong) => {
                assert!(wrong.iter().count() <= spec::document::DIAGNOSTICS_MAX);
                assert!(wrong.render("cluster", text).starts_with("error: "));
            }
        }
    }
}

/// A keepalived.conf. What is made of it is a configuration, and the same when it is made again; where there is none,
/// an error says why.
pub fn keepalived(bytes: &[u8]) {
    let files = BTreeMap::from([("k.conf".to_owned(), bytes.to_vec())]);
    let options = Options {
        keep_going: bytes.first().is_some_and(|byte| byte % 2 == 0),
        ..Options::default()
    };
    let make = || import(&files, &["k.conf".to_owned()], &options);
    let imported = make();
    assert!(imported.report.render().len() < 64 * 1024 * 1024);
    match imported.source {
        Some(source) => {
            let parsed = spec::parse(&source, Format::Toml);
            assert!(parsed.is_ok(), "{source}\n{parsed:?}");
            // Twice as long: now and then will do.
            if bytes.len().is_multiple_of(16) {
                assert_eq!(make().source, Some(source));
            }
        }
        None => assert!(imported.report.errors() > 0),
    }
}

/// A datagram of another node. What is understood says the same when it is sent on.
pub fn peer_datagram(bytes: &[u8]) {
    let datagram: Result<peer::Datagram, _> = decode("Datagram", bytes);
    let Ok(message) = datagram.and_then(message) else { return };
    let again = Message::try_from(peer::datagram::Message::from(&message));
    assert_eq!(again, Ok(message));
}

/// What stands in the store: one byte says what, then the bytes. What is read is written as it was.
pub fn stored(bytes: &[u8]) {
    fn comes_back<M, T>(what: &'static str, bytes: &[u8])
    where
        M: prost::Message + Default + for<'t> From<&'t T>,
        T: TryFrom<M, Error = DecodeError> + PartialEq + std::fmt::Debug,
    {
        let read = decode::<M>(what, bytes).and_then(T::try_from);
        let Ok(value) = read else { return };
        let again = T::try_from(M::from(&value));
        assert_eq!(again.as_ref().ok(), Some(&value), "{again:?}");
    }
    let ([what], bytes) = head(bytes);
    match what % 3 {
        0 => comes_back::<peer::Command, Command>("Command", bytes),
        1 => comes_back::<peer::State, ClusterState>("State", bytes),
        _ => comes_back::<peer::StoredPromises, Promises>("StoredPromises", bytes),
    }
}

/// A frame of the neighbourhood. Who answers says so of an address, and what asks answers nothing.
pub fn neighbour(frame: &[u8]) {
    let (mac, _) = head::<6>(frame);
    let Some((address, _)) = ask::answer(frame) else { return };
    assert_eq!(address.is_ipv4(), frame[12..14] == [0x08, 0x06]);
    assert_eq!(ask::answer(&ask::question(MacAddress(mac), address)), None);
    for announced in announce::frames(MacAddress(mac), address, false) {
        assert_eq!(ask::answer(&announced), Some((address, MacAddress(mac))));
    }
}

/// One byte says what, then what a client is sent, the details of a failed call, or a node: a request to
/// apply. Details say the same when they are sent on, as far as they have room; and whatever is wrong with
/// a configuration is told in few enough bytes for headers.
pub fn api(bytes: &[u8]) {
    let ([what], bytes) = head(bytes);
    if what % 2 == 0 {
        let Some(detail) = failure::read(bytes) else { return };
        let again = failure::detail(&failure::status("", detail.clone())).unwrap_or_default();
        assert_eq!((again.code, again.revision), (detail.code, detail.revision));
        assert!(detail.violations.starts_with(&again.violations));
        let left_out = u32::try_from(detail.violations.len() - again.violations.len());
        let more = detail.more_violations.saturating_add(left_out.unwrap_or(u32::MAX));
        assert_eq!(again.more_violations, more);
        return;
    }
    let Ok(request) = decode::<v1::ApplyRequest>("ApplyRequest", bytes) else { return };
    let format = match request.format() {
        v1::Format::Json => Format::Json,
        v1::Format::Toml | v1::Format::Unspecified => Format::Toml,
    };
    let Err(wrong) = spec::parse(&request.source, format) else { return };
    let text = wrong.render("configuration", &request.source);
    let status = failure::status(&text, failure::violations(&wrong));
    assert_eq!(failure::code(&status), Some(v1::ErrorCode::Invalid));
    assert!(status.details().len() < 4_000 && status.message().len() < 2_000);
}
