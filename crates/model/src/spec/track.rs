//! `[track.NAME]` as types: what a director has to see at itself to be fit for a group. The words
//! are those of keepalived.conf(5): `track_script`, `track_process`, `track_file`,
//! `track_interface`. What an outcome means is decided in `crate::watch`.

use std::fmt;
use std::time::Duration;

use super::document::duration_text;
use crate::id::{InterfaceName, TrackName};

/// Something that a director has to see to be fit for a group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Track {
    /// Its name, for people.
    pub name: TrackName,
    /// What is looked at.
    pub kind: TrackKind,
    /// From the start of one look to the start of the next. An interface is looked at all the
    /// time, so this, `timeout`, `rise` and `fall` mean nothing there.
    pub interval: Duration,
    /// How long one look may take.
    pub timeout: Duration,
    /// Good looks in a row after which a failed track passes.
    pub rise: u32,
    /// Bad looks in a row after which a passing track fails.
    pub fall: u32,
}

/// What a track looks at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum TrackKind {
    /// A program ends with 0. It is started as it is, by no shell.
    Exec {
        /// Absolute path and arguments; never empty.
        command: Vec<String>,
        /// The user that it runs as; left out, nobody where the daemon is root, and else the
        /// daemon's own.
        user: Option<String>,
    },
    /// A process of this name runs.
    Process(String),
    /// A file is there, or is not, or says something.
    File {
        /// Absolute.
        path: String,
        /// What has to hold.
        rule: FileRule,
    },
    /// The device behind this interface is up and has a carrier.
    Interface(InterfaceName),
}

/// What has to hold of a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileRule {
    /// It is there.
    Exists,
    /// It is not there.
    Absent,
    /// It is there, and this is all that it says, but for spaces around it.
    Says(String),
}

impl fmt::Display for Track {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, kind, .. } = self;
        match kind {
            TrackKind::Exec { command, user } => {
                let user = user.as_ref().map(|user| format!(" as {user}")).unwrap_or_default();
                write!(f, "{name}: exec {}{user}", command.join(" "))
            }
            TrackKind::Process(process) => write!(f, "{name}: process {process}"),
            TrackKind::File { path, rule: FileRule::Exists } => write!(f, "{name}: file {path}"),
            TrackKind::File { path, rule: FileRule::Absent } => write!(f, "{name}: no file {path}"),
            TrackKind::File { path, rule: FileRule::Says(text) } => {
                write!(f, "{name}: file {path} says {text:?}")
            }
            TrackKind::Interface(interface) => return write!(f, "{name}: interface {interface}"),
        }?;
        let (interval, timeout) = (duration_text(self.interval), duration_text(self.timeout));
        write!(f, " every {interval} timeout {timeout} rise {} fall {}", self.rise, self.fall)
    }
}
