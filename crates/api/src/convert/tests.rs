//! Every value comes back from its message, and what makes no sense is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use prost::Message as _;
use quorate_model::command::{
    CertificateAuthority, Command, Configure, Digest, Grant, GrantReason, LinkAddress,
    NodeDescription, Order, RequestId, UnixMillis,
};
use quorate_model::id::{Epoch, Incarnation, LogIndex, NodeId, Revision, Role};
use quorate_model::membership::Membership;
use quorate_model::overrides::{Override, Overrides};
use quorate_model::spec::{Format, parse};
use quorate_model::state::{
    ClusterState, Configuration, GrantRecord, NodeRecord, TakenRequest, Unconfirmed,
};
use quorate_model::time::Timing;

use super::{DecodeError, Promises, check_format, cluster_id, decode};
use crate::peer::v1 as peer;

fn node(number: u8) -> NodeDescription {
    NodeDescription {
        name: format!("lb{number}").parse().unwrap(),
        role: if number == 3 { Role::Witness } else { Role::Director },
        links: vec![
            LinkAddress {
                name: "lan".to_owned(),
                listen: format!("192.168.10.{number}:7400").parse().unwrap(),
            },
            LinkAddress { name: "v6".to_owned(), listen: "[fd00::1]:7400".parse().unwrap() },
        ],
        public_key: Digest([number; 32]),
    }
}

fn authority() -> CertificateAuthority {
    CertificateAuthority { certificate: vec![1, 2], private_key: vec![3] }
}

fn order() -> Order {
    Order { author: "local uid 0".to_owned(), at: UnixMillis(8) }
}

fn weight_override() -> Override {
    Override { weight: 0, order: order(), until: Some(UnixMillis(77)) }
}

fn commands() -> Vec<Command> {
    let configure = Configure {
        request: RequestId(7),
        author: "root".to_owned(),
        at: UnixMillis(9),
        expected: Some(Revision(0)),
        source: "[cluster]\n".to_owned(),
        format: Format::Toml,
        message: String::new(),
        confirm_until: None,
    };
    let reasons = [
        GrantReason::First,
        GrantReason::Restarted,
        GrantReason::OwnerSilent,
        GrantReason::OwnerDeaf,
        GrantReason::OwnerUnfit,
        GrantReason::Preempt,
        GrantReason::Transfer,
        GrantReason::Evacuated,
        GrantReason::Disagreement,
    ];
    let grants = reasons.map(|reason| Grant {
        group: "web".parse().unwrap(),
        previous: Epoch(4),
        owner: NodeId(2),
        incarnation: Incarnation(u64::MAX),
        reason,
    });
    vec![
        Command::Found {
            cluster_id: 0xffee_0000_0000_0000_0000_0000_0000_0001,
            name: "prod".to_owned(),
            timing: Timing::FAST,
            authority: authority(),
            node: node(1),
        },
        Command::Configure(configure.clone()),
        Command::Configure(Configure {
            expected: None,
            format: Format::Json,
            message: "add .14".to_owned(),
            confirm_until: Some(UnixMillis(300_009)),
            ..configure
        }),
        Command::Confirm { revision: Revision(3), order: order() },
        Command::RollBack { revision: Revision(3), until: None, order: order() },
        Command::RollBack { revision: Revision(3), until: Some(UnixMillis(7)), order: order() },
        Command::Grant { at: UnixMillis(1), grants: grants.to_vec() },
        Command::AddToken { secret: Digest([5; 32]), at: UnixMillis(1), expires: UnixMillis(2) },
        Command::Admit { secret: Digest([5; 32]), at: UnixMillis(1), node: node(3) },
        Command::Leave(NodeId(3)),
        Command::Forget(NodeId(3)),
        Command::Pin { group: "web".parse().unwrap(), node: Some(NodeId(1)) },
        Command::Pin { group: "web".parse().unwrap(), node: None },
        Command::AddClient { name: "ops".to_owned(), public_key: Digest([6; 32]) },
        Command::Evacuate { node: NodeId(2), order: Some(order()) },
        Command::Evacuate { node: NodeId(2), order: None },
        Command::Override {
            servers: vec![
                ("web".parse().unwrap(), "192.0.2.16:80".parse().unwrap()),
                ("web6".parse().unwrap(), "[2001:db8::16]:0".parse().unwrap()),
            ],
            to: Some(weight_override()),
        },
        Command::Override { servers: Vec::new(), to: None },
        Command::EndOverrides(UnixMillis(9)),
        Command::Pause(Some(order())),
        Command::Pause(None),
    ]
}

#[test]
fn a_command_comes_back_from_its_bytes() {
    for command in commands() {
        let bytes = peer::Command::from(&command).encode_to_vec();
        let message: peer::Command = decode("Command", &bytes).unwrap();
        assert_eq!(Command::try_from(message).as_ref(), Ok(&command));
    }
}

#[test]
fn a_state_comes_back_from_its_bytes() {
    let mut state = ClusterState {
        applied: LogIndex(17),
        cluster_id: 42,
        name: "prod".to_owned(),
        timing: Timing::WAN,
        longest_lease: Duration::from_secs(5),
        authority: Some(authority()),
        next_node: 4,
        ..ClusterState::default()
    };
    for number in 1..=3 {
        let record = NodeRecord { description: node(number), leaving: number == 2 };
        state.nodes.insert(NodeId(number.into()), record);
    }
    let server = "192.0.2.16:80".parse().unwrap();
    state.overrides.set(&"web".parse().unwrap(), server, Some(weight_override()));
    let endless = Override { until: None, weight: 9, ..weight_override() };
    state.overrides.set(&"www".parse().unwrap(), server, Some(endless));
    state.tokens.insert(Digest([1; 32]), UnixMillis(3));
    state.clients.insert(Digest([2; 32]), "ops".to_owned());
    state.grants.insert(
        "web".parse().unwrap(),
        GrantRecord {
            epoch: Epoch(11),
            owner: NodeId(1),
            incarnation: Incarnation(12),
            reason: GrantReason::Preempt,
            at: UnixMillis(13),
        },
    );
    state.pins.insert("web".parse().unwrap(), NodeId(1));
    state.evacuated.insert(NodeId(2), order());
    state.paused = Some(order());
    let taken = TakenRequest { request: RequestId(1), revision: Revision(2), changed: true };
    state.requests.push_back(taken);
    let configuration = Configuration {
        revision: Revision(4),
        source: "cluster.sync_warmup = \"7s\"\n".to_owned(),
        format: Format::Toml,
        author: "client ada".to_owned(),
        at: UnixMillis(14),
        message: "warmer".to_owned(),
        takes_back: Some(Revision(3)),
        confirmed: Some(order()),
    };
    state.spec = parse(&configuration.source, configuration.format).unwrap().into();
    let before = Configuration {
        revision: Revision(3),
        message: String::new(),
        takes_back: None,
        confirmed: None,
        format: Format::Json,
        // What is not in force need not be readable any more.
        source: "from another time".to_owned(),
        ..configuration.clone()
    };
    state.history.push_back(before.into());
    state.configuration = Some(configuration);
    let mut overrides = Overrides::default();
    overrides.set(&"web".parse().unwrap(), server, Some(weight_override()));
    state.unconfirmed = Some(Unconfirmed {
        since: UnixMillis(14),
        until: UnixMillis(15),
        timing: Timing::FAST,
        pins: BTreeMap::from([("db".parse().unwrap(), NodeId(3))]),
        overrides,
    });
    let bytes = peer::State::from(&state).encode_to_vec();
    let message: peer::State = decode("State", &bytes).unwrap();
    assert_eq!(ClusterState::try_from(message), Ok(state));
}

#[test]
fn a_membership_comes_back_from_its_message() {
    let membership = Membership {
        configs: vec![
            BTreeSet::from([NodeId(1), NodeId(2)]),
            BTreeSet::from([NodeId(1), NodeId(2), NodeId(3)]),
        ],
        nodes: BTreeMap::from([(NodeId(1), node(1)), (NodeId(2), node(2)), (NodeId(3), node(3))]),
    };
    let message = peer::Membership::from(&membership);
    assert_eq!(Membership::try_from(message), Ok(membership));
}

#[test]
fn promises_come_back_from_their_message() {
    let promises = Promises {
        longest: Duration::from_millis(520),
        floors: BTreeMap::from([("web".parse().unwrap(), Epoch(9))]),
    };
    let message = peer::StoredPromises::from(&promises);
    assert_eq!(Promises::try_from(message), Ok(promises));
}

/// What stands on disks must stay readable: these bytes were written by format 1.
#[test]
fn a_stored_entry_of_format_1_is_read() {
    let command = Command::Pin { group: "web".parse().unwrap(), node: Some(NodeId(2)) };
    let entry = peer::Entry {
        format: 1,
        log_id: Some(peer::LogId { term: 3, node_id: 1, index: 300 }),
        payload: Some(peer::entry::Payload::Command((&command).into())),
    };
    let golden = [
        0x08, 0x01, // format 1
        0x12, 0x07, 0x08, 0x03, 0x10, 0x01, 0x18, 0xac, 0x02, // log id
        0x22, 0x09, 0x42, 0x07, 0x0a, 0x03, b'w', b'e', b'b', 0x10, 0x02, // pin
    ];
    assert_eq!(entry.encode_to_vec(), golden);
    let read: peer::Entry = decode("Entry", &golden).unwrap();
    let Some(peer::entry::Payload::Command(read)) = read.payload else {
        panic!("no command in {read:?}");
    };
    assert_eq!(Command::try_from(read), Ok(command));
}

/// A store of before there were unconfirmed configurations, messages and a history.
#[test]
fn a_stored_configuration_without_history_is_read() {
    let golden = [
        0x08, 0x01, // format 1
        0x1a, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, // cluster id
        0x2a, 0x0b, 0x08, 0x80, 0xca, 0xb5, 0xee, 0x01, 0x10, 0x80, 0xe1, 0xeb,
        0x17, // timing
        0x62, 0x0b, 0x08, 0x05, 0x18, 0x01, 0x22, 0x03, b'a', b'd', b'a', 0x28, 0x09,
    ];
    let read: peer::State = decode("State", &golden).unwrap();
    let state = ClusterState::try_from(read).unwrap();
    let configuration = state.configuration.unwrap();
    assert_eq!((configuration.revision, configuration.author.as_str()), (Revision(5), "ada"));
    assert_eq!((configuration.message.as_str(), configuration.takes_back), ("", None));
    assert!(state.unconfirmed.is_none() && state.history.is_empty());
}

/// What stands on disks must stay readable: these bytes were written by format 1.
#[test]
fn a_stored_rollback_of_format_1_is_read() {
    let order = Order { author: "x".to_owned(), at: UnixMillis(8) };
    let until = Some(UnixMillis(7));
    let command = Command::RollBack { revision: Revision(3), until, order: order.clone() };
    let golden = [0x7a, 0x0b, 0x08, 0x03, 0x10, 0x07, 0x1a, 0x05, 0x0a, 0x01, b'x', 0x10, 0x08];
    assert_eq!(peer::Command::from(&command).encode_to_vec(), golden);
    let confirm = Command::Confirm { revision: Revision(3), order };
    let golden = [0x72, 0x09, 0x08, 0x03, 0x12, 0x05, 0x0a, 0x01, b'x', 0x10, 0x08];
    assert_eq!(peer::Command::from(&confirm).encode_to_vec(), golden);
    let read: peer::Command = decode("Command", &golden).unwrap();
    assert_eq!(Command::try_from(read), Ok(confirm));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let nobodys = peer::command::Command::Confirm(peer::ConfirmRevision::default());
    assert_eq!(
        Command::try_from(peer::Command { command: Some(nobodys) }),
        Err(DecodeError::Missing("ConfirmRevision.order"))
    );
    assert!(matches!(decode::<peer::Entry>("Entry", &[0xff]), Err(DecodeError::Protobuf { .. })));
    assert_eq!(
        Command::try_from(peer::Command { command: None }),
        Err(DecodeError::Missing("Command.command"))
    );
    assert_eq!(
        cluster_id(&[1, 2]),
        Err(DecodeError::Length { field: "cluster_id", expected: 16, found: 2 })
    );
    assert!(matches!(check_format("State", 2), Err(DecodeError::Format { found: 2, .. })));
    let good = peer::NodeDescription::from(&node(1));
    let bad = [
        peer::NodeDescription { name: "-x".to_owned(), ..good.clone() },
        peer::NodeDescription { role: 0, ..good.clone() },
        peer::NodeDescription { role: 99, ..good.clone() },
        peer::NodeDescription { links: Vec::new(), ..good.clone() },
        peer::NodeDescription { public_key: vec![0; 31], ..good.clone() },
        peer::NodeDescription {
            links: vec![peer::LinkAddress { name: String::new(), listen: "nowhere".to_owned() }],
            ..good
        },
    ];
    for message in bad {
        assert!(NodeDescription::try_from(message.clone()).is_err(), "{message:?} passed");
    }
}
