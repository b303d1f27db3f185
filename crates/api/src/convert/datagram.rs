//! What nodes tell each other outside Raft: renewals, answers, releases, reports.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use quorate_model::id::{Epoch, GroupName, Incarnation, LogIndex, Revision, Round};
use quorate_model::ownership::message::{
    Heard, Message, Obstacle, Refusal, Renew, RenewGroup, RenewReply, RenewResult, Report,
};
use quorate_model::reach::Reach;

use super::{DecodeError, name, nanoseconds, required};
use crate::peer::v1 as peer;
use peer::datagram::Message as Wire;

impl From<&Message> for Wire {
    fn from(message: &Message) -> Self {
        match message {
            Message::Renew(renew) => Self::Renew(renew.into()),
            Message::RenewReply(reply) => Self::RenewReply(reply.into()),
            Message::Released(groups) => {
                let groups = groups
                    .iter()
                    .map(|(group, epoch)| peer::ReleasedGroup {
                        group: group.to_string(),
                        epoch: epoch.0,
                    })
                    .collect();
                Self::Released(peer::Released { groups })
            }
            Message::Report(report) => Self::Report(report.into()),
        }
    }
}

impl TryFrom<Wire> for Message {
    type Error = DecodeError;

    fn try_from(wire: Wire) -> Result<Self, DecodeError> {
        Ok(match wire {
            Wire::Renew(renew) => Self::Renew(renew.try_into()?),
            Wire::RenewReply(reply) => Self::RenewReply(reply.try_into()?),
            Wire::Released(released) => {
                let groups = released.groups.into_iter();
                Self::Released(
                    groups
                        .map(|g| Ok((name("ReleasedGroup.group", &g.group)?, Epoch(g.epoch))))
                        .collect::<Result<_, DecodeError>>()?,
                )
            }
            Wire::Report(report) => Self::Report(report.try_into()?),
        })
    }
}

/// An address as it is sent and stored.
#[must_use]
pub fn address_bytes(address: &IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// An address as it was sent or stored.
///
/// # Errors
///
/// If there are neither 4 nor 16 bytes.
pub fn address(bytes: &[u8]) -> Result<IpAddr, DecodeError> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Ok(Ipv4Addr::from(v4).into());
    }
    <[u8; 16]>::try_from(bytes).map(|v6| Ipv6Addr::from(v6).into()).map_err(|_| {
        let field = "RenewGroup.addresses";
        DecodeError::Length { field, expected: 16, found: bytes.len() }
    })
}

impl From<&Renew> for peer::Renew {
    fn from(renew: &Renew) -> Self {
        let groups = renew.groups.iter().map(|(group, asked)| peer::RenewGroup {
            group: group.to_string(),
            epoch: asked.epoch.0,
            addresses: asked.addresses.iter().map(address_bytes).collect(),
            holding: asked.holding,
        });
        Self {
            incarnation: renew.incarnation.0,
            round: renew.round.0,
            membership: renew.membership.0,
            lease_ns: nanoseconds(renew.lease),
            groups: groups.collect(),
        }
    }
}

impl TryFrom<peer::Renew> for Renew {
    type Error = DecodeError;

    fn try_from(renew: peer::Renew) -> Result<Self, DecodeError> {
        let mut groups = BTreeMap::new();
        for asked in renew.groups {
            let addresses: Result<BTreeSet<IpAddr>, DecodeError> =
                asked.addresses.iter().map(|bytes| address(bytes)).collect();
            let group: GroupName = name("RenewGroup.group", &asked.group)?;
            let epoch = Epoch(asked.epoch);
            groups
                .insert(group, RenewGroup { epoch, addresses: addresses?, holding: asked.holding });
        }
        Ok(Self {
            incarnation: Incarnation(renew.incarnation),
            round: Round(renew.round),
            membership: LogIndex(renew.membership),
            lease: Duration::from_nanos(renew.lease_ns),
            groups,
        })
    }
}

impl From<&RenewReply> for peer::RenewReply {
    fn from(reply: &RenewReply) -> Self {
        use peer::renew_result::Outcome;
        let results = reply.results.iter().map(|(group, (epoch, result))| {
            let (outcome, remaining) = match result {
                RenewResult::Ack => (Outcome::Ack, Duration::ZERO),
                RenewResult::Refused(Refusal::Quarantine { remaining }) => {
                    (Outcome::Quarantine, *remaining)
                }
                RenewResult::Refused(Refusal::Membership) => (Outcome::Membership, Duration::ZERO),
                RenewResult::Refused(Refusal::Superseded) => (Outcome::Superseded, Duration::ZERO),
                RenewResult::Refused(Refusal::Held { remaining }) => (Outcome::Held, *remaining),
            };
            peer::RenewResult {
                group: group.to_string(),
                epoch: epoch.0,
                outcome: outcome.into(),
                remaining_ns: nanoseconds(remaining),
            }
        });
        Self { incarnation: reply.incarnation.0, round: reply.round.0, results: results.collect() }
    }
}

impl TryFrom<peer::RenewReply> for RenewReply {
    type Error = DecodeError;

    fn try_from(reply: peer::RenewReply) -> Result<Self, DecodeError> {
        use peer::renew_result::Outcome;
        let mut results = BTreeMap::new();
        for result in reply.results {
            let remaining = Duration::from_nanos(result.remaining_ns);
            let decided = match Outcome::try_from(result.outcome) {
                Ok(Outcome::Ack) => RenewResult::Ack,
                Ok(Outcome::Quarantine) => RenewResult::Refused(Refusal::Quarantine { remaining }),
                Ok(Outcome::Membership) => RenewResult::Refused(Refusal::Membership),
                Ok(Outcome::Superseded) => RenewResult::Refused(Refusal::Superseded),
                Ok(Outcome::Held) => RenewResult::Refused(Refusal::Held { remaining }),
                Ok(Outcome::Unspecified) | Err(_) => {
                    let field = "RenewResult.outcome";
                    return Err(DecodeError::Unknown { field, found: result.outcome });
                }
            };
            let group: GroupName = name("RenewResult.group", &result.group)?;
            results.insert(group, (Epoch(result.epoch), decided));
        }
        Ok(Self { incarnation: Incarnation(reply.incarnation), round: Round(reply.round), results })
    }
}

impl From<Obstacle> for peer::fitness::Obstacle {
    fn from(obstacle: Obstacle) -> Self {
        match obstacle {
            Obstacle::NoNetAdmin => Self::NoNetAdmin,
            Obstacle::NoIpvs => Self::NoIpvs,
            Obstacle::InterfaceUnknown => Self::InterfaceUnknown,
            Obstacle::DeviceMissing => Self::DeviceMissing,
            Obstacle::DeviceDown => Self::DeviceDown,
            Obstacle::NotProgrammed => Self::NotProgrammed,
            Obstacle::AddressRefused => Self::AddressRefused,
            Obstacle::Starting => Self::Starting,
            Obstacle::Stopping => Self::Stopping,
            Obstacle::FenceNotArmed => Self::FenceNotArmed,
            Obstacle::ArbitrationFailed => Self::ArbitrationFailed,
            Obstacle::TrackFailed => Self::TrackFailed,
            Obstacle::AddressInUse => Self::AddressInUse,
            Obstacle::DiskFull => Self::DiskFull,
        }
    }
}

fn obstacle(found: i32) -> Result<Obstacle, DecodeError> {
    use peer::fitness::Obstacle as Wire;
    Ok(match Wire::try_from(found) {
        Ok(Wire::NoNetAdmin) => Obstacle::NoNetAdmin,
        Ok(Wire::NoIpvs) => Obstacle::NoIpvs,
        Ok(Wire::InterfaceUnknown) => Obstacle::InterfaceUnknown,
        Ok(Wire::DeviceMissing) => Obstacle::DeviceMissing,
        Ok(Wire::DeviceDown) => Obstacle::DeviceDown,
        Ok(Wire::NotProgrammed) => Obstacle::NotProgrammed,
        Ok(Wire::AddressRefused) => Obstacle::AddressRefused,
        Ok(Wire::Starting) => Obstacle::Starting,
        Ok(Wire::Stopping) => Obstacle::Stopping,
        Ok(Wire::FenceNotArmed) => Obstacle::FenceNotArmed,
        Ok(Wire::ArbitrationFailed) => Obstacle::ArbitrationFailed,
        Ok(Wire::TrackFailed) => Obstacle::TrackFailed,
        Ok(Wire::AddressInUse) => Obstacle::AddressInUse,
        Ok(Wire::DiskFull) => Obstacle::DiskFull,
        Ok(Wire::Unspecified) | Err(_) => {
            return Err(DecodeError::Unknown { field: "Fitness.obstacles", found });
        }
    })
}

impl From<&Report> for peer::Report {
    fn from(report: &Report) -> Self {
        let heard = report.heard.iter().map(|(group, heard)| peer::HeardGroup {
            group: group.to_string(),
            epoch: heard.epoch.0,
            silent_ns: nanoseconds(heard.silent),
            deaf_ns: heard.deaf.map(nanoseconds),
        });
        let fitness = report.obstacles.iter().map(|(group, obstacles)| peer::Fitness {
            group: group.to_string(),
            reach: report.reach.get(group).map(|reach| peer::Reach {
                revision: reach.revision.0,
                up: reach.up,
                down: reach.down,
                all: reach.all,
            }),
            obstacles: obstacles.iter().map(|&o| peer::fitness::Obstacle::from(o).into()).collect(),
        });
        Self {
            incarnation: report.incarnation.0,
            sequence: report.sequence,
            heard: heard.collect(),
            fitness: fitness.collect(),
            cold: report.cold,
        }
    }
}

impl TryFrom<peer::Report> for Report {
    type Error = DecodeError;

    fn try_from(report: peer::Report) -> Result<Self, DecodeError> {
        let mut heard = BTreeMap::new();
        for h in report.heard {
            let value = Heard {
                epoch: Epoch(h.epoch),
                silent: Duration::from_nanos(h.silent_ns),
                deaf: h.deaf_ns.map(Duration::from_nanos),
            };
            heard.insert(name("HeardGroup.group", &h.group)?, value);
        }
        let (mut obstacles, mut reaches) = (BTreeMap::new(), BTreeMap::new());
        for fitness in report.fitness {
            let group: GroupName = name("Fitness.group", &fitness.group)?;
            if let Some(peer::Reach { revision, up, down, all }) = fitness.reach {
                let reach = Reach { revision: Revision(revision), up, down, all };
                reaches.insert(group.clone(), reach);
            }
            let found: Result<BTreeSet<Obstacle>, DecodeError> =
                fitness.obstacles.iter().map(|&found| obstacle(found)).collect();
            obstacles.insert(group, found?);
        }
        Ok(Self {
            incarnation: Incarnation(report.incarnation),
            sequence: report.sequence,
            heard,
            obstacles,
            reach: reaches,
            cold: report.cold,
        })
    }
}

/// The message of a datagram.
///
/// # Errors
///
/// If it has none, or one that this version does not know.
pub fn message(datagram: peer::Datagram) -> Result<Message, DecodeError> {
    required("Datagram.message", datagram.message)?.try_into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examples() -> Vec<Message> {
        let group: GroupName = "web".parse().unwrap();
        let addresses = ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        let asked = RenewGroup { epoch: Epoch(7), addresses: addresses.into(), holding: true };
        let remaining = Duration::from_millis(12);
        let results = [
            RenewResult::Ack,
            RenewResult::Refused(Refusal::Quarantine { remaining }),
            RenewResult::Refused(Refusal::Membership),
            RenewResult::Refused(Refusal::Superseded),
            RenewResult::Refused(Refusal::Held { remaining }),
        ];
        let mut messages: Vec<Message> = results
            .into_iter()
            .map(|result| {
                Message::RenewReply(RenewReply {
                    incarnation: Incarnation(3),
                    round: Round(4),
                    results: [(group.clone(), (Epoch(7), result))].into(),
                })
            })
            .collect();
        messages.push(Message::Renew(Renew {
            incarnation: Incarnation(u64::MAX),
            round: Round(1),
            membership: LogIndex(2),
            lease: Duration::from_millis(500),
            groups: [(group.clone(), asked)].into(),
        }));
        messages.push(Message::Released([(group.clone(), Epoch(9))].into()));
        let deaf = Some(Duration::from_nanos(1));
        let heard = Heard { epoch: Epoch(7), silent: remaining, deaf };
        let obstacles = [Obstacle::NoIpvs, Obstacle::Stopping].into();
        messages.push(Message::Report(Report {
            incarnation: Incarnation(3),
            sequence: 8,
            heard: [(group.clone(), heard)].into(),
            obstacles: [(group.clone(), obstacles)].into(),
            reach: [(group, Reach { revision: Revision(5), up: 3, down: 2, all: 6 })].into(),
            cold: true,
        }));
        messages
    }

    #[test]
    fn every_message_arrives_as_it_was_sent() {
        for sent in examples() {
            let datagram = peer::Datagram { message: Some(Wire::from(&sent)) };
            assert_eq!(message(datagram), Ok(sent));
        }
    }

    #[test]
    fn a_message_without_meaning_is_refused() {
        let nothing = peer::Datagram { message: None };
        assert!(message(nothing).is_err());
        let bad = peer::RenewGroup {
            addresses: vec![vec![1, 2, 3]],
            group: "web".into(),
            ..Default::default()
        };
        let renew = peer::Renew { groups: vec![bad], ..Default::default() };
        let datagram = peer::Datagram { message: Some(Wire::Renew(renew)) };
        assert!(matches!(message(datagram), Err(DecodeError::Length { .. })));
    }
}
