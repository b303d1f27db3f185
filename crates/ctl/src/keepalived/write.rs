//! The configuration as TOML, with comments on where it comes from and what is left out.

mod checks;
mod hooks;
mod routing;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use quorate_model::spec::read::TRACKS_MAX;

use super::ir::{Fields, Forward, Group, Server, Service};
use super::merge::Whole;
use super::names::{Names, name_of};
use super::report::{Place, Report, clean};
use super::values::{list, quoted, time};
use checks::Shared;

/// Most keywords that one comment names.
const LEFT_OUT_MAX: usize = 24;

/// What is written, each line with the place that it comes from.
#[derive(Debug, Default)]
pub(super) struct Document {
    lines: Vec<(String, Option<Place>)>,
    place: Option<Place>,
    /// How many groups, services and real servers.
    pub(super) counts: (usize, usize, usize),
}

impl Document {
    fn line(&mut self, text: impl Into<String>) {
        self.lines.push((text.into(), self.place));
    }

    fn comment(&mut self, text: &str) {
        // A comment is one line, whatever a file has in its words.
        self.line(format!("# {}", text.replace(|c: char| c.is_control(), " ")));
    }

    fn fields(&mut self, fields: &Fields) {
        for (key, value) in fields {
            self.line(format!("{key} = {value}"));
        }
    }

    /// The text.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for (line, _) in &self.lines {
            text.push_str(line);
            text.push('\n');
        }
        text
    }

    /// Where a line of it comes from.
    pub(super) fn place_of(&self, line: usize) -> Option<Place> {
        self.lines.get(line.saturating_sub(1)).and_then(|(_, place)| *place)
    }
}

/// Writes it all.
pub(super) fn document(
    whole: &Whole,
    services: &[(String, Service)],
    labels: &[String],
    report: &mut Report,
) -> Document {
    let mut out = Document::default();
    header(whole, labels, &mut out);
    if !whole.cluster.is_empty() {
        out.line("");
        out.line("[cluster]");
        for (key, value, place) in &whole.cluster {
            out.place = Some(*place);
            out.line(format!("{key} = {value}"));
        }
    }
    let tracks = tracks(whole, &mut out, report);
    let mut names = Names::default();
    let names: BTreeMap<String, String> = whole
        .groups
        .iter()
        .map(|(group, _)| (group.name.clone(), names.take(&group.name)))
        .collect();
    let left = left_out(report);
    let with = Writing { whole, names: &names, tracks: &tracks, left: &left };
    for (group, prefer) in &whole.groups {
        self::group(group, prefer, &with, &mut out, report);
    }
    let shared = Shared::of(services, &mut out);
    let mut given = Names::default();
    let mut called = Vec::new();
    for (group, service) in services {
        let group = names.get(group).map_or(group.as_str(), String::as_str);
        let name = given.take(&service_name(group, service));
        self::service((&name, group), service, &shared, &left, &mut out, report);
        called.push((name, service));
    }
    hooks::write(whole, &names, &called, &mut out, report);
    let servers = services.iter().map(|(_, service)| service.servers.len()).sum();
    out.counts = (whole.groups.len(), services.len(), servers);
    out
}

fn header(whole: &Whole, labels: &[String], out: &mut Document) {
    let version = env!("CARGO_PKG_VERSION");
    out.comment(&format!(
        "Made of keepalived.conf by `quorate import keepalived`, version {version}, of:"
    ));
    for (label, director) in labels.iter().zip(&whole.directors) {
        out.comment(&format!("  {} (director {director})", clean(label)));
    }
    out.comment("Next: read it and what the import said, then `quorate apply --dry-run FILE`, `quorate apply FILE`.");
    let mut devices: BTreeMap<String, String> = BTreeMap::new();
    for (group, _) in &whole.groups {
        let own = group.vips.iter().filter_map(|vip| vip.device.as_ref());
        for device in own.chain(&group.device).chain(routing::devices(group)) {
            devices.insert(name_of(device), device.clone());
        }
    }
    let used: BTreeSet<&String> =
        whole.groups.iter().flat_map(|(group, _)| &group.tracks).collect();
    for track in whole.tracks.iter().filter(|track| used.contains(&track.key)) {
        devices.extend(track.device.iter().map(|device| (name_of(device), device.clone())));
    }
    if devices.is_empty() {
        return;
    }
    out.line("#");
    out.comment("The node.toml of every director says which device each interface is:");
    out.comment("  [interfaces]");
    for (name, device) in &devices {
        let others: Vec<String> = whole
            .devices
            .get(device)
            .into_iter()
            .flatten()
            .map(|(director, device)| format!("{director}: {}", quoted(device)))
            .collect();
        let others =
            if others.is_empty() { String::new() } else { format!("  # {}", others.join(", ")) };
        let key = if name.contains('.') { quoted(name) } else { name.clone() };
        out.comment(&format!("  {key} = {}{others}", quoted(device)));
    }
}

/// Keywords that are not carried over, by file and line.
fn left_out(report: &Report) -> BTreeMap<(u32, u32), BTreeSet<String>> {
    let mut all: BTreeMap<(u32, u32), BTreeSet<String>> = BTreeMap::new();
    for entry in report.entries().iter().filter(|entry| !entry.keyword.is_empty()) {
        if let Some(place) = entry.place {
            all.entry((place.file, place.line)).or_default().insert(entry.keyword.clone());
        }
    }
    all
}

/// Says where something comes from, and what of it is told on stderr.
fn origin(
    what: &str,
    place: Place,
    until: u32,
    left: &BTreeMap<(u32, u32), BTreeSet<String>>,
    out: &mut Document,
    report: &Report,
) {
    out.comment(&format!("{}: {}", report.shown(place), clean(what)));
    let mut words: Vec<String> = Vec::new();
    for ((_, line), keywords) in
        left.range((place.file, place.line)..=(place.file, until.max(place.line)))
    {
        for keyword in keywords {
            let word = format!("{keyword} ({line})");
            if words.len() < LEFT_OUT_MAX && !words.contains(&word) {
                words.push(word);
            }
        }
    }
    if !words.is_empty() {
        out.comment(&format!("not as it was, see the import's warnings: {}", words.join(", ")));
    }
}

/// The tracks, and the name of each by its key.
fn tracks(whole: &Whole, out: &mut Document, report: &mut Report) -> BTreeMap<String, String> {
    let mut names = Names::default();
    let mut all = BTreeMap::new();
    let used: BTreeSet<&String> =
        whole.groups.iter().flat_map(|(group, _)| &group.tracks).collect();
    for track in whole.tracks.iter().filter(|track| used.contains(&track.key)) {
        if all.len() >= TRACKS_MAX {
            let what = format!("there are {TRACKS_MAX} tracks at most: it is left out");
            report.warn(track.place, &track.name, what);
            continue;
        }
        let name = names.take(&track.name);
        out.place = Some(track.place);
        out.line("");
        out.comment(&report.shown(track.place));
        out.line(format!("[track.{}]", key_of(&name)));
        out.fields(&track.fields);
        if let Some(device) = &track.device {
            out.line(format!("interface = {}", quoted(&name_of(device))));
        }
        all.insert(track.key.clone(), name);
    }
    all
}

/// A name as a key of TOML.
fn key_of(name: &str) -> String {
    if name.contains('.') { quoted(name) } else { name.to_owned() }
}

/// What groups are written with.
struct Writing<'a> {
    whole: &'a Whole,
    names: &'a BTreeMap<String, String>,
    tracks: &'a BTreeMap<String, String>,
    left: &'a BTreeMap<(u32, u32), BTreeSet<String>>,
}

fn group(
    group: &Group,
    prefer: &[String],
    with: &Writing<'_>,
    out: &mut Document,
    report: &mut Report,
) {
    let Writing { whole, names, tracks, left } = with;
    let name = names.get(&group.name).map_or("", String::as_str);
    out.place = Some(group.place);
    out.line("");
    let what = match group.instances.as_slice() {
        [] => "addresses that no vrrp_instance holds".to_owned(),
        [one] if *one == group.name => format!("vrrp_instance {one}"),
        several => format!("vrrp_sync_group {} of {}", group.name, several.join(", ")),
    };
    origin(&what, group.place, group.until, left, out, report);
    out.line(format!("[group.{}]", key_of(name)));
    if let Some(device) = &group.device {
        out.line(format!("interface = {}", quoted(&name_of(device))));
    }
    let vips: Vec<(String, Place)> = group
        .vips
        .iter()
        .map(|vip| {
            let net = quoted(&format!("{}/{}", vip.ip, vip.prefix));
            let own = vip.device.as_ref().filter(|own| Some(*own) != group.device.as_ref());
            let text = match own {
                Some(device) => {
                    format!("{{ address = {net}, interface = {} }}", quoted(&name_of(device)))
                }
                None => net,
            };
            (text, vip.place)
        })
        .collect();
    match vips.as_slice() {
        [(one, _)] => out.line(format!("addresses = [{one}]")),
        several => {
            out.line("addresses = [");
            for (text, place) in several {
                out.place = Some(*place);
                out.line(format!("  {text},"));
            }
            out.place = Some(group.place);
            out.line("]");
        }
    }
    routing::write(group, out);
    if !prefer.is_empty() {
        out.line(format!("prefer = {}", list(prefer)));
    } else if whole.directors.len() == 1 && !group.instances.is_empty() {
        out.comment(&format!(
            "prefer = [\"lb1\", \"lb2\"]  # priority {} here: with the files of all directors the import knows",
            group.priority
        ));
        let what = "one director's files don't say which is the better one: give the files of all of them, or write \
                    `prefer`";
        report.warn(group.place, "priority", what);
    }
    if !group.preempt {
        out.line("preempt = false");
    } else if !group.preempt_delay.is_zero() {
        out.line(format!("preempt_delay = {}", time(group.preempt_delay)));
    } else if !group.instances.is_empty() {
        let what = "it says none: a better director gets the group back after 60 s, Quorate's default, where \
                    Keepalived does not wait";
        report.warn(group.place, "preempt_delay", what);
    }
    let own: Vec<&String> = group.tracks.iter().filter_map(|key| tracks.get(key)).collect();
    if !own.is_empty() {
        out.line(format!("track = {}", list(own)));
    }
}

fn service_name(group: &str, service: &Service) -> String {
    let first = service.listen.first();
    match (service.mark, first) {
        (Some(mark), _) => format!("{group}-mark-{mark}"),
        (None, Some((protocol, listen, _))) => format!("{group}-{protocol}-{}", listen.port),
        (None, None) => group.to_owned(),
    }
}

fn forward_fields(forward: &Forward) -> Fields {
    let mut fields = vec![("forward", quoted(forward.word()))];
    if let Forward::Tun(Some(tunnel)) = forward {
        fields.push(("tunnel", tunnel.clone()));
    }
    fields
}

fn service(
    (name, group): (&str, &str),
    service: &Service,
    shared: &Shared,
    left: &BTreeMap<(u32, u32), BTreeSet<String>>,
    out: &mut Document,
    report: &Report,
) {
    out.place = Some(service.place);
    out.line("");
    origin("virtual_server", service.place, service.until, left, out, report);
    out.line(format!("[service.{}]", key_of(name)));
    out.line(format!("group = {}", quoted(group)));
    let listen: Vec<String> = service
        .listen
        .iter()
        .map(|(protocol, at, _)| {
            let address = std::net::SocketAddr::new(at.ip, at.port);
            let last = if at.last == at.port { String::new() } else { format!("-{}", at.last) };
            quoted(&format!("{protocol}/{address}{last}"))
        })
        .collect();
    match listen.as_slice() {
        [one] => out.line(format!("listen = {one}")),
        several => {
            out.line("listen = [");
            for (text, (.., place)) in several.iter().zip(&service.listen) {
                out.place = Some(*place);
                out.line(format!("  {text},"));
            }
            out.place = Some(service.place);
            out.line("]");
        }
    }
    if let Some(mark) = service.mark {
        out.line(format!("mark = {mark}"));
    }
    out.line(format!("scheduler = {}", quoted(&service.scheduler)));
    out.fields(&forward_fields(&service.forward));
    out.fields(&service.fields);
    let common = shared.common(service);
    if !common.is_empty() {
        out.line(format!("check = {}", Shared::written(&common)));
    }
    if let Some(sorry) = &service.sorry {
        out.place = Some(sorry.place);
        let plain = sorry.forward.is_none() && sorry.fields.is_empty();
        let text = server(sorry, None);
        let address = quoted(&address(sorry));
        out.line(format!("sorry_server = {}", if plain { address } else { text }));
        out.place = Some(service.place);
    }
    if service.servers.is_empty() {
        out.line("real_servers = []");
        return;
    }
    out.line("real_servers = [");
    for one in &service.servers {
        out.place = Some(one.place);
        let own = shared.named(one);
        let own = (own != common)
            .then(|| if own.is_empty() { "[]".to_owned() } else { Shared::written(&own) });
        out.line(format!("  {},", server(one, own)));
    }
    out.place = Some(service.place);
    out.line("]");
}

fn address(server: &Server) -> String {
    match server.port {
        Some(port) => std::net::SocketAddr::new(server.ip, port).to_string(),
        None => server.ip.to_string(),
    }
}

fn server(server: &Server, check: Option<String>) -> String {
    let mut text = format!("{{ address = {}", quoted(&address(server)));
    // Its own tunnel is not that of the service.
    let ipip = server.forward == Some(Forward::Tun(None));
    let forward = server.forward.iter().flat_map(forward_fields);
    let forward = forward.chain(ipip.then(|| ("tunnel", quoted("ipip"))));
    for (key, value) in server.fields.iter().cloned().chain(forward) {
        let _ = write!(text, ", {key} = {value}");
    }
    if let Some(check) = check {
        let _ = write!(text, ", check = {check}");
    }
    text.push_str(" }");
    text
}
