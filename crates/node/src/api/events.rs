//! `Events`: what the journal of this node says, to whoever asks, and as it goes on. A stream is only
//! asked for the next event when its connection takes one, so that a slow client costs nothing but what
//! it misses, of which it is told. Tests: below.

use std::time::Duration;

use futures::stream::{self, BoxStream, StreamExt as _};
use quorate_api::v1::{Event, EventsRequest};
use quorate_model::command::UnixMillis;
use tokio::sync::OwnedSemaphorePermit;
use tonic::Status;

use super::error::{Kind, error};
use crate::clock;
use crate::journal::{Journal, Reader, missing};

/// Events that are taken at a time.
const TAKEN_MAX: usize = 64;

/// What a client gets.
pub(crate) type EventStream = BoxStream<'static, Result<Event, Status>>;

struct Following {
    reader: Reader,
    node: String,
    from: UnixMillis,
    follow: bool,
    /// What was taken and not sent yet, the next one last.
    taken: Vec<Event>,
    _place: OwnedSemaphorePermit,
}

/// Events of the journal, as they were asked for.
pub(crate) fn stream(
    journal: &Journal,
    node: &str,
    request: &EventsRequest,
) -> Result<EventStream, Status> {
    let Some(place) = journal.place_for_client() else {
        let text = "too many clients read events here already: ask another node";
        return Err(error(Kind::Refused, text));
    };
    let (since, after) = (request.since_ms.map(Duration::from_millis), request.after);
    let reader = match (after, since, request.follow) {
        (Some(after), _, _) => journal.reader_after(after),
        (None, None, true) => journal.follower(),
        (None, _, _) => journal.reader(),
    };
    let age = since.map_or(u128::MAX, |since| since.as_millis());
    let from = UnixMillis(clock::wall().0.saturating_sub(u64::try_from(age).unwrap_or(u64::MAX)));
    let following = Following {
        reader,
        node: node.to_owned(),
        from,
        follow: request.follow,
        taken: Vec::new(),
        _place: place,
    };
    Ok(stream::unfold(following, next).boxed())
}

async fn next(mut at: Following) -> Option<(Result<Event, Status>, Following)> {
    loop {
        if let Some(event) = at.taken.pop() {
            return Some((Ok(event), at));
        }
        let taken = at.reader.take(TAKEN_MAX);
        if taken.entries.is_empty() && taken.missed == 0 {
            if !at.follow || !at.reader.wait().await {
                return None;
            }
            continue;
        }
        let wanted = taken.entries.iter().rev().filter(|entry| entry.at >= at.from);
        at.taken = wanted.map(|entry| entry.event.clone()).collect();
        if taken.missed > 0 {
            at.taken.push(missing(&at.node, taken.missed));
        }
    }
}
