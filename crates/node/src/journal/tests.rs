//! What readers get, and what they miss.

use quorate_model::id::Revision;

use super::*;

fn told(reason: &str) -> Told {
    let occurrence = Occurrence::new(Kind::ClusterPaused, reason.to_owned());
    Told { occurrence: Occurrence { revision: Revision(3), ..occurrence }, mine: false }
}

fn reasons(taken: &Taken) -> Vec<&str> {
    taken.entries.iter().map(|entry| entry.event.reason.as_str()).collect()
}

/// All that a reader can take, once there is something.
async fn all(reader: &mut Reader) -> Vec<String> {
    assert!(reader.wait().await);
    let mut all = Vec::new();
    loop {
        let taken = reader.take(64);
        if taken.entries.is_empty() {
            return all;
        }
        all.extend(reasons(&taken).into_iter().map(str::to_owned));
    }
}

#[tokio::test]
async fn what_is_told_is_numbered_and_read_in_its_order() {
    let (journal, teller) = Journal::start("lb1");
    let mut early = journal.reader();
    teller.tell([told("a"), told("b")]);
    teller.flush().await.unwrap();
    let mut follower = journal.follower();
    teller.tell([told("c")]);
    teller.flush().await.unwrap();
    assert_eq!(all(&mut early).await, ["a", "b", "c"]);
    assert_eq!(all(&mut follower).await, ["c"]);
    let taken = journal.reader().take(64);
    let sequences: Vec<u64> = taken.entries.iter().map(|entry| entry.event.sequence).collect();
    assert_eq!(sequences, [sequences[0], sequences[0] + 1, sequences[0] + 2]);
    assert_eq!(reasons(&journal.reader_after(sequences[0]).take(64)), ["b", "c"]);
    assert_eq!(reasons(&journal.reader_after(sequences[2]).take(64)), <[&str; 0]>::default());
    let event = &taken.entries[0].event;
    assert_eq!(
        (event.node.as_str(), event.kind.as_str(), event.revision),
        ("lb1", "cluster_paused", 3)
    );
    assert!(event.time.ends_with('Z'), "{event:?}");
}

#[tokio::test]
async fn a_sequence_of_another_start_is_no_place_in_this_journal() {
    let (journal, teller) = Journal::start("lb1");
    teller.tell([told("a")]);
    let next = teller.flush().await.unwrap();
    // The clock went back: what was read last is still to come.
    assert_eq!(reasons(&journal.reader_after(next + 1_000).take(64)), ["a"]);
    // An older daemon's: what it told since is lost, and how much that is is not known.
    let mut reader = journal.reader_after(5);
    let taken = reader.take(64);
    assert_eq!((taken.missed, taken.earlier), (0, true));
    assert_eq!(reasons(&taken), ["a"]);
    assert!(!reader.take(64).earlier, "it is told once");
    assert!(!journal.reader().take(64).earlier, "who began here misses nothing");
    // And of this daemon's what has left the ring.
    let journal = Journal::new(100);
    let kept = u64::try_from(EVENTS_MAX).unwrap();
    (0..kept + 7)
        .for_each(|_| journal.push(UnixMillis(0), event("lb1", &told("x").occurrence), None));
    let taken = journal.reader_after(5).take(1);
    assert_eq!((taken.missed, taken.earlier, taken.entries[0].event.sequence), (7, true, 107));
}

#[tokio::test]
async fn a_reader_that_is_too_slow_is_told_how_much_it_missed() {
    let journal = Journal::new(1);
    let mut slow = journal.reader();
    let kept = u64::try_from(EVENTS_MAX).unwrap();
    let event = || event("lb1", &told("x").occurrence);
    (0..kept + 7).for_each(|_| journal.push(UnixMillis(0), event(), None));
    let taken = slow.take(2);
    assert_eq!((taken.missed, taken.entries[0].event.sequence), (7, 8));
    assert_eq!(slow.take(1).missed, 0, "it is told once");
    assert_eq!(slow.place(), 11);
}

#[tokio::test]
async fn the_ring_has_a_bound_in_bytes_too() {
    let journal = Journal::new(1);
    let long = "r".repeat(REASON_BYTES_MAX);
    for _ in 0..EVENTS_MAX {
        journal.push(UnixMillis(0), event("lb1", &told(&long).occurrence), None);
    }
    let (entries, bytes) = journal.with(|ring| (ring.entries.len(), ring.bytes));
    assert!(bytes <= BYTES_MAX && entries < EVENTS_MAX, "{entries} events, {bytes} bytes");
    assert!(entries > 1_000);
}

#[tokio::test]
async fn who_tells_never_waits_and_what_does_not_fit_the_queue_is_told_as_lost() {
    let (journal, teller) = Journal::start("lb1");
    // This runtime has one thread: nothing is taken out of the queue meanwhile.
    teller.tell((0..QUEUE_MAX + 5).map(|_| told("x")));
    teller.flush().await.unwrap();
    let mut reader = journal.reader();
    let mut lost = 0;
    let mut events = 0;
    loop {
        let taken = reader.take(1_000);
        if taken.entries.is_empty() {
            break;
        }
        events += taken.entries.len();
        lost += taken.entries.iter().filter_map(|entry| entry.event.lost).sum::<u64>();
    }
    assert_eq!((events, lost), (QUEUE_MAX + 1, 5));
}

#[test]
fn a_reason_has_a_bound_and_nothing_that_an_environment_or_a_terminal_does_not_take() {
    let hostile = format!("\0\n\u{1b}[31m{}ä{}", "x".repeat(REASON_BYTES_MAX - 8), "y".repeat(99));
    let event = event("lb1", &told(&hostile).occurrence);
    assert!(event.reason.len() <= REASON_BYTES_MAX && event.reason.ends_with("xx"), "{event:?}");
    assert!(!event.reason.contains(char::is_control));
    // The longest line goes into a FIFO whole.
    let quotes = Event { reason: "\"".repeat(REASON_BYTES_MAX), ..event };
    let long = Some("n".repeat(63));
    let longest = Event {
        group: long.clone(),
        service: long.clone(),
        owner: long.clone(),
        previous_owner: long.clone(),
        subject: long,
        ..quotes
    };
    assert!(quorate_api::event::json_line(&longest).unwrap().len() < 2_000);
}
