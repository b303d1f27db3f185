//! Why a call failed, as its status carries it: an `ErrorDetail` for programs, in the form that gRPC
//! libraries read (`grpc-status-details-bin`), and its code as a word. Both ways, so that the daemon and
//! its clients can't differ.
//!
//! A status travels in headers, and gRPC libraries refuse an answer with more than 8 KiB of them: it would look
//! like a broken connection, and so like an unknown outcome. Whatever is too long is cut.

use prost::Message as _;
use quorate_model::spec::document::{Diagnostics, Severity};
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

use crate::v1::{ErrorCode, ErrorDetail, FieldViolation};

/// The metadata key of the word.
pub const KEY: &str = "quorate-error";

/// Bytes that the text may take in the headers, where it stands twice: escaped, and in base64.
const TEXT_COST_MAX: usize = 4_400;
/// Bytes of the detail.
const DETAIL_BYTES_MAX: usize = 1_800;
/// What stands at the end of a text that was cut.
const CUT: &str = "\n(and more)";
const TYPE_URL: &str = "type.googleapis.com/quorate.v1.ErrorDetail";

/// `google.rpc.Status`, by its numbers.
#[derive(Clone, PartialEq, prost::Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.protobuf.Any`, by its numbers.
#[derive(Clone, PartialEq, prost::Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// Every code with its word. Both are a promise.
pub const WORDS: [(ErrorCode, &str); 11] = [
    (ErrorCode::NoQuorum, "no_quorum"),
    (ErrorCode::NotLeader, "not_leader"),
    (ErrorCode::Interrupted, "interrupted"),
    (ErrorCode::Conflict, "conflict"),
    (ErrorCode::Unconfirmed, "unconfirmed"),
    (ErrorCode::Settled, "settled"),
    (ErrorCode::UnknownOutcome, "unknown_outcome"),
    (ErrorCode::NotMember, "not_member"),
    (ErrorCode::Invalid, "invalid"),
    (ErrorCode::Refused, "refused"),
    (ErrorCode::Forbidden, "forbidden"),
];

/// The word of a code.
#[must_use]
pub fn word(code: ErrorCode) -> &'static str {
    WORDS.iter().find(|(known, _)| *known == code).map_or("unspecified", |(_, word)| *word)
}

/// The gRPC code that goes with a code.
#[must_use]
pub fn grpc(code: ErrorCode) -> Code {
    match code {
        ErrorCode::Unspecified => Code::Unknown,
        ErrorCode::NoQuorum | ErrorCode::NotLeader | ErrorCode::Interrupted => Code::Unavailable,
        ErrorCode::Conflict | ErrorCode::Unconfirmed | ErrorCode::Settled => Code::Aborted,
        ErrorCode::UnknownOutcome => Code::DeadlineExceeded,
        ErrorCode::NotMember | ErrorCode::Refused => Code::FailedPrecondition,
        ErrorCode::Invalid => Code::InvalidArgument,
        ErrorCode::Forbidden => Code::PermissionDenied,
    }
}

/// The status of a call that failed so.
#[must_use]
pub fn status(text: &str, detail: ErrorDetail) -> Status {
    let code = detail.code();
    let text = cut(text);
    let value = fitting(detail).encode_to_vec();
    let details = vec![Any { type_url: TYPE_URL.to_owned(), value }];
    let status = RpcStatus { code: grpc(code).into(), message: text.clone(), details };
    let mut status = Status::with_details(grpc(code), text, status.encode_to_vec().into());
    status.metadata_mut().insert(KEY, MetadataValue::from_static(word(code)));
    status
}

/// The detail that a status carries.
#[must_use]
pub fn detail(status: &Status) -> Option<ErrorDetail> {
    read(status.details())
}

/// The detail in the bytes of `grpc-status-details-bin`.
#[must_use]
pub fn read(bytes: &[u8]) -> Option<ErrorDetail> {
    let status = RpcStatus::decode(bytes).ok()?;
    let any = status.details.into_iter().find(|any| any.type_url == TYPE_URL)?;
    ErrorDetail::decode(any.value.as_slice()).ok()
}

/// The code that a status carries, in its detail or by its word. `None`: whoever made it knows nothing of
/// codes. One that this version does not know is `Unspecified`.
#[must_use]
pub fn code(status: &Status) -> Option<ErrorCode> {
    if let Some(detail) = detail(status) {
        return Some(detail.code());
    }
    let word = status.metadata().get(KEY)?;
    let known = WORDS.iter().find(|(_, known)| word == *known);
    Some(known.map_or(ErrorCode::Unspecified, |(code, _)| *code))
}

/// The errors of a configuration, and how many more there are. Warnings are none.
#[must_use]
pub fn violations(problems: &Diagnostics) -> ErrorDetail {
    let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let errors = problems.iter().filter(|problem| problem.severity == Severity::Error);
    let violations = errors.map(|problem| FieldViolation {
        path: problem.path.clone(),
        line: problem.position.map_or(0, |position| number(position.line)),
        column: problem.position.map_or(0, |position| number(position.column)),
        message: problem.message.clone(),
        hint: problem.help.clone().unwrap_or_default(),
    });
    ErrorDetail {
        code: ErrorCode::Invalid.into(),
        violations: violations.collect(),
        more_violations: number(problems.more()),
        ..ErrorDetail::default()
    }
}

/// Leaves the last violations out until it fits.
fn fitting(mut detail: ErrorDetail) -> ErrorDetail {
    while detail.encoded_len() > DETAIL_BYTES_MAX && detail.violations.pop().is_some() {
        detail.more_violations = detail.more_violations.saturating_add(1);
    }
    detail
}

fn cut(text: &str) -> String {
    // Three bytes for each that is escaped, and four thirds of it in base64; counted in thirds.
    let cost = |character: char| {
        let plain = character.is_ascii_alphanumeric() || "-_.~/:,;()=+*'".contains(character);
        character.len_utf8() * if plain { 3 + 4 } else { 9 + 4 }
    };
    let mut left = TEXT_COST_MAX * 3;
    for (at, character) in text.char_indices() {
        let Some(rest) = left.checked_sub(cost(character)) else {
            return format!("{}{CUT}", text.get(..at).unwrap_or_default());
        };
        left = rest;
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use quorate_model::spec::{self, Format};

    use super::*;

    /// As the library does for a trailer, and back.
    fn over_the_wire(status: &Status) -> (Status, usize) {
        let mut headers = tonic::codegen::http::HeaderMap::new();
        status.add_header(&mut headers).unwrap();
        let size = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
        (Status::from_header_map(&headers).unwrap(), size)
    }

    #[test]
    fn codes_and_their_words_are_a_promise() {
        let promised = [
            (1, "no_quorum", Code::Unavailable),
            (2, "not_leader", Code::Unavailable),
            (3, "interrupted", Code::Unavailable),
            (4, "conflict", Code::Aborted),
            (5, "unconfirmed", Code::Aborted),
            (6, "settled", Code::Aborted),
            (7, "unknown_outcome", Code::DeadlineExceeded),
            (8, "not_member", Code::FailedPrecondition),
            (9, "invalid", Code::InvalidArgument),
            (10, "refused", Code::FailedPrecondition),
            (11, "forbidden", Code::PermissionDenied),
        ];
        for (number, word_promised, grpc_promised) in promised {
            let code = ErrorCode::try_from(number).unwrap();
            assert_eq!((word(code), grpc(code)), (word_promised, grpc_promised));
            let name = format!("ERROR_CODE_{}", word_promised.to_uppercase());
            assert_eq!(code.as_str_name(), name);
        }
        assert!(ErrorCode::try_from(12).is_err(), "each code stands in the table");
        assert_eq!(WORDS.len(), promised.len());
    }

    #[test]
    fn every_code_and_detail_comes_over_the_wire() {
        for (code_sent, word) in WORDS {
            let sent = ErrorDetail {
                code: code_sent.into(),
                revision: Some(7),
                leader: Some("lb2".to_owned()),
                violations: vec![FieldViolation {
                    path: "service.web.scheduler".to_owned(),
                    line: 3,
                    column: 13,
                    message: "\"rx\" is no scheduler\n\u{e4}".to_owned(),
                    hint: "use rr".to_owned(),
                }],
                more_violations: 2,
            };
            let (came, _) = over_the_wire(&status("revision 7, not 6 \u{2026}", sent.clone()));
            assert_eq!(
                (came.code(), came.message()),
                (grpc(code_sent), "revision 7, not 6 \u{2026}")
            );
            assert_eq!(came.metadata().get(KEY).unwrap(), word);
            assert_eq!((detail(&came), code(&came)), (Some(sent), Some(code_sent)));
        }
    }

    #[test]
    fn what_a_status_says_without_details_is_known_by_its_word() {
        let mut status = Status::unavailable("no leader");
        assert_eq!(code(&status), None);
        status.metadata_mut().insert(KEY, "no_quorum".parse().unwrap());
        assert_eq!(code(&status), Some(ErrorCode::NoQuorum));
        status.metadata_mut().insert(KEY, "of_tomorrow".parse().unwrap());
        assert_eq!(code(&status), Some(ErrorCode::Unspecified));
        let odd = Status::with_details(Code::Internal, "", vec![0xff, 0x01].into());
        assert_eq!((detail(&odd), code(&odd)), (None, None));
    }

    #[test]
    fn the_errors_of_a_configuration_are_told_each_with_its_place() {
        let text = "[service.web]\ngroup = \"web\"\nscheduler = 7\n";
        let wrong = spec::parse(text, Format::Toml).unwrap_err();
        let (came, _) =
            over_the_wire(&status(&wrong.render("configuration", text), violations(&wrong)));
        let told = detail(&came).unwrap().violations;
        assert_eq!(told.len(), wrong.iter().count());
        let scheduler = told.iter().find(|told| told.path == "service.web.scheduler").unwrap();
        assert_eq!((scheduler.line, scheduler.column), (3, 13));
    }

    #[test]
    fn however_much_is_wrong_it_fits_into_the_headers_that_libraries_take() {
        let lines = (0..500)
            .map(|n| format!("[service.\"\u{fc} {n}\"]\nnonsense{n} = {{ \"a b\" = 1 }}\n"));
        let text: String = lines.collect();
        let wrong = spec::parse(&text, Format::Toml).unwrap_err();
        let all = wrong.iter().filter(|one| one.severity == Severity::Error).count() + wrong.more();
        for text in
            [wrong.render("configuration", &text), " \"\n".repeat(10_000), "x".repeat(99_999)]
        {
            let (came, size) = over_the_wire(&status(&text, violations(&wrong)));
            assert!(size < 8_000, "{size}");
            assert!(
                came.message().ends_with(CUT)
                    && text.starts_with(came.message().strip_suffix(CUT).unwrap())
            );
            let told = detail(&came).unwrap();
            assert!(!told.violations.is_empty());
            assert_eq!(told.violations.len() + usize::try_from(told.more_violations).unwrap(), all);
        }
    }
}
