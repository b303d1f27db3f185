//! `cargo xtask demo`: three directors serve a website on real IPVS and survive the loss of their
//! owner, step by step, with the commands that an operator would type. Exits with 0 only if each
//! step held.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::process::{Command, ExitCode};
use std::time::Duration;

use quorate_tests::lab::clock::{Deadline, Stopwatch};
use quorate_tests::lab::deployment::{Deployment, VIP, example_hosts};
use quorate_tests::lab::{LabError, in_vm, workspace_dir};

const DIRECTORS: [(&str, &str); 3] =
    [("d1", "192.168.10.80"), ("d2", "192.168.10.23"), ("d3", "192.168.10.24")];
/// How long a step may take; generous, for emulated machines.
const STEP: Duration = Duration::from_secs(240);
/// How long one request may take.
const REQUEST: Duration = Duration::from_secs(10);
/// How long a request may take while the VIP is on its way.
const SHORT: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let keep = std::env::args().any(|argument| argument == "--keep");
    match run(keep) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("\nThe demo failed: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn say(text: &str) {
    let mut out = io::stdout().lock();
    // Nobody reads on: the demo's exit status still tells.
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

fn step(number: u32, text: &str) {
    say(&format!("\n=== {number}. {text}"));
}

/// Runs `quorate` on a director, showing command and output as a terminal there would.
fn shown(deployment: &Deployment, node: &str, arguments: &[&str]) -> Result<String, LabError> {
    say(&format!("{node}# quorate {}", arguments.join(" ")));
    let output = deployment.quorate_ok(node, arguments)?;
    say(output.trim_end());
    Ok(output)
}

fn failed(what: &str, text: String) -> LabError {
    LabError::Unreadable { what: what.to_owned(), text }
}

fn run(keep: bool) -> Result<(), LabError> {
    say(
        "Quorate: three directors d1 (.80), d2 (.23), d3 (.24), real servers rs1 (.16), rs2 (.17)\n\
         and a client (.100) on 192.168.10.0/24, each in a network namespace of this kernel.\n\
         The virtual service is 192.168.10.180:80, direct routing (DR), round robin.",
    );
    let mut deployment = Deployment::new("demo", &example_hosts()?)?;
    real_servers(&mut deployment)?;
    cluster(&mut deployment)?;
    configuration(&deployment)?;
    alternate(&deployment)?;
    persistence(&deployment)?;
    real_server_fails(&mut deployment)?;
    owner_is_cut_off(&deployment)?;
    owner_returns(&deployment)?;
    say("\nEvery step held.");
    if keep {
        look_around(&deployment)?;
    }
    Ok(())
}

fn vip() -> Result<SocketAddr, LabError> {
    let text = format!("{VIP}:80");
    text.parse().map_err(|_| failed("parse the VIP", text))
}

fn real_servers(deployment: &mut Deployment) -> Result<(), LabError> {
    step(1, "Real servers carry the VIP on lo, and don't answer ARP for it");
    for host in ["rs1", "rs2"] {
        say(&format!("{host}# quorate realserver setup --vip {VIP} --mode DR"));
        let arguments = ["realserver", "setup", "--vip", VIP, "--mode", "DR"];
        say(deployment.quorate_on(host, &arguments)?.trim_end());
        deployment.serve_pages(host, 80, &format!("This is {host}."))?;
    }
    Ok(())
}

fn cluster(deployment: &mut Deployment) -> Result<(), LabError> {
    step(2, "Three daemons form a cluster: found it on d1, join with single-use tokens");
    for (name, address) in DIRECTORS {
        deployment.add_director(name, address)?;
        deployment.start(name)?;
    }
    // An emulated machine is some ten times slower than a real one: longer leases suit it.
    let timing = if in_vm() { "wan" } else { "lan" };
    shown(deployment, "d1", &["init", "--name", "demo", "--timing", timing])?;
    for node in ["d2", "d3"] {
        say("d1# quorate token create");
        let token = deployment.quorate_ok("d1", &["token", "create"])?;
        let token = token.trim();
        say(&format!("{}...", token.get(..40).unwrap_or(token)));
        say(&format!("{node}# quorate join TOKEN"));
        say(deployment.quorate_ok(node, &["join", token])?.trim_end());
    }
    shown(deployment, "d1", &["node", "list"])?;
    Ok(())
}

fn example() -> Result<String, LabError> {
    let path = workspace_dir().join("examples/web.toml");
    fs::read_to_string(&path).map_err(LabError::io(format!("read {}", path.display())))
}

fn configuration(deployment: &Deployment) -> Result<(), LabError> {
    step(3, "One configuration for all of them, through Raft");
    let path = workspace_dir().join("examples/web.toml");
    shown(deployment, "d1", &["apply", "--yes", "--no-wait", &path.display().to_string()])?;
    shown(deployment, "d2", &["status", "--wait=4m"])?;
    shown(deployment, "d1", &["services"])?;
    say("Each director's kernel carries the service; only the owner carries the VIP:");
    for (name, _) in DIRECTORS {
        let table = deployment.network().namespace(name)?.run_ok("ipvsadm -Sn", STEP)?;
        say(&format!("{name}# ipvsadm -Sn\n{}", table.trim_end()));
        let expected =
            ["-A -t 192.168.10.180:80 -s rr", "-r 192.168.10.16:80 -g", "-r 192.168.10.17:80 -g"];
        if !expected.iter().all(|line| table.contains(line)) {
            return Err(failed("the kernel's table is not the configuration", table));
        }
    }
    Ok(())
}

/// Asks for the page this often; gives how often each page came.
fn pages(deployment: &Deployment, requests: u32) -> Result<BTreeMap<String, u32>, LabError> {
    let mut pages = BTreeMap::new();
    for _ in 0..requests {
        let page = deployment.get("client", vip()?, REQUEST)?;
        say(&format!("client$ curl http://{VIP}/    {}", page.trim_end()));
        *pages.entry(page.trim_end().to_owned()).or_insert(0) += 1;
    }
    Ok(pages)
}

fn alternate(deployment: &Deployment) -> Result<(), LabError> {
    step(4, "Requests alternate between the real servers");
    let pages = pages(deployment, 6)?;
    match pages.values().copied().collect::<Vec<_>>().as_slice() {
        [3, 3] => Ok(()),
        _ => Err(failed("six requests were not shared 3:3", format!("{pages:?}"))),
    }
}

fn persistence(deployment: &Deployment) -> Result<(), LabError> {
    step(5, "With persistence = \"50s\" a client sticks to its real server");
    let scheduler = "scheduler = \"rr\"";
    let sticky = example()?.replace(scheduler, &format!("{scheduler}\npersistence = \"50s\""));
    let path = std::env::temp_dir().join(format!("quorate-demo-{}.toml", std::process::id()));
    fs::write(&path, sticky).map_err(LabError::io("write a configuration"))?;
    let file = path.display().to_string();
    shown(deployment, "d3", &["diff", &file])?;
    shown(deployment, "d3", &["apply", "--yes", "--no-wait", &file])?;
    let _ = fs::remove_file(&path);
    deployment.wait_for("persistence in the kernel of the owner", STEP, |deployment| {
        let table = deployment.network().namespace("d1")?.run_ok("ipvsadm -Sn", STEP)?;
        Ok(table.contains("-p 50"))
    })?;
    let pages = pages(deployment, 5)?;
    if pages.len() != 1 {
        return Err(failed("five requests did not stick to one real server", format!("{pages:?}")));
    }
    let path = workspace_dir().join("examples/web.toml");
    shown(deployment, "d1", &["apply", "--yes", "--no-wait", &path.display().to_string()])?;
    deployment.wait_for("no persistence in the kernel of the owner", STEP, |deployment| {
        let table = deployment.network().namespace("d1")?.run_ok("ipvsadm -Sn", STEP)?;
        Ok(!table.contains("-p 50"))
    })
}

fn destinations(deployment: &Deployment, count: usize) -> Result<(), LabError> {
    let what = format!("{count} real servers in every director's table");
    deployment.wait_for(&what, STEP, |deployment| {
        for (name, _) in DIRECTORS {
            let table = deployment.network().namespace(name)?.run_ok("ipvsadm -Sn", STEP)?;
            if table.lines().filter(|line| line.starts_with("-a ")).count() != count {
                return Ok(false);
            }
        }
        Ok(true)
    })
}

fn real_server_fails(deployment: &mut Deployment) -> Result<(), LabError> {
    step(6, "A real server fails: it leaves every director's table, and comes back by itself");
    say("(the web server of rs1 is stopped)");
    deployment.stop_pages("rs1")?;
    destinations(deployment, 1)?;
    shown(deployment, "d1", &["services"])?;
    let survivors = pages(deployment, 3)?;
    if survivors.keys().ne(["This is rs2."]) {
        return Err(failed("a stopped real server got requests", format!("{survivors:?}")));
    }
    say("(the web server of rs1 is started again)");
    deployment.serve_pages("rs1", 80, "This is rs1.")?;
    destinations(deployment, 2)?;
    shown(deployment, "d1", &["services"])?;
    let pages = pages(deployment, 4)?;
    if pages.len() == 2 { Ok(()) } else { Err(failed("rs1 did not return", format!("{pages:?}"))) }
}

fn owner_is_cut_off(deployment: &Deployment) -> Result<(), LabError> {
    step(7, "The owner is cut off: its lease runs out, and another director takes the VIP over");
    deployment.get("client", vip()?, REQUEST)?;
    let silence = Stopwatch::start();
    say("(the cable of d1 is pulled)");
    deployment.network().cut("d1")?;
    let deadline = Deadline::after(STEP);
    while deployment.get("client", vip()?, SHORT).is_err() {
        if deadline.passed() {
            return Err(failed("no director took the VIP over", String::new()));
        }
    }
    say(&format!(
        "No answer for {:.1} s, from the last before the cut to the first after it{}",
        silence.elapsed().as_secs_f64(),
        if in_vm() { " (this machine is emulated: no measure of a real one)" } else { "" }
    ));
    deployment.wait_for("the new owner in status", STEP, |d| {
        Ok(d.owner("d2", "web").is_some_and(|owner| owner != "d1"))
    })?;
    say("d2# quorate status");
    // Degraded, since d1 is unreachable: exit status 3.
    say(deployment.quorate("d2", &["status"])?.stdout.trim_end());
    deployment.wait_for("d1 without the VIP", STEP, |d| Ok(!d.carries("d1", VIP)?))?;
    say("d1 has given the VIP up by itself.");
    pages(deployment, 4).map(|_| ())
}

fn owner_returns(deployment: &Deployment) -> Result<(), LabError> {
    step(8, "The old owner is back: the VIP returns to it, since the group prefers d1");
    say("(the cable of d1 is plugged in)");
    deployment.network().heal("d1")?;
    deployment.wait_for("the VIP on d1 again, and on no other", STEP, |d| {
        Ok(d.owner("d2", "web").as_deref() == Some("d1")
            && d.carriers(&["d1", "d2", "d3"], VIP)? == ["d1"])
    })?;
    shown(deployment, "d3", &["status", "--wait=4m"])?;
    shown(deployment, "d3", &["services"])?;
    pages(deployment, 4).map(|_| ())
}

/// A shell to look around in; the deployment goes when it ends.
fn look_around(deployment: &Deployment) -> Result<(), LabError> {
    say("\nThe deployment keeps running until you leave this shell (exit). In it:");
    for (name, _) in DIRECTORS {
        let socket = deployment.folder_of(name)?.join("quorate.sock");
        say(&format!("  quorate --socket {} status", socket.display()));
    }
    for host in ["d1", "rs1", "client"] {
        let namespace = deployment.network().namespace(host)?.name().to_owned();
        say(&format!("  ip netns exec {namespace} bash        # {host}"));
    }
    say("  Try: ipvsadm -ln on d1, `ip address` there, curl http://192.168.10.180/ on the client.");
    let path = std::env::var("PATH").unwrap_or_default();
    let bin = quorate_tests::lab::bin_dir()?;
    Command::new("bash")
        .env("PATH", format!("{}:{path}", bin.display()))
        .env("PS1", "quorate-demo# ")
        .arg("--norc")
        .status()
        .map(|_| ())
        .map_err(LabError::io("start a shell"))
}
