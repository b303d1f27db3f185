//! Tracks to `vrrp_script`, `vrrp_track_process`, `track_file` and `track_interface`.

use std::collections::BTreeMap;
use std::time::Duration;

use quorate_model::spec::{ClusterSpec, FileRule, Track, TrackKind, VipGroup};

use super::Exporting;
use super::page::Page;
use super::words::{script, seconds, whole_seconds, word};

/// Longest delay of a tracked process.
const DELAY_MAX: Duration = Duration::from_secs(3_600);

/// What Keepalived makes of a track.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Block {
    Script,
    Process,
    File,
    Interface,
}

impl Block {
    fn of(track: &Track) -> Self {
        match &track.kind {
            TrackKind::Process(_) => Self::Process,
            TrackKind::File { rule: FileRule::Says(text), .. } if text == "0" => Self::File,
            TrackKind::Exec { .. } | TrackKind::File { .. } => Self::Script,
            TrackKind::Interface(_) => Self::Interface,
        }
    }
}

/// Writes what instances refer to, each once.
pub(super) fn define(spec: &ClusterSpec, page: &mut Page) {
    let all = spec.groups.values().flat_map(|group| &group.tracks);
    let all: BTreeMap<&str, &Track> = all.map(|track| (track.name.as_str(), track)).collect();
    for (name, track) in all {
        let whose = format!("track {name}");
        match &track.kind {
            TrackKind::Interface(_) => {}
            TrackKind::Process(process) => {
                page.line("");
                page.open(&format!("vrrp_track_process {name}"));
                page.set("process", word(process));
                page.line("weight 0");
                for (keyword, steps) in
                    [("fork_delay", track.rise), ("terminate_delay", track.fall)]
                {
                    // The first look that finds it otherwise is the first of them.
                    let delay =
                        track.interval.saturating_mul(steps.saturating_sub(1)).min(DELAY_MAX);
                    if !delay.is_zero() {
                        page.set(keyword, seconds(delay));
                    }
                }
                page.close();
            }
            TrackKind::File { path, .. } if Block::of(track) == Block::File => {
                page.line("");
                page.open(&format!("track_file {name}"));
                page.set("file", word(path));
                page.line("weight 0");
                page.comment("Keepalived takes a file that is not there for one that says 0");
                page.close();
                page.warn(format!(
                    "{whose}: Keepalived takes a file that is not there for one that says 0"
                ));
            }
            TrackKind::File { path, rule } => {
                let words = match rule {
                    FileRule::Exists => vec!["/usr/bin/test", "-e", path.as_str()],
                    FileRule::Absent => vec!["/usr/bin/test", "!", "-e", path.as_str()],
                    FileRule::Says(text) => {
                        vec![
                            "/usr/bin/grep",
                            "-q",
                            "-x",
                            "-F",
                            "-e",
                            text.as_str(),
                            "--",
                            path.as_str(),
                        ]
                    }
                };
                looks(&whose, track, &words, None, page);
            }
            TrackKind::Exec { command, user } => {
                let words: Vec<&str> = command.iter().map(String::as_str).collect();
                page.userless |= user.is_none();
                looks(&whose, track, &words, user.as_deref(), page);
            }
        }
    }
}

fn looks(whose: &str, track: &Track, words: &[&str], user: Option<&str>, page: &mut Page) {
    page.scripts = true;
    page.line("");
    page.open(&format!("vrrp_script {}", track.name));
    page.set("script", script(words.iter().copied()));
    for (keyword, time) in [("interval", track.interval), ("timeout", track.timeout)] {
        let (whole, longer) = whole_seconds(time);
        if longer {
            let what = format!("{keyword} {} s: it takes whole seconds here", seconds(time));
            page.lost(whose, &what);
        }
        page.set(keyword, whole);
    }
    page.set("rise", track.rise);
    page.set("fall", track.fall);
    if let Some(user) = user {
        page.set("user", word(user));
    }
    page.close();
}

/// Writes what an instance tracks.
pub(super) fn list(group: &VipGroup, with: &Exporting<'_>, page: &mut Page) {
    for (block, head) in [
        (Block::Script, "track_script"),
        (Block::Process, "track_process"),
        (Block::File, "track_file"),
        (Block::Interface, "track_interface"),
    ] {
        let mut lines = Vec::new();
        for track in group.tracks.iter().filter(|track| Block::of(track) == block) {
            lines.push(match &track.kind {
                TrackKind::Interface(interface) => page.device_of(interface, &with.options.devices),
                _ if block == Block::File => format!("{} weight 0", track.name),
                _ => track.name.to_string(),
            });
        }
        page.block(head, &lines);
    }
}
