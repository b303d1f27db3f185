//! `[check.NAME]` and `check = {..}`: what all checks have. What one type alone has is read in a
//! module of its own.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use crate::id::{InterfaceName, ServiceName};
use crate::spec::document::{Diagnostics, Field, Table};
use crate::spec::{Check, CheckKind, Damp, Origin, UdpCheck, Via};

use super::{http, keys, kinds, service};

/// Shortest time between two probes of one real server.
pub const CHECK_INTERVAL_MIN: Duration = Duration::from_millis(50);
/// Shortest time that one try may take, or that lies between two.
pub const CHECK_TIME_MIN: Duration = Duration::from_millis(1);
/// Longest of each time of a check.
pub const CHECK_TIME_MAX: Duration = Duration::from_secs(3600);
/// Most further tries.
pub const CHECK_RETRY_MAX: u32 = 100;
/// Most probes in a row that `rise` or `fall` ask for.
pub const CHECK_STEPS_MAX: u32 = 100;

/// What is left out is as keepalived.conf(5) users have it in front of them: a probe each 6 s,
/// 3 s for each try, three more tries with 3 s between them.
const INTERVAL_DEFAULT: Duration = Duration::from_secs(6);
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(3);
const UDP_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
const RETRY_DEFAULT: u32 = 3;
const RETRY_DELAY_DEFAULT: Duration = Duration::from_secs(3);

/// Most flaps that a damped check waits for: so many are remembered of each target.
const DAMP_FLAPS_MAX: u32 = 20;
/// Shortest of its times.
const DAMP_TIME_MIN: Duration = Duration::from_secs(1);
const DAMP_DEFAULT: Damp =
    Damp { flaps: 5, within: Duration::from_secs(60), hold: Duration::from_secs(120) };

/// Most checks of one real server.
const CHECKS_MAX: usize = 16;

/// The checks of the document by name; `None` where one could not be read.
#[derive(Debug, Default)]
pub(super) struct Checks<'d>(BTreeMap<&'d str, Option<Arc<Check>>>);

impl<'d> Checks<'d> {
    pub(super) fn read(root: &Table<'d>, out: &mut Diagnostics) -> Self {
        let mut checks = Self::default();
        let Some(field) = root.get("check") else { return checks };
        for entry in field.named::<ServiceName>("a check", out) {
            checks.0.insert(entry.text, check(&entry.field, out).map(Arc::new));
            if out.is_full() {
                break;
            }
        }
        checks
    }

    /// The checks that a service or real server names or has in place, all of which have to pass.
    pub(super) fn of(&self, field: &Field<'_>, out: &mut Diagnostics) -> Option<Vec<Arc<Check>>> {
        let items = field.list_or_one();
        if items.len() > CHECKS_MAX {
            let message = format!("{} checks, at most {CHECKS_MAX} can be given", items.len());
            out.push(field.problem(message));
            return None;
        }
        let mut all: Option<Vec<Arc<Check>>> = Some(Vec::with_capacity(items.len()));
        for item in &items {
            let check = self.one(item, out);
            if check.as_ref().zip(all.as_ref()).is_some_and(|(check, all)| all.contains(check)) {
                out.push(item.problem("this check stands twice").help("remove one of the two"));
                return None;
            }
            all = all.zip(check).map(|(mut all, check)| {
                all.push(check);
                all
            });
        }
        all
    }

    fn one(&self, item: &Field<'_>, out: &mut Diagnostics) -> Option<Arc<Check>> {
        if item.is_table() {
            return check(item, out).map(Arc::new);
        }
        let name = item.text("a check, or the name of one,", out)?;
        match self.0.get(name) {
            Some(check) => check.clone(),
            None => {
                out.push(service::unknown(&item.at, "check", name, self.0.keys().copied()));
                None
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Tcp,
    Http,
    Https,
    Grpc,
    Udp,
    Dns,
    Ping,
    Smtp,
    Exec,
    File,
}

pub(super) const TYPES: [(&str, Type); 10] = [
    ("tcp", Type::Tcp),
    ("http", Type::Http),
    ("https", Type::Https),
    ("grpc", Type::Grpc),
    ("udp", Type::Udp),
    ("dns", Type::Dns),
    ("ping", Type::Ping),
    ("smtp", Type::Smtp),
    ("exec", Type::Exec),
    ("file", Type::File),
];
const TYPES_FOREIGN: [(&str, &str); 9] = [
    ("TCP_CHECK", "tcp"),
    ("HTTP_GET", "http"),
    ("SSL_GET", "https"),
    ("UDP_CHECK", "udp"),
    ("DNS_CHECK", "dns"),
    ("PING_CHECK", "ping"),
    ("SMTP_CHECK", "smtp"),
    ("MISC_CHECK", "exec"),
    ("FILE_CHECK", "file"),
];
/// What finds out whether there is a path, by Keepalived's name and in the manner of ours.
const BFD: [&str; 2] = ["BFD_CHECK", "bfd"];

impl Type {
    fn word(self) -> &'static str {
        TYPES.iter().find(|(_, of)| *of == self).map_or("", |(word, _)| word)
    }

    /// The keys that not every type has.
    fn own(self) -> Vec<&'static str> {
        match self {
            Self::Tcp | Self::Ping => Vec::new(),
            Self::Udp => kinds::UDP_KEYS.to_vec(),
            Self::Dns => kinds::DNS_KEYS.to_vec(),
            Self::Smtp => kinds::SMTP_KEYS.to_vec(),
            Self::Exec => kinds::EXEC_KEYS.to_vec(),
            Self::File => kinds::FILE_KEYS.to_vec(),
            Self::Http => http::own_keys().collect(),
            Self::Grpc => http::GRPC_KEYS.into_iter().chain(http::TLS_KEYS).collect(),
            Self::Https => http::own_keys().chain(http::TLS_KEYS).collect(),
        }
    }
}

fn check(field: &Field<'_>, out: &mut Diagnostics) -> Option<Check> {
    // An unknown type has keys of its own: they are not what is wrong.
    let mut of_type = Diagnostics::new();
    let table = field.table(&keys::CHECK, &mut of_type)?;
    let of = match table.get("type") {
        Some(name) => Some(kind_of(&name, out)?),
        None => {
            out.push(table.missing("type").help("type = \"tcp\""));
            None
        }
    };
    of_type.iter().for_each(|problem| out.push(problem.clone()));
    let kind = of.and_then(|of| {
        no_others(of, &table, out);
        match of {
            Type::Tcp => Some(CheckKind::Tcp),
            Type::Http => http::check(&table, false, out).map(CheckKind::Http),
            Type::Https => http::check(&table, true, out).map(CheckKind::Http),
            Type::Grpc => http::grpc(&table, out),
            Type::Udp => kinds::udp(&table, out),
            Type::Dns => kinds::dns(&table, out),
            Type::Ping => Some(CheckKind::Ping),
            Type::Smtp => kinds::smtp(&table, out),
            Type::Exec => kinds::exec(&table, out),
            Type::File => kinds::file(&table, out),
        }
    });
    let time = |key: &str, min: Duration, default: Duration, out: &mut Diagnostics| {
        table.get(key).map_or(Some(default), |value| {
            value.duration(&format!("the {key} of a check"), min..=CHECK_TIME_MAX, out)
        })
    };
    let interval = time("interval", CHECK_INTERVAL_MIN, INTERVAL_DEFAULT, out);
    let warmup_default = Check::warmup_default(interval.unwrap_or(INTERVAL_DEFAULT));
    let warmup = time("warmup", Duration::ZERO, warmup_default, out);
    let timeout = time("timeout", CHECK_TIME_MIN, timeout_default(kind.as_ref()), out);
    let retry_delay = time("retry_delay", CHECK_TIME_MIN, RETRY_DELAY_DEFAULT, out);
    let retry = table.get("retry").map_or(Some(RETRY_DEFAULT), |value| {
        value.integer("the number of further tries", 0..=CHECK_RETRY_MAX, out)
    });
    let steps = |key: &str, out: &mut Diagnostics| {
        table.get(key).map_or(Some(1), |value| {
            value.integer(&format!("the {key} of a check"), 1..=CHECK_STEPS_MAX, out)
        })
    };
    let (rise, fall) = (steps("rise", out), steps("fall", out));
    let starts_down = table.get("start").map_or(Some(false), |value| {
        value.choice("start", &[("up", false), ("down", true)], &[], out)
    });
    let via = via(&table, of, out);
    let damp = table.get("damp").map_or(Some(None), |value| damp(&value, out).map(Some));
    let address = table.get("address").map_or(Some(None), |value| value.address(out).map(Some));
    let port = port(&table, "port", out);
    let origin = origin(&table, address.flatten(), out);
    Some(Check {
        kind: kind?,
        via: via?,
        address: address?,
        port: port?,
        origin: origin?,
        interval: interval?,
        timeout: timeout?,
        retry: retry?,
        retry_delay: retry_delay?,
        warmup: warmup?,
        rise: rise?,
        fall: fall?,
        starts_down: starts_down?,
        damp: damp?,
    })
}

/// The way of its probes. Over that of clients' packets, it is the service that says where they go.
fn via(table: &Table<'_>, of: Option<Type>, out: &mut Diagnostics) -> Option<Via> {
    let Some(field) = table.get("via") else { return Some(Via::Direct) };
    let words = [("direct", Via::Direct), ("forwarding", Via::Forwarding)];
    let via = field.choice("via", &words, &[], out)?;
    if via == Via::Direct {
        return Some(via);
    }
    if let Some(of) = of.filter(|of| *of != Type::Tcp) {
        let message = format!("a check of type {} can't go the way of clients' packets", of.word());
        let help = "a second check does: check = [.., { type = \"tcp\", via = \"forwarding\" }]";
        out.push(field.problem(message).help(help));
        return None;
    }
    let mut others = ["address", "port", "source_port", "interface", "mark"].into_iter();
    if let Some(other) = others.find_map(|key| table.get(key)) {
        let message = "its packets go to the VIP at the real server: the service says where";
        out.push(other.problem(message).help("leave it out, or via = \"direct\""));
        return None;
    }
    Some(via)
}

/// When a real server that goes down again and again is held down, and for how long.
fn damp(field: &Field<'_>, out: &mut Diagnostics) -> Option<Damp> {
    let table = field.table(&keys::DAMP, out)?;
    let flaps = table.get("flaps").map_or(Some(DAMP_DEFAULT.flaps), |value| {
        value.integer("the flaps of a damped check", 1..=DAMP_FLAPS_MAX, out)
    });
    let time = |key: &str, default: Duration, out: &mut Diagnostics| {
        table.get(key).map_or(Some(default), |value| {
            let what = format!("the {key} of a damped check");
            value.duration(&what, DAMP_TIME_MIN..=CHECK_TIME_MAX, out)
        })
    };
    let within = time("within", DAMP_DEFAULT.within, out);
    let hold = time("hold", DAMP_DEFAULT.hold, out);
    Some(Damp { flaps: flaps?, within: within?, hold: hold? })
}

/// That no error comes is only known once the kernel has given up asking for the real server's MAC,
/// which takes it some three seconds (`mcast_solicit` times `retrans_time`, arp(7)).
fn timeout_default(kind: Option<&CheckKind>) -> Duration {
    match kind {
        Some(CheckKind::Udp(UdpCheck { reply: None, .. })) => UDP_TIMEOUT_DEFAULT,
        _ => TIMEOUT_DEFAULT,
    }
}

/// A port that may be left out.
#[expect(clippy::option_option, reason = "the outer one says whether it could be read")]
fn port(table: &Table<'_>, key: &str, out: &mut Diagnostics) -> Option<Option<u16>> {
    table.get(key).map_or(Some(None), |value| {
        value.integer(&format!("the {key} of a check"), 1..=u16::MAX, out).map(Some)
    })
}

/// Where its probes come from.
fn origin(table: &Table<'_>, to: Option<IpAddr>, out: &mut Diagnostics) -> Option<Origin> {
    let address = table.get("source").map_or(Some(None), |value| value.address(out).map(Some));
    let port = port(table, "source_port", out);
    let interface = table.get("interface").map_or(Some(None), |value| {
        value.parsed::<InterfaceName>("an interface name", out).map(Some)
    });
    let mark = table.get("mark").map_or(Some(None), |value| {
        value.integer("a firewall mark", 1..=u32::MAX, out).map(NonZeroU32::new)
    });
    if let (Some(value), Some(Some(source)), Some(to)) = (table.get("source"), address, to)
        && source.is_ipv4() != to.is_ipv4()
    {
        let problem = value.problem(format!("{source} can't be the source of what goes to {to}"));
        out.push(problem.help("give both of one family"));
        return None;
    }
    Some(Origin { address: address?, port: port?, interface: interface?, mark: mark? })
}

fn kind_of(name: &Field<'_>, out: &mut Diagnostics) -> Option<Type> {
    if let Some(bfd) = name.peek().filter(|text| BFD.contains(text)) {
        let problem = name.problem(format!(
            "there are no checks of type {bfd:?}: a quick probe finds out as soon, and of the program too"
        ));
        out.push(problem.help("type = \"tcp\", interval = \"50ms\", timeout = \"50ms\", fall = 3"));
        return None;
    }
    name.choice("type of check", &TYPES, &TYPES_FOREIGN, out)
}

/// The keys that a check of this type does not take.
#[cfg(test)]
pub(super) fn keys_of_others(word: &str) -> Vec<&'static str> {
    let of = TYPES.iter().find(|(known, _)| *known == word).map_or(Type::Tcp, |(_, of)| *of);
    let others = TYPES.iter().flat_map(|(_, other)| other.own());
    others.filter(|key| !of.own().contains(key)).collect()
}

/// Refuses keys that mean nothing for this type: whoever wrote them expects something.
fn no_others(of: Type, table: &Table<'_>, out: &mut Diagnostics) {
    let own = of.own();
    let mut others: Vec<&str> = TYPES.iter().flat_map(|(_, other)| other.own()).collect();
    // A packet of ICMP has no port, a program looks where it likes, and a file is here.
    match of {
        Type::Ping => others.extend(["port", "source_port"]),
        Type::Exec => others.extend(["port", "source", "source_port", "interface", "mark"]),
        Type::File => {
            others.extend(["address", "port", "source", "source_port", "interface", "mark"]);
        }
        _ => {}
    }
    others.sort_unstable();
    others.dedup();
    for key in others.into_iter().filter(|key| !own.contains(key)) {
        if let Some(field) = table.get(key) {
            let problem = field.problem(format!("a check of type {} has no {key:?}", of.word()));
            out.push(problem.help("leave it out"));
        }
    }
}
