//! What arbitration and tracks may say, and what stands for what is left out.

use super::*;
use crate::spec::{FileRule, Track, TrackKind};

const GROUP: &str = "[group.a]\ninterface = \"x\"\naddresses = [\"192.0.2.80\"]\n";

fn group(lines: &str, before: &str) -> (ClusterSpec, crate::spec::VipGroup) {
    let spec = read(&format!("{before}\n{GROUP}{lines}\n"));
    let group = spec.groups.values().next().expect("a group").clone();
    (spec, group)
}

fn track(lines: &str) -> Track {
    let (_, mut group) = group("track = \"t\"", &format!("[track.t]\n{lines}"));
    group.tracks.remove(0)
}

#[test]
fn a_group_has_the_clusters_arbitration_addresses_or_its_own_or_none() {
    let of = |lines: &str| {
        let (spec, group) = group(lines, "cluster.arbitration = [\"192.0.2.1\", \"2001:db8::1\"]");
        spec.arbitration_of(&group).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(of(""), ["192.0.2.1", "2001:db8::1"]);
    assert_eq!(of("arbitration = [\"192.0.2.2\"]"), ["192.0.2.2"]);
    assert_eq!(of("arbitration = []"), <[&str; 0]>::default());
}

#[test]
fn a_track_has_the_times_of_the_reference_page() {
    let track = track("type = \"process\"\nname = \"nginx\"");
    let second = Duration::from_secs(1);
    assert_eq!((track.interval, track.timeout, track.rise, track.fall), (second, second, 2, 2));
}

#[test]
fn each_type_of_track_reads_its_own_keys() {
    let kind = |lines: &str| track(lines).kind;
    let command = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    assert_eq!(
        kind("type = \"exec\"\ncommand = [\"/bin/check\", \"--fast\", \"\"]"),
        TrackKind::Exec { command: command(&["/bin/check", "--fast", ""]), user: None }
    );
    assert_eq!(
        kind("type = \"exec\"\ncommand = [\"/bin/check\"]\nuser = \"_probe\""),
        TrackKind::Exec { command: command(&["/bin/check"]), user: Some("_probe".into()) }
    );
    assert_eq!(kind("type = \"process\"\nname = \"nginx\""), TrackKind::Process("nginx".into()));
    let file = |rule| TrackKind::File { path: "/run/flag".into(), rule };
    let path = "type = \"file\"\npath = \"/run/flag\"";
    assert_eq!(kind(path), file(FileRule::Exists));
    assert_eq!(kind(&format!("{path}\nexists = false")), file(FileRule::Absent));
    assert_eq!(kind(&format!("{path}\ncontent = \" up\\n\"")), file(FileRule::Says("up".into())));
    let inside = "inside".parse().expect("a name");
    assert_eq!(kind("type = \"interface\"\ninterface = \"inside\""), TrackKind::Interface(inside));
}

#[test]
fn one_track_may_be_named_without_brackets_and_several_keep_their_order() {
    let tracks = "track.b = { type = \"file\", path = \"/b\" }\n\
                  track.a = { type = \"file\", path = \"/a\" }";
    let names = |lines: &str| {
        let (_, group) = group(lines, tracks);
        group.tracks.iter().map(|track| track.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names("track = \"a\""), ["a"]);
    assert_eq!(names("track = [\"b\", \"a\"]"), ["b", "a"]);
    assert_eq!(names(""), <[&str; 0]>::default());
}

#[test]
fn a_hook_says_what_it_is_for_and_the_rest_has_the_values_of_the_reference_page() {
    use crate::occurrence::Kind;
    use crate::spec::RunOn;
    let service =
        "service.shop = { group = \"a\", listen = \"tcp/192.0.2.80:80\", real_servers = [] }";
    let hook = |lines: &str| {
        let spec = read(&format!("{service}\n{GROUP}[hook.h]\n{lines}\n"));
        spec.hooks.into_values().next().expect("a hook")
    };
    let plain = hook("on = \"quorum_down\"\ncommand = [\"/bin/page\"]");
    assert_eq!(plain.on, [Kind::QuorumDown].into());
    assert_eq!((plain.timeout, plain.run_on), (Duration::from_secs(10), RunOn::Owner));
    assert_eq!((plain.user, plain.groups, plain.services), (None, None, None));
    let full = hook(
        "on = [\"real_server_down\", \"real_server_up\"]\ncommand = [\"/bin/page\", \"-q\"]\n\
         user = \"pager\"\ntimeout = \"2s\"\ngroups = [\"a\"]\nservices = \"shop\"\nrun_on = \"all\"",
    );
    assert_eq!(
        full.to_string(),
        "/bin/page -q on real_server_up, real_server_down as pager of groups a of services shop \
         timeout 2s run_on all"
    );
}
