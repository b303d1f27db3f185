//! The first claim of a group (design §3): before it, a director asks the network whether somebody
//! has the VIPs already (RFC 5227 §2.1.1 for IPv4, RFC 4862 §5.4 for IPv6).
//!
//! Asked is once for each address and start of the daemon, so also after an import, a recovery, and
//! for an address that a later revision adds. Not asked is for what a member held under its lease:
//! that member is fenced. An owner quotes in its renewals only addresses that it knows to be free,
//! so the others learn from its renewals which ones were held.
//!
//! Pure: who sends the questions is `Effect::Ask`, who answers `Event::Answered`. Tests: below, and
//! `director/tests/facts.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::id::{DeviceName, GroupName};
use crate::kernel::MacAddress;
use crate::time::Instant;

/// Most questions under way at once: three broadcasts each in 300 ms.
pub const QUESTIONS_MAX: usize = 256;
/// After how long an address is asked for again that somebody has. It doubles each time that
/// somebody still has it, up to [`ASK_AGAIN_MAX`].
pub const ASK_AGAIN: Duration = Duration::from_secs(1);
/// The longest time between two questions for an address that somebody has.
pub const ASK_AGAIN_MAX: Duration = Duration::from_secs(8);
/// After how long a question that failed is asked again.
const RETRY: Duration = Duration::from_millis(500);
/// How often a question may fail before the address is taken without it: a network that can't be
/// asked must not take the VIP down for ever.
const TRIES_MAX: u32 = 3;
/// How long an answer may take; past it the question has failed.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Who has this address on this device's network?
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Question {
    /// The device.
    pub device: DeviceName,
    /// The address.
    pub address: IpAddr,
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.address, self.device)
    }
}

/// What came of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Nobody answered.
    Free,
    /// This host has it.
    InUse(MacAddress),
    /// It could not be asked, for this reason.
    Failed(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    answer: Answer,
    at: Instant,
    /// How often in a row that was the answer.
    times: u32,
}

/// What a director knows of the addresses that it may have to claim.
#[derive(Debug, Clone, Default)]
pub struct Claims {
    known: BTreeMap<Question, Known>,
    /// Groups that a member held since this start: their next owner takes over, and claims nothing.
    held: BTreeSet<GroupName>,
    /// Of those, the groups that there is nothing to ask for any more.
    settled: BTreeSet<GroupName>,
    asking: Option<(Instant, BTreeSet<Question>)>,
}

impl Claims {
    /// The configuration is another: what it no longer names is forgotten.
    pub fn configured(&mut self, all: &BTreeSet<Question>, groups: impl Fn(&GroupName) -> bool) {
        self.known.retain(|question, _| all.contains(question));
        self.held.retain(groups);
        self.settled.clear();
    }

    /// A member holds this group, and these of its addresses under its lease.
    pub fn held(&mut self, now: Instant, group: &GroupName, leased: BTreeSet<Question>) {
        if !self.held.contains(group) {
            self.held.insert(group.clone());
        }
        for question in leased {
            // Whoever answered was the owner.
            self.learn(now, question, Answer::Free);
        }
    }

    /// Whether a member held this group since this start.
    #[must_use]
    pub fn was_held(&self, group: &GroupName) -> bool {
        self.held.contains(group)
    }

    /// Notes that a group which was held has no address left to ask for.
    pub fn settle(&mut self, group: &GroupName) {
        self.settled.insert(group.clone());
    }

    /// Whether there is nothing to ask for in this group until the configuration changes.
    #[must_use]
    pub fn is_settled(&self, group: &GroupName) -> bool {
        self.settled.contains(group)
    }

    /// Whether this address may be served.
    #[must_use]
    pub fn may_serve(&self, question: &Question) -> bool {
        self.known.get(question).is_some_and(|known| match known.answer {
            Answer::Free => true,
            Answer::Failed(_) => known.times >= TRIES_MAX,
            Answer::InUse(_) => false,
        })
    }

    /// What was answered last, if anything was.
    #[must_use]
    pub fn answer(&self, question: &Question) -> Option<&Answer> {
        self.known.get(question).map(|known| &known.answer)
    }

    /// Gives up what was asked so long ago that no answer will come; whether it did.
    pub fn give_up(&mut self, now: Instant) -> bool {
        let Some((since, questions)) = &self.asking else { return false };
        if now.since(*since) < ANSWER_MAX {
            return false;
        }
        let failed = |q: &Question| (q.clone(), Answer::Failed("nobody asked it".to_owned()));
        let answers = questions.iter().map(failed).collect();
        self.answered(now, answers);
        true
    }

    /// What to ask of these now; nothing while questions are under way.
    pub fn ask(
        &mut self,
        now: Instant,
        wanted: impl Iterator<Item = Question>,
    ) -> BTreeSet<Question> {
        if self.asking.is_some() {
            return BTreeSet::new();
        }
        let due = |question: &Question| match self.known.get(question) {
            None => true,
            Some(known) => match &known.answer {
                Answer::Free => false,
                Answer::InUse(_) => {
                    let wait = ASK_AGAIN * (1 << known.times.saturating_sub(1).min(8));
                    now.since(known.at) >= wait.min(ASK_AGAIN_MAX)
                }
                Answer::Failed(_) => known.times < TRIES_MAX && now.since(known.at) >= RETRY,
            },
        };
        let questions: BTreeSet<Question> = wanted.filter(due).take(QUESTIONS_MAX).collect();
        if !questions.is_empty() {
            self.asking = Some((now, questions.clone()));
        }
        questions
    }

    /// Takes the answers to what was asked last.
    pub fn answered(&mut self, now: Instant, answers: BTreeMap<Question, Answer>) {
        self.asking = None;
        for (question, answer) in answers {
            self.learn(now, question, answer);
        }
    }

    fn learn(&mut self, now: Instant, question: Question, answer: Answer) {
        let kind = std::mem::discriminant(&answer);
        let same = |known: &&Known| std::mem::discriminant(&known.answer) == kind;
        let before = self.known.get(&question).filter(same).map_or(0, |known| known.times);
        self.known.insert(question, Known { answer, at: now, times: before.saturating_add(1) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn question(octet: u8) -> Question {
        Question { device: "eth0".parse().unwrap(), address: [192, 0, 2, octet].into() }
    }

    fn ask(claims: &mut Claims, now: Instant) -> Vec<Question> {
        claims.ask(now, [question(1), question(2)].into_iter()).into_iter().collect()
    }

    fn answer(claims: &mut Claims, now: Instant, first: Answer) {
        let second = Answer::Free;
        claims.answered(now, [(question(1), first), (question(2), second)].into());
    }

    #[test]
    fn each_address_is_asked_for_once_and_served_only_when_it_is_free() {
        let (mut claims, now) = (Claims::default(), Instant(0));
        assert!(!claims.may_serve(&question(1)));
        assert_eq!(ask(&mut claims, now), [question(1), question(2)]);
        assert_eq!(ask(&mut claims, now + MS), [], "it is being asked");
        answer(&mut claims, now, Answer::Free);
        assert!(claims.may_serve(&question(1)));
        assert_eq!(ask(&mut claims, now + ASK_AGAIN * 100), []);
    }

    #[test]
    fn an_address_in_use_is_asked_for_again_and_free_when_nobody_answers_any_more() {
        let (mut claims, now) = (Claims::default(), Instant(0));
        ask(&mut claims, now);
        let somebody = Answer::InUse(MacAddress([2, 0, 0, 0, 0, 1]));
        answer(&mut claims, now, somebody.clone());
        assert!(!claims.may_serve(&question(1)));
        assert_eq!(claims.answer(&question(1)), Some(&somebody));
        let mut now = now;
        for seconds in [1, 2, 4, 8, 8, 8] {
            assert_eq!(ask(&mut claims, now + (ASK_AGAIN * seconds - MS)), []);
            now = now + ASK_AGAIN * seconds;
            assert_eq!(ask(&mut claims, now), [question(1)]);
            answer(&mut claims, now, somebody.clone());
        }
        now = now + ASK_AGAIN_MAX;
        ask(&mut claims, now);
        answer(&mut claims, now, Answer::Free);
        assert!(claims.may_serve(&question(1)));
    }

    #[test]
    fn a_network_that_cannot_be_asked_holds_a_claim_up_and_does_not_prevent_it() {
        let (mut claims, mut now) = (Claims::default(), Instant(0));
        for _ in 0..TRIES_MAX {
            assert!(!claims.may_serve(&question(1)));
            assert!(ask(&mut claims, now).contains(&question(1)));
            answer(&mut claims, now, Answer::Failed("not permitted".to_owned()));
            now = now + RETRY;
        }
        assert!(claims.may_serve(&question(1)));
        assert_eq!(ask(&mut claims, now + ASK_AGAIN), []);
    }

    #[test]
    fn a_question_that_is_never_answered_has_failed() {
        let (mut claims, mut now) = (Claims::default(), Instant(0));
        for _ in 0..TRIES_MAX {
            ask(&mut claims, now);
            assert!(!claims.give_up(now + (ANSWER_MAX - MS)));
            now = now + ANSWER_MAX;
            claims.give_up(now);
            now = now + RETRY;
        }
        assert!(claims.may_serve(&question(1)));
    }

    #[test]
    fn what_a_member_held_is_served_without_a_question() {
        let (mut claims, now) = (Claims::default(), Instant(0));
        let group: GroupName = "web".parse().unwrap();
        claims.answered(now, [(question(1), Answer::InUse(MacAddress([2; 6])))].into());
        claims.held(now, &group, [question(1)].into());
        assert!(claims.was_held(&group) && claims.may_serve(&question(1)));
        assert!(!claims.may_serve(&question(2)), "it was not among what the lease covered");
        claims.configured(&BTreeSet::new(), |_| false);
        assert!(!claims.was_held(&group) && !claims.may_serve(&question(1)));
    }

    #[test]
    fn a_thousand_addresses_are_asked_for_in_turns() {
        let mut claims = Claims::default();
        let all = || {
            (0..1_000_u32).map(|n| Question {
                device: "eth0".parse().unwrap(),
                address: std::net::Ipv4Addr::from(0x0a00_0000 + n).into(),
            })
        };
        let mut asked = 0;
        for turn in 0..4 {
            let now = Instant(turn);
            let questions = claims.ask(now, all());
            assert!(questions.len() <= QUESTIONS_MAX);
            asked += questions.len();
            claims.answered(now, questions.into_iter().map(|q| (q, Answer::Free)).collect());
        }
        assert_eq!(asked, 1_000);
    }
}
