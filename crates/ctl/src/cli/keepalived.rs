//! The arguments of `quorate import keepalived`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

pub(super) const IMPORT_KEEPALIVED_EXAMPLES: &str = "Examples:\n  quorate import keepalived /etc/keepalived/keepalived.conf -o cluster.toml\n  \
    quorate import keepalived lb1.conf lb2.conf --name lb1.conf=lb1 -o cluster.toml\n  quorate import \
    keepalived shared.conf --config-id main | quorate diff -\n\nWhat becomes of each keyword stands in \
    docs/reference/keepalived.md. What is left out is told on stderr with its reason; errors leave nothing written.";

/// `quorate import keepalived`.
#[derive(Debug, Args)]
pub struct ImportKeepalived {
    /// The files; `-` reads stdin. Several are those of several directors: where they disagree, the first counts
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<String>,
    /// Write the configuration to this file in place of stdout; `-o OUT` does, too
    #[arg(long, value_name = "OUT")]
    pub output: Option<PathBuf>,
    /// Write what can be carried over in spite of errors; then the exit code is 3
    #[arg(long)]
    pub keep_going: bool,
    /// The id that conditional lines (`@id`) are read for, as `keepalived -i` has it [default: a
    /// director for each id]
    #[arg(long, value_name = "ID")]
    pub config_id: Option<String>,
    /// The director whose file it is, for `prefer`; repeatable [default: what router_id says where all
    /// differ, else lb1, lb2, ..]
    #[arg(long, value_name = "FILE=NODE", value_parser = name)]
    pub name: Vec<(String, String)>,
    /// The interface of addresses that no vrrp_instance holds, by the name that every node.toml maps
    /// [default: that of the first instance]
    #[arg(long, value_name = "NAME")]
    pub interface: Option<String>,
    /// What a firewall mark stands for, such as 7=tcp/192.0.2.80:80,tcp/192.0.2.80:8000-8099; repeatable
    #[arg(long, value_name = "MARK=LISTEN", value_parser = super::mark)]
    pub mark: Vec<(u32, Vec<String>)>,
}

/// Reads `lb1.conf=lb1`.
fn name(text: &str) -> Result<(String, String), String> {
    let wrong = || format!("{text:?} is no file with a node's name: write it like lb1.conf=lb1");
    let (file, node) = text.rsplit_once('=').ok_or_else(wrong)?;
    if file.is_empty() || node.parse::<quorate_model::id::NodeName>().is_err() {
        return Err(wrong());
    }
    Ok((file.to_owned(), node.to_owned()))
}

/// The arguments as clap takes them. `-o` is the format everywhere; behind `import keepalived`, a value that
/// is none is the file that is written, as with any program that converts files.
#[must_use]
pub fn arguments(given: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut all: Vec<OsString> = given.collect();
    let import = all.windows(2).position(|pair| pair[0] == "import" && pair[1] == "keepalived");
    let Some(from) = import.map(|at| at + 2) else { return all };
    let format = |value: &str| matches!(value, "table" | "json");
    for at in from..all.len() {
        if all[at] == "--" {
            break;
        }
        let next = all.get(at + 1).and_then(|next| next.to_str());
        if all[at] == "-o" && next.is_some_and(|next| !format(next)) {
            all[at] = OsString::from("--output");
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::{Cli, Command, Format, Import};
    use super::*;

    #[test]
    fn o_is_a_file_behind_import_keepalived_and_the_format_elsewhere() {
        let read = |line: &str| {
            let words = line.split(' ').map(OsString::from);
            Cli::try_parse_from(arguments(words)).unwrap()
        };
        let cli = read("quorate import keepalived a.conf -o out.toml -o json");
        let Command::Import(Import::Keepalived(import)) = cli.command else { panic!() };
        assert_eq!(import.output, Some(PathBuf::from("out.toml")));
        assert_eq!((import.files, cli.global.format), (vec!["a.conf".to_owned()], Format::Json));
        assert_eq!(read("quorate status -o json").global.format, Format::Json);
        let words = "quorate status -o out.toml".split(' ').map(OsString::from);
        assert!(Cli::try_parse_from(arguments(words)).is_err());
    }

    #[test]
    fn a_file_has_the_name_of_a_node() {
        assert_eq!(name("a=b.conf=lb1"), Ok(("a=b.conf".to_owned(), "lb1".to_owned())));
        for bad in ["lb1", "=lb1", "a=", "a=-"] {
            assert!(name(bad).is_err(), "{bad:?}");
        }
    }
}
