//! Checkers to checks.

mod http;
mod kinds;

use std::net::IpAddr;
use std::time::Duration;

use super::ir::{Check, Fields};
use super::keywords::{
    BFD_CHECK, Context, DNS_CHECK, FILE_CHECK, HOST, HTTP_GET, MISC_CHECK, PING_CHECK, SMTP_CHECK,
    TCP_CHECK, UDP_CHECK,
};
use super::report::{Report, clean};
use super::side::Known;
use super::tree::Node;
use super::values::{bad, number_of, quoted, time, time_of};

const INTERVAL: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(3600));
const TIME: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(3600));
const WARMUP: (Duration, Duration) = (Duration::ZERO, Duration::from_secs(3600));
const RETRIES: (u32, u32) = (0, 100);

/// What a checker inherits of its real server, and that of its virtual server.
#[derive(Debug, Clone, Default)]
pub(super) struct Times {
    interval: Option<Duration>,
    timeout: Option<Duration>,
    retry: Option<u32>,
    retry_delay: Option<Duration>,
    warmup: Option<Duration>,
    alpha: Option<bool>,
    pub(super) virtualhost: Option<String>,
}

impl Times {
    /// Takes a keyword, if it is one of them.
    pub(super) fn take(&mut self, keyword: &str, node: &Node, report: &mut Report) -> bool {
        let kept = |new: Option<Duration>, old: Option<Duration>| new.or(old);
        match keyword {
            "delay_loop" => self.interval = kept(time_of(node, 1, INTERVAL, report), self.interval),
            "connect_timeout" => self.timeout = kept(time_of(node, 1, TIME, report), self.timeout),
            "retry" => self.retry = number_of(node, 1, RETRIES, report).or(self.retry),
            "delay_before_retry" => {
                self.retry_delay = kept(time_of(node, 1, TIME, report), self.retry_delay);
            }
            "warmup" => self.warmup = kept(time_of(node, 1, WARMUP, report), self.warmup),
            "alpha" => self.alpha = flag(node, report),
            "virtualhost" => self.virtualhost = host_name(node, report),
            _ => return false,
        }
        true
    }

    /// All that is not as Quorate has it by itself. What nobody said is as Keepalived has it.
    fn fields(&self, kind: &str, waits: bool) -> Fields {
        let interval = self.interval.unwrap_or(Duration::from_secs(60));
        let retry = self.retry.unwrap_or(match kind {
            "exec" | "file" => 0,
            "dns" => 3,
            _ => 1,
        });
        let retry_delay = self.retry_delay.unwrap_or(match kind {
            "dns" => interval,
            "http" | "https" => Duration::from_secs(3),
            _ => Duration::from_secs(1),
        });
        let timeout = self.timeout.unwrap_or(match kind {
            "exec" => interval,
            _ => Duration::from_secs(5),
        });
        let three = Duration::from_secs(3);
        let own = Duration::from_secs(if waits { 5 } else { 3 });
        let mut fields = Vec::new();
        fields.extend((interval != Duration::from_secs(6)).then(|| ("interval", time(interval))));
        if kind != "file" {
            fields.extend((timeout != own).then(|| ("timeout", time(timeout))));
        }
        fields.extend((retry != 3).then(|| ("retry", retry.to_string())));
        fields.extend(
            (retry > 0 && retry_delay != three).then(|| ("retry_delay", time(retry_delay))),
        );
        fields.extend(self.warmup.map(|warmup| ("warmup", time(warmup))));
        fields.extend((self.alpha == Some(true)).then(|| ("start", quoted("down"))));
        fields
    }
}

/// `on`, `yes`, `true` or nothing; their opposites; nothing else.
pub(super) fn flag(node: &Node, report: &mut Report) -> Option<bool> {
    match node.arg(1) {
        "" | "on" | "true" | "yes" => Some(true),
        "off" | "false" | "no" => Some(false),
        _ => {
            bad(node, 1, "on or off", report);
            None
        }
    }
}

/// What can stand in the head of a request.
fn host_name(node: &Node, report: &mut Report) -> Option<String> {
    visible(node, 1, "a host", report)
}

fn visible(node: &Node, at: usize, what: &str, report: &mut Report) -> Option<String> {
    let text = node.arg(at);
    let fits = !text.is_empty() && text.len() < 4_096;
    if !fits || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        bad(node, at, what, report);
        return None;
    }
    Some(text.to_owned())
}

/// What a checker is made of.
struct Making<'a, 'n> {
    node: &'n Node,
    times: Times,
    server: IpAddr,
    known: &'a Known<'n>,
    /// What all that connect may say.
    origin: Fields,
    port: Option<u16>,
}

/// The checks that a checker of a real server makes: none where it is left out.
pub(super) fn checks(
    keyword: &str,
    node: &Node,
    inherited: &Times,
    server: IpAddr,
    known: &Known<'_>,
    report: &mut Report,
) -> Vec<Check> {
    let (times, origin) = (inherited.clone(), Vec::new());
    let mut making = Making { node, times, server, known, origin, port: None };
    match keyword {
        "TCP_CHECK" => making.plain("tcp", &TCP_CHECK, report),
        "PING_CHECK" => making.plain("ping", &PING_CHECK, report),
        "HTTP_GET" => making.http("http", report),
        "SSL_GET" => making.http("https", report),
        "SMTP_CHECK" => making.smtp(report),
        "DNS_CHECK" => making.dns(report),
        "UDP_CHECK" => making.udp(report),
        "MISC_CHECK" => making.misc(report),
        "FILE_CHECK" => making.file(report),
        _ => {
            let what = "Quorate has no BFD: a check of type ping or tcp with a short interval comes near it";
            report.warn(node.place, keyword, what);
            BFD_CHECK.account(node.children(), report);
            Vec::new()
        }
    }
}

impl<'n> Making<'_, 'n> {
    /// What all checkers have is taken in; what is left is the kind's own.
    fn common(&mut self, context: &Context, report: &mut Report) -> Vec<(&'static str, &'n Node)> {
        let mut own = Vec::new();
        for (keyword, node) in context.account(self.node.children(), report) {
            let deprecated = ["nb_get_retry", "nb_sock_retry"].contains(&node.keyword());
            if deprecated && !context.title.starts_with("HTTP_GET") {
                let what =
                    format!("Keepalived ignores it in {}, here it is `retry`", context.title);
                report.warn(node.place, node.keyword(), what);
            }
            if !self.times.take(keyword, node, report) && !self.connects(keyword, node, report) {
                own.push((keyword, node));
            }
        }
        self.of_one_family(report);
        own
    }

    /// Nothing goes from one address family to the other, in whatever order the two stand.
    fn of_one_family(&mut self, report: &mut Report) {
        let of = |key: &str| {
            let value = self.origin.iter().find(|(known, _)| *known == key)?;
            value.1.trim_matches('"').parse::<IpAddr>().ok()
        };
        let to = of("address").unwrap_or(self.server);
        if let Some(source) = of("source").filter(|source| source.is_ipv4() != to.is_ipv4()) {
            let what = format!("{source} can't be the source of what goes to {to}: it is left out");
            report.warn(self.node.place, "bindto", what);
            self.origin.retain(|(key, _)| *key != "source");
        }
    }

    /// Where a probe goes, and where it comes from.
    fn connects(&mut self, keyword: &str, node: &Node, report: &mut Report) -> bool {
        let key = match keyword {
            "connect_ip" => "address",
            "bindto" => "source",
            "connect_port" => {
                let port = number_of(node, 1, (1, 65_535), report);
                self.port = port.and_then(|port| u16::try_from(port).ok());
                return true;
            }
            "bind_port" => {
                if let Some(port) = number_of(node, 1, (0, 65_535), report).filter(|port| *port > 0)
                {
                    self.origin.push(("source_port", port.to_string()));
                }
                return true;
            }
            "bind_if" => {
                self.origin.retain(|(known, _)| *known != "interface");
                self.origin.push(("interface", quoted(&super::names::name_of(node.arg(1)))));
                return true;
            }
            "fwmark" => {
                if let Some(mark) =
                    number_of(node, 1, (0, u32::MAX), report).filter(|mark| *mark > 0)
                {
                    self.origin.push(("mark", mark.to_string()));
                }
                return true;
            }
            _ => return false,
        };
        let Ok(ip) = node.arg(1).parse::<IpAddr>() else {
            bad(node, 1, "an address", report);
            return true;
        };
        if key == "address" && ip == self.server {
            return true;
        }
        if key == "source" {
            let what = format!("every director must have {ip}, or its probes say nothing");
            report.warn(node.place, keyword, what);
        }
        self.origin.retain(|(known, _)| *known != key);
        self.origin.push((key, quoted(&ip.to_string())));
        true
    }

    /// Puts it together: what tells it from others first, times last.
    fn check(&self, kind: &'static str, own: Fields, waits: bool) -> Check {
        let has_port = !matches!(kind, "ping" | "exec" | "file");
        let mut fields = vec![("type", quoted(kind))];
        let mut origin = self.origin.clone();
        match kind {
            "ping" => origin.retain(|(key, _)| *key != "source_port"),
            "exec" => origin.retain(|(key, _)| *key == "address"),
            "file" => origin.clear(),
            _ => {}
        }
        fields.extend(own);
        fields.extend(origin);
        fields.extend(self.times.fields(kind, waits));
        let mut once: Fields = Vec::new();
        for (key, value) in fields {
            // Of what stands twice, the last counts.
            match once.iter_mut().find(|(known, _)| *known == key) {
                Some(known) => known.1 = value,
                None => once.push((key, value)),
            }
        }
        let fields = once;
        let port = self.port.filter(|_| has_port);
        Check { place: self.node.place, kind, has_port, fields, port }
    }

    fn plain(&mut self, kind: &'static str, context: &Context, report: &mut Report) -> Vec<Check> {
        self.common(context, report);
        vec![self.check(kind, Vec::new(), false)]
    }

    fn smtp(&mut self, report: &mut Report) -> Vec<Check> {
        let own = self.common(&SMTP_CHECK, report);
        let mut helo = None;
        for (_, node) in own.iter().filter(|(keyword, _)| *keyword == "helo_name") {
            helo = visible(node, 1, "a name", report);
        }
        let fields: Fields = helo.map(|helo| ("helo", quoted(&helo))).into_iter().collect();
        let hosts: Vec<_> = own.iter().filter(|(keyword, _)| *keyword == "host").collect();
        if hosts.is_empty() {
            return vec![self.check("smtp", fields, false)];
        }
        let mut all = Vec::new();
        for (_, node) in hosts {
            let mut one = Making {
                node,
                times: self.times.clone(),
                server: self.server,
                known: self.known,
                origin: self.origin.clone(),
                port: self.port,
            };
            one.common(&HOST, report);
            all.push(one.check("smtp", fields.clone(), false));
        }
        all
    }

    fn context(kind: &str) -> &'static Context {
        match kind {
            "dns" => &DNS_CHECK,
            "udp" => &UDP_CHECK,
            "exec" => &MISC_CHECK,
            "file" => &FILE_CHECK,
            _ => &HTTP_GET,
        }
    }

    /// Tells that the whole checker is left out.
    fn without(&self, why: &str, report: &mut Report) -> Vec<Check> {
        let what = format!("{why}: the real server is not checked by it");
        report.warn(self.node.place, &clean(self.node.keyword()), what);
        Vec::new()
    }
}
