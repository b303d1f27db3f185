//! Who has an address is asked on a thread of its own, and always answered.

use quorate_dataplane::{DataplaneError, Errno, Operation};
use quorate_model::claim::{Answer, Question};

use super::*;

fn question(octet: u8) -> Question {
    Question { device: eth(0), address: [192, 0, 2, octet].into() }
}

async fn answers(events: &mut mpsc::Receiver<Event>) -> Vec<Answer> {
    let event = next(events).await;
    let Event::Answered(answers) = event else { panic!("{event:?}") };
    answers.into_values().collect()
}

#[tokio::test]
async fn each_question_is_answered_with_who_has_the_address() {
    let kernel = FakeKernel::new();
    let mac = MacAddress([2, 0, 0, 0, 0, 9]);
    kernel.set_device(&eth(0), up());
    kernel.set_neighbour(&question(2), Some(mac));
    let (sender, mut events) = mpsc::channel(EVENTS);
    let thread = QuestionThread::start(on(&kernel), sender).unwrap();
    thread.ask([question(1), question(2)].into());
    assert_eq!(answers(&mut events).await, [Answer::Free, Answer::InUse(mac)]);
    kernel.set_neighbour(&question(2), None);
    thread.ask([question(2)].into());
    assert_eq!(answers(&mut events).await, [Answer::Free]);
}

#[tokio::test]
async fn without_a_dataplane_every_question_fails_and_none_is_left_open() {
    let (sender, mut events) = mpsc::channel(EVENTS);
    let make: MakeDataplane =
        Box::new(|| Err(DataplaneError::from_errno(Operation::OpenSocket, Errno(1))));
    let thread = QuestionThread::start(make, sender).unwrap();
    thread.ask([question(1)].into());
    let answers = answers(&mut events).await;
    let [Answer::Failed(why)] = answers.as_slice() else { panic!("{answers:?}") };
    assert!(why.contains("CAP_NET_RAW"), "{why}");
}
