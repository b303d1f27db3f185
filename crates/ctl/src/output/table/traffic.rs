//! `quorate services --stats` and `--rate`, in the shape of `ipvsadm -ln --stats` and `--rate`.

use quorate_api::v1::{Counters, RealServerStatus, ServiceStatus};

use super::{Cell, Style, align};

/// Which numbers are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbers {
    /// Since each was made.
    Stats,
    /// Each second, of late.
    Rate,
}

/// The table of what passed through these virtual services. A service that listens on several
/// addresses has the numbers of all of them behind the last. `exact`: without K, M, G.
#[must_use]
pub fn traffic(services: &[&ServiceStatus], numbers: Numbers, exact: bool) -> String {
    let columns = match numbers {
        Numbers::Stats => ["Conns", "InPkts", "OutPkts", "InBytes", "OutBytes"],
        Numbers::Rate => ["CPS", "InPPS", "OutPPS", "InBPS", "OutBPS"],
    };
    let mut rows = vec![row("Prot LocalAddress:Port", columns.map(str::to_owned))];
    rows.push(vec!["  -> RemoteAddress:Port".into()]);
    for service in services {
        let of_service = shown(numbers, service.counters, service.rates, exact);
        match service.mark {
            Some(mark) => rows.push(row(&format!("FWM  {mark}"), of_service)),
            None => {
                let lines: Vec<String> = service.listen.iter().map(|at| line(at)).collect();
                let (last, before) = lines.split_last().map_or(("?", &[][..]), |(l, b)| (l, b));
                rows.extend(before.iter().map(|at| vec![at.as_str().into()]));
                rows.push(row(last, of_service));
            }
        }
        for server in service.real_servers.iter().chain(&service.sorry_server) {
            let RealServerStatus { address, counters, rates, .. } = server;
            let of_server = shown(numbers, *counters, *rates, exact);
            rows.push(row(&format!("  -> {address}"), of_server));
        }
    }
    align(&rows, Style::default())
}

fn line(listen: &str) -> String {
    let (protocol, address) = listen.split_once('/').unwrap_or(("?", listen));
    format!("{:<4} {address}", protocol.to_uppercase())
}

fn row(name: &str, numbers: [String; 5]) -> Vec<Cell> {
    std::iter::once(name.into()).chain(numbers.map(Cell::from)).collect()
}

fn shown(
    numbers: Numbers,
    counters: Option<Counters>,
    rates: Option<quorate_api::v1::Rates>,
    exact: bool,
) -> [String; 5] {
    let all = match numbers {
        Numbers::Stats => {
            counters.map(|c| [c.connections, c.packets_in, c.packets_out, c.bytes_in, c.bytes_out])
        }
        Numbers::Rate => {
            rates.map(|r| [r.connections, r.packets_in, r.packets_out, r.bytes_in, r.bytes_out])
        }
    };
    // The owner's table could not be read.
    let Some(all) = all else { return [(); 5].map(|()| "?".to_owned()) };
    all.map(|number| if exact { number.to_string() } else { short(number) })
}

/// As ipvsadm(8) shortens what does not fit its columns.
fn short(number: u64) -> String {
    match number {
        0..100_000_000 => number.to_string(),
        100_000_000..100_000_000_000 => format!("{}K", number / 1_000),
        100_000_000_000..100_000_000_000_000 => format!("{}M", number / 1_000_000),
        _ => format!("{}G", number / 1_000_000_000),
    }
}

#[cfg(test)]
mod tests {
    use quorate_api::v1::Rates;

    use super::*;

    #[test]
    fn traffic_has_the_shape_of_ipvsadm() {
        let service = ServiceStatus {
            listen: vec!["tcp/192.0.2.80:80".to_owned(), "udp/192.0.2.80:80".to_owned()],
            counters: Some(Counters {
                connections: 11,
                packets_in: 52,
                bytes_in: 99_999_999,
                bytes_out: 123_456_789_012,
                ..Counters::default()
            }),
            rates: Some(Rates::default()),
            real_servers: vec![RealServerStatus {
                address: "192.0.2.16:80".to_owned(),
                counters: Some(Counters::default()),
                rates: Some(Rates { connections: 7, ..Rates::default() }),
                ..RealServerStatus::default()
            }],
            ..ServiceStatus::default()
        };
        let marked = ServiceStatus { mark: Some(7), ..ServiceStatus::default() };
        assert_eq!(
            traffic(&[&service, &marked], Numbers::Stats, false),
            "\
Prot LocalAddress:Port   Conns  InPkts  OutPkts  InBytes   OutBytes
  -> RemoteAddress:Port
TCP  192.0.2.80:80
UDP  192.0.2.80:80       11     52      0        99999999  123456M
  -> 192.0.2.16:80       0      0       0        0         0
FWM  7                   ?      ?       ?        ?         ?
"
        );
        assert_eq!(
            traffic(&[&service], Numbers::Rate, true),
            "\
Prot LocalAddress:Port   CPS  InPPS  OutPPS  InBPS  OutBPS
  -> RemoteAddress:Port
TCP  192.0.2.80:80
UDP  192.0.2.80:80       0    0      0       0      0
  -> 192.0.2.16:80       7    0      0       0      0
"
        );
        assert!(traffic(&[&service], Numbers::Stats, true).contains("123456789012"));
    }
}
