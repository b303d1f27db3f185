//! What is told between two states, and for whom a hook is. What a director tells is in
//! `director/tests/tell.rs`.

use super::*;
use crate::command::{GrantReason, UnixMillis};
use crate::id::Incarnation;
use crate::overrides::Override;
use crate::spec::{Format, Hook, parse};
use crate::state::{Configuration, GrantRecord};

const CONFIGURATION: &str = "group.web = { interface = \"x\", addresses = [\"192.0.2.80\"] }\n\
    group.db = { interface = \"x\", addresses = [\"192.0.2.81\"] }\n\
    service.shop = { group = \"web\", listen = \"tcp/192.0.2.80:80\", real_servers = [{ address = \
    \"192.0.2.16\", weight = 3 }] }\n";

fn state() -> ClusterState {
    let configuration = Configuration {
        revision: Revision(1),
        source: String::new(),
        format: Format::Toml,
        author: "ada".to_owned(),
        at: UnixMillis(0),
        message: String::new(),
        takes_back: None,
        confirmed: None,
    };
    let spec = parse(CONFIGURATION, Format::Toml).unwrap().into();
    ClusterState { spec, configuration: Some(configuration), ..ClusterState::default() }
}

fn granted(mut state: ClusterState, epoch: u64, owner: u64) -> ClusterState {
    let record = GrantRecord {
        epoch: Epoch(epoch),
        owner: NodeId(owner),
        incarnation: Incarnation(1),
        reason: GrantReason::OwnerSilent,
        at: UnixMillis(0),
    };
    state.grants.insert("web".parse().unwrap(), record);
    state
}

fn weighed(weight: Option<u32>) -> ClusterState {
    let mut state = state();
    let order = Order { author: "ada".to_owned(), at: UnixMillis(0) };
    let to = weight.map(|weight| Override { weight, order, until: None });
    state.overrides.set(&"shop".parse().unwrap(), "192.0.2.16:80".parse().unwrap(), to);
    state
}

#[test]
fn nothing_is_told_of_what_did_not_change() {
    let state = granted(state(), 7, 1);
    assert_eq!(between(&state, &state), []);
}

#[test]
fn a_grant_is_told_with_its_epoch_its_reason_and_who_was_the_owner() {
    let found = between(&granted(state(), 7, 1), &granted(state(), 9, 2));
    assert_eq!(found.len(), 1);
    let Occurrence { kind, owner, previous_owner, epoch, reason, .. } = &found[0];
    assert_eq!((*kind, *epoch), (Kind::OwnerChanged, Some(Epoch(9))));
    // Neither is a member any more.
    assert_eq!((owner.as_deref(), previous_owner.as_deref()), (Some("node 2"), Some("node 1")));
    assert_eq!(reason, "owner silent");
    let again = between(&granted(state(), 9, 2), &granted(state(), 11, 2));
    assert_eq!(again[0].previous_owner, again[0].owner, "another start of the same");
}

#[test]
fn a_weight_that_is_taken_back_is_told_with_the_configured_one_unless_the_server_left() {
    let weight = |before: &ClusterState, after: &ClusterState| -> Vec<Option<u32>> {
        between(before, after).iter().map(|found| found.weight).collect()
    };
    assert_eq!(weight(&weighed(None), &weighed(Some(0))), [Some(0)]);
    assert_eq!(weight(&weighed(Some(0)), &weighed(Some(5))), [Some(5)]);
    assert_eq!(weight(&weighed(Some(5)), &weighed(Some(5))), []);
    assert_eq!(weight(&weighed(Some(5)), &weighed(None)), [Some(3)]);
    let mut gone = state();
    gone.spec = std::sync::Arc::default();
    assert_eq!(weight(&weighed(Some(5)), &gone), []);
}

#[test]
fn every_kind_has_a_word_of_its_own() {
    let words: std::collections::BTreeSet<&str> =
        HOOK_KINDS.iter().map(|(_, kind)| kind.word()).collect();
    assert_eq!(words.len(), HOOK_KINDS.len());
    assert!(HOOK_KINDS.iter().all(|(word, kind)| kind.word() == *word));
    for own in [Kind::HookFailed, Kind::EventsLost] {
        assert!(!words.contains(own.word()), "no hook runs for what hooks or the journal say");
    }
}

fn hook(lines: &str) -> Hook {
    let source = format!("{CONFIGURATION}[hook.h]\ncommand = [\"/bin/true\"]\n{lines}\n");
    parse(&source, Format::Toml).unwrap().hooks.into_values().next().unwrap()
}

#[test]
fn a_hook_is_for_what_it_names_and_for_the_owner_unless_it_says_all() {
    let state = granted(state(), 7, 1);
    let of = |group: &str| {
        Occurrence::of_group(Kind::OwnerChanged, &state, &group.parse().unwrap(), String::new())
    };
    let wants = |lines: &str, occurrence: &Occurrence, mine: bool| {
        hook(lines).wants(&Told { occurrence: occurrence.clone(), mine })
    };
    let (web, db) = (of("web"), of("db"));
    for lines in ["on = \"owner_changed\"", "on = \"owner_changed\"\ngroups = \"web\""] {
        assert!(wants(lines, &web, true) && !wants(lines, &web, false));
    }
    assert!(wants("on = \"owner_changed\"\nrun_on = \"all\"", &web, false));
    assert!(!wants("on = \"owner_changed\"\ngroups = \"web\"", &db, true));
    assert!(!wants("on = [\"group_up\", \"group_down\"]", &web, true));
    let down = Occurrence {
        service: Some("shop".parse().unwrap()),
        ..Occurrence { kind: Kind::RealServerDown, ..web }
    };
    assert!(wants("on = \"real_server_down\"\nservices = [\"shop\"]", &down, true));
    assert!(wants("on = \"real_server_down\"\ngroups = [\"web\"]", &down, true));
    assert!(!wants("on = \"real_server_down\"\ngroups = [\"db\"]", &down, true));
}

#[test]
fn what_became_of_an_unconfirmed_configuration_is_told() {
    use crate::overrides::Overrides;
    use crate::state::Unconfirmed;
    use crate::time::Timing;
    let settled = state();
    let mut waiting = state();
    waiting.unconfirmed = Some(Unconfirmed {
        since: UnixMillis(0),
        until: UnixMillis(9),
        timing: Timing::LAN,
        pins: BTreeMap::new(),
        overrides: Overrides::default(),
    });
    let told = |before: &ClusterState, after: &ClusterState| -> Vec<String> {
        let found = between(before, after);
        found.iter().map(|o| format!("{} {}: {}", o.kind.word(), o.revision, o.reason)).collect()
    };
    let mut confirmed = settled.clone();
    confirmed.configuration.as_mut().unwrap().confirmed =
        Some(Order { author: "eve".to_owned(), at: UnixMillis(5) });
    assert_eq!(told(&waiting, &confirmed), ["configuration_confirmed 1: confirmed by eve"]);
    assert_eq!(told(&confirmed, &confirmed), [""; 0]);
    assert_eq!(told(&settled, &waiting), [""; 0]);
    let mut reverted = settled;
    let back = reverted.configuration.as_mut().unwrap();
    (back.revision, back.takes_back) = (Revision(2), Some(Revision(1)));
    back.message = "rollback of revision 1, which nobody confirmed".to_owned();
    assert_eq!(
        told(&waiting, &reverted),
        [
            "configuration_applied 2: applied by ada",
            "configuration_reverted 2: rollback of revision 1, which nobody confirmed"
        ]
    );
    assert_eq!(told(&reverted, &reverted), [""; 0]);
}
