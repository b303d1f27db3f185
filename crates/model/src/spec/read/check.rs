//! `[check.NAME]` and `check = {..}`.

use std::time::Duration;

use crate::spec::document::{Diagnostics, Field};
use crate::spec::{Check, CheckKind};

use super::keys;

/// Shortest time between two probes of one real server.
pub const CHECK_INTERVAL_MIN: Duration = Duration::from_millis(50);
/// Shortest time that one try may take, or that lies between two.
pub const CHECK_TIME_MIN: Duration = Duration::from_millis(1);
/// Longest of each time of a check.
pub const CHECK_TIME_MAX: Duration = Duration::from_secs(3600);
/// Most further tries.
pub const CHECK_RETRY_MAX: u32 = 100;

/// What is left out is as keepalived.conf(5) users have it in front of them: a probe each 6 s,
/// 3 s for each try, three more tries with 3 s between them.
const INTERVAL_DEFAULT: Duration = Duration::from_secs(6);
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(3);
const RETRY_DEFAULT: u32 = 3;
const RETRY_DELAY_DEFAULT: Duration = Duration::from_secs(3);

const TYPES_LATER: [&str; 10] =
    ["http", "https", "udp", "dns", "ping", "smtp", "grpc", "exec", "file", "bfd"];

pub(super) fn check(field: &Field<'_>, out: &mut Diagnostics) -> Option<Check> {
    // An unknown type has keys of its own: they are not what is wrong.
    let mut of_type = Diagnostics::new();
    let table = field.table(&keys::CHECK, &mut of_type)?;
    let kind = match table.get("type") {
        Some(name) => {
            let kind = kind(&name, out)?;
            Some(kind)
        }
        None => {
            out.push(table.missing("type").help("type = \"tcp\""));
            None
        }
    };
    of_type.iter().for_each(|problem| out.push(problem.clone()));
    let time = |key: &str, min: Duration, default: Duration, out: &mut Diagnostics| {
        table.get(key).map_or(Some(default), |value| {
            value.duration(&format!("the {key} of a check"), min..=CHECK_TIME_MAX, out)
        })
    };
    let interval = time("interval", CHECK_INTERVAL_MIN, INTERVAL_DEFAULT, out);
    let timeout = time("timeout", CHECK_TIME_MIN, TIMEOUT_DEFAULT, out);
    let retry_delay = time("retry_delay", CHECK_TIME_MIN, RETRY_DELAY_DEFAULT, out);
    let retry = table.get("retry").map_or(Some(RETRY_DEFAULT), |value| {
        value.integer("the number of further tries", 0..=CHECK_RETRY_MAX, out)
    });
    let port = match table.get("port") {
        Some(value) => value.integer("the port of a check", 1..=u16::MAX, out).map(Some),
        None => Some(None),
    };
    Some(Check {
        kind: kind?,
        port: port?,
        interval: interval?,
        timeout: timeout?,
        retry: retry?,
        retry_delay: retry_delay?,
    })
}

fn kind(name: &Field<'_>, out: &mut Diagnostics) -> Option<CheckKind> {
    if let Some(later) = name.peek().and_then(|text| TYPES_LATER.iter().find(|t| **t == text)) {
        let problem = name
            .problem(format!("this version of Quorate does not have checks of type {later:?} yet"));
        out.push(problem.help("type = \"tcp\" is there"));
        return None;
    }
    name.choice("type of check", &[("tcp", CheckKind::Tcp)], &[("TCP_CHECK", "tcp")], out)
}
