//! `quorate support-bundle`: collects what somebody who helps needs to see, and writes it into one tar. What
//! can't be had is left out, and listed in it.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use jiff::Timestamp;
use quorate_api::event::json_line;
use quorate_api::v1::EventsRequest;
use serde::Serialize;

use super::configuration::InForce;
use super::{Ended, Scene, doctor, read_status};
use crate::bundle::{TEXT_BYTES_MAX, bounded, redacted, tar};
use crate::cli::{Doctor, SupportBundle};
use crate::client::{Admin, Client, Kind};
use crate::exit::{Exit, Failure};
use crate::output::json::{Document, Status};
use crate::output::table::{self, Style};

/// How long the telling of events may take; programs have as long.
const TIME_MAX: Duration = Duration::from_secs(10);
/// What is read of one file or program at most; what of it goes in is its end.
const READ_BYTES_MAX: usize = 256 << 20;
/// Events that are taken: more than a node keeps.
const EVENTS_MAX: usize = 20_000;

/// Programs whose output says how this machine is set up; none changes anything.
const PROGRAMS: [(&str, &[&str]); 12] = [
    ("uname.txt", &["uname", "-a"]),
    ("ip-address.txt", &["ip", "-d", "address"]),
    ("ip-link.txt", &["ip", "-s", "link"]),
    ("ip-route.txt", &["ip", "route", "show", "table", "all"]),
    ("ip-rule.txt", &["ip", "rule"]),
    ("ip-neighbour.txt", &["ip", "neighbour"]),
    ("nft.txt", &["nft", "list", "ruleset"]),
    ("ipvsadm.txt", &["ipvsadm", "-Ln", "--stats"]),
    ("sysctl.txt", &["sysctl", "-a", "-r", "^net\\.ipv[46]\\.(conf|vs|ip_forward)"]),
    ("units.txt", &["systemctl", "status", "--no-pager", "quorated", "keepalived"]),
    ("log.txt", &["journalctl", "--no-pager", "-u", "quorated", "-n", "20000"]),
    ("quorated-version.txt", &["quorated", "--version"]),
];
/// Files that say the same.
const FILES: [(&str, &str); 4] = [
    ("os-release.txt", "/etc/os-release"),
    ("kernel.txt", "/proc/version"),
    ("modules.txt", "/proc/modules"),
    ("memory.txt", "/proc/meminfo"),
];

#[derive(Serialize)]
struct Written<'a> {
    file: &'a str,
    bytes: usize,
    texts: Vec<&'a str>,
    left_out: &'a [String],
}

#[derive(Default)]
struct Collected {
    texts: Vec<(String, String)>,
    left_out: Vec<String>,
}

impl Collected {
    fn take(&mut self, name: &str, text: Result<String, String>) {
        match text {
            Ok(text) => self.texts.push((name.to_owned(), redacted(&bounded(text)))),
            Err(why) => self.left_out.push(format!("{name}: {why}")),
        }
    }
}

pub(super) async fn run(scene: &Scene<'_>, arguments: &SupportBundle) -> Ended {
    let path = &arguments.file;
    let shown = path.display().to_string();
    let failed =
        |error: io::Error| Failure::new(Exit::Failed, format!("cannot write {shown}: {error}"));
    // Made first: whoever names a file that is there shall not wait to be told.
    let file = File::options().write(true).create_new(true).mode(0o600).open(path);
    let mut file = file.map_err(failed)?;
    let mut all = Collected::default();
    all.take("version.txt", Ok(format!("quorate {}\n", env!("CARGO_PKG_VERSION"))));
    cluster(scene, &mut all).await;
    this_machine(scene, arguments, &mut all).await;
    let left_out = all.left_out.join("\n");
    let mut texts = std::mem::take(&mut all.texts);
    texts.push(("left-out.txt".to_owned(), redacted(&left_out)));
    let now = Timestamp::now();
    let folder = format!("quorate-{}", now.strftime("%Y%m%dT%H%M%SZ"));
    let named: Vec<(String, String)> =
        texts.iter().map(|(name, text)| (format!("{folder}/{name}"), text.clone())).collect();
    let seconds = u64::try_from(now.as_second()).unwrap_or(0);
    let archive = tar(&named, seconds).map_err(|why| Failure::new(Exit::Failed, why))?;
    file.write_all(&archive).and_then(|()| file.sync_all()).map_err(failed)?;
    for left in &all.left_out {
        scene.output.remark(&format!("left out: {left}"));
    }
    let written = Written {
        file: &shown,
        bytes: archive.len(),
        texts: texts.iter().map(|(name, _)| name.as_str()).collect(),
        left_out: &all.left_out,
    };
    scene.output.data(&written, |_| {
        format!("{shown}: {} texts. Look through it before you give it away.", texts.len())
    })?;
    Ok(Exit::Ok)
}

/// What the cluster says.
async fn cluster(scene: &Scene<'_>, all: &mut Collected) {
    let client = match scene.cluster() {
        Ok(client) => client,
        Err(failure) => return all.left_out.push(format!("the cluster: {}", failure.what)),
    };
    match read_status(&client, false).await {
        Ok(status) => {
            let now = Timestamp::now();
            let tables = table::status(&status, now, Style::default());
            let services: Vec<_> = status.services.iter().collect();
            let services = table::services(&services, &status.groups, now, Style::default());
            all.take("status.txt", Ok(tables));
            all.take("services.txt", Ok(services));
            let document = Status::from(status);
            let text = serde_json::to_string_pretty(&Document::of(&document));
            all.take("status.json", text.map_err(|error| error.to_string()));
        }
        Err(failure) => all.left_out.push(format!("status: {failure}")),
    }
    match InForce::read(&client).await {
        Ok(in_force) => {
            all.take("configuration.txt", Ok(in_force.source));
            all.take("revision.txt", Ok(format!("{}\n", in_force.revision)));
        }
        Err(failure) => all.left_out.push(format!("configuration: {}", failure.what)),
    }
    all.take("events.jsonl", events(&client).await);
}

async fn events(client: &Client) -> Result<String, String> {
    let request = EventsRequest { since_ms: None, after: None, follow: false };
    let call = |mut admin: Admin| async move { admin.events(request).await };
    let answer = client.call(Kind::Read, "read the events", call).await;
    let mut stream = answer.map_err(|failure| failure.what)?.body;
    let mut text = String::new();
    let reading = async {
        let mut count = 0;
        while let Some(event) = stream.message().await.map_err(|s| s.message().to_owned())? {
            text.push_str(&json_line(&event).map_err(|error| error.to_string())?);
            text.push('\n');
            count += 1;
            if count >= EVENTS_MAX {
                break;
            }
        }
        Ok(())
    };
    match tokio::time::timeout(TIME_MAX, reading).await {
        Ok(Ok(())) => Ok(text),
        Ok(Err(why)) => Err(why),
        Err(_) => Err("the node did not tell them in time".to_owned()),
    }
}

/// What this machine says.
async fn this_machine(scene: &Scene<'_>, arguments: &SupportBundle, all: &mut Collected) {
    let node = arguments.node.display().to_string();
    all.take("node.toml", read(&node));
    let asked = Doctor { pre: false, node: arguments.node.clone(), cluster: None };
    let findings = doctor::findings(scene, &asked).await;
    let findings = findings.map(|findings| table::examined(&findings, Style::default()));
    all.take("doctor.txt", findings.map_err(|failure| failure.what));
    for (name, path) in FILES {
        all.take(name, read(path));
    }
    // Each may take seconds.
    let said = tokio::task::spawn_blocking(|| {
        let said = PROGRAMS.iter().filter_map(|(name, words)| {
            let (program, arguments) = words.split_first()?;
            Some((*name, output(program, arguments)))
        });
        said.collect::<Vec<_>>()
    });
    match said.await {
        Ok(said) => said.into_iter().for_each(|(name, text)| all.take(name, text)),
        Err(error) => all.left_out.push(format!("programs: {error}")),
    }
}

fn read(path: &str) -> Result<String, String> {
    let told = |error: io::Error| format!("{path}: {error}");
    let bytes = end_of(File::open(path).map_err(told)?).map_err(told)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What comes to an end, or the last of it: one byte more than goes in, so that what is left out is said.
fn end_of(mut from: impl Read) -> io::Result<Vec<u8>> {
    let most = TEXT_BYTES_MAX + 1;
    let mut bytes = Vec::new();
    let mut read = 0;
    while read < READ_BYTES_MAX {
        let some = from.by_ref().take(1 << 16).read_to_end(&mut bytes)?;
        if some == 0 {
            break;
        }
        read += some;
        // Not with each part: that would copy all of it each time.
        if bytes.len() > 2 * most {
            bytes.drain(..bytes.len() - most);
        }
    }
    let over = bytes.len().saturating_sub(most);
    bytes.drain(..over);
    Ok(bytes)
}

/// What a program prints, of at most so much, in at most so long: timeout(1) ends it.
fn output(program: &str, arguments: &[&str]) -> Result<String, String> {
    let told = |error: io::Error| format!("{program}: {error}");
    let mut child = Command::new("timeout")
        .args(["-k", "1", "10", program])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(told)?;
    let mut bytes = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        bytes = end_of(stdout).map_err(told)?;
    }
    let status = child.wait().map_err(told)?;
    match status.code() {
        Some(124 | 137) => Err(format!("{program} did not end in time")),
        Some(126 | 127) => Err(format!("{program} can't be run here")),
        _ if !status.success() && bytes.is_empty() => Err(format!("{program} ended with {status}")),
        _ => Ok(String::from_utf8_lossy(&bytes).into_owned()),
    }
}
