//! The table that follows verdicts service by service is the one that reckoning all of it gives.

use super::*;

/// What one service does to another by the targets that they share, and what a service remembers:
/// hysteresis, a sorry server, slow start, weights by a program, real servers that all serve or none.
const MANY: &str = r#"
[group.web]
interface = "public"
addresses = ["10.0.0.100/32"]

[check.page]
type = "tcp"

[check.load]
type = "exec"
command = ["/usr/local/bin/load"]
dynamic = true

[pool.all]
servers = [
  { address = "10.0.0.11:80", weight = 40 },
  { address = "10.0.0.12:80", weight = 30 },
  { address = "10.0.0.13:80", weight = 20 },
]

[service.plain]
group = "web"
forward = "NAT"
listen = "tcp/10.0.0.100:80"
check = "page"
pool = "all"

[service.lost]
group = "web"
forward = "NAT"
listen = "tcp/10.0.0.100:81"
check = "page"
pool = "all"
quorum = 60
hysteresis = 20
sorry_server = "10.0.0.20:80"

[service.slow]
group = "web"
forward = "NAT"
listen = "tcp/10.0.0.100:82"
scheduler = "wrr"
check = ["page", "load"]
pool = "all"
slow_start = "20s"

[service.some]
group = "web"
forward = "NAT"
listen = "tcp/10.0.0.100:83"
scheduler = "sh"
check = "load"
pool = "all"
inhibit = true
min_up = 2

[service.other]
group = "web"
forward = "NAT"
listen = "tcp/10.0.0.100:84"
check = { type = "tcp", interval = "1s" }
real_servers = [{ address = "10.0.0.14:80" }, { address = "10.0.0.15:80" }]
"#;

/// Numbers that look like chance, the same each time (Knuth's MMIX).
fn next(seed: &mut u64) -> u32 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    u32::try_from(*seed >> 33).unwrap_or_default()
}

#[test]
fn a_verdict_changes_the_table_as_reckoning_all_of_it_would() {
    let mut world = World::with(MANY, Role::Director, &ObservedServices::new());
    let targets: Vec<ProbeTarget> =
        world.nodes[&1].probed.last().unwrap().iter().cloned().collect();
    assert_eq!(targets.len(), 8, "what services share is probed once");
    let (mut seed, mut lost, mut ramps) = (1, false, false);
    for round in 0..2_000 {
        let target = targets[usize::try_from(next(&mut seed)).unwrap() % targets.len()].clone();
        let verdict = match next(&mut seed) % 3 {
            0 => Verdict::Down("no answer".to_owned()),
            1 if target.check.kind != crate::spec::CheckKind::Tcp => Verdict::Weighs(7),
            _ => Verdict::Up,
        };
        world.event(1, Event::Verdict(target, verdict));
        world.run(Duration::from_millis(u64::from(next(&mut seed)) % 700));
        let (now, director) = (world.now, &mut world.nodes.get_mut(&1).unwrap().director);
        // Those that came close on others.
        let mut effects = director.step(now + Duration::from_secs(1), Event::Tick);
        effects.retain(|effect| matches!(effect, Effect::Services(_)));
        world.now = now + Duration::from_secs(1);
        let director = &mut world.nodes.get_mut(&1).unwrap().director;
        let followed = director.service_goal.clone();
        let remembered = (director.lost.clone(), director.slow_start.clone());
        lost |= !director.lost.is_empty();
        ramps |= director.slow_start.next_step().is_some();
        director.aim_services(world.now, &mut Vec::new());
        assert_eq!(director.service_goal, followed, "round {round}");
        assert_eq!(
            (director.lost.clone(), director.slow_start.clone()),
            remembered,
            "round {round}"
        );
        assert!(director.following.targets.is_empty(), "round {round}");
    }
    assert!(lost && ramps, "both were tried");
}
