//! Forged histories: the checker must take every right one and name what is wrong in each other.

use super::*;

fn attempt(mark: u64, time: u64, outcome: Outcome) -> Attempt {
    let at = Duration::from_secs(time);
    Attempt { mark, expected: None, began: at, ended: at + Duration::from_millis(10), outcome }
}

fn taken(mark: u64, time: u64, revision: u64) -> Attempt {
    attempt(mark, time, Outcome::Acknowledged { revision, changed: true })
}

fn over(expected: u64, attempt: Attempt) -> Attempt {
    Attempt { expected: Some(expected), ..attempt }
}

fn seen(node: &str, revision: u64, mark: u64) -> Seen {
    let of = |value| [("side".to_owned(), value), ("web".to_owned(), value)].into();
    Seen { node: node.to_owned(), revision, marks: of(mark), epochs: of(40) }
}

fn everywhere(revision: u64, mark: u64) -> Vec<Seen> {
    ["d1", "d2", "d3"].map(|node| seen(node, revision, mark)).into()
}

/// Judges from revision 10 with mark 100 on.
fn judge(attempts: &[Attempt], nodes: &[Seen]) -> Vec<String> {
    Ledger::new(10, 100).judge(attempts, nodes)
}

fn assert_wrong(attempts: &[Attempt], nodes: &[Seen], text: &str) {
    let wrong = judge(attempts, nodes);
    assert!(wrong.iter().any(|line| line.contains(text)), "{text:?} is not in {wrong:?}");
}

fn assert_right(attempts: &[Attempt], nodes: &[Seen]) {
    assert_eq!(judge(attempts, nodes), Vec::<String>::new());
}

#[test]
fn what_was_acknowledged_is_there() {
    assert_right(&[], &everywhere(10, 100));
    assert_right(&[taken(101, 1, 11), over(11, taken(102, 2, 12))], &everywhere(12, 102));
    // Two at the same time may come in either order.
    assert_right(&[taken(101, 1, 12), taken(102, 1, 11)], &everywhere(12, 101));
}

#[test]
fn an_unknown_outcome_may_be_either() {
    let attempts = [taken(101, 1, 11), attempt(102, 2, Outcome::Unknown)];
    assert_right(&attempts, &everywhere(11, 101));
    assert_right(&attempts, &everywhere(12, 102));
    // It came first, and an acknowledged one over it.
    assert_right(&[attempt(102, 1, Outcome::Unknown), taken(101, 1, 12)], &everywhere(12, 101));
}

#[test]
fn a_lost_acknowledged_write_is_found() {
    let attempts = [taken(101, 1, 11), taken(102, 2, 12)];
    assert_wrong(&attempts, &everywhere(11, 101), "d1 lost an acknowledged write");
    assert_wrong(&[], &everywhere(9, 99), "d2 lost an acknowledged write");
    // On one node only.
    let mut nodes = everywhere(12, 102);
    nodes[2] = seen("d3", 11, 101);
    assert_wrong(&attempts, &nodes, "d3 lost an acknowledged write");
    assert_wrong(&attempts, &nodes, "disagree");
}

#[test]
fn a_write_lost_under_a_newer_one_is_found() {
    // Mark 101 was acknowledged as revision 11, lost, and the revision given out again.
    let attempts = [taken(101, 1, 11), taken(102, 2, 11)];
    assert_wrong(&attempts, &everywhere(11, 102), "made twice");
    assert_wrong(&[taken(101, 1, 10)], &everywhere(10, 101), "in force already");
}

#[test]
fn content_that_nobody_can_have_made_is_found() {
    let attempts = [taken(101, 1, 11)];
    assert_wrong(&attempts, &everywhere(11, 100), "neither the newest");
    assert_wrong(&attempts, &everywhere(12, 101), "neither the newest");
    assert_wrong(&attempts, &everywhere(12, 100), "neither the newest");
    for outcome in [Outcome::NotTaken, Outcome::Conflict] {
        let attempts = [taken(101, 1, 11), attempt(102, 2, outcome)];
        assert_wrong(&attempts, &everywhere(12, 102), "neither the newest");
    }
    // Of an unknown outcome, but over another revision than it asked for.
    let late = over(11, attempt(102, 2, Outcome::Unknown));
    let attempts = [taken(101, 1, 11), late, attempt(103, 1, Outcome::Unknown)];
    assert_wrong(&attempts, &everywhere(13, 102), "neither the newest");
    // One unknown write makes one revision, not two.
    let attempts = [taken(101, 1, 11), attempt(102, 2, Outcome::Unknown)];
    assert_wrong(&attempts, &everywhere(13, 102), "can be explained");
}

#[test]
fn a_write_that_turns_up_after_the_check_is_found() {
    let mut ledger = Ledger::new(10, 100);
    let unknown = [attempt(101, 1, Outcome::Unknown)];
    assert!(ledger.judge(&unknown, &everywhere(10, 100)).is_empty());
    assert!(!ledger.judge(&[], &everywhere(11, 101)).is_empty());
}

#[test]
fn a_mixture_is_found() {
    let mut nodes = everywhere(11, 101);
    nodes[1].marks.insert("web".to_owned(), 100);
    assert_wrong(&[taken(101, 1, 11)], &nodes, "d2 has a mixture");
}

#[test]
fn wrong_acknowledgements_are_found() {
    let wrong_base = over(9, taken(101, 1, 11));
    assert_wrong(&[wrong_base], &everywhere(11, 101), "over another revision");
    let none = attempt(101, 1, Outcome::Acknowledged { revision: 11, changed: false });
    assert_wrong(&[none], &everywhere(11, 101), "acknowledged as none");
    let backwards = [taken(101, 1, 12), taken(102, 5, 11)];
    assert_wrong(&backwards, &everywhere(12, 101), "wrong order");
}

#[test]
fn an_epoch_that_goes_back_is_found() {
    let mut ledger = Ledger::new(10, 100);
    assert!(ledger.judge(&[], &everywhere(10, 100)).is_empty());
    let mut nodes = everywhere(10, 100);
    for node in &mut nodes {
        node.epochs.insert("web".to_owned(), 39);
    }
    let wrong = ledger.judge(&[], &nodes);
    assert!(wrong.iter().any(|line| line.contains("went back")), "{wrong:?}");
}
