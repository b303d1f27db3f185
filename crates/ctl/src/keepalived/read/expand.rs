//! `$NAME=VALUE` and its use; `~SEQ` and `~LST`.

use super::super::report::Place;

/// Most bytes that one line becomes.
const MADE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Most values of one list.
const VALUES_MAX: usize = 10_000;

/// What a name stands for, if it is defined: one line or several.
type Known<'a> = dyn Fn(&str) -> Option<Vec<String>> + 'a;

fn name_end(text: &str) -> usize {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return 0;
    }
    text.find(|c| !is_part(c)).unwrap_or(text.len())
}

/// The name and value of a line that defines.
pub(super) fn definition(text: &str) -> Option<(&str, &str)> {
    let rest = text.strip_prefix('$')?;
    let end = name_end(rest);
    let value = rest.get(end..)?.strip_prefix('=')?;
    (end > 0).then(|| (&rest[..end], value.trim_end()))
}

/// The line with everything replaced once that it names; nothing if it names nothing that is known. Far more than a
/// line may have becomes one that is too long.
pub(super) fn substitute(text: &str, known: &Known<'_>) -> Option<Vec<String>> {
    let mut lines = vec![String::new()];
    let (mut rest, mut replaced, mut bytes) = (text, false, 0);
    while let Some(at) = rest.find('$') {
        let (before, after) = rest.split_at(at);
        push(&mut lines, before);
        let (value, length) = used(after, known);
        match value {
            Some(value) => {
                replaced = true;
                bytes += value.iter().map(String::len).sum::<usize>();
                if bytes > MADE_BYTES_MAX {
                    return Some(vec!["$".repeat(super::LINE_BYTES_MAX + 1)]);
                }
                for (number, line) in value.iter().enumerate() {
                    if number > 0 {
                        lines.push(String::new());
                    }
                    push(&mut lines, line);
                }
            }
            None => push(&mut lines, after.get(..length).unwrap_or("$")),
        }
        rest = after.get(length..).unwrap_or_default();
    }
    push(&mut lines, rest);
    replaced.then_some(lines)
}

fn push(lines: &mut [String], text: &str) {
    if let Some(last) = lines.last_mut() {
        last.push_str(text);
    }
}

/// What the name at the start stands for, and how long it is: `$NAME` before a space, or `${NAME}`.
fn used(text: &str, known: &Known<'_>) -> (Option<Vec<String>>, usize) {
    if let Some(inner) = text.strip_prefix("${") {
        let Some(end) = inner.find('}') else { return (None, 1) };
        return match known(&inner[..end]) {
            Some(value) => (Some(value), end + 3),
            None => (None, 2),
        };
    }
    let name = &text[1..];
    let end = name_end(name);
    let apart = name[end..].chars().next().is_none_or(char::is_whitespace);
    match (end > 0 && apart).then(|| known(&name[..end])).flatten() {
        Some(value) => (Some(value), end + 1),
        None => (None, 1),
    }
}

/// A line that is read several times, with names that stand for another value each time.
#[derive(Debug, Clone)]
pub(super) struct Series {
    pub(super) names: Vec<String>,
    values: Values,
    pub(super) rest: String,
    pub(super) place: Place,
    pub(super) nested: u16,
}

#[derive(Debug, Clone)]
enum Values {
    Steps { next: Option<i64>, step: i64, end: i64, hex: bool },
    Listed(std::vec::IntoIter<Vec<String>>),
}

impl Series {
    /// Reads what a line begins with; nothing if it is neither of the two.
    pub(super) fn read(
        text: &str,
        place: Place,
        nested: u16,
        known: &Known<'_>,
    ) -> Result<Option<Self>, String> {
        let (kind, after) = if let Some(after) = text.strip_prefix("~SEQx(") {
            ("x", after)
        } else if let Some(after) = text.strip_prefix("~SEQ(") {
            ("", after)
        } else if let Some(after) = text.strip_prefix("~LST(") {
            ("list", after)
        } else {
            return Ok(None);
        };
        let end = after.find(')').ok_or("a series has no )")?;
        let mut inner = after[..end].to_owned();
        for _ in 0..8 {
            match substitute(&inner, known) {
                Some(lines) => inner = lines.concat(),
                None => break,
            }
        }
        let rest = after[end + 1..].trim_start().to_owned();
        let parts = parts(&inner);
        let (names, values) =
            if kind == "list" { listed(&parts)? } else { steps(&parts, kind == "x")? };
        let fits = |name: &String| !name.is_empty() && name_end(name) == name.len();
        if !names.iter().all(fits) {
            return Err("the variable of a series has no proper name".to_owned());
        }
        Ok(Some(Self { names, values, rest, place, nested: nested + 1 }))
    }

    /// The values of the next round.
    pub(super) fn next(&mut self) -> Option<Vec<String>> {
        match &mut self.values {
            Values::Listed(values) => values.next(),
            Values::Steps { next, step, end, hex } => {
                let value = next.take()?;
                if *step > 0 && value > *end || *step < 0 && value < *end {
                    return None;
                }
                *next = value.checked_add(*step);
                Some(vec![if *hex { format!("{value:x}") } else { value.to_string() }])
            }
        }
    }
}

/// What commas divide, but for those in braces.
fn parts(text: &str) -> Vec<String> {
    let (mut parts, mut depth) = (vec![String::new()], 0_usize);
    for c in text.chars() {
        match c {
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        push(&mut parts, c.encode_utf8(&mut [0; 4]));
    }
    parts.into_iter().map(|part| part.trim().to_owned()).collect()
}

fn steps(parts: &[String], hex: bool) -> Result<(Vec<String>, Values), String> {
    let number = |text: &String| {
        let (sign, digits) = text.strip_prefix('-').map_or((1, text.as_str()), |rest| (-1, rest));
        let value = match digits.strip_prefix("0x") {
            Some(digits) => i64::from_str_radix(digits, 16),
            None => digits.parse(),
        };
        value.map(|value| sign * value).map_err(|_| "a step of a sequence is no number".to_owned())
    };
    let [name, numbers @ ..] = parts else { return Err("a sequence has no variable".to_owned()) };
    let numbers: Vec<i64> = numbers.iter().map(number).collect::<Result<_, _>>()?;
    let towards = |start: i64, end: i64| if end >= start { 1 } else { -1 };
    let (start, step, end) = match numbers[..] {
        [end] if end > 0 => (1, 1, end),
        [end] => (-1, -1, end),
        [start, end] => (start, towards(start, end), end),
        [start, step, end] => (start, step, end),
        _ => return Err("a sequence has one to three numbers".to_owned()),
    };
    if step == 0 {
        return Err("a sequence with step 0 never ends".to_owned());
    }
    Ok((vec![name.clone()], Values::Steps { next: Some(start), step, end, hex }))
}

fn listed(parts: &[String]) -> Result<(Vec<String>, Values), String> {
    let group = |text: &String| match text.strip_prefix('{').and_then(|t| t.strip_suffix('}')) {
        Some(inner) => inner.split(',').map(|part| part.trim().to_owned()).collect(),
        None => vec![text.clone()],
    };
    let [names, values @ ..] = parts else { return Err("a list has no variable".to_owned()) };
    let names: Vec<String> = group(names);
    if values.is_empty() || values.len() > VALUES_MAX {
        return Err(format!("a list has 1 to {VALUES_MAX} values"));
    }
    let values: Vec<Vec<String>> = values.iter().map(group).collect();
    if values.iter().any(|value| value.len() != names.len()) {
        return Err("a list has another number of values than of variables".to_owned());
    }
    Ok((names, Values::Listed(values.into_iter())))
}
