//! Errors of the API. Each carries a word in the metadata key `quorate-error`, by which programs
//! and `quorate`'s exit codes tell them apart; the text is for people.

use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

use crate::peer::dial::DialError;

/// The metadata key.
pub(crate) const KEY: &str = "quorate-error";

/// What kind of error it is, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// No leader, or a majority of the voters can't be reached.
    NoQuorum,
    /// The node that was asked does not lead, and did nothing: ask again.
    NotLeader,
    /// The way to the leader broke after the request may have reached it: ask again, and if
    /// nobody answers, the outcome is unknown.
    Interrupted,
    /// The configuration has moved on.
    Conflict,
    /// A configuration waits to be confirmed.
    Unconfirmed,
    /// The configuration that was meant waits no more.
    Settled,
    /// It was sent, and may yet be applied.
    UnknownOutcome,
    /// This node belongs to no cluster yet.
    NotMember,
    /// What was sent is wrong in itself.
    Invalid,
    /// The cluster says no.
    Refused,
    /// The caller may not.
    Forbidden,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::NoQuorum => "no_quorum",
            Self::NotLeader => "not_leader",
            Self::Interrupted => "interrupted",
            Self::Conflict => "conflict",
            Self::Unconfirmed => "unconfirmed",
            Self::Settled => "settled",
            Self::UnknownOutcome => "unknown_outcome",
            Self::NotMember => "not_member",
            Self::Invalid => "invalid",
            Self::Refused => "refused",
            Self::Forbidden => "forbidden",
        }
    }

    fn code(self) -> Code {
        match self {
            Self::NoQuorum | Self::NotLeader | Self::Interrupted => Code::Unavailable,
            Self::Conflict | Self::Unconfirmed | Self::Settled => Code::Aborted,
            Self::UnknownOutcome => Code::DeadlineExceeded,
            Self::NotMember | Self::Refused => Code::FailedPrecondition,
            Self::Invalid => Code::InvalidArgument,
            Self::Forbidden => Code::PermissionDenied,
        }
    }
}

/// An error of this kind.
pub(crate) fn error(kind: Kind, text: impl Into<String>) -> Status {
    let mut status = Status::new(kind.code(), text);
    status.metadata_mut().insert(KEY, MetadataValue::from_static(kind.word()));
    status
}

/// Whether an error, of this node or of another, is of this kind.
pub(crate) fn is(kind: Kind, status: &Status) -> bool {
    status.metadata().get(KEY).is_some_and(|word| word == kind.word())
}

/// Whether a failed request never left this node: no connection could be made to send it over.
pub(crate) fn was_never_sent(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if error.is::<DialError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_can_tell_errors_apart_by_a_word() {
        let status = error(Kind::Conflict, "revision 3, not 2");
        assert_eq!(status.code(), Code::Aborted);
        assert_eq!(status.metadata().get(KEY).unwrap(), "conflict");
    }

    #[test]
    fn only_a_request_without_a_connection_was_never_sent() {
        let refused = Status::from_error(Box::new(DialError { tried: Vec::new() }));
        assert!(was_never_sent(&refused));
        let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        assert!(!was_never_sent(&Status::from_error(Box::new(reset))));
        assert!(!was_never_sent(&Status::unavailable("from the other side")));
    }
}
