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
use crate::journal::{Journal, Reader, missing, missing_earlier};

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
        if taken.entries.is_empty() && taken.missed == 0 && !taken.earlier {
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
        if taken.earlier {
            at.taken.push(missing_earlier(&at.node));
        }
    }
}

#[cfg(test)]
mod tests {
    use quorate_model::occurrence::{Kind, Occurrence, Told};

    use super::*;
    use crate::journal::Teller;

    fn tell(teller: &Teller, count: usize) {
        let occurrence = Occurrence::new(Kind::ClusterPaused, String::new());
        teller.tell((0..count).map(|_| Told { occurrence: occurrence.clone(), mine: false }));
    }

    async fn kinds(stream: &mut EventStream, count: usize) -> Vec<String> {
        let events = stream.take(count).map(|event| event.map(|event| event.kind));
        events.map(Result::unwrap).collect().await
    }

    #[tokio::test]
    async fn what_is_kept_is_sent_and_with_follow_what_comes() {
        let (journal, teller) = Journal::start("lb1");
        tell(&teller, 2);
        teller.flush().await.unwrap();
        let ask = |request: EventsRequest| stream(&journal, "lb1", &request).unwrap();
        let mut kept = ask(EventsRequest::default());
        assert_eq!(kinds(&mut kept, 9).await.len(), 2, "and then it ends");
        let hour = Some(3_600_000);
        let mut since = ask(EventsRequest { since_ms: hour, follow: true, ..Default::default() });
        let mut follow = ask(EventsRequest { follow: true, ..Default::default() });
        tell(&teller, 1);
        assert_eq!(kinds(&mut since, 3).await.len(), 3);
        assert_eq!(kinds(&mut follow, 1).await.len(), 1);
        let first = journal.reader().take(1).entries[0].event.sequence;
        let mut after = ask(EventsRequest { after: Some(first), ..Default::default() });
        assert_eq!(kinds(&mut after, 9).await.len(), 2);
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_holds_nobody_up_and_is_told_what_it_missed() {
        let (journal, teller) = Journal::start("lb1");
        let request = EventsRequest { follow: true, ..Default::default() };
        let mut slow = stream(&journal, "lb1", &request).unwrap();
        // More than the journal keeps, in parts that its queue takes.
        for _ in 0..12 {
            tell(&teller, 1_000);
            teller.flush().await.unwrap();
        }
        let first = slow.next().await.unwrap().unwrap();
        assert_eq!(first.kind, "events_lost");
        assert!(first.lost.unwrap() >= 2_000, "{first:?}");
        assert_eq!(slow.next().await.unwrap().unwrap().kind, "cluster_paused");
    }

    #[tokio::test]
    async fn who_goes_on_where_another_daemon_was_is_told_that_nobody_knows_how_much_it_missed() {
        let (journal, teller) = Journal::start("lb1");
        let after = journal.reader().place() - 1_000;
        let request = EventsRequest { after: Some(after), follow: true, ..Default::default() };
        let mut stream = stream(&journal, "lb1", &request).unwrap();
        let lost = stream.next().await.unwrap().unwrap();
        assert_eq!((lost.kind.as_str(), lost.lost), ("events_lost", None));
        assert!(lost.reason.starts_with("the daemon was started again"), "{lost:?}");
        tell(&teller, 2);
        assert_eq!(kinds(&mut stream, 2).await, ["cluster_paused"; 2], "it is told once");
    }

    #[tokio::test]
    async fn clients_have_a_bound_and_one_that_leaves_makes_room() {
        let (journal, _teller) = Journal::start("lb1");
        let request = EventsRequest { follow: true, ..Default::default() };
        let mut clients = Vec::new();
        let refused = loop {
            match stream(&journal, "lb1", &request) {
                Ok(client) => clients.push(client),
                Err(refused) => break refused,
            }
        };
        assert_eq!(clients.len(), 64);
        assert!(refused.message().contains("ask another node"));
        clients.pop();
        assert!(stream(&journal, "lb1", &request).is_ok());
    }
}
