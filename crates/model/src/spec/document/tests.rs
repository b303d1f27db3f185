//! Reading a tree and showing what is wrong with it.

use std::time::Duration;

use super::*;

const KEYS: TableKeys = TableKeys {
    title: "test",
    keys: &[Key::required("name"), Key::with_default("weight", "1"), Key::optional("delay")],
    foreign: &[("delay_loop", "delay")],
    later: &["quorum"],
};

/// Reads the three keys of a test document.
fn read(source: &str, format: Format) -> Result<(String, u32, Option<Duration>), Diagnostics> {
    let mut out = Diagnostics::new();
    let read = |tree: &Value, out: &mut Diagnostics| {
        let table = Field::root(tree).table(&KEYS, out)?;
        let name = table.require("name", out).and_then(|f| f.text("a name", out));
        let weight =
            table.get("weight").map_or(Some(1), |f| f.integer("the weight", 0..=100_u32, out));
        let limits = Duration::from_millis(1)..=Duration::from_secs(60);
        let delay = match table.get("delay") {
            Some(field) => field.duration("the delay", limits, out).map(Some),
            None => Some(None),
        };
        Some((name?.to_owned(), weight?, delay?))
    };
    let value = parse(source, format, &mut out).and_then(|tree| read(&tree, &mut out));
    out.finish(source, value)
}

fn shown(source: &str) -> String {
    read(source, Format::Toml).expect_err("an error").render("test.toml", source)
}

#[test]
fn both_notations_read_alike() {
    let expected = ("a".to_owned(), 5, Some(Duration::from_millis(1500)));
    let toml = "name = \"a\"\nweight = 5\ndelay = \"1.5s\"\n";
    assert_eq!(read(toml, Format::Toml), Ok(expected.clone()));
    let json = r#"{ "name": "a", "weight": 5, "delay": "1.5s" }"#;
    assert_eq!(read(json, Format::Json), Ok(expected));
}

#[test]
fn every_error_is_shown_at_once_with_its_line() {
    let expected = r#"error: unknown key "wieght"
 --> test.toml:2:1 (wieght)
  |
2 | wieght = 5
  | ^^^^^^
  = help: did you mean "weight"?

error: the delay is 1ms to 1m0s, not 2m
 --> test.toml:3:11 (delay)
  |
3 |   delay = "2m" # too long
  |           ^^^^

error: unknown key "delay_loop"
 --> test.toml:4:1 (delay_loop)
  |
4 | delay_loop = 6
  | ^^^^^^^^^^
  = help: write delay instead

error: this version of Quorate does not have "quorum" yet
 --> test.toml:5:1 (quorum)
  |
5 | quorum = 1
  | ^^^^^^
  = help: leave it out

error: unknown key "a b"
 --> test.toml:6:1 ("a b")
  |
6 | "a b" = 1
  | ^^^^^
  = help: test takes: name, weight, delay
"#
    .replace("1m0s", "60s");
    let source = "name = \"a\"\nwieght = 5\n  delay = \"2m\" # too long\ndelay_loop = 6\n\
                  quorum = 1\n\"a b\" = 1\n";
    assert_eq!(shown(source), expected);
}

#[test]
fn a_syntax_error_hides_what_may_only_follow_from_it() {
    // The name is not "missing", and line 1 is not looked at twice; line 3 is a mistake of its own.
    let expected = r#"error: string values must be quoted, expected literal string
 --> test.toml:1:8
  |
1 | name = lb1
  |        ^^^

error: an integer is expected here, not true or false
 --> test.toml:3:10 (weight)
  |
3 | weight = true
  |          ^^^^
"#;
    assert_eq!(shown("name = lb1\n\nweight = true\n"), expected);
}

#[test]
fn json_names_the_field_where_it_has_no_line() {
    let source = "{ \"name\": 5, \"weight\": \"7\", \"weight\": 101 }";
    let wrong = read(source, Format::Json).expect_err("an error");
    let expected = "error: duplicate key\n --> test.json (weight)\n\n\
                    error: a name is expected here, not an integer\n --> test.json (name)\n \
                    = help: put it in quotes: \"5\"\n\n\
                    error: an integer is expected here, not a string\n --> test.json (weight)\n \
                    = help: leave out the quotes: 7\n";
    let shown = wrong.render("test.json", source).replace("  = help", " = help");
    assert_eq!(shown, expected);
    let broken = "{\n  \"name\": lb1 }";
    let wrong = read(broken, Format::Json).expect_err("an error");
    assert_eq!(
        wrong.iter().next().and_then(|d| d.position),
        Some(Position { line: 2, column: 11 })
    );
}

#[test]
fn a_column_counts_characters_and_a_long_line_is_shortened() {
    let wide = "\"\u{e9}\u{e9}\" = 1";
    let wrong = read(&format!("name = \"a\"\nweight = 1 # \u{e9}\n{wide}\n"), Format::Toml);
    assert!(wrong.expect_err("unknown key").to_string().starts_with("3:1: "));

    let source = format!("name = \"{}\"\nweight = [{}true]\n", "a", "1, ".repeat(100));
    let text = shown(&source);
    assert!(text.lines().all(|line| line.chars().count() < 140), "{text}");
    let nested = format!("name = {{ x = \"{}\", y = 1 }}", "\u{e9}".repeat(300));
    assert!(shown(&nested).contains("test.toml:1:8 (name)"), "{}", shown(&nested));
}

#[test]
fn an_excerpt_cant_control_the_terminal() {
    let text = shown("name = \"a\"\n\"\\u001b[31m\u{202e}x\" = 1\n");
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    assert!(!text.contains('\u{202e}'), "{text:?}");
}

#[test]
fn a_duration_has_a_number_and_a_unit() {
    let ms = Duration::from_millis;
    for (text, value) in [
        ("50s", ms(50_000)),
        ("500ms", ms(500)),
        ("1m", ms(60_000)),
        ("1.5s", ms(1500)),
        ("1h", ms(3_600_000)),
        ("0s", ms(0)),
        ("0.25m", ms(15_000)),
    ] {
        assert_eq!(duration(text), Ok(value), "{text}");
        assert_eq!(duration(&duration_text(value)), Ok(value), "{text}");
    }
    for bad in ["", "s", "-1s", "1 s", "1.s", ".5s", "1.2.3s", "1d", "1us", "1m30s", "1e3s", "٣s"]
    {
        assert_eq!(duration(bad), Err(DurationError::Form), "{bad}");
    }
    assert_eq!(duration("5"), Err(DurationError::Unit("5".to_owned())));
    for bad in ["0.0000000001s", "99999999999999999999h", "0.1234567ms"] {
        assert_eq!(duration(bad), Err(DurationError::Range), "{bad}");
    }
    for (value, text) in
        [(ms(1), "1ms"), (ms(90_000), "90s"), (ms(120_000), "2m"), (ms(1_250), "1.25s")]
    {
        assert_eq!(duration_text(value), text);
    }
    assert_eq!(duration_text(Duration::from_micros(250)), "0.25ms");
}

#[test]
fn the_nearest_word_is_near() {
    let words = ["rr", "wrr", "lc", "wlc", "sh"];
    assert_eq!(nearest("rrr", words), Some("rr"));
    assert_eq!(nearest("WLC", words), Some("wlc"));
    assert_eq!(nearest("rw", words), Some("rr"));
    assert_eq!(nearest("xy", words), None);
    assert_eq!(nearest("", words), None);
    assert_eq!(nearest("shceduler", ["schedule", "scheduler"]), Some("scheduler"));
    assert_eq!(nearest(&"s".repeat(5_000), ["scheduler"]), None);
}
