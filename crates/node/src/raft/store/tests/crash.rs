//! `kill -9` in the middle of writing: what was acknowledged is there afterwards.
//!
//! The test starts itself as another process, which writes and says what was acknowledged.

use std::env;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command as Process, Stdio};

use openraft::RaftLogReader as _;
use openraft::storage::{RaftLogStorage as _, RaftLogStorageExt as _};
use quorate_api::peer::v1 as peer;

use super::{LogStore, create, log_id, open, sized};
use crate::identity::file;
use crate::raft::types::{LeaderId, Vote};

const DIRECTORY: &str = "QUORATE_TEST_CRASH_DIRECTORY";
const ROUNDS: usize = 6;

fn size(index: u64) -> usize {
    usize::try_from(index * 7_919 % 40_000).unwrap()
}

/// Writes until it is killed. Entry, vote and promises of a number are acknowledged one by one.
async fn write_for_ever(directory: &Path) {
    let identity = file::load(directory).unwrap().unwrap();
    let store = open(directory, &identity).unwrap();
    let mut log = LogStore::new(store.clone()).unwrap();
    let mut next = log.get_log_state().await.unwrap().last_log_id.map_or(1, |id| id.index + 1);
    let say = |what: &str, number: u64| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "acknowledged {what} {number}").unwrap();
        out.flush().unwrap();
    };
    loop {
        log.blocking_append([sized(next, size(next))]).await.unwrap();
        say("entry", next);
        let leader_id = LeaderId { term: next, node_id: 1 };
        log.save_vote(&Vote { leader_id, committed: false }).await.unwrap();
        say("vote", next);
        let promises = peer::StoredPromises { format: 1, longest_ns: next, floors: Vec::new() };
        store.persist_promises(&promises).wait().await.unwrap();
        say("promises", next);
        if next % 50 == 0 {
            log.purge(log_id(next - 20)).await.unwrap();
        }
        next += 1;
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9() {
    if let Some(directory) = env::var_os(DIRECTORY) {
        return write_for_ever(Path::new(&directory)).await;
    }
    let directory = tempfile::tempdir().unwrap();
    let identity = super::identity();
    drop(create(directory.path(), &identity));
    file::save(directory.path(), &identity).unwrap();
    let (mut entry, mut vote, mut promises) = (0, 0, 0);
    for round in 0..ROUNDS {
        let mut child = Process::new(env::current_exe().unwrap())
            .args(["--nocapture", "--test-threads=1", "what_was_acknowledged_survives_kill_9"])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut heard = |line: &str| {
            let Some(("acknowledged", rest)) = line.split_once(' ') else { return false };
            let (what, number) = rest.split_once(' ').unwrap();
            let number: u64 = number.parse().unwrap();
            match what {
                "entry" => entry = number,
                "vote" => vote = number,
                _ => promises = number,
            }
            true
        };
        // Killed at another step each time; what it said until then counts, too.
        let mut left = 100 + 37 * round;
        while left > 0 {
            let line = lines.next().expect("the writer ended by itself").unwrap();
            left -= usize::from(heard(&line));
        }
        child.kill().unwrap();
        for line in lines.map_while(Result::ok) {
            heard(&line);
        }
        child.wait().unwrap();

        let store = open(directory.path(), &identity).unwrap();
        let mut log = LogStore::new(store.clone()).unwrap();
        let last = log.get_log_state().await.unwrap().last_log_id.unwrap().index;
        assert!(last >= entry, "entry {entry} was acknowledged, the log ends at {last}");
        for found in log.try_get_log_entries(..).await.unwrap() {
            let index = found.log_id.index;
            assert_eq!(found, sized(index, size(index)));
        }
        assert!(log.read_vote().await.unwrap().unwrap().leader_id.term >= vote);
        assert!(store.promises().unwrap().unwrap().longest_ns >= promises);
    }
}
