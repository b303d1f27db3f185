//! `node.toml` (design §6): who this node is. What the cluster does is not here; that is replicated
//! and read by `quorate_model::spec::read`, through the same readers.
//!
//! Reading gives every error at once, with line, column and a suggestion. Its tests are in
//! `config/tests.rs`; every key stands in docs/reference/configuration.md.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use quorate_model::id::{DeviceName, InterfaceName, NodeName, Role};
use quorate_model::spec::document::{
    self, DOCUMENT_BYTES_MAX, Diagnostics, Field, Format, Key, Table, TableKeys,
};

/// Where the daemon keeps what it must not forget.
pub const DATA_DIR_DEFAULT: &str = "/var/lib/quorate";
/// Where local administration happens.
pub const SOCKET_DEFAULT: &str = "/run/quorate/quorate.sock";
/// Most links of a node.
pub const LINKS_MAX: usize = 16;
/// Most interfaces that a node maps.
pub const INTERFACES_MAX: usize = 1_000;
/// Longest path of a unix socket: `sun_path` less its ending zero (unix(7)).
const SOCKET_BYTES_MAX: usize = 107;

/// Every table of `node.toml`, in the order of the reference page. `[interfaces]` is not among
/// them: its keys are names.
pub const TABLES: [&TableKeys; 2] = [&ROOT, &LINK];

const ROOT: TableKeys = TableKeys {
    title: "node.toml",
    keys: &[
        Key::required("name"),
        Key::required("role"),
        Key::with_default("data_dir", "\"/var/lib/quorate\""),
        Key::with_default("socket", "\"/run/quorate/quorate.sock\""),
        Key::optional("api"),
        Key::optional("http"),
        Key::optional("events_fifo"),
        Key::required("link"),
        Key::optional("interfaces"),
        Key::with_default("sysctl", "\"set\""),
    ],
    foreign: &[
        ("links", "[[link]]"),
        ("interface", "[interfaces]"),
        ("router_id", "name"),
        ("data", "data_dir"),
        ("timing", "it into the cluster's configuration"),
        ("cluster", "it into the cluster's configuration"),
        ("group", "it into the cluster's configuration"),
        ("service", "it into the cluster's configuration"),
        ("check", "it into the cluster's configuration"),
        ("pool", "it into the cluster's configuration"),
        ("hook", "it into the cluster's configuration"),
        ("notify_fifo", "events_fifo"),
        ("lvs_notify_fifo", "events_fifo"),
    ],
    later: &["realtime", "log", "tls"],
};

const LINK: TableKeys = TableKeys {
    title: "[[link]]",
    keys: &[Key::required("name"), Key::required("listen")],
    foreign: &[
        ("address", "listen"),
        ("addr", "listen"),
        ("interface", "listen = \"ADDRESS:PORT\""),
    ],
    later: &["advertise"],
};

/// What a node is and where it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// Its name in the cluster.
    pub name: NodeName,
    /// Whether it may own VIP groups.
    pub role: Role,
    /// Where it keeps what it must not forget; absolute.
    pub data_dir: PathBuf,
    /// The unix socket for local administration; absolute.
    pub socket: PathBuf,
    /// Where it takes the commands of other machines, if it does.
    pub api: Option<SocketAddr>,
    /// Where it serves `/healthz`, if it does.
    pub http: Option<SocketAddr>,
    /// The FIFO that events are written to, if there is one; absolute.
    pub events_fifo: Option<PathBuf>,
    /// Heartbeat lines, at least one; names and addresses differ.
    pub links: Vec<Link>,
    /// The device of each interface that the cluster's configuration names.
    pub interfaces: BTreeMap<InterfaceName, DeviceName>,
    /// What to do about kernel settings that a director needs.
    pub sysctl: Sysctl,
}

/// One heartbeat line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its name on this node.
    pub name: String,
    /// Where this node listens on it, and where the others reach it.
    pub listen: SocketAddr,
}

/// What to do about kernel settings that a director needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sysctl {
    /// Set them, and report what can't be set.
    Set,
    /// Only report what is not as it should be.
    Check,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("can't read {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        error: io::Error,
    },
    /// The file is larger than any configuration.
    #[error("{} has more than {DOCUMENT_BYTES_MAX} bytes", .0.display())]
    TooLarge(PathBuf),
    /// The file is not text.
    #[error("{} is not UTF-8 text (line {line})", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
        /// Where it stops being text.
        line: usize,
    },
    /// What the file says is wrong.
    #[error("{}", diagnostics.render(&path.display().to_string(), source_text).trim_end())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What is wrong, everything at once.
        diagnostics: Box<Diagnostics>,
        /// What the file says.
        source_text: String,
    },
}

/// Reads a `node.toml`.
///
/// # Errors
///
/// If the file can't be read, or for everything that is wrong with it.
pub fn load(path: &Path) -> Result<NodeConfig, ConfigError> {
    let read = |error| ConfigError::Read { path: path.to_owned(), error };
    let mut bytes = Vec::new();
    let limit = u64::try_from(DOCUMENT_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path).map_err(read)?.take(limit).read_to_end(&mut bytes).map_err(read)?;
    if bytes.len() > DOCUMENT_BYTES_MAX {
        return Err(ConfigError::TooLarge(path.to_owned()));
    }
    let source_text = String::from_utf8(bytes).map_err(|error| {
        let text = error.as_bytes().iter().take(error.utf8_error().valid_up_to());
        let line = text.filter(|&&byte| byte == b'\n').count() + 1;
        ConfigError::NotText { path: path.to_owned(), line }
    })?;
    parse(&source_text).map_err(|diagnostics| ConfigError::Wrong {
        path: path.to_owned(),
        diagnostics: Box::new(diagnostics),
        source_text,
    })
}

/// Reads the text of a `node.toml`.
///
/// # Errors
///
/// Everything that is wrong with it.
pub fn parse(source: &str) -> Result<NodeConfig, Diagnostics> {
    let mut out = Diagnostics::new();
    let tree = document::parse(source, Format::Toml, &mut out);
    let config = tree.as_ref().and_then(|root| node(&Field::root(root), &mut out));
    out.finish(source, config)
}

fn node(root: &Field<'_>, out: &mut Diagnostics) -> Option<NodeConfig> {
    let table = root.table(&ROOT, out)?;
    let name = table.require("name", out).and_then(|f| f.parsed("the name of a node", out));
    let role = table.require("role", out).and_then(|field| {
        let roles = [("director", Role::Director), ("witness", Role::Witness)];
        let foreign = [("master", "director"), ("backup", "director"), ("arbiter", "witness")];
        field.choice("role", &roles, &foreign, out)
    });
    let data_dir = path(&table, "data_dir", DATA_DIR_DEFAULT, out);
    let socket = path(&table, "socket", SOCKET_DEFAULT, out).and_then(|socket| {
        if socket.as_os_str().len() <= SOCKET_BYTES_MAX {
            return Some(socket);
        }
        let message =
            format!("the path of a unix socket has at most {SOCKET_BYTES_MAX} bytes (unix(7))");
        out.push(table.get("socket")?.problem(message));
        None
    });
    let events_fifo = match table.get("events_fifo") {
        Some(_) => path(&table, "events_fifo", "", out).map(Some),
        None => Some(None),
    };
    let mut taken = Taken::default();
    let links = table.require("link", out).and_then(|field| links(&field, &mut taken, out));
    let api = listener(&table, "api", &mut taken, out);
    let http = listener(&table, "http", &mut taken, out);
    let interfaces = table
        .get("interfaces")
        .map_or_else(|| Some(BTreeMap::new()), |field| interfaces(&field, out));
    let sysctl = table.get("sysctl").map_or(Some(Sysctl::Set), |field| {
        field.choice("sysctl", &[("set", Sysctl::Set), ("check", Sysctl::Check)], &[], out)
    });
    Some(NodeConfig {
        name: name?,
        role: role?,
        data_dir: data_dir?,
        socket: socket?,
        api: api?,
        http: http?,
        events_fifo: events_fifo?,
        links: links?,
        interfaces: interfaces?,
        sysctl: sysctl?,
    })
}

fn path(table: &Table<'_>, key: &str, default: &str, out: &mut Diagnostics) -> Option<PathBuf> {
    let Some(field) = table.get(key) else { return Some(default.into()) };
    let text = field.text("a path", out)?;
    if text.contains('\0') || !text.starts_with('/') {
        let problem = field.problem(format!("{key} is not an absolute path"));
        out.push(problem.help("a path that begins with /"));
        return None;
    }
    Some(text.into())
}

/// Addresses that something of this node listens on already, and what.
#[derive(Debug, Default)]
struct Taken(Vec<(SocketAddr, String)>);

impl Taken {
    /// Notes that `what` listens on `address`, unless something else does.
    fn take(
        &mut self,
        address: SocketAddr,
        what: &dyn fmt::Display,
        field: &Field<'_>,
        out: &mut Diagnostics,
    ) -> Option<()> {
        let clash = self.0.iter().find(|(other, _)| {
            let any = other.ip().is_unspecified() || address.ip().is_unspecified();
            other.port() == address.port() && (any || other.ip() == address.ip())
        });
        if let Some((other, holder)) = clash {
            let problem = field.problem(format!("{holder} already listens on {other}"));
            out.push(problem.help("use another port or address"));
            return None;
        }
        self.0.push((address, what.to_string()));
        Some(())
    }
}

/// The address of a listener that may be left out: `None` if it is wrong.
fn listener(
    table: &Table<'_>,
    key: &str,
    taken: &mut Taken,
    out: &mut Diagnostics,
) -> Option<Option<SocketAddr>> {
    let Some(field) = table.get(key) else { return Some(None) };
    let address = field.socket_address(out)?;
    if address.ip().is_multicast() {
        out.push(field.problem(format!("{} is a multicast address", address.ip())));
        return None;
    }
    taken.take(address, &key, &field, out)?;
    Some(Some(address))
}

fn links(field: &Field<'_>, taken: &mut Taken, out: &mut Diagnostics) -> Option<Vec<Link>> {
    if field.is_table() {
        let problem = field.problem("links are a list of tables");
        out.push(problem.help("write [[link]] with two brackets"));
        return None;
    }
    let items = field.list(out)?;
    if items.is_empty() || items.len() > LINKS_MAX {
        let problem = field.problem(format!("a node has 1 to {LINKS_MAX} links"));
        out.push(problem.help("[[link]] with name and listen"));
        return None;
    }
    let mut links: Option<Vec<Link>> = Some(Vec::new());
    let mut names: Vec<String> = Vec::new();
    for item in &items {
        let Some(table) = item.table(&LINK, out) else {
            links = None;
            continue;
        };
        let name = table.require("name", out).and_then(|field| {
            let name = field.parsed::<NodeName>("the name of a link", out)?.to_string();
            if names.contains(&name) {
                let problem = field.problem(format!("two links are called {name}"));
                out.push(problem.help("give each a name of its own"));
                return None;
            }
            names.push(name.clone());
            Some(name)
        });
        let listen = table.require("listen", out).and_then(|field| {
            let address = link_address(&field, out)?;
            let what = name.as_ref().map_or("a link".to_owned(), |name| format!("link {name}"));
            taken.take(address, &what, &field, out)?;
            Some(address)
        });
        let link = name.zip(listen).map(|(name, listen)| Link { name, listen });
        links = links.zip(link).map(|(mut links, link)| {
            links.push(link);
            links
        });
    }
    links
}

/// An address that other nodes can be told.
fn link_address(field: &Field<'_>, out: &mut Diagnostics) -> Option<SocketAddr> {
    let address = field.socket_address(out)?;
    let what = match address.ip() {
        ip if ip.is_unspecified() => "every address",
        ip if ip.is_multicast() => "a multicast address",
        std::net::IpAddr::V4(ip) if ip.is_broadcast() => "the broadcast address",
        _ => return Some(address),
    };
    let problem = field.problem(format!("{} is {what}", address.ip()));
    out.push(
        problem.help("give this node's own address: the others are told it to reach this one"),
    );
    None
}

fn interfaces(
    field: &Field<'_>,
    out: &mut Diagnostics,
) -> Option<BTreeMap<InterfaceName, DeviceName>> {
    let named = field.named::<InterfaceName>("an interface", out);
    if named.len() > INTERFACES_MAX {
        let message = format!("{} interfaces, at most {INTERFACES_MAX} can be given", named.len());
        out.push(field.problem(message));
        return None;
    }
    let mut interfaces = BTreeMap::new();
    for entry in named {
        let device = entry.field.parsed::<DeviceName>("the name of a network device", out);
        if let (Some(name), Some(device)) = (entry.name, device) {
            interfaces.insert(name, device);
        }
    }
    Some(interfaces)
}
