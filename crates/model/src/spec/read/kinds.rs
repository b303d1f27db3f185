//! What checks of type `udp`, `dns`, `smtp`, `exec` and `file` have of their own.

use crate::spec::document::{Diagnostics, Field, Table};
use crate::spec::{
    CheckKind, DNS_RECORDS, DnsCheck, ExecCheck, FileCheck, RCODES, Rcode, UdpCheck, UdpReply,
};

use super::{http, track};

pub(super) const UDP_KEYS: [&str; 4] = ["payload", "reply", "reply_min", "reply_max"];
pub(super) const DNS_KEYS: [&str; 3] = ["name", "record", "rcode"];
pub(super) const SMTP_KEYS: [&str; 1] = ["helo"];
pub(super) const EXEC_KEYS: [&str; 3] = ["command", "user", "dynamic"];
pub(super) const FILE_KEYS: [&str; 2] = ["path", "dynamic"];

/// Longest payload, and reply that is looked at.
const DATAGRAM_BYTES_MAX: usize = 1_024;
const REPLY_MAX_DEFAULT: u16 = 255;
/// Longest name in DNS, and longest of its parts (RFC 1035, section 2.3.4).
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

pub(super) fn udp(table: &Table<'_>, out: &mut Diagnostics) -> Option<CheckKind> {
    let payload = table.get("payload").map_or(Some(Vec::new()), |field| {
        let bytes = hexadecimal(&field, false, out)?;
        Some(bytes.into_iter().map(|(byte, _)| byte).collect())
    });
    let length = |key: &str, default: u16, out: &mut Diagnostics| {
        table.get(key).map_or(Some(default), |field| {
            field.integer("the length of a datagram", 0..=u16::MAX, out)
        })
    };
    let min_length = length("reply_min", 0, out);
    let max_length = length("reply_max", REPLY_MAX_DEFAULT, out);
    let reply = match table.get("reply") {
        None => Some(None),
        // Any reply will do.
        Some(field) if field.peek().is_none() => {
            field.flag(out).map(|wanted| wanted.then(Vec::new))
        }
        Some(field) => hexadecimal(&field, true, out).map(Some),
    };
    let (reply, min_length, max_length) = (reply?, min_length?, max_length?);
    let lengths = ["reply_min", "reply_max"].iter().find_map(|key| table.get(key));
    if let (Some(field), None) = (&lengths, &reply) {
        out.push(field.problem("no reply is waited for").help("reply = true"));
        return None;
    }
    if let (Some(field), true) = (&lengths, min_length > max_length) {
        let message = format!("no reply has at least {min_length} and at most {max_length} bytes");
        out.push(field.problem(message));
        return None;
    }
    let reply = reply.map(|begins| UdpReply { begins, min_length, max_length });
    Some(CheckKind::Udp(UdpCheck { payload: payload?, reply }))
}

/// Bytes as pairs of hexadecimal digits, spaces between them or not; in a pattern `x` stands for any
/// digit. Each with the bits that count.
fn hexadecimal(field: &Field<'_>, pattern: bool, out: &mut Diagnostics) -> Option<Vec<(u8, u8)>> {
    let text = field.text("bytes in hexadecimal", out)?;
    let digit = |byte: u8| match byte {
        b'x' | b'X' if pattern => Some((0, 0)),
        _ => char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok()).map(|d| (d, 0xf)),
    };
    let digits = text.bytes().filter(|byte| *byte != b' ').map(digit);
    let digits: Option<Vec<(u8, u8)>> = digits.collect();
    // Keepalived takes `Ab1 2` for three bytes; here that is none.
    let whole = text.split(' ').all(|group| group.len() % 2 == 0);
    let Some(digits) = digits.filter(|d| whole && d.len() <= 2 * DATAGRAM_BYTES_MAX) else {
        let any = if pattern { ", x for any" } else { "" };
        let message = format!(
            "0 to {DATAGRAM_BYTES_MAX} bytes are two hexadecimal digits each{any}: \"ab 12 0f\""
        );
        out.push(field.problem(message));
        return None;
    };
    let byte = |pair: &[(u8, u8)]| {
        pair.iter().fold((0, 0), |(byte, mask), (d, m)| ((byte << 4) | d, (mask << 4) | m))
    };
    Some(digits.chunks_exact(2).map(byte).collect())
}

pub(super) fn dns(table: &Table<'_>, out: &mut Diagnostics) -> Option<CheckKind> {
    let name = table.get("name").map_or(Some(".".to_owned()), |field| {
        let text = field.text("a name", out)?;
        let bare = text.strip_suffix('.').unwrap_or(text);
        let fits = |label: &str| {
            (1..=LABEL_BYTES_MAX).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_graphic())
        };
        if text != "." && (bare.len() > NAME_BYTES_MAX || !bare.split('.').all(fits)) {
            let problem =
                field.problem("not a name in DNS: parts of 1 to 63 characters, 253 in all");
            out.push(problem.help("name = \"www.example.com\", or \".\""));
            return None;
        }
        Some(if text == "." { text } else { bare }.to_owned())
    });
    let record = table.get("record").map_or(Some(DNS_RECORDS[0].1), |field| {
        field.choice("type of record", &DNS_RECORDS, &[], out)
    });
    let rcodes = table.get("rcode").map_or(Some(vec![RCODES[0].1]), |field| {
        let items = field.list_or_one();
        if items.is_empty() {
            out.push(field.problem("no response code is good").help("rcode = \"NOERROR\""));
            return None;
        }
        let rcodes: Vec<Option<Rcode>> =
            items.iter().map(|item| item.choice("response code", &RCODES, &[], out)).collect();
        rcodes.into_iter().collect()
    });
    Some(CheckKind::Dns(DnsCheck { name: name?, record: record?, rcodes: rcodes? }))
}

pub(super) fn smtp(table: &Table<'_>, out: &mut Diagnostics) -> Option<CheckKind> {
    let helo = table
        .get("helo")
        .map_or(Some("localhost".to_owned()), |field| http::visible(&field, "a name", out));
    Some(CheckKind::Smtp { helo: helo? })
}

pub(super) fn exec(table: &Table<'_>, out: &mut Diagnostics) -> Option<CheckKind> {
    let (command, user) = track::program(table, out)?;
    let dynamic = table.get("dynamic").map_or(Some(false), |field| field.flag(out));
    Some(CheckKind::Exec(ExecCheck { command, user, dynamic: dynamic? }))
}

pub(super) fn file(table: &Table<'_>, out: &mut Diagnostics) -> Option<CheckKind> {
    let path = table.require("path", out).and_then(|field| http::file(&field, out));
    let dynamic = table.get("dynamic").map_or(Some(false), |field| field.flag(out));
    Some(CheckKind::File(FileCheck { path: path?, dynamic: dynamic? }))
}
