//! Text for people: aligned columns, two spaces apart, coloured on a terminal alone. Widths count
//! characters before colour. Tests: `tests.rs` beside this file.

mod examined;
mod explained;
mod services;
mod status;
mod traffic;

pub use examined::examined;
pub use explained::explained;
pub use services::services;
pub use status::{nodes, status, troubles};
pub use traffic::{Numbers, traffic};

/// How text may look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Style {
    /// Whether it may have colour.
    pub color: bool,
}

/// What a text means, which its colour repeats (it is never said by colour alone).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tone {
    Good,
    Doubtful,
    Bad,
}

impl Style {
    fn paint(self, text: &str, tone: Tone) -> String {
        let code = match tone {
            Tone::Good => 32,
            Tone::Doubtful => 33,
            Tone::Bad => 31,
        };
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// One field of a table.
#[derive(Debug, Clone)]
struct Cell {
    text: String,
    tone: Option<Tone>,
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: text.into(), tone: None }
    }
}

impl Cell {
    fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Self { text: text.into(), tone: Some(tone) }
    }

    /// Several values, or a dash.
    fn list(values: &[String]) -> Self {
        if values.is_empty() { "-".into() } else { values.join(",").into() }
    }
}

/// Rows under a heading; the first row is the heading.
fn align(rows: &[Vec<Cell>], style: Style) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.text.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let gap = width - cell.text.chars().count() + 2;
            match cell.tone {
                Some(tone) => line.push_str(&style.paint(&cell.text, tone)),
                None => line.push_str(&cell.text),
            }
            line.extend(std::iter::repeat_n(' ', gap));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Rows of plain text under a heading.
#[must_use]
pub fn plain(heading: &[&str], rows: &[Vec<String>]) -> String {
    let heading = heading.iter().map(|&text| text.into()).collect();
    let rows = rows.iter().map(|row| row.iter().map(|text| text.clone().into()).collect());
    align(&std::iter::once(heading).chain(rows).collect::<Vec<Vec<Cell>>>(), Style::default())
}

#[cfg(test)]
mod tests;
