//! What a director needs of its machine: `facts` is what was found there, `judge` says what is wrong with
//! it and what mends it (pure), `read` looks (reads only, but for a file whose fsyncs are timed). Tests:
//! `tests.rs`.

pub mod facts;
mod judge;
pub mod read;
#[cfg(test)]
mod tests;

use serde::Serialize;

pub use judge::examine;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, and may not when it matters.
    Warn,
    /// It does not work, or two programs would fight.
    Fail,
}

impl Level {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// Something that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// `kernel`, `sysctl`, `disk`, `daemon`, `programs`, `network`, `cluster`.
    pub area: &'static str,
    /// What was found.
    pub what: String,
    /// On what: a module, a key, a device, a file.
    pub on: String,
    /// Why it matters; none where all is well.
    pub why: Option<String>,
    /// What mends it, as a command where there is one.
    pub fix: Option<String>,
}

impl Finding {
    fn ok(area: &'static str, on: impl Into<String>, what: impl Into<String>) -> Self {
        Self { level: Level::Ok, area, what: what.into(), on: on.into(), why: None, fix: None }
    }

    fn bad(
        level: Level,
        (area, on): (&'static str, &str),
        what: impl Into<String>,
        why: &str,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            level,
            area,
            what: what.into(),
            on: on.to_owned(),
            why: Some(why.to_owned()),
            fix: Some(fix.into()),
        }
    }

    fn warn(
        place: (&'static str, &str),
        what: impl Into<String>,
        why: &str,
        fix: impl Into<String>,
    ) -> Self {
        Self::bad(Level::Warn, place, what, why, fix)
    }

    fn fail(
        place: (&'static str, &str),
        what: impl Into<String>,
        why: &str,
        fix: impl Into<String>,
    ) -> Self {
        Self::bad(Level::Fail, place, what, why, fix)
    }
}

/// The worst of all; ok of none.
#[must_use]
pub fn worst(findings: &[Finding]) -> Level {
    findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok)
}
