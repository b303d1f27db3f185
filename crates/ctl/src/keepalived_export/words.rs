//! How values stand in keepalived.conf(5): words, the command lines of its scripts, times.

use std::time::Duration;

use crate::shell;

/// A word: bare where nothing in it means something to the parser, else in double quotes. In these `#` and `!` begin
/// no comment; what would end them, or be replaced before they are looked at, is written in octal, which the page
/// gives for quoted strings.
pub(super) fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._/:-,=+%?&*".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("\"{}\"", escaped(text))
}

fn escaped(text: &str) -> String {
    let mut all = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '$' if rest.peek() == Some(&'{') => all.push_str("\\044"),
            '"' | '~' => all.push_str(&octal(c)),
            '\\' => all.push_str("\\\\"),
            c if c.is_ascii_control() => all.push_str(&octal(c)),
            c => all.push(c),
        }
    }
    all
}

fn octal(c: char) -> String {
    format!("\\{:03o}", u32::from(c))
}

/// A program with its arguments, as a script: Keepalived reads the quotes around it, and then takes it apart again,
/// at spaces that are not in single quotes.
pub(super) fn script<'w>(words: impl IntoIterator<Item = &'w str>) -> String {
    let words: Vec<String> = words.into_iter().map(argument).collect();
    format!("\"{}\"", escaped(&words.join(" ")))
}

fn argument(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._/:-,=+%?&@".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    let mut all = String::from("'");
    for c in text.chars() {
        match c {
            '\'' | '\\' => all.push_str(&octal(c)),
            c => all.push(c),
        }
    }
    all.push('\'');
    all
}

/// Several programs, one after the other, as one: a shell starts them.
pub(super) fn one_after_the_other(commands: &[Vec<String>]) -> Vec<String> {
    let lines = commands.iter().map(|words| {
        let words: Vec<String> = words.iter().map(|word| shell::word(word)).collect();
        words.join(" ")
    });
    let line = lines.collect::<Vec<_>>().join("; ");
    ["/bin/sh", "-c", &line].map(str::to_owned).to_vec()
}

/// A time in seconds, with what there is of fractions.
pub(super) fn seconds(time: Duration) -> String {
    let micros = time.subsec_micros();
    if micros == 0 {
        return time.as_secs().to_string();
    }
    let text = format!("{}.{micros:06}", time.as_secs());
    text.trim_end_matches('0').to_owned()
}

/// A time where whole seconds are asked for, never shorter; and whether it is longer than it was.
pub(super) fn whole_seconds(time: Duration) -> (u64, bool) {
    let longer = time.subsec_nanos() > 0;
    ((time.as_secs() + u64::from(longer)).max(1), longer || time.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_in_quotes_where_the_parser_would_see_something_in_it() {
        assert_eq!(word("/health?a=b&c"), "/health?a=b&c");
        assert_eq!(word(""), "\"\"");
        assert_eq!(word("a b#c!d @e $F"), "\"a b#c!d @e $F\"");
        assert_eq!(word(r#"^ok \w+ "x" ${Y} ~SEQ"#), r#""^ok \\w+ \042x\042 \044{Y} \176SEQ""#);
        assert_eq!(word("a\nb"), "\"a\\012b\"");
    }

    #[test]
    fn a_script_is_taken_apart_into_the_words_that_it_was_made_of() {
        // As keepalived -d showed them: '/bin/x' 'a b' 'it's' '\' '' '$Y' '"'.
        let words = ["/bin/x", "a b", "it's", "\\", "", "$Y", "\""];
        let written = r#""/bin/x 'a b' 'it\\047s' '\\134' '' '$Y' '\042'""#;
        assert_eq!(script(words), written);
    }

    #[test]
    fn programs_after_one_another_are_a_line_for_a_shell() {
        let commands = [vec!["/a".to_owned(), "it's".to_owned()], vec!["/b".to_owned()]];
        assert_eq!(one_after_the_other(&commands), ["/bin/sh", "-c", r"/a 'it'\''s'; /b"]);
    }

    #[test]
    fn a_time_keeps_its_fractions_where_it_can() {
        assert_eq!(seconds(Duration::from_millis(6_000)), "6");
        assert_eq!(seconds(Duration::from_millis(50)), "0.05");
        assert_eq!(whole_seconds(Duration::from_millis(250)), (1, true));
        assert_eq!(whole_seconds(Duration::from_secs(3)), (3, false));
    }
}
