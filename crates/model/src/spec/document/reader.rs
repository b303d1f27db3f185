//! Typed readers over the tree: each gives the value or notes what is wrong with it, never both.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use super::duration::{duration, duration_text};
use super::keys::{TableKeys, shortened};
use super::suggest::nearest;
use super::{Data, Diagnostic, Diagnostics, Entry, Span, Value};

/// Unknown keys that are tried as misspellings of a missing one.
const MISSPELT_MAX: usize = 16;

/// Where something stands: the path of its field, and its bytes where the notation tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At {
    /// Such as `service.web.real_servers[0].weight`.
    pub path: String,
    /// The bytes.
    pub span: Option<Span>,
}

impl At {
    /// An error at this place.
    #[must_use]
    pub fn problem(&self, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(self.path.clone(), self.span.clone(), message.into())
    }
}

/// A value with its place.
#[derive(Debug, Clone)]
pub struct Field<'d> {
    /// Where it stands.
    pub at: At,
    value: &'d Value,
}

/// An entry of a table whose keys are names, such as `[group.NAME]`.
#[derive(Debug, Clone)]
pub struct Named<'d, N> {
    /// The name; absent where it is none (which is noted).
    pub name: Option<N>,
    /// The name as written.
    pub text: &'d str,
    /// Where the name stands.
    pub at: At,
    /// What it names.
    pub field: Field<'d>,
}

/// A table whose keys have been checked.
#[derive(Debug, Clone)]
pub struct Table<'d> {
    /// Where it stands.
    pub at: At,
    keys: &'static TableKeys,
    entries: &'d [Entry],
}

/// The path of a table's entry.
pub(super) fn child(path: &str, key: &str) -> String {
    let bare =
        !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    let key = if bare { key.to_owned() } else { format!("{:?}", shortened(key)) };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

impl<'d> Field<'d> {
    /// The whole document.
    #[must_use]
    pub fn root(value: &'d Value) -> Self {
        Self { at: At { path: String::new(), span: value.span.clone() }, value }
    }

    /// An error about this value.
    #[must_use]
    pub fn problem(&self, message: impl Into<String>) -> Diagnostic {
        self.at.problem(message)
    }

    /// The string that it is, if it is one; nothing is noted if not.
    #[must_use]
    pub fn peek(&self) -> Option<&'d str> {
        match &self.value.data {
            Data::String(text) => Some(text),
            _ => None,
        }
    }

    /// Whether it is a table.
    #[must_use]
    pub fn is_table(&self) -> bool {
        matches!(self.value.data, Data::Table(_))
    }

    fn expected(&self, what: &str) -> Diagnostic {
        self.problem(format!("{what} is expected here, not {}", self.value.data.kind()))
    }

    /// A string.
    pub fn text(&self, what: &str, out: &mut Diagnostics) -> Option<&'d str> {
        if let Data::String(text) = &self.value.data {
            return Some(text);
        }
        let mut problem = self.expected(what);
        if let Data::Integer(number) = self.value.data {
            problem = problem.help(format!("put it in quotes: \"{number}\""));
        }
        out.push(problem);
        None
    }

    /// `true` or `false`.
    pub fn flag(&self, out: &mut Diagnostics) -> Option<bool> {
        match &self.value.data {
            Data::Bool(flag) => Some(*flag),
            Data::String(text) if text == "true" || text == "false" => {
                out.push(
                    self.expected("true or false").help(format!("leave out the quotes: {text}")),
                );
                None
            }
            _ => {
                out.push(self.expected("true or false"));
                None
            }
        }
    }

    /// An integer in a range.
    pub fn integer<T>(
        &self,
        what: &str,
        range: RangeInclusive<T>,
        out: &mut Diagnostics,
    ) -> Option<T>
    where
        T: Copy + PartialOrd + fmt::Display + TryFrom<i128>,
    {
        let (low, high) = (*range.start(), *range.end());
        match &self.value.data {
            Data::Integer(number) => match T::try_from(*number) {
                Ok(value) if range.contains(&value) => Some(value),
                _ => {
                    out.push(self.problem(format!("{what} is {low} to {high}")));
                    None
                }
            },
            Data::String(text) if text.parse::<i128>().is_ok() => {
                out.push(self.expected("an integer").help(format!("leave out the quotes: {text}")));
                None
            }
            _ => {
                out.push(self.expected("an integer"));
                None
            }
        }
    }

    /// A duration in a range, such as `"50s"`.
    pub fn duration(
        &self,
        what: &str,
        range: RangeInclusive<Duration>,
        out: &mut Diagnostics,
    ) -> Option<Duration> {
        if let Data::Integer(number) = self.value.data {
            let problem = self.expected("a duration");
            out.push(problem.help(format!("give it a unit: \"{number}s\" or \"{number}ms\"")));
            return None;
        }
        let text = self.text("a duration", out)?;
        match duration(text) {
            Ok(value) if range.contains(&value) => Some(value),
            Ok(value) => {
                let (low, high) = (duration_text(*range.start()), duration_text(*range.end()));
                let value = duration_text(value);
                out.push(self.problem(format!("{what} is {low} to {high}, not {value}")));
                None
            }
            Err(error) => {
                out.push(self.problem(error.to_string()));
                None
            }
        }
    }

    /// A string that a type of its own can be read from. `what` names the type, for messages.
    pub fn parsed<T: FromStr>(&self, what: &str, out: &mut Diagnostics) -> Option<T>
    where
        T::Err: fmt::Display,
    {
        let text = self.text(what, out)?;
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                out.push(self.problem(format!("{:?} is not {what}: {error}", shortened(text))));
                None
            }
        }
    }

    /// An IP address without port or prefix.
    pub fn address(&self, out: &mut Diagnostics) -> Option<IpAddr> {
        let text = self.text("an IP address", out)?;
        let parsed = text.parse().ok();
        if parsed.is_none() {
            out.push(self.problem(format!("{:?} is not an IP address", shortened(text))));
        }
        parsed
    }

    /// An IP address with port, such as `"192.168.10.80:7400"` or `"[2001:db8::1]:7400"`.
    pub fn socket_address(&self, out: &mut Diagnostics) -> Option<SocketAddr> {
        let text = self.text("an address with port", out)?;
        match socket_address(text) {
            Ok(address) => Some(address),
            Err((message, help)) => {
                out.push(self.problem(message).help(help));
                None
            }
        }
    }

    /// One of a few words. `foreign` are other programs' words for them.
    pub fn choice<T: Copy>(
        &self,
        what: &str,
        words: &[(&'static str, T)],
        foreign: &[(&str, &str)],
        out: &mut Diagnostics,
    ) -> Option<T> {
        let text = self.text(&format!("a word for {what}"), out)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let names = || words.iter().map(|(word, _)| *word);
        let meant = foreign.iter().find(|(word, _)| word.eq_ignore_ascii_case(text));
        let help = match meant.map(|(_, word)| *word).or_else(|| nearest(text, names())) {
            Some(word) => format!("did you mean {word:?}?"),
            None => format!("known: {}", names().collect::<Vec<_>>().join(", ")),
        };
        out.push(self.problem(format!("unknown {what} {:?}", shortened(text))).help(help));
        None
    }

    /// A list.
    pub fn list(&self, out: &mut Diagnostics) -> Option<Vec<Field<'d>>> {
        if let Data::List(items) = &self.value.data {
            return Some(self.items(items));
        }
        out.push(self.expected("a list").help("put it in brackets: [..]"));
        None
    }

    /// A list, or one value in place of a list of one.
    #[must_use]
    pub fn list_or_one(&self) -> Vec<Field<'d>> {
        match &self.value.data {
            Data::List(items) => self.items(items),
            _ => vec![self.clone()],
        }
    }

    fn items(&self, items: &'d [Value]) -> Vec<Field<'d>> {
        let item = |(index, value): (usize, &'d Value)| Field {
            at: At { path: format!("{}[{index}]", self.at.path), span: value.span.clone() },
            value,
        };
        items.iter().enumerate().map(item).collect()
    }

    /// A table that takes these keys and no other.
    pub fn table(&self, keys: &'static TableKeys, out: &mut Diagnostics) -> Option<Table<'d>> {
        let Data::Table(entries) = &self.value.data else {
            out.push(self.expected("a table"));
            return None;
        };
        for entry in entries.iter().filter(|entry| !keys.has(&entry.key)) {
            let at = At { path: child(&self.at.path, &entry.key), span: entry.key_span.clone() };
            if out.is_full() {
                // Suggestions cost time; it is only counted now.
                out.push(at.problem(String::new()));
                continue;
            }
            let (message, help) = keys.refuse(&entry.key);
            out.push(at.problem(message).help(help));
        }
        Some(Table { at: self.at.clone(), keys, entries })
    }

    /// The keys of a table, whatever they are; none if it is no table.
    #[must_use]
    pub fn keys(&self) -> std::collections::BTreeSet<String> {
        let Data::Table(entries) = &self.value.data else { return Default::default() };
        entries.iter().map(|entry| entry.key.clone()).collect()
    }

    /// A table whose keys are names, such as `[group.NAME]`.
    pub fn named<N: FromStr>(&self, what: &str, out: &mut Diagnostics) -> Vec<Named<'d, N>>
    where
        N::Err: fmt::Display,
    {
        let Data::Table(entries) = &self.value.data else {
            out.push(self.expected("a table"));
            return Vec::new();
        };
        let mut all = Vec::with_capacity(entries.len());
        for entry in entries {
            let path = child(&self.at.path, &entry.key);
            let at = At { path: path.clone(), span: entry.key_span.clone() };
            let text = entry.key.as_str();
            let name = match text.parse() {
                Ok(name) => Some(name),
                Err(error) => {
                    let word = shortened(text);
                    out.push(at.problem(format!("{word:?} is not the name of {what}: {error}")));
                    None
                }
            };
            let field =
                Field { at: At { path, span: entry.value.span.clone() }, value: &entry.value };
            all.push(Named { name, text, at, field });
        }
        all
    }
}

impl<'d> Table<'d> {
    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Field<'d>> {
        debug_assert!(self.keys.has(key), "{key} is not in the list of {}", self.keys.title);
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        let at = At { path: child(&self.at.path, key), span: entry.value.span.clone() };
        Some(Field { at, value: &entry.value })
    }

    /// The value of a key that has to be given.
    pub fn require(&self, key: &str, out: &mut Diagnostics) -> Option<Field<'d>> {
        let found = self.get(key);
        let misspelt = || {
            let unknown = self.entries.iter().filter(|entry| !self.keys.has(&entry.key));
            unknown.take(MISSPELT_MAX).any(|entry| nearest(&entry.key, [key]).is_some())
        };
        if found.is_none() && !misspelt() {
            out.push(self.missing(key));
        }
        found
    }

    /// The error that a key is missing.
    #[must_use]
    pub fn missing(&self, key: &str) -> Diagnostic {
        let at = At { path: child(&self.at.path, key), span: self.at.span.clone() };
        at.problem(format!("{key:?} is missing")).consequence()
    }
}

/// Reads an address with port; else says what is wrong and what to do.
pub(crate) fn socket_address(text: &str) -> Result<SocketAddr, (String, String)> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        if address.port() == 0 {
            return Err(("port 0 is not a port".to_owned(), "use 1 to 65535".to_owned()));
        }
        return Ok(address);
    }
    let quoted = shortened(text);
    Err(match text.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => {
            (format!("{quoted:?} has no port"), format!("append one: \"{ip}:80\""))
        }
        Ok(IpAddr::V6(ip)) => {
            (format!("{quoted:?} has no port"), format!("append one: \"[{ip}]:80\""))
        }
        Err(_) => (
            format!("{quoted:?} is not an address with port"),
            "write it as \"192.0.2.1:80\" or \"[2001:db8::1]:80\"; names are not resolved"
                .to_owned(),
        ),
    })
}
