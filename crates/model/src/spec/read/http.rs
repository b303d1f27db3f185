//! What a check of type `http`, `https` or `grpc` has of its own.

use crate::spec::document::{Diagnostics, Field, Table};
use crate::spec::{
    BodyDigest, CheckKind, GrpcCheck, HttpCheck, HttpMethod, HttpRequest, HttpVersion, Pattern,
    StatusCodes, Tls,
};

use super::keys;

/// Most requests of one check, and most ranges of status codes of one request.
const LIST_MAX: usize = 32;
/// Longest path, host, pattern or name of a file.
const TEXT_BYTES_MAX: usize = 4_095;

/// The keys of a check besides those of one request.
/// The keys of a check of type `grpc`.
pub(super) const GRPC_KEYS: [&str; 3] = ["service", "tls", "host"];
const OWN_KEYS: [&str; 2] = ["urls", "version"];
pub(super) const TLS_KEYS: [&str; 5] = ["sni", "verify", "ca", "certificate", "key"];

/// The keys of one request, which stand in the check itself where there is only one.
fn request_keys() -> impl Iterator<Item = &'static str> {
    keys::URL.keys.iter().map(|key| key.name)
}

/// The keys that no other type of check has.
pub(super) fn own_keys() -> impl Iterator<Item = &'static str> {
    OWN_KEYS.into_iter().chain(request_keys())
}

pub(super) fn check(table: &Table<'_>, tls: bool, out: &mut Diagnostics) -> Option<HttpCheck> {
    let version = table.get("version").map_or(Some(HttpVersion::Http11), |field| {
        let versions = [("1.0", HttpVersion::Http10), ("1.1", HttpVersion::Http11)];
        field.choice("version of HTTP", &versions, &[("1.0C", "1.0"), ("1.1C", "1.1")], out)
    });
    let requests = match table.get("urls") {
        Some(urls) => requests(table, &urls, out),
        None => request(table, out).map(|request| vec![request]),
    };
    let tls = match tls {
        true => tls_of(table, out).map(Some),
        false => Some(None),
    };
    Some(HttpCheck { tls: tls?, version: version?, requests: requests? })
}

/// What a check of type `grpc` has of its own.
pub(super) fn grpc(table: &Table<'_>, out: &mut Diagnostics) -> Option<CheckKind> {
    let service = table.get("service").map_or(Some(String::new()), |field| match field.peek() {
        Some("") => Some(String::new()),
        _ => visible(&field, "the name of a service", out),
    });
    let host = optional(table, "host", out, authority);
    let by_tls = table.get("tls").map_or(Some(false), |field| field.flag(out));
    let needless = TLS_KEYS.iter().find_map(|key| table.get(key));
    let tls = match (by_tls?, needless) {
        (true, _) => tls_of(table, out).map(Some),
        (false, None) => Some(None),
        (false, Some(field)) => {
            out.push(field.problem("the server is not spoken to by TLS").help("tls = true"));
            None
        }
    };
    Some(CheckKind::Grpc(GrpcCheck { tls: tls?, service: service?, host: host? }))
}

/// A name or an address, with or without a port (RFC 3986, section 3.2, without user information).
fn authority(field: &Field<'_>, out: &mut Diagnostics) -> Option<String> {
    let text = visible(field, "a host", out)?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    if !text.bytes().all(fits) {
        let problem = field.problem(format!("{text:?} is not a name or address, nor with a port"));
        out.push(problem.help("host = \"www.example.com:8443\""));
        return None;
    }
    Some(text)
}

fn requests(
    table: &Table<'_>,
    urls: &Field<'_>,
    out: &mut Diagnostics,
) -> Option<Vec<HttpRequest>> {
    if let Some(field) = request_keys().find_map(|key| table.get(key)) {
        let problem = field.problem("there are urls, and this is of one of them");
        out.push(problem.help("write it into each of the urls"));
        return None;
    }
    let items = urls.list(out)?;
    if items.is_empty() || items.len() > LIST_MAX {
        out.push(urls.problem(format!("a check asks for 1 to {LIST_MAX} urls")));
        return None;
    }
    let requests: Vec<Option<HttpRequest>> = items
        .iter()
        .map(|item| item.table(&keys::URL, out).and_then(|table| request(&table, out)))
        .collect();
    requests.into_iter().collect()
}

fn request(table: &Table<'_>, out: &mut Diagnostics) -> Option<HttpRequest> {
    let method = table.get("method").map_or(Some(HttpMethod::Get), |field| {
        let methods = [HttpMethod::Get, HttpMethod::Head, HttpMethod::Options];
        field.choice("method", &methods.map(|method| (method.word(), method)), &[], out)
    });
    let path = table.get("path").map_or(Some("/".to_owned()), |field| path(&field, out));
    let host = optional(table, "host", out, |field, out| visible(field, "a host", out));
    let status = table
        .get("status")
        .map_or_else(|| Some(StatusCodes::default()), |field| status(&field, out));
    let sha256 = optional(table, "sha256", out, |field, out| {
        hexadecimal(field, "a SHA-256 digest", out).map(BodyDigest::Sha256)
    });
    let md5 = optional(table, "md5", out, |field, out| {
        hexadecimal(field, "an MD5 digest", out).map(BodyDigest::Md5)
    });
    let body = optional(table, "body", out, pattern);
    let body_absent = optional(table, "body_absent", out, pattern);
    if let (Some(field), Some(_)) = (table.get("md5"), table.get("sha256")) {
        out.push(field.problem("there is a sha256 already").help("leave one out"));
        return None;
    }
    let looks = ["sha256", "md5", "body", "body_absent"].iter().find_map(|key| table.get(key));
    if let (Some(field), Some(HttpMethod::Head)) = (looks, method) {
        out.push(field.problem("an answer to HEAD has no body").help("method = \"GET\""));
        return None;
    }
    Some(HttpRequest {
        method: method?,
        path: path?,
        host: host?,
        status: status?,
        digest: sha256?.or(md5?),
        body: body?,
        body_absent: body_absent?,
    })
}

/// A key that may be left out.
#[expect(clippy::option_option, reason = "the outer one says whether it could be read")]
fn optional<T>(
    table: &Table<'_>,
    key: &str,
    out: &mut Diagnostics,
    read: impl FnOnce(&Field<'_>, &mut Diagnostics) -> Option<T>,
) -> Option<Option<T>> {
    table.get(key).map_or(Some(None), |field| read(&field, out).map(Some))
}

/// Text that can stand in the head of a request: anything else would end it, or start another.
pub(super) fn visible(field: &Field<'_>, what: &str, out: &mut Diagnostics) -> Option<String> {
    let text = field.text(what, out)?;
    let fits = !text.is_empty() && text.len() <= TEXT_BYTES_MAX;
    if !fits || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        let message = format!("{what} has 1 to {TEXT_BYTES_MAX} visible ASCII characters");
        out.push(field.problem(message));
        return None;
    }
    Some(text.to_owned())
}

fn path(field: &Field<'_>, out: &mut Diagnostics) -> Option<String> {
    let path = visible(field, "a path", out)?;
    if !path.starts_with('/') {
        let problem = field.problem(format!("{path:?} does not begin with /"));
        out.push(problem.help("path = \"/health?full=1\"; a name goes into host"));
        return None;
    }
    if path.contains(['"', '<', '>', '\\', '^', '`', '{', '|', '}']) {
        let problem = field.problem("a path has none of \"<>\\^`{|} as they are (RFC 3986)");
        out.push(problem.help("write them as %22, %3C, %3E, %5C, %5E, %60, %7B, %7C, %7D"));
        return None;
    }
    if path.contains('#') {
        out.push(field.problem("a server is never told what follows #").help("leave it out"));
        return None;
    }
    Some(path)
}

/// A code, a range, or a list of both.
fn status(field: &Field<'_>, out: &mut Diagnostics) -> Option<StatusCodes> {
    let items = field.list_or_one();
    if items.is_empty() || items.len() > LIST_MAX {
        out.push(field.problem(format!("1 to {LIST_MAX} status codes or ranges of them")));
        return None;
    }
    let codes: Vec<Option<(u16, u16)>> = items.iter().map(|item| range(item, out)).collect();
    codes.into_iter().collect::<Option<_>>().map(StatusCodes)
}

fn range(item: &Field<'_>, out: &mut Diagnostics) -> Option<(u16, u16)> {
    const WHAT: &str = "a status code";
    let Some(text) = item.peek() else {
        return item.integer(WHAT, 100..=999, out).map(|code| (code, code));
    };
    let code =
        |text: &str| text.trim().parse::<u16>().ok().filter(|code| (100..=999).contains(code));
    let ends = text.split_once('-').unwrap_or((text, text));
    match (code(ends.0), code(ends.1)) {
        (Some(first), Some(last)) if first <= last => Some((first, last)),
        _ => {
            let problem = item.problem(format!("{text:?} is not {WHAT}, 100 to 999, or a range"));
            out.push(problem.help("status = [200, \"300-399\"]"));
            None
        }
    }
}

fn hexadecimal<const BYTES: usize>(
    field: &Field<'_>,
    what: &str,
    out: &mut Diagnostics,
) -> Option<[u8; BYTES]> {
    let text = field.text(what, out)?;
    let digit =
        |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let digits: Option<Vec<u8>> = text.as_bytes().iter().map(digit).collect();
    let bytes = digits.map(|digits| -> Vec<u8> {
        digits
            .chunks_exact(2)
            .map(|pair| pair.iter().fold(0, |all, digit| (all << 4) | digit))
            .collect()
    });
    let bytes = bytes.filter(|_| text.len() == 2 * BYTES).and_then(|bytes| bytes.try_into().ok());
    if bytes.is_none() {
        out.push(field.problem(format!("{what} has {} hexadecimal digits", 2 * BYTES)));
    }
    bytes
}

fn pattern(field: &Field<'_>, out: &mut Diagnostics) -> Option<Pattern> {
    let text = field.text("a regular expression", out)?;
    if text.len() > TEXT_BYTES_MAX {
        out.push(field.problem(format!("a regular expression has at most {TEXT_BYTES_MAX} bytes")));
        return None;
    }
    match Pattern::new(text) {
        Ok(pattern) => Some(pattern),
        Err(reason) => {
            out.push(field.problem(format!("no regular expression: {reason}")));
            None
        }
    }
}

fn tls_of(table: &Table<'_>, out: &mut Diagnostics) -> Option<Tls> {
    let sni = optional(table, "sni", out, server_name);
    let verify = table.get("verify").map_or(Some(false), |field| field.flag(out));
    let ca = optional(table, "ca", out, file);
    let certificate = optional(table, "certificate", out, file);
    let key = optional(table, "key", out, file);
    if let (Some(field), Some(false)) = (table.get("ca"), verify) {
        let problem = field.problem("the server's certificate is not looked at");
        out.push(problem.help("verify = true"));
        return None;
    }
    let identity = match (certificate?, key?) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (given, _) => {
            let (there, missing) = match given {
                Some(_) => ("certificate", "key"),
                None => ("key", "certificate"),
            };
            if let Some(field) = table.get(there) {
                let problem = field.problem(format!("a {there} needs its {missing}"));
                out.push(problem.help(format!("{missing} = \"/etc/quorate/check.pem\"")));
            }
            return None;
        }
    };
    Some(Tls { sni: sni?, verify: verify?, ca: ca?, identity })
}

/// A name in DNS: TLS tells no address (RFC 6066, section 3).
fn server_name(field: &Field<'_>, out: &mut Diagnostics) -> Option<String> {
    let name = field.text("a server's name", out)?;
    let fits = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let address = name.parse::<std::net::IpAddr>().is_ok();
    if address || name.len() > 253 || !name.split('.').all(fits) {
        out.push(field.problem(format!("{name:?} is not the name of a server")));
        return None;
    }
    Some(name.to_owned())
}

/// The name of a file that every director has.
pub(super) fn file(field: &Field<'_>, out: &mut Diagnostics) -> Option<String> {
    let path = field.text("the path of a file", out)?;
    if !path.starts_with('/') || path.len() > TEXT_BYTES_MAX || path.contains('\0') {
        out.push(field.problem(format!("{path:?} is not the absolute path of a file")));
        return None;
    }
    Some(path.to_owned())
}
