//! Ways to break the protocol, each of which an invariant must catch: every file of `invariants`
//! names those that its invariant catches. They change what reaches a director or leaves it
//! (messages, what its disk held, the membership, effects), or what the simulated Raft and clients
//! do, never the director's own code. `ownership::Mutant` has those that need an order of events
//! so rare that it is written by hand.

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// A restarted voter promises at once: its disk forgot the longest promise.
    NoQuarantine,
    /// A voter's promise is shorter than the lease: it sees a third of it in renewals.
    ShortPromise,
    /// A voter holds nothing back: before each renewal it is told that all others released.
    NoHeld,
    /// An ack counts for the newest round of its owner, so that a lease counts from the ack.
    AckForTheNewestRound,
    /// An owner needs no majority: it is told that it is the only voter.
    Minority,
    /// A daemon that is paused or dead keeps serving: no fence.
    NoFence,
    /// A voter without a floor: it sees every epoch as the newest it has heard of.
    NoFloor,
    /// An owner that was once refused because of another's promise never asks again.
    NeverAsksAgain,
    /// A leader that lost a proposal waits for its end for ever.
    ProposalNeverEnds,
    /// Nobody tells the leader when it last heard of an owner.
    Unsuspecting,
    /// A client is told that its configuration is taken before a majority has it.
    AckWhenAppended,
    /// A node leads though its log lacks committed entries.
    ElectedBehind,
    /// A configuration replaces another that its author never saw.
    NoPrecondition,
    /// A request that is repeated counts as a new one.
    RepeatedAsNew,
    /// What the kernel refused is not tried again.
    ServicesTriedOnce,
    /// A real server's weight follows from probing alone.
    WeightByVerdict,
}
