//! JSON to the tree. Keys that stand twice are errors here, where most readers keep the last.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::{DOCUMENT_VALUES_MAX, Data, Diagnostic, Diagnostics, Entry, Span, Value};

pub(super) fn parse(source: &str, out: &mut Diagnostics) -> Option<Value> {
    let mut text = serde_json::Deserializer::from_str(source);
    let left = Cell::new(DOCUMENT_VALUES_MAX);
    let read = Reader { left: &left }.deserialize(&mut text);
    match read.and_then(|value| text.end().map(|()| value)) {
        Ok(value) => {
            repeated_keys(&value, "", out);
            Some(value)
        }
        Err(error) => {
            let span = span(source, error.line(), error.column());
            let whole = error.to_string();
            // serde_json appends the place, which the diagnostic shows itself.
            let message = whole.split(" at line ").next().unwrap_or(&whole).to_owned();
            out.push_syntax(Diagnostic::new(String::new(), Some(span), message));
            None
        }
    }
}

fn span(source: &str, line: usize, column: usize) -> Span {
    let before: usize =
        source.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let mut start = (before + column.saturating_sub(1)).min(source.len());
    while !source.is_char_boundary(start) {
        start -= 1;
    }
    start..start
}

fn repeated_keys(value: &Value, path: &str, out: &mut Diagnostics) {
    match &value.data {
        Data::Table(entries) => {
            let mut seen = BTreeSet::new();
            for entry in entries {
                let path = super::reader::child(path, &entry.key);
                if !seen.insert(&entry.key) {
                    out.push(Diagnostic::new(path.clone(), None, "duplicate key".to_owned()));
                }
                repeated_keys(&entry.value, &path, out);
            }
        }
        Data::List(items) => {
            for (index, item) in items.iter().enumerate() {
                if matches!(item.data, Data::Table(_) | Data::List(_)) {
                    repeated_keys(item, &format!("{path}[{index}]"), out);
                }
            }
        }
        _ => {}
    }
}

#[derive(Clone, Copy)]
struct Reader<'c> {
    left: &'c Cell<usize>,
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        if left == 0 {
            return Err(D::Error::custom(format_args!(
                "the document has more than {DOCUMENT_VALUES_MAX} values"
            )));
        }
        Ok(Value { span: None, data: deserializer.deserialize_any(self)? })
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Data;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Data, E> {
        Ok(Data::Bool(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Data, E> {
        Ok(Data::Integer(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Data, E> {
        Ok(Data::Integer(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Data, E> {
        Ok(Data::Float(number.to_string()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Data, E> {
        Ok(Data::String(text.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Data, E> {
        Ok(Data::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Data, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Data::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Data, A::Error> {
        let mut table = Vec::new();
        while let Some(key) = entries.next_key::<String>()? {
            table.push(Entry { key, key_span: None, value: entries.next_value_seed(self)? });
        }
        Ok(Data::Table(table))
    }
}
