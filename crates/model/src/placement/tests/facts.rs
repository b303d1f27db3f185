//! What directors find out about themselves: arbitration that fails here or everywhere, and tracks.

use super::*;

/// Twice the interval of the echo requests.
const NOTICED: Duration = Duration::from_millis(400);

#[test]
fn an_owner_that_alone_reaches_no_arbitration_address_hands_over() {
    let mut world = World::new("").owned_by(2);
    world.obstacle(2, Obstacle::ArbitrationFailed);
    assert_eq!(world.decide(), None, "the others may be about to notice the same");
    world.pass(NOTICED);
    assert_eq!(world.decide(), Some((1, GrantReason::OwnerUnfit)));
}

#[test]
fn a_gateway_that_nobody_reaches_moves_nothing() {
    let mut world = World::new(PREFER).owned_by(1);
    for node in 1..=3 {
        world.obstacle(node, Obstacle::ArbitrationFailed);
        assert_eq!(world.decide(), None);
        world.pass(NOTICED / 4);
    }
    world.pass(NOTICED * 2);
    assert_eq!(world.decide(), None);
    // As it comes back, the directors notice one after another too.
    world.fit(3);
    assert_eq!(world.decide(), None);
    world.pass(NOTICED / 2);
    world.fit(1);
    assert_eq!(world.decide(), None);
}

#[test]
fn a_group_without_owner_goes_to_somebody_though_nobody_reaches_the_gateway() {
    let mut world = World::new("");
    for node in 1..=3 {
        world.obstacle(node, Obstacle::ArbitrationFailed);
    }
    assert_eq!(world.decide(), Some((1, GrantReason::First)));
    world.fit(3);
    assert_eq!(world.decide(), Some((3, GrantReason::First)));
}

#[test]
fn a_director_that_reaches_the_gateway_and_is_not_fit_takes_nothing_from_one_that_is() {
    for worse in [Obstacle::NotProgrammed, Obstacle::AddressRefused, Obstacle::DeviceDown] {
        let mut world = World::new("only = [\"n1\", \"n2\"]").owned_by(2);
        world.obstacle(2, Obstacle::ArbitrationFailed);
        world.obstacle(1, worse);
        world.decide();
        world.pass(NOTICED * 10);
        assert_eq!(world.decide(), None, "{worse:?}");
    }
}

#[test]
fn a_director_that_lacks_more_than_the_owner_takes_nothing_back() {
    let mut world = World::new("only = [\"n1\", \"n2\"]\nprefer = [\"n2\"]").owned_by(1);
    world.obstacle(1, Obstacle::ArbitrationFailed);
    let report = &mut world.reports.get_mut(&NodeId(2)).unwrap().report;
    let both = [Obstacle::ArbitrationFailed, Obstacle::NotProgrammed];
    report.obstacles.insert(g(), both.into());
    world.decide();
    world.pass(SECOND * 100);
    assert_eq!(world.decide(), None);
}

#[test]
fn an_arbitration_that_comes_back_returns_the_group_after_the_delay() {
    let mut world = World::new(PREFER).owned_by(1);
    world.obstacle(2, Obstacle::ArbitrationFailed);
    world.decide();
    world.pass(SECOND * 100);
    assert_eq!(world.decide(), None);
    world.fit(2);
    assert_eq!(world.decide(), None);
    world.pass(SECOND * 10);
    assert_eq!(world.decide(), Some((2, GrantReason::Preempt)));
}

#[test]
fn a_failed_track_moves_a_group_at_once_and_only_to_where_it_passes() {
    let mut world = World::new("").owned_by(2);
    world.obstacle(2, Obstacle::TrackFailed);
    world.obstacle(1, Obstacle::TrackFailed);
    assert_eq!(world.decide(), Some((3, GrantReason::OwnerUnfit)));
    world.obstacle(3, Obstacle::TrackFailed);
    assert_eq!(world.decide(), None, "there is nobody to move to");
    let mut world = World::new("");
    for node in 1..=3 {
        world.obstacle(node, Obstacle::TrackFailed);
    }
    assert_eq!(world.decide(), None, "nobody is eligible for a first claim");
}
