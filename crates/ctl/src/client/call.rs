//! Asks the endpoints in turn, and decides what a failed attempt means: whether the next endpoint
//! may be asked, and the exit code if none helps.
//!
//! The rule that everything here serves: a change that was sent and not answered may have
//! happened. It is sent again only where the cluster can recognise the repetition.
//!
//! Tests: below, and `tests/failures.rs` with real connections.

use std::sync::atomic::Ordering;
use std::time::Duration;

use quorate_api::failure;
use quorate_api::v1::ErrorCode;
use quorate_api::v1::admin_client::AdminClient;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

use super::{Client, Endpoint, connect};
use crate::exit::{Exit, Failure, Tried};

/// How often a change that can be recognised is sent again while its outcome is unknown.
const REPEATS_MAX: u32 = 3;
const REPEAT_PAUSE: Duration = Duration::from_millis(500);
/// A configuration of thousands of real servers makes a long status.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// What a call does to the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing: it can be repeated anywhere.
    Read,
    /// It changes something, and the cluster recognises a repetition.
    Repeatable,
    /// It changes something.
    Once,
    /// It changes something, and lasts: a membership change.
    Slow,
}

impl Kind {
    fn timeout(self) -> Duration {
        match self {
            Self::Read => Duration::from_secs(10),
            Self::Repeatable | Self::Once => Duration::from_secs(30),
            Self::Slow => Duration::from_secs(300),
        }
    }
}

/// What an endpoint answered.
#[derive(Debug)]
pub struct Answer<A> {
    /// The answer.
    pub body: A,
    /// Who gave it.
    pub endpoint: Endpoint,
}

/// What a failed attempt says about the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// The request never left.
    NotSent,
    /// It left, and no answer came.
    NoAnswer,
    /// The node could not finish it and doesn't know whether it happened.
    Unknown,
    /// The node has no quorum; it took nothing.
    NoQuorum,
    /// The node belongs to no cluster.
    NotMember,
    /// Another configuration is in force than was expected.
    Conflict,
    /// A configuration waits to be confirmed.
    Unconfirmed,
    /// The configuration that was meant waits no more.
    Settled,
    /// The node can't now; it took nothing.
    Unavailable,
    /// Refused, for good.
    Refused,
}

struct Attempt {
    tried: Tried,
    meaning: Meaning,
}

impl Client {
    /// Asks one endpoint after the other until one answers.
    ///
    /// # Errors
    /// The failure that the attempts add up to; `what` says what could not be done.
    pub async fn call<A, F, Fut>(
        &self,
        kind: Kind,
        what: &str,
        request: F,
    ) -> Result<Answer<A>, Failure>
    where
        F: Fn(AdminClient<Channel>) -> Fut,
        Fut: Future<Output = Result<Response<A>, Status>>,
    {
        let mut attempts = Vec::new();
        for repeat in 0..=REPEATS_MAX {
            if repeat > 0 {
                tokio::time::sleep(REPEAT_PAUSE).await;
            }
            for endpoint in &self.target.endpoints {
                match self.attempt(kind, endpoint, &request).await {
                    Ok(body) => return Ok(Answer { body, endpoint: endpoint.clone() }),
                    Err(attempt) => {
                        let meaning = attempt.meaning;
                        attempts.push(attempt);
                        if !goes_on(kind, meaning) {
                            return Err(sum(kind, what, attempts));
                        }
                    }
                }
            }
            // Only a change that was sent and can be recognised is worth another round.
            let sent =
                |attempt: &Attempt| matches!(attempt.meaning, Meaning::NoAnswer | Meaning::Unknown);
            if kind != Kind::Repeatable || !attempts.iter().any(sent) {
                break;
            }
        }
        Err(sum(kind, what, attempts))
    }

    /// Asks every endpoint, each once: what they answered, and who did not.
    ///
    /// # Errors
    /// Where none answers.
    pub async fn each<A, F, Fut>(
        &self,
        what: &str,
        request: F,
    ) -> Result<(Vec<Answer<A>>, Vec<Tried>), Failure>
    where
        F: Fn(AdminClient<Channel>) -> Fut,
        Fut: Future<Output = Result<Response<A>, Status>>,
    {
        let (mut answers, mut attempts) = (Vec::new(), Vec::new());
        for endpoint in &self.target.endpoints {
            match self.attempt(Kind::Read, endpoint, &request).await {
                Ok(body) => answers.push(Answer { body, endpoint: endpoint.clone() }),
                Err(attempt) => attempts.push(attempt),
            }
        }
        if answers.is_empty() {
            return Err(sum(Kind::Read, what, attempts));
        }
        Ok((answers, attempts.into_iter().map(|attempt| attempt.tried).collect()))
    }

    async fn attempt<A, F, Fut>(
        &self,
        kind: Kind,
        endpoint: &Endpoint,
        request: &F,
    ) -> Result<A, Attempt>
    where
        F: Fn(AdminClient<Channel>) -> Fut,
        Fut: Future<Output = Result<Response<A>, Status>>,
    {
        let failed = |meaning, cause: String| Attempt {
            tried: Tried { endpoint: endpoint.to_string(), cause },
            meaning,
        };
        let timeout = self.timeout.unwrap_or_else(|| kind.timeout());
        let connection = connect::connect(endpoint, &self.target, timeout)
            .await
            .map_err(|error| failed(Meaning::NotSent, error.to_string()))?;
        let admin =
            AdminClient::new(connection.channel).max_decoding_message_size(ANSWER_BYTES_MAX);
        match tokio::time::timeout(timeout, request(admin)).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => {
                let (meaning, cause) = if connection.unused.load(Ordering::Relaxed) {
                    (Meaning::NotSent, "it closed the connection".to_owned())
                } else {
                    read(&status)
                };
                Err(failed(meaning, cause))
            }
            Err(_) => {
                let cause = format!("connected, but no answer within {} s", timeout.as_secs_f32());
                Err(failed(Meaning::NoAnswer, cause))
            }
        }
    }
}

/// Whether the next endpoint may be asked after this.
fn goes_on(kind: Kind, meaning: Meaning) -> bool {
    match meaning {
        Meaning::NotSent | Meaning::NoQuorum | Meaning::NotMember | Meaning::Unavailable => true,
        Meaning::NoAnswer | Meaning::Unknown => matches!(kind, Kind::Read | Kind::Repeatable),
        Meaning::Conflict | Meaning::Unconfirmed | Meaning::Settled | Meaning::Refused => false,
    }
}

/// What a status means, and its text.
fn read(status: &Status) -> (Meaning, String) {
    let text = match status.message() {
        "" => format!("it answered {:?}", status.code()),
        text => text.to_owned(),
    };
    let meaning = match failure::code(status) {
        Some(ErrorCode::NoQuorum) => Meaning::NoQuorum,
        Some(ErrorCode::Conflict) => Meaning::Conflict,
        Some(ErrorCode::Unconfirmed) => Meaning::Unconfirmed,
        Some(ErrorCode::Settled) => Meaning::Settled,
        Some(ErrorCode::UnknownOutcome) => Meaning::Unknown,
        Some(ErrorCode::NotMember) => Meaning::NotMember,
        Some(_) => Meaning::Refused,
        // An error of our own side of the connection has a source; one that was answered has not.
        None if std::error::Error::source(status).is_some() => {
            return (Meaning::NoAnswer, format!("the connection broke: {}", deepest(status)));
        }
        None => match status.code() {
            Code::Unavailable => Meaning::Unavailable,
            Code::DeadlineExceeded => Meaning::Unknown,
            _ => Meaning::Refused,
        },
    };
    (meaning, text)
}

fn deepest(status: &Status) -> String {
    let first: &(dyn std::error::Error + 'static) = status;
    let chain = std::iter::successors(Some(first), |error| error.source());
    chain.last().map(ToString::to_string).unwrap_or_default()
}

/// What all attempts together mean.
fn sum(kind: Kind, what: &str, attempts: Vec<Attempt>) -> Failure {
    let any = |meaning| attempts.iter().any(|attempt: &Attempt| attempt.meaning == meaning);
    let last = attempts.last().map(|attempt| attempt.meaning);
    let lost = any(Meaning::NoAnswer) || any(Meaning::Unknown);
    let (exit, why, hint) = match last {
        Some(Meaning::Conflict) => (
            Exit::Conflict,
            "another configuration is in force",
            Some("see what changed with `quorate diff`, then apply again"),
        ),
        Some(Meaning::Unconfirmed) => (
            Exit::Conflict,
            "a configuration waits to be confirmed",
            Some("settle it first: `quorate confirm` keeps it, `quorate abort` takes it back"),
        ),
        Some(Meaning::Settled) => (
            Exit::Conflict,
            "it does not wait to be confirmed",
            Some("see what became of it with `quorate config history`"),
        ),
        Some(Meaning::Refused) => (Exit::Failed, "it was refused", None),
        _ if lost && kind != Kind::Read => (
            Exit::UnknownOutcome,
            "the outcome is unknown: it was sent, and may have happened",
            Some(
                "see with `quorate status` or `quorate diff` whether it did, before you repeat it",
            ),
        ),
        _ if any(Meaning::NoQuorum) => (
            Exit::NoQuorum,
            "the cluster has no quorum",
            Some("a majority of the nodes must run and reach each other: `quorate status`"),
        ),
        _ if any(Meaning::NotMember) => (
            Exit::Failed,
            "the node belongs to no cluster",
            Some("make one there with `quorate init`, or join one with `quorate join TOKEN`"),
        ),
        _ if any(Meaning::Unavailable) => (Exit::Failed, "the node can't do it now", None),
        _ => (
            Exit::Unreachable,
            "no endpoint answers",
            Some("start quorated, or name a node that runs with --endpoint"),
        ),
    };
    let failure = Failure {
        tried: attempts.into_iter().map(|attempt| attempt.tried).collect(),
        ..Failure::new(exit, format!("cannot {what}: {why}"))
    };
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

#[cfg(test)]
mod tests {
    use quorate_api::v1::ErrorDetail;

    use super::*;

    fn exit(kind: Kind, meanings: &[Meaning]) -> Exit {
        let attempt = |&meaning: &Meaning| Attempt {
            tried: Tried { endpoint: String::new(), cause: String::new() },
            meaning,
        };
        sum(kind, "try", meanings.iter().map(attempt).collect()).exit
    }

    #[test]
    fn a_change_that_was_sent_once_is_never_reported_as_not_done() {
        use Meaning::{NoAnswer, NoQuorum, NotSent, Unavailable, Unknown};
        for kind in [Kind::Repeatable, Kind::Once, Kind::Slow] {
            for lost in [NoAnswer, Unknown] {
                for later in [NotSent, NoQuorum, Unavailable] {
                    assert_eq!(exit(kind, &[lost, later]), Exit::UnknownOutcome);
                }
            }
        }
    }

    #[test]
    fn a_clear_answer_to_a_repetition_decides() {
        assert_eq!(exit(Kind::Repeatable, &[Meaning::NoAnswer, Meaning::Refused]), Exit::Failed);
        for conflict in [Meaning::Conflict, Meaning::Unconfirmed, Meaning::Settled] {
            assert_eq!(exit(Kind::Repeatable, &[Meaning::Unknown, conflict]), Exit::Conflict);
        }
    }

    #[test]
    fn a_question_that_nobody_answers_changed_nothing() {
        assert_eq!(exit(Kind::Read, &[Meaning::NoAnswer, Meaning::NotSent]), Exit::Unreachable);
        assert_eq!(exit(Kind::Read, &[Meaning::NotSent, Meaning::NoQuorum]), Exit::NoQuorum);
    }

    #[test]
    fn a_change_that_cannot_be_recognised_is_sent_once() {
        for meaning in [Meaning::NoAnswer, Meaning::Unknown] {
            assert!(!goes_on(Kind::Once, meaning) && !goes_on(Kind::Slow, meaning));
            assert!(goes_on(Kind::Repeatable, meaning) && goes_on(Kind::Read, meaning));
        }
    }

    #[test]
    fn a_marker_says_more_than_the_code() {
        let mut status = Status::unavailable("no leader");
        assert_eq!(read(&status).0, Meaning::Unavailable);
        status.metadata_mut().insert(failure::KEY, "no_quorum".parse().unwrap());
        assert_eq!(read(&status), (Meaning::NoQuorum, "no leader".to_owned()));
        let mut status = Status::invalid_argument("no such scheduler");
        status.metadata_mut().insert(failure::KEY, "invalid".parse().unwrap());
        assert_eq!(read(&status).0, Meaning::Refused);
        let detail = |code: ErrorCode| ErrorDetail { code: code.into(), ..ErrorDetail::default() };
        let conflict = failure::status("revision 3, not 2", detail(ErrorCode::Conflict));
        assert_eq!(read(&conflict), (Meaning::Conflict, "revision 3, not 2".to_owned()));
    }
}
