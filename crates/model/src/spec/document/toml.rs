//! TOML to the tree. The parser recovers from errors, so that one mistake doesn't hide the others.

use std::borrow::Cow;

use ::toml::Spanned;
use ::toml::de::{DeInteger, DeTable, DeValue};

use super::{DOCUMENT_VALUES_MAX, Data, Diagnostic, Diagnostics, Entry, Value};

/// Largest document whose syntax errors are all looked for. The parser keeps one for each byte if
/// it comes to that, some hundred bytes each; of a larger document it tells the first.
const RECOVERED_BYTES_MAX: usize = 1024 * 1024;

pub(super) fn parse(source: &str, out: &mut Diagnostics) -> Option<Value> {
    let (root, errors) = if source.len() <= RECOVERED_BYTES_MAX {
        DeTable::parse_recoverable(source)
    } else {
        match DeTable::parse(source) {
            Ok(root) => (root, Vec::new()),
            Err(error) => (Spanned::new(0..0, DeTable::new()), vec![error]),
        }
    };
    let mut line = 0..0;
    for error in errors {
        // An error at the end of the text has no place of its own.
        let span = error.span().unwrap_or(source.len()..source.len());
        // The parser goes on within a line; what it finds there follows from the first error.
        if !line.contains(&span.start) {
            line = out.broken_at(source, &span);
            let message = error.message().to_owned();
            out.push_syntax(Diagnostic::new(String::new(), Some(span), message));
        }
    }
    let mut left = DOCUMENT_VALUES_MAX;
    let Some(entries) = table(root.into_inner(), &mut left) else {
        let message = format!("the document has more than {DOCUMENT_VALUES_MAX} values");
        out.push(Diagnostic::new(String::new(), None, message));
        return None;
    };
    Some(Value { span: Some(0..0), data: Data::Table(entries) })
}

/// A table's entries, or nothing when the document holds more values than `left`.
fn table(table: DeTable<'_>, left: &mut usize) -> Option<Vec<Entry>> {
    let entry = |(key, item): (Spanned<Cow<'_, str>>, Spanned<DeValue<'_>>)| {
        let key_span = Some(key.span());
        Some(Entry { key_span, key: key.into_inner().into_owned(), value: value(item, left)? })
    };
    table.into_iter().map(entry).collect()
}

fn value(item: Spanned<DeValue<'_>>, left: &mut usize) -> Option<Value> {
    *left = left.checked_sub(1)?;
    let span = Some(item.span());
    let data = match item.into_inner() {
        DeValue::String(text) => Data::String(text.into_owned()),
        DeValue::Integer(number) => Data::Integer(integer(&number)),
        DeValue::Float(number) => Data::Float(number.to_string()),
        DeValue::Boolean(flag) => Data::Bool(flag),
        DeValue::Datetime(datetime) => Data::Datetime(datetime.to_string()),
        DeValue::Array(items) => {
            Data::List(items.into_iter().map(|item| value(item, left)).collect::<Option<_>>()?)
        }
        DeValue::Table(entries) => Data::Table(table(entries, left)?),
    };
    Some(Value { span, data })
}

fn integer(number: &DeInteger<'_>) -> i128 {
    let text = number.as_str();
    i128::from_str_radix(text, number.radix()).unwrap_or(if text.starts_with('-') {
        i128::MIN
    } else {
        i128::MAX
    })
}
