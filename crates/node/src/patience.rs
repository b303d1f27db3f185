//! Waiting for an answer for as long as it may take, by a daemon that may itself be late: what the end of that
//! time says is decided by `quorate_model::silence`.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use quorate_model::silence::{self, Silence};

use crate::clock;

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// None came in time.
    Silent,
    /// This daemon was so late that it can't tell.
    Late(Duration),
}

/// Waits so long for an answer; longer, once, where this daemon was late to see that the time was over.
pub(crate) async fn within<T>(
    timeout: Duration,
    answer: impl Future<Output = T>,
) -> Result<T, Over> {
    let mut answer = pin!(answer);
    let mut due = clock::now() + timeout;
    let mut left = timeout;
    for again in [false, true] {
        if let Ok(answered) = tokio::time::timeout(left, &mut answer).await {
            return Ok(answered);
        }
        let noticed = clock::now();
        match silence::judge(due, noticed, timeout, again) {
            Silence::Kept => return Err(Over::Silent),
            Silence::Late(late) => return Err(Over::Late(late)),
            Silence::Unheard(longer) => (due, left) = (noticed + longer, longer),
        }
    }
    Err(Over::Silent)
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn};
    use std::task::Poll;

    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(10);

    /// Has the whole thread stand still for much longer than the time-out, as a stopped daemon does.
    fn stand_still() {
        std::thread::sleep(TIMEOUT * 20);
    }

    #[tokio::test]
    async fn a_daemon_that_stood_still_hears_what_was_said_meanwhile() {
        let mut polls = 0;
        // As an answer of several steps: it is looked at when the time begins and when it is over, and it
        // takes one look more.
        let answer = poll_fn(|_| {
            polls += 1;
            match polls {
                1 => stand_still(),
                2 => {}
                _ => return Poll::Ready(()),
            }
            Poll::Pending
        });
        assert_eq!(within(TIMEOUT, answer).await, Ok(()));
    }

    #[tokio::test]
    async fn a_daemon_that_is_late_time_after_time_can_not_tell_and_gives_up_after_the_second() {
        let mut polls = 0;
        let unheard = poll_fn(|_| {
            polls += 1;
            stand_still();
            Poll::<()>::Pending
        });
        let Err(Over::Late(late)) = within(TIMEOUT, unheard).await else { panic!("not late") };
        assert!(late > TIMEOUT, "{late:?}");
        assert!(polls <= 4, "two times, at whose begin and end it is looked: {polls}");
    }

    #[tokio::test]
    async fn who_says_nothing_to_a_daemon_that_listens_is_silent() {
        // A busy machine may be late itself, but not for ever.
        while within(TIMEOUT, pending::<()>()).await != Err(Over::Silent) {}
    }
}
