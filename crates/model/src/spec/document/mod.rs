//! Text to one tree of values, whatever the notation (TOML or JSON), with the place of each value
//! where the notation gives it; typed readers over the tree; and every error at once.
//!
//! It knows nothing of clusters: `spec::read` and the daemon's `node.toml` both read through it.
//! It never opens a file. Its tests are in `document/tests.rs`.

mod diagnostics;
mod duration;
mod json;
mod keys;
mod page;
mod reader;
mod suggest;
#[cfg(test)]
mod tests;
mod toml;

use std::ops::Range;

pub use diagnostics::{DIAGNOSTICS_MAX, Diagnostic, Diagnostics, Position, Severity};
pub use duration::{DurationError, duration, duration_text};
pub use keys::{Key, Presence, TableKeys};
pub use page::page_differences;
pub(crate) use reader::socket_address;
pub use reader::{At, Field, Named, Table};
pub use suggest::nearest;

/// Largest document that is read.
pub const DOCUMENT_BYTES_MAX: usize = 10 * 1024 * 1024;

/// Most values that one document may hold: what bounds the memory that the tree takes.
pub const DOCUMENT_VALUES_MAX: usize = 1_000_000;

/// Bytes of the source, from and up to.
pub type Span = Range<usize>;

/// The notation of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// TOML 1.1.
    Toml,
    /// JSON (RFC 8259); its values have no span.
    Json,
}

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// Where it stands, if the notation tells.
    pub span: Option<Span>,
    /// What it is.
    pub data: Data,
}

/// What a value can be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// Text.
    String(String),
    /// A whole number; one that no `i128` holds stands as the nearest that does.
    Integer(i128),
    /// A number with a fraction or exponent, as written. No key takes one.
    Float(String),
    /// True or false.
    Bool(bool),
    /// A date or time, as written. No key takes one.
    Datetime(String),
    /// JSON's null. No key takes it.
    Null,
    /// Values in order.
    List(Vec<Value>),
    /// Values by key.
    Table(Vec<Entry>),
}

/// A key of a table and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub key_span: Option<Span>,
    /// Its value.
    pub value: Value,
}

impl Data {
    /// What it is, for a message: `a string`, `a list`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::String(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a number with a fraction",
            Self::Bool(_) => "true or false",
            Self::Datetime(_) => "a date or time",
            Self::Null => "null",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

/// Reads a document into a tree. What is wrong with the text itself goes to `out`; the tree is
/// absent where nothing of it can be used.
pub fn parse(source: &str, format: Format, out: &mut Diagnostics) -> Option<Value> {
    if source.len() > DOCUMENT_BYTES_MAX {
        let message = format!(
            "the document has {} bytes, at most {DOCUMENT_BYTES_MAX} are read",
            source.len()
        );
        out.push(Diagnostic::new(String::new(), None, message));
        return None;
    }
    match format {
        Format::Toml => toml::parse(source, out),
        Format::Json => json::parse(source, out),
    }
}
