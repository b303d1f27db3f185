//! `HTTP_GET` and `SSL_GET`.

use quorate_model::spec::Pattern;

use super::super::ir::{Check, Fields};
use super::super::keywords::URL;
use super::super::report::{Report, clean};
use super::super::tree::Node;
use super::super::values::{bad, quoted};
use super::{Making, visible};

/// Most requests of one check, and most ranges of status codes of one.
const LIST_MAX: usize = 32;

impl Making<'_, '_> {
    pub(super) fn http(&mut self, kind: &'static str, report: &mut Report) -> Vec<Check> {
        let own = self.common(Self::context(kind), report);
        let host = self.times.virtualhost.clone();
        let (mut urls, mut fields): (Vec<Fields>, Fields) = (Vec::new(), Vec::new());
        let mut sni = None;
        for (keyword, node) in own {
            match keyword {
                "url" => urls.push(url(node, host.as_deref(), report)),
                "http_protocol" => match node.arg(1) {
                    "1.0" | "1.0C" | "1.0c" => fields.push(("version", quoted("1.0"))),
                    "1.1" => {}
                    _ => bad(node, 1, "1.0, 1.0C or 1.1", report),
                },
                "sni_name" => sni = server_name(node, report),
                _ => {}
            }
        }
        if urls.is_empty() {
            let what = "it has no url: here it asks for /, Keepalived leaves it out";
            report.warn(self.node.place, self.node.keyword(), what);
            urls.push(host.map(|host| ("host", quoted(&host))).into_iter().collect());
        }
        if urls.len() > LIST_MAX {
            let what = format!("a check asks for {LIST_MAX} urls at most: the others are left out");
            report.warn(self.node.place, self.node.keyword(), what);
            urls.truncate(LIST_MAX);
        }
        match urls.as_slice() {
            [url] => fields.splice(0..0, url.clone()).for_each(drop),
            urls => {
                let tables: Vec<String> = urls.iter().map(table).collect();
                fields.push(("urls", format!("[{}]", tables.join(", "))));
            }
        }
        if kind == "https" {
            fields.extend(sni.map(|sni| ("sni", quoted(&sni))));
            let ca = self.known.tls.iter().any(|(key, _)| *key == "ca");
            fields.extend(ca.then(|| ("verify", "true".to_owned())));
            fields.extend(self.known.tls.iter().map(|(key, path)| (*key, quoted(path))));
        }
        vec![self.check(kind, fields, false)]
    }
}

fn table(fields: &Fields) -> String {
    let fields: Vec<String> =
        fields.iter().map(|(key, value)| format!("{key} = {value}")).collect();
    format!("{{ {} }}", fields.join(", "))
}

fn server_name(node: &Node, report: &mut Report) -> Option<String> {
    let name = node.arg(1);
    let fits = |label: &str| {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        (1..=63).contains(&label.len())
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let address = name.parse::<std::net::IpAddr>().is_ok();
    if address || name.len() > 253 || !name.split('.').all(fits) {
        bad(node, 1, "the name of a server", report);
        return None;
    }
    Some(name.to_owned())
}

fn url(node: &Node, host: Option<&str>, report: &mut Report) -> Fields {
    let (mut path, mut host) = (None, host.map(str::to_owned));
    let (mut digest, mut status): (Option<String>, Vec<String>) = (None, Vec::new());
    let (mut regex, mut absent, mut options) = (None, false, String::new());
    for (keyword, node) in URL.account(node.children(), report) {
        match keyword {
            "path" => path = path_of(node, report),
            "virtualhost" => host = visible(node, 1, "a host", report).or(host),
            "digest" => {
                let text = node.arg(1);
                if text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                    digest = Some(text.to_ascii_lowercase());
                } else {
                    bad(node, 1, "a digest of 32 hexadecimal digits", report);
                }
            }
            "status_code" => status.extend(codes(node, report)),
            "regex" => regex = Some(node),
            "regex_no_match" => absent = true,
            "regex_options" => {
                options.extend(node.args().filter_map(|word| option(word, node, report)))
            }
            _ => {}
        }
    }
    if status.len() > LIST_MAX {
        status.truncate(LIST_MAX);
        report.warn(
            node.place,
            "status_code",
            format!("{LIST_MAX} at most: the others are left out"),
        );
    }
    let mut fields: Fields = vec![("path", quoted(path.as_deref().unwrap_or("/")))];
    fields.extend(host.map(|host| ("host", quoted(&host))));
    match status.as_slice() {
        [] => {}
        [one] if one == "\"200-299\"" => {}
        [one] => fields.push(("status", one.clone())),
        several => fields.push(("status", format!("[{}]", several.join(", ")))),
    }
    fields.extend(digest.map(|digest| ("md5", quoted(&digest))));
    if let Some(node) = regex {
        let flags = if options.is_empty() { String::new() } else { format!("(?{options})") };
        let pattern = format!("{flags}{}", node.arg(1));
        match Pattern::new(&pattern) {
            Ok(_) if pattern.len() < 4_096 => {
                fields.push((if absent { "body_absent" } else { "body" }, quoted(&pattern)));
            }
            Ok(_) => bad(node, 1, "a regular expression of 4095 bytes at most", report),
            Err(reason) => {
                let what = format!(
                    "Quorate's engine does not take it ({}): the body is not looked at",
                    clean(&reason)
                );
                report.warn(node.place, "regex", what);
            }
        }
    }
    fields
}

fn path_of(node: &Node, report: &mut Report) -> Option<String> {
    let text = visible(node, 1, "a path of visible letters", report)?;
    let text = text.split_once('#').map_or(text.as_str(), |(path, _)| path);
    let mut path = if text.starts_with('/') { String::new() } else { "/".to_owned() };
    for c in text.chars() {
        match c {
            '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}' => {
                path.push_str(&format!("%{:02X}", u32::from(c)));
            }
            c => path.push(c),
        }
    }
    if path.len() > 4_095 {
        bad(node, 1, "a path of 4095 bytes at most", report);
        return None;
    }
    if path != node.arg(1) {
        let what = format!("{:?} becomes {path:?}, as a request has it", clean(node.arg(1)));
        report.warn(node.place, "path", what);
    }
    Some(path)
}

/// `200`, `300-399`, as many as there are.
fn codes(node: &Node, report: &mut Report) -> Vec<String> {
    let mut all = Vec::new();
    for (at, word) in node.words.iter().enumerate().skip(1) {
        let code = |text: &str| text.parse::<u16>().ok().filter(|code| (100..=999).contains(code));
        let (first, last) = word.text.split_once('-').unwrap_or((&word.text, &word.text));
        match (code(first), code(last)) {
            (Some(first), Some(last)) if first == last => all.push(first.to_string()),
            (Some(first), Some(last)) if first < last => {
                all.push(quoted(&format!("{first}-{last}")))
            }
            _ => bad(node, at, "a status code or a range of them", report),
        }
    }
    all
}

fn option(word: &str, node: &Node, report: &mut Report) -> Option<char> {
    match word {
        "caseless" => Some('i'),
        "multiline" => Some('m'),
        "dotall" => Some('s'),
        "extended" => Some('x'),
        "ungreedy" => Some('U'),
        "utf" | "ucp" | "no_auto_capture" | "no_auto_possess" | "no_dotstar_anchor"
        | "no_start_optimize" => None,
        _ => {
            let what = format!("{:?}: Quorate's engine has no such option", clean(word));
            report.warn(node.place, "regex_options", what);
            None
        }
    }
}
