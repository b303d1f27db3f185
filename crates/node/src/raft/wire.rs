//! openraft's values as protobuf messages, for the wire and for the disk.
//!
//! What comes back is checked; nothing here panics on what another node or a disk gives. The tests
//! are at the end of this file.

use std::collections::BTreeMap;

use openraft::EntryPayload;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest, VoteResponse,
};
use quorate_api::convert::{DecodeError, FORMAT, check_format};
use quorate_api::peer::v1 as peer;

use quorate_model::command::NodeDescription;

use super::types::{
    Entry, LeaderId, LogId, Member, RaftMembership, SnapshotMeta, StoredMembership, TypeConfig,
    Vote,
};

pub(crate) fn log_id(id: &LogId) -> peer::LogId {
    peer::LogId { term: id.leader_id.term, node_id: id.leader_id.node_id, index: id.index }
}

pub(crate) fn read_log_id(id: &peer::LogId) -> LogId {
    LogId::new(LeaderId { term: id.term, node_id: id.node_id }, id.index)
}

pub(crate) fn vote(vote: &Vote) -> peer::Vote {
    peer::Vote {
        term: vote.leader_id.term,
        node_id: vote.leader_id.node_id,
        committed: vote.committed,
    }
}

pub(crate) fn read_vote(vote: Option<&peer::Vote>) -> Result<Vote, DecodeError> {
    let vote = vote.ok_or(DecodeError::Missing("vote"))?;
    let leader_id = LeaderId { term: vote.term, node_id: vote.node_id };
    Ok(Vote { leader_id, committed: vote.committed })
}

pub(crate) fn stored_vote(vote: &Vote) -> peer::StoredVote {
    peer::StoredVote {
        format: FORMAT,
        term: vote.leader_id.term,
        node_id: vote.leader_id.node_id,
        committed: vote.committed,
    }
}

pub(crate) fn read_stored_vote(vote: &peer::StoredVote) -> Result<Vote, DecodeError> {
    check_format("StoredVote", vote.format)?;
    let leader_id = LeaderId { term: vote.term, node_id: vote.node_id };
    Ok(Vote { leader_id, committed: vote.committed })
}

pub(crate) fn membership(membership: &RaftMembership) -> peer::Membership {
    let configs = membership
        .get_joint_config()
        .iter()
        .map(|set| peer::VoterSet { voters: set.iter().copied().collect() })
        .collect();
    let nodes = membership
        .nodes()
        .map(|(&id, member)| peer::MembershipNode { id, node: member.0.as_deref().map(Into::into) })
        .collect();
    peer::Membership { configs, nodes }
}

pub(crate) fn read_membership(membership: peer::Membership) -> Result<RaftMembership, DecodeError> {
    let configs = membership.configs.into_iter().map(|set| set.voters.into_iter().collect());
    let mut nodes = BTreeMap::new();
    for member in membership.nodes {
        let description: Option<NodeDescription> =
            member.node.map(TryInto::try_into).transpose()?;
        nodes.insert(member.id, description.map_or_else(Member::default, Member::from));
    }
    RaftMembership::new(configs.collect(), nodes)
        .map_err(|_| DecodeError::Missing("a voter's node in Membership.nodes"))
}

pub(crate) fn entry(entry: &Entry) -> peer::Entry {
    let payload = match &entry.payload {
        EntryPayload::Blank => peer::entry::Payload::Blank(peer::Blank {}),
        EntryPayload::Normal(command) => peer::entry::Payload::Command(command.into()),
        EntryPayload::Membership(of) => peer::entry::Payload::Membership(membership(of)),
    };
    peer::Entry { format: FORMAT, log_id: Some(log_id(&entry.log_id)), payload: Some(payload) }
}

pub(crate) fn read_entry(entry: peer::Entry) -> Result<Entry, DecodeError> {
    check_format("Entry", entry.format)?;
    let log_id = entry.log_id.as_ref().ok_or(DecodeError::Missing("Entry.log_id"))?;
    let payload = match entry.payload.ok_or(DecodeError::Missing("Entry.payload"))? {
        peer::entry::Payload::Blank(peer::Blank {}) => EntryPayload::Blank,
        peer::entry::Payload::Command(command) => EntryPayload::Normal(command.try_into()?),
        peer::entry::Payload::Membership(of) => EntryPayload::Membership(read_membership(of)?),
    };
    Ok(Entry { log_id: read_log_id(log_id), payload })
}

pub(crate) fn append_request(
    route: peer::Route,
    request: &AppendEntriesRequest<TypeConfig>,
    entries: Vec<peer::Entry>,
) -> peer::AppendEntriesRequest {
    peer::AppendEntriesRequest {
        route: Some(route),
        vote: Some(vote(&request.vote)),
        previous: request.prev_log_id.as_ref().map(log_id),
        entries,
        committed: request.leader_commit.as_ref().map(log_id),
    }
}

pub(crate) fn read_append_request(
    request: peer::AppendEntriesRequest,
) -> Result<AppendEntriesRequest<TypeConfig>, DecodeError> {
    Ok(AppendEntriesRequest {
        vote: read_vote(request.vote.as_ref())?,
        prev_log_id: request.previous.as_ref().map(read_log_id),
        entries: request.entries.into_iter().map(read_entry).collect::<Result<_, _>>()?,
        leader_commit: request.committed.as_ref().map(read_log_id),
    })
}

pub(crate) fn append_response(
    response: &AppendEntriesResponse<TypeConfig>,
) -> peer::AppendEntriesResponse {
    use peer::append_entries_response::Outcome;
    let (outcome, matching, higher) = match response {
        AppendEntriesResponse::Success => (Outcome::Success, None, None),
        AppendEntriesResponse::PartialSuccess(matching) => {
            (Outcome::PartialSuccess, matching.as_ref().map(log_id), None)
        }
        AppendEntriesResponse::Conflict => (Outcome::Conflict, None, None),
        AppendEntriesResponse::HigherVote(higher) => {
            (Outcome::HigherVote, None, Some(vote(higher)))
        }
    };
    peer::AppendEntriesResponse { outcome: outcome.into(), matching, vote: higher }
}

pub(crate) fn read_append_response(
    response: &peer::AppendEntriesResponse,
) -> Result<AppendEntriesResponse<TypeConfig>, DecodeError> {
    use peer::append_entries_response::Outcome;
    match Outcome::try_from(response.outcome) {
        Ok(Outcome::Success) => Ok(AppendEntriesResponse::Success),
        Ok(Outcome::PartialSuccess) => {
            let matching = response.matching.as_ref().map(read_log_id);
            Ok(AppendEntriesResponse::PartialSuccess(matching))
        }
        Ok(Outcome::Conflict) => Ok(AppendEntriesResponse::Conflict),
        Ok(Outcome::HigherVote) => {
            Ok(AppendEntriesResponse::HigherVote(read_vote(response.vote.as_ref())?))
        }
        Ok(Outcome::Unspecified) | Err(_) => {
            let field = "AppendEntriesResponse.outcome";
            Err(DecodeError::Unknown { field, found: response.outcome })
        }
    }
}

pub(crate) fn vote_request(
    route: peer::Route,
    request: &VoteRequest<TypeConfig>,
) -> peer::VoteRequest {
    peer::VoteRequest {
        route: Some(route),
        vote: Some(vote(&request.vote)),
        last: request.last_log_id.as_ref().map(log_id),
        leadership_transfer: request.leadership_transfer,
    }
}

pub(crate) fn read_vote_request(
    request: &peer::VoteRequest,
) -> Result<VoteRequest<TypeConfig>, DecodeError> {
    Ok(VoteRequest {
        vote: read_vote(request.vote.as_ref())?,
        last_log_id: request.last.as_ref().map(read_log_id),
        leadership_transfer: request.leadership_transfer,
    })
}

pub(crate) fn vote_response(response: &VoteResponse<TypeConfig>) -> peer::VoteResponse {
    peer::VoteResponse {
        vote: Some(vote(&response.vote)),
        granted: response.vote_granted,
        last: response.last_log_id.as_ref().map(log_id),
    }
}

pub(crate) fn read_vote_response(
    response: &peer::VoteResponse,
) -> Result<VoteResponse<TypeConfig>, DecodeError> {
    Ok(VoteResponse {
        vote: read_vote(response.vote.as_ref())?,
        vote_granted: response.granted,
        last_log_id: response.last.as_ref().map(read_log_id),
    })
}

pub(crate) fn transfer_request(
    route: peer::Route,
    request: &TransferLeaderRequest<TypeConfig>,
) -> peer::TransferLeaderRequest {
    peer::TransferLeaderRequest {
        route: Some(route),
        from_leader: Some(vote(request.from_leader())),
        to_node: *request.to_node_id(),
        last: request.last_log_id().map(log_id),
    }
}

pub(crate) fn read_transfer_request(
    request: &peer::TransferLeaderRequest,
) -> Result<TransferLeaderRequest<TypeConfig>, DecodeError> {
    Ok(TransferLeaderRequest::new(
        read_vote(request.from_leader.as_ref())?,
        request.to_node,
        request.last.as_ref().map(read_log_id),
    ))
}

/// What a snapshot covers.
pub(crate) fn snapshot_header(
    meta: &SnapshotMeta,
    data: &[u8],
    digest: [u8; 32],
) -> peer::SnapshotHeader {
    let last = meta.last_log_id.as_ref();
    peer::SnapshotHeader {
        format: FORMAT,
        id: last.map_or_else(String::new, ToString::to_string),
        last_applied: last.map(log_id),
        membership_at: meta.last_membership.log_id().as_ref().map(log_id),
        membership: Some(membership(meta.last_membership.membership())),
        size_bytes: u64::try_from(data.len()).unwrap_or(u64::MAX),
        digest: digest.to_vec(),
    }
}

pub(crate) fn read_snapshot_header(
    header: peer::SnapshotHeader,
) -> Result<SnapshotMeta, DecodeError> {
    check_format("SnapshotHeader", header.format)?;
    let membership = header.membership.ok_or(DecodeError::Missing("SnapshotHeader.membership"))?;
    Ok(SnapshotMeta {
        last_log_id: header.last_applied.as_ref().map(read_log_id),
        last_membership: StoredMembership::new(
            header.membership_at.as_ref().map(read_log_id),
            read_membership(membership)?,
        ),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use quorate_model::command::Command;
    use quorate_model::id::NodeId;

    use super::*;

    fn id(term: u64, node_id: u64, index: u64) -> LogId {
        LogId::new(LeaderId { term, node_id }, index)
    }

    #[test]
    fn an_entry_comes_back_from_its_message() {
        let joint = RaftMembership::new(
            vec![BTreeSet::from([1, 2]), BTreeSet::from([1, 2, 3])],
            BTreeMap::from([1, 2, 3, 4].map(|id| (id, Member::default()))),
        );
        let payloads = [
            EntryPayload::Blank,
            EntryPayload::Normal(Command::Leave(NodeId(3))),
            EntryPayload::Membership(joint.unwrap()),
        ];
        for payload in payloads {
            let before = Entry { log_id: id(1, 2, 3), payload };
            assert_eq!(read_entry(entry(&before)).unwrap(), before);
        }
    }

    #[test]
    fn a_response_comes_back_from_its_message() {
        let vote = Vote { leader_id: LeaderId { term: 4, node_id: 2 }, committed: true };
        let responses = [
            AppendEntriesResponse::Success,
            AppendEntriesResponse::PartialSuccess(Some(id(1, 2, 3))),
            AppendEntriesResponse::PartialSuccess(None),
            AppendEntriesResponse::Conflict,
            AppendEntriesResponse::HigherVote(vote),
        ];
        for before in responses {
            assert_eq!(read_append_response(&append_response(&before)), Ok(before));
        }
        let granted = VoteResponse::new(vote, Some(id(1, 2, 3)), true);
        assert_eq!(read_vote_response(&vote_response(&granted)), Ok(granted));
    }

    #[test]
    fn a_membership_whose_voter_has_no_node_is_refused() {
        let message = peer::Membership {
            configs: vec![peer::VoterSet { voters: vec![1] }],
            nodes: Vec::new(),
        };
        assert!(read_membership(message).is_err());
    }

    #[test]
    fn an_entry_of_another_format_is_refused() {
        let mut message = entry(&Entry { log_id: id(1, 1, 1), payload: EntryPayload::Blank });
        message.format = 2;
        assert!(matches!(read_entry(message), Err(DecodeError::Format { found: 2, .. })));
    }
}
