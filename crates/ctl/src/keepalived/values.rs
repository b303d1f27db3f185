//! Values: times, numbers, texts of TOML, commands.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::read::Word;
use super::report::{Report, clean};
use super::tree::Node;
use crate::shell::word as shell_word;

/// A text as TOML writes it.
#[must_use]
pub(super) fn quoted(text: &str) -> String {
    let mut all = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => all.push_str("\\\""),
            '\\' => all.push_str("\\\\"),
            '\n' => all.push_str("\\n"),
            '\t' => all.push_str("\\t"),
            c if c.is_control() => {
                use std::fmt::Write as _;
                let _ = write!(all, "\\u{:04X}", u32::from(c));
            }
            c => all.push(c),
        }
    }
    all.push('"');
    all
}

/// A list of texts.
#[must_use]
pub(super) fn list<S: AsRef<str>>(texts: impl IntoIterator<Item = S>) -> String {
    let texts: Vec<String> = texts.into_iter().map(|text| quoted(text.as_ref())).collect();
    format!("[{}]", texts.join(", "))
}

/// Seconds with a fraction, as Keepalived reads them.
#[must_use]
pub(super) fn seconds(text: &str) -> Option<Duration> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if text.is_empty() || text == "." || !digits(whole) || !digits(fraction) || whole.len() > 9 {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let padded: String = fraction.chars().chain("000000".chars()).take(6).collect();
    Some(Duration::from_micros(whole * 1_000_000 + padded.parse::<u64>().ok()?))
}

/// A time as Quorate reads it.
#[must_use]
pub(super) fn time(time: Duration) -> String {
    let micros = time.as_micros();
    let text = if micros.is_multiple_of(1_000_000) {
        format!("{}s", micros / 1_000_000)
    } else if micros.is_multiple_of(1_000) && micros < 1_000_000 {
        format!("{}ms", micros / 1_000)
    } else {
        let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
        format!("{}s", text.trim_end_matches('0'))
    };
    quoted(&text)
}

/// The time that an argument says, within bounds; told if it is none or was not within them.
pub(super) fn time_of(
    node: &Node,
    at: usize,
    bounds: (Duration, Duration),
    report: &mut Report,
) -> Option<Duration> {
    let Some(wanted) = seconds(node.arg(at)) else {
        bad(node, at, "a number of seconds", report);
        return None;
    };
    // But for a pause, which may well be none.
    if wanted.is_zero() && !bounds.0.is_zero() && node.keyword() != "delay_before_retry" {
        report.warn(node.place, node.keyword(), "0 counts as not said, as with Keepalived");
        return None;
    }
    let kept = wanted.clamp(bounds.0, bounds.1);
    if kept != wanted {
        let message = format!("{} becomes {}, the nearest that there is", time(wanted), time(kept));
        report.warn(node.place, node.keyword(), message.replace('"', ""));
    }
    Some(kept)
}

/// The number that an argument says, within bounds; told if it is none or was not within them.
pub(super) fn number_of(
    node: &Node,
    at: usize,
    (least, most): (u32, u32),
    report: &mut Report,
) -> Option<u32> {
    let Ok(wanted) = node.arg(at).parse::<i64>() else {
        bad(node, at, "a number", report);
        return None;
    };
    let kept = u32::try_from(wanted.clamp(i64::from(least), i64::from(most))).unwrap_or(least);
    if i64::from(kept) != wanted {
        let message = format!("{wanted} becomes {kept}, the nearest that there is");
        report.warn(node.place, node.keyword(), message);
    }
    Some(kept)
}

/// Tells that an argument is not what it should be.
pub(super) fn bad(node: &Node, at: usize, what: &str, report: &mut Report) {
    let message = match node.words.get(at) {
        Some(word) => format!("{:?} is not {what}: it is left out", clean(&word.text)),
        None => format!("{what} is missing: it is left out"),
    };
    report.warn(node.place, node.keyword(), message);
}

/// The prefix length that a netmask or a number says.
#[must_use]
pub(super) fn prefix(text: &str, four: bool) -> Option<u8> {
    if let Ok(prefix) = text.parse::<u8>() {
        return (prefix <= if four { 32 } else { 128 }).then_some(prefix);
    }
    let mask = u32::from(text.parse::<Ipv4Addr>().ok()?);
    let ones = mask.leading_ones();
    (four && mask.count_ones() == ones).then(|| u8::try_from(ones).ok()).flatten()
}

/// Why an address is none that a host may have.
#[must_use]
pub(super) fn no_host(ip: IpAddr) -> Option<&'static str> {
    let what = match ip {
        IpAddr::V4(ip) => match ip.octets() {
            _ if ip.is_loopback() => "a loopback address",
            _ if ip.is_link_local() => "a link-local address",
            _ if ip.is_multicast() => "a multicast address",
            [0, ..] => "no address of a host",
            [240..=255, ..] => "a reserved address",
            _ => return None,
        },
        IpAddr::V6(ip) => {
            if ip.is_loopback() {
                "a loopback address"
            } else if ip.is_unicast_link_local() {
                "a link-local address"
            } else if ip.is_multicast() {
                "a multicast address"
            } else if ip.is_unspecified() || ip.to_ipv4_mapped().is_some() {
                "no address of a host"
            } else {
                return None;
            }
        }
    };
    Some(what)
}

/// Whether an address of a network is its first or last one, which no host has.
#[must_use]
pub(super) fn is_edge(ip: IpAddr, prefix: u8) -> bool {
    let host_bits = |bits: u32| bits - u32::from(prefix);
    match ip {
        IpAddr::V4(ip) if prefix < 31 => {
            let mask = u32::MAX.checked_shl(host_bits(32)).unwrap_or(0);
            let host = u32::from(ip) & !mask;
            host == 0 || host == !mask
        }
        IpAddr::V6(ip) if prefix < 127 => {
            let mask = u128::MAX.checked_shl(host_bits(128)).unwrap_or(0);
            u128::from(ip) & !mask == 0
        }
        _ => false,
    }
}

/// Who stands between commands as a word of its own is for a shell.
const OPERATORS: [&str; 7] = ["&&", "||", "|", ";", "&", "<", ">"];

/// A command line as a program with arguments, without a shell, as Keepalived runs it: `?a=1&b=2` in an argument
/// would put a check behind a shell's back, which then always passes. What can only have been meant for a shell
/// gets one.
#[must_use]
pub(super) fn command(words: &[Word]) -> Option<Vec<String>> {
    let [first, rest @ ..] = words else { return None };
    let line = if rest.is_empty() {
        first.text.trim().to_owned()
    } else {
        words.iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join(" ")
    };
    command_line(&line)
}

/// The same of one text.
#[must_use]
pub(super) fn command_line(line: &str) -> Option<Vec<String>> {
    let line = line.trim();
    if line.is_empty() || line.contains('\0') {
        return None;
    }
    match split(line) {
        Some(words) if !is_for_a_shell(line) => {
            let path = (!line.starts_with('/')).then(|| "/usr/bin/env".to_owned());
            Some(path.into_iter().chain(words).collect())
        }
        _ => {
            let shell = if line.contains("/dev/tcp/") || line.contains("[[") {
                "/bin/bash"
            } else {
                "/bin/sh"
            };
            Some([shell, "-c", line].map(str::to_owned).to_vec())
        }
    }
}

/// Whether it means nothing without a shell: it begins with a redirection, joins commands, or has what one prints
/// put into it. What stands in quotes does not count.
fn is_for_a_shell(line: &str) -> bool {
    let mut quote = None;
    let bare: String = line
        .chars()
        .map(|c| match (quote, c) {
            (None, '\'' | '"') => {
                quote = Some(c);
                'q'
            }
            (Some(open), c) if open == c => {
                quote = None;
                'q'
            }
            (Some(_), _) => 'q',
            (None, c) => c,
        })
        .collect();
    let joins = |word: &str| {
        OPERATORS.contains(&word)
            || word.ends_with(';')
            || word.trim_start_matches(['1', '2', '&']).starts_with('>')
    };
    bare.starts_with(['<', '[', '(', '!'])
        || bare.contains("$(")
        || bare.contains('`')
        || bare.contains('\n')
        || bare.split_whitespace().any(joins)
}

/// The words of a line, by spaces and quotes; nothing if a quote is left open.
fn split(line: &str) -> Option<Vec<String>> {
    let (mut words, mut word) = (Vec::new(), None::<String>);
    let mut letters = line.chars();
    while let Some(c) = letters.next() {
        match c {
            ' ' | '\t' => words.extend(word.take()),
            '\'' | '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match letters.next()? {
                        end if end == c => break,
                        '\\' if c == '"' => word.extend(letters.next()),
                        other => word.push(other),
                    }
                }
            }
            '\\' => word.get_or_insert_default().extend(letters.next()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    (words.len() <= 64).then_some(words)
}

/// A command as one line for a shell.
#[must_use]
pub(super) fn shell_line(command: &[String]) -> String {
    if let [shell, option, line] = command
        && matches!(shell.as_str(), "/bin/sh" | "/bin/bash")
        && option == "-c"
    {
        let exec = format!("{shell} -c {}", shell_word(line));
        return exec;
    }
    command.iter().map(|word| shell_word(word)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_kept_to_the_microsecond() {
        for (text, written) in [
            ("6", "6s"),
            ("0.5", "500ms"),
            ("1.5", "1.5s"),
            (".25", "250ms"),
            ("0.000001", "0.000001s"),
        ] {
            assert_eq!(time(seconds(text).unwrap()), format!("{written:?}"), "{text}");
        }
        for bad in ["", ".", "-1", "1s", "1.2.3", "9999999999"] {
            assert_eq!(seconds(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_command_has_a_shell_only_where_it_needs_one() {
        let of = |line: &str| command_line(line).unwrap();
        assert_eq!(of("/bin/check --host 'a b'"), ["/bin/check", "--host", "a b"]);
        assert_eq!(of("killall -0 haproxy"), ["/usr/bin/env", "killall", "-0", "haproxy"]);
        let url = "/usr/bin/curl -sf http://localhost/health?full=1&x=2";
        assert_eq!(of(url)[2], "http://localhost/health?full=1&x=2");
        assert_eq!(of("/bin/check -p pa$$*;w 2>/dev/null")[..2], ["/bin/sh", "-c"]);
        assert_eq!(of("/bin/check -p pa$*w~")[2], "pa$*w~");
        assert_eq!(of("/bin/test $(pidof x)")[0], "/bin/sh");
        assert_eq!(of("/bin/a && /bin/b"), ["/bin/sh", "-c", "/bin/a && /bin/b"]);
        assert_eq!(of("</dev/tcp/127.0.0.1/80")[0], "/bin/bash");
        assert_eq!(of("/bin/grep '$x'"), ["/bin/grep", "$x"]);
        assert_eq!(shell_line(&of("/bin/check 'a b'")), "/bin/check 'a b'");
    }

    #[test]
    fn a_text_is_one_that_toml_reads_back() {
        for text in ["a\"b\\c", "line\nbreak\ttab", "\u{7f}\u{1}", "ü"] {
            let source = format!("x = {}", quoted(text));
            let table: toml::Table = source.parse().unwrap();
            assert_eq!(table["x"].as_str(), Some(text));
        }
    }

    #[test]
    fn the_edges_of_a_network_are_known() {
        for (ip, prefix, edge) in [
            ("10.0.0.0", 24, true),
            ("10.0.0.255", 24, true),
            ("10.0.0.1", 24, false),
            ("10.0.0.0", 32, false),
            ("10.0.0.0", 31, false),
            ("2001:db8::", 64, true),
            ("2001:db8::1", 64, false),
            ("2001:db8::", 128, false),
        ] {
            assert_eq!(is_edge(ip.parse().unwrap(), prefix), edge, "{ip}/{prefix}");
        }
    }
}
