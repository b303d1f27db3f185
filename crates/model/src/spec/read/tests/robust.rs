//! Whatever the text: no panic, no endless work, a bounded number of errors.

use super::super::*;
use super::{EXAMPLE, with_service};
use crate::spec::document::{DIAGNOSTICS_MAX, DOCUMENT_BYTES_MAX};

/// Reads and, if it is refused, renders: both have to survive any text.
fn survives(source: &str) {
    for format in [Format::Toml, Format::Json] {
        if let Err(wrong) = parse(source, format) {
            let text = wrong.render("cluster", source);
            assert!(wrong.iter().count() <= DIAGNOSTICS_MAX);
            assert!(text.starts_with("error: "), "{text}");
            for diagnostic in &wrong {
                assert_eq!(diagnostic.span.is_some(), diagnostic.position.is_some());
            }
        }
    }
}

const JSON: &str = r#"{"cluster":{"timing":{"lease":"1s","renew":"100ms"}},"group":{"web":
{"interface":"public","addresses":["192.0.2.80",{"address":"2001:db8::1/64"}],"only":["a"]}},
"service":{"web":{"group":"web","listen":["tcp/192.0.2.80:80"],"persistence":{"timeout":"50s",
"netmask":"255.255.255.0"},"check":"c","pool":"p"}},"check":{"c":{"type":"tcp","retry":-1}},
"pool":{"p":{"servers":[{"address":"192.0.2.16:80","weight":1e3}]}}}"#;

#[test]
fn every_truncation_is_survived() {
    for source in [EXAMPLE, JSON] {
        for end in (0..=source.len()).filter(|&end| source.is_char_boundary(end)) {
            survives(&source[..end]);
        }
    }
}

#[test]
fn mutations_are_survived() {
    // A fixed sequence (xorshift64), so that a failure comes back.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % (below.max(1) as u64)).unwrap_or(0)
    };
    let pieces = [
        "[",
        "]",
        "{",
        "}",
        "\"",
        "'",
        "=",
        ",",
        ".",
        "\n",
        "#",
        "\"\"\"",
        "[[",
        "]]",
        "-1",
        "1e9",
        "99999999999999999999999999999999999999999",
        "2024-01-01",
        "é",
        "\u{202e}",
        "\t",
        "\r",
        "\0",
        "true",
        "null",
        "[service.web]",
        "group.web.x = 1",
        "/",
        ":",
        "::1",
        "0x1f",
        "inf",
    ];
    for round in 0..4_000 {
        let mut bytes: Vec<u8> = if round % 2 == 0 { EXAMPLE } else { JSON }.into();
        for _ in 0..=next(4) {
            let at = next(bytes.len());
            match next(4) {
                0 => {
                    let piece = pieces[next(pieces.len())];
                    bytes.splice(at..at, piece.bytes());
                }
                1 => {
                    let end = (at + next(40)).min(bytes.len());
                    bytes.drain(at..end);
                }
                2 => {
                    let end = (at + next(60)).min(bytes.len());
                    let copy = bytes[at..end].to_vec();
                    let to = next(bytes.len());
                    bytes.splice(to..to, copy);
                }
                _ => {
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= 1 << next(8);
                    }
                }
            }
        }
        survives(&String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn errors_are_counted_past_a_hundred() {
    use std::fmt::Write as _;
    let mut source = String::new();
    for number in 0..250 {
        let _ = writeln!(source, "key{number} = 1");
    }
    let wrong = parse(&source, Format::Toml).expect_err("unknown keys");
    assert_eq!((wrong.iter().count(), wrong.more()), (100, 150));
    assert!(wrong.render("c", &source).ends_with("\n\nand 150 more\n"));
}

#[test]
fn a_document_has_bounds() {
    let long = "#".repeat(DOCUMENT_BYTES_MAX + 1);
    let wrong = parse(&long, Format::Toml).expect_err("too long");
    assert_eq!(wrong.to_string(), "the document has 10485761 bytes, at most 10485760 are read");

    for (open, format) in [("[", Format::Json), ("a=[", Format::Toml), ("a={b=", Format::Toml)] {
        let deep = open.repeat(100_000);
        assert!(parse(&deep, format).is_err(), "{open}");
    }
    let many = format!("[{}0]", "0,".repeat(1_000_001));
    let wrong = parse(&many, Format::Json).expect_err("too many values");
    assert!(wrong.to_string().contains("the document has more than 1000000 values"), "{wrong}");
}

#[test]
fn long_lines_and_many_syntax_errors_take_no_quadratic_time() {
    // Each is a second at most even unoptimised; quadratic, it would be hours.
    for piece in ["]", "\"", "=", "a=1 ", "\n]", "[a\n", "a.b=[1,\n"] {
        survives(&piece.repeat(200_000 / piece.len()));
    }
}

#[test]
fn a_pool_named_by_many_services_is_bounded_before_it_is_copied() {
    use std::fmt::Write as _;
    let mut source = String::from(
        "group.web = { interface = \"x\", addresses = [\"192.0.2.80\"] }\n[pool.p]\nservers = [\n",
    );
    for number in 0..20_000 {
        let _ = writeln!(source, "{{ address = \"10.0.{}.{}\" }},", number / 250, number % 250 + 1);
    }
    source.push_str("]\n");
    for port in 1..=6 {
        let _ = writeln!(
            source,
            "[service.s{port}]\ngroup = \"web\"\nlisten = \"tcp/192.0.2.80:{port}\"\npool = \"p\""
        );
    }
    let wrong = parse(&source, Format::Toml).expect_err("120,000 entries");
    assert_eq!(wrong.iter().count(), 1, "{wrong}");
    assert!(wrong.to_string().contains("more than 100000 real servers in all services"), "{wrong}");
    let five = source.replace("[service.s6]", "[service.s5.x]");
    assert!(!parse(&five, Format::Toml).expect_err("s5.x").to_string().contains("more than"));
    let right = with_service("real_servers = []");
    assert!(parse(&right, Format::Toml).is_ok());
}

#[test]
fn a_large_document_tells_its_first_syntax_error() {
    let comments = "# x\n".repeat(300_000);
    let wrong = parse(&format!("{comments}a = \nb = \n"), Format::Toml).expect_err("no values");
    let first = "300001:5: string values must be quoted, expected literal string";
    assert_eq!(wrong.to_string(), first);
    assert!(parse(&comments, Format::Toml).is_ok());
}
