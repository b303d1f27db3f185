//! `quorate explain` for people: an answer, then the facts, one line each.

use super::{Style, Tone};
use crate::explain::{Bearing, Explanation};

/// The chains of facts, each below its answer.
#[must_use]
pub fn explained(explanations: &[Explanation], style: Style) -> String {
    let mut text = String::new();
    for explanation in explanations {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&format!("{}\n", explanation.answer));
        for fact in &explanation.facts {
            let (word, tone) = match fact.bearing {
                Bearing::Ok => ("ok  ", Some(Tone::Good)),
                Bearing::Warn => ("warn", Some(Tone::Doubtful)),
                Bearing::Bad => ("BAD ", Some(Tone::Bad)),
                Bearing::Note => ("-   ", None),
            };
            let word = tone.map_or_else(|| word.to_owned(), |tone| style.paint(word, tone));
            let node = fact.node.as_deref().map(|node| format!("{node}: ")).unwrap_or_default();
            text.push_str(&format!("  {word}  {node}{}\n", fact.fact));
        }
        for command in &explanation.next {
            text.push_str(&format!("  next: {command}\n"));
        }
    }
    text
}
