//! The faults that strike one director. Owns their names and what follows from each; how they are
//! done is `bed`'s.

use std::fmt;
use std::time::Duration;

/// What is done to a director.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// SIGKILL to its processes; they are started again when it is healed.
    Kill,
    /// SIGKILL to its processes, which are started again at once.
    Restart,
    /// SIGSTOP to its processes, SIGCONT after this time.
    Stop(Duration),
    /// Its link goes down: it loses the carrier.
    CutLink,
    /// It is cut off behind its switch and keeps the carrier.
    CutSilently,
    /// No frame passes between it and the other directors; clients reach all of them.
    Isolate,
    /// No frame of it reaches another director; all else passes.
    Mute,
    /// No frame of another director reaches it; all else passes.
    Deafen,
    /// SIGTERM.
    Terminate,
    /// Its groups are moved to another director, as an operator does.
    Move,
}

impl Fault {
    /// Its name in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "killed (SIGKILL)",
            Self::Restart => "killed, started again at once",
            Self::Stop(_) => "stopped (SIGSTOP)",
            Self::CutLink => "link cut",
            Self::CutSilently => "cut off behind its switch",
            Self::Isolate => "cut off from the other directors",
            Self::Mute => "not heard by the other directors",
            Self::Deafen => "does not hear the other directors",
            Self::Terminate => "clean stop (SIGTERM)",
            Self::Move => "planned move",
        }
    }

    /// Whether no renewal that was sent after it is acked while it lasts: then the victim's lease
    /// is over one lease later, whatever its daemon does.
    #[must_use]
    pub fn ends_renewals(self) -> bool {
        !matches!(self, Self::Restart | Self::Terminate | Self::Move)
    }

    /// Whether somebody else has to serve while it lasts, given the lease of the victim.
    #[must_use]
    pub fn moves(self, lease: Duration) -> bool {
        match self {
            // A lapse is no loss, and the leader takes its time to suspect: only well past it.
            Self::Stop(time) => time > lease * 4,
            Self::Restart => false,
            _ => true,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stop(time) => write!(f, "{} for {time:?}", self.name()),
            other => f.write_str(other.name()),
        }
    }
}
