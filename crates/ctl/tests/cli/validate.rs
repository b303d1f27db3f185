//! `validate`: it asks no node.

use super::run::{file, quorate, with_input};

const EXAMPLE: &str = include_str!("../../../../examples/web.toml");
const SCHEMA: &str = include_str!("../../../../docs/reference/quorate.schema.json");

/// Two errors, far from each other.
fn wrong() -> String {
    EXAMPLE.replace("scheduler = \"rr\"", "scheduler = \"fair\"").replace(
        "{ address = \"192.168.10.16:80\" }",
        "{ address = \"192.168.10.16:80\", wieght = 5 }",
    )
}

#[test]
fn every_error_of_every_file_is_shown_with_its_line_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let good = file(folder.path(), "good.toml", EXAMPLE);
    let bad = file(folder.path(), "bad.toml", &wrong());
    let json = file(folder.path(), "bad.json", "{ \"group\": [] }");
    let ran = quorate(&["validate", &good, &bad, &json, "/nowhere/x.toml"]).ends(1);
    assert_eq!(
        ran.stdout,
        format!(
            "{good}: right; groups 1, services 1, real servers 2\n{bad}: WRONG\n{json}: WRONG\n\
             /nowhere/x.toml: WRONG\n"
        )
    );
    for part in [
        "error: unknown scheduler \"fair\"",
        "^^^^^^",
        "wieght = 5",
        "= help: did you mean \"weight\"?",
        "bad.json (group)",
        "cannot read /nowhere/x.toml",
    ] {
        assert!(ran.stderr.contains(part), "{part}: {ran:#?}");
    }
    quorate(&["validate", &good]).ends(0);
    quorate(&["validate"]).ends(2);
    quorate(&["validate", "-", "-"]).ends(2);
}

#[test]
fn json_lists_each_error_with_its_place_and_warnings_too() {
    let folder = tempfile::tempdir().unwrap();
    let bad = file(folder.path(), "bad.toml", &wrong());
    let ran = quorate(&["validate", "-o", "json", &bad]).ends(1);
    assert_eq!(ran.stderr, "");
    let json = ran.json();
    assert_eq!(json["valid"], false);
    let found = json["diagnostics"].as_array().unwrap();
    assert_eq!(found.len(), 2, "{found:#?}");
    let second = &found[1];
    assert_eq!(second["field"], "service.web.real_servers[0].wieght");
    let line = 1 + wrong().lines().position(|line| line.contains("wieght")).unwrap();
    assert_eq!(second["line"], line);
    assert_eq!(second["hint"], "did you mean \"weight\"?");
    assert_eq!((&found[0]["file"], &found[0]["severity"]), (&bad.into(), &"error".into()));

    let unused = format!("{EXAMPLE}\n[check.old]\ntype = \"tcp\"\n");
    let ran = with_input(&["validate", "-", "-o", "json"], &[], &unused).ends(0);
    let json = ran.json();
    assert_eq!((json["valid"].as_bool(), json["more"].as_u64()), (Some(true), Some(0)));
    assert_eq!(json["diagnostics"][0]["severity"], "warning");
    assert_eq!(json["diagnostics"][0]["file"], "<stdin>");
}

#[test]
fn the_published_schema_is_the_one_that_the_program_prints() {
    let ran = quorate(&["validate", "--schema"]).ends(0);
    assert!(
        ran.stdout == SCHEMA,
        "run: cargo run -p quorate-ctl -- validate --schema > docs/reference/quorate.schema.json"
    );
    let schema: serde_json::Value = serde_json::from_str(SCHEMA).unwrap();
    assert!(schema["$defs"]["check"]["properties"]["interval"]["description"].is_string());
}
