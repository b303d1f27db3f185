//! The examples in each command's help. Tests (`tests/cli/examples.rs`) see that each command has one, that
//! clap takes every line, and run them.

use clap::{Command, CommandFactory as _};

use super::Cli;

/// The words of a command, and what stands below its help.
const EXAMPLES: [(&str, &str); 41] = [
    ("init", "Example:\n  quorate init --name prod --timing lan"),
    ("token create", "Example, on a member:\n  quorate token create > token"),
    ("join", "Example, on the new node:\n  quorate join - < token"),
    (
        "context create",
        "Example, for another machine:\n  quorate context create ada --output ./for-ada",
    ),
    ("context list", "Example:\n  quorate context list"),
    ("context use", "Example:\n  quorate context use prod"),
    (
        "apply",
        "Examples:\n  quorate apply cluster.toml\n  quorate apply cluster.toml --dry-run\n  \
         quorate apply cluster.toml --expect-revision 118 --yes",
    ),
    (
        "diff",
        "Examples:\n  quorate diff cluster.toml\n  quorate diff cluster.toml --detailed-exitcode",
    ),
    (
        "validate",
        "Examples:\n  quorate validate cluster.toml\n  quorate validate -o json cluster.toml\n  \
         quorate validate --schema > quorate.schema.json\n\nIt knows nothing of the nodes that there \
         are: `quorate diff` asks the cluster about these too.",
    ),
    (
        "status",
        "Examples:\n  quorate status\n  quorate status --wait=2m\n  quorate status --brief -o json",
    ),
    ("explain", "Examples:\n  quorate explain 192.168.10.180\n  quorate explain 192.168.10.16:80"),
    (
        "history",
        "Examples:\n  quorate history\n  quorate history web --since 24h\n\nIt is made of the events in \
         the memory of the nodes that are asked: the newest 10000 of each since its daemon started.",
    ),
    (
        "services",
        "Examples:\n  quorate services\n  quorate services web --stats --exact\n  quorate services \
         --rate",
    ),
    ("services clear", "Example:\n  quorate services clear --yes"),
    ("connections", "Example:\n  quorate connections web --limit 20"),
    (
        "events",
        "Examples:\n  quorate events --since 1h\n  quorate events -f -o json\n\nEvents stand in the \
         memory of each node: the newest 10000 since its daemon started.",
    ),
    (
        "watch",
        "Examples:\n  quorate watch\n  quorate watch services --interval 5s -o json\n\nThe first look \
         shows everything, each further one what is not as it was.",
    ),
    ("export config", "Example:\n  quorate export config > cluster.toml"),
    ("export ipvsadm", "Example:\n  quorate export ipvsadm | ipvsadm-restore"),
    (
        "export keepalived",
        "Examples:\n  quorate export keepalived --node d1 --device public=eth0 > keepalived.conf\n  quorate export \
         keepalived --node d2 -f cluster.toml --router-id web=51 > keepalived.conf\n\nEach director has a file of its \
         own. What Keepalived has no word for is a comment in it, and told on stderr.",
    ),
    (
        "import ipvsadm",
        "Example:\n  ipvsadm-save -n | quorate import ipvsadm - --group web > cluster.toml\n  quorate \
         validate cluster.toml",
    ),
    ("transfer", "Examples:\n  quorate transfer web --to lb2 --yes\n  quorate transfer web --auto"),
    (
        "evacuate",
        "Example, a director's upgrade:\n  quorate evacuate lb1 --yes\n  systemctl restart \
         quorated      # on lb1\n  quorate restore lb1\n\nA group that no other director can take \
         stays where it is; then the exit code is 3, and each such group is named with the reason.",
    ),
    ("restore", "Example:\n  quorate restore lb1"),
    (
        "pause",
        "Example, work on a switch:\n  quorate pause\n  quorate resume\n\nWhile the cluster is paused a \
         dead owner's groups stay down. `quorate transfer` and `quorate evacuate` still move groups.",
    ),
    ("resume", "Example:\n  quorate resume && quorate status --wait"),
    ("node list", "Example:\n  quorate node list -o json"),
    ("node remove", "Example:\n  quorate node remove lb3 --yes"),
    (
        "realserver setup",
        "Example, on the real server:\n  quorate realserver setup --vip 192.168.10.180",
    ),
    (
        "realserver check",
        "Example, on the real server:\n  quorate realserver check --vip 192.168.10.180 --mode TUN",
    ),
    (
        "realserver undo",
        "Example, on the real server:\n  quorate realserver undo --vip 192.168.10.180",
    ),
    (
        "realserver drain",
        "Example, a real server's upgrade:\n  quorate realserver drain 192.168.10.16 --yes \
         --wait=10m && ssh 192.168.10.16 reboot\n  quorate realserver enable 192.168.10.16\n\nIf \
         connections are left when the wait is over, the exit code is 3, and it stays drained.",
    ),
    ("realserver weight", "Example:\n  quorate realserver weight 192.168.10.16 5 --ttl 1h"),
    ("realserver enable", "Example:\n  quorate realserver enable 192.168.10.16"),
    (
        "doctor",
        "Examples:\n  quorate doctor --pre --cluster cluster.toml\n  quorate doctor -o nagios\n\nRun \
         it as root: what it can't read otherwise is a finding. Exit codes: 0 nothing to mend, 3 \
         warnings, 1 failures; with -o nagios 0, 1, 2, and 3 where it could not look.",
    ),
    ("support-bundle", "Example:\n  quorate support-bundle ./lb1.tar"),
    (
        "completion",
        "Examples:\n  quorate completion bash > /etc/bash_completion.d/quorate\n  quorate completion \
         zsh > /usr/local/share/zsh/site-functions/_quorate\n  quorate completion fish > \
         ~/.config/fish/completions/quorate.fish",
    ),
    ("man", "Example:\n  quorate man /usr/local/share/man/man1"),
    ("version", "Example:\n  quorate version -o json"),
    ("node", "Example:\n  quorate node list"),
    ("realserver", "Example:\n  quorate realserver check --vip 192.168.10.180"),
];

/// The command line, with the examples.
#[must_use]
pub fn command() -> Command {
    EXAMPLES.iter().fold(Cli::command(), |command, (path, text)| {
        let words: Vec<&str> = path.split(' ').collect();
        with(command, &words, text)
    })
}

fn with(command: Command, words: &[&'static str], text: &'static str) -> Command {
    match words {
        [] => command.after_help(text),
        [first, rest @ ..] => command.mut_subcommand(first, |inner| with(inner, rest, text)),
    }
}
