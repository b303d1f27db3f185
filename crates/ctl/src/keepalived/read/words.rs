//! A line to words: quotes, escapes, braces, comments.

/// A word, or a brace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::keepalived) enum Token {
    /// A word.
    Word(Word),
    /// `{`, with its column.
    Open(u32),
    /// `}`, with its column.
    Close(u32),
}

/// A word as it is meant: without its quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::keepalived) struct Word {
    /// What it says.
    pub(in crate::keepalived) text: String,
    /// Whether quotes stood in it.
    pub(in crate::keepalived) quoted: bool,
    /// Where it begins.
    pub(in crate::keepalived) column: u32,
}

impl Token {
    /// Puts it elsewhere.
    pub(super) fn at(&mut self, at: u32) {
        match self {
            Self::Word(word) => word.column = at,
            Self::Open(column) | Self::Close(column) => *column = at,
        }
    }
}

/// The line up to `#` or `!`, which begin a comment anywhere but in quotes.
pub(super) fn without_comment(line: &str) -> &str {
    let (mut quote, mut escaped) = (None, false);
    for (at, c) in line.char_indices() {
        match (quote, c) {
            _ if escaped => escaped = false,
            (_, '\\') => escaped = true,
            (None, '#' | '!') => return &line[..at],
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            _ => {}
        }
    }
    // A quote without end, as in `path it's # a comment`, hides none.
    let Some(open) = quote else { return line };
    let start = line.rfind(open).unwrap_or(line.len());
    match line[start..].find(" #").or_else(|| line[start..].find(" !")) {
        Some(at) => &line[..start + at],
        None => line,
    }
}

/// The words of a line, and whether a quote was left open. `indent` is what was cut off before it.
pub(super) fn words(text: &str, indent: u32) -> (Vec<Token>, bool) {
    let letters: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let (mut at, mut open_quote) = (0, false);
    let column = |at: usize| indent.saturating_add(u32::try_from(at).unwrap_or(u32::MAX - 1)) + 1;
    while at < letters.len() {
        match letters[at] {
            c if c.is_whitespace() => at += 1,
            '{' => {
                tokens.push(Token::Open(column(at)));
                at += 1;
            }
            '}' => {
                tokens.push(Token::Close(column(at)));
                at += 1;
            }
            _ => {
                let word = Scan::word(&letters, at);
                open_quote |= word.open_quote;
                let (text, quoted) = (word.text, word.quoted);
                if !text.is_empty() || quoted {
                    tokens.push(Token::Word(Word { text, quoted, column: column(at) }));
                }
                at = word.end.max(at + 1);
            }
        }
    }
    (tokens, open_quote)
}

struct Scan {
    text: String,
    quoted: bool,
    open_quote: bool,
    end: usize,
}

impl Scan {
    fn word(letters: &[char], from: usize) -> Self {
        let mut word = Self { text: String::new(), quoted: false, open_quote: false, end: from };
        let mut depth = 0_usize;
        while let Some(&c) = letters.get(word.end) {
            let next = letters.get(word.end + 1).copied();
            match c {
                c if c.is_whitespace() => break,
                '"' | '\'' => {
                    word.quoted = true;
                    word.quote(letters, c);
                    continue;
                }
                '\\' if next.is_some_and(|n| "\"' #!\\".contains(n)) => {
                    word.text.extend(next);
                    word.end += 1;
                }
                // `80{` opens a block, `^[a-z]{3}$` and `${NAME}` don't.
                '{' if next.is_none_or(char::is_whitespace) => break,
                '{' => {
                    depth += 1;
                    word.text.push(c);
                }
                '}' if depth == 0 && next.is_none_or(|n| n.is_whitespace() || n == '}') => break,
                '}' => {
                    depth = depth.saturating_sub(1);
                    word.text.push(c);
                }
                c => word.text.push(c),
            }
            word.end += 1;
        }
        word
    }

    /// What is in quotes, from the opening one on.
    fn quote(&mut self, letters: &[char], quote: char) {
        self.end += 1;
        while let Some(&c) = letters.get(self.end) {
            self.end += 1;
            match c {
                c if c == quote => return,
                '\\' => self.escape(letters),
                c => self.text.push(c),
            }
        }
        self.open_quote = true;
    }

    fn escape(&mut self, letters: &[char]) {
        let Some(&c) = letters.get(self.end) else { return self.text.push('\\') };
        self.end += 1;
        let plain = match c {
            'a' => '\u{7}',
            'b' => '\u{8}',
            'E' => '\u{1b}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            'x' => return self.number(letters, 16, 2),
            '0'..='7' => {
                self.end -= 1;
                return self.number(letters, 8, 3);
            }
            'c' => {
                let control = letters.get(self.end).map_or(0, |c| u32::from(*c) & 0x1f);
                self.end += 1;
                char::from_u32(control).unwrap_or(' ')
            }
            c => c,
        };
        self.text.extend((plain != '\0').then_some(plain));
    }

    fn number(&mut self, letters: &[char], radix: u32, digits: usize) {
        let mut number = 0;
        for _ in 0..digits {
            let digit = letters.get(self.end).and_then(|c| c.to_digit(radix));
            let Some(digit) = digit else { break };
            number = number * radix + digit;
            self.end += 1;
        }
        self.text.extend(char::from_u32(number).filter(|c| *c != '\0'));
    }
}
