//! `include` and its kin.

use super::super::report::{Place, clean};
use super::super::source;
use super::{DEPTH_MAX, FILES_MAX, Frame, Reader, Strict};

impl Reader<'_> {
    pub(super) fn includes(&self, word: &str) -> Option<Strict> {
        let of_file = self.stack.last().map(|frame| frame.strict).unwrap_or_default();
        match word {
            "include" => Some(of_file),
            "includer" => Some(Strict { readable: true, ..of_file }),
            "includem" => Some(Strict { readable: true, matched: true, ..of_file }),
            "includew" => Some(Strict { readable: true, wildcard: true, ..of_file }),
            "includeb" => Some(Strict { readable: true, brace: true, ..of_file }),
            "includea" => {
                Some(Strict { readable: true, matched: true, wildcard: true, brace: true })
            }
            _ => None,
        }
    }

    pub(super) fn include_check(&mut self, text: &str, place: Place) {
        let Some(frame) = self.stack.last_mut() else { return };
        let mut strict = frame.strict;
        let mut words = text.split_whitespace().skip(1).peekable();
        if words.peek().is_none() {
            strict = Strict { readable: true, matched: true, wildcard: true, brace: true };
        } else if words.peek().is_some_and(|word| !word.starts_with(['+', '-'])) {
            strict = Strict::default();
        }
        let mut unknown = None;
        for word in words {
            let on = !word.starts_with('-');
            match word.trim_start_matches(['+', '-']) {
                "readable" => strict.readable = on,
                "match" => (strict.matched, strict.readable) = (on, strict.readable || on),
                "wildcard_match" => {
                    (strict.wildcard, strict.readable) = (on, strict.readable || on)
                }
                "brace_match" => (strict.brace, strict.readable) = (on, strict.readable || on),
                _ => unknown = Some(clean(word)),
            }
        }
        frame.strict = strict;
        if let Some(word) = unknown {
            let known = "readable, match, wildcard_match, brace_match";
            self.report.warn(place, "include_check", format!("{word:?} is none of {known}"));
        }
    }

    pub(super) fn include(&mut self, pattern: &str, place: Place, strict: Strict) {
        let pattern = pattern.trim_matches(['"', '\'']);
        if pattern.is_empty() {
            return self.report.warn(place, "include", "it names no file");
        }
        let folder = self.stack.last().map(|frame| frame.folder.clone()).unwrap_or_default();
        let alternatives = source::find(self.files, &folder, pattern);
        let several = alternatives.len() > 1;
        let wild = source::is_wild(pattern);
        let none = alternatives.iter().all(|(_, found)| found.is_empty());
        for (alternative, found) in &alternatives {
            if !found.is_empty() {
                continue;
            }
            let refused = if several {
                strict.brace || strict.matched && none && !wild || strict.wildcard && none
            } else if wild {
                strict.wildcard
            } else {
                strict.matched
            };
            let message = format!("there is no file {:?}", clean(alternative));
            if refused {
                let help = "give the folder with all its files, or take the line out";
                self.report.error(place, "include", message, help);
            } else {
                self.report.warn(place, "include", message);
            }
        }
        let reached: Vec<String> = alternatives.into_iter().flat_map(|(_, found)| found).collect();
        // The last is opened first: each is read to its end before the one below it.
        for path in reached.into_iter().rev() {
            self.open(&path, Some(place), strict);
        }
    }

    pub(super) fn open(&mut self, path: &str, from: Option<Place>, strict: Strict) {
        let place = from.unwrap_or_default();
        if from.is_some() {
            let around = self.stack.iter().any(|frame| frame.path == path && frame.at > 0);
            if around {
                let help = "Keepalived would read it for ever: take the include out";
                return self.report.error(
                    place,
                    "include",
                    format!("{path} includes itself"),
                    help,
                );
            }
            if self.opened >= FILES_MAX || self.stack.len() >= DEPTH_MAX + FILES_MAX {
                let message = format!("more than {FILES_MAX} files are included");
                return self.stop(place, &message, "import them in parts");
            }
            if self.stack.iter().filter(|frame| frame.at > 0).count() > DEPTH_MAX {
                let message = format!("files include files more than {DEPTH_MAX} deep");
                return self.stop(place, &message, "one of them probably includes itself");
            }
        }
        self.opened += 1;
        let bytes = match self.files.read(path) {
            Ok(bytes) => bytes,
            Err(reason) => {
                let place = match from {
                    Some(place) => place,
                    None => Place { file: self.report.file(path, ""), line: 1, ..Place::default() },
                };
                let message = format!("cannot read {}: {reason}", clean(path));
                if from.is_none() || strict.readable {
                    let help = "give a keepalived.conf with all files that it includes";
                    self.report.error(place, "", message, help);
                    self.stopped |= from.is_none();
                } else {
                    self.report.warn(place, "include", message);
                }
                return;
            }
        };
        let text = self.text(path, &bytes);
        let file = self.report.file(path, &text);
        let folder = if path == "-" { "" } else { source::folder_of(path) }.to_owned();
        let path = path.to_owned();
        // What is checked in it is what was in the file around it.
        let strict = self.stack.last().map(|frame| frame.strict).unwrap_or_default();
        self.stack.push(Frame { file, path, folder, text, at: 0, line: 0, strict });
    }

    /// Bytes as text: without what editors put at the start, and no byte of it refused.
    fn text(&mut self, path: &str, bytes: &[u8]) -> String {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let utf16 = bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff");
        let text = String::from_utf8_lossy(bytes);
        let bad = matches!(text, std::borrow::Cow::Owned(_)) || text.contains('\0');
        let text = text.replace("\r\n", "\n").replace(['\r', '\0'], "\n");
        if bad {
            let place = Place { file: self.report.file(path, &text), line: 1, ..Place::default() };
            if utf16 {
                let help = "write it anew as UTF-8: iconv -f UTF-16 -t UTF-8";
                self.report.error(
                    place,
                    "",
                    "the file is UTF-16, which Keepalived does not read",
                    help,
                );
            } else {
                let what = "bytes that are no UTF-8 are shown as \u{fffd}: where that is more than a \
                            comment, write the line anew";
                self.report.warn(place, "", what);
            }
        }
        text
    }
}
