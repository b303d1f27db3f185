//! `DNS_CHECK`, `UDP_CHECK`, `MISC_CHECK` and `FILE_CHECK`.

use quorate_model::spec::DNS_RECORDS;

use super::super::ir::{Check, Fields};
use super::super::report::Report;
use super::super::tracks::{path_of, who};
use super::super::values::{bad, command, list, number_of, quoted, time_of};
use super::{Making, TIME, flag};

/// Longest payload, and reply that is looked at.
const DATAGRAM_BYTES_MAX: usize = 1_024;

impl Making<'_, '_> {
    pub(super) fn dns(&mut self, report: &mut Report) -> Vec<Check> {
        let mut fields: Fields = Vec::new();
        for (keyword, node) in self.common(Self::context("dns"), report) {
            let text = node.arg(1);
            if keyword == "type" {
                let upper = text.to_ascii_uppercase();
                match DNS_RECORDS.iter().find(|(name, _)| *name == upper) {
                    Some((name, _)) => fields.push(("record", quoted(name))),
                    None => bad(node, 1, "a type of record that is asked for", report),
                }
                continue;
            }
            let bare = text.strip_suffix('.').unwrap_or(text);
            let fits = |label: &str| {
                (1..=63).contains(&label.len()) && label.bytes().all(|byte| byte.is_ascii_graphic())
            };
            if text == "." || bare.len() <= 253 && bare.split('.').all(fits) {
                fields.push(("name", quoted(text)));
            } else {
                bad(node, 1, "a name in DNS", report);
            }
        }
        vec![self.check("dns", fields, false)]
    }

    pub(super) fn udp(&mut self, report: &mut Report) -> Vec<Check> {
        let (mut fields, mut reply, mut lengths): (Fields, _, Fields) =
            (Vec::new(), None, Vec::new());
        for (keyword, node) in self.common(Self::context("udp"), report) {
            let digits: Vec<&str> = node.args().collect();
            match keyword {
                "payload" => match bytes(&digits, false) {
                    Some(bytes) => fields.push(("payload", quoted(&bytes))),
                    None => bad(node, 1, "bytes in hexadecimal, 1024 at most", report),
                },
                "require_reply" if digits.is_empty() => reply = Some("true".to_owned()),
                "require_reply" => match bytes(&digits, true) {
                    Some(bytes) => reply = Some(quoted(&bytes)),
                    None => {
                        bad(node, 1, "bytes in hexadecimal, 1024 at most", report);
                        reply = Some("true".to_owned());
                    }
                },
                _ => {
                    let key = if keyword == "min_reply_length" { "reply_min" } else { "reply_max" };
                    let number = number_of(node, 1, (0, 65_535), report);
                    lengths.extend(number.map(|number| (key, number.to_string())));
                }
            }
        }
        let waits = reply.is_none();
        if let Some(reply) = reply {
            fields.push(("reply", reply));
            fields.extend(lengths);
        } else if !lengths.is_empty() {
            let what =
                "without require_reply no reply is waited for, so that its length does nothing";
            report.warn(self.node.place, "UDP_CHECK", what);
        }
        vec![self.check("udp", fields, waits)]
    }

    pub(super) fn misc(&mut self, report: &mut Report) -> Vec<Check> {
        let (mut run, mut user, mut dynamic) = (None, self.known.user.clone(), false);
        let own = self.common(Self::context("exec"), report);
        // The time of connections is nothing to a program.
        self.times.timeout = None;
        for (keyword, node) in own {
            match keyword {
                "misc_path" => {
                    run = command(node.words.get(1..).unwrap_or_default());
                    if run.is_none() {
                        bad(node, 1, "a program", report);
                    }
                }
                "misc_timeout" => self.times.timeout = time_of(node, 1, TIME, report),
                "misc_dynamic" => dynamic = flag(node, report) == Some(true),
                "user" => user = who(node, 1, report),
                _ => {}
            }
        }
        let Some(run) = run else { return self.without("it has no misc_path", report) };
        let mut fields: Fields = vec![("command", list(&run))];
        match user {
            Some(user) => fields.push(("user", quoted(&user))),
            None => {
                let what = "it names no user: here `nobody` runs it, with Keepalived keepalived_script or root";
                report.warn(self.node.place, "MISC_CHECK", what);
            }
        }
        fields.extend(dynamic.then(|| ("dynamic", "true".to_owned())));
        vec![self.check("exec", fields, false)]
    }

    pub(super) fn file(&mut self, report: &mut Report) -> Vec<Check> {
        let (mut path, mut dynamic) = (None, false);
        for (keyword, node) in self.common(Self::context("file"), report) {
            if keyword == "track_file" {
                match self.known.files.get(node.arg(1)) {
                    Some(block) => path = path_of(block, report),
                    None => bad(node, 1, "the name of a track_file", report),
                }
            } else {
                dynamic = flag(node, report) == Some(true);
            }
        }
        let Some(path) = path else { return self.without("it has no file", report) };
        let what = "the file has to be on every director: a missing one is no good one, where Keepalived takes \
                    it for 0";
        report.warn(self.node.place, "FILE_CHECK", what);
        let mut fields: Fields = vec![("path", quoted(&path))];
        fields.extend(dynamic.then(|| ("dynamic", "true".to_owned())));
        vec![self.check("file", fields, false)]
    }
}

/// Bytes as Keepalived writes them, `Ab12f 3`, with two digits each; `x` for any in a pattern.
fn bytes(groups: &[&str], pattern: bool) -> Option<String> {
    let mut all = Vec::new();
    for group in groups.iter().flat_map(|text| text.split_whitespace()) {
        let fits = |c: char| c.is_ascii_hexdigit() || pattern && matches!(c, 'x' | 'X');
        if !group.chars().all(fits) {
            return None;
        }
        let letters: Vec<char> = group.chars().collect();
        let pairs = letters.chunks(2).map(|pair| match pair {
            [one] => format!("0{one}"),
            pair => pair.iter().collect(),
        });
        all.extend(pairs);
    }
    (!all.is_empty() && all.len() <= DATAGRAM_BYTES_MAX).then(|| all.join(" ").to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_digits_are_a_byte_of_their_own() {
        let words = ["Ab12f", "3", "456", "546443123"];
        let written = "ab 12 0f 03 45 06 54 64 43 12 03";
        assert_eq!(bytes(&words, false).as_deref(), Some(written));
        assert_eq!(bytes(&["1x"], true).as_deref(), Some("1x"));
        assert_eq!((bytes(&["1x"], false), bytes(&[], false)), (None, None));
    }
}
