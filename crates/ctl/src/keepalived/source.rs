//! Where files come from: the disk, or memory in tests. And which files a pattern of `include` means.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

/// Longest file that is read.
pub const FILE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Most alternatives that the braces of a pattern make.
const ALTERNATIVES_MAX: usize = 256;
/// Most files that one pattern finds.
const FOUND_MAX: usize = 4_096;

/// Files by their paths.
pub trait Files {
    /// What is in a file.
    ///
    /// # Errors
    /// In words, where it can't be read or is too long.
    fn read(&self, path: &str) -> Result<Vec<u8>, String>;
    /// The names in a folder, in order.
    fn names(&self, folder: &str) -> Vec<String>;
    /// Whether there is such a file or folder.
    fn exists(&self, path: &str) -> bool;
    /// The whole path of a folder.
    fn absolute(&self, folder: &str) -> String {
        folder.to_owned()
    }
}

/// Those of this machine. `-` is the standard input, which is there once and asked for several times.
#[derive(Debug, Default)]
pub struct Disk {
    input: OnceCell<Result<Vec<u8>, String>>,
}

impl Files for Disk {
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        if path == "-" {
            return self.input.get_or_init(|| bounded(std::io::stdin().lock())).clone();
        }
        // A FIFO or a device would be waited for.
        match std::fs::metadata(path) {
            Ok(data) if data.is_dir() => return Err("it is a folder".to_owned()),
            Ok(data) if !data.is_file() => return Err("it is no ordinary file".to_owned()),
            _ => {}
        }
        bounded(std::fs::File::open(path).map_err(|error| error.to_string())?)
    }

    fn names(&self, folder: &str) -> Vec<String> {
        let folder = if folder.is_empty() { "." } else { folder };
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    fn exists(&self, path: &str) -> bool {
        Path::new(path).exists()
    }

    fn absolute(&self, folder: &str) -> String {
        let folder = if folder.is_empty() { "." } else { folder };
        let whole =
            std::path::absolute(folder).ok().and_then(|path| path.to_str().map(str::to_owned));
        whole.unwrap_or_else(|| folder.to_owned())
    }
}

/// All of it, if that is not too much.
fn bounded(from: impl std::io::Read) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(FILE_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    from.take(limit).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(format!("it has more than {FILE_BYTES_MAX} bytes"));
    }
    Ok(bytes)
}

/// Files in memory.
impl Files for BTreeMap<String, Vec<u8>> {
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        self.get(path).cloned().ok_or_else(|| "there is no such file".to_owned())
    }

    fn names(&self, folder: &str) -> Vec<String> {
        let folder = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let below = self.keys().filter_map(|path| path.strip_prefix(&folder));
        let mut names: Vec<String> =
            below.filter_map(|rest| rest.split('/').next()).map(str::to_owned).collect();
        names.dedup();
        names
    }

    fn exists(&self, path: &str) -> bool {
        self.contains_key(path) || self.keys().any(|known| known.starts_with(&format!("{path}/")))
    }
}

/// The folder of a file, without the last slash; empty for the one that we are in.
#[must_use]
pub fn folder_of(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some(("", _)) => "/",
        Some((folder, _)) => folder,
        None => "",
    }
}

/// The path of a name in a folder.
#[must_use]
pub fn inside(folder: &str, name: &str) -> String {
    match folder {
        _ if name.starts_with('/') => name.to_owned(),
        "" => name.to_owned(),
        "/" => format!("/{name}"),
        folder => format!("{folder}/{name}"),
    }
}

/// Whether a pattern has more than one meaning.
#[must_use]
pub fn is_wild(pattern: &str) -> bool {
    pattern.contains(['*', '?', '['])
}

/// What each alternative of a pattern means: the alternative, and the files that there are, in order.
#[must_use]
pub fn find(files: &dyn Files, folder: &str, pattern: &str) -> Vec<(String, Vec<String>)> {
    let alternatives = braces(pattern);
    alternatives
        .into_iter()
        .map(|alternative| {
            let found = glob(files, folder, &alternative);
            (alternative, found)
        })
        .collect()
}

/// `{a,b}` as csh(1) has it, nested too.
fn braces(pattern: &str) -> Vec<String> {
    let (mut done, mut open) = (Vec::new(), vec![pattern.to_owned()]);
    while let Some(text) = open.pop() {
        let Some((before, inner, after)) = first_brace(&text) else {
            done.push(text);
            continue;
        };
        if done.len() + open.len() + inner.len() > ALTERNATIVES_MAX {
            done.push(text);
            continue;
        }
        open.extend(inner.iter().rev().map(|choice| format!("{before}{choice}{after}")));
    }
    done
}

/// The first brace that has an end and a comma: what is before it, its choices, what follows.
fn first_brace(text: &str) -> Option<(&str, Vec<&str>, &str)> {
    let start = text.find('{')?;
    let (mut depth, mut from) = (0_usize, start + 1);
    let mut choices = Vec::new();
    for (at, c) in text.char_indices().skip_while(|(at, _)| *at < start) {
        match c {
            '{' => depth += 1,
            ',' if depth == 1 => {
                choices.push(text.get(from..at)?);
                from = at + 1;
            }
            '}' if depth == 1 => {
                choices.push(text.get(from..at)?);
                return (choices.len() > 1).then(|| (&text[..start], choices, &text[at + 1..]));
            }
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

fn glob(files: &dyn Files, folder: &str, pattern: &str) -> Vec<String> {
    let mut at: Vec<String> =
        vec![if pattern.starts_with('/') { "/".to_owned() } else { folder.to_owned() }];
    let parts: Vec<&str> = pattern.split('/').filter(|part| !part.is_empty()).collect();
    for part in parts {
        let mut next = Vec::new();
        for folder in &at {
            if !is_wild(part) {
                next.push(inside(folder, part));
                continue;
            }
            let letters: Vec<char> = part.chars().collect();
            for name in files.names(folder) {
                // As in a shell, a name that begins with a dot is meant only where it is written.
                let hidden = name.starts_with('.') && !part.starts_with('.');
                if !hidden && matches(&letters, &name.chars().collect::<Vec<_>>()) {
                    next.push(inside(folder, &name));
                }
            }
            next.truncate(FOUND_MAX);
        }
        at = next;
    }
    at.retain(|path| files.exists(path));
    at
}

/// `*`, `?` and `[..]`, without going back more than to the last `*`.
fn matches(pattern: &[char], name: &[char]) -> bool {
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        let step = match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
                continue;
            }
            Some('?') => Some(1),
            Some('[') => class(&pattern[p..], name[n]),
            Some(c) if *c == name[n] => Some(1),
            _ => None,
        };
        match (step, star) {
            (Some(width), _) => {
                p += width;
                n += 1;
            }
            (None, Some((at, from))) => {
                star = Some((at, from + 1));
                p = at + 1;
                n = from + 1;
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// How long the class at the start of the pattern is, if the letter is of it.
fn class(pattern: &[char], letter: char) -> Option<usize> {
    let negated = matches!(pattern.get(1), Some('!' | '^'));
    let first = if negated { 2 } else { 1 };
    let end = first + 1 + pattern.get(first + 1..)?.iter().position(|c| *c == ']')?;
    let (mut at, mut within) = (first, false);
    while at < end {
        if at + 2 < end && pattern[at + 1] == '-' {
            within |= (pattern[at]..=pattern[at + 2]).contains(&letter);
            at += 3;
        } else {
            within |= pattern[at] == letter;
            at += 1;
        }
    }
    (within != negated).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matched(pattern: &str, name: &str) -> bool {
        matches(&pattern.chars().collect::<Vec<_>>(), &name.chars().collect::<Vec<_>>())
    }

    #[test]
    fn a_pattern_means_what_it_means_to_a_shell() {
        for (pattern, name) in
            [("*.conf", "a.conf"), ("a?c", "abc"), ("[a-c]x", "bx"), ("[!a]x", "bx"), ("**", "x")]
        {
            assert!(matched(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in
            [("*.conf", "a.con"), ("a?c", "ac"), ("[a-c]x", "dx"), ("[!a]x", "ax")]
        {
            assert!(!matched(pattern, name), "{pattern} {name}");
        }
        assert_eq!(braces("foo/{,cat,d{o,i}g}x"), ["foo/x", "foo/catx", "foo/dogx", "foo/digx"]);
        assert_eq!(braces("a{b}c"), ["a{b}c"]);
    }

    #[test]
    fn a_pattern_finds_what_is_there_in_order() {
        let files: BTreeMap<String, Vec<u8>> =
            ["/e/b.conf", "/e/a.conf", "/e/.c.conf", "/e/d/x.conf"]
                .map(|n| (n.to_owned(), vec![]))
                .into();
        let found = |pattern: &str| {
            find(&files, "/e", pattern).into_iter().flat_map(|(_, f)| f).collect::<Vec<_>>()
        };
        assert_eq!(found("*.conf"), ["/e/a.conf", "/e/b.conf"]);
        assert_eq!(found("/e/*/x.conf"), ["/e/d/x.conf"]);
        assert_eq!(found("{b,a,z}.conf"), ["/e/b.conf", "/e/a.conf"]);
    }
}
