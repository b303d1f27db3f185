//! Refusals about arbitration and tracks.

use super::*;

#[test]
fn an_arbitration_address_that_decides_nothing() {
    refused(
        whole,
        r#"
cluster.arbitration = "192.0.2.1"
=> 1:23: cluster.arbitration: a list is expected here, not a string (put it in brackets: [..])

cluster.arbitration = ["gateway"]
=> 1:24: cluster.arbitration[0]: "gateway" is not an IP address

cluster.arbitration = ["192.0.2.1", "192.0.2.1"]
=> 1:37: cluster.arbitration[1]: 192.0.2.1 stands twice (remove one)

cluster.arbitration = ["127.0.0.1"]
=> 1:24: cluster.arbitration[0]: 127.0.0.1 is a loopback address (use the unicast address of a host)

cluster.arbitration = ["fe80::1"]
=> 1:24: cluster.arbitration[0]: fe80::1 is a link-local address, which means something else on each link (use the unicast address of a host)

cluster.arbitration = ["192.0.2.80"]
group.a = { interface = "x", addresses = ["192.0.2.80"], arbitration = ["192.0.2.81"] }
group.b = { interface = "x", addresses = ["192.0.2.81"] }
=> 1:24: cluster.arbitration[0]: 192.0.2.80 is an address of group a (name a host that is there whoever owns it, as a gateway)
=> 2:73: group.a.arbitration[0]: 192.0.2.81 is an address of group b (name a host that is there whoever owns it, as a gateway)
"#,
    );
}

#[test]
fn more_arbitration_addresses_than_can_be_probed() {
    let list = |from: usize, count: usize| {
        let addresses: Vec<String> =
            (from..from + count).map(|n| format!("\"10.1.{}.{}\"", n / 200, n % 200 + 1)).collect();
        addresses.join(", ")
    };
    let wrong = |source: &str| parse(source, Format::Toml).unwrap_err().to_string();
    assert_eq!(
        wrong(&format!("cluster.arbitration = [{}]", list(0, ARBITRATION_MAX + 1))),
        "1:23: cluster.arbitration: 17 arbitration addresses, at most 16 (two or three that don't \
         fail together will do)"
    );
    let groups: Vec<String> = (0..=ARBITRATION_TOTAL_MAX / ARBITRATION_MAX)
        .map(|n| {
            let arbitration = list(n * ARBITRATION_MAX, ARBITRATION_MAX);
            format!(
                "group.g{n} = {{ interface = \"x\", addresses = [\"192.0.2.{}\"], arbitration = \
                 [{arbitration}] }}",
                n + 1
            )
        })
        .collect();
    assert!(parse(&groups[1..].join("\n"), Format::Toml).is_ok());
    assert!(wrong(&groups.join("\n")).contains("more than 256 arbitration addresses"));
}

/// The lines of a track that a group uses.
fn in_track(lines: &str) -> String {
    format!("[track.t]\n{lines}\n")
}

#[test]
fn a_track_that_could_not_be_looked_at() {
    refused(
        in_track,
        r#"
interval = "1s"
=> 1:1: track.t.type: "type" is missing

type = "track_script"
=> 2:8: track.t.type: unknown type of track "track_script" (did you mean "exec"?)

type = "exec"
=> 1:1: track.t.command: "command" is missing

type = "exec"
command = "/bin/check --fast"
=> 3:11: track.t.command: a command is a list: no shell takes a line apart (command = ["/usr/local/bin/check", "argument"])

type = "exec"
command = []
=> 3:11: track.t.command: a command has 1 to 64 words

type = "exec"
command = ["check"]
=> 3:12: track.t.command[0]: an absolute path is expected here (the daemon's own folder and PATH say nothing: begin with /)

type = "exec"
command = ["/bin/check", "a\u0000b"]
=> 3:26: track.t.command[1]: a word of a command has 0 to 4095 bytes, and no NUL

type = "exec"
command = ["/bin/check"]
user = "a:b"
=> 4:8: track.t.user: the name of a user has 1 to 255 bytes, and no space or ':' or '/'

type = "process"
name = "/usr/sbin/nginx"
=> 3:8: track.t.name: the name of a process has 1 to 255 bytes, and no space or '/'

type = "process"
process = "nginx"
=> 1:1: track.t.name: "name" is missing
=> 3:1: track.t.process: unknown key "process" (write name instead)

type = "file"
path = "maintenance"
=> 3:8: track.t.path: an absolute path is expected here (the daemon's own folder and PATH say nothing: begin with /)

type = "file"
path = "/run/maintenance"
exists = false
content = "up"
=> 5:11: track.t.content: a file that has to be absent says nothing (leave out `content` or `exists`)

type = "interface"
device = "eth1"
=> 1:1: track.t.interface: "interface" is missing
=> 3:1: track.t.device: unknown key "device" (write interface, a name that each node.toml maps to a device instead)

type = "interface"
interface = "inside"
interval = "1s"
=> 4:12: track.t.interval: a track of type interface has no "interval" (leave it out)

type = "process"
name = "nginx"
command = ["/bin/check"]
=> 4:11: track.t.command: a track of type process has no "command" (leave it out)

type = "process"
name = "nginx"
interval = "10ms"
=> 4:12: track.t.interval: the interval of a track is 100ms to 1h, not 10ms

type = "process"
name = "nginx"
fall = 0
=> 4:8: track.t.fall: the fall of a track is 1 to 100

type = "process"
name = "nginx"
weight = 2
=> 4:1: track.t.weight: this version of Quorate does not have "weight" yet (leave it out)
"#,
    );
}

#[test]
fn a_track_that_a_group_can_not_have() {
    refused(
        in_group,
        r#"
track = ["nginx"]
[track.nginxx]
type = "process"
name = "nginx"
=> 4:10: group.a.track[0]: there is no track "nginx" (did you mean "nginxx"?)

track = ["t", "t"]
[track.t]
type = "process"
name = "nginx"
=> 4:15: group.a.track[1]: t stands twice (remove one)

track = 5
=> 4:9: group.a.track: the name of a track is expected here, not an integer (put it in quotes: "5")
"#,
    );
    let tracks: String = (0..=TRACKS_MAX)
        .map(|n| format!("track.t{n} = {{ type = \"process\", name = \"nginx\" }}\n"))
        .collect();
    let wrong = parse(&tracks, Format::Toml).unwrap_err().to_string();
    assert!(wrong.contains("257 tracks, at most 256 can be given"), "{wrong}");
}
