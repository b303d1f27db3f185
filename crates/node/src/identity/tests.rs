//! Identities come back from disk, tokens from their text; damage is named.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use quorate_model::command::{Command, LinkAddress, UnixMillis};
use quorate_model::id::{LogIndex, Role};
use quorate_model::state::ClusterState;
use quorate_model::time::Timing;

use super::file::{self, IdentityFileError};
use super::token::{self, Token, TokenError};
use super::{NodeProfile, authority, found};

fn profile() -> NodeProfile {
    NodeProfile {
        name: "lb1".parse().unwrap(),
        role: Role::Director,
        links: vec![
            LinkAddress { name: "a".to_owned(), listen: "10.0.0.1:7400".parse().unwrap() },
            LinkAddress { name: "b".to_owned(), listen: "[fd00::1]:7400".parse().unwrap() },
        ],
    }
}

fn founded() -> ClusterState {
    let (_, command) = found("prod", Timing::LAN, &profile()).unwrap();
    let mut state = ClusterState::default();
    state.apply(LogIndex(1), &command).unwrap();
    state
}

#[test]
fn an_identity_comes_back_from_its_file_which_is_private() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(file::load(directory.path()).unwrap(), None);
    let (identity, _) = found("prod", Timing::LAN, &profile()).unwrap();
    file::save(directory.path(), &identity).unwrap();
    assert_eq!(file::load(directory.path()).unwrap(), Some(identity));
    let mode = fs::metadata(file::path(directory.path())).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_damaged_identity_is_an_error_and_not_a_new_node() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(file::path(directory.path()), [0xff, 0xff]).unwrap();
    let error = file::load(directory.path()).unwrap_err();
    assert!(matches!(error, IdentityFileError::Damaged { .. }), "{error}");
}

#[test]
fn a_token_comes_back_from_its_text() {
    let (token, command) = token::create(&founded(), UnixMillis(1_000)).unwrap().unwrap();
    let text = token.to_string();
    assert!(text.starts_with("quorate1."));
    assert_eq!(format!(" {text}\n").parse(), Ok(token.clone()));
    assert_eq!(token.addresses.len(), 2);
    let expected = Command::AddToken {
        secret: authority::sha256(&token.secret),
        at: UnixMillis(1_000),
        expires: UnixMillis(901_000),
    };
    assert_eq!(command, expected);
}

#[test]
fn a_token_that_is_not_whole_is_told_from_another_text() {
    let (token, _) = token::create(&founded(), UnixMillis(0)).unwrap().unwrap();
    let text = token.to_string();
    assert_eq!("hello".parse::<Token>(), Err(TokenError::Prefix));
    for end in "quorate1.".len()..text.len() {
        assert_eq!(text[..end].parse::<Token>(), Err(TokenError::Damaged), "{end}");
    }
}

#[test]
fn no_token_before_the_cluster_is_founded() {
    assert_eq!(token::create(&ClusterState::default(), UnixMillis(0)).unwrap(), None);
}

#[test]
fn what_is_secret_is_not_in_debug_output() {
    let (identity, _) = found("prod", Timing::LAN, &profile()).unwrap();
    let text = format!("{identity:?}");
    assert!(!text.contains("private_key"), "{text}");
}
