//! What a command prints: data on stdout as a table or as JSON, messages on stderr. The only place
//! of this crate that writes to either.

pub mod json;
pub mod table;

use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;

use crate::cli::Format;
use crate::exit::{Exit, Failure};
use json::Document;
use table::Style;

/// Where a command prints to.
#[derive(Debug)]
pub struct Output {
    format: Format,
    style: Style,
}

impl Output {
    /// The process's own stdout and stderr.
    #[must_use]
    pub fn new(format: Format) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let style = Style { color: !plain && io::stdout().is_terminal() };
        Self { format, style }
    }

    /// Prints data: JSON, or whatever `table` makes for people.
    ///
    /// # Errors
    /// When stdout can't be written.
    pub fn data<T: Serialize>(
        &self,
        body: &T,
        table: impl FnOnce(Style) -> String,
    ) -> Result<(), Failure> {
        let text = match self.format {
            Format::Table | Format::Nagios => table(self.style),
            Format::Json => serde_json::to_string_pretty(&Document::of(body)).map_err(|error| {
                Failure::new(Exit::Failed, format!("cannot write JSON: {error}"))
            })?,
        };
        let mut stdout = io::stdout().lock();
        let written = stdout
            .write_all(text.trim_end().as_bytes())
            .and_then(|()| if text.is_empty() { Ok(()) } else { stdout.write_all(b"\n") })
            .and_then(|()| stdout.flush());
        match written {
            // Whoever reads has seen enough, such as `head`.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written.map_err(|error| {
                Failure::new(Exit::Failed, format!("cannot write to stdout: {error}"))
            }),
        }
    }

    /// Prints one line of data at once; `false` once nobody reads any more.
    ///
    /// # Errors
    /// When stdout can't be written.
    pub fn line(&self, line: &str) -> Result<bool, Failure> {
        let mut stdout = io::stdout().lock();
        match writeln!(stdout, "{line}").and_then(|()| stdout.flush()) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Err(error) => {
                Err(Failure::new(Exit::Failed, format!("cannot write to stdout: {error}")))
            }
        }
    }

    /// Prints a message.
    pub fn message(&self, text: &str) {
        // There is nobody left to tell when stderr is closed.
        let _ = writeln!(io::stderr().lock(), "{text}");
    }

    /// Prints a message for people, which JSON says otherwise.
    pub fn remark(&self, text: &str) {
        if self.format == Format::Table {
            self.message(text);
        }
    }

    /// Asks on the terminal; `None` where nobody can be asked.
    #[must_use]
    pub fn ask(&self, question: &str) -> Option<bool> {
        if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return None;
        }
        let mut stderr = io::stderr().lock();
        write!(stderr, "{question} [y/N] ").and_then(|()| stderr.flush()).ok()?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).ok()?;
        Some(matches!(answer.trim(), "y" | "Y" | "yes"))
    }
}
