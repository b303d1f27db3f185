//! Ways to break the protocol, each of which an invariant must catch. They change what reaches a
//! director (messages, what its disk held, the membership), never the director's own code.

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// A restarted voter promises at once: its disk forgot the longest promise.
    NoQuarantine,
    /// A voter's promise is shorter than the lease: it sees a third of it in renewals.
    ShortPromise,
    /// A voter holds nothing back: before each renewal it is told that all others released.
    NoHeld,
    /// A release frees whatever promise the sender has by then.
    ReleaseOfAnyEpoch,
    /// An ack counts for the newest round of its owner, so that a lease counts from the ack.
    AckForTheNewestRound,
    /// An owner needs no majority: it is told that it is the only voter.
    Minority,
    /// A daemon that is paused or dead keeps serving: no fence.
    NoFence,
}
