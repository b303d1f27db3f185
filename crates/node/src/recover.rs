//! Break-glass, with the daemon stopped: a new cluster of what one node of a lost one has.
//!
//! Everything that it can lose is said first, and has to be typed back. The store is replaced as a
//! whole, or not at all (`raft/store/replace.rs`). Whether the others are really gone is nothing that
//! this node can know: it asks, and does not look. Tests:
//! `raft/tests/recover.rs`.

mod plan;

use std::io::{self, BufRead as _, IsTerminal as _, Write};
use std::path::PathBuf;

use crate::clock;
use crate::config::NodeConfig;
use crate::identity::file::{self, IdentityFileError};
use crate::identity::{AuthorityError, authority};
use crate::raft::store::lock::{DataDirectory, LockError};
use crate::raft::store::{StoreError, offline, replace};
use plan::Plan;

/// Longest line that is read from a terminal.
const LINE_BYTES_MAX: u64 = 4_096;

/// How the operator says that what was printed was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Confirmation {
    /// Typed at the terminal, after reading.
    Terminal,
    /// Given beforehand (`--confirm`): by a script, or by somebody who has read it before.
    Given(String),
}

/// Why nothing was recovered.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The data directory is in use or can't be used.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The identity can't be read.
    #[error(transparent)]
    Identity(#[from] IdentityFileError),
    /// The store can't be read or made.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There are no random bytes.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// This node never was a member.
    #[error(
        "there is nothing to recover in {0}: this node is a member of no cluster. Look at `data_dir` in node.toml, or make a cluster with quorate init"
    )]
    NoMember(PathBuf),
    /// It was admitted, and has not got the cluster's state.
    #[error(
        "this node has nothing of cluster {0} yet, not even its own entry: recover on another node, or make a new cluster (move the data directory away, quorate init)"
    )]
    Empty(String),
    /// No quorum was lost.
    #[error(
        "nothing is lost: this node alone is a quorum of cluster {0}. Start quorated; remove nodes that are gone with quorate node remove"
    )]
    Alone(String),
    /// The log's indexes are used up.
    #[error("the log of this node is at entry {0}: no higher one can be counted")]
    Exhausted(u64),
    /// What was typed is not what was asked for.
    #[error("not confirmed, so nothing was changed: what has to be typed is exactly: {0}")]
    NotConfirmed(String),
    /// Nobody can be asked.
    #[error(
        "this has to be confirmed, and there is no terminal to ask on: nothing was changed. Read what is printed above; a script says --confirm '{0}'"
    )]
    NoTerminal(String),
    /// The file system or the terminal refused.
    #[error(
        "{doing}: {cause}; what was there before is still there, or is put in its place when quorated starts"
    )]
    Io {
        /// What was being done.
        doing: String,
        /// Why it failed.
        cause: io::Error,
    },
}

fn failed(doing: impl Into<String>) -> impl FnOnce(io::Error) -> RecoverError {
    move |cause| RecoverError::Io { doing: doing.into(), cause }
}

/// Makes a new cluster of what this node has. What is said goes to `out`.
///
/// # Errors
///
/// If it is not confirmed, or can't be done; the old store is in place then.
pub fn recover(
    config: &NodeConfig,
    confirmation: &Confirmation,
    out: &mut dyn Write,
) -> Result<(), RecoverError> {
    let data_dir = &config.data_dir;
    let no_member = || RecoverError::NoMember(data_dir.clone());
    let directory = DataDirectory::lock_existing(data_dir)?.ok_or_else(no_member)?;
    let identity = file::load(data_dir)?.ok_or_else(no_member)?;
    let stored = offline::read(&directory, &identity)?;
    let cluster_id = u128::from_be_bytes(authority::random()?);
    let plan = Plan::new(&identity, stored, cluster_id)?;
    let say = failed("what can be lost can't be printed");
    out.write_all(plan.warning().as_bytes()).and_then(|()| out.flush()).map_err(say)?;
    confirm(&plan.phrase(), confirmation, out)?;

    let at = clock::wall();
    let making = replace::begin(data_dir).map_err(failed("the new store can't be made"))?;
    offline::write(&making, &plan.store())?;
    file::save(&making, &plan.identity)?;
    // What root made must be the daemon's before it is put in place.
    directory.give_back().map_err(failed("the new store can't be given to the daemon's user"))?;
    let former = replace::commit(data_dir, &format!("recover-{}", plan::stamp(at)))
        .map_err(failed("the new store can't be put in place"))?;
    directory.give_back().map_err(failed("the old store can't be given to the daemon's user"))?;
    let say = failed("the new cluster is made, and that can't be printed");
    out.write_all(plan.done(&former).as_bytes()).and_then(|()| out.flush()).map_err(say)
}

fn confirm(
    phrase: &str,
    confirmation: &Confirmation,
    out: &mut dyn Write,
) -> Result<(), RecoverError> {
    let typed = match confirmation {
        Confirmation::Given(typed) => typed.clone(),
        Confirmation::Terminal => {
            let stdin = io::stdin();
            if !stdin.is_terminal() {
                return Err(RecoverError::NoTerminal(phrase.to_owned()));
            }
            let asked = write!(out, "To go on, type: {phrase}\n> ").and_then(|()| out.flush());
            asked.map_err(failed("the question can't be printed"))?;
            let mut line = String::new();
            let read = io::Read::take(stdin.lock(), LINE_BYTES_MAX).read_line(&mut line);
            read.map_err(failed("the terminal can't be read"))?;
            line
        }
    };
    if typed.trim() == phrase { Ok(()) } else { Err(RecoverError::NotConfirmed(phrase.to_owned())) }
}
