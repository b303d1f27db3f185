//! `[track.NAME]`, and the groups' lists of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::id::{InterfaceName, TrackName};
use crate::spec::document::{Diagnostics, Field, Named, Table};
use crate::spec::{FileRule, Track, TrackKind};

use super::{TRACKS_MAX, keys, service};

/// Shortest time between two looks.
pub const TRACK_INTERVAL_MIN: Duration = Duration::from_millis(100);
/// Longest of each time of a track.
pub const TRACK_TIME_MAX: Duration = Duration::from_secs(3600);
/// Most looks in a row that `rise` or `fall` ask for.
pub const TRACK_STEPS_MAX: u32 = 100;

const TIME_DEFAULT: Duration = Duration::from_secs(1);
const STEPS_DEFAULT: u32 = 2;
/// Most words of a command.
const WORDS_MAX: usize = 64;
/// Longest path, word of a command, or content (PATH_MAX, include/uapi/linux/limits.h).
const TEXT_BYTES_MAX: usize = 4_095;
/// Longest name of a user or process.
const NAME_BYTES_MAX: usize = 255;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Exec,
    Process,
    File,
    Interface,
}

pub(super) const TYPES: [(&str, Type); 4] = [
    ("exec", Type::Exec),
    ("process", Type::Process),
    ("file", Type::File),
    ("interface", Type::Interface),
];
const TYPES_FOREIGN: [(&str, &str); 5] = [
    ("script", "exec"),
    ("track_script", "exec"),
    ("track_process", "process"),
    ("track_file", "file"),
    ("track_interface", "interface"),
];

impl Type {
    fn word(self) -> &'static str {
        TYPES.iter().find(|(_, of)| *of == self).map_or("", |(word, _)| word)
    }

    /// The keys that only this type has.
    fn own(self) -> &'static [&'static str] {
        match self {
            Self::Exec => &["command", "user"],
            Self::Process => &["name"],
            Self::File => &["path", "exists", "content"],
            Self::Interface => &["interface"],
        }
    }
}

/// The tracks of the document by name; `None` where one could not be read.
#[derive(Debug, Default)]
pub(super) struct Tracks(BTreeMap<String, Option<Track>>);

impl Tracks {
    /// The tracks that a group names.
    pub(super) fn named(&self, list: &Field<'_>, out: &mut Diagnostics) -> Option<Vec<Track>> {
        let mut read = Some(Vec::new());
        let mut seen = BTreeSet::new();
        for item in list.list_or_one() {
            let track = item.text("the name of a track", out).and_then(|name| {
                if !seen.insert(name) {
                    out.push(item.problem(format!("{name} stands twice")).help("remove one"));
                    return None;
                }
                let Some(track) = self.0.get(name) else {
                    let known = self.0.keys().map(String::as_str);
                    out.push(service::unknown(&item.at, "track", name, known));
                    return None;
                };
                track.clone()
            });
            read = read.zip(track).map(|(mut read, track)| {
                read.push(track);
                read
            });
        }
        read
    }
}

pub(super) fn tracks(field: &Field<'_>, out: &mut Diagnostics) -> Tracks {
    let mut tracks = Tracks::default();
    let named = field.named::<TrackName>("a track", out);
    if named.len() > TRACKS_MAX {
        let message = format!("{} tracks, at most {TRACKS_MAX} can be given", named.len());
        out.push(field.problem(message));
        return tracks;
    }
    for entry in named {
        let read = track(&entry, out);
        tracks.0.insert(entry.text.to_owned(), read);
        if out.is_full() {
            break;
        }
    }
    tracks
}

fn track(entry: &Named<'_, TrackName>, out: &mut Diagnostics) -> Option<Track> {
    let table = entry.field.table(&keys::TRACK, out)?;
    let of = table
        .require("type", out)
        .and_then(|name| name.choice("type of track", &TYPES, &TYPES_FOREIGN, out))?;
    no_others(of, &table, out);
    let kind = match of {
        Type::Exec => exec(&table, out),
        Type::Process => process(&table, out),
        Type::File => file(&table, out),
        Type::Interface => table
            .require("interface", out)
            .and_then(|field| field.parsed::<InterfaceName>("an interface name", out))
            .map(TrackKind::Interface),
    };
    let time = |key: &str, min: Duration, out: &mut Diagnostics| {
        table.get(key).map_or(Some(TIME_DEFAULT), |value| {
            value.duration(&format!("the {key} of a track"), min..=TRACK_TIME_MAX, out)
        })
    };
    let interval = time("interval", TRACK_INTERVAL_MIN, out);
    let timeout = time("timeout", Duration::from_millis(1), out);
    let steps = |key: &str, out: &mut Diagnostics| {
        table.get(key).map_or(Some(STEPS_DEFAULT), |value| {
            value.integer(&format!("the {key} of a track"), 1..=TRACK_STEPS_MAX, out)
        })
    };
    let (rise, fall) = (steps("rise", out), steps("fall", out));
    Some(Track {
        name: entry.name.clone()?,
        kind: kind?,
        interval: interval?,
        timeout: timeout?,
        rise: rise?,
        fall: fall?,
    })
}

/// Refuses keys that mean nothing for this type: whoever wrote them expects something.
fn no_others(of: Type, table: &Table<'_>, out: &mut Diagnostics) {
    let others = TYPES.iter().filter(|(_, other)| *other != of).flat_map(|(_, other)| other.own());
    let times: &[&str] = match of {
        // The kernel says by itself when it changes.
        Type::Interface => &["interval", "timeout", "rise", "fall"],
        Type::Exec | Type::Process | Type::File => &[],
    };
    for key in others.chain(times) {
        if let Some(field) = table.get(key) {
            let problem = field.problem(format!("a track of type {} has no {key:?}", of.word()));
            out.push(problem.help("leave it out"));
        }
    }
}

fn exec(table: &Table<'_>, out: &mut Diagnostics) -> Option<TrackKind> {
    program(table, out).map(|(command, user)| TrackKind::Exec { command, user })
}

/// `command`, and `user` where it is given.
pub(super) fn program(
    table: &Table<'_>,
    out: &mut Diagnostics,
) -> Option<(Vec<String>, Option<String>)> {
    let command = table.require("command", out).and_then(|field| {
        if field.peek().is_some() {
            let problem = field.problem("a command is a list: no shell takes a line apart");
            out.push(problem.help("command = [\"/usr/local/bin/check\", \"argument\"]"));
            return None;
        }
        let items = field.list(out)?;
        if items.is_empty() || items.len() > WORDS_MAX {
            out.push(field.problem(format!("a command has 1 to {WORDS_MAX} words")));
            return None;
        }
        let words: Vec<Option<String>> =
            items.iter().map(|item| text(item, "a word of a command", 0, out)).collect();
        let words: Vec<String> = words.into_iter().collect::<Option<_>>()?;
        absolute(&items[0], &words[0], out)?;
        Some(words)
    });
    let user = match table.get("user") {
        Some(field) => name(&field, "the name of a user", &[':', '/'], out).map(Some),
        None => Some(None),
    };
    Some((command?, user?))
}

fn process(table: &Table<'_>, out: &mut Diagnostics) -> Option<TrackKind> {
    let field = table.require("name", out)?;
    name(&field, "the name of a process", &['/'], out).map(TrackKind::Process)
}

fn file(table: &Table<'_>, out: &mut Diagnostics) -> Option<TrackKind> {
    let path = table.require("path", out).and_then(|field| {
        let path = text(&field, "a path", 1, out)?;
        absolute(&field, &path, out)?;
        Some(path)
    });
    let exists = table.get("exists").map_or(Some(true), |flag| flag.flag(out));
    let content = match table.get("content") {
        Some(field) => text(&field, "what a file says", 0, out).map(|text| Some((field, text))),
        None => Some(None),
    };
    let rule = match (exists?, content?) {
        (true, None) => FileRule::Exists,
        (false, None) => FileRule::Absent,
        (true, Some((_, text))) => FileRule::Says(text.trim().to_owned()),
        (false, Some((field, _))) => {
            out.push(
                field
                    .problem("a file that has to be absent says nothing")
                    .help("leave out `content` or `exists`"),
            );
            return None;
        }
    };
    Some(TrackKind::File { path: path?, rule })
}

/// A text that the kernel can take: not too long, no NUL in it.
fn text(field: &Field<'_>, what: &str, min: usize, out: &mut Diagnostics) -> Option<String> {
    let text = field.text(what, out)?;
    if text.len() < min || text.len() > TEXT_BYTES_MAX || text.contains('\0') {
        let message = format!("{what} has {min} to {TEXT_BYTES_MAX} bytes, and no NUL");
        out.push(field.problem(message));
        return None;
    }
    Some(text.to_owned())
}

fn name(field: &Field<'_>, what: &str, without: &[char], out: &mut Diagnostics) -> Option<String> {
    let text = field.text(what, out)?;
    let bad = |c: char| c.is_control() || c.is_whitespace() || without.contains(&c);
    if text.is_empty() || text.len() > NAME_BYTES_MAX || text.contains(bad) {
        let listed: String = without.iter().map(|c| format!(" or {c:?}")).collect();
        let message = format!("{what} has 1 to {NAME_BYTES_MAX} bytes, and no space{listed}");
        out.push(field.problem(message));
        return None;
    }
    Some(text.to_owned())
}

fn absolute(field: &Field<'_>, path: &str, out: &mut Diagnostics) -> Option<()> {
    if path.starts_with('/') {
        return Some(());
    }
    let problem = field.problem("an absolute path is expected here");
    out.push(problem.help("the daemon's own folder and PATH say nothing: begin with /"));
    None
}
