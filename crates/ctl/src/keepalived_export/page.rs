//! The text while it is written, and what is to be said of it.

use std::collections::BTreeMap;

use quorate_model::id::InterfaceName;

/// Keepalived 2.2 reads 1024 bytes of a line, and falls over the rest.
const LINE_BYTES_MAX: usize = 1_000;
/// Most characters of a line of a comment.
const COMMENT_CHARS_MAX: usize = 200;

/// Lines, as deep as their blocks, and warnings.
#[derive(Debug, Default)]
pub(super) struct Page {
    text: String,
    depth: usize,
    /// What Keepalived has no word for, each once.
    pub(super) warnings: Vec<String>,
    /// The interfaces that stand in it, by whether a device was given for them.
    pub(super) interfaces: BTreeMap<String, bool>,
    /// Whether it has programs that are run.
    pub(super) scripts: bool,
    /// Whether one of them has no user.
    pub(super) userless: bool,
}

impl Page {
    pub(super) fn line(&mut self, text: impl AsRef<str>) {
        let text = text.as_ref();
        if !text.is_empty() {
            self.text.extend(std::iter::repeat_n("    ", self.depth));
            self.text.push_str(text);
        }
        self.text.push('\n');
    }

    /// A keyword with a value.
    pub(super) fn set(&mut self, keyword: &str, value: impl std::fmt::Display) {
        let line = format!("{keyword} {value}");
        if line.len() <= LINE_BYTES_MAX {
            return self.line(line);
        }
        let begin: String = line.chars().take(80).collect();
        let what = format!(
            "a line of {} bytes, of which Keepalived reads {LINE_BYTES_MAX}: {begin}..",
            line.len()
        );
        self.lost(keyword, &what);
    }

    pub(super) fn open(&mut self, head: &str) {
        self.line(format!("{head} {{"));
        self.depth += 1;
    }

    pub(super) fn close(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        self.line("}");
    }

    /// A block of lines, if there is any.
    pub(super) fn block(&mut self, head: &str, lines: &[String]) {
        if lines.is_empty() {
            return;
        }
        self.open(head);
        lines.iter().for_each(|line| self.line(line));
        self.close();
    }

    /// A comment; whatever stands in it, it stays one.
    pub(super) fn comment(&mut self, text: &str) {
        let letters: Vec<char> = text.replace(char::is_control, " ").chars().collect();
        for part in letters.chunks(COMMENT_CHARS_MAX) {
            self.line(format!("# {}", part.iter().collect::<String>()));
        }
    }

    /// What has no place in Keepalived: a comment where it would stand, and a warning.
    pub(super) fn lost(&mut self, whose: &str, what: &str) {
        self.comment(&format!("not in Keepalived: {what}"));
        self.warn(format!("{whose}: {what}"));
    }

    pub(super) fn warn(&mut self, text: String) {
        if !self.warnings.contains(&text) {
            self.warnings.push(text);
        }
    }

    /// The device of an interface; its own name where none was given.
    pub(super) fn device(&mut self, name: &str, devices: &BTreeMap<String, String>) -> String {
        let device = devices.get(name);
        self.interfaces.insert(name.to_owned(), device.is_some());
        device.map_or(name, String::as_str).to_owned()
    }

    /// The same for an interface of the configuration.
    pub(super) fn device_of(
        &mut self,
        name: &InterfaceName,
        devices: &BTreeMap<String, String>,
    ) -> String {
        self.device(name.as_str(), devices)
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }
}
