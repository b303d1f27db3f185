//! Each thing that the reader knows, and each bound.

use std::collections::BTreeMap;

use super::super::report::Report;
use super::*;

fn files(files: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
    files.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect()
}

/// The words of each line, with what there is to say.
fn of(tree: &BTreeMap<String, Vec<u8>>, id: Option<&str>) -> (Vec<String>, String) {
    let mut report = Report::default();
    let lines = read(tree, "/e/k.conf", id, &mut report);
    let shown = lines.lines.iter().map(|line| {
        let words: Vec<String> = line
            .tokens
            .iter()
            .map(|token| match token {
                Token::Word(word) => word.text.clone(),
                Token::Open(_) => "{".to_owned(),
                Token::Close(_) => "}".to_owned(),
            })
            .collect();
        words.join("|")
    });
    (shown.collect(), report.render())
}

fn text(text: &str) -> Vec<String> {
    let (lines, said) = of(&files(&[("/e/k.conf", text)]), None);
    assert_eq!(said, "", "{text}");
    lines
}

#[test]
fn comments_end_lines_but_not_in_quotes() {
    let lines = text("! one\na b # c\nd!e\n\"f # g\" 'h ! i'\n\\#j\n");
    assert_eq!(lines, ["a|b", "d", "f # g|h ! i", "#j"]);
}

#[test]
fn quotes_join_words_and_escapes_are_those_of_the_page() {
    let lines = text("abcd\" efg h \"mnop \"a 'b' \\\"c\\\"\"\n\"\\x41\\102\\t\\\\\\q\"\n\"\" x\n");
    assert_eq!(lines, ["abcd efg h mnop|a 'b' \"c\"", "AB\t\\q", "|x"]);
}

#[test]
fn braces_are_words_of_their_own_where_they_open_or_close_a_block() {
    let lines = text("a 80{\nb {c}\nd }\n^[0-9]{3}$ ${NONE} x{y}\n");
    assert_eq!(lines, ["a|80|{", "b|{|c|}", "d|}", "^[0-9]{3}$|${NONE}|x{y}"]);
}

#[test]
fn line_ends_and_marks_of_other_systems_are_read() {
    assert_eq!(text("\u{feff}a\r\n\tb\r\nc"), ["a", "b", "c"]);
    assert_eq!(text(""), Vec::<String>::new());
    let tree: BTreeMap<String, Vec<u8>> = [("/e/k.conf".to_owned(), b"a \xff\n".to_vec())].into();
    let (lines, said) = of(&tree, None);
    assert_eq!(lines, ["a|\u{fffd}"]);
    assert!(said.starts_with("warning: /e/k.conf:1: bytes that are no UTF-8"), "{said}");
}

#[test]
fn definitions_are_replaced_when_they_are_used() {
    let lines = text(
        "$BASE=10.2.${SUB}\n$SUB=0\n${BASE}.100/32\n$SUB=10\n${BASE}.100/32\n$SUB x$SUB $SUBX $\n$E=\nz $E\n",
    );
    assert_eq!(lines, ["10.2.0.100/32", "10.2.10.100/32", "10|x10|$SUBX|$", "z"]);
}

#[test]
fn definitions_have_several_lines_and_stand_in_each_other() {
    let lines = text(
        "$RS= \\\nreal_server 10.0.${VS}.${N} 80 { \\\n weight 1 \\\n}\n$V= \\\nvirtual_server 10.0.0.${VS} 80 { \\\n \
         $N=1 \\\n $RS \\\n $N=2 \\\n $RS \\\n}\n$VS=7\n$V\n",
    );
    assert_eq!(
        lines,
        [
            "virtual_server|10.0.0.7|80|{",
            "real_server|10.0.7.1|80|{",
            "weight|1",
            "}",
            "real_server|10.0.7.2|80|{",
            "weight|1",
            "}",
            "}"
        ]
    );
}

#[test]
fn a_comment_is_a_line_of_a_definition_too() {
    let lines =
        text("$D= \\\n a \\\n# b { \\\n c # d \\\n e\n$D\n# no definition \\\nf # g \\\nh\n");
    assert_eq!(lines, ["a", "c", "e", "f", "h"]);
}

#[test]
fn conditional_lines_are_for_their_id() {
    let tree = files(&[(
        "/e/k.conf",
        "@main a\n@^main b\n@main $X=1\n@other $X= \\\n 2 \\\n 3\nx $X\n$IF=@main\n$IF c\n",
    )]);
    assert_eq!(of(&tree, Some("main")).0, ["a", "x|1", "c"]);
    assert_eq!(of(&tree, Some("other")).0, ["b", "x|2", "3"]);
    assert_eq!(of(&tree, None).0, ["b", "x|$X"]);
    let mut report = Report::default();
    assert_eq!(read(&tree, "/e/k.conf", None, &mut report).ids, ["main", "other"]);
}

#[test]
fn sequences_and_lists_repeat_their_line() {
    let lines = text(
        "~SEQ(S, 0, 3) a${S}\n~SEQ(D, 3, -1, 1) d${D}\n~SEQ(M, -2) m${M}\n~SEQx(X, 0x90, 0x10, 0xb0) x${X}\n\
         ~LST({I, J}, {1,2},{3,4}) ~SEQ(K, 2) ${I}.${J}.${K}\n~LST(L, p, q) ${L}\n",
    );
    let wanted = "a0 a1 a2 a3 d3 d2 d1 m-1 m-2 x90 xa0 xb0 1.2.1 1.2.2 3.4.1 3.4.2 p q";
    assert_eq!(lines, wanted.split(' ').collect::<Vec<_>>());
}

#[test]
fn a_sequence_makes_blocks_of_a_definition() {
    let lines = text("$B= \\\n i ${A}.${C} { \\\n }\n~SEQ(A,2) ~SEQ(C,2) $B\n");
    assert_eq!(lines, ["i|1.1|{", "}", "i|1.2|{", "}", "i|2.1|{", "}", "i|2.2|{", "}"]);
}

#[test]
fn a_series_that_is_none_says_so() {
    for bad in ["~SEQ(A, 1, 0, 2) x", "~SEQ(A) x", "~SEQ(A, b) x", "~LST({A,B}, 1) x", "~SEQ(A, 1"]
    {
        let (_, said) = of(&files(&[("/e/k.conf", bad)]), None);
        assert!(said.starts_with("error: ") && said.contains("/e/k.conf:1:"), "{bad}: {said}");
    }
}

#[test]
fn files_are_included_from_where_the_file_is() {
    let tree = files(&[
        ("/e/k.conf", "a\ninclude d/*.conf\ninclude /x/y\nb ${_PWD}\n"),
        ("/e/d/2.conf", "two\ninclude 3.inc\n"),
        ("/e/d/1.conf", "one ${_PWD}\n"),
        ("/e/d/3.inc", "three"),
        ("/x/y", "y\n"),
    ]);
    let (lines, said) = of(&tree, None);
    assert_eq!(lines, ["a", "one|/e/d", "two", "three", "y", "b|/e"]);
    assert_eq!(said, "");
}

#[test]
fn a_missing_file_is_an_error_where_the_keyword_says_so() {
    let said = |line: &str| of(&files(&[("/e/k.conf", line)]), None).1;
    assert!(said("include x").starts_with("warning: /e/k.conf:1: include: there is no file \"x\""));
    assert!(
        said("includem x")
            .starts_with("error: include: there is no file \"x\"\n  --> /e/k.conf:1:1")
    );
    assert!(said("includer *.x").starts_with("warning"));
    assert!(said("includew *.x").starts_with("error"));
    assert!(said("includea x").starts_with("error"));
    assert!(said("include_check match\ninclude x").starts_with("error"));
    assert!(
        said("include_check\ninclude_check -match -wildcard_match\ninclude x")
            .starts_with("warning")
    );
}

#[test]
fn what_has_no_end_is_stopped_with_an_error() {
    let many: String = (0..30).map(|n| format!("$A{n}=${{A{0}}}${{A{0}}}\n", n + 1)).collect();
    let deep = format!(
        "{many}$A30=xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n${{A0}}\n"
    );
    for bad in [
        "include k.conf",
        "$A=x${A}\n${A}",
        "$A= \\\n$A \\\n$A\n$A\n",
        "~SEQ(A, 1, 9999999999) ~SEQ(B, 1, 9999999999) x",
        "~SEQ(A, 1, 9999999999)",
        &deep,
        &"x".repeat(LINE_BYTES_MAX + 1),
        "vip {{ address }}",
    ] {
        let (lines, said) = of(&files(&[("/e/k.conf", bad)]), None);
        let start: String = bad.chars().take(60).collect();
        assert!(said.starts_with("error: ") && said.contains("= help: "), "{start}: {said}");
        assert!(lines.len() <= LINES_MAX, "{start}");
    }
}

#[test]
fn a_place_is_that_of_the_word() {
    let mut report = Report::default();
    let tree = files(&[("/e/k.conf", "a\n  bb  ccc { # x\n")]);
    let lines = read(&tree, "/e/k.conf", None, &mut report).lines;
    let columns: Vec<u32> = lines[1]
        .tokens
        .iter()
        .map(|token| match token {
            Token::Word(word) => word.column,
            Token::Open(at) | Token::Close(at) => *at,
        })
        .collect();
    assert_eq!((lines[1].place.line, columns), (2, vec![3, 7, 11]));
}
