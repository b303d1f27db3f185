//! The rules about the daemons that synchronise connections.

use quorate_dataplane::{AddressPlace, Dataplane, DataplaneError};
use quorate_model::kernel::DeviceAddress;
use quorate_model::sync::{SyncDaemons, SyncRole, SyncSettings, SyncStep, plan_sync};

use super::{Environment, Rule};

/// Rules that need ip_vs and CAP_NET_ADMIN.
pub const SYNC: &[Rule] =
    &[Rule { name: "sync daemons start and end, and are told with their settings", check: sync }];

/// Both at once, as on every director; with them no real server is of the other family.
fn sync(dataplane: &mut dyn Dataplane, world: &mut dyn Environment) {
    let device = world.device();
    let address = DeviceAddress { device: device.clone(), net: "198.51.100.9/24".parse().unwrap() };
    dataplane.add_address(&address, None).unwrap();
    // On a real device there may be another before it.
    let place = dataplane.device_with(address.net.addr()).unwrap();
    assert_eq!(place.map(|place| place.device), Some(device.clone()));
    let second = DeviceAddress { device: device.clone(), net: "198.51.100.11/32".parse().unwrap() };
    dataplane.add_address(&second, None).unwrap();
    let place = AddressPlace { device: device.clone(), first: false };
    assert_eq!(dataplane.device_with(second.net.addr()), Ok(Some(place)));
    dataplane.remove_address(&second).unwrap();
    assert_eq!(dataplane.device_with("198.51.100.10".parse().unwrap()), Ok(None));
    let settings = |id, port, max_len| SyncSettings {
        device: device.clone(),
        id,
        group: "224.0.0.81".parse().unwrap(),
        port,
        ttl: 1,
        max_len,
    };
    assert_eq!(dataplane.sync_daemons(), Ok(SyncDaemons::new()));
    for want in [settings(1, 8848, None), settings(255, 9999, Some(1_024))] {
        for step in plan_sync(Some(&want), &dataplane.sync_daemons().unwrap(), true) {
            dataplane.sync_step(&step).unwrap();
        }
        let found = dataplane.sync_daemons().unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(plan_sync(Some(&want), &found, true), []);
    }
    let again = SyncStep::Start(SyncRole::Master, settings(1, 8848, None));
    assert!(dataplane.sync_step(&again).is_err(), "it runs already");
    for step in [
        SyncStep::Stop(SyncRole::Backup),
        SyncStep::Stop(SyncRole::Backup),
        SyncStep::Stop(SyncRole::Master),
    ] {
        dataplane.sync_step(&step).unwrap();
    }
    assert_eq!(dataplane.sync_daemons(), Ok(SyncDaemons::new()));
    let nowhere = SyncSettings { device: "none0".parse().unwrap(), ..settings(1, 8848, None) };
    let error = dataplane.sync_step(&SyncStep::Start(SyncRole::Master, nowhere)).unwrap_err();
    assert!(matches!(error, DataplaneError::NoDevice { .. }), "{error:?}");
    dataplane.remove_address(&address).unwrap();
}
