//! Sixty seconds of configurations at random, of another program that changes the IPVS tables by
//! hand, and of owners that move, all at once: every director's table is the configuration's soon
//! after. Needs root and ip_vs; on hosts without ip_vs `cargo xtask test` runs it in the virtual
//! machine, whose times mean nothing: how long it took is printed, and never asserted.
#![forbid(unsafe_code)]
#![allow(
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test that can't go on ends; how long it took is printed"
)]

use std::collections::BTreeSet;
use std::time::Duration;

use quorate_tests::dice::Dice;
use quorate_tests::lab::clock::{Deadline, Stopwatch};
use quorate_tests::lab::deployment::{Deployment, VIP, example_hosts};
use quorate_tests::lab::in_vm;

const NODES: [&str; 3] = ["d1", "d2", "d3"];
/// An emulated machine takes its time.
const LIMIT: Duration = Duration::from_secs(300);
const WHILE: Duration = Duration::from_secs(60);
const SEED: u64 = 4;
/// A service that is another program's.
const FOREIGN: &str = "-A -t 192.168.10.80:9999 -s wrr";

/// A configuration at random, and the table that it asks for, as `ipvsadm -Sn` prints it.
fn configuration(dice: &mut Dice) -> (String, BTreeSet<String>) {
    let mut text = format!(
        "[group.web]\ninterface = \"public\"\naddresses = [\"{VIP}/32\"]\npreempt = false\n"
    );
    let mut table = BTreeSet::new();
    for port in 8000..8008_u16 {
        if dice.below(4) == 0 {
            continue;
        }
        let scheduler = ["rr", "wlc", "mh", "sh"][dice.below(4)];
        let marked = port >= 8006;
        let (mark, at) = if marked {
            (format!("mark = {port}\n"), format!("-f {port}"))
        } else {
            (String::new(), format!("-t {VIP}:{port}"))
        };
        let sticky = dice.below(3) == 0;
        let persistence = if sticky { "persistence = \"50s\"\n" } else { "" };
        let mut servers = Vec::new();
        let mut fallback = false;
        for host in 32..40 {
            if dice.below(3) == 0 {
                continue;
            }
            let weight = dice.below(4);
            fallback |= weight == 0 && matches!(scheduler, "mh" | "sh");
            servers.push(format!("{{ address = \"192.168.10.{host}\", weight = {weight} }}"));
            let real_port = if marked { 0 } else { port };
            table.insert(format!("-a {at} -r 192.168.10.{host}:{real_port} -g -w {weight}"));
        }
        let flags = if fallback { format!(" -b {scheduler}-fallback") } else { String::new() };
        let sticks = if sticky { " -p 50" } else { "" };
        table.insert(format!("-A {at} -s {scheduler}{sticks}{flags}"));
        text += &format!(
            "[service.s{port}]\ngroup = \"web\"\nlisten = \"tcp/{VIP}:{port}\"\n{mark}\
             scheduler = \"{scheduler}\"\n{persistence}real_servers = [{}]\n",
            servers.join(", ")
        );
    }
    (text, table)
}

fn table(deployment: &Deployment, node: &str) -> BTreeSet<String> {
    let saved = deployment.network().namespace(node).unwrap().run_ok("ipvsadm -Sn", LIMIT).unwrap();
    let lines = saved.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    lines.collect()
}

/// Changes a director's table by hand; whether there was anything to change.
fn vandalise(deployment: &Deployment, dice: &mut Dice, node: &str) -> bool {
    let standing: Vec<String> = table(deployment, node).into_iter().collect();
    let of = |dice: &mut Dice, kind: &str| {
        let lines: Vec<&String> = standing.iter().filter(|line| line.starts_with(kind)).collect();
        (!lines.is_empty()).then(|| lines[dice.below(lines.len())].clone())
    };
    let first = |line: &str, words: usize| {
        line.split_whitespace().take(words).collect::<Vec<_>>().join(" ")
    };
    let command = match dice.below(7) {
        0 => Some("ipvsadm -C".to_owned()),
        1 => of(dice, "-A").map(|line| format!("ipvsadm {}", first(&line, 3).replace("-A", "-D"))),
        2 => of(dice, "-a").map(|line| format!("ipvsadm {}", first(&line, 5).replace("-a", "-d"))),
        3 => of(dice, "-a")
            .map(|line| format!("ipvsadm {} -w 77", first(&line, 5).replace("-a", "-e"))),
        4 => of(dice, "-A")
            .map(|line| format!("ipvsadm {} -s nq", first(&line, 3).replace("-A", "-E"))),
        5 => of(dice, "-A").map(|line| {
            format!("ipvsadm {} -r 192.168.10.99:1 -m", first(&line, 3).replace("-A", "-a"))
        }),
        _ => Some("nft flush ruleset".to_owned()),
    };
    let Some(command) = command.filter(|command| !command.contains("9999")) else { return false };
    // The director may have been faster: then there is nothing to change any more.
    deployment.network().namespace(node).unwrap().run_ok(&command, LIMIT).is_ok()
}

fn wait_for_tables(deployment: &Deployment, wanted: &BTreeSet<String>) {
    let mut seen = Vec::new();
    let equal = |d: &Deployment| {
        seen = NODES.iter().map(|node| table(d, node)).collect::<Vec<_>>();
        Ok(seen.iter().all(|table| table.iter().filter(|line| *line != FOREIGN).eq(wanted.iter())))
    };
    let reached = deployment.wait_for("every table as configured", LIMIT, equal);
    for (node, table) in NODES.iter().zip(&seen) {
        let (more, less): (Vec<_>, Vec<_>) =
            (table.difference(wanted).collect(), wanted.difference(table).collect());
        assert!(reached.is_ok(), "{node}: more {more:?}, less {less:?}: {reached:?}");
    }
}

#[test]
fn after_a_minute_of_vandalism_every_table_is_the_configuration() {
    let mut deployment = Deployment::new("lab_ipvs_vandalism", &example_hosts().unwrap()).unwrap();
    for (node, address) in NODES.iter().zip(["192.168.10.80", "192.168.10.23", "192.168.10.24"]) {
        deployment.add_director(node, address).unwrap();
    }
    deployment.form(&NODES, if in_vm() { "wan" } else { "lan" }).unwrap();
    let mut dice = Dice::new(SEED);
    let (text, mut wanted) = configuration(&mut dice);
    deployment.apply("d1", &text).unwrap();
    wait_for_tables(&deployment, &wanted);
    let d3 = deployment.network().namespace("d3").unwrap();
    d3.run_ok(&format!("ipvsadm {FOREIGN}"), LIMIT).unwrap();

    let deadline = Deadline::after(WHILE);
    let mut done = [0; 3];
    while !deadline.passed() {
        match dice.below(6) {
            0 => {
                let (text, table) = configuration(&mut dice);
                deployment.apply(NODES[dice.below(3)], &text).unwrap();
                wanted = table;
                done[0] += 1;
            }
            1 => {
                // The group may be on its way already, and may not be free to move.
                let to = NODES[dice.below(3)];
                let moved = deployment.quorate("d1", &["transfer", "web", "--to", to, "--yes"]);
                done[1] += usize::from(moved.is_ok_and(|moved| moved.status.success()));
            }
            _ => {
                let node = NODES[dice.below(3)];
                done[2] += usize::from(vandalise(&deployment, &mut dice, node));
            }
        }
    }
    let stopwatch = Stopwatch::start();
    wait_for_tables(&deployment, &wanted);
    let [applied, moved, vandalised] = done;
    println!(
        "{applied} configurations, {moved} moves, {vandalised} changes by hand in {WHILE:?}, seed \
         {SEED}; every table was as configured {:?} after the last",
        stopwatch.elapsed()
    );
    let marks = |node: &str| {
        let namespace = deployment.network().namespace(node).unwrap();
        namespace.run_ok("nft list ruleset", LIMIT).unwrap()
    };
    let marked = wanted.iter().any(|line| line.starts_with("-A -f"));
    let there = |_: &Deployment| {
        Ok(NODES.iter().all(|node| marks(node).contains("table inet quorate") == marked))
    };
    deployment.wait_for("marks where they are wanted", LIMIT, there).unwrap();
    assert!(vandalised > 0 && applied > 0 && moved > 0, "{done:?}");
}
