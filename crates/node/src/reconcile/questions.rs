//! The thread that asks the network who has an address, before it is claimed. It is one of its own:
//! a question takes 300 ms, for which no VIP that must go and no service may wait.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use quorate_model::claim::{Answer, Question};
use quorate_model::director::Event;
use tracing::warn;

use super::{Events, Mailbox, MakeDataplane};

/// How often the thread looks whether the daemon has stopped.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A handle on the thread.
#[derive(Debug, Clone)]
pub(crate) struct QuestionThread {
    orders: Arc<Mailbox<Option<BTreeSet<Question>>>>,
}

impl QuestionThread {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// If no thread can be started.
    pub(crate) fn start(make: MakeDataplane, events: Events) -> io::Result<Self> {
        let orders: Arc<Mailbox<Option<BTreeSet<Question>>>> = Arc::default();
        let handle = Self { orders: Arc::clone(&orders) };
        let work = move || {
            let mut dataplane = make();
            while !events.is_closed() {
                let Some(questions) = orders.take(LOOK_EVERY, Option::take) else { continue };
                let answers = match &mut dataplane {
                    Ok(dataplane) => dataplane.ask(&questions),
                    Err(error) => failed(&questions, &error.to_string()),
                };
                for (question, answer) in &answers {
                    if let Answer::InUse(mac) = answer {
                        warn!(%question, %mac, "another host has an address that may be claimed");
                    }
                }
                // The queue is closed only when the daemon stops.
                let _ = events.blocking_send(Event::Answered(answers));
            }
        };
        std::thread::Builder::new().name("questions".to_owned()).spawn(work)?;
        Ok(handle)
    }

    /// Asks; a question that was not begun is forgotten.
    pub(crate) fn ask(&self, questions: BTreeSet<Question>) {
        self.orders.put(|orders| *orders = Some(questions));
    }
}

fn failed(questions: &BTreeSet<Question>, why: &str) -> BTreeMap<Question, Answer> {
    questions.iter().map(|q| (q.clone(), Answer::Failed(why.to_owned()))).collect()
}
