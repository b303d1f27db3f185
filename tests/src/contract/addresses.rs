//! The rules about devices, addresses, announcing and sysctls.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quorate_dataplane::{
    Dataplane, DataplaneError, DeviceState, DirectorNeeds, SysctlMode, addresses_of,
};
use quorate_model::claim::{Answer, Question};
use quorate_model::id::DeviceName;
use quorate_model::kernel::DeviceAddress;

use super::{Environment, Rule};

/// Rules that need CAP_NET_ADMIN and CAP_NET_RAW, but no ip_vs.
pub const ADDRESSES: &[Rule] = &[
    Rule { name: "a device is up with its MAC, down, or missing", check: devices },
    Rule { name: "an added address is observed as ours, with its lifetime", check: add },
    Rule { name: "refreshing an address changes its lifetime and adds none", check: refresh },
    Rule { name: "an address goes by itself when its lifetime has run out", check: expire },
    Rule { name: "removing an address twice is success, and others stay", check: remove },
    Rule { name: "an address of another program is observed, and not as ours", check: foreign },
    Rule { name: "a missing device has no addresses and takes none", check: missing },
    Rule { name: "of hundreds at once, one that fails is named and the others stand", check: many },
    Rule { name: "IPv6 addresses go when the device is set down, IPv4 stay", check: down },
    Rule { name: "addresses are announced on a device that is up only", check: announce },
    Rule { name: "who has an address is told with its MAC, and that nobody has it", check: ask },
    Rule { name: "what this host has itself is no answer", check: ask_own },
    Rule { name: "a device that is down or missing can't be asked through", check: ask_down },
    Rule { name: "the director's sysctls are checked without a change, then set", check: sysctls },
];

type Kernel<'a> = &'a mut dyn Dataplane;
type World<'a> = &'a mut dyn Environment;

const VIPS: [&str; 2] = ["198.51.100.1/32", "2001:db8:100::1/128"];

fn on(device: &DeviceName, net: &str) -> DeviceAddress {
    DeviceAddress { device: device.clone(), net: net.parse().unwrap() }
}

fn no_such_device() -> DeviceName {
    "nosuch0".parse().unwrap()
}

/// The lifetime of an address that must be there.
fn lifetime(dataplane: Kernel<'_>, address: &DeviceAddress) -> Option<Duration> {
    let observed = dataplane.observe_addresses(std::slice::from_ref(&address.device)).unwrap();
    assert!(observed.contains_key(address), "{address:?} is not in {observed:?}");
    observed[address].lifetime
}

fn stands(dataplane: Kernel<'_>, address: &DeviceAddress) -> bool {
    let devices = std::slice::from_ref(&address.device);
    dataplane.observe_addresses(devices).unwrap().contains_key(address)
}

fn devices(dataplane: Kernel<'_>, world: World<'_>) {
    let device = world.device();
    let up = dataplane.device(&device).unwrap();
    let DeviceState::Up { index, mac: Some(_) } = up else { panic!("{up:?}") };
    assert!(index > 0);
    world.set_device_up(false);
    assert_eq!(dataplane.device(&device), Ok(DeviceState::Down));
    world.set_device_up(true);
    assert_eq!(dataplane.device(&device), Ok(up));
    assert_eq!(dataplane.device(&no_such_device()), Ok(DeviceState::Missing));
}

fn add(dataplane: Kernel<'_>, world: World<'_>) {
    for vip in VIPS {
        let vip = on(&world.device(), vip);
        let before = dataplane.observe_addresses(&[world.device()]).unwrap();
        dataplane.add_address(&vip, Some(Duration::from_secs(10))).unwrap();
        let after = dataplane.observe_addresses(&[world.device()]).unwrap();
        assert!(after[&vip].ours);
        let left = after[&vip].lifetime.unwrap();
        assert!((5..=10).contains(&left.as_secs()), "{left:?}");
        let mut want = addresses_of(&before);
        want.insert(vip);
        assert_eq!(addresses_of(&after), want);
    }
}

fn refresh(dataplane: Kernel<'_>, world: World<'_>) {
    for vip in VIPS {
        let vip = on(&world.device(), vip);
        let before = dataplane.observe_addresses(&[world.device()]).unwrap().len();
        dataplane.add_address(&vip, Some(Duration::from_secs(1_000))).unwrap();
        for seconds in [10, 2_000] {
            dataplane.add_address(&vip, Some(Duration::from_secs(seconds))).unwrap();
            let left = lifetime(dataplane, &vip).unwrap().as_secs();
            assert!(left <= seconds && left + 5 >= seconds, "{left} s of {seconds}");
        }
        dataplane.add_address(&vip, None).unwrap();
        assert_eq!(lifetime(dataplane, &vip), None);
        dataplane.add_address(&vip, Some(Duration::from_secs(10))).unwrap();
        assert!(lifetime(dataplane, &vip).is_some());
        let after = dataplane.observe_addresses(&[world.device()]).unwrap();
        assert!(after[&vip].ours);
        assert_eq!(after.len(), before + 1);
    }
}

fn expire(dataplane: Kernel<'_>, world: World<'_>) {
    let step = Duration::from_millis(100);
    let vips = VIPS.map(|vip| on(&world.device(), vip));
    for vip in &vips {
        // Rounded up to two seconds: it stands for the first at least.
        dataplane.add_address(vip, Some(Duration::from_millis(1_001))).unwrap();
        assert!(stands(dataplane, vip));
    }
    for _ in 0..300 {
        if !vips.iter().any(|vip| stands(dataplane, vip)) {
            return;
        }
        world.let_pass(step);
    }
    panic!("the addresses stand for 30 s and more");
}

fn remove(dataplane: Kernel<'_>, world: World<'_>) {
    let device = world.device();
    let others = ["198.51.100.2/32", "2001:db8:100::2/128"].map(|vip| on(&device, vip));
    for vip in VIPS.map(|vip| on(&device, vip)).iter().chain(&others) {
        dataplane.add_address(vip, Some(Duration::from_secs(100))).unwrap();
    }
    for vip in VIPS.map(|vip| on(&device, vip)) {
        assert_eq!(dataplane.remove_address(&vip), Ok(()));
        assert!(!stands(dataplane, &vip));
        assert_eq!(dataplane.remove_address(&vip), Ok(()));
    }
    assert!(others.iter().all(|vip| stands(dataplane, vip)));
}

fn foreign(dataplane: Kernel<'_>, world: World<'_>) {
    for vip in VIPS {
        let vip = on(&world.device(), vip);
        world.add_foreign_address(&vip);
        let observed = dataplane.observe_addresses(&[world.device()]).unwrap();
        assert!(!observed[&vip].ours);
        assert_eq!(observed[&vip].lifetime, None);
        // Whoever added it, it is given a lifetime, and is removed.
        dataplane.add_address(&vip, Some(Duration::from_secs(10))).unwrap();
        assert!(lifetime(dataplane, &vip).is_some());
        assert_eq!(dataplane.remove_address(&vip), Ok(()));
        assert!(!stands(dataplane, &vip));
    }
}

fn missing(dataplane: Kernel<'_>, _: World<'_>) {
    let device = no_such_device();
    for vip in VIPS {
        let vip = on(&device, vip);
        let error = dataplane.add_address(&vip, None).unwrap_err();
        assert!(matches!(error, DataplaneError::NoDevice { .. }), "{error:?}");
        assert_eq!(dataplane.remove_address(&vip), Ok(()));
        let error = dataplane.announce(&device, vip.net.addr()).unwrap_err();
        assert!(matches!(error, DataplaneError::NoDevice { .. }), "{error:?}");
    }
    assert!(dataplane.observe_addresses(&[device]).unwrap().is_empty());
}

fn many(dataplane: Kernel<'_>, world: World<'_>) {
    let device = world.device();
    let four = (1..=200).map(|n| on(&device, &format!("198.51.100.{n}/32")));
    let six = (1..=30).map(|n| on(&device, &format!("2001:db8:100::{n:x}/128")));
    let good: Vec<DeviceAddress> = four.chain(six).collect();
    let bad = on(&no_such_device(), "203.0.113.1/32");
    let mut all = good.clone();
    // In the middle: whatever is done in portions, neither its own nor another is spoilt.
    all.insert(100, bad.clone());
    let failed = dataplane.add_addresses(&all, Some(Duration::from_secs(100)));
    let [(address, DataplaneError::NoDevice { .. })] = failed.as_slice() else {
        panic!("{failed:?}");
    };
    assert_eq!(*address, bad);
    let observed = dataplane.observe_addresses(std::slice::from_ref(&device)).unwrap();
    assert!(good.iter().all(|vip| observed.contains_key(vip) && observed[vip].ours));
    // One of them is gone already, and one stays.
    dataplane.remove_address(&good[7]).unwrap();
    let (stays, go) = good.split_last().unwrap();
    let failed = dataplane.remove_addresses(&[go, &[bad]].concat());
    assert!(failed.is_empty(), "{failed:?}");
    let observed = dataplane.observe_addresses(&[device]).unwrap();
    assert!(observed.contains_key(stays) && !go.iter().any(|vip| observed.contains_key(vip)));
}

fn down(dataplane: Kernel<'_>, world: World<'_>) {
    let [four, six] = VIPS.map(|vip| on(&world.device(), vip));
    for vip in [&four, &six] {
        dataplane.add_address(vip, Some(Duration::from_secs(100))).unwrap();
    }
    world.set_device_up(false);
    assert!(stands(dataplane, &four));
    assert!(!stands(dataplane, &six));
    world.set_device_up(true);
    assert!(!stands(dataplane, &six));
}

fn announce(dataplane: Kernel<'_>, world: World<'_>) {
    let device = world.device();
    for vip in VIPS {
        let vip = on(&device, vip);
        dataplane.add_address(&vip, Some(Duration::from_secs(100))).unwrap();
        assert_eq!(dataplane.announce(&device, vip.net.addr()), Ok(()));
        world.set_device_up(false);
        let error = dataplane.announce(&device, vip.net.addr()).unwrap_err();
        assert!(matches!(error, DataplaneError::Refused { .. }), "{error:?}");
        world.set_device_up(true);
    }
}

fn questions(addresses: &[DeviceAddress]) -> BTreeSet<Question> {
    let question =
        |of: &DeviceAddress| Question { device: of.device.clone(), address: of.net.addr() };
    addresses.iter().map(question).collect()
}

fn ask(dataplane: Kernel<'_>, world: World<'_>) {
    let vips = VIPS.map(|vip| on(&world.device(), vip));
    let asked = questions(&vips);
    let free: BTreeMap<Question, Answer> =
        asked.iter().map(|question| (question.clone(), Answer::Free)).collect();
    assert_eq!(dataplane.ask(&asked), free);
    for vip in &vips {
        let mac = world.give_neighbour(vip);
        let mut want = free.clone();
        want.extend(
            questions(std::slice::from_ref(vip)).into_iter().map(|q| (q, Answer::InUse(mac))),
        );
        assert_eq!(dataplane.ask(&asked), want);
        world.take_neighbour(vip);
    }
    assert_eq!(dataplane.ask(&asked), free);
}

fn ask_own(dataplane: Kernel<'_>, world: World<'_>) {
    let vips = VIPS.map(|vip| on(&world.device(), vip));
    for vip in &vips {
        dataplane.add_address(vip, Some(Duration::from_secs(100))).unwrap();
    }
    assert!(dataplane.ask(&questions(&vips)).values().all(|answer| *answer == Answer::Free));
}

fn ask_down(dataplane: Kernel<'_>, world: World<'_>) {
    let vips = VIPS.map(|vip| on(&world.device(), vip));
    world.set_device_up(false);
    let failed = |answer: &Answer| matches!(answer, Answer::Failed(_));
    assert!(dataplane.ask(&questions(&vips)).values().all(failed));
    world.set_device_up(true);
    let nowhere = VIPS.map(|vip| on(&no_such_device(), vip));
    assert!(dataplane.ask(&questions(&nowhere)).values().all(failed));
}

fn sysctls(dataplane: Kernel<'_>, world: World<'_>) {
    let needs = DirectorNeeds {
        devices: vec![world.device()],
        nat_ipv4: true,
        nat_ipv6: true,
        ipvs: false,
        hashed: false,
        sync: None,
    };
    let before = dataplane.director_sysctls(&needs, SysctlMode::Check);
    assert!(before.iter().any(|finding| finding.problem.is_some()), "{before:?}");
    assert!(before.iter().all(|finding| !finding.changed && finding.found.is_some()));
    assert_eq!(dataplane.director_sysctls(&needs, SysctlMode::Check), before, "only looked");

    let set = dataplane.director_sysctls(&needs, SysctlMode::Set);
    for (was, is) in before.iter().zip(&set) {
        assert_eq!(is.problem, None, "{is}");
        assert_eq!(is.changed, was.problem.is_some(), "{is}");
        assert_eq!(is.found.as_deref(), Some(is.wanted.as_str()), "{is}");
    }
    let again = dataplane.director_sysctls(&needs, SysctlMode::Set);
    assert!(again.iter().all(|finding| finding.problem.is_none() && !finding.changed));

    let needs = DirectorNeeds { devices: vec![no_such_device()], ..needs };
    let failed = dataplane.director_sysctls(&needs, SysctlMode::Set);
    let failed: Vec<&str> = failed
        .iter()
        .filter(|finding| finding.problem.is_some())
        .map(|finding| finding.key.as_str())
        .collect();
    assert_eq!(failed, ["net.ipv4.conf.nosuch0.send_redirects"]);
}
