//! The fence (crates/dataplane/src/fence) on this host's kernel: a neighbour asks for a VIP by ARP,
//! neighbour discovery, ICMP and TCP. Needs root. Run by `cargo xtask test`.
#![forbid(unsafe_code)]
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "what a test relies on fails the test; the process that is killed tells its deadline"
)]

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use quorate_dataplane::fence::{self, Coverage, Fence, FenceError, Slot};
use quorate_dataplane::linux::Linux;
use quorate_dataplane::watch::Watch;
use quorate_dataplane::{Dataplane, DeviceState};
use quorate_model::id::DeviceName;
use quorate_model::time::Instant;
use quorate_tests::contract::{Environment, LinuxWorld};
use quorate_tests::lab::client;
use quorate_tests::lab::clock::{self, Deadline, wait_until};
use quorate_tests::lab::network::INTERFACE;
use quorate_tests::lab::process::Process;
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

const LIMIT: Duration = Duration::from_secs(60);
/// What a question waits for its answer, where none is expected too.
const PATIENCE: Duration = Duration::from_secs(1);
const PORT: u16 = 8080;
const V4: &str = "198.51.100.1";
const V6: &str = "2001:db8:100::1";
const OTHER: &str = "198.51.100.2";
/// Set for the process that a test starts to have it killed.
const VICTIM: &str = "QUORATE_FENCE_VICTIM";

/// Later than any test ends.
fn hour() -> Instant {
    now() + Duration::from_secs(3600)
}

fn now() -> Instant {
    Instant(0) + clock::now()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A director with VIPs and a TCP port, and a neighbour that knows where to send to.
struct Scene {
    world: LinuxWorld,
    _server: TcpListener,
}

impl Scene {
    fn new(vips: &[&str]) -> Self {
        let world = LinuxWorld::new();
        let listen = || TcpListener::bind(SocketAddr::new(address("::"), PORT)).unwrap();
        let server = world.director().enter(listen).unwrap();
        let scene = Self { world, _server: server };
        let mac = scene.mac();
        for vip in vips {
            let bits = if address(vip).is_ipv6() { "128 nodad" } else { "32" };
            scene.director(&format!("ip address add {vip}/{bits} dev {INTERFACE}"));
            scene.know(vip, &mac, "permanent");
            scene.neighbour(&format!("ip route add {vip} dev {INTERFACE}"));
        }
        // The neighbour asks from an address that the director can answer.
        scene.director(&format!("ip address add 2001:db8:1::1/64 dev {INTERFACE} nodad"));
        scene.neighbour(&format!("ip address add 2001:db8:1::2/64 dev {INTERFACE} nodad"));
        scene
    }

    fn director(&self, line: &str) -> String {
        self.world.director().run_ok(line, LIMIT).unwrap()
    }

    fn neighbour(&self, line: &str) -> String {
        self.world.neighbour().run_ok(line, LIMIT).unwrap()
    }

    fn device(&self) -> DeviceName {
        self.world.device()
    }

    fn mac(&self) -> String {
        let device = self.device();
        let state = self.in_director(|| Linux::new().unwrap().device(&device).unwrap());
        let DeviceState::Up { mac: Some(mac), .. } = state else { panic!("{state:?}") };
        mac.to_string()
    }

    fn know(&self, vip: &str, mac: &str, state: &str) {
        let line = format!("ip neigh replace {vip} lladdr {mac} dev {INTERFACE} nud {state}");
        self.neighbour(&line);
    }

    fn in_director<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.world.director().enter(work).unwrap()
    }

    fn arm(&self, vips: &[&str]) -> Fence {
        let vips: Vec<IpAddr> = vips.iter().map(|vip| address(vip)).collect();
        self.in_director(|| Fence::arm(&[self.device()], &vips)).unwrap()
    }

    fn succeeds(&self, line: &str) -> bool {
        let mut words = line.split_whitespace();
        let mut command = Command::new(words.next().unwrap());
        command.args(words);
        self.world.neighbour().run(&mut command, LIMIT).unwrap().status.success()
    }

    fn arp_answers(&self, vip: &str) -> bool {
        self.succeeds(&format!("arping -f -b -c 1 -w 1 -I {INTERFACE} {vip}"))
    }

    /// Which of the ways to ask for a VIP are answered.
    fn answers(&self, vip: &str) -> BTreeMap<&'static str, bool> {
        let mut found = BTreeMap::new();
        let ip = address(vip);
        if ip.is_ipv4() {
            found.insert("ARP", self.arp_answers(vip));
        } else {
            // Forgets where it is, asks, and knows it again for the questions that follow.
            self.neighbour(&format!("ip neigh del {vip} dev {INTERFACE}"));
            let asked = self.succeeds(&format!("ping -n -c 1 -W 1 {vip}"));
            let cache = self.neighbour(&format!("ip neigh show {vip} dev {INTERFACE}"));
            found.insert("neighbour discovery", asked || cache.contains("lladdr"));
            self.know(vip, &self.mac(), "permanent");
        }
        let neighbour = self.world.neighbour();
        let connect = || client::connect(neighbour, SocketAddr::new(ip, PORT), PATIENCE).is_ok();
        std::thread::scope(|scope| {
            let connected = scope.spawn(connect);
            found.insert("ICMP", self.succeeds(&format!("ping -n -c 1 -W 1 {vip}")));
            found.insert("TCP", connected.join().unwrap());
        });
        found
    }

    #[track_caller]
    fn assert_answers(&self, vip: &str, expected: bool) {
        let found = self.answers(vip);
        assert!(found.values().all(|answered| *answered == expected), "{vip}: {found:?}");
    }

    fn filters(&self) -> String {
        ["ingress", "egress"]
            .map(|side| self.director(&format!("tc filter show dev {INTERFACE} {side}")))
            .concat()
    }
}

fn slot(fence: &Fence, vip: &str) -> Slot {
    fence.slot(address(vip)).unwrap()
}

#[test]
fn without_an_entry_traffic_passes_and_with_one_only_while_it_is_open() {
    let scene = Scene::new(&[V4, V6, OTHER]);
    let mut fence = scene.arm(&[V4, V6]);
    scene.assert_answers(OTHER, true);
    for vip in [V4, V6] {
        scene.assert_answers(vip, false);
        let slot = slot(&fence, vip);
        slot.open_until(hour());
        scene.assert_answers(vip, true);
        slot.open_until(now());
        scene.assert_answers(vip, false);
        slot.open_until(hour());
        slot.close();
        scene.assert_answers(vip, false);
        fence.remove(address(vip)).unwrap();
        scene.assert_answers(vip, true);
    }
}

/// A raw frame passes no nftables output hook; the fence sees it all the same.
#[test]
fn a_closed_vip_is_not_announced() {
    const WRONG: &str = "02:00:00:00:00:99";
    let scene = Scene::new(&[V4, V6, OTHER]);
    let fence = scene.arm(&[V4, V6]);
    let device = scene.device();
    for vip in [V4, V6, OTHER] {
        scene.know(vip, WRONG, "stale");
    }
    // Frames arrive in the order in which they were sent: when the neighbour has heard of the last,
    // it has heard of all that passed.
    let announce = |vips: &[&str]| {
        scene.in_director(|| {
            let mut linux = Linux::new().unwrap();
            for vip in vips {
                // Sending what the fence drops may be told as a failure.
                let _dropped = linux.announce(&device, address(vip));
            }
        });
    };
    let knows = |vip: &str| {
        let entry = scene.neighbour(&format!("ip neigh show {vip} dev {INTERFACE}"));
        assert!(entry.contains("lladdr"), "{entry}");
        !entry.contains(WRONG)
    };
    announce(&[V4, V6, OTHER]);
    wait_until(LIMIT, || knows(OTHER).then_some(())).unwrap();
    assert!(!knows(V4) && !knows(V6));
    for vip in [V4, V6] {
        slot(&fence, vip).open_until(hour());
    }
    announce(&[V4, V6]);
    wait_until(LIMIT, || (knows(V4) && knows(V6)).then_some(())).unwrap();
}

/// Run by the next test in a process of its own, which never ends by itself.
fn be_the_victim(lease: Duration) -> ! {
    let device: DeviceName = INTERFACE.parse().unwrap();
    let fence = Fence::arm(&[device], &[address(V4)]).unwrap();
    let deadline = now() + lease;
    // Told before the store: what is told is then never earlier than what holds.
    println!("deadline {}", deadline.0);
    slot(&fence, V4).open_until(deadline);
    loop {
        std::thread::park();
    }
}

#[test]
fn a_killed_process_leaves_its_vip_open_until_its_deadline_and_no_longer() {
    if let Ok(milliseconds) = std::env::var(VICTIM) {
        be_the_victim(Duration::from_millis(milliseconds.parse().unwrap()));
    }
    let scene = Scene::new(&[V4]);
    // Long enough to be seen open after the kill; and one as short as a lease is.
    for (lease, seen_open) in [(5_000, true), (300, false)] {
        let folder = tempfile::tempdir().unwrap();
        let mut victim = start_victim(&scene, folder.path(), lease);
        let told = || {
            let log = victim.log();
            let (_, rest) = log.split_once("deadline ")?;
            rest.split_once('\n')?.0.parse().ok().map(Instant)
        };
        let deadline = wait_until(LIMIT, told).unwrap_or_else(|| panic!("{}", victim.log()));
        if seen_open {
            let open = wait_until(deadline.since(now()), || scene.arp_answers(V4).then_some(()));
            assert!(open.is_some(), "never opened");
        }
        victim.kill().unwrap();
        if seen_open {
            let open = scene.arp_answers(V4);
            assert!(open || now() >= deadline, "closed at the process's end, before its deadline");
        }
        std::thread::sleep(deadline.since(now()));
        let until = Deadline::after(PATIENCE * 2);
        while !until.passed() {
            scene.assert_answers(V4, false);
        }
        let filters = scene.filters();
        assert_eq!(filters.matches("direct-action").count(), 2, "{filters}");
    }
}

fn start_victim(scene: &Scene, folder: &Path, lease_ms: u64) -> Process {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([
        "--exact",
        "a_killed_process_leaves_its_vip_open_until_its_deadline_and_no_longer",
        "--nocapture",
    ]);
    command.env(VICTIM, lease_ms.to_string());
    Process::spawn(scene.world.director(), &mut command, &folder.join("log")).unwrap()
}

#[test]
fn a_fence_armed_anew_is_closed_and_replaces_the_one_that_stood() {
    let scene = Scene::new(&[V4]);
    let mut programs = Vec::new();
    for _ in 0..3 {
        let fence = scene.arm(&[V4]);
        scene.assert_answers(V4, false);
        slot(&fence, V4).open_until(hour());
        scene.assert_answers(V4, true);
        let filters = scene.filters();
        assert_eq!(filters.matches("direct-action").count(), 2, "{filters}");
        assert!(!programs.contains(&filters), "the same programs as before: {filters}");
        programs.push(filters);
        // As if the daemon ended: its filters stay, and open.
        drop(fence);
        scene.assert_answers(V4, true);
    }
    // Two that stand at once are left by a death between the two steps of replacing.
    let [first, second] = [scene.arm(&[V4]), scene.arm(&[V4])];
    let mended = scene.in_director(|| {
        let mut first = first;
        first.mend().unwrap()
    });
    assert!(mended.contains(&scene.device()), "{mended:?}");
    drop(second);
    let _third = scene.arm(&[V4]);
    let filters = scene.filters();
    assert_eq!(filters.matches("direct-action").count(), 2, "{filters}");
}

#[test]
fn a_removed_filter_is_noticed_and_put_back_and_purge_removes_all() {
    let scene = Scene::new(&[V4]);
    let mut fence = scene.arm(&[V4]);
    let device = scene.device();
    let check = |fence: &Fence| {
        let checked = fence.check().unwrap();
        checked[&device]
    };
    assert_eq!(check(&fence), Coverage::InPlace);
    scene.assert_answers(V4, false);
    let watch = scene.in_director(|| Watch::open().unwrap());
    while watch.wait(Duration::ZERO).unwrap() {}
    for removal in [
        format!("tc filter del dev {INTERFACE} ingress"),
        format!("tc filter del dev {INTERFACE} egress"),
        format!("tc qdisc del dev {INTERFACE} clsact"),
    ] {
        scene.director(&removal);
        assert!(watch.wait(LIMIT).unwrap(), "the kernel tells of {removal}");
        assert_eq!(check(&fence), Coverage::Broken, "after {removal}");
        assert!(scene.in_director(|| fence.mend()).unwrap().contains(&device), "after {removal}");
        assert_eq!(check(&fence), Coverage::InPlace, "after {removal}");
        scene.assert_answers(V4, false);
    }
    // Covering what is covered changes nothing, and another's filters are left alone.
    let mut other = Command::new("tc");
    other.args(["filter", "add", "dev", INTERFACE, "ingress", "prio", "7"]);
    // Classic BPF that matches nothing: `return 0`.
    other.args(["bpf", "bytecode", "1,6 0 0 0"]);
    assert!(scene.world.director().run(&mut other, LIMIT).unwrap().status.success());
    let before = scene.filters();
    scene.in_director(|| fence.cover(&device)).unwrap();
    assert_eq!(scene.filters(), before);
    // One that runs first could let everything past ours: then the fence does not stand.
    scene.in_director(|| fence.mend()).unwrap();
    let first = format!("tc filter add dev {INTERFACE} egress prio 1 bpf bytecode 1,6_0_0_0");
    let mut words = first.split(' ').map(|word| word.replace('_', " "));
    let mut first = Command::new(words.next().unwrap());
    first.args(words);
    assert!(scene.world.director().run(&mut first, LIMIT).unwrap().status.success());
    let overtaken = scene.in_director(|| fence.mend()).unwrap_err();
    assert_eq!(overtaken, FenceError::Overtaken(device.clone()));
    scene.director(&format!("tc filter del dev {INTERFACE} egress"));
    assert_eq!(scene.in_director(|| fence.mend()).unwrap(), std::slice::from_ref(&device));
    let failed = scene.in_director(|| fence::purge(std::slice::from_ref(&device)).unwrap());
    assert_eq!(failed, []);
    let filters = scene.filters();
    assert!(!filters.contains("quorate_") && filters.contains("pref 7"), "{filters}");
    scene.assert_answers(V4, true);

    scene.director(&format!("ip link set dev {INTERFACE} down"));
    scene.director(&format!("ip link set dev {INTERFACE} name gone0"));
    assert_eq!(check(&fence), Coverage::NoDevice);
    // Under its new name it is a new device.
    let mended = scene.in_director(|| fence.mend()).unwrap();
    assert_eq!(mended, ["gone0".parse().unwrap()]);
    assert_eq!(scene.in_director(|| fence.mend()).unwrap(), []);
}

#[test]
fn a_device_that_appears_later_is_fenced_on_its_own() {
    let scene = Scene::new(&[]);
    let peer = scene.world.neighbour().name();
    scene.director(&format!("ip link add late0 type veth peer name late0 netns {peer}"));
    scene.director("ip address add 203.0.113.1/24 dev late0");
    scene.director(&format!("ip address add {V4}/32 dev late0"));
    scene.neighbour("ip address add 203.0.113.2/24 dev late0");
    scene.director("ip link set dev late0 up");
    scene.neighbour("ip link set dev late0 up");
    let answers = || scene.succeeds(&format!("arping -f -b -c 1 -w 1 -I late0 {V4}"));
    wait_until(LIMIT, || answers().then_some(())).unwrap();
    let mut fence = scene.arm(&[V4]);
    assert!(answers(), "only the devices that were named are fenced");
    let late: DeviceName = "late0".parse().unwrap();
    let found = scene.in_director(|| fence::devices().unwrap());
    assert!(found.contains(&late) && !found.iter().any(|device| device.as_str() == "lo"));
    scene.in_director(|| fence.cover(&late)).unwrap();
    assert!(!answers());
    slot(&fence, V4).open_until(hour());
    assert!(answers());
}

#[test]
fn a_slot_of_a_removed_vip_opens_no_other() {
    let scene = Scene::new(&[OTHER]);
    let mut fence = scene.arm(&[]);
    let old = fence.insert(address(V4)).unwrap();
    fence.remove(address(V4)).unwrap();
    let new = fence.insert(address(OTHER)).unwrap();
    old.open_until(hour());
    assert_eq!(new.deadline(), Instant(0));
    scene.assert_answers(OTHER, false);
    // As many as there are slots, and no more; those given back can be taken again.
    drop(old);
    let nth = |n: u32| IpAddr::from((0x0a00_0000 + n).to_be_bytes());
    for n in 1..fence::VIPS_AT_MOST {
        fence.insert(nth(n)).unwrap();
    }
    assert_eq!(fence.insert(nth(0)).unwrap_err(), FenceError::Full);
    fence.remove(nth(9)).unwrap();
    fence.insert(nth(0)).unwrap();
}

#[test]
fn a_process_without_rights_is_told_what_it_lacks() {
    let scene = Scene::new(&[]);
    let device = scene.device();
    let error = scene.in_director(|| {
        let nothing = CapabilitySet::empty();
        let sets = CapabilitySets { effective: nothing, permitted: nothing, inheritable: nothing };
        // Of this thread alone, which ends with the work.
        set_capabilities(None, sets).unwrap();
        Fence::arm(std::slice::from_ref(&device), &[]).unwrap_err()
    });
    assert!(matches!(error, FenceError::NotPermitted { .. }), "{error:?}");
    assert!(error.to_string().contains("CAP_BPF"), "{error}");
    let missing: DeviceName = "nope0".parse().unwrap();
    let error = scene.in_director(|| Fence::arm(std::slice::from_ref(&missing), &[]).unwrap_err());
    assert_eq!(error, FenceError::NoDevice(missing));
}
