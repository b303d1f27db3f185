//! What the import has to say: each with the file and line that it is about. A password is never shown.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// Most that is kept; what is more is counted.
const ENTRIES_MAX: usize = 20_000;
/// Most errors that are shown with their lines.
const ERRORS_SHOWN_MAX: usize = 50;
/// Most lines of warnings that are shown.
const WARNINGS_SHOWN_MAX: usize = 1_000;
/// Most further lines that one warning names.
const LINES_SHOWN_MAX: usize = 12;
/// Longest part of a line that is shown.
const EXCERPT_CHARS_MAX: usize = 120;

/// A place in one of the files: line and column from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place {
    /// Which file, as [`Report::file`] numbered it.
    pub file: u32,
    /// The line.
    pub line: u32,
    /// The column, in characters.
    pub column: u32,
    /// How many characters.
    pub length: u32,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It can't be carried over, and nobody should go on without knowing.
    Error,
    /// It is left out, or is something else from now on.
    Warning,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// How bad it is.
    pub severity: Severity,
    /// Where; nowhere if it is about all of it.
    pub place: Option<Place>,
    /// The keyword.
    pub keyword: String,
    /// What becomes of it, and why.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

/// File and line, keyword, message: each is said once.
type Said = (Option<(u32, u32)>, String, String);

/// All of them, and the files that they are about.
#[derive(Debug, Default)]
pub struct Report {
    files: Vec<(String, String)>,
    found: Vec<Entry>,
    said: BTreeSet<Said>,
    more: usize,
}

impl Report {
    /// Takes a file up, once for each name; its number.
    pub fn file(&mut self, name: &str, text: &str) -> u32 {
        let known = self.files.iter().position(|(known, _)| known == name);
        let at = known.unwrap_or_else(|| {
            self.files.push((name.to_owned(), text.to_owned()));
            self.files.len() - 1
        });
        u32::try_from(at).unwrap_or_default()
    }

    /// Names the place as `FILE:LINE`.
    #[must_use]
    pub fn shown(&self, place: Place) -> String {
        let name = self.files.get(place.file as usize).map_or("?", |(name, _)| name);
        format!("{name}:{}", place.line)
    }

    fn push(&mut self, entry: Entry) {
        let at = entry.place.map(|place| (place.file, place.line));
        if !self.said.insert((at, entry.keyword.clone(), entry.message.clone())) {
            return;
        }
        if self.found.len() >= ENTRIES_MAX && entry.severity == Severity::Warning {
            self.more += 1;
            return;
        }
        self.found.push(entry);
    }

    /// Notes what is left out, or becomes something else.
    pub fn warn(&mut self, place: Place, keyword: &str, message: impl Into<String>) {
        let (keyword, message) = (clean(keyword), message.into());
        self.push(Entry {
            severity: Severity::Warning,
            place: Some(place),
            keyword,
            message,
            help: None,
        });
    }

    /// Notes something that is about no line.
    pub fn note(&mut self, message: impl Into<String>) {
        let (severity, place) = (Severity::Warning, None);
        let message = message.into();
        self.push(Entry { severity, place, keyword: String::new(), message, help: None });
    }

    /// Notes what can't be carried over.
    pub fn error(&mut self, place: Place, keyword: &str, message: impl Into<String>, help: &str) {
        let (keyword, message) = (clean(keyword), message.into());
        let help = Some(help.to_owned());
        self.push(Entry { severity: Severity::Error, place: Some(place), keyword, message, help });
    }

    /// How many errors.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.found.iter().filter(|entry| entry.severity == Severity::Error).count()
    }

    /// How many warnings.
    #[must_use]
    pub fn warnings(&self) -> usize {
        self.found.len() - self.errors() + self.more
    }

    /// Everything, in the order in which it was found.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.found
    }

    /// For people: errors with the line, warnings one line each, those alike in one file together.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        let errors = self.found.iter().filter(|entry| entry.severity == Severity::Error);
        for (number, entry) in errors.enumerate() {
            if number < ERRORS_SHOWN_MAX {
                self.render_error(entry, &mut text);
            }
        }
        let hidden = self.errors().saturating_sub(ERRORS_SHOWN_MAX);
        if hidden > 0 {
            let _ = writeln!(text, "error: and {hidden} more");
        }
        self.render_warnings(&mut text);
        if self.more > 0 {
            let _ = writeln!(text, "warning: and {} more", self.more);
        }
        text
    }

    fn render_error(&self, entry: &Entry, text: &mut String) {
        let Entry { place, keyword, message, help, .. } = entry;
        let colon = if keyword.is_empty() { "" } else { ": " };
        let _ = writeln!(text, "error: {keyword}{colon}{message}");
        if let Some(place) = place {
            let _ = writeln!(text, "  --> {}:{}", self.shown(*place), place.column.max(1));
            let source = self.files.get(place.file as usize).map_or("", |(_, text)| text);
            let line = source.lines().nth((place.line as usize).saturating_sub(1)).unwrap_or("");
            let (excerpt, caret) = excerpt(line, *place);
            let (number, margin) = (place.line, " ".repeat(place.line.to_string().len()));
            let _ = writeln!(text, "{number} | {excerpt}\n{margin} | {caret}");
        }
        if let Some(help) = help {
            let _ = writeln!(text, "  = help: {help}");
        }
    }

    fn render_warnings(&self, text: &mut String) {
        let mut alike: BTreeMap<(Option<u32>, &str, &str), Vec<u32>> = BTreeMap::new();
        let mut order = Vec::new();
        for entry in self.found.iter().filter(|entry| entry.severity == Severity::Warning) {
            let file = entry.place.map(|place| place.file);
            let key = (file, entry.keyword.as_str(), entry.message.as_str());
            let lines = alike.entry(key).or_insert_with(|| {
                order.push(key);
                Vec::new()
            });
            lines.extend(entry.place.map(|place| place.line));
        }
        let hidden = order.len().saturating_sub(WARNINGS_SHOWN_MAX);
        for key in order.into_iter().take(WARNINGS_SHOWN_MAX) {
            let lines = alike.get(&key).map(Vec::as_slice).unwrap_or_default();
            let (file, keyword, message) = key;
            let mut place = String::new();
            if let (Some(file), Some(&line)) = (file, lines.first()) {
                place = format!("{}: ", self.shown(Place { file, line, ..Place::default() }));
            }
            let colon = if keyword.is_empty() { "" } else { ": " };
            let _ = write!(text, "warning: {place}{keyword}{colon}{message}");
            let others: Vec<String> =
                lines.iter().skip(1).take(LINES_SHOWN_MAX).map(u32::to_string).collect();
            if !others.is_empty() {
                let more = lines.len() - 1 - others.len();
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                let _ = write!(text, " (also in line {}{more})", others.join(", "));
            }
            text.push('\n');
        }
        if hidden > 0 {
            let _ = writeln!(text, "warning: and {hidden} more kinds, all of which `-o json` has");
        }
    }
}

/// What of a file may stand in a message: in one line, and not too much of it.
#[must_use]
pub fn clean(text: &str) -> String {
    let cut = text.chars().count() > 80;
    let mut shown: String =
        text.chars().take(80).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if cut {
        shown.push('…');
    }
    shown
}

/// The line as far as it may be shown, and what marks the place in it.
fn excerpt(line: &str, place: Place) -> (String, String) {
    let lower = line.to_ascii_lowercase();
    if ["pass", "auth", "key", "secret"].iter().any(|word| lower.contains(word)) {
        let word = clean(line.split_whitespace().next().unwrap_or_default());
        let caret = "^".repeat(word.chars().count().max(1));
        return (format!("{word} … (not shown: it may hold a password)"), caret);
    }
    let tabs = |c: char| if c.is_control() { ' ' } else { c };
    let column = (place.column as usize).saturating_sub(1);
    let from = if column > EXCERPT_CHARS_MAX - 40 { column - 40 } else { 0 };
    let shown: String = line.chars().skip(from).take(EXCERPT_CHARS_MAX).map(tabs).collect();
    let length = (place.length as usize).clamp(1, EXCERPT_CHARS_MAX);
    let caret = format!("{}{}", " ".repeat(column - from), "^".repeat(length));
    (shown.trim_end().to_owned(), caret)
}
