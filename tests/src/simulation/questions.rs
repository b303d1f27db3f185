//! The network that the VIPs are on: who answers when a director asks for an address.
//!
//! Mostly nobody does, and quickly: that one director serves must not rest on the question. Now and
//! then it is answered as on a network that is never cut: a director that hears nobody over the
//! links finds the owner there all the same.

use std::collections::{BTreeMap, BTreeSet};

use quorate_model::claim::{Answer, Question};
use quorate_model::director::Event;
use quorate_model::id::NodeId;
use quorate_model::kernel::MacAddress;

use super::clock::MS;
use super::node::Happening;
use super::world::World;

impl World {
    /// A director asks: how it will be answered is decided when it is.
    pub(super) fn ask(&mut self, id: NodeId, questions: BTreeSet<Question>) {
        let takes = if self.random.chance(250) { 300 * MS } else { self.random.between(1, 2 * MS) };
        self.after_for(takes, id, Happening::Asked(questions));
    }

    /// A director's question is over: whoever serves an address by now has answered.
    pub(super) fn asked(&mut self, id: NodeId, questions: &BTreeSet<Question>) {
        let deaf = self.random.chance(750);
        let now = self.now;
        let owner = |question: &Question| {
            let mut others = self.nodes.iter().filter(|(node, _)| **node != id);
            others.find(|(_, node)| node.kernel.serves(node.clock.at(now), question.address))
        };
        let answer = |question: &Question| match owner(question) {
            Some((node, _)) if !deaf => {
                Answer::InUse(MacAddress([2, 0, 0, 0, 0, u8::try_from(node.0).unwrap_or(0)]))
            }
            Some(_) | None => Answer::Free,
        };
        let answers: BTreeMap<Question, Answer> =
            questions.iter().map(|question| (question.clone(), answer(question))).collect();
        self.step(id, Event::Answered(answers));
    }
}
