//! Full disks, real daemons on the host's kernel: who owns a VIP keeps it though nothing can be written
//! anywhere, a leader that can't write lets another one lead, and nothing has to be restarted
//! afterwards. The disks are file systems in memory, filled to the last byte. Needs root. Run by
//! `cargo xtask test`.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that can't go on ends")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use quorate_tests::lab::clock::Stopwatch;
use quorate_tests::lab::command;
use quorate_tests::lab::deployment::{Deployment, example_hosts};

const NODES: [(&str, &str); 3] =
    [("d1", "192.168.10.80"), ("d2", "192.168.10.23"), ("d3", "192.168.10.24")];
/// Long past any lease, promise and election.
const LIMIT: Duration = Duration::from_secs(60);
/// Forty leases of `lan`.
const LONG: Duration = Duration::from_secs(20);
const DISK_MIB: u32 = 100;

/// A small file system at a folder, as long as this lives.
struct Disk(PathBuf);

impl Disk {
    fn mount(folder: &Path) -> Self {
        fs::create_dir_all(folder).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={DISK_MIB}m,mode=0700"), "quorate-lab"]);
        command::run_ok(mount.arg(folder), LIMIT).unwrap();
        Self(folder.to_owned())
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }

    /// Until not a byte is left.
    fn fill(&self) {
        let mut ballast = File::create(self.ballast()).unwrap();
        while ballast.write_all(&[7; 4096]).is_ok() {}
    }

    fn empty(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: the daemon on it still runs.
        let mut umount = Command::new("umount");
        let _ = command::run_ok(umount.arg("-l").arg(&self.0), LIMIT);
    }
}

/// Three directors with a disk each.
struct Scene {
    disks: BTreeMap<&'static str, Disk>,
    deployment: Deployment,
}

fn group(name: &str, address: u8) -> String {
    format!(
        "[group.{name}]\ninterface = \"public\"\naddresses = [\"192.168.10.{address}/32\"]\npreempt = false\n"
    )
}

impl Scene {
    fn new(name: &str) -> Self {
        let name = format!("lab_host_disk_{name}");
        let mut deployment = Deployment::new(&name, &example_hosts().unwrap()).unwrap();
        let mut disks = BTreeMap::new();
        for (node, address) in NODES {
            deployment.add_director(node, address).unwrap();
            let data = deployment.folder_of(node).unwrap().join("data");
            disks.insert(node, Disk::mount(&data));
        }
        deployment.form(&NODES.map(|(node, _)| node), "lan").unwrap();
        deployment.apply("d1", &group("web", 180)).unwrap();
        let scene = Self { disks, deployment };
        scene.wait("the VIP has an owner", |scene| scene.held("d1").is_some());
        scene
    }

    fn wait(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        self.deployment.wait_for(what, LIMIT, |_| Ok(holds(self))).unwrap();
    }

    /// The epoch of the VIP's owner, while that holds its lease.
    fn held(&self, node: &str) -> Option<u64> {
        let status = self.deployment.status(node)?;
        // In the order of their names, and web is the first.
        let group = &status["groups"][0];
        group["lease_remaining_ms"].as_u64().and(group["epoch"].as_u64())
    }

    fn says_full(&self, node: &str) -> bool {
        let status = self.deployment.quorate(node, &["status"]).unwrap();
        status.stdout.contains("MiB left")
    }

    /// The owner holds its lease under this epoch at every look.
    fn holds_on(&self, epoch: u64) {
        let watch = Stopwatch::start();
        while watch.elapsed() < LONG {
            assert_eq!(self.held("d1"), Some(epoch), "after {:?}", watch.elapsed());
        }
    }
}

#[test]
fn three_full_disks_take_no_vip_down() {
    let scene = Scene::new("three");
    let epoch = scene.held("d1").unwrap();
    scene.disks.values().for_each(Disk::fill);
    for (node, _) in NODES {
        scene.wait("the full disk is told of", |scene| scene.says_full(node));
    }
    scene.holds_on(epoch);
    let folder = scene.deployment.folder_of("d1").unwrap().to_owned();
    let file = folder.join("two.toml");
    fs::write(&file, format!("{}\n{}", group("web", 180), group("web2", 181))).unwrap();
    let apply = ["apply", "--yes", "--no-wait", &file.display().to_string()];
    let refused = scene.deployment.quorate("d1", &apply).unwrap();
    assert_eq!(refused.status.code(), Some(5), "no quorum that can write: {refused:?}");
    assert_eq!(scene.held("d1"), Some(epoch));

    scene.disks.values().for_each(Disk::empty);
    scene.wait("it is taken again", |scene| {
        scene.deployment.quorate("d1", &apply).unwrap().status.success()
    });
    assert_eq!(scene.held("d1"), Some(epoch), "the owner is the same all the while");
    scene
        .wait("the new group has an owner", |scene| scene.deployment.owner("d2", "web2").is_some());
}

#[test]
fn a_leader_whose_disk_is_full_lets_another_one_lead_and_catches_up_later() {
    let scene = Scene::new("leader");
    let epoch = scene.held("d1").unwrap();
    scene.wait("there is a leader", |scene| scene.deployment.leader("d1").is_some());
    let leader = scene.deployment.leader("d1").unwrap();
    let others: Vec<&str> =
        NODES.iter().map(|(node, _)| *node).filter(|node| *node != leader).collect();
    scene.disks[leader.as_str()].fill();
    scene.wait("another one leads", |scene| {
        others.iter().all(|node| scene.deployment.leader(node).is_some_and(|new| new != leader))
    });
    // What is asked of the full one goes to the new leader.
    for (node, address) in [(others[0], 181), (leader.as_str(), 182)] {
        let two = format!("{}\n{}", group("web", 180), group("web2", address));
        scene.wait("a write is taken", |scene| scene.deployment.apply(node, &two).is_ok());
    }
    assert_eq!(scene.held(others[0]), Some(epoch));
    scene.wait("the new group has an owner with room", |scene| {
        scene.deployment.owner(others[0], "web2").is_some_and(|owner| owner != leader)
    });
    scene.disks[leader.as_str()].empty();
    scene.wait("the full one has caught up", |scene| {
        let revision = |node| scene.deployment.status(node)?["cluster"]["revision"].as_u64();
        revision(&leader).is_some() && revision(&leader) == revision(others[0])
    });
    assert_eq!(scene.held(others[0]), Some(epoch));
    assert!(!scene.says_full(&leader));
}
