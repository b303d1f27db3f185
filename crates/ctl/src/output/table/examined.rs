//! `quorate doctor` for people: by area, what is wrong with what mends it.

use super::{Style, Tone};
use crate::doctor::{Finding, Level};

/// The findings, and a line that counts them.
#[must_use]
pub fn examined(findings: &[Finding], style: Style) -> String {
    let mut text = String::new();
    let mut areas: Vec<&str> = Vec::new();
    for finding in findings {
        if !areas.contains(&finding.area) {
            areas.push(finding.area);
        }
    }
    for area in areas {
        text.push_str(&format!("{area}\n"));
        for finding in findings.iter().filter(|finding| finding.area == area) {
            let (word, tone) = match finding.level {
                Level::Ok => ("ok  ", Tone::Good),
                Level::Warn => ("WARN", Tone::Doubtful),
                Level::Fail => ("FAIL", Tone::Bad),
            };
            let word = style.paint(word, tone);
            text.push_str(&format!("  {word}  {}: {}\n", finding.on, finding.what));
            for (label, said) in [("why", &finding.why), ("fix", &finding.fix)] {
                if let Some(said) = said {
                    text.push_str(&format!("        {label}: {said}\n"));
                }
            }
        }
    }
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let (warnings, failures) = (count(Level::Warn), count(Level::Fail));
    text.push_str(&format!("{failures} failures, {warnings} warnings\n"));
    text
}
