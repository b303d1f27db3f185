//! Names as the configuration takes them.

use std::collections::BTreeSet;

/// Longest name.
const NAME_BYTES_MAX: usize = 63;

/// The nearest that is a name: letters, digits, and inside also `-`, `_` and `.`.
#[must_use]
pub(super) fn name_of(text: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let name: String = text.chars().map(|c| if fits(c) { c } else { '-' }).take(200).collect();
    let edge = |c: char| !c.is_ascii_alphanumeric();
    let name = name.trim_matches(edge);
    let name = name.get(..NAME_BYTES_MAX).unwrap_or(name).trim_end_matches(edge);
    if name.is_empty() { "x".to_owned() } else { name.to_owned() }
}

/// Names that are given already.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeSet<String>);

impl Names {
    /// A name like the text that no other has.
    pub(super) fn take(&mut self, text: &str) -> String {
        let name = name_of(text);
        if self.0.insert(name.clone()) {
            return name;
        }
        for number in 2_u32.. {
            let end = format!("-{number}");
            let room = NAME_BYTES_MAX.saturating_sub(end.len());
            let start = name.get(..room).unwrap_or(&name);
            let name = format!("{start}{end}");
            if self.0.insert(name.clone()) {
                return name;
            }
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_that_the_configuration_takes() {
        for (text, name) in [
            ("VI_1", "VI_1"),
            ("eth0:1", "eth0-1"),
            ("-x-", "x"),
            ("ü", "x"),
            ("a b", "a-b"),
            ("", "x"),
        ] {
            assert_eq!(name_of(text), name, "{text:?}");
        }
        assert_eq!(name_of(&"a".repeat(300)).len(), 63);
    }

    #[test]
    fn the_same_name_is_given_once() {
        let mut names = Names::default();
        assert_eq!([names.take("a"), names.take("a"), names.take("a")], ["a", "a-2", "a-3"]);
        let long = "b".repeat(63);
        assert_eq!(names.take(&long), long);
        assert!(names.take(&long).ends_with("b-2"));
    }
}
