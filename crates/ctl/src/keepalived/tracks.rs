//! What instances track: scripts, processes, files, interfaces.

use std::time::Duration;

use super::ir::{Fields, Group, Track};
use super::keywords::{TRACK_FILE, VRRP_SCRIPT, VRRP_TRACK_PROCESS};
use super::report::{Place, Report, clean};
use super::side::Known;
use super::tree::Node;
use super::values::{bad, command, list, number_of, quoted, shell_line, time, time_of};

const INTERVAL: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3600));
const TIME: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(3600));
const STEPS: (u32, u32) = (1, 100);

/// One that a block names.
struct Named {
    name: String,
    place: Place,
    weight: Option<String>,
    reverse: bool,
    /// Whether it says that it is not turned round.
    straight: bool,
}

/// What tells a track from the others.
pub(super) fn key(kind: &str, name: &str, reverse: bool) -> String {
    format!("{kind} {name}{}", if reverse { " reversed" } else { "" })
}

/// Notes what a group tracks, each once.
pub(super) fn of(
    wanted: &[(&str, &Node)],
    known: &Known<'_>,
    group: &mut Group,
    all: &mut Vec<Track>,
    report: &mut Report,
) {
    for (keyword, node) in wanted {
        let kind = match *keyword {
            "track_interface" => "interface",
            "track_script" => "script",
            "track_process" => "process",
            "track_file" => "file",
            _ => continue,
        };
        for mut named in read(node, report) {
            let own = own_weight(kind, &named.name, known);
            named.reverse |= named.weight.is_none() && !named.straight && own.1;
            let key = key(kind, &named.name, named.reverse);
            if !all.iter().any(|track| track.key == key) {
                let made = match kind {
                    "interface" => Some(interface(&named, report)),
                    "script" => script(&named, known, report),
                    "process" => process(&named, known, report),
                    _ => file(&named, known, report),
                };
                let Some(mut track) = made else { continue };
                track.key.clone_from(&key);
                all.push(track);
            }
            let weight = named.weight.clone().or(own.0);
            if let Some(weight) = weight.filter(|weight| weight.parse() != Ok(0)) {
                let what = format!(
                    "Keepalived changes the priority by {}; here a director where it fails is not \
                     eligible, while another is",
                    clean(&weight)
                );
                report.warn(named.place, keyword, what);
            }
            if !group.tracks.contains(&key) {
                group.tracks.push(key);
            }
        }
    }
}

/// The weight that stands with what is tracked itself, and whether it is turned round.
fn own_weight(kind: &str, name: &str, known: &Known<'_>) -> (Option<String>, bool) {
    let blocks = match kind {
        "script" => &known.scripts,
        "process" => &known.processes,
        "file" => &known.files,
        _ => return (None, false),
    };
    let weight = blocks
        .get(name)
        .and_then(|block| block.children().iter().find(|node| node.keyword() == "weight"));
    let Some(weight) = weight else {
        // keepalived.conf(5): a process has weight 1 if none is said.
        return ((kind == "process").then(|| "1".to_owned()), false);
    };
    let turned = weight.words.iter().skip(2).any(|word| word.text == "reverse");
    (Some(weight.arg(1).to_owned()), turned)
}

/// `NAME [weight N [reverse]]`, in lines of a block, or behind the keyword.
fn read(node: &Node, report: &mut Report) -> Vec<Named> {
    let mut all: Vec<Named> = Vec::new();
    let lines = node.children().iter().map(|child| (child, 0));
    for (line, from) in lines.chain([(node, 1)]) {
        let mut words = line.words.iter().enumerate().skip(from);
        while let Some((at, word)) = words.next() {
            let last = all.last_mut();
            match (word.text.as_str(), last) {
                ("weight", Some(last)) => {
                    last.weight = words.next().map(|(_, word)| word.text.clone());
                }
                ("reverse", Some(last)) if last.weight.is_some() => last.reverse = true,
                ("reverse", Some(_)) => {
                    let what = "reverse: without a weight before it, Keepalived ignores it too";
                    report.warn(line.place_of(at), node.keyword(), what);
                }
                ("noreverse" | "no_reverse", Some(last)) => last.straight = true,
                ("", _) => bad(line, at, "a name", report),
                (text, _) => all.push(Named {
                    name: text.to_owned(),
                    place: line.place_of(at),
                    weight: None,
                    reverse: false,
                    straight: false,
                }),
            }
        }
    }
    all
}

fn track(named: &Named, name: &str, fields: Fields) -> Track {
    let key = String::new();
    Track { key, name: name.to_owned(), place: named.place, fields, device: None }
}

fn interface(named: &Named, report: &mut Report) -> Track {
    if named.reverse {
        let what = "reverse: an interface has to be up here, whatever Keepalived makes of it";
        report.warn(named.place, "track_interface", what);
    }
    let fields = vec![("type", quoted("interface"))];
    let mut track = track(named, &format!("link-{}", named.name), fields);
    track.device = Some(named.name.clone());
    track
}

fn missing<'n>(
    named: &Named,
    what: &str,
    block: Option<&&'n Node>,
    report: &mut Report,
) -> Option<&'n Node> {
    if block.is_none() {
        let message =
            format!("there is no {what} {:?}: Keepalived ignores it too", clean(&named.name));
        report.warn(named.place, what, message);
    }
    block.copied()
}

fn script(named: &Named, known: &Known<'_>, report: &mut Report) -> Option<Track> {
    let node = missing(named, "vrrp_script", known.scripts.get(named.name.as_str()), report)?;
    let mut fields: Fields = Vec::new();
    let (mut run, mut user) = (None, known.user.clone());
    let mut interval = Duration::from_secs(1);
    let (mut timeout, mut rise, mut fall) = (None, 1, 1);
    for (keyword, node) in VRRP_SCRIPT.account(node.children(), report) {
        match keyword {
            "script" => {
                run = command(node.words.get(1..).unwrap_or_default());
                if run.is_none() {
                    bad(node, 1, "a program", report);
                }
            }
            "interval" => interval = time_of(node, 1, INTERVAL, report).unwrap_or(interval),
            "timeout" => timeout = time_of(node, 1, TIME, report),
            "rise" => rise = number_of(node, 1, STEPS, report).unwrap_or(rise),
            "fall" => fall = number_of(node, 1, STEPS, report).unwrap_or(fall),
            "user" => user = who(node, 1, report),
            _ => {}
        }
    }
    let Some(mut run) = run else {
        report.warn(node.place, "vrrp_script", "it has no script: Keepalived ignores it too");
        return None;
    };
    if named.reverse {
        run = ["/bin/sh", "-c", &format!("! {}", shell_line(&run))].map(str::to_owned).to_vec();
    }
    match looks_for(&run) {
        Some(name) => {
            fields.push(("type", quoted("process")));
            fields.push(("name", quoted(&name)));
        }
        None => {
            fields.push(("type", quoted("exec")));
            fields.push(("command", list(&run)));
            match &user {
                Some(user) => fields.push(("user", quoted(user))),
                None => report.warn(
                    node.place,
                    "vrrp_script",
                    "it names no user: here `nobody` runs it, with Keepalived keepalived_script or root",
                ),
            }
        }
    }
    // Keepalived waits for a script as long as it pauses between two.
    let timeout = timeout.unwrap_or(interval);
    let second = Duration::from_secs(1);
    fields.extend((interval != second).then(|| ("interval", time(interval))));
    fields.extend((timeout != second).then(|| ("timeout", time(timeout))));
    fields.push(("rise", rise.to_string()));
    fields.push(("fall", fall.to_string()));
    Some(track(named, &named.name, fields))
}

/// The user that a program runs as; its group is that of the user.
pub(super) fn who(node: &Node, at: usize, report: &mut Report) -> Option<String> {
    let user = node.arg(at);
    let fits = |c: char| !c.is_whitespace() && !c.is_control() && c != ':' && c != '/';
    if user.is_empty() || user.len() > 255 || !user.chars().all(fits) {
        bad(node, at, "a user", report);
        return None;
    }
    if node.words.len() > at + 1 {
        let what = format!("group {:?}: the user's own group it is", clean(node.arg(at + 1)));
        report.warn(node.place, node.keyword(), what);
    }
    Some(user.to_owned())
}

/// The process that a command looks for, if it does nothing else.
fn looks_for(run: &[String]) -> Option<String> {
    let run = match run {
        [env, rest @ ..] if env == "/usr/bin/env" => rest,
        all => all,
    };
    let words: Vec<&str> = match run {
        [shell, option, line] if shell.ends_with("sh") && option == "-c" => {
            line.split_whitespace().collect()
        }
        words => words.iter().map(String::as_str).collect(),
    };
    let program = words.first()?.rsplit('/').next()?;
    let name = match (program, words.get(1..)?) {
        ("killall", ["-0", name] | ["-q", "-0", name] | ["-0", "-q", name] | ["-s0", name])
        | ("pidof", [name] | ["-s", name] | ["-x", name])
        | ("pgrep", [name] | ["-x", name]) => *name,
        _ => return None,
    };
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-+@".contains(c);
    let name = name.trim_matches(['"', '\'']).rsplit('/').next()?;
    (!name.is_empty() && !name.starts_with('-') && name.len() <= 255 && name.chars().all(fits))
        .then(|| name.to_owned())
}

fn process(named: &Named, known: &Known<'_>, report: &mut Report) -> Option<Track> {
    let block = known.processes.get(named.name.as_str());
    let node = missing(named, "vrrp_track_process", block, report)?;
    let mut name = None;
    for (keyword, node) in VRRP_TRACK_PROCESS.account(node.children(), report) {
        match keyword {
            "process" => {
                let program = node.arg(1).rsplit('/').next().unwrap_or_default();
                let bad_name = program.is_empty() || program.contains(char::is_whitespace);
                match bad_name || program.len() > 255 {
                    true => bad(node, 1, "the name of a process", report),
                    false => name = Some(program.to_owned()),
                }
                if node.words.len() > 2 {
                    report.warn(
                        node.place,
                        "process",
                        "a process is known by its name alone, without arguments",
                    );
                }
            }
            "quorum" if node.arg(1).parse() != Ok(1) => {
                report.warn(node.place, "quorum", "one process of the name is enough");
            }
            _ => {}
        }
    }
    let name = name?;
    let most = node.children().iter().find(|node| node.keyword() == "quorum_max");
    if named.reverse || most.is_some_and(|node| node.arg(1).parse() == Ok(0)) {
        let what = "that a process must not run can't be said here: it is left out. A script can look for it";
        report.warn(named.place, "track_process", what);
        return None;
    }
    let mut fields = vec![("type", quoted("process")), ("name", quoted(&name))];
    fields.extend([("rise", "1".to_owned()), ("fall", "1".to_owned())]);
    Some(track(named, &named.name, fields))
}

fn file(named: &Named, known: &Known<'_>, report: &mut Report) -> Option<Track> {
    let block = known.files.get(named.name.as_str());
    let node = missing(named, "track_file", block, report)?;
    let path = path_of(node, report)?;
    if named.reverse {
        let what = "reverse: that a file must not say 0 can't be said here: it is left out. A script can look";
        report.warn(named.place, "track_file", what);
        return None;
    }
    let what = "it has to hold 0 on every director; Keepalived takes a missing file for 0, too";
    report.warn(node.place, "track_file", what);
    let mut fields = vec![("type", quoted("file")), ("path", quoted(&path))];
    fields.extend([("content", quoted("0")), ("rise", "1".to_owned()), ("fall", "1".to_owned())]);
    Some(track(named, &named.name, fields))
}

/// The file that a `track_file` block names.
pub(super) fn path_of(node: &Node, report: &mut Report) -> Option<String> {
    let mut path = None;
    for (keyword, node) in TRACK_FILE.account(node.children(), report) {
        if keyword == "file" {
            let text = node.arg(1);
            if text.starts_with('/') && text.len() < 4_096 {
                path = Some(text.to_owned());
            } else {
                bad(node, 1, "the absolute path of a file", report);
            }
        }
    }
    if path.is_none() {
        report.warn(node.place, "track_file", "it names no file, and is left out");
    }
    path
}
