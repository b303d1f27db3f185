//! What `ipvsadm-save -n` wrote, as a configuration. What a line says that can't be said here, or
//! that the file does not say (which addresses a firewall mark stands for), is an error with its line:
//! nothing is left out silently. Tests: at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use quorate_model::spec::SCHEDULERS;

/// What the file does not say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The name of the VIP group.
    pub group: String,
    /// The interface that carries the VIPs, by the name that every node.toml maps.
    pub interface: String,
    /// What a firewall mark stands for: `"tcp/192.0.2.80:80"` and so on.
    pub marks: BTreeMap<u32, Vec<String>>,
}

/// A configuration, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// TOML; worth nothing where there is a problem.
    pub source: String,
    /// How many services and real servers.
    pub counts: (usize, usize),
    /// Each with the line that it is about.
    pub problems: Vec<String>,
}

/// A service as its line says, in the words of the configuration.
#[derive(Debug, Default)]
struct Service {
    /// What identifies it, as ipvsadm has it.
    key: Key,
    lines: Vec<String>,
    servers: Vec<String>,
}

#[derive(Debug, Default, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    #[default]
    None,
    At(&'static str, String),
    Mark(u32, bool),
}

/// Reads what `ipvsadm-save -n` wrote.
#[must_use]
pub fn import(text: &str, options: &Options) -> Imported {
    let mut services: Vec<Service> = Vec::new();
    let mut problems = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Err(problem) = read_line(line, &mut services) {
            let shown: String = line.chars().take(120).collect();
            problems.push(format!("line {}: {problem}: {shown}", number + 1));
        }
    }
    let (source, vips) = written(&services, options, &mut problems);
    let servers = services.iter().map(|service| service.servers.len()).sum();
    let mut whole =
        String::from("# From a table of ipvsadm: add checks, preferred directors, sync.\n");
    let addresses: Vec<String> = vips.iter().map(|ip| format!("{:?}", ip.to_string())).collect();
    let Options { group, interface, .. } = options;
    let _ = writeln!(
        whole,
        "\n[group.{group}]\ninterface = {interface:?}\naddresses = [{}]",
        addresses.join(", ")
    );
    whole.push_str(&source);
    if vips.is_empty() && problems.is_empty() {
        problems.push(
            "it holds no service: `ipvsadm-save -n` on a director writes its table".to_owned(),
        );
    }
    Imported { source: whole, counts: (services.len(), servers), problems }
}

fn written(
    services: &[Service],
    options: &Options,
    problems: &mut Vec<String>,
) -> (String, BTreeSet<IpAddr>) {
    let (mut text, mut vips, mut names) = (String::new(), BTreeSet::new(), BTreeSet::new());
    for service in services {
        let (name, listen, mark) = match &service.key {
            Key::None => continue,
            Key::At(protocol, address) => {
                let port = address.rsplit(':').next().unwrap_or_default();
                (format!("{protocol}-{port}"), vec![format!("{protocol}/{address}")], None)
            }
            Key::Mark(mark, six) => {
                let of_family = |listen: &&String| listen.contains('[') == *six;
                let listen = options.marks.get(mark).into_iter().flatten().filter(of_family);
                let listen: Vec<String> = listen.cloned().collect();
                if listen.is_empty() {
                    let family = if *six { "an IPv6" } else { "an IPv4" };
                    problems.push(format!(
                        "what firewall mark {mark} stands for is not in the file, it is set by \
                         iptables or nftables: say it, with {family} address: --mark \
                         {mark}=tcp/ADDRESS:PORT,udp/ADDRESS:PORT-PORT"
                    ));
                    continue;
                }
                (format!("mark-{mark}"), listen, Some(*mark))
            }
        };
        vips.extend(listen.iter().filter_map(|listen| vip(listen)));
        let mut unique = name.clone();
        for number in 2.. {
            if names.insert(unique.clone()) {
                break;
            }
            unique = format!("{name}-{number}");
        }
        let listen: Vec<String> = listen.iter().map(|listen| format!("{listen:?}")).collect();
        let listen = match listen.as_slice() {
            [one] => one.clone(),
            several => format!("[{}]", several.join(", ")),
        };
        let _ =
            writeln!(text, "\n[service.{unique}]\ngroup = {:?}\nlisten = {listen}", options.group);
        if let Some(mark) = mark {
            let _ = writeln!(text, "mark = {mark}");
        }
        for line in &service.lines {
            let _ = writeln!(text, "{line}");
        }
        let servers: String =
            service.servers.iter().map(|server| format!("  {server},\n")).collect();
        let _ = writeln!(text, "real_servers = [\n{servers}]");
    }
    (text, vips)
}

/// The address of `tcp/192.0.2.80:80` or `tcp/192.0.2.80:80-90`.
fn vip(listen: &str) -> Option<IpAddr> {
    let (_, address) = listen.split_once('/')?;
    let first = address.rsplit_once('-').map_or(address, |(first, _)| first);
    first.parse::<SocketAddr>().ok().map(|address| address.ip())
}

fn read_line(line: &str, services: &mut Vec<Service>) -> Result<(), String> {
    let mut words = line.split_whitespace();
    let command = words.next().unwrap_or_default();
    let words: Vec<&str> = words.collect();
    match command {
        "-A" | "--add-service" => {
            let service = read_service(&words)?;
            if services.iter().any(|known| known.key == service.key) {
                return Err("the service stands there already".to_owned());
            }
            services.push(service);
            Ok(())
        }
        "-a" | "--add-server" => {
            let (key, server) = read_server(&words)?;
            let service = services.iter_mut().find(|service| service.key == key);
            let service = service.ok_or("its service is not there before it")?;
            service.servers.push(server);
            Ok(())
        }
        "--set" | "--start-daemon" => {
            Err("[cluster] timeouts and sync are written by hand".to_owned())
        }
        _ => Err("it is no line that ipvsadm-save writes (-A or -a)".to_owned()),
    }
}

/// Walks options with their values.
struct Words<'a>(std::slice::Iter<'a, &'a str>);

impl<'a> Words<'a> {
    fn value(&mut self, option: &str) -> Result<&'a str, String> {
        self.0.next().copied().ok_or_else(|| format!("{option} has no value"))
    }
}

/// An option of `-A` or `-a` that names the service; whether it was one.
fn read_key(option: &str, words: &mut Words<'_>, key: &mut Key) -> Result<bool, String> {
    let protocol = match option {
        "-t" | "--tcp-service" => "tcp",
        "-u" | "--udp-service" => "udp",
        "--sctp-service" => "sctp",
        "-f" | "--fwmark-service" => {
            let value = words.value(option)?;
            // Of marks above the half, ipvsadm prints a negative number.
            let mark = value.parse::<i64>().ok().and_then(|mark| {
                u32::try_from(mark)
                    .ok()
                    .or_else(|| i32::try_from(mark).ok().map(i32::cast_unsigned))
            });
            let mark =
                mark.filter(|&mark| mark != 0).ok_or_else(|| format!("no mark: {value:?}"))?;
            let six = matches!(key, Key::Mark(_, true));
            *key = Key::Mark(mark, six);
            return Ok(true);
        }
        "-6" | "--ipv6" => {
            let mark = if let Key::Mark(mark, _) = key { *mark } else { 0 };
            *key = Key::Mark(mark, true);
            return Ok(true);
        }
        _ => return Ok(false),
    };
    *key = Key::At(protocol, numeric(words.value(option)?)?);
    Ok(true)
}

fn numeric(text: &str) -> Result<String, String> {
    let address = text.parse::<SocketAddr>().map(|address| address.to_string());
    address.map_err(|_| format!("{text:?} is no numeric address with port: use ipvsadm-save -n"))
}

fn read_service(words: &[&str]) -> Result<Service, String> {
    let mut service = Service::default();
    let (mut timeout, mut prefix, mut engine) = (None, None, None);
    let mut words = Words(words.iter());
    let mut key = Key::None;
    while let Some(&option) = words.0.next() {
        if read_key(option, &mut words, &mut key)? {
            continue;
        }
        match option {
            "-s" | "--scheduler" => {
                let name = words.value(option)?;
                let own = SCHEDULERS.contains(&name);
                let line = if own { format!("{name:?}") } else { format!("{{ name = {name:?} }}") };
                service.lines.push(format!("scheduler = {line}"));
            }
            "-p" | "--persistent" => timeout = Some(number(words.value(option)?)?),
            "-M" | "--netmask" => prefix = Some(netmask(words.value(option)?)?),
            "--pe" => engine = Some(words.value(option)?),
            "-b" | "--sched-flags" => {
                let flags: Vec<String> =
                    words.value(option)?.split(',').map(|flag| format!("{flag:?}")).collect();
                service.lines.push(format!("flags = [{}]", flags.join(", ")));
            }
            "-o" | "--ops" => service.lines.push("one_packet = true".to_owned()),
            _ => return Err(format!("option {option} is not known")),
        }
    }
    if key == Key::None {
        return Err("it names no service".to_owned());
    }
    match (timeout, prefix, engine) {
        (None, ..) => {}
        (Some(timeout), None, None) => service.lines.push(format!("persistence = \"{timeout}s\"")),
        (Some(timeout), prefix, engine) => {
            let prefix = prefix.map(|prefix| format!(", prefix = {prefix}")).unwrap_or_default();
            let engine = engine.map(|engine| format!(", engine = {engine:?}")).unwrap_or_default();
            let table = format!("persistence = {{ timeout = \"{timeout}s\"{prefix}{engine} }}");
            service.lines.push(table);
        }
    }
    service.key = key;
    Ok(service)
}

fn read_server(words: &[&str]) -> Result<(Key, String), String> {
    let mut key = Key::None;
    let mut address = None;
    let mut fields = Vec::new();
    let (mut kind, mut port, mut checksum) = (None, None, None);
    let mut words = Words(words.iter());
    while let Some(&option) = words.0.next() {
        if read_key(option, &mut words, &mut key)? {
            continue;
        }
        match option {
            "-r" | "--real-server" => {
                let at = numeric(words.value(option)?)?;
                // Port 0 of a service by firewall mark is the client's.
                let parsed: Option<SocketAddr> = at.parse().ok();
                address = match parsed {
                    Some(at) if at.port() == 0 => Some(at.ip().to_string()),
                    _ => Some(at),
                };
            }
            "-g" | "--gatewaying" => fields.push("forward = \"DR\"".to_owned()),
            "-m" | "--masquerading" => fields.push("forward = \"NAT\"".to_owned()),
            "-i" | "--ipip" => fields.push("forward = \"TUN\"".to_owned()),
            "-w" | "--weight" => fields.push(format!("weight = {}", number(words.value(option)?)?)),
            "-x" | "--u-threshold" => {
                fields.push(format!("upper_threshold = {}", number(words.value(option)?)?));
            }
            "-y" | "--l-threshold" => {
                fields.push(format!("lower_threshold = {}", number(words.value(option)?)?));
            }
            "--tun-type" => kind = Some(words.value(option)?),
            "--tun-port" => port = Some(number(words.value(option)?)?),
            "--tun-csum" => checksum = Some("full"),
            "--tun-remcsum" => checksum = Some("remote"),
            "--tun-nocsum" => checksum = None,
            _ => return Err(format!("option {option} is not known")),
        }
    }
    let address = address.ok_or("it names no real server")?;
    if let Some(kind) = kind.filter(|kind| *kind != "ipip") {
        let port = port.map(|port| format!(", port = {port}")).unwrap_or_default();
        let checksum = checksum.map(|sum| format!(", checksum = {sum:?}")).unwrap_or_default();
        fields.push(format!("tunnel = {{ type = {kind:?}{port}{checksum} }}"));
    }
    fields.insert(0, format!("address = {address:?}"));
    Ok((key, format!("{{ {} }}", fields.join(", "))))
}

fn number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("{text:?} is no number"))
}

/// A mask of IPv4, or a prefix length of IPv6.
fn netmask(text: &str) -> Result<u32, String> {
    if let Ok(prefix) = text.parse::<u32>() {
        return Ok(prefix);
    }
    let mask: Ipv4Addr = text.parse().map_err(|_| format!("{text:?} is no netmask"))?;
    let mask = u32::from(mask);
    let prefix = mask.leading_ones();
    (mask.count_ones() == prefix).then_some(prefix).ok_or_else(|| format!("{text:?} has holes"))
}

#[cfg(test)]
mod tests {
    use quorate_model::spec::{Format, parse};

    use super::super::export;
    use super::*;

    const SAVED: &str = "\
-A -t 192.0.2.80:80 -s wlc -p 50 -M 255.255.255.0
-a -t 192.0.2.80:80 -r 192.0.2.16:80 -g -w 3
-a -t 192.0.2.80:80 -r 192.0.2.17:8080 -m -w 1 -x 100 -y 80
-A -t 192.0.2.80:443 -s mh -b mh-fallback,mh-port
-a -t 192.0.2.80:443 -r 192.0.2.16:443 -i --tun-type gue --tun-port 6080 --tun-csum -w 1
-a -t 192.0.2.80:443 -r 192.0.2.17:443 -i --tun-type ipip -w 1
-A -u 192.0.2.80:53 -s rr -o
-a -u 192.0.2.80:53 -r 192.0.2.16:53 -g -w 0
-A --sctp-service [2001:db8::80]:3868 -s fo -p 10 -M 64
-a --sctp-service [2001:db8::80]:3868 -r [2001:db8::16]:3868 -g -w 1
-A -f 7 -s rr -p 60
-a -f 7 -r 192.0.2.16:0 -g -w 1
-A -f 7 -6 -s rr
";

    fn options(marks: &[(u32, &str)]) -> Options {
        let marks =
            marks.iter().map(|(mark, at)| (*mark, at.split(',').map(str::to_owned).collect()));
        Options { group: "web".to_owned(), interface: "public".to_owned(), marks: marks.collect() }
    }

    fn sorted(text: &str) -> BTreeSet<String> {
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let lines = text.lines().map(|line| {
            let mut words = words(line);
            words.sort();
            words.join(" ")
        });
        lines.collect()
    }

    /// Both families of one mark are one service of the configuration where they are alike.
    #[test]
    fn what_ipvsadm_saved_comes_back_when_it_is_exported() {
        let saved = SAVED.replace("-A -f 7 -6 -s rr\n", "");
        let imported =
            import(&saved, &options(&[(7, "tcp/192.0.2.80:8000-8099,udp/192.0.2.80:9000")]));
        assert_eq!(imported.problems, Vec::<String>::new());
        assert_eq!(imported.counts, (5, 7));
        let spec = match parse(&imported.source, Format::Toml) {
            Ok(spec) => spec,
            Err(wrong) => panic!("{}", wrong.render("imported", &imported.source)),
        };
        assert_eq!(sorted(&export(&spec)), sorted(&saved));
    }

    #[test]
    fn what_the_file_does_not_say_is_asked_for() {
        let imported = import(SAVED, &options(&[]));
        let problems = imported.problems.join("\n");
        assert!(problems.contains("--mark 7=tcp/ADDRESS:PORT"), "{problems}");
        assert_eq!(imported.problems.len(), 2, "for each family");
    }

    #[test]
    fn a_line_that_cant_be_kept_is_named_and_nothing_left_out() {
        for (line, what) in [
            ("-A -t www:80 -s rr", "use ipvsadm-save -n"),
            ("-A -t 192.0.2.80:80 -s rr -z", "option -z is not known"),
            ("-a -t 192.0.2.80:80 -r 192.0.2.16:80 -g", "its service is not there before it"),
            ("-A -s rr", "it names no service"),
            ("-A -t 192.0.2.80:80 -p", "-p has no value"),
            ("-A -t 192.0.2.80:80 -p 9 -M 255.0.255.0", "has holes"),
            ("-A -f 0 -s rr", "no mark: \"0\""),
            ("-D -t 192.0.2.80:80", "it is no line that ipvsadm-save writes"),
            ("--set 1 2 3", "written by hand"),
        ] {
            let problems = import(line, &options(&[])).problems;
            assert_eq!(problems.len(), 1, "{line}: {problems:?}");
            assert!(
                problems[0].starts_with("line 1: ") && problems[0].contains(what),
                "{problems:?}"
            );
        }
        let twice = "-A -t 192.0.2.80:80 -s rr\n# a comment\n\n-A -t 192.0.2.80:80 -s wrr\n";
        let problems = import(twice, &options(&[])).problems;
        assert!(
            problems[0].starts_with("line 4: the service stands there already"),
            "{problems:?}"
        );
        assert!(import("", &options(&[])).problems[0].contains("no service"));
    }

    #[test]
    fn two_services_on_one_port_have_names_of_their_own() {
        let saved = "-A -t 192.0.2.80:80 -s rr\n-A -t 192.0.2.81:80 -s rr\n-A -f -1 -s own\n";
        let marks = options(&[(u32::MAX, "tcp/192.0.2.82:1")]);
        let imported = import(saved, &marks);
        assert_eq!(imported.problems, Vec::<String>::new());
        let spec = parse(&imported.source, Format::Toml).unwrap();
        let names: Vec<&str> = spec.services.keys().map(|name| name.as_str()).collect();
        assert_eq!(names, ["mark-4294967295", "tcp-80", "tcp-80-2"]);
        assert_eq!(spec.groups.values().next().unwrap().addresses.len(), 3);
    }
}
