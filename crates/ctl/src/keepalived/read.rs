//! Files to lines of words: comments, quotes, `include`, definitions, `~SEQ` and `~LST`, `@id`. Whatever a file
//! says, what is made of it has bounds. Tests: in `read/tests.rs`.

mod expand;
mod include;
#[cfg(test)]
mod tests;
mod words;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::report::{Place, Report, clean};
use super::source::Files;
use expand::{Series, definition, substitute};
pub(super) use words::{Token, Word};

/// Most lines that all files together make, with what definitions and sequences make of them.
const LINES_MAX: usize = 500_000;
/// Most bytes in these.
const BYTES_MAX: usize = 64 * 1024 * 1024;
/// Longest line.
const LINE_BYTES_MAX: usize = 256 * 1024;
/// Most files that one file includes, with those that they include.
const FILES_MAX: usize = 4_096;
/// How deep files include files.
const DEPTH_MAX: usize = 32;
/// How deep definitions stand in definitions.
const NESTED_MAX: u16 = 64;
/// Stands behind a line whose comment ends with `\`; no file has it.
const CONTINUED: char = '\0';
/// Most different ids of `@id`.
const IDS_MAX: usize = 64;

/// A line of words.
#[derive(Debug, Clone)]
pub(super) struct Line {
    /// Where it stands: of what a definition made, where that is used.
    pub(super) place: Place,
    /// What stands in it.
    pub(super) tokens: Vec<Token>,
}

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// The lines.
    pub(super) lines: Vec<Line>,
    /// Ids that conditional lines name, in order.
    pub(super) ids: Vec<String>,
    /// Whether it was not read to its end: an error says why.
    pub(super) stopped: bool,
}

/// A file that is being read.
struct Frame {
    file: u32,
    path: String,
    folder: String,
    text: String,
    /// Where the next line begins.
    at: usize,
    line: u32,
    /// What `include_check` says in it.
    strict: Strict,
}

/// What of an include is an error.
#[derive(Debug, Clone, Copy, Default)]
struct Strict {
    readable: bool,
    matched: bool,
    wildcard: bool,
    brace: bool,
}

/// What is still to be read before the next line of the file.
enum Item {
    Line { text: String, place: Place, nested: u16 },
    Series(Series),
}

struct Reader<'a> {
    files: &'a dyn Files,
    report: &'a mut Report,
    id: Option<&'a str>,
    stack: Vec<Frame>,
    queue: VecDeque<Item>,
    defined: BTreeMap<String, Vec<String>>,
    opened: usize,
    made: (usize, usize),
    ids: BTreeSet<String>,
    out: Lines,
    stopped: bool,
}

/// Reads a file and what it includes, as for the id.
pub(super) fn read(files: &dyn Files, path: &str, id: Option<&str>, report: &mut Report) -> Lines {
    let mut reader = Reader {
        files,
        report,
        id,
        stack: Vec::new(),
        queue: VecDeque::new(),
        defined: BTreeMap::new(),
        opened: 0,
        made: (0, 0),
        ids: BTreeSet::new(),
        out: Lines::default(),
        stopped: false,
    };
    reader.open(path, None, Strict::default());
    while !reader.stopped
        && let Some((text, place, nested)) = reader.next()
    {
        reader.line(text, place, nested);
    }
    Lines { stopped: reader.stopped, ..reader.out }
}

impl Reader<'_> {
    fn stop(&mut self, place: Place, message: &str, help: &str) {
        self.report.error(place, "", message, help);
        self.stopped = true;
    }

    /// The next line, without its comment: of what definitions made, else of the file.
    fn next(&mut self) -> Option<(String, Place, u16)> {
        while let Some(item) = self.queue.pop_front() {
            match item {
                Item::Line { text, place, nested } => return Some((text, place, nested)),
                Item::Series(mut series) => {
                    let Some(values) = series.next() else {
                        for name in &series.names {
                            self.defined.remove(name);
                        }
                        continue;
                    };
                    for (name, value) in series.names.iter().zip(values) {
                        self.defined.insert(name.clone(), vec![value]);
                    }
                    let (text, place, nested) = (series.rest.clone(), series.place, series.nested);
                    self.queue.push_front(Item::Series(series));
                    // Empty rounds count too, or a long series of nothing would never end.
                    self.made.0 += 1;
                    if self.too_much(place) {
                        return None;
                    }
                    return Some((text, place, nested));
                }
            }
        }
        while let Some(frame) = self.stack.last_mut() {
            let rest = frame.text.get(frame.at..).unwrap_or_default();
            if rest.is_empty() {
                self.stack.pop();
                continue;
            }
            let end = rest.find('\n').map_or(rest.len(), |end| end + 1);
            let raw = rest.get(..end).unwrap_or_default();
            let text = words::without_comment(raw);
            frame.at += end;
            frame.line += 1;
            let mut text = text.trim_end().to_owned();
            // In a definition, a comment is a line of it too.
            if raw.trim_end().ends_with('\\') && !text.ends_with('\\') {
                text.push(CONTINUED);
            }
            let place = Place { file: frame.file, line: frame.line, column: 1, length: 1 };
            return Some((text, place, 0));
        }
        None
    }

    fn too_much(&mut self, place: Place) -> bool {
        if self.made.0 > LINES_MAX || self.made.1 > BYTES_MAX {
            let message = format!(
                "the files make more than {LINES_MAX} lines or {BYTES_MAX} bytes with what definitions \
                 and sequences make of them"
            );
            self.stop(place, &message, "import them in parts");
        }
        self.stopped
    }

    fn line(&mut self, text: String, place: Place, nested: u16) {
        let commented = text.ends_with(CONTINUED);
        let mut text = text.trim_end_matches(CONTINUED).trim().to_owned();
        self.made.0 += 1;
        self.made.1 += text.len();
        if self.too_much(place) {
            return;
        }
        if text.len() > LINE_BYTES_MAX {
            let message = format!("a line has more than {LINE_BYTES_MAX} bytes");
            return self.stop(place, &message, "such a line is no configuration");
        }
        if nested > NESTED_MAX {
            let message = format!("definitions stand more than {NESTED_MAX} deep in definitions");
            return self.stop(place, &message, "one of them probably stands in itself");
        }
        while let Some(rest) = text.strip_prefix('@') {
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            let (word, rest) = rest.split_at(end);
            let (negative, word) = word.strip_prefix('^').map_or((false, word), |w| (true, w));
            if self.ids.len() < IDS_MAX && self.ids.insert(word.to_owned()) {
                self.out.ids.push(word.to_owned());
            }
            let rest = rest.trim_start().to_owned();
            if (self.id == Some(word)) == negative {
                // What it would define goes on in the next lines.
                let goes_on = |value: &str| value.ends_with('\\') || commented;
                if definition(&rest).is_some_and(|(_, value)| goes_on(value)) {
                    self.continued();
                }
                return;
            }
            text = rest;
        }
        if text.is_empty() {
            return;
        }
        let first = text.split(char::is_whitespace).next().unwrap_or_default();
        if let Some(strict) = self.includes(first) {
            let pattern = text.get(first.len()..).unwrap_or_default().trim().to_owned();
            return self.include(&pattern, place, strict);
        }
        if first == "include_check" {
            return self.include_check(&text, place);
        }
        if let Some((name, value)) = definition(&text) {
            return self.define(name, value, commented);
        }
        if text.starts_with('~') {
            let series = Series::read(&text, place, nested, &self.known());
            match series {
                Ok(Some(series)) => return self.queue.push_front(Item::Series(series)),
                Ok(None) => {}
                Err(problem) => {
                    let shown = clean(&text);
                    let help = "~SEQ(VAR, START, STEP, END) or ~LST(VAR, VALUE, VALUE)";
                    return self.report.error(place, "", format!("{problem}: {shown}"), help);
                }
            }
        }
        let substituted = substitute(&text, &self.known());
        match substituted {
            Some(lines) => {
                // A line may double what it stands for, and again: no more of it than any line has.
                for text in lines.into_iter().rev() {
                    self.queue.push_front(Item::Line { text, place, nested: nested + 1 });
                }
            }
            None => self.words(&text, place, nested),
        }
    }

    fn define(&mut self, name: &str, value: &str, commented: bool) {
        let goes_on = value.ends_with('\\') || commented;
        let first = value.strip_suffix('\\').unwrap_or(value).trim().to_owned();
        let mut lines = Vec::new();
        if goes_on {
            lines.extend((!first.is_empty()).then_some(first));
            lines.extend(self.continued());
        } else {
            lines.push(first);
        }
        self.defined.insert(name.to_owned(), lines);
    }

    fn words(&mut self, text: &str, place: Place, nested: u16) {
        // Of a configuration that is itself made by a program, nothing would be what it seems.
        if ["{{", "{%", "<%"].iter().any(|mark| text.contains(mark)) && !text.contains(['"', '\''])
        {
            let help = "import what it makes: the keepalived.conf of each director";
            self.report.error(place, "", "this is a template, not yet a configuration", help);
            self.stopped = true;
            return;
        }
        let indent = match nested {
            0 => self.indent(),
            _ => 0,
        };
        let (mut tokens, open_quote) = words::words(text, indent);
        if open_quote {
            let what = "a quote has no end in its line: Keepalived takes what follows for it";
            self.report.warn(place, "", what);
        }
        if nested > 0 {
            for token in &mut tokens {
                token.at(1);
            }
        }
        if !tokens.is_empty() {
            self.out.lines.push(Line { place, tokens });
        }
    }

    /// By how much the line that was just taken from the file is indented.
    fn indent(&self) -> u32 {
        let Some(frame) = self.stack.last() else { return 0 };
        let before = frame.text.get(..frame.at.saturating_sub(1)).unwrap_or_default();
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = before.get(start..).unwrap_or_default();
        u32::try_from(line.chars().take_while(|c| c.is_whitespace()).count()).unwrap_or_default()
    }

    /// The further lines of a definition: to the first that has no `\` at its end.
    fn continued(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some((text, place, _)) = self.next() {
            self.made.0 += 1;
            self.made.1 += text.len();
            if self.too_much(place) {
                break;
            }
            let last = !text.ends_with(['\\', CONTINUED]);
            let line = text.strip_suffix(['\\', CONTINUED]).unwrap_or(&text).trim();
            if !line.is_empty() {
                lines.push(line.to_owned());
            }
            if last {
                break;
            }
        }
        lines
    }

    /// What a name stands for at this place.
    fn known(&self) -> impl Fn(&str) -> Option<Vec<String>> + '_ {
        let folder = self.stack.last().map_or("", |frame| frame.folder.as_str());
        move |name: &str| {
            let own = match name.split(char::is_whitespace).next().unwrap_or_default() {
                "_PWD" => self.files.absolute(folder),
                "_INSTANCE" => self.id.unwrap_or("localhost").to_owned(),
                "_HASH" => "#".to_owned(),
                "_BANG" => "!".to_owned(),
                // Whatever it is, it is one of those that it may be.
                "_RANDOM" => name.split_whitespace().nth(1).unwrap_or("0").to_owned(),
                _ => return self.defined.get(name).cloned(),
            };
            Some(vec![own])
        }
    }
}
