//! Errors of the API. Each carries a code and what belongs to it (`quorate_api::failure`), by which programs
//! and `quorate`'s exit codes tell them apart; the text is for people.

use quorate_api::failure::{self, word};
use quorate_api::v1::{ErrorCode, ErrorDetail};
use tonic::Status;

use crate::peer::dial::DialError;

pub(crate) use quorate_api::failure::KEY;

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
    fn code(self) -> ErrorCode {
        match self {
            Self::NoQuorum => ErrorCode::NoQuorum,
            Self::NotLeader => ErrorCode::NotLeader,
            Self::Interrupted => ErrorCode::Interrupted,
            Self::Conflict => ErrorCode::Conflict,
            Self::Unconfirmed => ErrorCode::Unconfirmed,
            Self::Settled => ErrorCode::Settled,
            Self::UnknownOutcome => ErrorCode::UnknownOutcome,
            Self::NotMember => ErrorCode::NotMember,
            Self::Invalid => ErrorCode::Invalid,
            Self::Refused => ErrorCode::Refused,
            Self::Forbidden => ErrorCode::Forbidden,
        }
    }
}

/// An error of this kind.
pub(crate) fn error(kind: Kind, text: impl AsRef<str>) -> Status {
    detailed(kind, text, ErrorDetail::default())
}

/// An error of this kind, with what belongs to it.
pub(crate) fn detailed(kind: Kind, text: impl AsRef<str>, detail: ErrorDetail) -> Status {
    failure::status(text.as_ref(), ErrorDetail { code: kind.code().into(), ..detail })
}

/// Whether an error, of this node or of another, is of this kind.
pub(crate) fn is(kind: Kind, status: &Status) -> bool {
    status.metadata().get(KEY).is_some_and(|found| found == word(kind.code()))
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
    use tonic::Code;

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
