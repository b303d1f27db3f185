//! Rules of `analysis`, on records made by hand. Times are in microseconds.

use super::*;

#[test]
fn who_answered_last_is_told_by_the_questions() {
    let answer =
        |by, sent, received| Answer { sent, received, vip: 0, by: Director(by), kind: Kind::Tcp };
    let answers = vec![answer(1, 10, 11), answer(0, 1, 12)];
    assert_eq!(Record { answers, ..Record::default() }.last_by(0), Some(Director(1)));
}

const A: Director = Director(0);
const B: Director = Director(1);
const C: Director = Director(2);

fn arp(by: Director, sent: u64, received: u64) -> Answer {
    let (sent, received) = (sent * 1_000, received * 1_000);
    Answer { sent, received, vip: 0, by, kind: Kind::Arp }
}

fn record(answers: Vec<Answer>) -> Record {
    let to = answers.last().map_or(0, |answer| answer.received);
    Record { to, answers, ..Record::default() }
}

/// Answers of one director, each millisecond.
fn run(by: Director, from_ms: u64, to_ms: u64) -> impl Iterator<Item = Answer> {
    (from_ms..to_ms).map(move |ms| arp(by, ms * 1_000, ms * 1_000 + 50))
}

fn two_runs(first_until: u64, second_from: u64) -> Record {
    let mut answers: Vec<Answer> =
        run(A, 0, first_until).chain(run(B, second_from, 1_000)).collect();
    answers.sort_by_key(|answer| answer.received);
    record(answers)
}

#[test]
fn one_director_hands_nothing_over() {
    let record = record(run(A, 0, 100).collect());
    assert_eq!((record.handovers(0), record.doubles(0)), (0, Doubles::default()));
    assert_eq!(record.last_by(0), Some(A));
}

#[test]
fn a_successor_that_begins_when_the_other_has_ended_is_one_handover() {
    let record = two_runs(400, 650);
    assert_eq!((record.handovers(0), record.doubles(0)), (1, Doubles::default()));
    assert_eq!(record.longest_silence(0).length(), Duration::from_millis(251));
}

#[test]
fn both_answering_for_a_while_are_many_handovers_and_so_many_double_answers() {
    // Both answer from 400 to 500 ms, each to its own questions.
    let record = two_runs(500, 400);
    assert!(record.handovers(0) > 100, "{}", record.handovers(0));
    let doubles = record.doubles(0);
    assert!((190..=200).contains(&doubles.answers) && doubles.mutual, "{doubles:?}");
    let time = doubles.time.as_millis();
    assert!((97..=100).contains(&time), "{doubles:?}");
}

/// The shortest overlap that can be shown: the old owner answered once after its successor had.
#[test]
fn one_answer_of_the_old_owner_after_its_successors_first_is_a_double_answer() {
    let mut answers: Vec<Answer> = run(A, 0, 10).chain(run(B, 10, 20)).collect();
    answers.insert(13, arp(A, 12_100, 12_150));
    let record = record(answers);
    assert_eq!(record.handovers(0), 3);
    let doubles = record.doubles(0);
    // It is enclosed by B's, and so are B's from 10 to 12 ms by A's.
    assert_eq!((doubles.answers, doubles.first), (4, Some(arp(B, 10_000, 10_050))));
    assert_eq!(doubles.time, Duration::from_micros(2_150));
    assert!(doubles.mutual);
}

/// An operator may move a group back at once: only the grants tell that from a double answer.
#[test]
fn there_and_back_at_once_is_two_handovers_and_mutual_is_nothing() {
    let answers = run(A, 0, 300).chain(run(B, 310, 350)).chain(run(A, 360, 900));
    let record = record(answers.collect());
    let doubles = record.doubles(0);
    assert_eq!((record.handovers(0), doubles.answers, doubles.mutual), (2, 40, false));
}

#[test]
fn the_old_owner_answering_on_while_it_goes_there_and_back_is_mutual() {
    let mut answers: Vec<Answer> =
        run(A, 0, 315).chain(run(B, 310, 350)).chain(run(A, 360, 900)).collect();
    answers.sort_by_key(|answer| answer.received);
    let record = record(answers);
    assert!(record.handovers(0) > 2 && record.doubles(0).mutual, "{:?}", record.doubles(0));
}

/// Both answered the same question: it may have reached the one before and the other after the
/// handover.
#[test]
fn two_answers_to_one_question_may_be_a_handover() {
    let mut answers: Vec<Answer> = run(A, 0, 10).collect();
    answers.extend([arp(A, 10_000, 10_050), arp(B, 10_000, 10_060)]);
    answers.extend(run(B, 11, 20));
    assert_eq!(record(answers.clone()).handovers(0), 1);
    assert_eq!(record(answers).doubles(0), Doubles::default());
    // To two questions in a row, it is none.
    let mut answers: Vec<Answer> = run(A, 0, 12).chain(run(B, 10, 20)).collect();
    answers.sort_by_key(|answer| (answer.received, answer.by));
    let record = record(answers);
    assert_eq!(record.handovers(0), 3);
    assert!(record.doubles(0).answers > 0);
}

/// An answer that was long on its way is not taken for one that was given late.
#[test]
fn a_delayed_answer_proves_nothing() {
    let mut answers: Vec<Answer> = run(A, 0, 10).chain(run(B, 12, 40)).collect();
    answers.push(arp(A, 9_500, 30_500));
    answers.sort_by_key(|answer| answer.received);
    let record = record(answers);
    assert_eq!((record.handovers(0), record.doubles(0)), (1, Doubles::default()));
}

#[test]
fn there_and_back_is_two_handovers_and_no_double_answer() {
    let record = record(run(A, 0, 300).chain(run(B, 300, 600)).chain(run(A, 600, 900)).collect());
    assert_eq!((record.handovers(0), record.doubles(0)), (2, Doubles::default()));
}

#[test]
fn three_directors_are_told_apart() {
    let record = record(run(A, 0, 300).chain(run(B, 300, 600)).chain(run(C, 600, 900)).collect());
    assert_eq!((record.handovers(0), record.doubles(0)), (2, Doubles::default()));
}

#[test]
fn the_fewest_handovers_are_found_among_answers_that_can_be_moved() {
    // B's two answers fit one stay, between A's first and second; C's fits before or after.
    let answers =
        vec![arp(A, 0, 10), arp(C, 0, 100), arp(B, 20, 60), arp(B, 40, 90), arp(A, 95, 110)];
    // A, B, C, A.
    assert_eq!(record(answers).handovers(0), 3);
}

#[test]
fn a_vip_without_an_answer_is_silent_from_start_to_end() {
    let record = Record { from: 5, to: 2_000_000_005, ..Record::default() };
    assert_eq!(record.longest_silence(0).length(), Duration::from_secs(2));
    assert_eq!(record.last_by(0), None);
}

#[test]
fn silence_at_the_end_counts_and_other_vips_and_kinds_do_not_break_it() {
    let mut record = record(run(A, 0, 10).collect());
    record.answers.push(Answer { vip: 1, ..arp(A, 500_000, 500_050) });
    record.answers.push(Answer { kind: Kind::Icmp, ..arp(A, 600_000, 600_050) });
    record.to = 1_009_050_000;
    assert_eq!(record.longest_silence(0).length(), Duration::from_secs(1));
}

#[test]
fn an_answer_counts_as_given_between_only_if_it_certainly_was() {
    let record = record(vec![arp(A, 10, 20), arp(B, 15, 25)]);
    let at = |micros: u64| micros * 1_000;
    assert_eq!(record.given_between(A, at(10), at(20)), Some(arp(A, 10, 20)));
    assert_eq!(record.given_between(A, at(11), at(30)), None, "it may have been given before");
    assert_eq!(record.given_between(A, at(0), at(19)), None, "it may have been given after");
    assert_eq!(record.given_between(C, at(0), at(30)), None);
}
