//! The JSON Schema: it has every key of the parser, and takes whatever the parser takes. `wrong_with` is a
//! validator of what the schema uses of JSON Schema, and knows no more: a keyword that it does not know
//! is wrong.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::*;

const PAGE: &str = include_str!("../../../../../../docs/reference/configuration.md");

/// What the schema finds wrong with a document in TOML.
pub(super) fn wrong_with(source: &str) -> Vec<String> {
    let value: toml::Value = toml::from_str(source).expect("TOML");
    let value = serde_json::to_value(value).expect("JSON has all that the parser takes");
    let schema = json_schema("");
    let mut found = Vec::new();
    validate(&schema, &schema, &value, "", &mut found);
    found
}

fn validate(root: &Value, form: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    let form = form.as_object().expect("a form is a table");
    for (keyword, rule) in form {
        let fits = match keyword.as_str() {
            "$schema" | "title" | "$defs" | "description" | "default" => true,
            "$ref" => {
                let name = rule.as_str().and_then(|rule| rule.strip_prefix("#/$defs/"));
                let form = name.and_then(|name| root["$defs"].get(name));
                validate(root, form.expect("it is defined"), value, at, found);
                true
            }
            "type" => rule.as_str() == Some(kind(value)),
            "enum" => rule.as_array().expect("a list").contains(value),
            "pattern" => value.as_str().is_none_or(|text| {
                let pattern = regex::Regex::new(rule.as_str().expect("text")).expect("a pattern");
                pattern.is_match(text)
            }),
            "minimum" => value.as_i64().is_none_or(|number| number >= rule.as_i64().expect("one")),
            "maximum" => value.as_i64().is_none_or(|number| number <= rule.as_i64().expect("one")),
            "minItems" => {
                value.as_array().is_none_or(|v| v.len() as u64 >= rule.as_u64().expect("one"))
            }
            "maxItems" => {
                value.as_array().is_none_or(|v| v.len() as u64 <= rule.as_u64().expect("one"))
            }
            "anyOf" => rule.as_array().expect("a list").iter().any(|form| {
                let mut inner = Vec::new();
                validate(root, form, value, at, &mut inner);
                inner.is_empty()
            }),
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    validate(root, rule, item, &format!("{at}[{index}]"), found);
                }
                true
            }
            "required" => value.as_object().is_none_or(|value| {
                let mut keys = rule.as_array().expect("a list").iter().filter_map(Value::as_str);
                keys.all(|key| value.contains_key(key))
            }),
            "properties" | "additionalProperties" | "propertyNames" => {
                members(root, form, (keyword, rule), value, at, found)
            }
            _ => false,
        };
        if !fits {
            found.push(format!("{at}: {keyword} {rule} refuses {value}"));
        }
    }
}

fn members(
    root: &Value,
    form: &Map<String, Value>,
    (keyword, rule): (&str, &Value),
    value: &Value,
    at: &str,
    found: &mut Vec<String>,
) -> bool {
    let known = |key: &str| form.get("properties").is_some_and(|known| known.get(key).is_some());
    let mut fits = true;
    for (key, member) in value.as_object().into_iter().flatten() {
        let at = format!("{at}.{key}");
        match keyword {
            "propertyNames" => validate(root, rule, &json!(key), &at, found),
            "properties" if known(key) => validate(root, &rule[key], member, &at, found),
            "additionalProperties" if !known(key) && rule.is_object() => {
                validate(root, rule, member, &at, found);
            }
            "additionalProperties" if !known(key) => fits = false,
            _ => {}
        }
    }
    fits
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_i64() || number.is_u64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[test]
fn every_key_of_the_parser_has_a_form_its_default_and_the_words_of_the_page() {
    let schema = json_schema(PAGE);
    for table in keys::TABLES {
        let name = table.title.trim_matches(['[', ']']).trim_end_matches(".NAME").replace(' ', "_");
        let form =
            if table.title == keys::TABLES[0].title { &schema } else { &schema["$defs"][&name] };
        let properties = form["properties"].as_object().expect("properties");
        let names: BTreeSet<&str> = properties.keys().map(String::as_str).collect();
        let known: BTreeSet<&str> = table.keys.iter().map(|key| key.name).collect();
        assert_eq!(names, known, "{}", table.title);
        for key in table.keys {
            let property = properties[key.name].as_object().expect("a table");
            let says = |keyword: &str| property.contains_key(keyword);
            assert!(says("description"), "{}: {}", table.title, key.name);
            let typed = ["type", "enum", "anyOf", "$ref"].into_iter().any(says);
            assert!(typed, "{}: {} has no form", table.title, key.name);
            assert!(property.get("default") != Some(&Value::Null), "{}", key.name);
        }
    }
}

/// The page names each word that the schema offers, in the row of its key.
#[test]
fn every_word_of_the_schema_stands_on_the_page() {
    fn words(form: &Value, found: &mut Vec<String>) {
        match form {
            Value::Object(form) => {
                let listed = form.get("enum").and_then(Value::as_array).into_iter().flatten();
                found.extend(listed.filter_map(Value::as_str).map(str::to_owned));
                form.values().for_each(|form| words(form, found));
            }
            Value::Array(items) => items.iter().for_each(|item| words(item, found)),
            _ => {}
        }
    }
    let schema = json_schema(PAGE);
    let mut checked = 0;
    for definition in schema["$defs"].as_object().expect("definitions").values() {
        for (key, form) in definition["properties"].as_object().into_iter().flatten() {
            let said = form["description"].as_str().expect("text");
            let mut offered = Vec::new();
            words(form, &mut offered);
            for word in offered {
                let there = [format!("`\"{word}\"`"), format!("`{word}`")];
                assert!(there.iter().any(|word| said.contains(word)), "{key}: {word} in {said}");
                checked += 1;
            }
        }
    }
    assert!(checked > 80, "{checked}");
}

#[test]
fn what_the_parser_refuses_by_form_the_schema_refuses_too() {
    let wrong = [
        with_service("wieght = 1\nreal_servers = []"),
        with_service("scheduler = \"fair\"\nreal_servers = []"),
        with_service("real_servers = [{ weight = 1 }]"),
        with_service("real_servers = [{ address = \"192.0.2.16\", weight = 65536 }]"),
        with_service("check = { type = \"tcp\", interval = \"6\" }\nreal_servers = []"),
        with_service("persistence = 50\nreal_servers = []"),
        "group.\"a b\" = { interface = \"public\", addresses = [\"192.0.2.80\"] }".to_owned(),
        "group.web = { interface = \"public\", addresses = [] }".to_owned(),
    ];
    for source in wrong {
        assert!(parse(&source, Format::Toml).is_err(), "{source}");
        assert!(!wrong_with(&source).is_empty(), "{source}");
    }
}

#[test]
fn what_nothing_uses_is_a_warning() {
    let source = with_service("check = [\"page\"]\nreal_servers = []")
        + "[check.page]\ntype = \"tcp\"\n[check.old]\ntype = \"ping\"\n\
           [pool.spare]\nservers = []\n[track.vpn]\ntype = \"process\"\nname = \"vpn\"\n";
    let (spec, found) = examine(&source, Format::Toml);
    assert!(spec.is_some());
    let said = found.render("web.toml", &source);
    assert_eq!(found.iter().count(), 3, "{said}");
    assert!(said.starts_with("warning: no service uses this check\n"), "{said}");
    assert!(said.contains("--> web.toml:9:8 (check.old)"), "{said}");
    assert!(
        said.contains("no service uses this pool") && said.contains("no group uses this track")
    );
    let (_, none) = examine(EXAMPLE, Format::Toml);
    assert!(none.is_empty(), "{none}");
    let (spec, wrong) = examine(&source.replace("\"ping\"", "\"pong\""), Format::Toml);
    assert!(spec.is_none() && wrong.iter().count() == 1, "only what is wrong: {wrong}");
}
