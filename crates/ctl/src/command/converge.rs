//! After a change: waits until each director's kernel holds it, and names those that don't.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quorate_api::v1::{NodeState, NodeStatus, StatusResponse};
use tokio::time::Instant;

use super::{Ended, Scene, read_status};
use crate::client::Client;
use crate::exit::{Exit, Failure};

/// How long the directors may take, unless --timeout says otherwise.
const LIMIT: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// For so long a director that has a problem is waited for: most problems have nothing to do with it.
const PATIENCE: Duration = Duration::from_secs(10);

/// How far a director is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    /// Its kernel holds the revision, or a later one.
    Done,
    /// It is at work.
    Waits,
    /// It is at work, and has a problem, which may have nothing to do with it.
    Doubtful(String),
    /// Nobody can say: there is nothing to wait for.
    Stuck(String),
}

fn stage(node: &NodeStatus, revision: u64) -> Stage {
    if node.programmed_revision.is_some_and(|programmed| programmed >= revision) {
        return Stage::Done;
    }
    match node.state() {
        NodeState::Unreachable => Stage::Stuck("unreachable: it applies it when it returns".into()),
        // It is old, or did not answer this once.
        _ if node.revision.is_none() && !node.version.is_empty() => {
            Stage::Stuck("it does not say what its kernel holds".into())
        }
        _ if node.revision.is_some_and(|applied| applied >= revision)
            && !node.problems.is_empty() =>
        {
            Stage::Doubtful(node.problems.join("; "))
        }
        _ => Stage::Waits,
    }
}

/// A revision is in force no more: whoever applied it must not take it for done.
pub(super) fn gone(revision: u64, in_force: u64) -> Failure {
    let what = format!("revision {revision} was taken, but revision {in_force} is in force now");
    Failure::new(Exit::Conflict, what)
        .hint("somebody applied another, or nobody confirmed it in time: quorate config history")
}

/// Each director by its name.
fn stages(status: &StatusResponse, revision: u64) -> BTreeMap<&str, Stage> {
    let directors = status.nodes.iter().filter(|node| node.role == "director");
    directors.map(|node| (node.name.as_str(), stage(node, revision))).collect()
}

/// Waits until each director is done or stuck; exit code 3 if one is not done.
pub(super) async fn converged(scene: &Scene<'_>, client: &Client, revision: u64) -> Ended {
    let begin = Instant::now();
    let limit = scene.global.timeout.unwrap_or(LIMIT);
    let mut done: BTreeSet<String> = BTreeSet::new();
    loop {
        // The change is made, whatever comes of looking at it.
        let status = match read_status(client, true).await {
            Ok(status) => status,
            Err(failure) => {
                scene.output.message(&format!("what the directors do is not known: {failure}"));
                return Ok(Exit::Degraded);
            }
        };
        let in_force = status.cluster.as_ref().map_or(revision, |cluster| cluster.revision);
        if in_force > revision {
            return Err(gone(revision, in_force));
        }
        let all = stages(&status, revision);
        for (name, _) in all.iter().filter(|(_, stage)| **stage == Stage::Done) {
            if done.insert((*name).to_owned()) {
                scene.output.remark(&format!("{name}: its kernel holds revision {revision}"));
            }
        }
        let waited = begin.elapsed() + LOOK_EVERY;
        let waits = |stage: &Stage| match stage {
            Stage::Waits => waited < limit,
            Stage::Doubtful(_) => waited < limit.min(PATIENCE),
            Stage::Done | Stage::Stuck(_) => false,
        };
        if all.values().any(waits) {
            tokio::time::sleep(LOOK_EVERY).await;
            continue;
        }
        let mut exit = Exit::Ok;
        for (name, stage) in &all {
            let why = match stage {
                Stage::Done => continue,
                Stage::Waits => "nothing says why",
                Stage::Doubtful(why) => &format!("it says: {why}"),
                Stage::Stuck(why) => why,
            };
            scene.output.message(&format!("! {name} does not hold revision {revision} yet: {why}"));
            exit = Exit::Degraded;
        }
        return Ok(exit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> NodeStatus {
        NodeStatus {
            name: "lb1".to_owned(),
            role: "director".to_owned(),
            state: NodeState::Ready.into(),
            version: "0.1.0".to_owned(),
            revision: Some(5),
            programmed_revision: Some(5),
            ..NodeStatus::default()
        }
    }

    #[test]
    fn a_director_is_done_when_its_kernel_holds_the_revision_or_a_later_one() {
        assert_eq!(
            [4, 5, 6].map(|wanted| stage(&node(), wanted)),
            [Stage::Done, Stage::Done, Stage::Waits]
        );
        let works = NodeStatus { programmed_revision: None, ..node() };
        assert_eq!(stage(&works, 5), Stage::Waits);
    }

    #[test]
    fn a_director_that_has_a_problem_or_does_not_answer_says_so() {
        let failed = NodeStatus {
            programmed_revision: None,
            problems: vec!["no ip_vs".to_owned(), "full".to_owned()],
            ..node()
        };
        assert_eq!(stage(&failed, 5), Stage::Doubtful("no ip_vs; full".to_owned()));
        assert_eq!(stage(&failed, 6), Stage::Waits, "its problems are of another revision");
        let gone = NodeStatus {
            state: NodeState::Unreachable.into(),
            version: String::new(),
            revision: None,
            programmed_revision: None,
            ..node()
        };
        assert!(matches!(stage(&gone, 5), Stage::Stuck(why) if why.starts_with("unreachable")));
        let old = NodeStatus { revision: None, programmed_revision: None, ..node() };
        assert!(matches!(stage(&old, 5), Stage::Stuck(_)));
    }

    #[test]
    fn witnesses_program_nothing() {
        let witness = NodeStatus { role: "witness".to_owned(), ..node() };
        let status = StatusResponse { nodes: vec![witness], ..StatusResponse::default() };
        assert!(stages(&status, 9).is_empty());
    }
}
