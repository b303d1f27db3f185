//! Refusals about hooks.

use super::*;

#[test]
fn a_hook_that_could_never_run_or_names_what_is_not_there() {
    refused(
        whole,
        r#"
group.web = { interface = "x", addresses = ["192.0.2.80"] }
hook.a = { command = ["/bin/a"] }
=> 2:10: hook.a.on: "on" is missing

group.web = { interface = "x", addresses = ["192.0.2.80"] }
hook.a = { on = [], command = ["/bin/a"] }
=> 2:17: hook.a.on: a hook that is for nothing never runs (on = ["owner_changed"])

group.web = { interface = "x", addresses = ["192.0.2.80"] }
hook.a = { on = "notify_master", command = ["/bin/a"] }
=> 2:17: hook.a.on: unknown event "notify_master" (did you mean "group_up"?)

group.web = { interface = "x", addresses = ["192.0.2.80"] }
hook.a = { on = "hook_failed", command = ["/bin/a"] }
=> 2:17: hook.a.on: unknown event "hook_failed" (known: owner_changed, group_up, group_down, real_server_up, real_server_down, real_server_weight, quorum_up, quorum_down, disagreement, disagreement_over, weight_ordered, configuration_applied, configuration_confirmed, configuration_reverted, node_evacuated, node_restored, cluster_paused, cluster_resumed)

group.web = { interface = "x", addresses = ["192.0.2.80"] }
hook.a = { on = "cluster_paused", command = ["/bin/a"] }
=> 2:17: hook.a.on: cluster_paused concerns no group, so that it has no owner (run_on = "all")

group.web = { interface = "x", addresses = ["192.0.2.80"] }
hook.a = { on = "cluster_paused", command = ["/bin/a"], run_on = "all", groups = "web" }
=> 2:17: hook.a.on: cluster_paused concerns no group (leave out `groups`, or make two hooks)

group.web = { interface = "x", addresses = ["192.0.2.80"] }
service.shop = { group = "web", listen = "tcp/192.0.2.80:80", real_servers = [] }
hook.a = { on = "owner_changed", command = ["/bin/a"], services = "shop" }
=> 3:17: hook.a.on: owner_changed concerns no service (leave out `services`, or make two hooks)

group.web = { interface = "x", addresses = ["192.0.2.80"] }
hook.a = { on = "owner_changed", command = ["/bin/a"], groups = ["wbe"] }
=> 2:66: hook.a.groups[0]: there is no group "wbe" (did you mean "web"?)

group.web = { interface = "x", addresses = ["192.0.2.80"] }
hook.a = { on = "owner_changed", command = ["/bin/a"], groups = [] }
=> 2:65: hook.a.groups: a hook for no group never runs (name one, or leave out `groups`)

group.web = { interface = "x", addresses = ["192.0.2.80"] }
hook.a = { on = "owner_changed", command = "/bin/a x", timeout = "2h", run_on = "leader" }
=> 2:44: hook.a.command: a command is a list: no shell takes a line apart (command = ["/usr/local/bin/check", "argument"])
=> 2:66: hook.a.timeout: the timeout of a hook is 1ms to 1h, not 2h
=> 2:81: hook.a.run_on: unknown run_on "leader" (known: owner, all)
"#,
    );
}

#[test]
fn more_hooks_than_can_run() {
    let hooks = |count: usize| -> String {
        (0..count)
            .map(|n| format!("hook.h{n} = {{ on = \"group_up\", command = [\"/h\"] }}\n"))
            .collect()
    };
    assert!(parse(&hooks(HOOKS_MAX), Format::Toml).is_ok());
    let wrong = parse(&hooks(HOOKS_MAX + 1), Format::Toml).unwrap_err().to_string();
    assert!(wrong.contains("65 hooks, at most 64 can be given"), "{wrong}");
}
