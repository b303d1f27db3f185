//! openraft's settings, from the cluster's timing (design §3, reference/openraft.md §9).

use openraft::{Config, ConfigError, SnapshotPolicy};
use quorate_model::time::Timing;

/// Entries between two snapshots.
pub const SNAPSHOT_EVERY: u64 = 1_000;
/// Entries that stay in the log for followers that are a little behind.
const KEPT: u64 = 200;

/// Raft's timers, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timers {
    pub(crate) heartbeat: u64,
    pub(crate) election_min: u64,
    pub(crate) election_max: u64,
}

impl Timers {
    /// The timers that go with a timing. No safety depends on them.
    pub(crate) fn of(timing: Timing) -> Self {
        let (heartbeat, election_min, election_max) = match timing {
            Timing::FAST => (30, 100, 150),
            Timing::LAN => (60, 200, 300),
            Timing::WAN => (300, 1_000, 1_500),
            other => {
                // In the proportions of `lan`, but never below `fast`: a heartbeat must leave
                // time for an fsync.
                let lease = u64::try_from(other.lease().as_millis()).unwrap_or(u64::MAX);
                let part = |of: u64, least: u64| (lease.saturating_mul(of) / 100).max(least);
                (part(12, 30), part(40, 100), part(60, 150))
            }
        };
        Self { heartbeat, election_min, election_max }
    }
}

/// # Errors
///
/// If openraft finds the settings contradictory.
pub(crate) fn config(
    cluster: &str,
    timers: Timers,
    snapshot_every: u64,
) -> Result<Config, ConfigError> {
    Config {
        cluster_name: cluster.to_owned(),
        heartbeat_interval: timers.heartbeat,
        election_timeout_min: timers.election_min,
        election_timeout_max: timers.election_max,
        install_snapshot_timeout: timers.election_max.saturating_mul(10).max(2_000),
        max_payload_entries: 64,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(snapshot_every),
        max_in_snapshot_log_to_keep: KEPT.min(snapshot_every),
        replication_lag_threshold: snapshot_every.saturating_mul(2),
        backoff: "20ms 40ms ...200ms".to_owned(),
        enable_pre_vote: Some(true),
        // A restarted leader may have missed an election.
        enable_leader_restore: Some(false),
        // At least twice the longest election time-out, or the leader of a partial partition
        // keeps everybody from electing another (openraft #2089).
        quorum_loss_probe_interval: Some(
            timers.election_max.saturating_mul(2).saturating_add(timers.heartbeat),
        ),
        ..Config::default()
    }
    .validate()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_timing_gives_settings_that_openraft_takes() {
        let ms = Duration::from_millis;
        let own = [(100, 33), (150, 50), (5_000, 500), (40_000, 1_000)]
            .map(|(lease, renew)| Timing::new(ms(lease), ms(renew)).unwrap());
        for timing in own.into_iter().chain([Timing::FAST, Timing::LAN, Timing::WAN]) {
            let timers = Timers::of(timing);
            assert!(timers.heartbeat * 3 <= timers.election_min, "{timing}: {timers:?}");
            assert!(config("test", timers, SNAPSHOT_EVERY).is_ok(), "{timing}");
        }
    }
}
