//! Every refusal, with line and column.

use super::super::*;
use super::with_service;

/// Everything that is wrong, one line each: `line:column: path: message (help)`.
fn wrong(source: &str) -> String {
    match parse(source, Format::Toml) {
        Ok(spec) => panic!("accepted: {spec:#?}"),
        Err(wrong) => wrong.to_string(),
    }
}
#[test]
fn x() {
    println!("{}", wrong("a=1"));
    println!("{}", with_service(""));
}
