//! `quorate apply --only`: the configuration in force, with some groups or services as a file has them.
//!
//! The text is written anew, without comments: what is in force and the file may even be written in different
//! ways. Whether the whole is right is found out as for any other text.

use quorate_model::spec::Format;
use serde_json::{Map, Value};

use super::configuration::{Candidate, InForce, format_of, read_text};
use crate::cli::Part;
use crate::exit::{Exit, Failure};

/// What is in force, with these parts from a file.
pub(super) fn candidate(
    file: &str,
    parts: &[Part],
    in_force: &InForce,
) -> Result<Candidate, Failure> {
    let source = read_text(file)?;
    let shown = if file == "-" { "<stdin>" } else { file };
    let format = format_of(file, &source);
    let given = table(shown, &source, format)?;
    let mut whole = table("the configuration in force", &in_force.source, in_force.format)?;
    for part in parts {
        replace(&mut whole, &given, part).map_err(|what| {
            Failure::new(Exit::Failed, what).hint(
                "nothing was applied: name what the file has; to delete something, apply all without it",
            )
        })?;
    }
    let format = if in_force.revision == 0 { format } else { in_force.format };
    Candidate::of(text(&whole, format)?, format)
}

/// Has a part be as it is given. One that the file does not have is not deleted: a misspelled table would be
/// enough to take a VIP down.
fn replace(
    whole: &mut Map<String, Value>,
    given: &Map<String, Value>,
    part: &Part,
) -> Result<(), String> {
    let Part { kind, name } = part;
    let found = given.get(*kind).and_then(|all| all.get(name));
    if let Some(found) = found {
        let all = whole.entry(*kind).or_insert_with(|| Value::Object(Map::new()));
        let all = all.as_object_mut().ok_or_else(|| format!("{kind} in force is no table"))?;
        all.insert(name.clone(), found.clone());
        return Ok(());
    }
    Err(format!("the file has no {kind} {name}"))
}

fn table(shown: &str, source: &str, format: Format) -> Result<Map<String, Value>, Failure> {
    let wrong = |error: &dyn std::fmt::Display| {
        Failure::new(Exit::Failed, format!("{shown} can't be read: {error}"))
            .hint("nothing was applied: correct it")
    };
    match format {
        Format::Json if source.trim().is_empty() => Ok(Map::new()),
        Format::Json => serde_json::from_str(source).map_err(|error| wrong(&error)),
        Format::Toml => {
            let table: toml::Table =
                source.parse().map_err(|error: toml::de::Error| wrong(&error))?;
            match serde_json::to_value(table) {
                Ok(Value::Object(table)) => Ok(table),
                Ok(_) => Err(wrong(&"it is no table")),
                Err(error) => Err(wrong(&error)),
            }
        }
    }
}

fn text(whole: &Map<String, Value>, format: Format) -> Result<String, Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(Exit::Failed, format!("what would be in force can't be written: {error}"))
    };
    match format {
        Format::Toml => toml::to_string(whole).map_err(|error| failed(&error)),
        Format::Json => serde_json::to_string_pretty(whole).map_err(|error| failed(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IN_FORCE: &str = "# said once\n[cluster]\nsync_warmup = \"7s\"\n[group.web]\ninterface = \"a\"\n\
                            addresses = [\"192.0.2.1\"]\n[group.db]\ninterface = \"a\"\naddresses = \
                            [\"192.0.2.2\"]\n";

    fn merged(
        given: &str,
        format: Format,
        parts: &[(&'static str, &str)],
    ) -> Result<String, String> {
        let given = table("given", given, format).map_err(|error| error.to_string())?;
        let mut whole =
            table("whole", IN_FORCE, Format::Toml).map_err(|error| error.to_string())?;
        for (kind, name) in parts {
            replace(&mut whole, &given, &Part { kind, name: (*name).to_owned() })?;
        }
        text(&whole, Format::Toml).map_err(|error| error.to_string())
    }

    #[test]
    fn only_what_is_named_is_taken_and_all_else_stays() {
        let given = "[cluster]\nsync_warmup = \"9s\"\n[group.web]\ninterface = \"b\"\naddresses = \
                     [\"192.0.2.1\"]\n[group.db]\ninterface = \"b\"\naddresses = [\"192.0.2.2\"]\n";
        let text = merged(given, Format::Toml, &[("group", "web")]).unwrap();
        let expected = IN_FORCE.replacen("\"a\"", "\"b\"", 1);
        assert_eq!(text.parse::<toml::Table>(), expected.parse::<toml::Table>());
        let json = r#"{ "group": { "web": { "interface": "b", "addresses": ["192.0.2.1"] } } }"#;
        assert_eq!(merged(json, Format::Json, &[("group", "web")]).unwrap(), text);
    }

    #[test]
    fn what_the_file_does_not_have_is_refused_and_not_deleted() {
        for given in ["", "[groups.db]\ninterface = \"a\"\naddresses = [\"192.0.2.2\"]\n", "x = 1"]
        {
            let refused = merged(given, Format::Toml, &[("group", "db")]).unwrap_err();
            assert_eq!(refused, "the file has no group db");
        }
        assert!(merged("", Format::Toml, &[("service", "nobody")]).is_err());
    }
}
