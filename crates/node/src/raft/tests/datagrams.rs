//! Small messages between nodes.

use quorate_api::peer::v1 as peer;
use quorate_api::peer::v1::datagram::Message;

use super::member::{Member, profile};
use crate::peer::datagrams::PeerTransport as _;
use crate::raft::config::SNAPSHOT_EVERY;

fn report(sequence: u64) -> Message {
    Message::Report(peer::Report { sequence, ..Default::default() })
}

/// Sends until one arrives: each may be lost.
pub(super) fn exchange(from: &Member, to: &mut Member) -> Message {
    let transport = from.node().transport();
    let target = to.id();
    let source = from.id();
    let sending = from.spawn(async move {
        let mut sequence = 0;
        let mut tick = tokio::time::interval(std::time::Duration::from_millis(20));
        loop {
            tick.tick().await;
            sequence += 1;
            transport.send(target, report(sequence));
        }
    });
    let delivery = to.delivery();
    sending.abort();
    assert_eq!(delivery.from, source);
    delivery.message
}

#[test]
fn datagrams_arrive_in_both_directions_and_again_after_a_restart() {
    let mut first = Member::founder("prod", "n1", SNAPSHOT_EVERY);
    let token = first.token();
    let mut second = Member::joiner(&token, profile("n2"), SNAPSHOT_EVERY).unwrap();
    first.wait_voters(2);
    assert!(matches!(exchange(&first, &mut second), Message::Report(_)));
    assert!(matches!(exchange(&second, &mut first), Message::Report(_)));
    second.kill();
    second.restart();
    assert!(matches!(exchange(&first, &mut second), Message::Report(_)));
}
