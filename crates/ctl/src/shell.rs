//! Words for a shell. Pure.

/// A word as a shell takes it for itself.
#[must_use]
pub(crate) fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:=@%+,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_shell_would_heed_stands_in_quotes() {
        assert_eq!(word("/bin/a-b:c=d@e%+,"), "/bin/a-b:c=d@e%+,");
        assert_eq!([word(""), word("a b"), word("$x")], ["''", "'a b'", "'$x'"]);
        assert_eq!(word("it's"), r"'it'\''s'");
    }
}
