//! Ways to break one rule of the protocol each. They change what reaches the real voter and the
//! real owner, what the disk gives back, or what is done with their answers; never their code.

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mutant {
    /// A restarted voter promises at once.
    NoQuarantine,
    /// A restarted voter waits only for the promise of the lease that is configured now.
    QuarantineOfTheCurrentLease,
    /// A promise is shorter than its lease.
    ShortPromise,
    /// A promise is as long as its lease, and leaves nothing for clocks that drift apart.
    PromiseWithoutDrift,
    /// A voter promises by the lease that it has applied, not by the one in the renewal.
    PromiseByTheVotersLease,
    /// A voter holds a group's name, and no addresses.
    PromiseByGroupName,
    /// A lease counts from when the ack came.
    LeaseFromTheAck,
    /// A live promise to another node holds nothing back.
    NoHeld,
    /// What a promise holds back is asked before the disk, and not again after it.
    HeldAskedBeforeTheDisk,
    /// A voter supports any epoch, however old.
    NoFloor,
    /// A restarted voter has forgotten its floors.
    VolatileFloor,
    /// A voter answers before its floor and its longest promise are on disk.
    AckBeforeTheDisk,
    /// A restarted daemon goes on with the grant of the one before it.
    ResumedEpoch,
    /// An ack counts by the number of its round, whoever it was for.
    AckByRoundAlone,
    /// A release frees whatever promise the sender has by then.
    ReleaseOfAnyEpoch,
    /// A release is told while the fence is still open.
    ReleaseBeforeClosing,
    /// A release is told by another program, beside a daemon that goes on.
    ReleaseBesideALiveDaemon,
    /// The fence is told how long it stays open, not until when.
    RelativeDeadline,
    /// Nothing closes the fence but the daemon.
    NoFence,
    /// An owner needs no majority.
    Minority,
    /// A voter answers whatever membership the owner goes by.
    NoMembershipRule,
}
