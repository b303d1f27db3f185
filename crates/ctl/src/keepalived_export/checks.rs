//! Checks to checkers.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;

use quorate_model::id::ServiceName;
use quorate_model::spec::{
    Check, CheckKind, ClusterSpec, DnsCheck, ExecCheck, FileCheck, RCODES, Rcode, UdpCheck, Via,
};

use super::page::Page;
use super::words::{script, seconds, whole_seconds, word};
use super::{Exporting, http};

/// The records that Keepalived asks for.
const DNS_KNOWN: [&str; 7] = ["A", "NS", "CNAME", "SOA", "MX", "TXT", "AAAA"];

/// Writes a `track_file` for each file that checks look at; the names of these, by path.
pub(super) fn define_files(spec: &ClusterSpec, page: &mut Page) -> BTreeMap<String, String> {
    let mut names = BTreeMap::new();
    for service in spec.services.values() {
        let own = service.own_checks.values().flatten();
        for check in service.checks.iter().chain(own) {
            if let CheckKind::File(FileCheck { path, .. }) = &check.kind {
                let next = format!("quorate-check-{}", names.len() + 1);
                names.entry(path.clone()).or_insert(next);
            }
        }
    }
    for (path, name) in &names {
        page.line("");
        page.open(&format!("track_file {name}"));
        page.set("file", word(path));
        page.line("weight 0");
        page.close();
    }
    names
}

/// Writes a checker.
pub(super) fn write(
    service: &ServiceName,
    server: SocketAddr,
    check: &Check,
    with: &Exporting<'_>,
    page: &mut Page,
) {
    let (kind, title) = match &check.kind {
        CheckKind::Tcp => ("tcp", "TCP_CHECK"),
        CheckKind::Http(http) if http.tls.is_some() => ("https", "SSL_GET"),
        CheckKind::Http(_) => ("http", "HTTP_GET"),
        CheckKind::Grpc(_) => ("grpc", "TCP_CHECK"),
        CheckKind::Udp(_) => ("udp", "UDP_CHECK"),
        CheckKind::Dns(_) => ("dns", "DNS_CHECK"),
        CheckKind::Ping => ("ping", "PING_CHECK"),
        CheckKind::Smtp { .. } => ("smtp", "SMTP_CHECK"),
        CheckKind::Exec(_) => ("exec", "MISC_CHECK"),
        CheckKind::File(_) => ("file", "FILE_CHECK"),
    };
    let whose = format!("service {service}, its {kind} check");
    page.open(title);
    match &check.kind {
        CheckKind::Tcp | CheckKind::Ping => {}
        CheckKind::Http(http) => http::write(&whose, http, with, page),
        CheckKind::Grpc(_) => {
            page.lost(&whose, "it asks for the health by gRPC: a connection by TCP it is")
        }
        CheckKind::Udp(udp) => self::udp(&whose, udp, page),
        CheckKind::Dns(dns) => self::dns(&whose, dns, page),
        CheckKind::Smtp { helo } => page.set("helo_name", word(helo)),
        CheckKind::Exec(exec) => self::exec(&whose, (exec, check), server, page),
        CheckKind::File(file) => self::file(&whose, file, with, page),
    }
    origin(check, with, page);
    times(check, page);
    unknown(&whose, check, page);
    page.close();
}

/// Where it goes, and where it comes from.
fn origin(check: &Check, with: &Exporting<'_>, page: &mut Page) {
    if matches!(check.kind, CheckKind::Exec(_) | CheckKind::File(_)) {
        return;
    }
    if let Some(address) = check.address {
        page.set("connect_ip", address);
    }
    if let (Some(port), true) = (check.port, check.has_port()) {
        page.set("connect_port", port);
    }
    let origin = &check.origin;
    if let Some(address) = origin.address {
        page.set("bindto", address);
    }
    if let Some(interface) = &origin.interface {
        let device = page.device_of(interface, &with.options.devices);
        page.set("bind_if", device);
    }
    if let Some(port) = origin.port {
        page.set("bind_port", port);
    }
    if let Some(mark) = origin.mark {
        page.set("fwmark", mark);
    }
}

/// All of them, as what is left out is otherwise in Keepalived.
fn times(check: &Check, page: &mut Page) {
    if matches!(check.kind, CheckKind::File(_)) {
        page.comment("no times: Keepalived looks when the file changes");
        return;
    }
    page.set("delay_loop", seconds(check.interval));
    if !matches!(check.kind, CheckKind::Exec(_)) {
        page.set("connect_timeout", seconds(check.timeout));
    }
    page.set("retry", check.retry);
    if check.retry > 0 {
        page.set("delay_before_retry", seconds(check.retry_delay));
    }
    page.set("warmup", seconds(check.warmup));
    if check.starts_down {
        page.line("alpha");
    }
}

/// What no checker can.
fn unknown(whose: &str, check: &Check, page: &mut Page) {
    if check.via == Via::Forwarding {
        page.lost(whose, "via = \"forwarding\": it goes to the real server's own address");
    }
    for (key, steps) in [("rise", check.rise), ("fall", check.fall)] {
        if steps != 1 {
            page.lost(whose, &format!("{key} = {steps}: one probe is enough"));
        }
    }
    if let Some(damp) = check.damp {
        page.lost(whose, &format!("damp {damp}: a real server comes and goes"));
    }
    if check.starts_down && matches!(check.kind, CheckKind::File(_)) {
        page.lost(whose, "start = \"down\": FILE_CHECK has no alpha");
    }
}

fn udp(whose: &str, udp: &UdpCheck, page: &mut Page) {
    match udp.payload.is_empty() {
        true => page.lost(whose, "an empty datagram: Keepalived sends one of random bytes"),
        false => {
            let bytes: String = udp.payload.iter().map(|byte| format!("{byte:02x}")).collect();
            page.set("payload", bytes);
        }
    }
    let Some(reply) = &udp.reply else { return };
    let mut begins = String::new();
    let mut whole = true;
    for (byte, mask) in &reply.begins {
        for shift in [4, 0] {
            match (mask >> shift) & 0xf {
                0 => begins.push('x'),
                bits => {
                    whole &= bits == 0xf;
                    let _ = write!(begins, "{:x}", (byte >> shift) & 0xf);
                }
            }
        }
    }
    if !whole {
        page.lost(whose, "single bits of the reply: half a byte counts, or not");
    }
    page.line(format!("require_reply {begins}").trim_end());
    page.set("min_reply_length", reply.min_length);
    page.set("max_reply_length", reply.max_length);
}

fn dns(whose: &str, dns: &DnsCheck, page: &mut Page) {
    let record = quorate_model::spec::DNS_RECORDS.iter().find(|(_, known)| *known == dns.record);
    let record = record.map_or("SOA", |(name, _)| *name);
    if DNS_KNOWN.contains(&record) {
        page.set("type", record);
    } else {
        page.lost(whose, &format!("record {record}: it asks for SOA"));
        page.line("type SOA");
    }
    page.set("name", word(&dns.name));
    let named =
        |rcode: &Rcode| RCODES.iter().find(|(_, known)| known == rcode).map(|(name, _)| *name);
    let good: Vec<&str> = dns.rcodes.iter().filter_map(named).collect();
    if good != ["NOERROR"] {
        page.lost(whose, &format!("response codes {}: only NOERROR is good", good.join(", ")));
    }
}

fn exec(whose: &str, (exec, check): (&ExecCheck, &Check), server: SocketAddr, page: &mut Page) {
    let address = check.address.unwrap_or(server.ip());
    let port = check.port.unwrap_or(server.port());
    let environment = ["/usr/bin/env".to_owned(), format!("QUORATE_ADDRESS={address}")];
    let words = environment.into_iter().chain([format!("QUORATE_PORT={port}")]);
    let words: Vec<String> = words.chain(exec.command.iter().cloned()).collect();
    page.scripts = true;
    page.set("misc_path", script(words.iter().map(String::as_str)));
    let (whole, longer) = whole_seconds(check.timeout);
    if longer {
        let what = format!("timeout {} s: it takes whole seconds here", seconds(check.timeout));
        page.lost(whose, &what);
    }
    page.set("misc_timeout", whole);
    if exec.dynamic {
        page.line("misc_dynamic");
    }
    match &exec.user {
        Some(user) => page.set("user", word(user)),
        None => page.userless = true,
    }
}

fn file(whose: &str, file: &FileCheck, with: &Exporting<'_>, page: &mut Page) {
    let name = with.files.get(&file.path).map_or("", String::as_str);
    page.set("track_file", name);
    if file.dynamic {
        page.lost(
            whose,
            "dynamic: the number in the file is added to the weight here, and is not the weight",
        );
        page.line("weight 1");
    } else {
        page.line("weight 0");
    }
}
