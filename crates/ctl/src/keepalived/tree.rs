//! Lines to blocks.

use super::read::{Line, Token, Word};
use super::report::{Place, Report};

/// How deep blocks stand in blocks: Keepalived has five at most.
const DEPTH_MAX: usize = 24;

/// A keyword with its arguments, and what stands in its block.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Where it stands.
    pub(super) place: Place,
    /// The last line of its block.
    pub(super) until: u32,
    /// The keyword, then its arguments; at least one.
    pub(super) words: Vec<Word>,
    /// What is in its braces, if it has any.
    pub(super) block: Option<Vec<Node>>,
}

impl Node {
    /// The keyword.
    #[must_use]
    pub(super) fn keyword(&self) -> &str {
        self.arg(0)
    }

    /// An argument; empty where there is none.
    #[must_use]
    pub(super) fn arg(&self, at: usize) -> &str {
        self.words.get(at).map_or("", |word| word.text.as_str())
    }

    /// The arguments.
    pub(super) fn args(&self) -> impl Iterator<Item = &str> {
        self.words.iter().skip(1).map(|word| word.text.as_str())
    }

    /// What stands in its block.
    #[must_use]
    pub(super) fn children(&self) -> &[Self] {
        self.block.as_deref().unwrap_or_default()
    }

    /// Where an argument stands.
    #[must_use]
    pub(super) fn place_of(&self, at: usize) -> Place {
        let Some(word) = self.words.get(at) else { return self.place };
        let length = u32::try_from(word.text.chars().count()).unwrap_or(1);
        Place { column: word.column, length, ..self.place }
    }
}

/// Keywords that open a block, and stand in one line with others where people save lines.
const INLINE: [&str; 12] = [
    "TCP_CHECK",
    "HTTP_GET",
    "SSL_GET",
    "SMTP_CHECK",
    "DNS_CHECK",
    "MISC_CHECK",
    "PING_CHECK",
    "UDP_CHECK",
    "FILE_CHECK",
    "BFD_CHECK",
    "url",
    "real_server",
];

/// Makes blocks of lines; braces that don't match are told, and read as Keepalived does.
pub(super) fn blocks(lines: Vec<Line>, report: &mut Report) -> Vec<Node> {
    let mut open: Vec<Node> = Vec::new();
    let mut top: Vec<Node> = Vec::new();
    // What is beyond the bound: how many blocks are open there.
    let mut beyond = 0_usize;
    for line in lines {
        let mut words: Vec<Word> = Vec::new();
        for token in line.tokens {
            match token {
                Token::Word(word) => words.push(word),
                Token::Open(column) => {
                    let place = Place { column, length: 1, ..line.place };
                    flush_but_last(&mut words, place, &mut open, &mut top);
                    let here = open.last_mut().and_then(|n| n.block.as_mut()).unwrap_or(&mut top);
                    let node = if words.is_empty() {
                        // On a line of its own it belongs to the keyword above it.
                        here.pop_if(|node| node.block.is_none())
                    } else {
                        Some(node(std::mem::take(&mut words), line.place))
                    };
                    let Some(mut node) = node else {
                        let what = "it belongs to no keyword: what is in its block is read as if it stood outside";
                        report.warn(place, "{", what);
                        open.push(anonymous(place));
                        continue;
                    };
                    if open.len() >= DEPTH_MAX {
                        beyond += 1;
                        let help = "no block of Keepalived stands as deep";
                        report.error(place, "", "blocks stand too deep in blocks", help);
                        continue;
                    }
                    node.block = Some(Vec::new());
                    open.push(node);
                }
                Token::Close(column) => {
                    let place = Place { column, length: 1, ..line.place };
                    flush(&mut words, line.place, &mut open, &mut top);
                    if beyond > 0 {
                        beyond -= 1;
                    } else if let Some(mut node) = open.pop() {
                        if node.place.file == place.file {
                            node.until = place.line;
                        }
                        close(node, &mut open, &mut top);
                    } else {
                        report.warn(
                            place,
                            "}",
                            "it closes nothing, and is ignored as Keepalived ignores it",
                        );
                    }
                }
            }
        }
        flush(&mut words, line.place, &mut open, &mut top);
    }
    while let Some(node) = open.pop() {
        let what =
            "its block is never closed: it is read to the end of the files, as Keepalived does";
        report.warn(node.place, node.keyword(), what);
        close(node, &mut open, &mut top);
    }
    top
}

fn node(words: Vec<Word>, line: Place) -> Node {
    let mut node = Node { place: line, until: line.line, words, block: None };
    node.place = node.place_of(0);
    node
}

fn anonymous(place: Place) -> Node {
    let word = Word { text: "{".to_owned(), quoted: false, column: place.column };
    Node { place, until: place.line, words: vec![word], block: Some(Vec::new()) }
}

fn flush(words: &mut Vec<Word>, line: Place, open: &mut [Node], top: &mut Vec<Node>) {
    if words.is_empty() {
        return;
    }
    let here = open.last_mut().and_then(|n| n.block.as_mut()).unwrap_or(top);
    here.push(node(std::mem::take(words), line));
}

/// Of `weight 1 TCP_CHECK {`, the first two words are a line of their own.
fn flush_but_last(words: &mut Vec<Word>, line: Place, open: &mut [Node], top: &mut Vec<Node>) {
    let header = words.iter().skip(1).position(|w| !w.quoted && INLINE.contains(&w.text.as_str()));
    if let Some(at) = header {
        let rest = words.split_off(at + 1);
        flush(words, line, open, top);
        *words = rest;
    }
}

/// What had no keyword stands where its block stood.
fn close(node: Node, open: &mut [Node], top: &mut Vec<Node>) {
    let here = open.last_mut().and_then(|n| n.block.as_mut()).unwrap_or(top);
    if node.keyword() == "{" {
        here.extend(node.block.into_iter().flatten());
    } else {
        here.push(node);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::read::read;
    use super::*;

    /// The blocks of a text in one line, and what there is to say.
    fn of(text: &str) -> (String, String) {
        let files = BTreeMap::from([("k".to_owned(), text.as_bytes().to_vec())]);
        let mut report = Report::default();
        let lines = read(&files, "k", None, &mut report).lines;
        let nodes = blocks(lines, &mut report);
        (shown(&nodes), report.render())
    }

    fn shown(nodes: &[Node]) -> String {
        let one = |node: &Node| {
            let words: Vec<&str> = node.words.iter().map(|word| word.text.as_str()).collect();
            let block = node.block.as_ref().map(|block| format!("({})", shown(block)));
            format!("{}{}", words.join(" "), block.unwrap_or_default())
        };
        nodes.iter().map(one).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn a_block_is_one_wherever_its_braces_stand() {
        let wanted = "a 1(b; c(d 2))";
        for text in [
            "a 1 {\n b\n c {\n  d 2\n }\n}\n",
            "a 1\n{\n b\n c\n\n {\n d 2 } }",
            "a 1{\nb\nc{ d 2 }}\n",
            "a 1 { b\n c { d 2\n}\n}",
        ] {
            assert_eq!(of(text), (wanted.to_owned(), String::new()), "{text}");
        }
        let inline = "real_server 10.0.0.1 80 { weight 1 TCP_CHECK { connect_timeout 3 } }";
        assert_eq!(of(inline).0, "real_server 10.0.0.1 80(weight 1; TCP_CHECK(connect_timeout 3))");
    }

    #[test]
    fn braces_that_do_not_match_are_told_and_read_as_keepalived_does() {
        let (nodes, said) = of("a {\n b\n}\n}\nc {\n d\n");
        assert_eq!(nodes, "a(b); c(d)");
        assert!(said.contains("warning: k:4: }: it closes nothing"), "{said}");
        assert!(said.contains("warning: k:5: c: its block is never closed"), "{said}");
        let (nodes, said) = of("{\n a\n}\nb");
        assert_eq!(nodes, "a; b");
        assert!(said.contains("warning: k:1: {: it belongs to no keyword"), "{said}");
    }

    #[test]
    fn blocks_beyond_the_bound_are_an_error() {
        let deep = format!("{}x\n{}y", "a {\n".repeat(1_000), "}\n".repeat(1_000));
        let (nodes, said) = of(&deep);
        assert!(
            nodes.ends_with("; y") && said.starts_with("error: blocks stand too deep"),
            "{said}"
        );
    }
}
