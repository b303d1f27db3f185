//! Exit codes, which are a promise (design §6), and the failure that leads to each.
//!
//! A failure says what failed, where it was tried and why it failed there, and what to do next.

use std::fmt;
use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It did what was asked.
    Ok,
    /// It failed or was refused; nothing was changed.
    Failed,
    /// It was called wrongly.
    Usage,
    /// The cluster answers, and something in it is not as it should be.
    Degraded,
    /// No endpoint could be reached.
    Unreachable,
    /// The cluster has no quorum.
    NoQuorum,
    /// The configuration is not the one that was expected.
    Conflict,
    /// A change was sent and no answer came: it may have happened.
    UnknownOutcome,
    /// The configurations differ (`diff --detailed-exitcode`).
    Differs,
}

impl Exit {
    /// Every exit code.
    pub const ALL: [Self; 9] = [
        Self::Ok,
        Self::Failed,
        Self::Usage,
        Self::Degraded,
        Self::Unreachable,
        Self::NoQuorum,
        Self::Conflict,
        Self::UnknownOutcome,
        Self::Differs,
    ];

    /// The number that the shell sees.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Degraded => 3,
            Self::Unreachable => 4,
            Self::NoQuorum => 5,
            Self::Conflict => 6,
            Self::UnknownOutcome => 7,
            Self::Differs => 10,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// One endpoint that was tried in vain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// The endpoint, as it can be given to `--endpoint`.
    pub endpoint: String,
    /// Why it did not help.
    pub cause: String,
}

/// Why a command ended without doing its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit code that it leads to.
    pub exit: Exit,
    /// What failed, and why.
    pub what: String,
    /// Where it was tried.
    pub tried: Vec<Tried>,
    /// What to do next.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure that has nothing to do with an endpoint.
    pub fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self { exit, what: what.into(), tried: Vec::new(), hint: None }
    }

    /// The command was called wrongly.
    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(Exit::Usage, what)
    }

    /// Adds what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.what)?;
        for tried in &self.tried {
            write!(f, "\n  {}: {}", tried.endpoint, tried.cause)?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\nnext: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_codes_are_those_of_the_promise() {
        let codes = Exit::ALL.map(Exit::code);
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 7, 10]);
    }

    #[test]
    fn a_failure_names_every_endpoint_with_its_cause_and_what_to_do() {
        let tried = |endpoint: &str, cause: &str| Tried {
            endpoint: endpoint.to_owned(),
            cause: cause.to_owned(),
        };
        let failure = Failure {
            tried: vec![tried("a:1", "refused"), tried("b:2", "no route")],
            ..Failure::new(Exit::Unreachable, "cannot read the status").hint("start one")
        };
        assert_eq!(
            failure.to_string(),
            "error: cannot read the status\n  a:1: refused\n  b:2: no route\nnext: start one"
        );
    }
}
