//! What is wrong with a document: collected while reading goes on, shown with the line it is in.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};

use super::Span;

/// Most diagnostics that are kept; the others are counted.
pub const DIAGNOSTICS_MAX: usize = 100;

/// Longest part of a source line that an excerpt shows.
const EXCERPT_CHARS_MAX: usize = 120;
/// What an excerpt of a longer line shows before the place in question.
const EXCERPT_CHARS_BEFORE: usize = 40;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The document can't be used.
    Error,
    /// It can, but probably says something else than was meant.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// A place in a text as people count: both from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// The field, such as `service.web.scheduler`; empty for the document as a whole.
    pub path: String,
    /// The bytes in question, where the notation tells them.
    pub span: Option<Span>,
    /// Where the span starts.
    pub position: Option<Position>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
    /// It may only follow from another error, and is not shown beside a syntax error.
    consequence: bool,
}

impl Diagnostic {
    /// An error at a field.
    #[must_use]
    pub fn new(path: String, span: Option<Span>, message: String) -> Self {
        let severity = Severity::Error;
        Self { severity, path, span, position: None, message, help: None, consequence: false }
    }

    /// With a word on what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// As a warning.
    #[must_use]
    pub fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }

    /// As one that a syntax error elsewhere may have caused.
    #[must_use]
    pub fn consequence(mut self) -> Self {
        self.consequence = true;
        self
    }
}

/// Everything that is wrong with a document, in the order of the text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Diagnostics {
    found: Vec<Diagnostic>,
    more: usize,
    /// Lines that the parser could not make sense of: what is read from them means nothing.
    broken: Vec<Span>,
    /// One message at one place is said once, however many ways lead there.
    said: BTreeSet<(Option<usize>, String, String)>,
}

impl Diagnostics {
    /// Nothing wrong so far.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes one more.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        if !self.broken.is_empty() {
            let touches = |line: &Span| {
                diagnostic.span.as_ref().is_some_and(|s| s.start < line.end && s.end >= line.start)
            };
            if diagnostic.consequence || self.broken.iter().any(touches) {
                return;
            }
        }
        self.push_syntax(diagnostic);
    }

    /// Notes an error of the text itself.
    pub(super) fn push_syntax(&mut self, diagnostic: Diagnostic) {
        if self.is_full() {
            self.more += 1;
            return;
        }
        let start = diagnostic.span.as_ref().map(|span| span.start);
        if self.said.insert((start, diagnostic.path.clone(), diagnostic.message.clone())) {
            self.found.push(diagnostic);
        }
    }

    /// Notes that the lines of this span could not be read, and gives their bytes.
    pub(super) fn broken_at(&mut self, source: &str, span: &Span) -> Span {
        if self.broken.len() >= DIAGNOSTICS_MAX {
            return span.clone();
        }
        let (start, line) = line_at(source, span.start);
        let lines = start..(start + line.len()).max(span.end) + 1;
        self.broken.push(lines.clone());
        lines
    }

    /// Whether further ones are only counted.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.found.len() >= DIAGNOSTICS_MAX
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Whether one of them is an error.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.found.iter().any(|d| d.severity == Severity::Error)
    }

    /// Those that are kept.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.found.iter()
    }

    /// How many there are beyond those that are kept.
    #[must_use]
    pub fn more(&self) -> usize {
        self.more
    }

    /// `value` if nothing is wrong; else what is, in the order of the text and with lines and
    /// columns.
    ///
    /// # Errors
    ///
    /// If anything was noted.
    pub fn finish<T>(self, source: &str, value: Option<T>) -> Result<T, Self> {
        let (value, found) = self.settle(source, value);
        value.ok_or(found)
    }

    /// `value` if no error was noted, and what was noted: warnings too where there is a value.
    pub fn settle<T>(mut self, source: &str, value: Option<T>) -> (Option<T>, Self) {
        self.locate(source);
        (value.filter(|_| !self.has_errors()), self)
    }

    fn locate(&mut self, source: &str) {
        // Those without a span (JSON) stay in the order in which they were found.
        self.found.sort_by_key(|d| d.span.as_ref().map(|span| span.start));
        let (mut start, mut line) = (0, 1);
        for diagnostic in &mut self.found {
            let Some(span) = &diagnostic.span else { continue };
            let (at, _) = line_at(source, span.start);
            let newlines = source.as_bytes().get(start..at).unwrap_or_default();
            line += newlines.iter().filter(|&&byte| byte == b'\n').count();
            start = at;
            let column = source.get(at..span.start).map_or(0, |before| before.chars().count()) + 1;
            diagnostic.position = Some(Position { line, column });
        }
    }

    /// All of them as text, with the lines of `source` that they are about. `file` is what the
    /// reader knows the document by.
    #[must_use]
    pub fn render(&self, file: &str, source: &str) -> String {
        let mut text = String::new();
        for diagnostic in &self.found {
            if !text.is_empty() {
                text.push('\n');
            }
            render_one(&mut text, diagnostic, file, source);
        }
        if self.more > 0 {
            text.push_str(&format!("\nand {} more\n", self.more));
        }
        text
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Diagnostics {
    /// One line each, for where there is no source at hand.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.found.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            if let Some(Position { line, column }) = diagnostic.position {
                write!(f, "{line}:{column}: ")?;
            }
            if !diagnostic.path.is_empty() {
                write!(f, "{}: ", diagnostic.path)?;
            }
            f.write_str(&diagnostic.message)?;
            if let Some(help) = &diagnostic.help {
                write!(f, " ({help})")?;
            }
        }
        if self.more > 0 {
            write!(f, "\nand {} more", self.more)?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

/// The start of the line that holds byte `at`, and the line without its end.
fn line_at(source: &str, at: usize) -> (usize, &str) {
    let bytes = source.as_bytes();
    let at = at.min(bytes.len());
    let start =
        bytes[..at].iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
    let length = bytes[start..].iter().position(|&b| b == b'\n').unwrap_or(bytes.len() - start);
    let line = source.get(start..start + length).unwrap_or_default();
    (start, line.strip_suffix('\r').unwrap_or(line))
}

fn render_one(text: &mut String, diagnostic: &Diagnostic, file: &str, source: &str) {
    // Writing to a String can't fail.
    let _ = writeln!(text, "{}: {}", diagnostic.severity, plain(&diagnostic.message));
    let path = match diagnostic.path.as_str() {
        "" => String::new(),
        path => format!(" ({})", plain(path)),
    };
    let gutter = match (&diagnostic.span, diagnostic.position) {
        (Some(span), Some(position)) => {
            let Position { line, column } = position;
            let gutter = line.to_string().len();
            let _ = writeln!(text, "{:gutter$}--> {file}:{line}:{column}{path}", "");
            let (excerpt, offset, length) = excerpt(source, span);
            let _ = writeln!(text, "{:gutter$} |", "");
            let _ = writeln!(text, "{line} | {excerpt}");
            let _ = writeln!(text, "{:gutter$} | {:offset$}{:^<length$}", "", "", "");
            gutter
        }
        _ => {
            let _ = writeln!(text, " --> {file}{path}");
            1
        }
    };
    if let Some(help) = &diagnostic.help {
        let _ = writeln!(text, "{:gutter$} = help: {}", "", plain(help));
    }
}

/// The line of a span, shortened around it, with where to underline and how far.
fn excerpt(source: &str, span: &Span) -> (String, usize, usize) {
    let (start, line) = line_at(source, span.start);
    let column = line.get(..span.start.saturating_sub(start)).unwrap_or(line).chars().count();
    let end = span.end.saturating_sub(start).min(line.len());
    let covered = line.get(span.start.saturating_sub(start)..end).unwrap_or_default();
    let first = if line.chars().count() <= EXCERPT_CHARS_MAX {
        0
    } else {
        column.saturating_sub(EXCERPT_CHARS_BEFORE)
    };
    let shown: String = line.chars().skip(first).take(EXCERPT_CHARS_MAX).collect();
    let offset = column - first;
    let room = EXCERPT_CHARS_MAX.saturating_sub(offset).max(1);
    (plain(&shown), offset, covered.chars().count().clamp(1, room))
}

/// A text of the document for a terminal: one cell a character, and nothing that controls it.
fn plain(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\t' => ' ',
            // Controls, and the marks that reorder text (Unicode Bidi_Control).
            c if c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{061c}') => '\u{fffd}',
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
            c => c,
        })
        .collect()
}
