//! The tables of a reference page, to compare them with the keys that a parser takes.

use std::collections::BTreeMap;

use super::{Presence, TableKeys};

/// What a page and a parser say differently about keys and defaults, one line each. The page has
/// each table under a heading `### TITLE`, with rows `| key | type | default | meaning |`.
/// `level_two` is the part of the page that is compared: what stands under that `##` heading.
#[must_use]
pub fn page_differences(page: &str, level_two: &str, tables: &[&TableKeys]) -> Vec<String> {
    let stated = stated(page, level_two);
    let mut known = BTreeMap::new();
    for table in tables {
        for key in table.keys {
            let default = match key.presence {
                Presence::Required => "required".to_owned(),
                Presence::Optional => "none".to_owned(),
                Presence::Default(text) => format!("`{text}`"),
            };
            known.insert((table.title.to_owned(), key.name.to_owned()), default);
        }
    }
    let mut differences = Vec::new();
    for (place, default) in &known {
        let (title, key) = place;
        match stated.get(place) {
            None => differences.push(format!("{title}: {key} is not on the page")),
            Some(text) if text != default => {
                differences.push(format!("{title}: {key} has default {default}, not {text}"));
            }
            Some(_) => {}
        }
    }
    for (title, key) in stated.keys().filter(|place| !known.contains_key(*place)) {
        differences.push(format!("{title}: {key} is on the page only"));
    }
    differences
}

/// Defaults by table and key, as the page states them.
fn stated(page: &str, level_two: &str) -> BTreeMap<(String, String), String> {
    let (mut part, mut title) = ("", "");
    let mut keys = BTreeMap::new();
    for line in page.lines() {
        if let Some(text) = line.strip_prefix("## ") {
            (part, title) = (text, "");
        } else if let Some(text) = line.strip_prefix("### ") {
            title = text;
        } else if part == level_two && line.starts_with("| `") {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            if let [key, _, default, _] = cells[..] {
                keys.insert(
                    (title.to_owned(), key.trim_matches('`').to_owned()),
                    default.to_owned(),
                );
            }
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::super::Key;
    use super::*;

    #[test]
    fn each_way_of_differing_is_found() {
        const KEYS: TableKeys = TableKeys {
            title: "[a]",
            keys: &[Key::required("x"), Key::with_default("y", "1"), Key::optional("z")],
            foreign: &[],
            later: &[],
        };
        let right = "## P\n### [a]\n| `x` | t | required | m |\n| `y` | t | `1` | m |\n\
                     | `z` | t | none | m |\n## Q\n### [a]\n| `w` | t | none | m |\n";
        assert_eq!(page_differences(right, "P", &[&KEYS]), Vec::<String>::new());
        let wrong = right.replace("| `1` |", "| `2` |").replace("| `x` |", "| `v` |");
        assert_eq!(
            page_differences(&wrong, "P", &[&KEYS]),
            [
                "[a]: x is not on the page",
                "[a]: y has default `1`, not `2`",
                "[a]: v is on the page only"
            ]
        );
    }
}
